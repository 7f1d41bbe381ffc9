//! What a writer does over a log that is not as the last one left it, and what honest writers leave that must not be accused.

use std::time::Duration;

use audit::{Event, Finding, HEADS_FILE, Hash, Heads, HeadsKnown, LOG_FILE, Log, Moment, PUBLIC_KEY_FILE};

use super::tampering::{lines, write};
use super::writing::{Folder, key, moment, open, opener, proof};

/// A closed log of a run of ten minutes.
fn run(name: &str) -> Folder {
    let folder = Folder::new(name);
    let mut run = open(&folder.0, "aa", 0);
    for minute in 1..=10 {
        run.append(moment(minute * 60), Event::Heartbeat {}).unwrap();
    }
    run.close(moment(601)).unwrap();
    assert_eq!(proof(&folder.0, 700, &[]).findings, []);
    folder
}

fn missing(findings: &[Finding]) -> bool {
    matches!(findings, [Finding::HeadsMissing { known: HeadsKnown::Log, .. }])
}

#[test]
fn heads_that_were_cut_off_are_a_finding_for_good_whoever_goes_on() {
    for left in 0..10 {
        let folder = run(&format!("cut-{left}"));
        let heads = lines(&folder.0, HEADS_FILE);
        assert_eq!(heads.len(), 12);
        write(&folder.0, HEADS_FILE, &heads[..left]);
        let found = proof(&folder.0, 700, &[]).findings;
        let named = |finding: &Finding| matches!(finding, Finding::HeadNamed { head: 11, left: last, .. } if *last == left as u64);
        assert!(found.iter().any(|finding| matches!(finding, Finding::HeadNamed { .. })), "{left}: {found:?}");
        assert!(left < 10 || found.iter().any(named), "{left}: {found:?}");

        open(&folder.0, "bb", 800).close(moment(801)).unwrap();
        open(&folder.0, "cc", 900).close(moment(901)).unwrap();
        let report = proof(&folder.0, 1000, &[]);
        assert!(missing(&report.findings), "{left}: {:?}", report.findings);
        assert_eq!(report.proven, report.entries, "what is there is proven");
        // Nor is it taken out again.
        let whole = lines(&folder.0, LOG_FILE);
        let without: Vec<String> = whole.iter().filter(|line| !line.contains("heads_missing")).cloned().collect();
        assert_eq!(without.len(), whole.len() - 1);
        write(&folder.0, LOG_FILE, &without);
        assert_ne!(proof(&folder.0, 1000, &[]).findings, []);
    }
}

#[test]
fn heads_that_are_cut_off_beside_a_writer_are_a_finding_for_good() {
    let folder = Folder::new("beside");
    let mut run = open(&folder.0, "aa", 0);
    for minute in 1..=3 {
        run.append(moment(minute * 60), Event::Heartbeat {}).unwrap();
    }
    let heads = lines(&folder.0, HEADS_FILE);
    for left in [2, 0] {
        write(&folder.0, HEADS_FILE, &heads[..left]);
        run.append(moment(181), Event::Heartbeat {}).unwrap().expect("it signs at once");
    }
    run.close(moment(182)).unwrap();
    let report = proof(&folder.0, 183, &[]);
    let said = |left: u64| move |finding: &Finding| matches!(finding, Finding::HeadsMissing { left: last, .. } if *last == left);
    assert!(
        report.findings.len() == 2 && report.findings.iter().any(said(2)) && report.findings.iter().any(said(0)),
        "{report:?}"
    );
}

/// A kill between the last entry and its head leaves the same.
#[test]
fn an_end_without_its_head_is_noted_and_accuses_nobody() {
    let folder = run("end");
    let heads = lines(&folder.0, HEADS_FILE);
    write(&folder.0, HEADS_FILE, &heads[..11]);
    open(&folder.0, "bb", 800).close(moment(801)).unwrap();
    let report = proof(&folder.0, 802, &[]);
    assert_eq!((report.findings.as_slice(), report.closed_unsigned, report.proven), ([].as_slice(), 1, report.entries));
}

#[test]
fn what_only_the_anchor_knows_stays_in_the_log() {
    let folder = Folder::new("anchor-knows");
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let mut next = open(&folder.0, "bb", 2);
    next.lacks(moment(3), 7).unwrap();
    next.close(moment(4)).unwrap();
    // The number of the next head is one that no head of before had.
    assert!(lines(&folder.0, HEADS_FILE).iter().any(|head| head.contains(r#""nth":8"#)));
    let found = proof(&folder.0, 5, &[]).findings;
    assert!(
        matches!(found.as_slice(), [Finding::HeadsMissing { known: HeadsKnown::Anchor, head: 7, left: 2, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_changed_entry_is_one_finding_however_many_heads_are_signed_over_it() {
    let folder = run("once");
    let whole = lines(&folder.0, LOG_FILE);
    let mut changed = whole.clone();
    let digit = if whole[4].as_bytes()[9] == b'0' { "1" } else { "0" };
    changed[4].replace_range(9..10, digit);
    write(&folder.0, LOG_FILE, &changed);
    let found = proof(&folder.0, 700, &[]).findings;
    assert_eq!(found, [Finding::Chain { line: 5, heads: 9 }]);
    assert!(found[0].to_string().ends_with("; 9 heads were signed over what was there before"), "{}", found[0]);
    changed[4].replace_range(0..1, "[");
    write(&folder.0, LOG_FILE, &changed);
    let found = proof(&folder.0, 700, &[]).findings;
    assert_eq!(found, [Finding::Unreadable { line: 5, later: 0, heads: 9 }, Finding::Writer { line: 6 }]);

    // An entry that is taken out shifts the others, and the last head says how many there were.
    let mut shorter = whole;
    shorter.remove(4);
    write(&folder.0, LOG_FILE, &shorter);
    let found = proof(&folder.0, 700, &[]).findings;
    let gone = [
        Finding::Chain { line: 5, heads: 8 },
        Finding::Writer { line: 5 },
        Finding::Missing { head: 12, entries: 13, present: 12, later: 0, anchored: false },
    ];
    assert_eq!(found, gone);
}

#[test]
fn a_chain_made_right_parts_from_the_heads_in_one_finding() {
    let folder = run("parted");
    let whole = lines(&folder.0, LOG_FILE);
    let mut changed = whole;
    changed[4] = changed[4].replace("heartbeat", "opened\",\"program\":\"run");
    write(&folder.0, LOG_FILE, &super::tampering::rechained(&changed));
    let found = proof(&folder.0, 700, &[]).findings;
    assert_eq!(found, [Finding::Root { head: 4, entries: 5, proven: 4, later: 8, anchored: false }]);
    assert_eq!(
        found[0].to_string(),
        "entries 5 to 5 are others than head 4 was signed over, and so it is with 8 later heads"
    );
}

#[test]
fn a_clock_that_was_set_back_is_said_and_accuses_nobody() {
    let folder = Folder::new("back");
    let mut run = open(&folder.0, "aa", 7200);
    let set = Moment { at: moment(3600).at, monotonic: Duration::from_secs(7300) };
    run.append(set, Event::Heartbeat {}).unwrap().expect("a head is due");
    run.close(set).unwrap();
    // While nothing ran.
    open(&folder.0, "bb", 100).close(moment(101)).unwrap();
    let text = std::fs::read_to_string(folder.0.join(LOG_FILE)).unwrap();
    assert!(text.contains(r#""micros":-3700000000"#) && text.contains(r#""micros":-3500000000"#), "{text}");
    assert_eq!(proof(&folder.0, 7200, &[]).findings, []);
}

#[test]
fn lines_that_are_cut_off_accuse_nobody_and_the_next_writer_takes_them_away() {
    let folder = run("torn");
    for file in [LOG_FILE, HEADS_FILE] {
        let path = folder.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"hash\":\"00")).unwrap();
    }
    let report = proof(&folder.0, 700, &[]);
    assert_eq!((report.findings.as_slice(), report.torn_bytes), ([].as_slice(), 11));
    open(&folder.0, "bb", 800).close(moment(801)).unwrap();
    let report = proof(&folder.0, 802, &[]);
    assert_eq!((report.findings.as_slice(), report.torn_bytes), ([].as_slice(), 0));
}

/// The next version may write events, and fields of entries, that this one does not know.
#[test]
fn entries_of_a_newer_version_are_counted_and_accuse_nobody() {
    let folder = Folder::new("newer");
    let mut log = open(&folder.0, "aa", 0);
    log.append(moment(1), Event::Heartbeat {}).unwrap();
    let whole = lines(&folder.0, LOG_FILE);
    let newer = whole[2].replace(r#"{"event":"heartbeat"}"#, r#"{"event":"dreamt","of":7}"#);
    assert_ne!(newer, whole[2]);
    write(&folder.0, LOG_FILE, &super::tampering::rechained(&[whole[0].clone(), whole[1].clone(), newer.clone()]));
    let report = proof(&folder.0, 2, &[]);
    assert_eq!((report.findings.as_slice(), report.unknown, report.proven), ([].as_slice(), 1, 2));
    let (at, event) = audit::read_newer_line(&newer).unwrap();
    assert_eq!((at, event.as_str(), audit::read_line(&newer)), (moment(1).at, "dreamt", None));
    assert_eq!(audit::read_newer_line(&newer.replace("\"event\"", "\"ev\"")), None);
}

#[test]
fn a_log_that_was_moved_or_exchanged_under_a_writer_is_not_written() {
    let folder = run("moved");
    let mut log = open(&folder.0, "bb", 700);
    let (path, away) = (folder.0.join(LOG_FILE), folder.0.join("away"));
    std::fs::rename(&path, &away).unwrap();
    let refused = |log: &mut Log| log.append(moment(701), Event::Heartbeat {}).unwrap_err().what().to_owned();
    assert!(refused(&mut log).contains("moved away"));
    std::fs::copy(&away, &path).unwrap();
    assert!(refused(&mut log).contains("another file"));
    assert_eq!(lines(&folder.0, "away"), lines(&folder.0, LOG_FILE));
}

#[test]
fn a_last_covered_entry_that_is_another_one_stops_the_next_writer() {
    let folder = run("covered");
    let path = folder.0.join(LOG_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    std::fs::write(&path, text.replace(&last[9..20], "00000000000")).unwrap();
    let refused = Log::open(&folder.0, key(1), moment(700), opener("bb")).err().unwrap();
    assert!(refused.what().contains("covers is another one"), "{refused}");
}

#[test]
fn another_key_does_not_take_the_place_of_the_log_s_own() {
    let folder = run("pub");
    assert!(Log::open(&folder.0, key(2), moment(700), opener("bb")).is_err());
    assert_eq!(lines(&folder.0, PUBLIC_KEY_FILE), [key(1).public().to_string()]);
}

#[test]
fn heads_are_read_from_any_place_on() {
    let folder = run("places");
    let heads = Heads::of(&folder.0);
    let key = key(1).public();
    let all = heads.from(0, 100, &key).unwrap();
    assert_eq!(all.iter().map(|line| line.line.clone()).collect::<Vec<_>>(), lines(&folder.0, HEADS_FILE));
    assert_eq!(heads.from(all[3].end, 2, &key).unwrap(), all[4..6]);
    assert_eq!(all.last().unwrap().end, heads.length().unwrap());
    for line in &all {
        assert_eq!(heads.line_before(line.end).unwrap(), Some(line.hash));
        assert_eq!(heads.line_before(line.end - 1).unwrap(), None);
        assert!(heads.have(line.head.as_ref().unwrap(), &line.line, &key).unwrap());
    }
    assert_eq!((heads.line_before(0).unwrap(), heads.line_before(1 << 40).unwrap()), (Some(Hash::default()), None));
    let of_another = super::writing::key(2).public();
    assert!(heads.from(0, 100, &of_another).unwrap().iter().all(|line| line.head.is_none()));
    assert_eq!(heads.newest(&of_another).unwrap(), None);
    let mut other = all[5].head.clone().unwrap();
    assert!(!heads.have(&other, "another line", &key).unwrap());
    other.nth = 99;
    assert!(!heads.have(&other, &all[5].line, &key).unwrap(), "it is looked for among those of its number and later");
    let none = Heads::of(&folder.0.join("nowhere"));
    assert!(none.from(0, 9, &key).unwrap().is_empty() && none.length().unwrap() == 0);
    assert_eq!(none.newest(&key).unwrap(), None);
}

#[test]
fn of_one_log_the_head_with_the_highest_number_is_the_newest_whatever_the_clock_said() {
    let folder = Folder::new("newest");
    for second in [5000, 100, 3000] {
        open(&folder.0, "aa", second).close(moment(second + 1)).unwrap();
    }
    let heads = lines(&folder.0, HEADS_FILE);
    let newest = audit::newest_head(heads.iter().map(String::as_str), &key(1).public()).unwrap();
    assert_eq!(newest.head, heads.len() as u64);
}
