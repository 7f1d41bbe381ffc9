//! Stored values that depend on the day of processing, as their rows would be cleared today. Two clearings of one row are the same in these.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use change::{Error, Kind, Result};

use super::Kernel;
use super::column::Passed;
use super::dates::shown_year;
use crate::calendar::Date;

impl Kernel {
    /// For stored values that this transform has written on an earlier day: makes of them what it would write today. `None` where the day
    /// does not matter. A birth that was in the future or less than 131 years ago then, and is not today, stays what it was.
    pub(crate) fn aged(&self) -> Option<Kernel> {
        match self {
            Kernel::DateYear | Kernel::DobGeneralise => Some(Kernel::YearAgain),
            Kernel::Scrub(scrub) => Some(Kernel::Scrub(scrub.aged())),
            Kernel::Nested(nested) => nested.aged().map(Kernel::Nested),
            Kernel::X12(x12) => x12.shows_years().then_some(Kernel::X12Aged),
            _ => None,
        }
    }
}

/// X12 documents, in which a year stands as 1 January. Another 1 January that passes is taken for one.
pub(super) fn x12(array: &dyn Array, today: Date) -> Result<Passed> {
    let documents = array.as_string_opt::<i32>().ok_or_else(|| {
        Error::new(Kind::Bug, format!("documents were expected in a column of type {}", array.data_type()))
    })?;
    let aged = documents.iter().map(|text| text.map(|text| with_years_of(text, today)));
    Ok(Passed { values: Arc::new(aged.collect::<StringArray>()), invalid: 0 })
}

/// The document with every `19300101` in the group of today.
fn with_years_of(document: &str, today: Date) -> String {
    let (mut out, mut rest) = (String::with_capacity(document.len()), document);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| start + length);
        let digits = &rest[start..end];
        out.push_str(&rest[..start]);
        match first_of_january(digits).and_then(|year| shown_year(year, today)) {
            Some(year) => out.push_str(&format!("{year:04}{}", &digits[4..])),
            None => out.push_str(digits),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The year of `19300101`, behind which a time of midnight may stand.
fn first_of_january(digits: &str) -> Option<i32> {
    let (year, day) = digits.split_at_checked(4)?;
    let midnight = day.strip_prefix("0101")?;
    midnight.bytes().all(|digit| digit == b'0').then(|| year.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::Policy;
    use crate::gate::Means;
    use crate::kernel::Setup;
    use crate::kernel::subject::Beside;
    use crate::policy::tests::stopped_clock;

    const THEN: Date = Date { year: 2026, month: 11, day: 21 };
    const NOW: Date = Date { year: 2029, month: 2, day: 3 };

    /// What a rule writes of a text.
    fn cleared(kernel: &Kernel, text: &str, today: Date) -> Passed {
        kernel.apply(&StringArray::from(vec![text]), Beside { today, subject: None, known: &[] }).unwrap()
    }

    /// Whether each text, cleared then and brought to now, is what it is when it is cleared now; and whether any was another thing before.
    fn check(rule: &str, texts: &[&str]) {
        let text = format!("profile: none\ntables:\n  db.public.t: {{ c: {rule} }}\n");
        let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
        let (_, rule) = policy.rules().next().unwrap();
        let means = Means { clock: stopped_clock(), ..Means::none() };
        let setup = Setup { profile: policy.profile(), means: &means, table: None };
        let kernel = Kernel::new(rule, &DataType::Utf8, &setup).unwrap().unwrap();
        let aged = kernel.aged().unwrap();
        let mut differed = false;
        for text in texts {
            let (then, now) = (cleared(&kernel, text, THEN).values, cleared(&kernel, text, NOW).values);
            differed |= *then != *now;
            for stored in [&then, &now] {
                let beside = Beside { today: NOW, subject: None, known: &[] };
                assert_eq!(*aged.apply(stored, beside).unwrap().values, *now, "{text}");
            }
        }
        assert!(differed, "no text depends on the day");
    }

    #[test]
    fn what_was_written_on_an_earlier_day_becomes_what_would_be_written_today() {
        let dates = ["1850-01-01", "1936-01-01", "1937-05-05", "1938-12-31", "1940-01-01", "2026-11-21", "never"];
        check("date_year", &dates);
        check("dob_generalise", &dates[1..]);
        check(
            "{ transform: scrub_text(detect), reason: r, reviewer: p }",
            &[
                "born in 1938, seen twice",
                "born in 1930 in Chicago",
                "she is 91 years old",
                "year of birth 1951",
                "calm",
            ],
        );
        check(
            "{ transform: json_paths, reason: r, reviewer: p, paths: { born: dob_generalise, \"seen[]\": date_year, plan: keep, note: scrub_text(detect), age: age_cap } }",
            &[
                r#"{"born":"1938-01-01","seen":["1937-01-01","2024-01-01"],"plan":7,"note":"born in 1938","age":30}"#,
                r#"{"born":null,"plan":"a \"b\"","note":"calm","seen":[]}"#,
                "not JSON",
            ],
        );
        let claim = "ST*837*0001*005010X222A1~DMG*D8*19380704*F~DTP*472*RD8*19370101-20240101~SE*4*0001~";
        check("{ transform: x12_map(837p), paths: { DMG.02: dob_generalise, DMG.01: keep } }", &[claim]);
    }

    #[test]
    fn what_the_day_does_not_change_is_left_as_it_is() {
        let document = "ISA*00*19300101120000*1930010*X19300101 A~DTP*193001010000~";
        assert_eq!(with_years_of(document, NOW), "ISA*00*19300101120000*1930010*X19390101 A~DTP*193901010000~");
        assert!(Kernel::Zip3.aged().is_none() && Kernel::Keep.aged().is_none());
    }
}
