//! A log that goes on under another key after the one before it was set aside.

use std::path::Path;

use audit::{
    AnchorSeen, Anchored, Because, Event, Evidence, Finding, Former, Given, HEADS_FILE, Hash, LOG_FILE, Log, Opener,
    Program, Report, verify,
};

use super::tampering::lines;
use super::writing::{Folder, files, key, moment, open, opener};

/// A log under key 1 and, with key 2, the one after it.
fn renewed(name: &str) -> (Folder, Folder) {
    let (old, new) = (Folder::new(&format!("{name}-old")), Folder::new(&format!("{name}-new")));
    open(&old.0, "aa", 0).close(moment(1)).unwrap();
    let heads = lines(&old.0, HEADS_FILE);
    let former = audit::newest_head(heads.iter().map(String::as_str), &key(1).public()).unwrap();
    let former = Some(Former { key: Some(key(1).public()), ..former });
    let opener = Opener { anchor: AnchorSeen::None, former, because: Some(Because::KeyLost), ..opener("bb") };
    Log::open(&new.0, key(2), moment(10), opener).unwrap().close(moment(11)).unwrap();
    (old, new)
}

fn proof(folders: &[&Path], anchored: &[String], keys: &[u8]) -> Report {
    // Heads of other keys are kept too: logs may name them.
    let mut kept = Anchored::of_keys(keys.first().map(|seed| key(*seed).public()));
    anchored.iter().for_each(|line| kept.add(line));
    let mut keys = keys.iter().map(|seed| Given { public: key(*seed).public(), macs: None });
    let evidence = Evidence {
        log: files(folders[0]),
        before: folders[1..].iter().map(|folder| files(folder)).collect(),
        anchored: &kept,
        key: keys.next().unwrap(),
        former_keys: keys.collect(),
        now: moment(100).at,
    };
    verify(evidence).unwrap()
}

#[test]
fn the_log_before_is_asked_for_and_proven_with_its_own_key() {
    let (old, new) = renewed("asked");
    let alone = proof(&[&new.0], &[], &[2]);
    assert!(matches!(alone.findings.as_slice(), [Finding::OtherLog { heads: 0, entries: 3, .. }]), "{alone:?}");
    let anchored: Vec<String> = [&old, &new].iter().flat_map(|folder| lines(&folder.0, HEADS_FILE)).collect();
    let beside = proof(&[&new.0], &anchored, &[2]);
    assert!(matches!(beside.findings.as_slice(), [Finding::OtherLog { heads: 2, .. }]), "{beside:?}");

    let named = proof(&[&new.0, &old.0], &anchored, &[2]);
    assert!(named.is_proven() && named.before[0].key_was_named && named.before[0].anchored == 2, "{named:?}");
    let given = proof(&[&new.0, &old.0], &anchored, &[2, 1]);
    assert!(given.is_proven() && !given.before[0].key_was_named, "{given:?}");
    // The newest log is of the first key and of no other.
    assert!(!proof(&[&new.0, &old.0], &anchored, &[1, 2]).is_proven());
}

#[test]
fn a_log_of_a_third_key_is_neither_proven_nor_passed_over() {
    let (old, new) = renewed("third");
    let other = Folder::new("third");
    let mut third = Log::open(&other.0, key(3), moment(0), opener("cc")).unwrap();
    third.append(moment(1), Event::Heartbeat {}).unwrap();
    third.close(moment(2)).unwrap();
    let report = proof(&[&new.0, &other.0, &old.0], &[], &[2]);
    assert!(report.before[1].findings.is_empty() && report.before[1].key_was_named, "{report:?}");
    assert!(
        report.before[0].findings.contains(&Finding::Signature { head: 1, later: 1, anchored: false }),
        "{report:?}"
    );
    let anchored = lines(&other.0, HEADS_FILE);
    let report = proof(&[&new.0, &old.0], &anchored, &[2]);
    assert_eq!(report.findings, [Finding::ForeignHeads { heads: 2 }]);
}

#[test]
fn a_log_before_that_is_not_what_was_set_aside_is_found() {
    let (old, new) = renewed("exchanged");
    // Whoever has the key of before writes on in the log that was set aside, or writes it anew.
    let first = lines(&old.0, HEADS_FILE);
    open(&old.0, "dd", 20).close(moment(21)).unwrap();
    assert!(proof(&[&new.0, &old.0], &[], &[2]).is_proven(), "what was there is there");
    std::fs::write(old.0.join(HEADS_FILE), format!("{}\n", first[0])).unwrap();
    let report = proof(&[&new.0, &old.0], &[], &[2]);
    assert!(report.before[0].findings.contains(&Finding::HeadGone { head: 2, later: 0 }), "{report:?}");
    assert_eq!(report.log, Hash::parse(&lines(&new.0, LOG_FILE)[0][9..73]));
}

/// The log after another one, which is under this key and names that of the other where it says so.
fn after(name: &str, old: (&Folder, u8), seed: u8, because: Because, named: Option<u8>) -> Folder {
    let new = Folder::new(name);
    let heads = lines(&old.0.0, HEADS_FILE);
    let former = audit::newest_head(heads.iter().map(String::as_str), &key(old.1).public()).unwrap();
    let former = Some(Former { key: named.map(|seed| key(seed).public()), ..former });
    let opener = Opener { anchor: AnchorSeen::None, former, because: Some(because), ..opener("bb") };
    Log::open(&new.0, key(seed), moment(10), opener).unwrap().close(moment(11)).unwrap();
    new
}

#[test]
fn a_key_that_stayed_is_named_by_the_log_after_it_too() {
    let first = Folder::new("stayed-1");
    open(&first.0, "aa", 0).close(moment(1)).unwrap();
    let second = after("stayed-2", (&first, 1), 1, Because::Damaged, None);
    let third = after("stayed-3", (&second, 1), 2, Because::KeyExposed, Some(1));
    for folders in [[&third.0, &second.0, &first.0], [&third.0, &first.0, &second.0]] {
        let folders = folders.map(std::path::PathBuf::as_path);
        let report = proof(&folders, &[], &[2]);
        assert!(report.is_proven() && report.before.iter().all(|before| before.key_was_named), "{report:?}");
        let given = proof(&folders, &[], &[2, 1]);
        assert!(given.is_proven() && !given.before.iter().any(|before| before.key_was_named), "{given:?}");
    }
}

#[test]
fn a_key_that_changed_without_a_reason_is_not_taken_from_the_log_after_it() {
    let forged = Folder::new("unreasoned-1");
    Log::open(&forged.0, key(3), moment(0), opener("aa")).unwrap().close(moment(1)).unwrap();
    let damaged = after("unreasoned-2", (&forged, 3), 1, Because::Damaged, Some(3));
    let report = proof(&[&damaged.0, &forged.0], &[], &[1]);
    assert!(report.findings.is_empty() && !report.is_proven(), "{report:?}");
    // With a reason it is taken, unless a key that is given has signed no log at all.
    let lost = after("unreasoned-3", (&forged, 3), 2, Because::KeyLost, Some(3));
    assert!(proof(&[&lost.0, &forged.0], &[], &[2]).is_proven());
    let report = proof(&[&lost.0, &forged.0], &[], &[2, 1]);
    assert_eq!(report.before[0].findings, [Finding::KeyNamed { unused: 1 }]);
    assert!(proof(&[&lost.0, &forged.0], &[], &[2, 3]).is_proven());
}

#[test]
fn a_log_that_goes_on_after_it_was_set_aside_is_found() {
    for (program, is_found) in [(Program::Audit, false), (Program::Run, true)] {
        let folder = Folder::new("goes-on");
        let mut renewal = open(&folder.0, "aa", 0);
        renewal.append(moment(1), Event::Ended { because: Because::Damaged }).unwrap();
        renewal.close(moment(2)).unwrap();
        let opener = Opener { program, ..opener("bb") };
        Log::open(&folder.0, key(1), moment(3), opener).unwrap().close(moment(4)).unwrap();
        let found = proof(&[&folder.0], &[], &[1]).findings;
        let expected = if is_found { vec![Finding::GoesOn { line: 5, later: 0 }] } else { Vec::new() };
        assert_eq!(found, expected, "{program:?}");
    }
}
