//! What writers leave is proven, whatever stopped them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::{
    AnchorSeen, Anchored, Event, Evidence, Files, Given, HEADS_FILE, Hex, LOG_FILE, Log, Moment, Opener, Program,
    Report, RunEnding, SigningKey, verify,
};
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

pub(crate) fn opener(writer: &str) -> Opener {
    let writer = Hex::new(writer).unwrap();
    let (by, config, fips_module, anchor) = (None, None, None, AnchorSeen::None);
    let (program, former, because, in_force) = (Program::Run, None, None, None);
    Opener { writer, program, by, config, fips_module, anchor, former, because, in_force }
}

pub(crate) fn open(folder: &Path, writer: &str, seconds: i64) -> Log {
    Log::open(folder, key(1), moment(seconds), opener(writer)).unwrap()
}

/// What a folder has.
pub(crate) fn files(folder: &Path) -> Files<std::io::Cursor<Vec<u8>>> {
    let heads = std::io::Cursor::new(std::fs::read(folder.join(HEADS_FILE)).unwrap_or_default());
    Files { entries: std::io::Cursor::new(std::fs::read(folder.join(LOG_FILE)).unwrap()), heads }
}

/// The proof of a folder as it lies there, `seconds` after the start, with heads that were kept elsewhere.
pub(crate) fn proof(folder: &Path, seconds: i64, anchored: &[String]) -> Report {
    proof_of(&[folder], seconds, anchored, None)
}

/// As [`proof`], of a folder and those before it, and with the key of the MACs.
pub(crate) fn proof_of(folders: &[&Path], seconds: i64, anchored: &[String], key_file: Option<&SigningKey>) -> Report {
    let mut kept = Anchored::of_keys([key(1).public()]);
    anchored.iter().for_each(|line| kept.add(line));
    let evidence = Evidence {
        log: files(folders[0]),
        before: folders[1..].iter().map(|folder| files(folder)).collect(),
        anchored: &kept,
        key: Given { public: key(1).public(), macs: key_file.map(SigningKey::macs) },
        former_keys: vec![],
        now: moment(seconds).at,
    };
    verify(evidence).unwrap()
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
    assert_eq!((report.entries, report.proven, report.killed), (205, 205, 0));
    assert!(report.heads >= 4, "{report:?}");
}

#[test]
fn the_fips_module_is_said_where_there_is_one_and_logs_from_before_are_read() {
    let folder = Folder::new("fips");
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let before = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    assert!(before.contains("opened") && !before.contains("fips"), "{before}");
    let opener = Opener { fips_module: Some(4), ..opener("bb") };
    Log::open(&folder.0, key(1), moment(2), opener).unwrap().close(moment(3)).unwrap();
    let log = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    assert!(log.strip_prefix(&before).unwrap().contains(r#""program":"run","fips_module":4"#), "{log}");
    assert_eq!(proof(&folder.0, 4, &[]).findings, []);

    let text = r#"{"event":"opened","program":"run"}"#;
    let opened: Event = serde_json::from_str(text).unwrap();
    assert_eq!(opened, Event::Opened { program: Program::Run, by: None, config: None, fips_module: None });
    assert_eq!(serde_json::to_string(&opened).unwrap(), text);
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
    assert_eq!((report.findings.as_slice(), report.heads, report.proven), ([].as_slice(), 4, 7));
}

/// Bytes that this thread has read so far.
pub(crate) fn bytes_read() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn what_is_read_to_write_and_to_sign_does_not_grow_with_the_heads() {
    let folder = Folder::new("heads");
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let heads = folder.0.join(HEADS_FILE);
    let head = std::fs::read_to_string(&heads).unwrap();
    let head = head.lines().last().unwrap().to_owned() + "\n";
    std::fs::write(&heads, head.repeat(100_000)).unwrap();
    let (long, before) = (std::fs::metadata(&heads).unwrap().len(), bytes_read());
    let mut run = open(&folder.0, "bb", 2);
    let mut beside = open(&folder.0, "cc", 3);
    for minute in 1..=10 {
        for (log, second) in [(&mut run, 0), (&mut beside, 1)] {
            // A head of the other one has come in between, and the machine has stopped in the middle of the next.
            std::fs::OpenOptions::new().append(true).open(&heads).unwrap().write_all(b"{\"signature\":\"00").unwrap();
            log.append(moment(minute * 61 + 10 + second), Event::Heartbeat {}).unwrap().unwrap();
        }
    }
    let read = bytes_read() - before;
    assert!(read < 1 << 20 && long > 50 << 20, "{read} bytes were read, the heads have {long}");
    let text = std::fs::read_to_string(&heads).unwrap();
    assert_eq!(text.lines().count(), 100_020);
    assert!(text.lines().all(|line| line.ends_with('}')), "what was torn is gone");
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
    assert_eq!((report.findings.as_slice(), report.killed, report.proven), ([].as_slice(), 1, 6));
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
    let other = Log::open(&folder.0, key(2), moment(2), opener("bb"));
    assert!(other.is_err_and(|error| error.what().contains("not signed with this key")));
    let path = folder.0.join(LOG_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..=text.find('\n').unwrap()]).unwrap();
    let error = Log::open(&folder.0, key(1), moment(2), opener("bb")).err().unwrap();
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

/// A log of two processes before entries had MACs; its key has the seed 1.
fn without_macs(name: &str) -> (Folder, i64) {
    let folder = Folder::new(name);
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join(LOG_FILE), include_str!("without_macs/audit.jsonl")).unwrap();
    std::fs::write(folder.0.join(HEADS_FILE), include_str!("without_macs/heads.jsonl")).unwrap();
    (folder, (1_795_329_844_923_756 - START) / 1_000_000 + 1)
}

#[test]
fn a_log_without_macs_is_proven_and_goes_on_with_them() {
    let (folder, end) = without_macs("older");
    let report = proof_of(&[&folder.0], end + 9, &[], Some(&key(1)));
    assert_eq!((report.findings.as_slice(), report.proven, report.macs), ([].as_slice(), 6, 0));
    for (writer, after) in [("aa", 10), ("bb", 20)] {
        open(&folder.0, writer, end + after).close(moment(end + after + 1)).unwrap();
    }
    let text = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    let first_new = text.lines().nth(6).unwrap();
    assert!(first_new.contains(r#","mac":""#) && first_new.contains("macs_begun"), "{first_new}");
    assert_eq!(text.matches("macs_begun").count(), 1);
    let report = proof_of(&[&folder.0], end + 30, &[], Some(&key(1)));
    assert_eq!((report.findings.as_slice(), report.proven, report.macs), ([].as_slice(), 11, 5));
}

#[test]
fn a_clock_that_is_behind_where_macs_begin_accuses_nobody() {
    let (folder, end) = without_macs("behind");
    open(&folder.0, "aa", end - 3600).close(moment(end - 3599)).unwrap();
    let text = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    assert!(text.contains("macs_begun") && text.contains("clock_jumped"), "{text}");
    assert_eq!(proof_of(&[&folder.0], end + 1, &[], Some(&key(1))).findings, []);
    // It is found when it is not said.
    let unsaid: Vec<String> = text.lines().filter(|line| !line.contains("clock_jumped")).map(str::to_owned).collect();
    super::tampering::write(&folder.0, LOG_FILE, &super::tampering::rechained(&unsaid));
    let found = proof_of(&[&folder.0], end + 1, &[], None).findings;
    assert!(found.iter().any(|finding| matches!(finding, audit::Finding::Clock { line: 7, .. })), "{found:?}");
}

#[test]
fn lines_without_macs_are_taken_in_up_to_the_last_head_and_no_further() {
    let (folder, end) = without_macs("tail");
    let heads = include_str!("without_macs/heads.jsonl");
    for left in [heads.lines().next().unwrap().to_owned() + "\n", String::new()] {
        std::fs::write(folder.0.join(HEADS_FILE), left).unwrap();
        let error = Log::open(&folder.0, key(1), moment(end), opener("aa")).err().unwrap();
        assert!(error.what().contains("carries no MAC, and no signed head covers it"), "{error}");
    }
}

#[test]
fn a_new_log_names_the_head_that_its_anchor_had() {
    let folder = Folder::new("named");
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let line = std::fs::read_to_string(folder.0.join(HEADS_FILE)).unwrap();
    let foreign = include_str!("without_macs/heads.jsonl").lines().map(|line| line.replace("\"nth\":2", "\"nth\":3"));
    let lines: Vec<String> = line.lines().map(str::to_owned).chain(foreign).chain(["{}".to_owned()]).collect();
    let former = audit::newest_head(lines.iter().map(String::as_str), &key(1).public()).unwrap();
    assert_eq!(
        (former.head, former.entries),
        (1, 3),
        "the newest is that of the other log, and its second head is forged"
    );
    assert_eq!(audit::newest_head(lines.iter().map(String::as_str), &key(2).public()), None);
    let next = Folder::new("next");
    let opener = Opener { anchor: AnchorSeen::Head, former: Some(former.clone()), ..opener("bb") };
    Log::open(&next.0, key(1), moment(5), opener).unwrap().close(moment(6)).unwrap();
    let text = std::fs::read_to_string(next.0.join(LOG_FILE)).unwrap();
    let entry = audit::read_line(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        entry.what,
        Event::Begun { anchor: AnchorSeen::Head, former: Some(former), because: None, in_force: None }
    );
}
