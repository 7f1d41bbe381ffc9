//! What the log has of a run's start.

use gate::{PolicyStamp, Profile};

use super::*;

fn stamp(policy: &str) -> PolicyStamp {
    PolicyStamp {
        profile: Profile::LimitedDataSet,
        policy_hash: policy.into(),
        key_epoch: None,
        key_fingerprint: None,
        key_fingerprints: std::collections::BTreeMap::default(),
        vault: None,
        cells: None,
        zip3_table: String::new(),
    }
}

async fn start(place: &Place, policy: &str, clock: &Arc<dyn Clock>) -> [usize; 2] {
    let auditor = Auditor::open(&place.0, clock.clone(), Program::Run).await.unwrap();
    auditor.run_started(&place.0, &stamp(policy), 1).unwrap();
    auditor.close().await.unwrap();
    ["config_changed", "policy_changed"].map(|event| place.text().matches(&format!(r#""event":"{event}""#)).count())
}

#[tokio::test]
async fn what_is_another_than_at_the_last_start_is_told_from_the_log_alone() {
    let (mut place, clock) = (Place::new("in-force"), RuntimeClock::begun());
    assert_eq!(start(&place, "ab", &clock).await, [0, 0]);
    place.0.file_text = "another".into();
    // What earlier versions kept beside the log, made to say that nothing has changed.
    let config = Hash::of(&[place.0.file_text.as_bytes()]);
    let said = format!(r#"{{"config":"{config}","policy":"cd","key_epoch":null,"key_fingerprint":null}}"#);
    std::fs::write(place.log().join("in-force.json"), said).unwrap();
    assert_eq!(start(&place, "cd", &clock).await, [1, 1]);
    assert_eq!(start(&place, "cd", &clock).await, [1, 1]);
    // A new log goes on from there.
    for (text, policy, changes) in [("another", "cd", [0, 0]), ("a third", "ef", [1, 1])] {
        renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
        place.0.file_text = text.into();
        assert_eq!(start(&place, policy, &clock).await, changes);
    }
}
