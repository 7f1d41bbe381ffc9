//! `hierarchy`: a code of a public coding system, one or more levels up its tree.

use std::fmt;

use arrow::array::{Array, AsArray, StringArrayType};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};

/// How far up which tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeLevel {
    /// ICD-10-CM: the first three characters, `E11`.
    Icd10Category,
    /// ICD-10-CM: the chapter, `E00-E89`.
    Icd10Chapter,
    /// National Drug Code: the labeler, five digits.
    NdcLabeler,
    /// National Drug Code: labeler and product, `00071-0155`.
    NdcProduct,
}

/// What stands for every code that is not of the system.
const OTHER: &[u8] = b"OTHER";

/// The chapters of ICD-10-CM by first and last category (CMS, tabular list).
const CHAPTERS: [(&str, &str); 22] = [
    ("A00", "B99"),
    ("C00", "D49"),
    ("D50", "D89"),
    ("E00", "E89"),
    ("F01", "F99"),
    ("G00", "G99"),
    ("H00", "H59"),
    ("H60", "H95"),
    ("I00", "I99"),
    ("J00", "J99"),
    ("K00", "K95"),
    ("L00", "L99"),
    ("M00", "M99"),
    ("N00", "N99"),
    ("O00", "O9A"),
    ("P00", "P96"),
    ("Q00", "Q99"),
    ("R00", "R99"),
    ("S00", "T88"),
    ("U00", "U85"),
    ("V00", "Y99"),
    ("Z00", "Z99"),
];

impl CodeLevel {
    pub(crate) const ALL: [CodeLevel; 4] =
        [CodeLevel::Icd10Category, CodeLevel::Icd10Chapter, CodeLevel::NdcLabeler, CodeLevel::NdcProduct];

    /// The level that tells less, if there is one.
    pub(crate) fn above(self) -> Option<Self> {
        match self {
            CodeLevel::Icd10Category => Some(CodeLevel::Icd10Chapter),
            CodeLevel::NdcProduct => Some(CodeLevel::NdcLabeler),
            CodeLevel::Icd10Chapter | CodeLevel::NdcLabeler => None,
        }
    }

    /// The code on this level, and `OTHER` for what is no code of the system.
    pub(crate) fn apply(self, array: &dyn Array) -> Result<Passed> {
        match array.data_type() {
            DataType::Utf8 => self.texts(array.as_string::<i32>()),
            DataType::LargeUtf8 => self.texts(array.as_string::<i64>()),
            other => Err(Error::new(Kind::Bug, format!("a code was asked of a column of type {other}"))),
        }
    }

    fn texts<'a>(self, array: impl StringArrayType<'a>) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), 8);
        for value in array.iter() {
            let Some(value) = value else {
                column.push_null();
                continue;
            };
            match self {
                CodeLevel::Icd10Category | CodeLevel::Icd10Chapter => match (category(value), self) {
                    (Some((_, (first, last))), CodeLevel::Icd10Chapter) => {
                        column.push(&[first.as_bytes(), b"-"].concat(), last.as_bytes());
                    }
                    (Some((category, _)), _) => column.push(&category, b""),
                    (None, _) => column.push(OTHER, b""),
                },
                CodeLevel::NdcLabeler | CodeLevel::NdcProduct => match (ndc(value), self) {
                    (Some((labeler, product)), CodeLevel::NdcProduct) => {
                        column.push(&[&labeler[..], b"-"].concat(), &product);
                    }
                    (Some((labeler, _)), _) => column.push(&labeler, b""),
                    (None, _) => column.push(OTHER, b""),
                },
            }
        }
        column.finish()
    }
}

/// The category of an ICD-10-CM code with or without its point, and the chapter that it lies in.
fn category(value: &str) -> Option<([u8; 3], &'static (&'static str, &'static str))> {
    let code = value.trim().as_bytes();
    let (head, tail) = code.split_at_checked(3)?;
    let mut category = [head[0], head[1], head[2]];
    category.make_ascii_uppercase();
    let [letter, digit, either] = category;
    let tail = tail.strip_prefix(b".").unwrap_or(tail);
    let legal = letter.is_ascii_uppercase()
        && digit.is_ascii_digit()
        && (either.is_ascii_digit() || either.is_ascii_uppercase())
        && tail.len() <= 4
        && tail.iter().all(u8::is_ascii_alphanumeric);
    let within = |(first, last): &&(&str, &str)| first.as_bytes() <= &category[..] && &category[..] <= last.as_bytes();
    let chapter = CHAPTERS.iter().find(within)?;
    legal.then_some((category, chapter))
}

/// Labeler and product, padded to five and four digits: 4-4-2, 5-3-2, 5-4-1 and 5-4-2 with dashes, or the eleven digits of bills. Ten
/// digits without dashes can be three different codes.
fn ndc(value: &str) -> Option<([u8; 5], [u8; 4])> {
    let value = value.trim();
    if !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let parts: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let (labeler, product) = match (lengths.as_slice(), parts.as_slice()) {
        ([4, 4, 2] | [5, 3, 2] | [5, 4, 1] | [5, 4, 2], [labeler, product, _]) => (*labeler, *product),
        ([11], [digits]) => digits.get(..9)?.split_at_checked(5)?,
        _ => return None,
    };
    let (mut labeler_padded, mut product_padded) = ([b'0'; 5], [b'0'; 4]);
    labeler_padded[5 - labeler.len()..].copy_from_slice(labeler.as_bytes());
    product_padded[4 - product.len()..].copy_from_slice(product.as_bytes());
    Some((labeler_padded, product_padded))
}

impl fmt::Display for CodeLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CodeLevel::Icd10Category => "icd10,category",
            CodeLevel::Icd10Chapter => "icd10,chapter",
            CodeLevel::NdcLabeler => "ndc,labeler",
            CodeLevel::NdcProduct => "ndc,product",
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn up(level: CodeLevel, codes: &[&str]) -> String {
        let passed = level.apply(&StringArray::from(codes.to_vec())).unwrap();
        assert_eq!(passed.invalid, 0);
        passed.values.as_string::<i32>().iter().map(Option::unwrap).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_diagnosis_becomes_its_category_or_chapter() {
        let codes = ["E11.9", "e119", " C50.911 ", "O9A.1", "U07.1", "D49", "D50.0"];
        assert_eq!(up(CodeLevel::Icd10Category, &codes), "E11 E11 C50 O9A U07 D49 D50");
        assert_eq!(up(CodeLevel::Icd10Chapter, &codes), "E00-E89 E00-E89 C00-D49 O00-O9A U00-U85 C00-D49 D50-D89");
        let unknown = ["", "E1", "250.00", "E11.98765", "EE1", "T99", "é11", "078-05-1120", "E11,9"];
        assert!(up(CodeLevel::Icd10Category, &unknown).split(' ').all(|code| code == "OTHER"));
    }

    #[test]
    fn a_drug_code_becomes_labeler_or_product_in_every_layout() {
        let codes = ["0071-0155-23", "00071-155-23", "00071-0155-2", "00071-0155-23", "00071015523"];
        assert_eq!(up(CodeLevel::NdcLabeler, &codes), "00071 00071 00071 00071 00071");
        assert_eq!(up(CodeLevel::NdcProduct, &codes), ["00071-0155"; 5].join(" "));
        let unknown = ["0071015523", "", "071-0155-23", "00071-0155", "0007a015523", "-----------"];
        assert!(up(CodeLevel::NdcProduct, &unknown).split(' ').all(|code| code == "OTHER"));
        let nulls = CodeLevel::NdcLabeler.apply(&StringArray::from(vec![None::<&str>])).unwrap();
        assert_eq!(nulls.values.null_count(), 1);
    }
}
