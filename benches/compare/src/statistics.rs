use std::time::Duration;

/// The median; the lower of the two middle ones of an even number. `None` of nothing.
pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    percentile(times, 50)
}

/// The smallest time that so many percent of the times do not exceed. `None` of nothing.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 95), Some(Duration::from_millis(95)));
        assert_eq!(percentile(&times, 100), Some(Duration::from_millis(100)));
        assert_eq!(median(&times[..4]), Some(Duration::from_millis(98)));
        assert_eq!(median(&times[..1]), Some(Duration::from_millis(100)));
        assert_eq!(median(&[]), None);
    }
}
