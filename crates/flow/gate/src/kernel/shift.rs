//! `date_shift`: every date of one person moves by the same number of days, so that order and intervals stay.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, StringArrayType};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::subject::{Beside, Subject, SubjectHash};
use crate::KeyRing;
use crate::calendar::{Date, MICROS_PER_DAY};
use crate::canonical::Form;
use crate::keys::Purpose;

/// Moves dates by 1 to `days_max` days in either direction, never by none.
pub(crate) struct Shifter {
    subjects: SubjectHash,
    days_max: u16,
    /// See [`crate::Profile::keeps_time`].
    keeps_time: bool,
}

impl Shifter {
    pub(crate) fn new(
        keys: &KeyRing,
        domain: &str,
        form: Form,
        epoch: u32,
        days_max: u16,
        keeps_time: bool,
    ) -> Result<Self> {
        Ok(Self { subjects: SubjectHash::new(keys, Purpose::Shift, domain, form, epoch)?, days_max, keeps_time })
    }

    /// A date of which nobody knows whose it is becomes the first day of its year; one whose person was not sent cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        let cells = beside.subject.ok_or_else(|| Error::new(Kind::Bug, "a date shift was made without a subject"))?;
        let subjects = self.subjects.of(cells)?;
        match array.data_type() {
            DataType::Date32 => Ok(self.dates(array.as_primitive(), &subjects)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(self.timestamps(array.as_primitive(), &subjects)),
            DataType::Utf8 => self.texts(array.as_string::<i32>(), &subjects),
            DataType::LargeUtf8 => self.texts(array.as_string::<i64>(), &subjects),
            other => Err(Error::new(Kind::Bug, format!("a date was asked of a column of type {other}"))),
        }
    }

    fn dates(&self, array: &PrimitiveArray<Date32Type>, subjects: &[Subject]) -> Passed {
        let mut invalid = 0;
        let shift = |(days, subject): (Option<i32>, &Subject)| {
            let shifted = self.day(days?, *subject);
            invalid += u64::from(shifted.is_none());
            shifted
        };
        let values: PrimitiveArray<Date32Type> = array.iter().zip(subjects).map(shift).collect();
        Passed { values: Arc::new(values), invalid }
    }

    fn timestamps(&self, array: &PrimitiveArray<TimestampMicrosecondType>, subjects: &[Subject]) -> Passed {
        let mut invalid = 0;
        let shift = |(micros, subject): (Option<i64>, &Subject)| {
            let micros = micros?;
            let keeps_time = self.keeps_time && *subject != Subject::Missing;
            let time = if keeps_time { micros.rem_euclid(MICROS_PER_DAY) } else { 0 };
            let day = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok().and_then(|day| self.day(day, *subject));
            invalid += u64::from(day.is_none());
            Some(i64::from(day?) * MICROS_PER_DAY + time)
        };
        let values: PrimitiveArray<TimestampMicrosecondType> = array.iter().zip(subjects).map(shift).collect();
        Passed { values: Arc::new(values.with_data_type(array.data_type().clone())), invalid }
    }

    fn texts<'a>(&self, array: impl StringArrayType<'a>, subjects: &[Subject]) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), 10);
        for (text, subject) in array.iter().zip(subjects) {
            match text.map(|text| Date::parse(text).and_then(|date| self.day(date.to_days(), *subject))) {
                None => column.push_null(),
                Some(Some(day)) => column.push(Date::from_days(day).to_string().as_bytes(), b""),
                Some(None) => column.push_invalid(),
            }
        }
        column.finish()
    }

    fn day(&self, day: i32, subject: Subject) -> Option<i32> {
        let readable = |day: &i32| (1..=9999).contains(&Date::from_days(*day).year);
        let day = Some(day).filter(readable)?;
        match subject {
            Subject::Unsent => None,
            Subject::Missing => Some(Date { month: 1, day: 1, ..Date::from_days(day) }.to_days()),
            Subject::Known(hash) => Some(day + self.offset(hash)).filter(readable),
        }
    }

    fn offset(&self, hash: u64) -> i32 {
        let days_max = i32::from(self.days_max);
        // 64 bits over at most 730 steps: no step is likelier than another by more than one in 10^16.
        let step = (hash % (2 * u64::from(self.days_max))) as i32;
        if step < days_max { step + 1 } else { days_max - 1 - step }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::buffer::BooleanBuffer;

    use super::super::subject::SubjectCells;
    use super::*;
    use crate::policy::tests::keys;

    const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

    fn shifter(days_max: u16, keeps_time: bool) -> Shifter {
        Shifter::new(&keys(0).unwrap(), "person", Form::Exact, 1, days_max, keeps_time).unwrap()
    }

    fn shifted(shifter: &Shifter, array: &dyn Array, persons: &dyn Array, unsent: Option<&BooleanBuffer>) -> Passed {
        let subject = Some(SubjectCells { values: persons, unsent });
        shifter.apply(array, Beside { today: TODAY, subject, known: &[] }).unwrap()
    }

    #[test]
    fn all_dates_of_a_person_move_by_the_same_days_and_never_by_none() {
        let persons = Int64Array::from_iter_values((0..2000).flat_map(|person| [person, person]));
        let dates = Date32Array::from_iter_values((0..4000).map(|row| 19_000 + row % 2 * 37));
        let days = |days_max: u16| -> Vec<i32> {
            let passed = shifted(&shifter(days_max, true), &dates, &persons, None);
            passed.values.as_primitive::<Date32Type>().values().to_vec()
        };
        let year = days(365);
        assert!(year.chunks(2).all(|pair| pair[1] - pair[0] == 37));
        let offsets: BTreeSet<i32> = year.iter().step_by(2).map(|day| day - 19_000).collect();
        assert!(!offsets.contains(&0) && offsets.iter().all(|offset| offset.abs() <= 365));
        assert!(offsets.len() > 650, "{} of 730 offsets among 2,000 persons", offsets.len());
        let least: BTreeSet<i32> = days(1).iter().step_by(2).map(|day| day - 19_000).collect();
        assert_eq!(least, BTreeSet::from([-1, 1]));
    }

    #[test]
    fn a_person_has_one_offset_in_every_type_and_table() {
        let day = 19_782;
        let person = StringArray::from(vec!["7"]);
        let dates = shifted(&shifter(90, true), &Date32Array::from(vec![day]), &Int64Array::from(vec![7]), None);
        let moved = dates.values.as_primitive::<Date32Type>().value(0);
        assert_ne!(moved, day);
        let micros = i64::from(day) * MICROS_PER_DAY + 12_345;
        let times = TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
        let passed = shifted(&shifter(90, true), &times, &person, None);
        assert_eq!(passed.values.data_type(), times.data_type());
        let micros_moved = i64::from(moved) * MICROS_PER_DAY;
        assert_eq!(passed.values.as_primitive::<TimestampMicrosecondType>().value(0), micros_moved + 12_345);
        let passed = shifted(&shifter(90, false), &times, &person, None);
        assert_eq!(passed.values.as_primitive::<TimestampMicrosecondType>().value(0), micros_moved);
        let passed = shifted(&shifter(90, true), &StringArray::from(vec!["2/29/2024 10:00"]), &person, None);
        assert_eq!(passed.values.as_string::<i32>().value(0), Date::from_days(moved).to_string());
    }

    #[test]
    fn without_a_person_there_is_only_the_year_and_nothing_passes_unshifted() {
        let dates =
            StringArray::from(vec![Some("2024-02-29"), Some("2024-02-29"), None, Some("9999-12-31x"), Some("x")]);
        let persons = StringArray::from(vec![None, Some("1"), Some("1"), Some("1"), None]);
        let unsent = BooleanBuffer::from(vec![false, true, false, false, false]);
        let passed = shifted(&shifter(30, true), &dates, &persons, Some(&unsent));
        let texts: Vec<_> = passed.values.as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("2024-01-01"), None, None, None, None]);
        assert_eq!(passed.invalid, 3);
        let days = Date32Array::from(vec![i32::MIN, i32::MAX, Date::parse("9999-12-31").unwrap().to_days()]);
        let passed = shifted(&shifter(365, true), &days, &Int64Array::from(vec![1, 2, 3]), None);
        assert!(passed.invalid >= 2);
    }
}
