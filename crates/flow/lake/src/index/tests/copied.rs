//! Keys of a first copy, which wait beside the blocks.

use std::collections::BTreeMap;

use change::Kind;

use super::crash::at_every_change;
use super::disk::MemoryDisk;
use super::*;

type Model = BTreeMap<u64, Entry>;

fn copied(place: Place) -> Entry {
    Entry::Row { place, copied: true }
}

fn bring(index: &mut KeyIndex, to_version: u64, rows: &[(KeyHash, Place)]) -> change::Result<()> {
    index.expect_new_keys()?;
    index.prepare_copied(to_version, u128::from(to_version), rows)?;
    index.finish()
}

/// What a chunk may bring of these keys, by what the index says of them.
fn allowed(index: &KeyIndex, numbers: &[u64]) -> Vec<u64> {
    let keys: Vec<KeyHash> = numbers.iter().map(|number| key(*number)).collect();
    let free = |entry: &Option<Entry>| matches!(entry, None | Some(Entry::Row { copied: true, .. }));
    let found = index.lookup(&keys).unwrap();
    numbers.iter().zip(found).filter(|(_, entry)| free(entry)).map(|(number, _)| *number).collect()
}

fn assert_is(index: &KeyIndex, model: &Model, keys: u64) {
    let asked: Vec<KeyHash> = (0..keys).map(key).collect();
    for (number, found) in (0..).zip(index.lookup(&asked).unwrap()) {
        assert_eq!(found, model.get(&number).copied(), "key {number}");
    }
    index.verify().unwrap();
}

#[test]
fn chunks_and_the_stream_beside_them_make_the_map_that_steps_make() {
    let keys = 20_000;
    for round in 0..6 {
        let (disk, mut dice, mut model) = (MemoryDisk::default(), Dice(round), Model::new());
        let mut index = empty(disk.dir(), Shape::Unique);
        let mut most_files = 0;
        for version in 1..=120 {
            let file = index.file_id(&format!("part-{version}.parquet")).unwrap();
            let size = if round.is_multiple_of(2) { 1 + dice.below(40) } else { dice.below(800) };
            let numbers: Vec<u64> = (0..size).map(|_| dice.below(keys)).collect();
            let place = |number: u64| Place { file, row: number as u32 };
            if dice.below(3) > 0 {
                let numbers = allowed(&index, &numbers);
                let rows: Vec<_> = numbers.iter().map(|number| (key(*number), place(*number))).collect();
                bring(&mut index, version, &rows).unwrap();
                model.extend(numbers.iter().map(|number| (*number, copied(place(*number)))));
            } else {
                let entry = |number: u64| if number.is_multiple_of(3) { Entry::Tombstone } else { row(place(number)) };
                let put = |number: &u64| Change::Put { key: key(*number), entry: entry(*number) };
                apply(&mut index, version, &numbers.iter().map(put).collect::<Vec<_>>()).unwrap();
                model.extend(numbers.iter().map(|number| (*number, entry(*number))));
            }
            most_files = most_files.max(disk.names().iter().filter(|name| name.starts_with("copied.")).count());
            match dice.below(12) {
                0 => {
                    index = {
                        drop(index);
                        reopen(&disk.dir())
                    }
                }
                1 => {
                    index.close().unwrap();
                    index = ready(KeyIndex::open_in(disk.dir(), TABLE, Some(BootId::from_text("next boot"))).unwrap());
                    index.close().unwrap();
                    index = reopen(&disk.dir());
                }
                2 if round > 3 => {
                    // Compaction moves a row, which asks for it where it lies.
                    let Some((number, Entry::Row { place: from, copied })) = model.iter().nth(5).map(|(n, e)| (*n, *e))
                    else {
                        continue;
                    };
                    let to = Place { file, row: 1 << 20 };
                    let mut step = index.step(version + 1_000, 0).unwrap();
                    step.push(&[Change::Move { key: key(number), from, to }]).unwrap();
                    drop(step);
                    index.relocate(version, |place| if place == from { to } else { place }).unwrap();
                    model.insert(number, Entry::Row { place: to, copied });
                }
                _ => {}
            }
        }
        assert!(most_files > 1, "{most_files} files at once");
        assert_is(&index, &model, keys);
        index.clear_tombstones().unwrap();
        model.retain(|_, entry| *entry != Entry::Tombstone);
        assert_is(&index, &model, keys);
        assert_eq!(index.entries(), model.len() as u64);
        assert_eq!(disk.names().iter().filter(|name| name.starts_with("copied.")).count(), 0);
    }
}

#[test]
fn rows_that_are_removed_when_the_copy_is_over_do_not_come_back() {
    let disk = MemoryDisk::default();
    let (mut index, model) = waiting(&disk);
    let some = *model.iter().find(|(number, _)| **number >= 600).unwrap().0;
    apply(&mut index, 9, &[Change::Remove { key: key(some) }]).unwrap();
    drop(index);
    assert_eq!(reopen(&disk.dir()).lookup(&[key(some)]).unwrap(), [None]);
}

/// An index of 600 keys in the blocks and 200 that wait in two files, one of which has keys of the blocks too.
fn waiting(disk: &MemoryDisk) -> (KeyIndex, Model) {
    let (mut index, mut model) = (empty(disk.dir(), Shape::Unique), Model::new());
    for (version, numbers) in [(1, 0..600), (2, 600..700), (3, 550..800)] {
        let file = index.file_id(&format!("part-{version}.parquet")).unwrap();
        let rows: Vec<_> = numbers.map(|number| (number, Place { file, row: number as u32 })).collect();
        bring(&mut index, version, &rows.iter().map(|(number, place)| (key(*number), *place)).collect::<Vec<_>>())
            .unwrap();
        model.extend(rows.iter().map(|(number, place)| (*number, copied(*place))));
    }
    assert_eq!(index.copied.number(), 2);
    assert_is(&index, &model, 1_000);
    (index, model)
}

#[test]
fn a_kill_during_a_chunk_leaves_the_state_before_or_after() {
    let start = MemoryDisk::default();
    let (mut index, before) = waiting(&start);
    let file = index.file_id("part-4.parquet").unwrap();
    drop(index);
    let place = |number: u64| Place { file, row: 9_000 + number as u32 };
    // Few keys wait beside the others; many are merged into the blocks at once.
    for numbers in [780..900, 780..2_000] {
        let rows: Vec<_> = numbers.clone().map(|number| (key(number), place(number))).collect();
        let mut after = before.clone();
        after.extend(numbers.map(|number| (number, copied(place(number)))));
        for torn in [false, true] {
            let chunk = |disk: &MemoryDisk| bring(&mut try_reopen(&disk.dir())?, 4, &rows);
            let faults = at_every_change(&start, torn, chunk, |disk, at| {
                let mut index = match KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap() {
                    Opened::Ready(index) => *index,
                    Opened::Missing => panic!("change {at}: the index is gone"),
                    Opened::Unusable { why } => return assert!(torn, "change {at}: {why}"),
                };
                if index.version() == 3 {
                    assert_is(&index, &before, 2_500);
                    match index.prepared() {
                        Some(prepared) => {
                            assert_eq!((prepared.to_version, prepared.stamp), (4, 4));
                            index.finish().unwrap();
                        }
                        None => bring(&mut index, 4, &rows).unwrap(),
                    }
                }
                assert_eq!(index.version(), 4);
                assert_is(&index, &after, 2_500);
            });
            assert!(faults > 5, "{faults} faults");
        }
    }
}

#[test]
fn an_abandoned_chunk_never_was_and_a_kill_while_settling_costs_nothing() {
    let start = MemoryDisk::default();
    let (mut index, model) = waiting(&start);
    let file = index.file_id("part-4.parquet").unwrap();
    index.prepare_copied(4, 77, &[(key(900), Place { file, row: 1 })]).unwrap();
    assert_eq!(index.prepare_copied(5, 0, &[]).unwrap_err().kind(), Kind::Bug);
    index.abandon().unwrap();
    assert_is(&index, &model, 1_000);
    drop(index);
    assert_is(&reopen(&start.dir()), &model, 1_000);
    let settle = |disk: &MemoryDisk| try_reopen(&disk.dir())?.settle();
    let faults = at_every_change(&start, false, settle, |disk, _| assert_is(&reopen(&disk.dir()), &model, 1_000));
    assert!(faults > 4, "{faults} faults");
    let mut multiset = empty(MemoryDisk::default().dir(), Shape::Multiset);
    assert_eq!(multiset.prepare_copied(1, 0, &[]).unwrap_err().kind(), Kind::Bug);
}

#[test]
fn damaged_shortened_and_missing_files_are_found() {
    let start = MemoryDisk::default();
    let (index, model) = waiting(&start);
    drop(index);
    let keys: Vec<KeyHash> = model.keys().map(|number| key(*number)).collect();
    let damage = |disk: &MemoryDisk| match KeyIndex::open_in(disk.dir(), TABLE, boot()).unwrap() {
        Opened::Unusable { why } => Some(why),
        Opened::Ready(index) => index.lookup(&keys).and(index.verify()).err(),
        Opened::Missing => panic!("the index is gone"),
    };
    assert!(damage(&start).is_none());
    let mut dice = Dice(5);
    for name in ["copied.0", "copied.1"] {
        let bits = start.with_bytes(name, |bytes| bytes.len() as u64 * 8);
        for _ in 0..300 {
            let (disk, bit) = (start.fork(), dice.below(bits) as usize);
            disk.with_bytes(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(damage(&disk).unwrap().kind(), Kind::Data);
        }
        for keep in [0, 100, 4_096, 5_000] {
            let disk = start.fork();
            disk.with_bytes(name, |bytes| bytes.truncate(keep));
            assert_eq!(damage(&disk).unwrap().kind(), Kind::Data);
        }
        let disk = start.fork();
        disk.dir().remove(name).unwrap();
        assert_eq!(damage(&disk).unwrap().kind(), Kind::Data);
    }
    // The file of another index, whose keys are hashed otherwise.
    let disk = start.fork();
    let other = MemoryDisk::default();
    let mut index =
        Builder::create_in(other.dir(), TABLE, Shape::Unique, KeySeed::new(1), boot(), 1).unwrap().finish(0).unwrap();
    let file = index.file_id("a.parquet").unwrap();
    index.prepare_copied(1, 1, &[(key(1), Place { file, row: 1 })]).unwrap();
    let foreign = other.with_bytes("copied.0", |bytes| bytes.clone());
    disk.with_bytes("copied.0", |bytes| *bytes = foreign);
    assert_eq!(damage(&disk).unwrap().kind(), Kind::Data);
}

#[test]
fn a_copy_costs_what_it_brings() {
    let traffic = |chunks: u64| {
        let disk = MemoryDisk::default();
        let mut index = empty(disk.dir(), Shape::Unique);
        for chunk in 0..chunks {
            let file = index.file_id(&format!("part-{chunk}.parquet")).unwrap();
            let numbers = chunk * 2_000..(chunk + 1) * 2_000;
            let rows: Vec<_> = numbers.map(|number| (key(number), Place { file, row: number as u32 })).collect();
            index.expect_new_keys().unwrap();
            assert!(
                index
                    .lookup(&rows.iter().map(|(key, _)| *key).collect::<Vec<_>>())
                    .unwrap()
                    .iter()
                    .all(Option::is_none)
            );
            bring(&mut index, chunk + 1, &rows).unwrap();
        }
        index.clear_tombstones().unwrap();
        assert_eq!(index.entries(), chunks * 2_000);
        disk.traffic() / (chunks * 2_000)
    };
    let (small, large) = (traffic(10), traffic(160));
    assert!(large < 3 * small, "{small} bytes for a row of 10 chunks, {large} for one of 160");
}
