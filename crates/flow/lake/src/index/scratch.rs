use change::Result;
use hashbrown::HashMap;

use super::KeyHash;
use super::disk::Dir;
use super::map::{BlockMap, log2_blocks_for};

/// A map from hash to 64 bits for the length of one commit: in memory up to a number of keys, then in a file without a name, which
/// the system removes with the process at the latest.
///
/// A key takes about 32 bytes of memory.
pub struct ScratchMap {
    dir: Dir,
    memory_keys_max: usize,
    memory: HashMap<KeyHash, u64>,
    spilled: Option<BlockMap>,
}

impl ScratchMap {
    /// An empty map that keeps up to `memory_keys_max` keys in memory; its file, when it needs one, lies in `dir`, which holds no other.
    ///
    /// # Errors
    /// When the folder cannot be made or another process uses it.
    pub fn create(dir: &std::path::Path, memory_keys_max: usize) -> Result<Self> {
        Ok(Self::within(Dir::local(dir)?, memory_keys_max))
    }

    pub(super) fn within(dir: Dir, memory_keys_max: usize) -> Self {
        Self { dir, memory_keys_max, memory: HashMap::new(), spilled: None }
    }

    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.spilled.as_ref().map_or(self.memory.len() as u64, BlockMap::entries)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What lies under each of the keys, in their order.
    pub fn get(&self, keys: &[KeyHash]) -> Result<Vec<Option<u64>>> {
        match &self.spilled {
            Some(map) => map.get(keys),
            None => Ok(keys.iter().map(|key| self.memory.get(key).copied()).collect()),
        }
    }

    /// Sets what lies under the keys, in order, so that the last word on a key counts; `None` removes it.
    pub fn set(&mut self, entries: &[(KeyHash, Option<u64>)]) -> Result<()> {
        if self.spilled.is_none() {
            for (key, value) in entries {
                match value {
                    Some(value) => self.memory.insert(*key, *value),
                    None => self.memory.remove(key),
                };
            }
            return if self.memory.len() > self.memory_keys_max { self.spill() } else { Ok(()) };
        }
        let mut ascending: Vec<(KeyHash, Option<u64>)> = entries.iter().rev().copied().collect();
        ascending.sort_by_key(|(key, _)| *key);
        ascending.dedup_by_key(|(key, _)| *key);
        self.set_spilled(&ascending)
    }

    /// Hands out every key with what lies under it, in no order that means anything.
    pub fn for_each(&self, mut visit: impl FnMut(KeyHash, u64) -> Result<()>) -> Result<()> {
        match &self.spilled {
            Some(map) => map.for_each(visit),
            None => self.memory.iter().try_for_each(|(key, value)| visit(*key, *value)),
        }
    }

    fn spill(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.memory);
        self.spilled = Some(BlockMap::create(self.dir.create_nameless()?, log2_blocks_for(entries.len() as u64))?);
        let mut ascending: Vec<_> = entries.into_iter().map(|(key, value)| (key, Some(value))).collect();
        ascending.sort_unstable();
        self.set_spilled(&ascending)
    }

    fn set_spilled(&mut self, ascending: &[(KeyHash, Option<u64>)]) -> Result<()> {
        let Some(map) = &mut self.spilled else { return Ok(()) };
        while !map.set(ascending)? {
            *map = map.doubled(|| self.dir.create_nameless())?;
        }
        if map.is_loaded() {
            *map = map.doubled(|| self.dir.create_nameless())?;
        }
        Ok(())
    }
}
