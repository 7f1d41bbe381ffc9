use change::{Error, Kind, Result};

use super::entry::{self, Change};
use super::header::Shape;
use super::intent::IntentWriter;
use super::multiset::Multiset;
use super::scratch::ScratchMap;
use super::{KeyHash, KeyIndex};

/// Keys of one step of a multiset that are kept in memory: about 8 MiB.
pub(super) const OVERLAY_KEYS_MAX: usize = 1 << 18;

/// The step of an index from one table version to the next, while it is written down. Dropped, it never was.
pub struct Step<'a> {
    index: &'a mut KeyIndex,
    intent: IntentWriter,
    overlay: ScratchMap,
    to_version: u64,
    stamp: u128,
}

impl<'a> Step<'a> {
    pub(super) fn new(index: &'a mut KeyIndex, intent: IntentWriter, to_version: u64, stamp: u128) -> Self {
        let overlay = index.overlay();
        Self { index, intent, overlay, to_version, stamp }
    }

    /// Adds changes; the last word on a key counts. A [`Change::Move`] in a unique index looks at the entry from before the step.
    ///
    /// # Errors
    /// [`Kind::Bug`] when a change does not go with the index's shape; otherwise as [`KeyIndex::lookup`], or when the disk is full.
    pub fn push(&mut self, changes: &[Change]) -> Result<()> {
        match self.index.header.shape {
            Shape::Unique => self.push_unique(changes),
            Shape::Multiset => self.push_multiset(changes),
        }
    }

    /// The step is complete and outlasts a crash of the process; the table's commit may follow, then [`KeyIndex::finish`].
    pub fn prepare(self) -> Result<()> {
        let Self { index, intent, to_version, stamp, .. } = self;
        let intent = intent.complete(index.version(), to_version, stamp, index.files.next(), false)?;
        index.keep_prepared(intent);
        Ok(())
    }

    fn push_unique(&mut self, changes: &[Change]) -> Result<()> {
        // What is removed or moved must be in the blocks; what is put there covers a copied row.
        if changes.iter().any(|change| matches!(change, Change::Remove { .. } | Change::Move { .. })) {
            self.index.settle()?;
        }
        let moves: Vec<KeyHash> = changes.iter().filter_map(moved_key).collect();
        let mut before = self.index.map.get(&moves)?.into_iter();
        for change in changes {
            match *change {
                Change::Put { key, entry } => {
                    self.index.copied.know(key);
                    self.intent.push(key, Some(entry::encode(entry)?))?;
                }
                Change::Remove { key } => self.intent.push(key, None)?,
                Change::Move { key, from, to } => match before.next().flatten() {
                    Some(payload) if entry::is_row(payload) && entry::unpack(payload) == from => {
                        self.intent.push(key, Some(entry::pack(to)? | entry::marks(payload)))?;
                    }
                    _ => {}
                },
                Change::Add { .. } | Change::Take { .. } => return Err(wrong_shape("unique")),
            }
        }
        Ok(())
    }

    fn push_multiset(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes {
            let multiset = Multiset::new(&self.index.map, Some(&self.overlay));
            let writes = match *change {
                Change::Add { key, place } => multiset.add(key, place)?,
                Change::Take { key, place } => multiset.take(key, place)?,
                Change::Move { key, from, to } => multiset.move_row(key, from, to)?,
                Change::Put { .. } | Change::Remove { .. } => return Err(wrong_shape("multiset")),
            };
            for (key, payload) in &writes {
                self.intent.push(*key, *payload)?;
                self.overlay.set(&[(*key, Some(payload.unwrap_or(entry::ABSENT)))])?;
            }
        }
        Ok(())
    }
}

fn moved_key(change: &Change) -> Option<KeyHash> {
    match change {
        Change::Move { key, .. } => Some(*key),
        _ => None,
    }
}

fn wrong_shape(shape: &str) -> Error {
    Error::new(Kind::Bug, format!("a change was made to the {shape} key index that does not go with its shape"))
}
