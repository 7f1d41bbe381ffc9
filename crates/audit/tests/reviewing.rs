//! What a report has of a log, and what its signature is good for.

use audit::{
    Digest, Event, HeldAction, Hex, LOG_FILE, Log, Name, Opener, Principal, Program, Purpose, Review, Subject,
};

use super::writing::{Folder, files, key, moment, opener, proof};

/// A log of a run by nobody whom the log names, and of `reveal` by alice, who is refused once.
fn log(name: &str) -> Folder {
    let folder = Folder::new(name);
    let policy = |hash: &str| Hex::new(hash).unwrap();
    let mut run = Log::open(&folder.0, key(1), moment(0), opener("aa")).unwrap();
    run.append(moment(10), Event::PolicyChanged { from: policy("ab"), to: policy("cd") }).unwrap();
    for second in [20, 30] {
        let table = Name::new("db.public.t");
        let event = Event::TableCommitted { table, from: None, version: Some(1), rows: 5, policy: policy("cd") };
        run.append(moment(second), event).unwrap();
    }
    run.close(moment(40)).unwrap();
    let by = Some(Name::new("alice"));
    let opener = Opener { program: Program::Reveal, by, ..opener("bb") };
    let mut reveal = Log::open(&folder.0, key(1), moment(50), opener).unwrap();
    for (second, asked, opened) in [(60, 7, 6), (70, 3, 3), (75, 0, 0)] {
        let (by, column) = (Name::new("alice"), Name::new("db.public.t.ssn"));
        let event = Event::Revealed { by, purpose: Purpose::Payment, column, asked, opened };
        reveal.append(moment(second), event).unwrap();
    }
    let (by, column) = (Name::new("alice"), Name::new("db.public.t.ssn"));
    reveal.append(moment(80), Event::RevealRefused { by, purpose: Purpose::Payment, column }).unwrap();
    let table = Name::new("db.public.t");
    reveal.append(moment(90), Event::HeldDecided { action: HeldAction::Released, table, rows: 4 }).unwrap();
    reveal.close(moment(100)).unwrap();
    folder
}

fn digest(folder: &Folder, since: i64, until: i64) -> Digest {
    let mut digest = Digest::new(moment(since).at, moment(until).at);
    digest.add(files(&folder.0).entries, proof(&folder.0, 200, &[]).entries).unwrap();
    digest
}

#[test]
fn a_digest_has_what_each_user_did_with_which_program_and_how_often() {
    let folder = log("digest");
    let digest = digest(&folder, 0, 200);
    assert_eq!((digest.entries, digest.principals.len()), (13, 2));
    let alice = Principal { by: Some(Name::new("alice")), program: Some(Program::Reveal) };
    let acts = &digest.principals[&alice];
    assert_eq!((acts.events["revealed"], acts.events["held_decided"], acts.events["closed"]), (3, 1, 1));
    let reveals = &acts.sums[&(Subject::Reveals, "db.public.t.ssn for payment".into())];
    assert_eq!((reveals.times, reveals.span), (3, Some((moment(60).at, moment(75).at))));
    assert_eq!((reveals.amounts["asked"], reveals.amounts["opened"]), (10, 9));
    let text = digest.to_string();
    for line in [
        "alice, reveal\n",
        "an unknown user, run\n",
        "  reveals: db.public.t.ssn for payment: 3 times, asked 10, opened 9, 2023-11-14T22:14:20Z to",
        "  reveals: db.public.t.ssn for payment: refused: once, 2023-11-14T22:14:40Z\n",
        "  held rows: released of db.public.t: once, rows 4, 2023-11-14T22:14:50Z\n",
        "  policy: policy from ab to cd: once",
        "  tables: db.public.t committed: 2 times, changes 10",
        "  log: begun, anchor: none: once",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[test]
fn a_digest_has_its_span_only_and_knows_who_began_before_it() {
    let folder = log("span");
    let digest = digest(&folder, 70, 90);
    assert_eq!((digest.entries, digest.principals.len()), (3, 1));
    assert!(digest.to_string().contains("alice, reveal\n  events: reveal_refused 1, revealed 2\n"), "{digest}");
}

#[test]
fn a_signed_report_is_proven_and_neither_another_text_nor_another_log_nor_another_key() {
    let folder = log("signed-report");
    let (text, proven) = (b"a report".as_slice(), proof(&folder.0, 200, &[]));
    let line = Review::sign(text, &proven, moment(200).at, &key(1)).unwrap();
    let review = Review::read(text, &line, &key(1).public()).unwrap();
    assert_eq!((review.entries, review.at), (13, moment(200).at));
    assert_eq!(Review::read(b"a Report", &line, &key(1).public()), None);
    assert_eq!(Review::read(text, &line, &key(2).public()), None);
    assert_eq!(Review::read(text, &line.replace("\"entries\":13", "\"entries\":11"), &key(1).public()), None);
    assert!(review.is_of(files(&folder.0).entries).unwrap());

    // It is about these entries, whatever comes after them.
    Log::open(&folder.0, key(1), moment(300), opener("cc")).unwrap().close(moment(301)).unwrap();
    assert!(review.is_of(files(&folder.0).entries).unwrap());
    let other = Folder::new("other-log");
    Log::open(&other.0, key(1), moment(0), opener("dd")).unwrap().close(moment(1)).unwrap();
    assert!(!review.is_of(files(&other.0).entries).unwrap());
    let path = folder.0.join(LOG_FILE);
    let whole = std::fs::read_to_string(&path).unwrap();
    let end = whole.lines().take(12).map(|line| line.len() + 1).sum::<usize>();
    std::fs::write(&path, &whole[..end]).unwrap();
    assert!(!review.is_of(files(&folder.0).entries).unwrap(), "the last of them is gone");
}
