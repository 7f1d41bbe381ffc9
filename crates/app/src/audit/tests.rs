mod copying;
mod renewing;
mod starting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::audit::{
    Anchored, Because, Event, Evidence, Files, Finding, Given, HEADS_FILE, Hash, Heads, HeadsKnown, LOG_FILE, Log,
    Moment, Program, PublicKey, Report, verify,
};
use change::{Clock, Kind, Timestamp};
use tokio::time::Instant;

use super::anchor::Anchor;
use super::copies::Copies;
use super::hold::Hold;
use super::renewal::{self, Keys, STAGED};
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

    /// The folder of the anchor that [`Place::with_anchor`] names.
    fn anchor(&self) -> PathBuf {
        self.0.dir.join("anchor")
    }

    fn with_anchor(name: &str) -> Self {
        let mut place = Self::new(name);
        place.0.file.audit.anchor = Some("./anchor".into());
        place
    }

    fn key(&self) -> PublicKey {
        key::read(&self.key_file()).unwrap().public()
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
    proof_with(folders, &[public(&folders[0])], now)
}

/// As [`proof`], with these keys, the newest first.
fn proof_with(folders: &[PathBuf], keys: &[PublicKey], now: Timestamp) -> Report {
    let files = |folder: &PathBuf| {
        let read = |name: &str| std::io::Cursor::new(std::fs::read(folder.join(name)).unwrap_or_default());
        Files { entries: read(LOG_FILE), heads: read(HEADS_FILE) }
    };
    let mut given = keys.iter().map(|key| Given { public: *key, macs: None });
    let (log, before) = (files(&folders[0]), folders[1..].iter().map(files).collect());
    let (key, former_keys) = (given.next().unwrap(), given.collect());
    verify(Evidence { log, before, anchored: &Anchored::default(), key, former_keys, now }).unwrap()
}

/// What lies below a folder.
fn objects(anchor: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(anchor).into_iter().flatten().flatten().map(|entry| entry.path());
    below.flat_map(|path| if path.is_dir() { objects(&path) } else { vec![path] }).collect()
}

/// The lines of heads that lie below a folder, in their order.
fn kept(anchor: &Path) -> Vec<String> {
    let mut lines: Vec<String> = objects(anchor).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    lines.sort();
    lines
}

/// The heads that a log has, in the order of [`kept`].
fn signed(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log.join(HEADS_FILE)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
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
