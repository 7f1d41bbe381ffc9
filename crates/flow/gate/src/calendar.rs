//! Days and years of the proleptic Gregorian calendar, without a clock and without a time zone.

use std::fmt;

use change::Timestamp;

/// A calendar day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

pub(crate) const MICROS_PER_DAY: i64 = 86_400_000_000;

impl Date {
    /// From days since 1970-01-01. The algorithm is `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    pub(crate) fn from_days(days: i32) -> Self {
        let shifted = i64::from(days) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        let year = (year_of_era + era * 400) as i32 + i32::from(month <= 2);
        Self { year, month, day }
    }

    /// Days since 1970-01-01: `days_from_civil` of the same source.
    pub(crate) fn to_days(self) -> i32 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = i64::from((self.month + 9) % 12);
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era - 719_468) as i32
    }

    /// The day in UTC.
    pub(crate) fn from_timestamp(micros: Timestamp) -> Self {
        Self::from_days(micros.div_euclid(MICROS_PER_DAY) as i32)
    }

    /// Reads `2024-02-29`, `20240229` or `2/29/2024`, with or without a time of day behind it (after `T` or a space).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.ends_with("BC") {
            return None;
        }
        let text = text.split(['T', ' ']).next()?;
        let number = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
            let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
            (lengths.contains(&digits.len()) && all_digits).then(|| digits.parse::<u32>().ok()).flatten()
        };
        let (year, month, day) = if let Some((year, rest)) = text.split_once('-') {
            let (month, day) = rest.split_once('-')?;
            (number(year, 4..=4)?, number(month, 2..=2)?, number(day, 2..=2)?)
        } else if let Some((month, rest)) = text.split_once('/') {
            let (day, year) = rest.split_once('/')?;
            (number(year, 4..=4)?, number(month, 1..=2)?, number(day, 1..=2)?)
        } else {
            let date = number(text, 8..=8)?;
            (date / 10_000, date / 100 % 100, date % 100)
        };
        let date = Self { year: year as i32, month, day };
        let exists = (1..=12).contains(&month) && year > 0 && Self::from_days(date.to_days()) == date;
        exists.then_some(date)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for days in (-800_000..3_000_000).step_by(13) {
            assert_eq!(Date::from_days(days).to_days(), days);
        }
        assert_eq!(Date::from_days(0).to_string(), "1970-01-01");
        assert_eq!(Date::from_days(2_932_896).to_string(), "9999-12-31");
        assert_eq!(Date::from_timestamp(-1).to_string(), "1969-12-31");
    }

    #[test]
    fn text_that_is_no_date_is_none() {
        let leap = Some(Date { year: 2024, month: 2, day: 29 });
        for text in
            ["2024-02-29", " 20240229 ", "2/29/2024", "2024-02-29T10:00:00Z", "2024-02-29 10:00:00+00", "02/29/2024"]
        {
            assert_eq!(Date::parse(text), leap, "{text}");
        }
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "24-02-29",
            "29.02.2024",
            "",
            "infinity",
            "0000-01-01",
            "é/1/2024",
            "+2/29/2024",
            "2024-02-29 BC",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
