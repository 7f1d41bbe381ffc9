//! `date_year`, `date_trunc`, `dob_generalise`.

use std::sync::Arc;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, Int16Array, PrimitiveArray};
use arrow::datatypes::{DataType, Date32Type, Int16Type, TimeUnit, TimestampMicrosecondType};
use change::{Error, Kind, Result};

use super::column::Passed;
use crate::calendar::{Date, MICROS_PER_DAY};
use crate::transform::DateUnit;

/// Ages above this are one group: 45 CFR 164.514(b)(2)(i)(C).
const OLDEST_SHOWN: i32 = 89;

/// A birth longer ago than this is a mistake, not a person.
pub(crate) const OLDEST_AGE: i32 = 130;

/// Whether the type holds dates, or text that may.
pub(crate) fn can_read(data_type: &DataType) -> bool {
    use DataType::{Date32, LargeUtf8, Timestamp, Utf8};
    matches!(data_type, Date32 | Timestamp(TimeUnit::Microsecond, _) | Utf8 | LargeUtf8)
}

/// The year, and for years that show an age above 89 the bucket's: the year 90 years before today.
pub(crate) fn year(array: &dyn Array, today: Date) -> Result<Passed> {
    map::<Int16Type>(array, |days| shown_year(Date::from_days(days).year, today))
}

/// The year of birth. Everybody who is above 89 today, or turns 90 this year, has the bucket's year: 90 years before today. A birth in
/// the future, or more than 130 years ago, is not readable.
pub(crate) fn birth_year(array: &dyn Array, today: Date) -> Result<Passed> {
    let now = today.to_days();
    map::<Int16Type>(array, move |days| {
        let year = Date::from_days(days).year;
        (days <= now && year >= today.year - OLDEST_AGE).then(|| shown_year(year, today)).flatten()
    })
}

/// Years that stand in the lake, as [`year`] and [`birth_year`] write them today. Documents hold them as text, X12 as their first days.
pub(crate) fn year_again(array: &dyn Array, today: Date) -> Result<Passed> {
    let shown = |year: Option<i32>| year.and_then(|year| shown_year(year, today));
    let of_text =
        |text: &str| text.parse::<i16>().ok().map(i32::from).or_else(|| Date::parse(text).map(|day| day.year));
    let values: Int16Array = match array.data_type() {
        DataType::Int16 => array.as_primitive::<Int16Type>().iter().map(|year| shown(year.map(i32::from))).collect(),
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| shown(text.and_then(of_text))).collect(),
        other => return Err(Error::new(Kind::Bug, format!("years were expected in a column of type {other}"))),
    };
    let invalid = (values.null_count() - array.null_count()) as u64;
    Ok(Passed { values: Arc::new(values), invalid })
}

/// The first day of the month, quarter or week (Monday). Days outside the years 1 to 9999 are not readable.
pub(crate) fn truncate(array: &dyn Array, unit: DateUnit) -> Result<Passed> {
    map::<Date32Type>(array, |days| {
        let date = Date::from_days(days);
        let first = match unit {
            DateUnit::Month => Date { day: 1, ..date },
            DateUnit::Quarter => Date { month: (date.month - 1) / 3 * 3 + 1, day: 1, ..date },
            // 1970-01-01 was a Thursday.
            DateUnit::Week => Date::from_days(days.checked_sub((i64::from(days) + 3).rem_euclid(7) as i32)?),
        };
        (1..=9999).contains(&first.year).then(|| first.to_days())
    })
}

/// Timestamps without their time of day.
pub(crate) fn midnight(array: &dyn Array) -> Result<Passed> {
    let times = array.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
        Error::new(Kind::Bug, format!("timestamps were expected in a column of type {}", array.data_type()))
    })?;
    let days: PrimitiveArray<TimestampMicrosecondType> =
        times.unary(|micros| micros.saturating_sub(micros.rem_euclid(MICROS_PER_DAY)));
    Ok(Passed { values: Arc::new(days.with_data_type(array.data_type().clone())), invalid: 0 })
}

/// The year, or the bucket's where it shows an age above 89.
pub(super) fn shown_year(year: i32, today: Date) -> Option<i16> {
    i16::try_from(year.max(today.year - OLDEST_SHOWN - 1)).ok()
}

fn map<O: ArrowPrimitiveType>(array: &dyn Array, of: impl Fn(i32) -> Option<O::Native>) -> Result<Passed> {
    let mut invalid = 0;
    let mut read = |value: Option<Option<i32>>| {
        let read = value?.and_then(&of);
        invalid += u64::from(read.is_none());
        read
    };
    let values: PrimitiveArray<O> = match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().map(|days| read(days.map(Some))).collect(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .map(|micros| read(micros.map(|micros| i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok())))
            .collect(),
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| read(text.map(days_of))).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| read(text.map(days_of))).collect(),
        other => return Err(Error::new(Kind::Bug, format!("a date was asked of a column of type {other}"))),
    };
    Ok(Passed { values: Arc::new(values), invalid })
}

fn days_of(text: &str) -> Option<i32> {
    Date::parse(text).map(Date::to_days)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn years(passed: &Passed) -> Vec<Option<i16>> {
        passed.values.as_primitive::<Int16Type>().iter().collect()
    }

    #[test]
    fn nobody_above_89_can_be_told_by_a_birth_year() {
        let births = [
            "1937-01-01",
            "1936-12-31",
            "1936-11-20",
            "1935-06-01",
            "1896-01-01",
            "1895-12-31",
            "2026-11-21",
            "2026-11-22",
            "soon",
        ];
        let passed = birth_year(&text(&births), TODAY).unwrap();
        let bucket = Some(1936);
        assert_eq!(years(&passed), [Some(1937), bucket, bucket, bucket, bucket, None, Some(2026), None, None]);
        assert_eq!(passed.invalid, 3);
    }

    #[test]
    fn a_year_that_shows_an_age_above_89_is_the_buckets() {
        let passed = year(&text(&["2024-02-29", "9999-12-31", "1900-05-05", "2024-02-30"]), TODAY).unwrap();
        assert_eq!(years(&passed), [Some(2024), Some(9999), Some(1936), None]);
        assert_eq!(passed.invalid, 1);
    }

    #[test]
    fn a_stored_year_becomes_what_another_day_makes_of_the_date() {
        let dates = text(&["1901-05-05", "1936-12-31", "1937-01-01", "1938-06-01", "2024-02-29"]);
        let later = Date { year: 2028, ..TODAY };
        for make in [year, birth_year] {
            let (stored, fresh) = (make(&dates, TODAY).unwrap(), make(&dates, later).unwrap());
            assert_ne!(years(&stored), years(&fresh));
            assert_eq!(years(&year_again(&stored.values, later).unwrap()), years(&fresh));
        }
        let in_documents = text(&["1936", "2024", "19360101", "soon"]);
        let passed = year_again(&in_documents, later).unwrap();
        assert_eq!(years(&passed), [Some(1938), Some(2024), Some(1938), None]);
        assert_eq!(passed.invalid, 1);
        let nulls = Int16Array::from(vec![None, Some(2024)]);
        assert_eq!(year_again(&nulls, later).unwrap().invalid, 0);
    }

    #[test]
    fn truncation_gives_the_first_day() {
        let first = |unit, day: &str| {
            let passed = truncate(&text(&[day]), unit).unwrap();
            Date::from_days(passed.values.as_primitive::<Date32Type>().value(0)).to_string()
        };
        assert_eq!(first(DateUnit::Month, "2024-02-29"), "2024-02-01");
        assert_eq!(first(DateUnit::Quarter, "2024-12-31"), "2024-10-01");
        assert_eq!(first(DateUnit::Quarter, "2024-03-31"), "2024-01-01");
        // A Friday and the Monday before it; then a Sunday and a Monday.
        assert_eq!(first(DateUnit::Week, "2024-03-01"), "2024-02-26");
        assert_eq!(first(DateUnit::Week, "2024-03-03"), "2024-02-26");
        assert_eq!(first(DateUnit::Week, "2024-03-04"), "2024-03-04");
        assert_eq!(first(DateUnit::Week, "1969-12-31"), "1969-12-29");
    }

    #[test]
    fn typed_dates_and_extremes_need_no_parsing() {
        let days = Date32Array::from(vec![Some(19782), None, Some(i32::MIN), Some(i32::MAX)]);
        let passed = year(&days, TODAY).unwrap();
        assert_eq!(years(&passed), [Some(2024), None, Some(1936), None]);
        assert_eq!(passed.invalid, 1);
        for unit in [DateUnit::Month, DateUnit::Quarter, DateUnit::Week] {
            assert_eq!(truncate(&days, unit).unwrap().invalid, 2);
        }

        let micros =
            TimestampMicrosecondArray::from(vec![Some(19782 * MICROS_PER_DAY + 1), None, Some(-1), Some(i64::MIN)]);
        assert_eq!(years(&year(&micros.with_timezone("UTC"), TODAY).unwrap())[..3], [Some(2024), None, Some(1969)]);
    }
}
