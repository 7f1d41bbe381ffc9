//! Random steps, against a map in memory that does the same.

use std::collections::{HashMap, HashSet};

use super::disk::MemoryDisk;
use super::*;
use crate::index::ScratchMap;

fn place(index: &mut KeyIndex, dice: &mut Dice) -> Place {
    let file = format!("part-{}.parquet", dice.below(50));
    Place { file: index.file_id(&file).unwrap(), row: dice.below(1 << 30) as u32 }
}

#[test]
fn unique_index_is_a_map() {
    let (disk, mut dice) = (MemoryDisk::default(), Dice(1));
    let mut index = empty(disk.dir(), Shape::Unique);
    let mut model: HashMap<u64, Entry> = HashMap::new();
    let keys = 30_000;
    for version in 1..=200 {
        let mut changes = Vec::new();
        let mut moved = Vec::new();
        for _ in 0..500 {
            let number = dice.below(keys);
            let place = place(&mut index, &mut dice);
            match dice.below(10) {
                0..=5 => {
                    let entry = Entry::Row { place, copied: dice.below(2) == 0 };
                    changes.push(Change::Put { key: key(number), entry });
                    model.insert(number, entry);
                }
                6 => {
                    changes.push(Change::Put { key: key(number), entry: Entry::Tombstone });
                    model.insert(number, Entry::Tombstone);
                }
                7 | 8 => {
                    changes.push(Change::Remove { key: key(number) });
                    model.remove(&number);
                }
                _ => moved.push((number, place)),
            }
        }
        apply(&mut index, version * 2 - 1, &changes).unwrap();
        // A move looks at the entry from before the step, so each key moves once.
        let (mut moves, mut seen) = (Vec::new(), HashSet::new());
        for (number, to) in moved {
            let elsewhere = Place { row: 1, ..to };
            moves.push(Change::Move { key: key(number), from: elsewhere, to });
            if let Some(Entry::Row { place, copied }) = model.get(&number).copied()
                && seen.insert(number)
            {
                moves.push(Change::Move { key: key(number), from: place, to });
                model.insert(number, Entry::Row { place: to, copied });
            }
        }
        apply(&mut index, version * 2, &moves).unwrap();
        if dice.below(10) == 0 {
            drop(index);
            index = reopen(&disk.dir());
        }
    }
    assert_eq!(index.entries(), model.len() as u64);
    let all: Vec<u64> = (0..keys).collect();
    let found = index.lookup(&all.iter().map(|number| key(*number)).collect::<Vec<_>>()).unwrap();
    for (number, entry) in all.iter().zip(found) {
        assert_eq!(entry, model.get(number).copied(), "key {number}");
    }
    index.clear_tombstones().unwrap();
    model.retain(|_, entry| *entry != Entry::Tombstone);
    assert_eq!(index.entries(), model.len() as u64);
    assert_eq!(index.lookup(&[key(keys)]).unwrap(), [None]);
    assert_eq!(index.version(), 400);
    let mut index = index.emptied(401).unwrap();
    assert_eq!((index.entries(), index.version()), (0, 401));
    let found = index.lookup(&all.iter().map(|number| key(*number)).collect::<Vec<_>>()).unwrap();
    assert!(found.iter().all(Option::is_none));
    let place = place(&mut index, &mut dice);
    apply(&mut index, 402, &[Change::Put { key: key(1), entry: row(place) }]).unwrap();
    assert_eq!(reopen(&disk.dir()).lookup(&[key(1)]).unwrap(), [Some(row(place))]);
}

#[test]
fn multiset_index_counts_equal_rows() {
    let (disk, mut dice) = (MemoryDisk::default(), Dice(2));
    let mut index = empty(disk.dir(), Shape::Multiset);
    let mut model: HashMap<u64, Vec<Place>> = HashMap::new();
    let mut row_number = 0;
    let file = index.file_id("a.parquet").unwrap();
    for version in 1..=100 {
        let mut changes = Vec::new();
        for _ in 0..200 {
            // Few identities with many rows, and many with few.
            let number = if dice.below(2) == 0 { dice.below(3) } else { dice.below(3_000) };
            let rows = model.entry(number).or_default();
            if dice.below(5) < 3 || rows.is_empty() {
                row_number += 1;
                let place = Place { file, row: row_number };
                rows.push(place);
                changes.push(Change::Add { key: key(number), place });
            } else {
                let at = dice.below(rows.len() as u64) as usize;
                let from = rows.swap_remove(at);
                if dice.below(4) == 0 {
                    row_number += 1;
                    let to = Place { file, row: row_number };
                    rows.push(to);
                    changes.push(Change::Move { key: key(number), from, to });
                } else {
                    changes.push(Change::Take { key: key(number), place: from });
                }
            }
        }
        changes.push(Change::Take { key: key(1_000_000), place: Place { file, row: 0 } });
        apply(&mut index, version, &changes).unwrap();
    }
    let other = index.file_id("b.parquet").unwrap();
    index.relocate(101, |place| Place { file: other, row: place.row + 1 }).unwrap();
    index = {
        drop(index);
        reopen(&disk.dir())
    };
    assert_eq!(index.version(), 101);
    for (number, rows) in &model {
        let mut found = index.rows(&[(key(*number), u64::MAX)]).unwrap().remove(0);
        found.sort();
        let mut wanted: Vec<Place> = rows.iter().map(|place| Place { file: other, row: place.row + 1 }).collect();
        wanted.sort();
        assert_eq!(found, wanted, "identity {number}");
        assert_eq!(index.rows(&[(key(*number), 2)]).unwrap()[0].len(), rows.len().min(2));
    }
}

#[test]
fn built_index_is_the_one_that_steps_make() {
    for (entries, memory_bytes) in [(0, 1 << 20), (10, 1 << 20), (60_000, 1 << 20), (60_000, 1)] {
        let disk = MemoryDisk::default();
        let mut builder = Builder::create_in(disk.dir(), TABLE, Shape::Unique, seed(), boot(), memory_bytes).unwrap();
        let file = builder.file_id("a.parquet").unwrap();
        for number in 0..entries {
            builder.push(key(number.into()), row(Place { file, row: number })).unwrap();
        }
        builder.push(key(3), Entry::Tombstone).unwrap();
        builder.push(key(1 << 40), Entry::Tombstone).unwrap();
        builder.push(key(1 << 40), Entry::Tombstone).unwrap();
        let index = builder.finish(5).unwrap();
        let keys: Vec<KeyHash> = (0..entries).map(|number| key(number.into())).collect();
        let wanted: Vec<Option<Entry>> = (0..entries).map(|number| Some(row(Place { file, row: number }))).collect();
        assert_eq!(index.lookup(&keys).unwrap(), wanted);
        assert_eq!(index.lookup(&[key(1 << 40)]).unwrap(), [Some(Entry::Tombstone)]);
        assert_eq!((index.version(), index.file_path(file)), (5, Some("a.parquet")));
        drop(index);
        assert_eq!(reopen(&disk.dir()).lookup(&keys).unwrap(), wanted);
        assert_eq!(disk.names(), ["blocks", "files"]);
    }
}

#[test]
fn built_multiset_keeps_equal_rows() {
    let disk = MemoryDisk::default();
    let mut builder = Builder::create_in(disk.dir(), TABLE, Shape::Multiset, seed(), boot(), 1).unwrap();
    let file = builder.file_id("a.parquet").unwrap();
    for number in 0..20_000 {
        builder.push(key(u64::from(number) % 7), row(Place { file, row: number })).unwrap();
    }
    builder.push(key(7), row(Place { file, row: 7 })).unwrap();
    let index = builder.finish(1).unwrap();
    for number in 0..7 {
        let mut rows: Vec<u32> =
            index.rows(&[(key(number), u64::MAX)]).unwrap()[0].iter().map(|place| place.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..20_000).filter(|row| u64::from(*row) % 7 == number).collect::<Vec<_>>());
    }
    assert_eq!(index.rows(&[(key(7), 9), (key(8), 9)]).unwrap(), [vec![Place { file, row: 7 }], vec![]]);
}

#[test]
fn two_rows_of_one_key_are_refused() {
    let mut builder = Builder::create_in(MemoryDisk::default().dir(), TABLE, Shape::Unique, seed(), boot(), 1).unwrap();
    let file = builder.file_id("a.parquet").unwrap();
    builder.push(key(1), row(Place { file, row: 1 })).unwrap();
    builder.push(key(1), row(Place { file, row: 2 })).unwrap();
    assert_eq!(builder.finish(1).err().unwrap().kind(), change::Kind::Contract);
}

#[test]
fn scratch_map_is_a_map_before_and_after_it_spills() {
    let disk = MemoryDisk::default();
    let mut scratch = ScratchMap::within(disk.dir(), 1_000);
    let (mut model, mut dice) = (HashMap::new(), Dice(3));
    for round in 0..100 {
        let mut entries = Vec::new();
        for _ in 0..200 {
            let (number, value) = (dice.below(20_000), dice.below(u64::MAX));
            if dice.below(4) == 0 {
                model.remove(&number);
                entries.push((key(number), None));
            } else {
                model.insert(number, value);
                entries.push((key(number), Some(value)));
            }
        }
        scratch.set(&entries).unwrap();
        assert_eq!(scratch.len(), model.len() as u64, "round {round}");
    }
    let keys: Vec<KeyHash> = (0..20_000).map(key).collect();
    let wanted: Vec<Option<u64>> = (0..20_000).map(|number| model.get(&number).copied()).collect();
    assert_eq!(scratch.get(&keys).unwrap(), wanted);
    let mut visited = 0;
    scratch
        .for_each(|_, _| {
            visited += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(visited, model.len());
    assert!(disk.names().is_empty());
}

#[test]
fn one_step_of_very_many_keys_fits_into_a_new_index() {
    let mut index = empty(MemoryDisk::default().dir(), Shape::Unique);
    let file = index.file_id("part-0").unwrap();
    let put = |number: u64| Change::Put {
        key: key(number),
        entry: Entry::Row { place: Place { file, row: number as u32 }, copied: true },
    };
    let changes: Vec<Change> = (0..200_000).map(put).collect();
    apply(&mut index, 1, &changes).unwrap();
    assert_eq!(index.entries(), 200_000);
    let keys: Vec<KeyHash> = (0..200_000).step_by(997).map(key).collect();
    assert!(index.lookup(&keys).unwrap().iter().all(Option::is_some));
}

#[test]
fn blocks_that_are_not_in_memory_are_asked_for_together_and_no_others() {
    const ROWS: u32 = 400_000;
    let disk = MemoryDisk::default();
    let mut index = empty(disk.dir(), Shape::Unique);
    let file = index.file_id("part-0").unwrap();
    let put = |number: u32| Change::Put { key: key(u64::from(number)), entry: row_of(file, number) };
    apply(&mut index, 1, &(0..ROWS).map(put).collect::<Vec<_>>()).unwrap();
    let numbers: Vec<u32> = (0..ROWS).step_by(401).collect();
    let keys: Vec<KeyHash> = numbers.iter().map(|number| key(u64::from(*number))).collect();
    let wanted: Vec<Option<Entry>> = numbers.iter().map(|number| Some(row_of(file, *number))).collect();

    let of_each = |disk: &MemoryDisk| {
        disk.chill();
        keys.iter().for_each(|key| drop(index.lookup(&[*key]).unwrap()));
        disk.waited()
    };
    let (blocks, asked) = of_each(&disk);
    assert!(blocks > 700 && asked == 0, "{blocks} blocks, {asked} asked for");
    disk.chill();
    assert_eq!(index.lookup(&keys).unwrap(), wanted);
    let (waits, asked) = disk.waited();
    assert_eq!(waits, 1, "for {blocks} blocks");
    assert!(asked < blocks, "{asked} blocks were asked for, {blocks} are read");
    // What is in memory is not asked for.
    assert_eq!(index.lookup(&keys).unwrap(), wanted);
    assert_eq!(disk.waited(), (waits, asked));
}

/// As a scratch file hands them out: the first part of the step falls into few blocks, and is no sign of damage.
#[test]
fn one_step_of_very_many_keys_in_the_order_of_blocks_fits_into_a_small_index() {
    let mut index = empty(MemoryDisk::default().dir(), Shape::Unique);
    let file = index.file_id("part-0").unwrap();
    let put = |(key, row): (KeyHash, u32)| Change::Put { key, entry: row_of(file, row) };
    let row_of_key = |number: u32| (key(u64::from(number)), number);
    apply(&mut index, 1, &(0..1000).map(row_of_key).map(put).collect::<Vec<_>>()).unwrap();
    let mut keys: Vec<(KeyHash, u32)> = (500..KEYS).map(row_of_key).collect();
    keys.sort_unstable();
    apply(&mut index, 2, &keys.into_iter().map(put).collect::<Vec<_>>()).unwrap();
    assert_eq!(index.entries(), u64::from(KEYS));
    for number in (0..KEYS).step_by(9973) {
        assert_eq!(index.lookup(&[key(u64::from(number))]).unwrap(), [Some(row_of(file, number))]);
    }
}

/// Enough that the first part of a step is a small share of it.
const KEYS: u32 = 1_200_000;

fn row_of(file: crate::index::FileId, row: u32) -> Entry {
    Entry::Row { place: Place { file, row }, copied: true }
}
