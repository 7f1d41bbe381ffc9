//! A kill at every change to the disk, torn writes, full disks, and damage at rest.

use std::collections::BTreeMap;

use change::Kind;

use super::disk::MemoryDisk;
use super::*;

type Model = BTreeMap<u64, Option<Entry>>;

/// Keys of the table that the steps below start from; one block short of doubling, so that a step doubles it.
const KEYS: u64 = 380;

fn grown(disk: &MemoryDisk) -> (KeyIndex, Model) {
    let mut index = empty(disk.dir(), Shape::Unique);
    let file = index.file_id("first.parquet").unwrap();
    let changes: Vec<Change> = (0..KEYS)
        .map(|number| Change::Put { key: key(number), entry: row(Place { file, row: number as u32 }) })
        .collect();
    apply(&mut index, 1, &changes).unwrap();
    let model = (0..2 * KEYS).map(|number| (number, index.lookup(&[key(number)]).unwrap()[0])).collect();
    (index, model)
}

/// A step that replaces, removes and adds; what the index is to know after it.
fn next_step(index: &mut KeyIndex, model: &Model) -> change::Result<(Vec<Change>, Model)> {
    let file = index.file_id("second.parquet")?;
    let mut after = model.clone();
    let mut changes = Vec::new();
    for number in (0..2 * KEYS).step_by(2) {
        let entry = match number % 3 {
            0 => None,
            1 => Some(Entry::Tombstone),
            _ => Some(row(Place { file, row: number as u32 })),
        };
        changes.push(match entry {
            None => Change::Remove { key: key(number) },
            Some(entry) => Change::Put { key: key(number), entry },
        });
        after.insert(number, entry);
    }
    Ok((changes, after))
}

fn assert_is(index: &KeyIndex, model: &Model) {
    let keys: Vec<KeyHash> = model.keys().map(|number| key(*number)).collect();
    for (found, (number, wanted)) in index.lookup(&keys).unwrap().iter().zip(model) {
        assert_eq!(found, wanted, "key {number}");
    }
    assert_eq!(index.entries(), model.values().flatten().count() as u64);
    for entry in model.values().flatten() {
        let path = entry.place().map(|place| index.file_path(place.file));
        assert!(matches!(path, None | Some(Some("first.parquet" | "second.parquet"))));
    }
}

/// Runs `work` with a fault at its first change, at its second and so on until it gets through, each time from the state of `start`,
/// and hands the disk as the fault left it to `check`. Returns how many faults there were.
pub(super) fn at_every_change(
    start: &MemoryDisk,
    torn: bool,
    work: impl Fn(&MemoryDisk) -> change::Result<()>,
    check: impl Fn(&MemoryDisk, u64),
) -> u64 {
    for at in 1.. {
        let disk = start.fork();
        disk.fail_from(at, torn);
        let result = work(&disk);
        if !disk.heal() {
            result.unwrap();
            return at - 1;
        }
        assert_eq!(result.unwrap_err().kind(), Kind::Full, "change {at}");
        check(&disk, at);
    }
    unreachable!()
}

#[test]
fn a_kill_during_a_step_leaves_the_state_before_or_after() {
    let start = MemoryDisk::default();
    let (index, before) = grown(&start);
    let log2_blocks = index.map.log2_blocks();
    drop(index);
    for torn in [false, true] {
        let step = |disk: &MemoryDisk| {
            let mut index = try_reopen(&disk.dir())?;
            let (changes, _) = next_step(&mut index, &before)?;
            apply(&mut index, 2, &changes)
        };
        let faults = at_every_change(&start, torn, step, |disk, at| {
            match KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap() {
                Opened::Ready(mut index) => {
                    let version = index.version();
                    if version == 2 {
                        let after = next_step(&mut index, &before).unwrap().1;
                        return assert_is(&index, &after);
                    }
                    assert_eq!(version, 1, "change {at}");
                    assert_is(&index, &before);
                    // Whether the step was written down or not, it can be made now.
                    let (changes, after) = next_step(&mut index, &before).unwrap();
                    match index.prepared() {
                        Some(prepared) => assert_eq!((prepared.to_version, prepared.stamp), (2, 2)),
                        None => {
                            let mut step = index.step(2, 2).unwrap();
                            step.push(&changes).unwrap();
                            step.prepare().unwrap();
                        }
                    }
                    index.finish().unwrap();
                    assert_is(&index, &after);
                }
                Opened::Missing => panic!("change {at}: the index is gone"),
                // Only a write that was cut in two may cost the index.
                Opened::Unusable { why } => assert!(torn, "change {at}: {why}"),
            }
        });
        assert!(faults > 10, "{faults} faults");
    }
    let disk = start.fork();
    let mut index = reopen(&disk.dir());
    let (changes, after) = next_step(&mut index, &before).unwrap();
    apply(&mut index, 2, &changes).unwrap();
    assert_is(&index, &after);
    assert_eq!(index.map.log2_blocks(), log2_blocks + 1, "the step is meant to double the file");
}

#[test]
fn a_kill_during_a_step_of_a_multiset_leaves_the_state_before_or_after() {
    let start = MemoryDisk::default();
    let mut index = empty(start.dir(), Shape::Multiset);
    let file = index.file_id("first.parquet").unwrap();
    let place = |row| Place { file, row };
    let add = |number: u64, row| Change::Add { key: key(number), place: place(row) };
    let take = |number: u64, row| Change::Take { key: key(number), place: place(row) };
    apply(&mut index, 1, &[add(1, 10), add(1, 11), add(1, 12), add(2, 20), add(2, 21), add(3, 30)]).unwrap();
    drop(index);
    let rows = |index: &KeyIndex| -> Vec<Vec<u32>> {
        let wanted: Vec<(KeyHash, u64)> = (1..5).map(|number| (key(number), u64::MAX)).collect();
        let sorted = |places: Vec<Place>| {
            let mut rows: Vec<u32> = places.iter().map(|place| place.row).collect();
            rows.sort_unstable();
            rows
        };
        index.rows(&wanted).unwrap().into_iter().map(sorted).collect()
    };
    let changes = [take(1, 10), take(2, 20), take(3, 30), add(4, 40), add(4, 41), add(2, 22)];
    let step = |disk: &MemoryDisk| apply(&mut try_reopen(&disk.dir())?, 2, &changes);
    let faults = at_every_change(&start, false, step, |disk, _| {
        let mut index = reopen(&disk.dir());
        if index.version() == 1 {
            assert_eq!(rows(&index), [vec![10, 11, 12], vec![20, 21], vec![30], vec![]]);
            if index.prepared().is_none() {
                return;
            }
            index.finish().unwrap();
        }
        assert_eq!(rows(&index), [vec![11, 12], vec![21, 22], vec![], vec![40, 41]]);
    });
    assert!(faults > 5, "{faults} faults");
}

#[test]
fn a_kill_during_recovery_is_recovered_from() {
    let start = MemoryDisk::default();
    let (mut index, before) = grown(&start);
    let (changes, after) = next_step(&mut index, &before).unwrap();
    let mut step = index.step(2, 2).unwrap();
    step.push(&changes).unwrap();
    step.prepare().unwrap();
    // The third change after `prepare` is the second bucket of the step: the header says that it is being carried out.
    start.fail_from(3, false);
    index.finish().unwrap_err();
    assert!(start.heal());
    let recover = |disk: &MemoryDisk| try_reopen(&disk.dir()).map(drop);
    let faults = at_every_change(&start, false, recover, |disk, _| {
        let index = reopen(&disk.dir());
        assert_eq!(index.version(), 2);
        assert_is(&index, &after);
    });
    assert!(faults > 5, "{faults} faults");
}

#[test]
fn a_kill_during_a_rewrite_leaves_the_state_before_or_after() {
    let start = MemoryDisk::default();
    let (mut index, before) = grown(&start);
    let (changes, after) = next_step(&mut index, &before).unwrap();
    apply(&mut index, 2, &changes).unwrap();
    drop(index);
    let live: Model =
        after.iter().map(|(number, entry)| (*number, entry.filter(|entry| entry.place().is_some()))).collect();
    let rewrite = |disk: &MemoryDisk| try_reopen(&disk.dir())?.clear_tombstones();
    let faults = at_every_change(&start, false, rewrite, |disk, _| {
        let index = reopen(&disk.dir());
        assert_is(&index, if index.entries() == live.values().flatten().count() as u64 { &live } else { &after });
    });
    assert!(faults >= 4, "{faults} faults");
}

#[test]
fn a_kill_while_building_leaves_nothing_or_all() {
    let start = MemoryDisk::default();
    let (index, old) = grown(&start);
    drop(index);
    let build = |disk: &MemoryDisk| {
        let mut builder = Builder::create_in(disk.dir(), TABLE, Shape::Unique, seed(), boot(), 1)?;
        let file = builder.file_id("second.parquet")?;
        (0..1_000).try_for_each(|number| builder.push(key(number), row(Place { file, row: 5 })))?;
        builder.finish(9).map(drop)
    };
    at_every_change(&start, true, build, |disk, at| match KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap() {
        Opened::Missing => {}
        Opened::Ready(index) => {
            assert_eq!((index.version(), at), (1, 1), "only before the first change is the old one there");
            assert_is(&index, &old);
        }
        Opened::Unusable { why } => panic!("change {at}: {why}"),
    });
}

#[test]
fn closed_index_outlasts_the_machine_and_an_open_one_does_not() {
    let start = MemoryDisk::default();
    let (index, model) = grown(&start);
    let open = |disk: &MemoryDisk, boot: Option<&str>| {
        KeyIndex::open_in(disk.dir(), TABLE, boot.map(BootId::from_text)).unwrap()
    };
    assert!(matches!(open(&start, Some("second boot")), Opened::Unusable { .. }));
    assert!(matches!(open(&start, None), Opened::Unusable { .. }));
    index.close().unwrap();
    assert_is(&ready(open(&start, None)), &model);
    let mut index = ready(open(&start, Some("second boot")));
    assert_is(&index, &model);
    index.advance(2).unwrap();
    assert!(matches!(open(&start, Some("third boot")), Opened::Unusable { .. }));
    assert_eq!(ready(open(&start, Some("second boot"))).version(), 2);
}

#[test]
fn every_flipped_bit_is_found() {
    let start = MemoryDisk::default();
    let (mut index, model) = grown(&start);
    index.file_id("second.parquet").unwrap();
    index.advance(2).unwrap();
    drop(index);
    let mut dice = Dice(4);
    for name in ["blocks", "files"] {
        let bits = start.with_bytes(name, |bytes| bytes.len() as u64 * 8);
        for _ in 0..400 {
            let (disk, bit) = (start.fork(), dice.below(bits) as usize);
            disk.with_bytes(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let damage = match KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap() {
                Opened::Unusable { why } => why,
                Opened::Ready(index) => {
                    let keys: Vec<KeyHash> = model.keys().map(|number| key(*number)).collect();
                    index.lookup(&keys).and(index.verify()).unwrap_err()
                }
                Opened::Missing => panic!("{name} bit {bit}: missing"),
            };
            assert_eq!(damage.kind(), Kind::Data);
            assert!(damage.what().starts_with("memory/"), "{damage}");
        }
    }
}

#[test]
fn shortened_files_and_foreign_tables_are_found() {
    let start = MemoryDisk::default();
    drop(grown(&start));
    for name in ["blocks", "files"] {
        for keep in [0, 1, 100, 4_096, 5_000] {
            let disk = start.fork();
            disk.with_bytes(name, |bytes| bytes.truncate(keep));
            let whole = start.with_bytes(name, |bytes| bytes.len() <= keep);
            let opened = KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap();
            assert_eq!(matches!(opened, Opened::Ready(_)), whole, "{name} cut to {keep} bytes");
        }
    }
    let disk = start.fork();
    disk.dir().remove("files").unwrap();
    assert!(matches!(KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap(), Opened::Unusable { .. }));
    let Opened::Unusable { why } = KeyIndex::open_in(start.dir(), [8; 16], boot()).unwrap() else {
        panic!("an index of another table was taken");
    };
    assert!(why.what().contains("another table"));
    assert!(matches!(KeyIndex::open_in(MemoryDisk::default().dir(), TABLE, boot()).unwrap(), Opened::Missing));
}

#[test]
fn a_disk_that_was_full_for_a_moment_costs_nothing_but_a_reopen() {
    let start = MemoryDisk::default();
    let (index, before) = grown(&start);
    drop(index);
    for at in 1.. {
        let disk = start.fork();
        let mut index = reopen(&disk.dir());
        let (changes, after) = next_step(&mut index, &before).unwrap();
        disk.fail_once(at);
        let result = apply(&mut index, 2, &changes);
        if !disk.heal() {
            assert!(at > 10, "{at} changes");
            return result.unwrap();
        }
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Full);
        assert!(error.how_to_fix().is_some_and(|fix| fix.contains("Free space")));
        if index.lookup(&[key(0)]).is_ok() {
            // Nothing had been changed: the same index goes on.
            assert_is(&index, &before);
            apply(&mut index, 2, &changes).unwrap();
            assert_is(&index, &after);
        } else {
            drop(index);
            let mut index = reopen(&disk.dir());
            index.finish().unwrap();
            assert_is(&index, &after);
        }
    }
}

#[test]
fn an_abandoned_step_never_was() {
    let disk = MemoryDisk::default();
    let (mut index, before) = grown(&disk);
    let (changes, _) = next_step(&mut index, &before).unwrap();
    let mut step = index.step(2, 77).unwrap();
    step.push(&changes).unwrap();
    step.prepare().unwrap();
    assert_eq!(index.step(3, 0).err().unwrap().kind(), Kind::Bug);
    index.abandon().unwrap();
    drop(index);
    let mut index = reopen(&disk.dir());
    assert_eq!(index.prepared(), None);
    assert_is(&index, &before);
    assert_eq!(index.advance(1).unwrap_err().kind(), Kind::Bug, "a step goes forward");
}

#[test]
fn a_change_of_the_wrong_shape_is_a_bug() {
    let place = |index: &mut KeyIndex| Place { file: index.file_id("a.parquet").unwrap(), row: 0 };
    let mut unique = empty(MemoryDisk::default().dir(), Shape::Unique);
    let change = Change::Add { key: key(1), place: place(&mut unique) };
    assert_eq!(apply(&mut unique, 1, &[change]).unwrap_err().kind(), Kind::Bug);
    let mut multiset = empty(MemoryDisk::default().dir(), Shape::Multiset);
    assert_eq!(apply(&mut multiset, 1, &[Change::Remove { key: key(1) }]).unwrap_err().kind(), Kind::Bug);
}
