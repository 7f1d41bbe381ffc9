//! Waiting for conditions.

use std::time::Duration;

/// Waits until `holds`; fails after `seconds` with what was waited for.
pub(crate) async fn until(what: &str, seconds: u64, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(seconds), wait).await.is_ok(), "not within {seconds} s: {what}");
}
