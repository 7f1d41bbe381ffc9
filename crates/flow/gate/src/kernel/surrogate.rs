//! `dict_surrogate`: an invented value from a list in place of the real one.

use std::fmt;

use arrow::array::Array;
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::subject::{Beside, Subject, SubjectCells, SubjectHash};
use crate::KeyRing;
use crate::canonical::Form;
use crate::keys::Purpose;

/// Which invented values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurrogateList {
    /// Given names.
    FirstName,
    /// Family names.
    LastName,
    /// Towns.
    City,
    /// Streets with a number.
    Street,
}

/// Stands behind every invented value, so that nobody takes it for a real one.
const MARK: &[u8] = b" (synthetic)";

impl SurrogateList {
    pub(crate) const ALL: [SurrogateList; 4] =
        [SurrogateList::FirstName, SurrogateList::LastName, SurrogateList::City, SurrogateList::Street];

    pub(crate) fn name(self) -> &'static str {
        match self {
            SurrogateList::FirstName => "first_name",
            SurrogateList::LastName => "last_name",
            SurrogateList::City => "city",
            SurrogateList::Street => "street",
        }
    }

    /// The entries, apart by commas and line ends.
    fn text(self) -> &'static str {
        match self {
            SurrogateList::FirstName => include_str!("../../data/surrogates/first-names.txt"),
            SurrogateList::LastName => include_str!("../../data/surrogates/last-names.txt"),
            SurrogateList::City => include_str!("../../data/surrogates/cities.txt"),
            SurrogateList::Street => include_str!("../../data/surrogates/streets.txt"),
        }
    }

    fn entries(self) -> Vec<&'static str> {
        self.text().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).collect()
    }
}

/// Chooses from one list, alike for the same person, or for the same value where the rule names no person.
pub(crate) struct Surrogates {
    subjects: SubjectHash,
    list: SurrogateList,
    entries: Vec<&'static str>,
}

impl Surrogates {
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form, epoch: u32, list: SurrogateList) -> Result<Self> {
        let subjects = SubjectHash::new(keys, Purpose::Surrogate, domain, form, epoch)?;
        Ok(Self { subjects, list, entries: list.entries() })
    }

    /// A value of which nobody knows whose it is cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8) {
            let what = format!("an invented value was asked of a column of type {}", array.data_type());
            return Err(Error::new(Kind::Bug, what));
        }
        let own = SubjectCells { values: array, unsent: None };
        let subjects = self.subjects.of(beside.subject.unwrap_or(own))?;
        let mut column = TextColumn::with_capacity(array.len(), 24);
        for (row, subject) in subjects.into_iter().enumerate() {
            match subject {
                _ if array.is_null(row) => column.push_null(),
                Subject::Missing | Subject::Unsent => column.push_invalid(),
                Subject::Known(hash) => column.push(self.invented(hash).as_bytes(), MARK),
            }
        }
        column.finish()
    }

    fn invented(&self, hash: u64) -> String {
        let count = self.entries.len() as u64;
        let entry = self.entries[(hash % count) as usize];
        match self.list {
            SurrogateList::Street => format!("{} {entry}", 100 + hash / count % 9900),
            _ => entry.to_owned(),
        }
    }
}

impl fmt::Display for SurrogateList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{AsArray, Int64Array, StringArray};

    use super::*;
    use crate::calendar::Date;
    use crate::policy::tests::keys;

    const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

    fn texts(list: SurrogateList, array: &dyn Array, persons: Option<&dyn Array>) -> Vec<Option<String>> {
        let surrogates = Surrogates::new(&keys(0).unwrap(), "person", Form::Exact, 1, list).unwrap();
        let subject = persons.map(|values| SubjectCells { values, unsent: None });
        let passed = surrogates.apply(array, Beside { today: TODAY, subject, known: &[] }).unwrap();
        passed.values.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn every_list_has_entries_and_none_twice() {
        for list in SurrogateList::ALL {
            let entries = list.entries();
            assert!(entries.len() >= 40, "{list} has {}", entries.len());
            assert_eq!(entries.iter().collect::<BTreeSet<_>>().len(), entries.len(), "{list}");
        }
    }

    #[test]
    fn a_person_keeps_the_invented_name_and_a_missing_person_has_none() {
        let names = StringArray::from(vec![Some("Ann"), Some("Anne"), Some("Bob"), None, Some("Eve")]);
        let persons = Int64Array::from(vec![Some(1), Some(1), Some(2), Some(2), None]);
        let found = texts(SurrogateList::FirstName, &names, Some(&persons));
        assert_eq!(found[0], found[1]);
        assert!(found[0].as_ref().unwrap().ends_with(" (synthetic)"));
        assert_eq!(found[3..], [None, None]);
        let own = texts(SurrogateList::Street, &names, None);
        assert_ne!(own[0], own[1]);
        assert_eq!(own[0], texts(SurrogateList::Street, &names.slice(0, 1), None)[0]);
    }
}
