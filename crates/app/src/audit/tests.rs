use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::audit::{
    Because, Event, Evidence, Files, Finding, Given, HEADS_FILE, Heads, HeadsKnown, LOG_FILE, Log, Moment, Program,
    PublicKey, Report, verify,
};
use change::{Clock, Kind, Timestamp};
use tokio::time::Instant;

use super::anchor::Anchor;
use super::copies::Copies;
use super::{Auditor, folder, key, opener, renew, set_aside};
use crate::project::{Project, ProjectFile};

const START: Timestamp = 1_700_000_000_000_000;

/// The time of the runtime, which a test can let pass.
struct RuntimeClock(Instant);

impl RuntimeClock {
    fn begun() -> Arc<dyn Clock> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        START + self.monotonic().as_micros() as Timestamp
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A project folder that goes with the test.
struct Place(Project);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lockgate-auditor-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join(".lockgate")).unwrap();
        let (file, file_text, policy_text) = (ProjectFile::default(), String::new(), String::new());
        Self(Project { dir, file, file_text, policy_text })
    }

    fn log(&self) -> PathBuf {
        folder(&self.0.state_dir())
    }

    fn key_file(&self) -> PathBuf {
        self.0.dir.join("keys/audit.key")
    }

    async fn act(&self, clock: &Arc<dyn Clock>) {
        let auditor = Auditor::open(&self.0, clock.clone(), Program::Keys).await.unwrap();
        auditor.record(Event::KeysShown {}).unwrap();
        auditor.close().await.unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.log().join(LOG_FILE)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
    }
}

fn public(folder: &Path) -> PublicKey {
    PublicKey::parse(&std::fs::read_to_string(folder.join("audit.pub")).unwrap()).unwrap()
}

fn proof(folders: &[PathBuf], now: Timestamp) -> Report {
    let files = |folder: &PathBuf| {
        let read = |name: &str| std::io::Cursor::new(std::fs::read(folder.join(name)).unwrap_or_default());
        Files { entries: read(LOG_FILE), heads: read(HEADS_FILE) }
    };
    let key = Given { public: public(&folders[0]), macs: None };
    let (log, before) = (files(&folders[0]), folders[1..].iter().map(files).collect());
    verify(Evidence { log, before, anchored: vec![], key, former_keys: vec![], now }).unwrap()
}

fn objects(anchor: &Path) -> usize {
    let below = std::fs::read_dir(anchor).into_iter().flatten().flatten().map(|entry| entry.path());
    below.map(|path| if path.is_dir() { objects(&path) } else { 1 }).sum()
}

#[tokio::test(start_paused = true)]
async fn a_command_that_takes_long_lives_in_the_log_and_leaves_nothing_unsigned() {
    for program in [Program::Remask, Program::Run] {
        let (place, clock) = (Place::new(&format!("long-{program:?}")), RuntimeClock::begun());
        let auditor = Auditor::open(&place.0, clock.clone(), program).await.unwrap();
        // As when a database, or a lake, is waited for before there is anything to say.
        tokio::time::sleep(Duration::from_secs(1200)).await;
        let report = proof(&[place.log()], clock.now());
        assert!(report.findings.is_empty() && report.entries - report.proven <= 1, "{report:?}");
        let beats = place.text().matches("heartbeat").count();
        assert!((17..=20).contains(&beats), "{beats} heartbeats in 20 minutes");
        auditor.record(Event::KeysShown {}).unwrap();
        auditor.close().await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(proof(&[place.log()], clock.now()).findings, []);
        assert!(place.text().trim_end().ends_with(r#"{"event":"closed"}}}"#), "nothing comes behind the end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_exchanged_under_a_process_is_said_to_whoever_waits_for_it() {
    let (place, clock) = (Place::new("exchanged"), RuntimeClock::begun());
    let auditor = Auditor::open(&place.0, clock.clone(), Program::Run).await.unwrap();
    let path = place.log().join(LOG_FILE);
    std::fs::rename(&path, path.with_extension("1")).unwrap();
    tokio::time::timeout(Duration::from_secs(120), auditor.refused()).await.unwrap();
    assert_eq!(auditor.record(Event::KeysShown {}).unwrap_err().kind(), Kind::Privacy);
    assert!(auditor.close().await.is_err() && !path.exists());
}

#[tokio::test]
async fn heads_that_an_anchor_missed_are_copied_later_also_by_another_process() {
    let place = Place::new("missed");
    let (log_folder, anchor) = (place.log(), place.0.dir.join("anchor"));
    let at = || async { Anchor::at(&anchor.to_string_lossy(), Vec::new()).await.unwrap() };
    std::fs::create_dir_all(&log_folder).unwrap();
    let copies = Copies::of(&log_folder, at().await).unwrap();
    key::make(&place.key_file()).unwrap();
    let moment = |second: u64| Moment { at: START + second as i64 * 1_000_000, monotonic: Duration::from_secs(second) };
    let secret = key::read(&place.key_file()).unwrap();
    let mut log = Log::open(&log_folder, secret, moment(0), opener(Program::Run).unwrap()).unwrap();
    for minute in 1..150 {
        log.append(moment(minute * 60), Event::Heartbeat {}).unwrap().expect("a head is due");
    }

    // Where its folder should be there is something else.
    let blocked = anchor.join("lockgate-audit");
    std::fs::create_dir_all(&anchor).unwrap();
    std::fs::write(&blocked, "").unwrap();
    copies.send().await.unwrap_err();
    std::fs::remove_file(&blocked).unwrap();
    assert!(!copies.send().await.unwrap(), "there are more than are copied at a time");
    assert_eq!(objects(&anchor), 65, "the newest one is among the first");
    let (head, line) = Heads::of(&log_folder).newest().unwrap().unwrap();
    let newest = at().await.from(&log.id(), head.nth, &log.public_key()).await.unwrap();
    assert_eq!(newest, [(head, line)]);

    let next = Copies::of(&log_folder, at().await).unwrap();
    assert_eq!(next.lacking(log.id(), &log.public_key()).await.unwrap(), None);
    while !next.send().await.unwrap() {}
    assert_eq!(objects(&anchor), 150);
    // An anchor that is new, or a mark that is gone, gets what comes from here on.
    std::fs::remove_file(log_folder.join("anchored.json")).unwrap();
    let anew = Copies::of(&log_folder, at().await).unwrap();
    log.append(moment(9000), Event::Heartbeat {}).unwrap();
    assert!(anew.send().await.unwrap());
    assert_eq!(objects(&anchor), 151);
}

#[tokio::test]
async fn a_log_that_was_set_back_says_for_good_what_its_anchor_has() {
    let (mut place, clock) = (Place::new("set-back"), RuntimeClock::begun());
    place.0.file.audit.anchor = Some("./anchor".into());
    place.act(&clock).await;
    let (log, kept) = (place.log(), place.0.dir.join("kept"));
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for file in std::fs::read_dir(from).unwrap().flatten() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    copy(&log, &kept);
    place.act(&clock).await;
    assert_eq!(proof(&[place.log()], clock.now()).findings, []);
    std::fs::remove_dir_all(&log).unwrap();
    copy(&kept, &log);
    place.act(&clock).await;
    place.act(&clock).await;
    // Without the anchor, even.
    let found = proof(&[place.log()], clock.now()).findings;
    let known = |finding: &Finding| {
        matches!(finding, Finding::HeadsMissing { known: HeadsKnown::Anchor, head: 3, left: 2, .. })
    };
    assert!(found.len() == 1 && known(&found[0]), "{found:?}");
}

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
