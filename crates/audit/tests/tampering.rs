//! Everything of the list is found: flip, delete, insert, swap, truncated tail, forked history, first entry changed, log begun anew, replayed
//! old head, entries appended without the key, entries of a time that is to come, clock jump, missing signature. Whoever tampers here has
//! every file of the log and not the key; where said, they make the chain of hashes right again.

use std::path::Path;
use std::time::Duration;

use audit::{AnchorSeen, Event, Finding, HEADS_FILE, Hash, Hex, LOG_FILE, Log, Moment, Opener};

use super::writing::{Folder, key, moment, open, opener, proof, proof_of};

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
            anchored.extend(lines(&folder.0, HEADS_FILE).pop());
        }
    }
    let end = minutes * 60;
    run.close(moment(end + 1)).unwrap();
    let mut short = open(&folder.0, "cc", end + 2);
    short.append(moment(end + 3), Event::Heartbeat {}).unwrap();
    anchored
        .extend(short.close(moment(end + 4)).unwrap().is_some().then(|| lines(&folder.0, HEADS_FILE).pop().unwrap()));
    assert_eq!(lines(&folder.0, LOG_FILE).len() as i64, minutes + 6);
    assert_eq!(proof(&folder.0, END, &anchored).findings, []);
    (folder, anchored)
}

pub(crate) fn lines(folder: &Path, file: &str) -> Vec<String> {
    std::fs::read_to_string(folder.join(file)).unwrap().lines().map(str::to_owned).collect()
}

pub(crate) fn write(folder: &Path, file: &str, lines: &[String]) {
    std::fs::write(folder.join(file), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn body(line: &str) -> &str {
    line.split_once(r#","entry":"#).unwrap().1.strip_suffix('}').unwrap()
}

/// The same entries with a chain of hashes that holds; the MACs stay what they are.
pub(crate) fn rechained(entries: &[String]) -> Vec<String> {
    let mut last = Hash::default();
    let line = |line: &String| {
        last = Hash::of(&[&last.0, body(line).as_bytes()]);
        // Versions before MACs wrote none.
        let mac = line.split_once(r#","mac":"#).map_or(String::new(), |(_, rest)| format!(r#","mac":{}"#, &rest[..66]));
        format!(r#"{{"hash":"{last}"{mac},"entry":{}}}"#, body(line))
    };
    entries.iter().map(line).collect()
}

/// An entry behind the others with a chain that holds, and a made-up MAC.
fn appended(lines: &[String], entry: &str) -> String {
    let last = Hash::parse(&lines.last().unwrap()[9..73]).unwrap();
    let hash = Hash::of(&[&last.0, entry.as_bytes()]);
    format!(r#"{{"hash":"{hash}","mac":"{}","entry":{entry}}}"#, Hash::of(&[b"guess"]))
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
    let report = audit::verify(audit::Evidence {
        log: super::writing::files(&folder.0),
        before: vec![],
        anchored: &audit::Anchored::default(),
        key: audit::Given { public: key(2).public(), macs: None },
        former_keys: vec![],
        now: moment(END).at,
    });
    let report = report.unwrap();
    assert_eq!(report.proven, 0);
    let heads = lines(&folder.0, HEADS_FILE).len() as u64;
    assert!(report.findings.contains(&Finding::Signature { head: 1, later: heads - 1, anchored: false }), "{report:?}");
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
    assert!(matches!(found.as_slice(), [Finding::Silence { line: 3, .. }]), "{found:?}");
    assert!(Hex::new("not hexadecimal").is_err());
}

#[test]
fn a_log_that_was_begun_anew_is_found_until_its_kept_copy_is_proven_with_it() {
    let (kept, anchored) = log("kept", 20);
    let anew = Folder::new("anew");
    open(&anew.0, "dd", 4000).close(moment(4001)).unwrap();
    assert_eq!(proof(&anew.0, END, &[]).findings, [], "nothing but the anchor knows");
    let found = proof(&anew.0, END, &anchored).findings;
    let [Finding::OtherLog { heads, entries: 26, last, .. }] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((*heads, *last), (anchored.len() as u64, moment(1204).at));
    assert!(found[0].to_string().contains("26 entries until 2023-11-14T22:33:24Z"), "{}", found[0]);
    let both = proof_of(&[&anew.0, &kept.0], END, &anchored, None);
    assert!(both.is_proven() && both.before[0].anchored == anchored.len() as u64, "{both:?}");

    // The copy is held against the same anchor.
    let whole = lines(&kept.0, LOG_FILE);
    write(&kept.0, LOG_FILE, &whole[..whole.len() - 1]);
    let both = proof_of(&[&anew.0, &kept.0], END, &anchored, None);
    assert!(!both.is_proven() && both.findings.is_empty(), "{both:?}");
    // Nothing is left of either.
    write(&anew.0, LOG_FILE, &[]);
    write(&anew.0, HEADS_FILE, &[]);
    let found = proof(&anew.0, END, &anchored).findings;
    assert!(matches!(found.as_slice(), [Finding::Empty, Finding::OtherLog { .. }]), "{found:?}");
}

#[test]
fn a_log_whose_first_entry_names_one_before_it_is_not_proven_without_it() {
    let (kept, anchored) = log("former", 20);
    let former = audit::newest_head(anchored.iter().map(String::as_str), &key(1).public());
    let anew = Folder::new("after");
    let opener = Opener { anchor: AnchorSeen::Head, former, ..opener("dd") };
    Log::open(&anew.0, key(1), moment(4000), opener).unwrap().close(moment(4001)).unwrap();
    let found = proof(&anew.0, END, &[]).findings;
    assert!(matches!(found.as_slice(), [Finding::OtherLog { heads: 0, entries: 26, .. }]), "{found:?}");
    assert!(proof_of(&[&anew.0, &kept.0], END, &[], None).is_proven());

    // The copy is set back as a whole; the log after it knows.
    let end = lines(&kept.0, LOG_FILE).iter().position(|line| line.contains(r#""event":"closed""#)).unwrap() + 1;
    let (entries, heads) = (lines(&kept.0, LOG_FILE), lines(&kept.0, HEADS_FILE));
    write(&kept.0, LOG_FILE, &entries[..end]);
    write(&kept.0, HEADS_FILE, &heads[..heads.len() - 1]);
    assert_eq!(proof(&kept.0, END, &[]).findings, []);
    let both = proof_of(&[&anew.0, &kept.0], END, &[], None);
    assert!(matches!(both.before[0].findings.as_slice(), [Finding::HeadGone { .. }]), "{both:?}");
}

/// With the key, even: the same run, but for one microsecond of its first entry.
#[test]
fn a_history_that_was_rewritten_from_its_first_entry_on_is_found() {
    let (_, anchored) = log("ours", 20);
    let rewritten = Folder::new("rewritten");
    let start = Moment { at: moment(0).at + 1, monotonic: Duration::ZERO };
    let mut run = Log::open(&rewritten.0, key(1), start, opener("aa")).unwrap();
    for minute in 1..=20 {
        run.append(moment(minute * 60), Event::Heartbeat {}).unwrap();
    }
    run.close(moment(1201)).unwrap();
    assert_eq!(proof(&rewritten.0, END, &[]).findings, []);
    let found = proof(&rewritten.0, END, &anchored).findings;
    assert!(matches!(found.as_slice(), [Finding::OtherLog { .. }]), "{found:?}");
}

#[test]
fn entries_appended_without_the_key_are_found_and_never_signed() {
    let (folder, _) = log("appended", 20);
    let (whole, heads) = (lines(&folder.0, LOG_FILE), lines(&folder.0, HEADS_FILE));
    let entry = |seq: usize, nth: u64, at: i64| {
        let at = moment(at).at;
        format!(r#"{{"seq":{seq},"writer":"ee","nth":{nth},"at":{at},"up":0,"what":{{"event":"keys_shown"}}}}"#)
    };
    let forged = appended(&whole, &entry(whole.len(), 1, 1300));
    let no_mac = forged.replace(&format!(r#""mac":"{}","#, Hash::of(&[b"guess"])), "");
    for (line, finding) in
        [(&forged, Finding::Mac { line: 27, later: 0 }), (&no_mac, Finding::Mixed { line: 27, later: 0 })]
    {
        write(&folder.0, LOG_FILE, &[whole.as_slice(), std::slice::from_ref(line)].concat());
        let with_key = proof_of(&[&folder.0], 1301, &[], Some(&key(1)));
        assert_eq!(with_key.findings, [finding]);
        // The public key alone says that nobody has signed it, at the latest when a head is due.
        assert_eq!(proof(&folder.0, 1301, &[]).proven, 26);
        let found = proof(&folder.0, 1500, &[]).findings;
        assert!(found.contains(&Finding::Unsigned { entries: 1 }), "{found:?}");
        let refused = Log::open(&folder.0, key(1), moment(1302), opener("bb")).err().unwrap();
        assert!(
            refused.what().contains("line 27")
                && refused.how_to_fix().unwrap().contains("audit renew --because damaged"),
            "{refused}"
        );
    }
    assert_eq!(lines(&folder.0, HEADS_FILE), heads);

    // A process that is at work does not sign it either.
    write(&folder.0, LOG_FILE, &whole);
    let mut run = open(&folder.0, "bb", 1300);
    let mut tail = lines(&folder.0, LOG_FILE);
    tail.push(appended(&tail, &entry(tail.len(), 1, 1300)));
    write(&folder.0, LOG_FILE, &tail);
    assert!(run.append(moment(1301), Event::Heartbeat {}).is_err() && run.sign_now(moment(1302)).is_err());
}

#[test]
fn a_head_that_was_forged_beside_a_writer_is_not_built_upon() {
    let folder = Folder::new("forged-head");
    let mut run = open(&folder.0, "aa", 0);
    run.append(moment(60), Event::Heartbeat {}).unwrap();
    let mut heads = lines(&folder.0, HEADS_FILE);
    heads.push(heads[1].replace(r#""entries":3"#, r#""entries":9"#));
    write(&folder.0, HEADS_FILE, &heads);
    let refused = run.append(moment(61), Event::Heartbeat {}).err().unwrap();
    assert!(refused.what().contains("not signed with this key"), "{refused}");
}

#[test]
fn entries_of_a_time_that_is_to_come_are_found_and_need_a_head_at_once() {
    let (folder, _) = log("future", 20);
    let whole = lines(&folder.0, LOG_FILE);
    let seq = whole.len();
    let entry =
        |at: i64| format!(r#"{{"seq":{seq},"writer":"ee","nth":1,"at":{at},"up":0,"what":{{"event":"closed"}}}}"#);
    for at in [moment(1e6 as i64).at, i64::MAX] {
        write(&folder.0, LOG_FILE, &[whole.as_slice(), &[appended(&whole, &entry(at))]].concat());
        let found = proof(&folder.0, 1301, &[]).findings;
        assert!(
            matches!(
                found.as_slice(),
                [Finding::Future { line: 27, entries: 1, .. }, Finding::Unsigned { entries: 1 }]
            ),
            "{found:?}"
        );
    }
    // A signed entry is found as well: its writer's clock was ahead, or the auditor's is behind.
    write(&folder.0, LOG_FILE, &whole);
    let found = proof(&folder.0, 600, &[]).findings;
    assert!(matches!(found.as_slice(), [Finding::Future { .. }]), "{found:?}");
}

#[test]
fn numbers_at_the_end_of_their_range_are_findings_and_no_defect() {
    let (folder, _) = log("numbers", 3);
    let whole = lines(&folder.0, LOG_FILE);
    let most = u64::MAX;
    for (at, up) in [(i64::MIN, most), (i64::MAX, 0), (0, most / 2)] {
        let entry = format!(
            r#"{{"seq":{most},"writer":"ee","nth":{most},"at":{at},"up":{up},"what":{{"event":"heartbeat"}}}}"#
        );
        let mut tail = whole.clone();
        tail.push(appended(&tail, &entry));
        tail.push(appended(&tail, &entry.replace("ee", "ff")));
        tail.push(appended(&tail, &entry));
        write(&folder.0, LOG_FILE, &tail);
        assert!(proof(&folder.0, END, &[]).findings.len() > 2);
    }
}

/// Without the key's MACs a head proves them all the same, for those whom it covers.
#[test]
fn macs_that_were_taken_away_or_exchanged_are_found_with_the_public_key_alone() {
    let (folder, _) = log("stripped", 4);
    let whole = lines(&folder.0, LOG_FILE);
    for at in 0..whole.len() {
        let line = &whole[at];
        let (hash, rest) = line.split_once(r#","mac":""#).unwrap();
        let mut stripped = whole.clone();
        stripped[at] = format!("{hash}{}", &rest[65..]);
        let mut exchanged = whole.clone();
        exchanged[at] = format!(r#"{hash},"mac":"{}{}"#, Hash::of(&[b"guess"]), &rest[64..]);
        for tampered in [stripped, exchanged] {
            write(&folder.0, LOG_FILE, &tampered);
            assert_ne!(proof(&folder.0, END, &[]).findings, [], "{}", tampered[at]);
        }
    }
}
