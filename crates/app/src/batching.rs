//! When a commit is due: a pure decision over what is pending.

use std::time::Duration;

/// The bounds of a commit; reaching any of them makes it due.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Age of the oldest change that is not committed.
    pub max_age: Duration,
    /// Changes that are not committed.
    pub max_rows: u64,
}

/// Streamed changes that were handed to the lake and are not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    rows: u64,
    since: Option<Duration>,
}

impl Pending {
    /// Counts `rows` changes that arrived at `now` (monotonic).
    pub(crate) fn add(&mut self, rows: u64, now: Duration) {
        self.rows += rows;
        self.since.get_or_insert(now);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// When the age bound will be reached (monotonic).
    pub(crate) fn due_at(&self, rules: &Batching) -> Option<Duration> {
        self.since.map(|since| since + rules.max_age)
    }

    /// Whether a commit is due at `now`.
    pub(crate) fn is_due(&self, rules: &Batching, now: Duration) -> bool {
        self.rows >= rules.max_rows || self.due_at(rules).is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Batching = Batching { max_age: Duration::from_secs(5), max_rows: 100 };

    #[test]
    fn nothing_pending_is_never_due() {
        assert!(!Pending::default().is_due(&RULES, Duration::from_secs(1_000)));
    }

    #[test]
    fn due_by_rows_or_by_the_age_of_the_oldest() {
        let mut pending = Pending::default();
        pending.add(60, Duration::from_secs(1));
        assert!(!pending.is_due(&RULES, Duration::from_secs(5)));
        assert!(pending.is_due(&RULES, Duration::from_secs(6)));
        pending.add(40, Duration::from_secs(2));
        assert!(pending.is_due(&RULES, Duration::from_secs(2)));
        assert_eq!(pending.due_at(&RULES), Some(Duration::from_secs(6)));
    }
}
