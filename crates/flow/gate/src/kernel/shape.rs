//! `fpe_ff1`: an identifier becomes another of the same shape.

use std::borrow::Cow;
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::KeyInit;
use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArrayType};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use change::{Error, Kind, Result};
use zeroize::Zeroizing;

use super::column::{Passed, TextColumn};
use crate::KeyRing;
use crate::ff1::Ff1;
use crate::format::{Format, is_separator};
use crate::keys::{Purpose, push_field};

/// Encrypts the values of one domain and format.
pub(crate) struct ShapeKeeper {
    ff1: Ff1,
    format: Format,
    /// Another epoch's encryption that the values are under already, and that is taken off first.
    before: Option<Ff1>,
}

/// Whether a column of the type can hold every value of the format.
pub(crate) fn can_read(data_type: &DataType, format: Format) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => true,
        DataType::Int32 => format.is_numeric() && format.characters() <= 9,
        DataType::Int64 => format.is_numeric() && format.characters() <= 18,
        _ => false,
    }
}

impl ShapeKeeper {
    pub(crate) fn new(keys: &KeyRing, domain: &str, format: Format, epoch: u32) -> Result<Self> {
        Ok(Self { ff1: Self::cipher(keys, domain, format, epoch)?, format, before: None })
    }

    /// For values that are encrypted under another epoch.
    pub(crate) fn between(keys: &KeyRing, domain: &str, format: Format, before: u32, epoch: u32) -> Result<Self> {
        let before = Some(Self::cipher(keys, domain, format, before)?);
        Ok(Self { before, ..Self::new(keys, domain, format, epoch)? })
    }

    fn cipher(keys: &KeyRing, domain: &str, format: Format, epoch: u32) -> Result<Ff1> {
        let key = keys.derive(Purpose::Fpe, domain, epoch)?;
        let mut tweak = Vec::new();
        for field in [keys.tenant(), domain, &format.to_string()] {
            push_field(&mut tweak, field.as_bytes());
        }
        let (radix, length) = format.numerals();
        Ff1::new(Aes256::new(&(*key).into()), radix, length, &tweak)
            .ok_or_else(|| Error::new(Kind::Bug, format!("the format {format} is too small or too large for FF1")))
    }

    /// What is not a value of the format cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        match array.data_type() {
            DataType::Utf8 => self.texts(array.as_string::<i32>()),
            DataType::LargeUtf8 => self.texts(array.as_string::<i64>()),
            DataType::Int32 => Ok(self.integers::<Int32Type>(array.as_primitive())),
            DataType::Int64 => Ok(self.integers::<Int64Type>(array.as_primitive())),
            other => Err(Error::new(Kind::Bug, format!("an identifier was asked of a column of type {other}"))),
        }
    }

    fn texts<'a>(&self, array: impl StringArrayType<'a>) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), self.format.characters() + 2);
        let (mut characters, mut shaped) = (Vec::new(), Vec::new());
        let mut encrypted = vec![0; self.format.characters()];
        for value in array.iter() {
            let Some(value) = value else {
                column.push_null();
                continue;
            };
            characters.clear();
            characters.extend(value.bytes().filter(|byte| !is_separator(*byte)));
            let Some(number) = self.format.number(&characters) else {
                column.push_invalid();
                continue;
            };
            self.format.characters_of(self.walk(number), &mut encrypted);
            let mut next = encrypted.iter();
            shaped.clear();
            shaped.extend(
                value.bytes().filter_map(|byte| if is_separator(byte) { Some(byte) } else { next.next().copied() }),
            );
            column.push(&shaped, b"");
        }
        column.finish()
    }

    fn integers<T: ArrowPrimitiveType>(&self, array: &PrimitiveArray<T>) -> Passed
    where
        T::Native: TryInto<u128> + TryFrom<u128>,
    {
        let mut invalid = 0;
        let mut digits = vec![0; self.format.characters()];
        let mut encrypt = |value: T::Native| {
            let mut rest: u128 = value.try_into().ok()?;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let number = self.format.number(&digits).filter(|_| rest == 0)?;
            T::Native::try_from(self.format.integer(self.walk(number))).ok()
        };
        let mut read = |value: Option<T::Native>| {
            let encrypted = encrypt(value?);
            invalid += u64::from(encrypted.is_none());
            encrypted
        };
        let values: PrimitiveArray<T> = array.iter().map(&mut read).collect();
        Passed { values: Arc::new(values), invalid }
    }

    /// Encrypts until the result is a value again: a permutation of the values alone, and it ends because a permutation's cycle comes back.
    fn walk(&self, number: u128) -> u128 {
        let number = self.before.as_ref().map_or(number, |before| self.back(before, number));
        let mut number = self.ff1.encrypt(number);
        while !self.format.has(number) {
            number = self.ff1.encrypt(number);
        }
        number
    }

    /// One value, as the gate makes it.
    #[cfg(test)]
    pub(crate) fn shaped(&self, value: &str) -> String {
        let passed =
            self.apply(&arrow::array::StringArray::from(vec![value])).unwrap_or_else(|error| panic!("{error}"));
        passed.values.as_string::<i32>().value(0).to_owned()
    }

    /// The value that became this one; `None` for what is not of the format. Nothing in a value tells whether it was made under this epoch. An
    /// integer has lost its leading zeros: they are put back.
    pub(crate) fn opened(&self, shaped: &str) -> Option<Zeroizing<String>> {
        let width = if self.format.is_numeric() { self.format.characters() } else { 0 };
        let is_integer = shaped.len() < width && shaped.bytes().all(|byte| byte.is_ascii_digit()) && !shaped.is_empty();
        let shaped = if is_integer { Cow::from(format!("{shaped:0>width$}")) } else { Cow::from(shaped) };
        let characters: Vec<u8> = shaped.bytes().filter(|byte| !is_separator(*byte)).collect();
        let number = self.format.number(&characters)?;
        let mut value = Zeroizing::new(vec![0; characters.len()]);
        self.format.characters_of(self.back(&self.ff1, number), &mut value);
        let mut next = value.iter().map(|byte| char::from(*byte));
        let spelled = shaped.chars().filter_map(|character| {
            if character.is_ascii() && is_separator(character as u8) { Some(character) } else { next.next() }
        });
        Some(Zeroizing::new(spelled.collect()))
    }

    fn back(&self, ff1: &Ff1, number: u128) -> u128 {
        let mut number = ff1.decrypt(number);
        while !self.format.has(number) {
            number = ff1.decrypt(number);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{Int32Array, Int64Array, StringArray};

    use super::*;
    use crate::policy::tests::keys;

    fn keeper(domain: &str, format: Format) -> ShapeKeeper {
        ShapeKeeper::new(&keys(0).unwrap(), domain, format, 1).unwrap()
    }

    fn text(keeper: &ShapeKeeper, value: &str) -> Option<String> {
        let passed = keeper.apply(&StringArray::from(vec![value])).unwrap();
        passed.values.as_string::<i32>().iter().next().flatten().map(str::to_owned)
    }

    #[test]
    fn the_shape_stays_and_the_value_comes_back_with_the_key() {
        for (format, value) in [
            (Format::Digits(9), "000000000"),
            (Format::Digits(12), "0042-1234-5678"),
            (Format::Alphanumeric(8), "M0000123"),
            (Format::Ssn, "078-05-1120"),
            (Format::Npi, "1234567893"),
            (Format::Mbi, "1EG4-TE5-MK73"),
        ] {
            let keeper = keeper("person", format);
            let encrypted = text(&keeper, value).unwrap();
            assert_ne!(encrypted, value);
            let separators = |text: &str| text.bytes().map(is_separator).collect::<Vec<_>>();
            assert_eq!(separators(&encrypted), separators(value));
            assert_eq!(keeper.opened(&encrypted).unwrap().as_str(), value);
            let number =
                |text: &str| format.number(&text.bytes().filter(|byte| !is_separator(*byte)).collect::<Vec<_>>());
            let encrypted = number(&encrypted).unwrap_or_else(|| panic!("{format}: the output is no value of it"));
            assert_eq!(keeper.back(&keeper.ff1, encrypted), number(value).unwrap());
        }
    }

    #[test]
    fn the_same_value_is_the_same_in_text_and_numbers_and_another_in_another_domain() {
        let npi = keeper("provider", Format::Npi);
        let from_text = text(&npi, "1234567893").unwrap();
        let passed =
            npi.apply(&Int64Array::from(vec![Some(1_234_567_893), None, Some(1_234_567_890), Some(-1)])).unwrap();
        let numbers: Vec<_> = passed.values.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(numbers, [Some(from_text.parse().unwrap()), None, None, None]);
        assert_eq!(passed.invalid, 2);
        assert_ne!(text(&keeper("other", Format::Npi), "1234567893").unwrap(), from_text);
        let passed = keeper("account", Format::Digits(9)).apply(&Int32Array::from(vec![7])).unwrap();
        let padded = text(&keeper("account", Format::Digits(9)), "000000007").unwrap();
        let number = passed.values.as_primitive::<Int32Type>().value(0);
        assert_eq!(number, padded.parse::<i32>().unwrap());
        assert_eq!(keeper("account", Format::Digits(9)).opened(&number.to_string()).unwrap().as_str(), "000000007");
        // One that lost its leading zeros.
        let short =
            (0..200).map(|value| keeper("account", Format::Digits(9)).walk(value)).find(|shaped| *shaped < 100_000_000);
        let opened = keeper("account", Format::Digits(9)).opened(&short.unwrap().to_string()).unwrap();
        assert!(opened.len() == 9 && opened.parse::<u32>().unwrap() < 200);
    }

    #[test]
    fn different_values_stay_different() {
        for format in [Format::Digits(6), Format::Ssn, Format::Npi, Format::Mbi] {
            let keeper = keeper("person", format);
            let numbers: Vec<u128> =
                (0..3000).map(|step| step * 37 + 10_001).filter(|number| format.has(*number)).collect();
            let images: BTreeSet<u128> = numbers.iter().map(|number| keeper.walk(*number)).collect();
            assert_eq!(images.len(), numbers.len());
            assert!(images.iter().all(|image| format.has(*image)));
        }
    }

    #[test]
    fn what_is_not_of_the_format_is_not_passed() {
        let keeper = keeper("person", Format::Ssn);
        for value in ["", "078-05-112", "078051120x", "666-12-1234", "078 05 11200", "é78051120"] {
            assert_eq!(text(&keeper, value), None, "{value}");
            assert_eq!(keeper.opened(value), None, "{value}");
        }
        assert!(can_read(&DataType::Int32, Format::Digits(9)) && !can_read(&DataType::Int32, Format::Digits(10)));
        assert!(!can_read(&DataType::Int64, Format::Mbi) && can_read(&DataType::Int64, Format::Npi));
        assert!(!can_read(&DataType::Int32, Format::Npi) && !can_read(&DataType::Float64, Format::Ssn));
    }
}
