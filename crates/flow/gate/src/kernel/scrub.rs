//! `scrub_text`: free text with placeholders for what identifies a person.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArrayType};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::subject::Beside;
use crate::canonical::{self, Cell, Form};
use crate::scrub::{EntityFinder, KnownKind, KnownValues, REFUSED, Scratch, Scrubbed, Scrubber, Tier};

/// A raw column with values of the row's person.
#[derive(Clone, Copy)]
pub(crate) struct KnownCells<'a> {
    pub(crate) column: &'a str,
    pub(crate) values: &'a dyn Array,
    /// Rows for which the source did not send it.
    pub(crate) unsent: Option<&'a BooleanBuffer>,
}

/// Scrubs with the known columns of its rule.
pub(crate) struct TextScrub {
    tier: Tier,
    known: Vec<(String, KnownKind)>,
    entities: Option<Arc<dyn EntityFinder>>,
}

/// One known column of a batch as text.
struct KnownTexts<'a> {
    kind: KnownKind,
    /// Every row's value behind the one before.
    values: Vec<u8>,
    ends: Vec<usize>,
    unsent: Option<&'a BooleanBuffer>,
}

impl TextScrub {
    /// `entities` is asked in the tier that has a model.
    pub(crate) fn new(tier: Tier, known: &[String], entities: Option<Arc<dyn EntityFinder>>) -> Self {
        let known = known.iter().map(|column| (column.clone(), KnownKind::of(column))).collect();
        Self { tier, known, entities }
    }

    /// For texts that this rule has written on an earlier day: what the row itself says is not in them any more, and what a model finds does
    /// not depend on the day.
    pub(super) fn aged(&self) -> Self {
        let tier = if self.tier == Tier::DetectNer { Tier::Detect } else { self.tier };
        Self { tier, known: Vec::new(), entities: None }
    }

    fn scrubber(&self, today: i32) -> Scrubber {
        let scrubber = Scrubber::new(self.tier, today);
        match &self.entities {
            Some(finder) => scrubber.with_entities(finder.clone()),
            None => scrubber,
        }
    }

    /// A text that cannot be scrubbed is replaced as a whole and counted, and so is one of which a known value was not sent.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        match array.data_type() {
            DataType::Utf8 => self.texts(array.as_string::<i32>(), beside),
            DataType::LargeUtf8 => self.texts(array.as_string::<i64>(), beside),
            other => Err(Error::new(Kind::Bug, format!("a text was asked of a column of type {other}"))),
        }
    }

    fn texts<'a>(&self, array: impl StringArrayType<'a>, beside: Beside<'_>) -> Result<Passed> {
        let known = self.known.iter().map(|(column, kind)| KnownTexts::of(column, *kind, beside));
        let known = known.collect::<Result<Vec<_>>>()?;
        let scrubber = self.scrubber(beside.today.to_days());
        let mut column = TextColumn::with_capacity(array.len(), 256);
        let (mut scratch, mut values) = (Scratch::default(), KnownValues::default());
        // The row whose known values `values` are.
        let mut built = None;
        for row in 0..array.len() {
            if array.is_null(row) {
                column.push_null();
                continue;
            }
            let text = array.value(row);
            let unsent = known.iter().any(|known| known.unsent.is_some_and(|unsent| unsent.value(row)));
            if built.is_none_or(|built| known.iter().any(|known| known.value(row) != known.value(built))) {
                values.clear();
                for known in &known {
                    values.add_kind(known.kind, known.value(row));
                }
                built = Some(row);
            }
            if unsent {
                column.push_refused(REFUSED.as_bytes());
                continue;
            }
            match scrubber.scrub(text, &values, &mut scratch) {
                Scrubbed::Unchanged => column.push(text.as_bytes(), b""),
                Scrubbed::Replaced(scrubbed) => column.push(scrubbed.as_bytes(), b""),
                Scrubbed::Refused => column.push_refused(REFUSED.as_bytes()),
            }
        }
        column.finish()
    }
}

impl<'a> KnownTexts<'a> {
    fn of(column: &str, kind: KnownKind, beside: Beside<'a>) -> Result<Self> {
        let cells = beside.known.iter().find(|cells| cells.column == column);
        let cells = cells.ok_or_else(|| Error::new(Kind::Bug, format!("the known column {column} is not there")))?;
        let mut texts =
            Self { kind, values: Vec::new(), ends: Vec::with_capacity(cells.values.len()), unsent: cells.unsent };
        canonical::for_each(cells.values, Form::Exact, |cell| {
            if let Cell::Bytes(bytes) = cell {
                texts.values.extend_from_slice(bytes);
            }
            texts.ends.push(texts.values.len());
        })?;
        Ok(texts)
    }

    fn value(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        // Binary columns are no text: nothing of them can stand in one.
        std::str::from_utf8(&self.values[start..self.ends[row]]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, StringArray};

    use super::*;
    use crate::calendar::Date;

    const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

    fn scrubbed(names: Vec<Option<&str>>, notes: Vec<Option<&str>>) -> Vec<Option<String>> {
        let (names, notes) = (StringArray::from(names), StringArray::from(notes));
        let known = [KnownCells { column: "last_name", values: &names, unsent: None }];
        let scrub = TextScrub::new(Tier::Detect, &["last_name".into()], None);
        let passed = scrub.apply(&notes, Beside { today: TODAY, subject: None, known: &known }).unwrap();
        passed.values.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn rows_without_a_text_do_not_pass_their_known_values_on() {
        let (whitaker, note) = (Some("Whitaker"), Some("whitaker feels well"));
        let found = Some("[NAME] feels well".to_owned());
        assert_eq!(scrubbed(vec![whitaker; 2], vec![None, note]), [None, found.clone()], "at the start of a batch");
        let names = vec![Some("Oyelaran"), whitaker, whitaker, Some("Oyelaran")];
        let notes = vec![note, None, note, Some("oyelaran feels well")];
        assert_eq!(
            scrubbed(names, notes),
            [note.map(str::to_owned), None, found.clone(), found],
            "behind another person"
        );
    }

    #[test]
    fn each_row_is_searched_for_its_own_values_and_refused_when_they_were_not_sent() {
        let notes = StringArray::from(vec![
            Some("whitaker feels well, born 041084"),
            Some("whitaker is her neighbor"),
            None,
            Some("walks 2 miles"),
            Some("walks 2 miles"),
        ]);
        let names = StringArray::from(vec![Some("Whitaker"), Some("Oyelaran"), Some("Ruiz"), None, Some("Ruiz")]);
        let births = Date32Array::from_iter(["1984-04-10"; 5].map(|text| Date::parse(text).map(Date::to_days)));
        let unsent = BooleanBuffer::collect_bool(5, |row| row == 4);
        let known = [
            KnownCells { column: "last_name", values: &names, unsent: Some(&unsent) },
            KnownCells { column: "birth_date", values: &births, unsent: None },
        ];
        let scrub = TextScrub::new(Tier::Detect, &["last_name".into(), "birth_date".into()], None);
        let beside = Beside { today: TODAY, subject: None, known: &known };
        let passed = scrub.apply(&notes, beside).unwrap();
        let texts: Vec<Option<&str>> = passed.values.as_string::<i32>().iter().collect();
        assert_eq!(texts[0], Some("[NAME] feels well, born [DATE]"));
        assert_eq!(texts[1], Some("whitaker is her neighbor"));
        assert_eq!(texts[2..], [None, Some("walks 2 miles"), Some(REFUSED)]);
        assert_eq!(passed.invalid, 1);
    }
}
