mod copied;
mod crash;
mod disk;
mod local;
mod model;

use super::disk::Dir;
use super::{BootId, Builder, Change, Entry, KeyHash, KeyIndex, KeySeed, Opened, Place, Shape};

const TABLE: [u8; 16] = [7; 16];
const MEMORY_BYTES: usize = 1 << 20;

fn boot() -> Option<BootId> {
    Some(BootId::from_text("first boot"))
}

fn seed() -> KeySeed {
    KeySeed::new(42)
}

fn key(number: u64) -> KeyHash {
    seed().hash(&number.to_le_bytes())
}

/// A small generator of the same numbers every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }
}

fn empty(dir: Dir, shape: Shape) -> KeyIndex {
    Builder::create_in(dir, TABLE, shape, seed(), boot(), MEMORY_BYTES).unwrap().finish(0).unwrap()
}

fn apply(index: &mut KeyIndex, to_version: u64, changes: &[Change]) -> change::Result<()> {
    let mut step = index.step(to_version, u128::from(to_version))?;
    step.push(changes)?;
    step.prepare()?;
    index.finish()
}

fn ready(opened: Opened) -> KeyIndex {
    match opened {
        Opened::Ready(index) => *index,
        Opened::Missing => panic!("the index is missing"),
        Opened::Unusable { why } => panic!("{why}"),
    }
}

fn try_reopen(dir: &Dir) -> change::Result<KeyIndex> {
    KeyIndex::open_in(dir.clone(), TABLE, boot()).map(ready)
}

fn reopen(dir: &Dir) -> KeyIndex {
    try_reopen(dir).unwrap()
}

fn row(place: Place) -> Entry {
    Entry::Row { place, copied: false }
}
