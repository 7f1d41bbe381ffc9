//! Approvals of a policy are read back from the log, and count only as their writers left them.

use std::path::Path;

use audit::{Approval, Event, HEADS_FILE, Hash, Hex, LOG_FILE, Name, Standing};

use super::writing::{Folder, moment, open, proof};

fn file(text: &str) -> Hash {
    Hash::of(&[text.as_bytes()])
}

fn approved(by: &str, number: u32, text: &str) -> Event {
    Event::PolicyApproved { by: Name::new(by), number, file: file(text), policy: Hex::of(&[1]) }
}

fn in_force(text: &str) -> Event {
    let (from, approvers) = (None, vec![Name::new("alice"), Name::new("bob")]);
    let policy = Hex::of(&[1]);
    Event::PolicyInForce { from, file: file(text), policy, loosens: 1, alters: 0, tightens: 2, approvers }
}

fn approval(by: &str, number: u32, text: &str) -> Approval {
    Approval { by: Name::new(by), number, file: file(text) }
}

/// A log with these entries, each of a process of its own, all of them signed.
fn write(folder: &Path, events: &[Event]) {
    for (event, at) in events.iter().zip(1..) {
        let mut log = open(folder, &format!("a{at}"), at * 10);
        log.append(moment(at * 10 + 1), event.clone()).unwrap();
        log.close(moment(at * 10 + 2)).unwrap();
    }
}

fn standing(folder: &Path) -> change::Result<Standing> {
    open(folder, "ff", 1000).standing()
}

#[test]
fn approvals_count_from_the_last_policy_in_force_on() {
    let folder = Folder::new("approvals");
    assert_eq!(standing(&folder.0).unwrap(), Standing::default());
    write(&folder.0, &[approved("alice", 1, "new"), approved("bob", 2, "new"), Event::Heartbeat {}]);
    let both = vec![approval("bob", 2, "new"), approval("alice", 1, "new")];
    assert_eq!(standing(&folder.0).unwrap(), Standing { in_force: None, approvals: both });

    // What has come into force has used them up.
    write(&folder.0, &[in_force("new"), approved("carol", 3, "next"), Event::Heartbeat {}]);
    let one = vec![approval("carol", 3, "next")];
    assert_eq!(standing(&folder.0).unwrap(), Standing { in_force: Some(file("new")), approvals: one });
    write(&folder.0, &[in_force("next")]);
    assert_eq!(standing(&folder.0).unwrap(), Standing { in_force: Some(file("next")), approvals: vec![] });
}

#[test]
fn approvals_that_nobody_signed_yet_are_read_too() {
    let folder = Folder::new("unsigned");
    let mut log = open(&folder.0, "aa", 0);
    log.append(moment(1), in_force("old")).unwrap();
    let mut beside = open(&folder.0, "bb", 2);
    beside.append(moment(3), approved("alice", 1, "new")).unwrap();
    let heads = std::fs::read_to_string(folder.0.join(HEADS_FILE)).unwrap();
    assert!(heads.lines().count() == 1 && heads.contains(r#""entries":2"#));
    let approvals = vec![approval("alice", 1, "new")];
    assert_eq!(log.standing().unwrap(), Standing { in_force: Some(file("old")), approvals });
    // It goes on behind what it has read.
    log.append(moment(4), approved("bob", 2, "new")).unwrap();
    assert_eq!(beside.standing().unwrap().approvals.len(), 2);
    beside.close(moment(5)).unwrap();
    log.close(moment(6)).unwrap();
    assert_eq!(proof(&folder.0, 7, &[]).findings, []);
}

/// The log's text with the line of an event changed.
fn change(folder: &Path, event: &str, change: impl Fn(&str) -> String) {
    let path = folder.join(LOG_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let changed: Vec<String> =
        text.lines().map(|line| if line.contains(event) { change(line) } else { line.to_owned() }).collect();
    let changed = changed.join("\n") + "\n";
    assert!(changed != text && changed.len() == text.len());
    std::fs::write(&path, changed).unwrap();
}

/// The same line with another MAC.
fn without_key(line: &str) -> String {
    let (before, mac) = line.split_once("\"mac\":\"").unwrap();
    format!("{before}\"mac\":\"{}{}", if mac.starts_with('0') { '1' } else { '0' }, &mac[1..])
}

#[test]
fn what_somebody_without_the_key_has_changed_does_not_count() {
    let refused = |folder: &Path, why: &str| {
        let error = standing(folder).unwrap_err();
        assert!(error.kind() == change::Kind::Privacy && error.what().contains(why), "{error}");
    };
    let entries = [in_force("old"), approved("alice", 1, "new"), Event::Heartbeat {}];
    let folder = Folder::new("mac");
    write(&folder.0, &entries);
    change(&folder.0, "policy_approved", without_key);
    assert_eq!(standing(&folder.0).unwrap(), Standing { in_force: Some(file("old")), approvals: vec![] });

    let folder = Folder::new("force");
    write(&folder.0, &entries);
    change(&folder.0, "policy_in_force", without_key);
    refused(&folder.0, "without its key");

    let folder = Folder::new("body");
    write(&folder.0, &entries);
    change(&folder.0, "policy_approved", |line| line.replace("alice", "malic"));
    refused(&folder.0, "chain of hashes");

    // A line of before in the place of another: its own hash and MAC hold.
    let folder = Folder::new("again");
    write(&folder.0, &[approved("alice", 1, "new"), in_force("old"), approved("clara", 1, "odd")]);
    let text = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    let of_alice = text.lines().find(|line| line.contains("alice") && !line.contains("in_force")).unwrap();
    change(&folder.0, "clara", |_| of_alice.to_owned());
    refused(&folder.0, "chain of hashes");
}
