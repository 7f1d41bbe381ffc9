//! Dates and timestamps, from text in `DateStyle ISO` and from binary.
//!
//! Delta's dates and timestamps end with the years 1 and 9999; Postgres reaches from 4714 BC to 294276 (dates: 5874897) and knows
//! infinities. What lies outside is unfit.

use super::CellFault;
use crate::postgres::pgoutput::POSTGRES_EPOCH_US;

const INFINITY: CellFault = CellFault::Unfit("infinity");
const TOO_EARLY: CellFault = CellFault::Unfit("a time before the year 1");
const TOO_LATE: CellFault = CellFault::Unfit("a time after the year 9999");
const NO_DATE: CellFault = CellFault::Malformed("it is not a date in ISO style");
const NO_TIME: CellFault = CellFault::Malformed("it is not a timestamp in ISO style");

/// Days from the Unix epoch to 2000-01-01.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// 0001-01-01 in days since the Unix epoch.
const FIRST_DAY: i32 = -719_162;
/// 9999-12-31 in days since the Unix epoch.
const LAST_DAY: i32 = 2_932_896;
const DAY_US: i64 = 86_400_000_000;

/// Days since the Unix epoch.
pub(crate) fn date_from_text(text: &[u8]) -> Result<i32, CellFault> {
    let (days, rest) = split_date(text, NO_DATE)?;
    if rest.is_empty() { Ok(days) } else { Err(NO_DATE) }
}

/// Microseconds since the Unix epoch; of UTC when the text names an offset, as it does exactly when `utc` is true.
pub(crate) fn timestamp_from_text(text: &[u8], utc: bool) -> Result<i64, CellFault> {
    let (days, rest) = split_date(text, NO_TIME)?;
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = rest else {
        return Err(NO_TIME);
    };
    let seconds = clock([*h1, *h2, *m1, *m2, *s1, *s2])?;
    let (fraction_us, rest) = split_fraction(rest)?;
    let offset_s = if utc {
        offset(rest)?
    } else if rest.is_empty() {
        0
    } else {
        return Err(NO_TIME);
    };
    within_years(i64::from(days) * DAY_US + (seconds - offset_s) * 1_000_000 + fraction_us)
}

/// Days since the Unix epoch, from days since 2000.
pub(crate) fn date_from_binary(days: i32) -> Result<i32, CellFault> {
    if matches!(days, i32::MIN | i32::MAX) {
        return Err(INFINITY);
    }
    match days.checked_add(POSTGRES_EPOCH_DAYS) {
        Some(days) if days < FIRST_DAY => Err(TOO_EARLY),
        Some(days) if days <= LAST_DAY => Ok(days),
        _ => Err(TOO_LATE),
    }
}

/// Microseconds since the Unix epoch, from microseconds since 2000.
pub(crate) fn timestamp_from_binary(since_2000_us: i64) -> Result<i64, CellFault> {
    if matches!(since_2000_us, i64::MIN | i64::MAX) {
        return Err(INFINITY);
    }
    since_2000_us.checked_add(POSTGRES_EPOCH_US).ok_or(TOO_LATE).and_then(within_years)
}

fn within_years(micros: i64) -> Result<i64, CellFault> {
    if micros < i64::from(FIRST_DAY) * DAY_US {
        Err(TOO_EARLY)
    } else if micros >= (i64::from(LAST_DAY) + 1) * DAY_US {
        Err(TOO_LATE)
    } else {
        Ok(micros)
    }
}

/// Splits off the date, as days since the Unix epoch.
fn split_date(text: &[u8], wrong: CellFault) -> Result<(i32, &[u8]), CellFault> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else {
        return Err(odd_date(text, wrong));
    };
    if rest.ends_with(b" BC") {
        return Err(TOO_EARLY);
    }
    let year = pair(*y1, *y2).zip(pair(*y3, *y4)).map(|(high, low)| high * 100 + low);
    let (Some(year), Some(month), Some(day)) = (year, pair(*m1, *m2), pair(*d1, *d2)) else {
        return Err(wrong);
    };
    days_since_epoch(year, month, day).map(|days| (days, rest)).ok_or(wrong)
}

/// Why a text that does not begin like `2024-02-29` is none: Postgres prints years beyond 9999 with more digits.
#[cold]
fn odd_date(text: &[u8], wrong: CellFault) -> CellFault {
    if matches!(text, b"infinity" | b"-infinity") {
        return INFINITY;
    }
    let year = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if year > 4 && text.get(year) == Some(&b'-') { TOO_LATE } else { wrong }
}

fn pair(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i32::from(tens) * 10 + i32::from(ones))
}

/// The proleptic Gregorian calendar, for years 1 to 9999; `None` when there is no such day.
fn days_since_epoch(year: i32, month: i32, day: i32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day at the end; `153 * m + 2 / 5` are the days before month `m` of such a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// Seconds since midnight from `hhmmss`.
fn clock(digits: [u8; 6]) -> Result<i64, CellFault> {
    let [h1, h2, m1, m2, s1, s2] = digits;
    match (pair(h1, h2), pair(m1, m2), pair(s1, s2)) {
        (Some(hour), Some(minute), Some(second)) if hour < 24 && minute < 60 && second < 60 => {
            Ok(i64::from((hour * 60 + minute) * 60 + second))
        }
        _ => Err(NO_TIME),
    }
}

fn split_fraction(text: &[u8]) -> Result<(i64, &[u8]), CellFault> {
    let [b'.', digits @ ..] = text else {
        return Ok((0, text));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=6).contains(&length) {
        return Err(NO_TIME);
    }
    let (digits, rest) = digits.split_at(length);
    let value = digits.iter().fold(0_i64, |value, byte| value * 10 + i64::from(byte - b'0'));
    let missing = u32::try_from(6 - length).map_err(|_| NO_TIME)?;
    Ok((value * 10_i64.pow(missing), rest))
}

/// Seconds east of UTC from `+hh`, `+hh:mm` or `+hh:mm:ss`.
fn offset(text: &[u8]) -> Result<i64, CellFault> {
    let seconds = match text {
        [_, h1, h2] => clock([*h1, *h2, b'0', b'0', b'0', b'0']),
        [_, h1, h2, b':', m1, m2] => clock([*h1, *h2, *m1, *m2, b'0', b'0']),
        [_, h1, h2, b':', m1, m2, b':', s1, s2] => clock([*h1, *h2, *m1, *m2, *s1, *s2]),
        _ => Err(NO_TIME),
    }?;
    match text[0] {
        b'+' => Ok(seconds),
        b'-' => Ok(-seconds),
        _ => Err(NO_TIME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_at_the_edges_of_the_calendar() {
        assert_eq!(date_from_text(b"0001-01-01"), Ok(FIRST_DAY));
        assert_eq!(date_from_text(b"9999-12-31"), Ok(LAST_DAY));
        assert_eq!(date_from_text(b"1970-01-01"), Ok(0));
        assert_eq!(date_from_text(b"2000-02-29"), Ok(POSTGRES_EPOCH_DAYS + 59));
        assert_eq!(date_from_text(b"0044-03-15 BC"), Err(TOO_EARLY));
        assert_eq!(date_from_text(b"10000-01-01"), Err(TOO_LATE));
        assert_eq!(date_from_text(b"-infinity"), Err(INFINITY));
        for wrong in
            ["", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "0000-01-01", "01/02/2024", "2024-01-01 "]
        {
            assert_eq!(date_from_text(wrong.as_bytes()), Err(NO_DATE), "{wrong}");
        }
    }

    #[test]
    fn timestamps_with_fractions_and_offsets() {
        assert_eq!(timestamp_from_text(b"1970-01-01 00:00:00.5", false), Ok(500_000));
        assert_eq!(timestamp_from_text(b"1970-01-01 00:00:00.000001+00", true), Ok(1));
        assert_eq!(timestamp_from_text(b"1970-01-01 02:00:00+02", true), Ok(0));
        assert_eq!(timestamp_from_text(b"1969-12-31 23:29:59-00:30:01", true), Ok(0));
        assert_eq!(timestamp_from_text(b"0001-01-01 00:00:00+01", true), Err(TOO_EARLY));
        assert_eq!(timestamp_from_text(b"9999-12-31 23:59:59.999999-00:00:01", true), Err(TOO_LATE));
        assert_eq!(timestamp_from_text(b"4714-11-24 00:00:00 BC", false), Err(TOO_EARLY));
        for (wrong, utc) in [
            ("2024-01-01", false),
            ("2024-01-01 24:00:00", false),
            ("2024-01-01 00:00:00.", false),
            ("2024-01-01 00:00:00.1234567", false),
            ("2024-01-01 00:00:00+00", false),
            ("2024-01-01 00:00:00", true),
            ("2024-01-01 00:00:00*00", true),
        ] {
            assert_eq!(timestamp_from_text(wrong.as_bytes(), utc), Err(NO_TIME), "{wrong}");
        }
    }

    #[test]
    fn binary_forms_never_wrap() {
        assert_eq!(date_from_binary(i32::MAX), Err(INFINITY));
        assert_eq!(date_from_binary(i32::MAX - 1), Err(TOO_LATE));
        assert_eq!(date_from_binary(i32::MIN + 1), Err(TOO_EARLY));
        assert_eq!(timestamp_from_binary(i64::MIN), Err(INFINITY));
        assert_eq!(timestamp_from_binary(i64::MAX - 1), Err(TOO_LATE));
        assert_eq!(timestamp_from_binary(i64::MIN + 1), Err(TOO_EARLY));
        assert_eq!(timestamp_from_binary(0), Ok(POSTGRES_EPOCH_US));
    }
}
