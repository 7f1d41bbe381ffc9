//! What is told of a log whose folder may have been at anybody's mercy.

use audit::{Event, Former, HEADS_FILE, Hash, Hex, InForce, LOG_FILE, Log, Opener, Remains};

use super::tampering::{lines, rechained, write};
use super::writing::{Folder, bytes_read, key, moment, open, opener, proof};

fn started(config: &str) -> Event {
    let InForce { config, policy, key_epoch, key_fingerprint } = in_force(config);
    Event::RunStarted { config, policy, key_epoch, key_fingerprint, tables: 1 }
}

fn in_force(config: &str) -> InForce {
    let key_fingerprint = Some(Hex::of(&[2]));
    InForce { config: Hash::of(&[config.as_bytes()]), policy: Hex::of(&[1]), key_epoch: Some(1), key_fingerprint }
}

#[test]
fn something_may_be_there_that_was_never_begun() {
    let folder = Folder::new("something");
    let remains = Remains::of(&folder.0);
    assert!(!remains.are_any() && !remains.have_begun().unwrap());
    assert_eq!(remains.log().unwrap(), None);
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join(LOG_FILE), "{").unwrap();
    assert!(remains.are_any() && !remains.have_begun().unwrap());
    assert_eq!(remains.former(&key(1).public()).unwrap(), Former { entries: 0, ..nothing() });
    open(&folder.0, "aa", 0).close(moment(1)).unwrap();
    let log = remains.log().unwrap().unwrap();
    assert!(remains.are_any() && remains.have_begun().unwrap());
    assert!(remains.are_of(&key(1)).unwrap() && !remains.are_of(&key(2)).unwrap());

    // Heads alone say which log it was; entries alone say whose.
    let entries = std::fs::read(folder.0.join(LOG_FILE)).unwrap();
    std::fs::write(folder.0.join(LOG_FILE), "").unwrap();
    assert!(remains.are_any() && !remains.have_begun().unwrap() && remains.are_of(&key(1)).unwrap());
    assert_eq!(remains.log().unwrap(), Some(log));
    std::fs::write(folder.0.join(LOG_FILE), entries).unwrap();
    std::fs::remove_file(folder.0.join(HEADS_FILE)).unwrap();
    assert!(remains.are_of(&key(1)).unwrap() && !remains.are_of(&key(2)).unwrap());
    let counted = Former { log, entries: 4, at: moment(1).at, ..nothing() };
    assert_eq!(remains.former(&key(1).public()).unwrap(), counted);
}

fn nothing() -> Former {
    Former { log: Hash::default(), head: 0, hash: Hash::default(), entries: 0, at: 0, key: None }
}

#[test]
fn the_newest_head_is_the_last_one_of_the_key_and_little_is_read_to_find_it() {
    let folder = Folder::new("last-head");
    for second in [5000, 100, 3000] {
        open(&folder.0, "aa", second).close(moment(second + 1)).unwrap();
    }
    let newest = lines(&folder.0, HEADS_FILE).pop().unwrap();
    let path = folder.0.join(HEADS_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let foreign = newest.replace(r#"{"signature":"0"#, r#"{"signature":"1"#).replace(r#""nth":4"#, r#""nth":9"#);
    assert_ne!(foreign, newest);
    std::fs::write(&path, text.repeat(20_000) + &format!("{foreign}\n") + r#"{"signature":"#).unwrap();
    let (long, before) = (std::fs::metadata(&path).unwrap().len(), bytes_read());
    let former = Remains::of(&folder.0).former(&key(1).public()).unwrap();
    let read = bytes_read() - before;
    assert!(read < 1 << 20 && long > 20 << 20, "{read} bytes of {long} were read");
    assert_eq!((former.head, former.entries, former.at), (4, 8, moment(3001).at), "{former:?}");
}

#[test]
fn the_log_says_what_the_last_run_had_in_force_and_no_file_beside_it() {
    let folder = Folder::new("in-force");
    let mut log = open(&folder.0, "aa", 0);
    assert_eq!(log.in_force().unwrap(), None);
    for (config, second) in [("old", 1), ("new", 2)] {
        log.append(moment(second), started(config)).unwrap();
        log.append(moment(second), Event::Heartbeat {}).unwrap();
    }
    assert_eq!(log.in_force().unwrap(), Some(in_force("new")), "also before a head covers it");
    log.close(moment(3)).unwrap();
    assert_eq!(open(&folder.0, "bb", 4).in_force().unwrap(), Some(in_force("new")));

    // The log after it goes on from there.
    let known = Remains::of(&folder.0).in_force(&key(1).public()).unwrap();
    assert_eq!(known, Some(in_force("new")));
    assert_eq!(Remains::of(&folder.0).in_force(&key(2).public()).unwrap(), None);
    let next = Folder::new("in-force-next");
    let mut log = Log::open(&next.0, key(1), moment(5), Opener { in_force: known, ..opener("cc") }).unwrap();
    assert_eq!(log.in_force().unwrap(), Some(in_force("new")));
    log.close(moment(6)).unwrap();
    assert_eq!(proof(&next.0, 7, &[]).findings, []);

    // What was changed says nothing, and a run does not go on over it.
    let whole = lines(&folder.0, LOG_FILE);
    let (old, new) = (in_force("old").config.to_string(), in_force("new").config.to_string());
    let changed: Vec<String> = whole.iter().map(|line| line.replace(&new, &old)).collect();
    for changed in [changed.clone(), rechained(&changed)] {
        write(&folder.0, LOG_FILE, &changed);
        assert_eq!(Remains::of(&folder.0).in_force(&key(1).public()).unwrap(), None);
        let refused = Log::open(&folder.0, key(1), moment(8), opener("dd")).and_then(|mut log| log.in_force());
        assert_eq!(refused.unwrap_err().kind(), change::Kind::Privacy);
    }
}
