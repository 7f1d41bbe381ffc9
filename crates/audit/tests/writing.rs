//! What writers leave is proven, whatever stopped them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::{Event, Evidence, HEADS_FILE, Hex, LOG_FILE, Log, Moment, Program, Report, RunEnding, SigningKey, verify};
use zeroize::Zeroizing;

pub(crate) const START: i64 = 1_700_000_000_000_000;

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockgate-audit-{name}-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::parse(&SigningKey::generate(&Zeroizing::new([seed; 32]))).unwrap()
}

pub(crate) fn moment(seconds: i64) -> Moment {
    Moment { at: START + seconds * 1_000_000, monotonic: Duration::from_secs(seconds.unsigned_abs()) }
}

pub(crate) fn open(folder: &Path, writer: &str, seconds: i64) -> Log {
    Log::open(folder, key(1), Hex::new(writer).unwrap(), moment(seconds), Program::Run).unwrap()
}

/// The proof of a folder as it lies there, `seconds` after the start, with heads that were kept elsewhere.
pub(crate) fn proof(folder: &Path, seconds: i64, anchored: &[String]) -> Report {
    let heads = std::fs::read_to_string(folder.join(HEADS_FILE)).unwrap_or_default();
    let log = std::fs::read(folder.join(LOG_FILE)).unwrap();
    let (anchored, now) = (anchored.to_vec(), moment(seconds).at);
    verify(Evidence { log: log.as_slice(), heads: &heads, anchored, key: key(1).public(), now }).unwrap()
}

#[test]
fn a_log_of_several_processes_is_proven_to_its_end() {
    let folder = Folder::new("several");
    let mut run = open(&folder.0, "aa", 0);
    for second in 1..200 {
        run.append(moment(second), Event::Heartbeat {}).unwrap();
        if second == 100 {
            let mut beside = open(&folder.0, "bb", second);
            beside.append(moment(second), Event::RunStopped { ending: RunEnding::Done }).unwrap();
            beside.close(moment(second)).unwrap();
        }
    }
    run.close(moment(200)).unwrap();
    let report = proof(&folder.0, 100_000, &[]);
    assert_eq!(report.findings, []);
    assert_eq!((report.entries, report.proven, report.killed), (204, 204, 0));
    assert!(report.heads >= 4, "{report:?}");
}

#[test]
fn heads_that_others_sign_without_another_entry_are_followed() {
    let folder = Folder::new("signed");
    let mut first = open(&folder.0, "aa", 0);
    first.append(moment(1), Event::Heartbeat {}).unwrap();
    // It has taken in every entry there is, and a head comes after that.
    let mut second = open(&folder.0, "bb", 2);
    first.sign_now(moment(3)).unwrap().unwrap();
    assert_eq!(second.sign_now(moment(4)).unwrap(), None, "everything is signed");
    first.append(moment(5), Event::Closed {}).unwrap();
    second.append(moment(6), Event::Heartbeat {}).unwrap();
    first.sign_now(moment(7)).unwrap().unwrap();
    second.close(moment(8)).unwrap().unwrap();
    let report = proof(&folder.0, 9, &[]);
    assert_eq!((report.findings.as_slice(), report.heads, report.proven), ([].as_slice(), 3, 6));
}

#[test]
fn a_killed_writer_is_counted_and_what_was_torn_is_said() {
    let folder = Folder::new("killed");
    let mut run = open(&folder.0, "aa", 0);
    run.append(moment(1), Event::Heartbeat {}).unwrap();
    drop(run);
    let path = folder.0.join(LOG_FILE);
    let mut text = std::fs::read(&path).unwrap();
    let whole = text.len();
    text.extend_from_slice(b"{\"hash\":\"00");
    std::fs::write(&path, &text).unwrap();
    let next = open(&folder.0, "bb", 30);
    assert!(std::fs::read_to_string(&path).unwrap()[whole..].contains(r#""event":"recovered","torn_bytes":11"#));
    next.close(moment(31)).unwrap();
    let report = proof(&folder.0, 32, &[]);
    assert_eq!((report.findings.as_slice(), report.killed, report.proven), ([].as_slice(), 1, 5));
}

#[test]
fn a_writer_says_that_the_clock_was_set() {
    let folder = Folder::new("clock");
    let mut run = open(&folder.0, "aa", 0);
    let set = Moment { at: moment(3600).at, monotonic: Duration::from_secs(2) };
    run.append(set, Event::Heartbeat {}).unwrap();
    run.close(set).unwrap();
    assert!(std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap().contains(r#""micros":3598000000"#));
    assert_eq!(proof(&folder.0, 3600, &[]).findings, []);
}

#[test]
fn a_log_that_became_shorter_or_has_another_key_is_not_written() {
    let folder = Folder::new("shorter");
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let other = Log::open(&folder.0, key(2), Hex::new("bb").unwrap(), moment(2), Program::Run);
    assert!(other.is_err_and(|error| error.what().contains("not signed with this key")));
    let path = folder.0.join(LOG_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..=text.find('\n').unwrap()]).unwrap();
    let error = Log::open(&folder.0, key(1), Hex::new("bb").unwrap(), moment(2), Program::Run).err().unwrap();
    assert!(error.what().contains("shorter") && error.how_to_fix().unwrap().contains("audit verify"));
}

#[test]
fn a_key_file_is_read_back_and_a_damaged_one_refused_without_its_digits() {
    let text = SigningKey::generate(&Zeroizing::new([7; 32]));
    assert_eq!(SigningKey::parse(&text).unwrap().public(), key(7).public());
    for wrong in ["", "lockgate-audit-key 1\nsecret 0707", "lockgate-audit-key 2\nsecret 00"] {
        let error = SigningKey::parse(wrong).err().unwrap();
        assert!(!error.to_string().contains("0707"));
    }
}
