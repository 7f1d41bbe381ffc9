//! A log that is set aside, and the one after it.

use super::*;

#[tokio::test]
async fn a_log_whose_key_is_lost_is_set_aside_and_another_begins() {
    let (place, clock) = (Place::new("lost"), RuntimeClock::begun());
    let renew_for = |because| renew(&place.0, because, clock.clone());
    assert_eq!(renew_for(Because::KeyLost).await.err().unwrap().kind(), Kind::Config, "there is no log");
    place.act(&clock).await;
    std::fs::write(place.log().join("in-force.json"), "{}").unwrap();
    assert!(renew_for(Because::KeyLost).await.err().unwrap().what().contains("not lost"));
    let old = public(&place.log());
    std::fs::remove_file(place.key_file()).unwrap();
    let lost = Auditor::open(&place.0, clock.clone(), Program::Run).await.err().unwrap();
    assert!(lost.how_to_fix().unwrap().contains("renew --because key-lost"), "{lost}");
    assert!(renew_for(Because::Damaged).await.err().unwrap().what().contains("not there"));

    let renewed = renew_for(Because::KeyLost).await.unwrap();
    let aside = renewed.aside.unwrap();
    assert!(!renewed.is_ended && renewed.key != old && renewed.key == public(&place.log()));
    assert_eq!(set_aside(&place.0.state_dir()).unwrap(), std::slice::from_ref(&aside));
    assert!(place.log().join("in-force.json").exists());
    let begun = place.text().lines().next().unwrap().to_owned();
    assert!(begun.contains(r#""because":"key_lost""#) && begun.contains(&format!(r#""key":"{old}""#)), "{begun}");
    place.act(&clock).await;
    let alone = proof(&[place.log()], clock.now()).findings;
    assert!(matches!(alone.as_slice(), [Finding::OtherLog { heads: 0, entries: 4, .. }]), "{alone:?}");
    let both = proof(&[place.log(), aside], clock.now());
    assert!(both.is_proven() && both.before[0].key == Some(old), "{both:?}");
}

#[tokio::test]
async fn a_log_whose_key_was_exposed_says_at_its_end_that_it_was_set_aside() {
    let (place, clock) = (Place::new("exposed"), RuntimeClock::begun());
    place.act(&clock).await;
    let old = key::read(&place.key_file()).unwrap().public();
    let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
    let aside = renewed.aside.unwrap();
    assert!(renewed.is_ended && renewed.key != old);
    assert!(
        std::fs::read_to_string(aside.join(LOG_FILE)).unwrap().contains(r#""event":"ended","because":"key_exposed""#)
    );
    let kept = place.0.dir.join(format!("keys/audit-{}.key", old.fingerprint().as_str()));
    assert_eq!(key::read(&kept).unwrap().public(), old);
    assert!(proof(&[place.log(), aside.clone()], clock.now()).is_proven());

    // A damaged one keeps its key, and what is wrong with it is found for good.
    let path = place.log().join(LOG_FILE);
    std::fs::write(&path, place.text().replace("key_exposed", "key_damages")).unwrap();
    let renewed = renew(&place.0, Because::Damaged, clock.clone()).await.unwrap();
    assert!(renewed.key == public(renewed.aside.as_ref().unwrap()));
    let all = proof(&[place.log(), aside, renewed.aside.unwrap()], clock.now());
    assert!(all.findings.is_empty() && !all.before[1].is_proven(), "{all:?}");
}

/// A kill between any two steps leaves the log that was there, or what the same command finishes.
#[tokio::test]
async fn a_renewal_that_was_killed_is_finished_by_the_same_command_and_by_no_other() {
    for step in 0..3 {
        let (place, clock) = (Place::new(&format!("killed-{step}")), RuntimeClock::begun());
        place.act(&clock).await;
        let (state, keys) = (place.0.state_dir(), place.0.dir.join("keys"));
        let (before, old) = (place.0.dir.join("before"), public(&place.log()));
        std::fs::rename(place.log(), &before).unwrap();
        std::fs::rename(place.key_file(), before.join("audit.key")).unwrap();
        // What the steps before the last one leave: made by a renewal of the same log, and put back.
        place.act(&clock).await;
        std::fs::rename(place.log(), state.join("audit.next")).unwrap();
        std::fs::rename(place.key_file(), keys.join("audit.key.next")).unwrap();
        std::fs::rename(before.join("audit.key"), place.key_file()).unwrap();
        if step == 0 {
            std::fs::rename(&before, place.log()).unwrap();
            place.act(&clock).await;
            let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
            assert!(renewed.aside.is_some() && renewed.is_ended && renewed.key != old);
        } else {
            if step == 2 {
                std::fs::rename(place.key_file(), keys.join("audit-before.key")).unwrap();
            }
            let refused = Auditor::open(&place.0, clock.clone(), Program::Run).await.err().unwrap();
            assert!(refused.what().contains("not finished"), "{refused}");
            let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
            assert!(renewed.aside.is_none() && renewed.key != old);
        }
        assert!(!state.join("audit.next").exists() && !keys.join("audit.key.next").exists());
        place.act(&clock).await;
    }
}
