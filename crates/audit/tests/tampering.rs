//! Everything of the list is found: flip, delete, insert, swap, truncated tail, forked history, replayed old head, clock jump, missing
//! signature. Whoever tampers here has every file of the log and not the key; where said, they make the chain of hashes right again.

use std::path::Path;
use std::time::Duration;

use audit::{Event, Finding, HEADS_FILE, Hash, Hex, LOG_FILE, Moment};

use super::writing::{Folder, moment, open, proof};

/// Long after the last entry.
const END: i64 = 5000;

/// A closed log of a run of so many minutes and of a short process after it, and copies of its heads.
fn log(name: &str, minutes: i64) -> (Folder, Vec<String>) {
    let folder = Folder::new(name);
    let (mut run, mut anchored) = (open(&folder.0, "aa", 0), Vec::new());
    for minute in 1..=minutes {
        let event = Event::TableStopped { table: audit::Name::new("db.public.t"), reason: audit::Reason::Privacy };
        let event = if minute % 20 == 0 { event } else { Event::Heartbeat {} };
        if run.append(moment(minute * 60), event).unwrap().is_some() {
            anchored.extend(run.head_line());
        }
    }
    let end = minutes * 60;
    run.close(moment(end + 1)).unwrap();
    let mut short = open(&folder.0, "cc", end + 2);
    short.append(moment(end + 3), Event::Heartbeat {}).unwrap();
    anchored
        .extend(short.close(moment(end + 4)).unwrap().is_some().then(|| lines(&folder.0, HEADS_FILE).pop().unwrap()));
    assert_eq!(lines(&folder.0, LOG_FILE).len() as i64, minutes + 5);
    assert_eq!(proof(&folder.0, END, &anchored).findings, []);
    (folder, anchored)
}

fn lines(folder: &Path, file: &str) -> Vec<String> {
    std::fs::read_to_string(folder.join(file)).unwrap().lines().map(str::to_owned).collect()
}

fn write(folder: &Path, file: &str, lines: &[String]) {
    std::fs::write(folder.join(file), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn body(line: &str) -> &str {
    line.split_once(r#","entry":"#).unwrap().1.strip_suffix('}').unwrap()
}

/// The same entries with a chain of hashes that holds.
fn rechained(entries: &[String]) -> Vec<String> {
    let mut last = Hash::default();
    let line = |line: &String| {
        last = Hash::of(&[&last.0, body(line).as_bytes()]);
        format!(r#"{{"hash":"{last}","entry":{}}}"#, body(line))
    };
    entries.iter().map(line).collect()
}

#[test]
fn every_flipped_bit_of_the_log_and_of_its_heads_is_found() {
    let (folder, _) = log("flip", 4);
    for file in [LOG_FILE, HEADS_FILE] {
        let bytes = std::fs::read(folder.0.join(file)).unwrap();
        let mut missed: Vec<usize> = Vec::new();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 7);
            // Not text any more: readers would refuse the file as a whole.
            if std::str::from_utf8(&flipped).is_err() {
                continue;
            }
            std::fs::write(folder.0.join(file), &flipped).unwrap();
            if proof(&folder.0, END, &[]).findings.is_empty() {
                missed.push(at);
            }
        }
        std::fs::write(folder.0.join(file), &bytes).unwrap();
        assert!(missed.is_empty(), "{file} of {} bytes: {missed:?}", bytes.len());
    }
}

#[test]
fn every_deleted_inserted_swapped_and_changed_entry_is_found_even_with_a_chain_made_right() {
    let (folder, anchored) = log("entries", 20);
    let whole = lines(&folder.0, LOG_FILE);
    let mut tampered = Vec::new();
    for at in 0..whole.len() {
        let (mut deleted, mut inserted, mut changed) = (whole.clone(), whole.clone(), whole.clone());
        deleted.remove(at);
        inserted.insert(at, whole[at].clone());
        changed[at] = whole[at].replace(r#""at":17"#, r#""at":16"#);
        tampered.extend([deleted, inserted, changed]);
        if at > 0 {
            let mut swapped = whole.clone();
            swapped.swap(at, at - 1);
            tampered.push(swapped);
        }
    }
    for (number, tampered) in tampered.iter().enumerate() {
        for lines in [tampered.clone(), rechained(tampered)] {
            write(&folder.0, LOG_FILE, &lines);
            assert_ne!(proof(&folder.0, END, &[]).findings, [], "tampering {number}");
            assert_ne!(proof(&folder.0, END, &anchored).findings, [], "tampering {number} beside an anchor");
        }
    }
}

#[test]
fn a_tail_that_was_cut_off_is_found() {
    let (folder, anchored) = log("tail", 60);
    let (whole, heads) = (lines(&folder.0, LOG_FILE), lines(&folder.0, HEADS_FILE));
    for left in 0..whole.len() {
        write(&folder.0, LOG_FILE, &whole[..left]);
        write(&folder.0, HEADS_FILE, &heads);
        let found = proof(&folder.0, END, &[]).findings;
        assert!(!found.is_empty(), "{left} entries left");
        // With the heads cut off as well, the missing end of a writer tells; where a whole process was taken away, only the anchor does.
        let covered = heads.iter().filter(|head| entries_of(head) <= left as u64).cloned().collect::<Vec<_>>();
        write(&folder.0, HEADS_FILE, &covered);
        let whole_process = left > 0 && whole[left - 1].contains(r#""event":"closed""#);
        assert_eq!(
            proof(&folder.0, END, &[]).findings.is_empty(),
            whole_process,
            "{left} entries and their heads left"
        );
        assert_ne!(
            proof(&folder.0, END, &anchored).findings,
            [],
            "{left} entries and their heads left beside an anchor"
        );
    }
}

fn entries_of(head: &str) -> u64 {
    let (_, rest) = head.split_once(r#""entries":"#).unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn a_forked_history_is_found_by_the_heads_that_were_kept_elsewhere() {
    let (ours, anchored) = log("fork", 60);
    // The same key signs two histories: one is shown, heads of the other lie at the anchor.
    let other = Folder::new("forked");
    let mut run = open(&other.0, "aa", 0);
    for minute in 1..=60 {
        run.append(moment(minute * 60), Event::Heartbeat {}).unwrap();
    }
    run.close(moment(3601)).unwrap();
    let found = proof(&other.0, 3602, &anchored).findings;
    let forked = |finding: &Finding| matches!(finding, Finding::Root { anchored: true, .. });
    assert!(found.iter().any(forked) && found.iter().any(|finding| matches!(finding, Finding::HeadGone { .. })));
    assert_eq!(proof(&ours.0, END, &anchored).findings, []);
}

#[test]
fn replayed_missing_and_unsigned_heads_are_found() {
    let (folder, _) = log("heads", 10);
    let heads = lines(&folder.0, HEADS_FILE);
    let (first, last) = (heads[0].clone(), heads.len() - 1);
    let mut variants = vec![Vec::new(), heads[..last].to_vec()];
    for at in 0..heads.len() {
        let (mut without, mut replayed, mut unsigned) = (heads.clone(), heads.clone(), heads.clone());
        without.remove(at);
        replayed[at].clone_from(if at == 0 { &heads[last] } else { &first });
        unsigned[at] = format!(r#"{{"signature":"","head":{}}}"#, heads[at].split_once(r#","head":"#).unwrap().1);
        variants.extend([without, replayed, unsigned]);
    }
    variants.push(heads.iter().cloned().chain([first]).collect());
    for (number, heads) in variants.iter().enumerate() {
        write(&folder.0, HEADS_FILE, heads);
        assert_ne!(proof(&folder.0, END, &[]).findings, [], "variant {number}");
    }
}

#[test]
fn heads_of_another_key_prove_nothing() {
    let (folder, _) = log("key", 10);
    let heads = std::fs::read_to_string(folder.0.join(HEADS_FILE)).unwrap();
    let log = std::fs::read(folder.0.join(LOG_FILE)).unwrap();
    let key = super::writing::key(2).public();
    let report = audit::verify(audit::Evidence {
        log: log.as_slice(),
        heads: &heads,
        anchored: vec![],
        key,
        now: moment(END).at,
    });
    let report = report.unwrap();
    assert_eq!(report.proven, 0);
    assert!(report.findings.contains(&Finding::Unsigned { entries: report.entries }));
}

/// Whoever has the key can write what they like; that time does not fit is seen all the same.
#[test]
fn a_clock_that_jumped_unsaid_and_a_silence_are_found() {
    let folder = Folder::new("jump");
    let mut run = open(&folder.0, "aa", 0);
    run.append(moment(60), Event::Heartbeat {}).unwrap();
    let set = Moment { at: moment(7200).at, monotonic: Duration::from_secs(120) };
    run.append(set, Event::Heartbeat {}).unwrap();
    run.close(set).unwrap();
    let honest = lines(&folder.0, LOG_FILE);
    let unsaid: Vec<String> =
        honest.iter().map(|line| line.replace("clock_jumped\",\"micros\":7080000000", "heartbeat\"")).collect();
    write(&folder.0, LOG_FILE, &rechained(&unsaid.iter().map(|line| line.replace("\"\"", "\"")).collect::<Vec<_>>()));
    let found = proof(&folder.0, 7300, &[]).findings;
    assert!(found.iter().any(|finding| matches!(finding, Finding::Clock { .. })), "{found:?}");

    let folder = Folder::new("silence");
    let mut run = open(&folder.0, "aa", 0);
    run.append(moment(600), Event::Heartbeat {}).unwrap();
    run.close(moment(601)).unwrap();
    let found = proof(&folder.0, 602, &[]).findings;
    assert!(matches!(found.as_slice(), [Finding::Silence { line: 2, .. }]), "{found:?}");
    assert!(Hex::new("not hexadecimal").is_err());
}
