//! A log that is set aside, and the one after it.

use super::*;
use crate::secrets::Reference;

#[tokio::test]
async fn a_log_whose_key_is_lost_is_set_aside_and_another_begins() {
    let (place, clock) = (Place::new("lost"), RuntimeClock::begun());
    let renew_for = |because| renew(&place.0, because, clock.clone());
    assert_eq!(renew_for(Because::KeyLost).await.err().unwrap().kind(), Kind::Config, "there is no log");
    place.act(&clock).await;
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

/// The project after so many steps of a renewal.
async fn killed_at(step: usize, place: &Place, clock: &Arc<dyn Clock>) {
    let because = Because::KeyExposed;
    let (state, log, own) = (place.0.state_dir(), place.log(), place.key_file());
    let keys = Keys::of(&place.0, &log, because).unwrap();
    let old = keys.old.unwrap().fingerprint();
    renewal::empty(&state.join(STAGED)).unwrap();
    if step > 0 {
        assert!(renewal::end(&place.0, &log, because, &**clock).unwrap());
    }
    if step > 1 {
        renewal::stage(&place.0, keys, None, because, &**clock).await.unwrap();
    }
    if step > 2 {
        std::fs::rename(&log, renewal::name_aside(&state, &log).unwrap()).unwrap();
    }
    if step > 3 {
        std::fs::rename(&own, own.with_file_name(format!("audit-{}.key", old.as_str()))).unwrap();
    }
    if step > 4 {
        std::fs::rename(own.with_extension("key.next"), &own).unwrap();
    }
}

/// A kill between any two steps leaves the log that was there, or what the same command finishes.
#[tokio::test]
async fn a_renewal_that_was_killed_is_finished_by_the_same_command_and_by_no_other() {
    for step in 0..6 {
        let (place, clock) = (Place::new(&format!("killed-{step}")), RuntimeClock::begun());
        place.act(&clock).await;
        let (state, old) = (place.0.state_dir(), place.key());
        killed_at(step, &place, &clock).await;
        let refused = Auditor::open(&place.0, clock.clone(), Program::Run).await.err().unwrap();
        assert!(refused.what().contains("not finished"), "{step}: {refused}");
        let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
        assert!(renewed.key != old && renewed.key == place.key(), "{step}");
        assert!(renewed.aside.is_some() == (step < 3) && renewed.is_ended == (step < 3), "{step}");
        assert!(!state.join(STAGED).exists() && !place.key_file().with_extension("key.next").exists(), "{step}");
        place.act(&clock).await;
        let begun = place.text().lines().next().unwrap().to_owned();
        assert!(begun.contains(r#""because":"key_exposed""#) && begun.contains(&old.to_string()), "{step}: {begun}");
        let mut logs = set_aside(&state).unwrap();
        assert_eq!(logs.len(), 1, "{step}");
        logs.insert(0, place.log());
        let both = proof_with(&logs, &[renewed.key, old], clock.now());
        assert!(both.is_proven() && !both.before[0].key_was_named, "{step}: {both:?}");
    }
}

/// The log of somebody else, with their key beside it, in the place of the project's.
fn exchange(place: &Place, clock: &Arc<dyn Clock>) -> PublicKey {
    std::fs::remove_dir_all(place.log()).unwrap();
    let theirs = place.0.dir.join("theirs.key");
    key::make(&theirs).unwrap();
    let theirs = key::read(&theirs).unwrap();
    let public = theirs.public();
    let log = Log::open(&place.log(), theirs, Moment::of(&**clock), opener(&place.0, Program::Run).unwrap()).unwrap();
    log.close(Moment::of(&**clock)).unwrap();
    public
}

#[tokio::test]
async fn a_log_that_was_exchanged_with_its_key_is_set_aside_and_not_vouched_for() {
    for because in [Because::Damaged, Because::KeyExposed] {
        let (place, clock) = (Place::new(&format!("exchanged-{because:?}")), RuntimeClock::begun());
        place.act(&clock).await;
        let genuine = place.key();
        let theirs = exchange(&place, &clock);
        let refused = Auditor::open(&place.0, clock.clone(), Program::Run).await.err().unwrap();
        assert!(refused.how_to_fix().unwrap().contains("renew --because damaged"), "{refused}");
        let renewed = renew(&place.0, because, clock.clone()).await.unwrap();
        assert!(!renewed.is_ended && !place.text().contains(&theirs.to_string()), "{because:?}");
        let logs = [place.log(), renewed.aside.unwrap()];
        for keys in [vec![renewed.key], vec![renewed.key, genuine]] {
            let found = proof_with(&logs, &keys, clock.now());
            let signed_by_another = |finding: &Finding| matches!(finding, Finding::Signature { head: 1, .. });
            assert!(found.before[0].findings.iter().any(signed_by_another), "{because:?}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_key_that_was_exposed_does_not_stay_whatever_the_folder_shows() {
    let (place, clock) = (Place::new("stays"), RuntimeClock::begun());
    place.act(&clock).await;
    let old = place.key();
    let other = place.0.dir.join("other.key");
    key::make(&other).unwrap();
    let shown = format!("{}\n", key::read(&other).unwrap().public());
    std::fs::write(place.log().join("audit.pub"), &shown).unwrap();
    let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
    assert!(renewed.is_ended && renewed.key != old && renewed.key == place.key());
    assert!(proof_with(&[place.log(), renewed.aside.unwrap()], &[renewed.key, old], clock.now()).is_proven());

    // Where the user names the key, another one is asked for.
    let (mut place, clock) = (Place::with_anchor("stays-named"), RuntimeClock::begun());
    place.act(&clock).await;
    std::fs::rename(place.key_file(), place.0.dir.join("named.key")).unwrap();
    place.0.file.audit.key = Some(Reference::parse("${file:./named.key}").unwrap());
    std::fs::write(place.log().join("audit.pub"), &shown).unwrap();
    let refused = renew(&place.0, Because::KeyExposed, clock.clone()).await.err().unwrap();
    assert!(refused.what().contains("still names the key"), "{refused}");
    assert!(renew(&place.0, Because::KeyLost, clock.clone()).await.err().unwrap().what().contains("not lost"));
    // Also where nothing is left in the folder that it has signed.
    exchange(&place, &clock);
    let refused = renew(&place.0, Because::KeyExposed, clock.clone()).await.err().unwrap();
    assert!(refused.what().contains("still names the key"), "{refused}");
    assert!(!place.0.state_dir().join(STAGED).exists());
}

#[tokio::test]
async fn a_log_whose_entries_are_gone_is_set_aside_as_any_other() {
    for (name, is_removed, has_key) in [("emptied", false, true), ("removed", true, true), ("keyless", true, false)] {
        let (place, clock) = (Place::new(name), RuntimeClock::begun());
        place.act(&clock).await;
        let (old, text, entries) = (place.key(), place.text(), place.log().join(LOG_FILE));
        match is_removed {
            true => std::fs::remove_file(&entries).unwrap(),
            false => std::fs::write(&entries, "").unwrap(),
        }
        if !has_key {
            std::fs::remove_file(place.key_file()).unwrap();
        }
        let refused = Auditor::open(&place.0, clock.clone(), Program::Run).await.err().unwrap();
        let (because, word) = if has_key { (Because::Damaged, "damaged") } else { (Because::KeyLost, "key-lost") };
        assert!(refused.how_to_fix().unwrap().contains(&format!("renew --because {word}")), "{name}: {refused}");
        let renewed = renew(&place.0, because, clock.clone()).await.unwrap();
        place.act(&clock).await;
        assert!(place.text().lines().next().unwrap().contains(&text[9..73]), "{name}: the log is named");
        let aside = renewed.aside.unwrap();
        assert_eq!(set_aside(&place.0.state_dir()).unwrap(), std::slice::from_ref(&aside));
        let found = proof_with(&[place.log(), aside], &[renewed.key, old], clock.now());
        assert!(found.before[0].findings.contains(&Finding::Empty), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn what_lies_in_the_place_of_a_log_does_not_hide_the_one_before() {
    let (place, clock) = (Place::with_anchor("byte"), RuntimeClock::begun());
    place.act(&clock).await;
    let put = |text: &str| {
        std::fs::remove_dir_all(place.log()).unwrap();
        std::fs::create_dir(place.log()).unwrap();
        std::fs::write(place.log().join(LOG_FILE), text).unwrap();
    };
    let begun = || place.text().lines().next().unwrap().to_owned();
    let first = place.text()[9..73].to_owned();
    // A disk that is full at the first write leaves such a line too.
    put("{");
    place.act(&clock).await;
    assert!(begun().contains(r#""anchor":"head""#) && begun().contains(&first), "{}", begun());
    let second = begun()[9..73].to_owned();
    put("no entry\n");
    assert!(Auditor::open(&place.0, clock.clone(), Program::Run).await.is_err());
    renew(&place.0, Because::Damaged, clock.clone()).await.unwrap();
    assert!(begun().contains(r#""anchor":"head""#) && begun().contains(&second), "{}", begun());
}

#[tokio::test]
async fn a_renewal_waits_for_what_has_the_log_open_and_others_wait_for_it() {
    let (place, clock) = (Place::new("waits"), RuntimeClock::begun());
    place.act(&clock).await;
    let auditor = Auditor::open(&place.0, clock.clone(), Program::Reveal).await.unwrap();
    let renewing = renew(&place.0, Because::KeyExposed, clock.clone());
    tokio::pin!(renewing);
    let short = Duration::from_millis(200);
    assert!(tokio::time::timeout(short, &mut renewing).await.is_err(), "the log is open");
    assert!(!place.0.state_dir().join(STAGED).exists());
    auditor.record(Event::KeysShown {}).unwrap();
    // Whoever still has it after its end keeps nobody waiting.
    auditor.close().await.unwrap();
    let renewed = renewing.await.unwrap();
    assert!(proof(&[place.log(), renewed.aside.unwrap()], clock.now()).is_proven());

    let alone = Hold::alone(&place.0.state_dir()).await.unwrap();
    let opening = Auditor::open(&place.0, clock.clone(), Program::Reveal);
    tokio::pin!(opening);
    assert!(tokio::time::timeout(short, &mut opening).await.is_err(), "a renewal goes on");
    std::fs::rename(place.log(), place.0.dir.join("away")).unwrap();
    renewal::empty(&place.0.state_dir().join(STAGED)).unwrap();
    drop(alone);
    assert!(opening.await.err().unwrap().what().contains("not finished"));
    assert!(!place.log().exists(), "nobody begins a log between two steps");
    // Where there is nothing to set aside, the way is free again.
    let nothing = renew(&place.0, Because::KeyExposed, clock.clone()).await.err().unwrap();
    assert!(nothing.what().contains("no audit log"), "{nothing}");
    place.act(&clock).await;
}

#[tokio::test]
async fn a_renewal_whose_anchor_is_away_has_succeeded() {
    let (place, clock) = (Place::with_anchor("renewed-away"), RuntimeClock::begun());
    place.act(&clock).await;
    let (old, before) = (place.key(), kept(&place.anchor()).len());
    let (there, away) = (place.anchor().join("lockgate-audit"), place.0.dir.join("away"));
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(&there, "").unwrap();
    let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
    assert!(renewed.key != old && renewed.aside.is_some());
    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    place.act(&clock).await;
    let kept = kept(&place.anchor());
    assert!(signed(&place.log()).iter().all(|head| kept.contains(head)) && kept.len() > before);
}
