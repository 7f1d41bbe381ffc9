//! Work on the blocks of a map in their order, many read or written at once.

use std::ops::Range;

use change::Result;

use super::KeyHash;
use super::block::{BLOCK_BYTES, BLOCKS_AT, Block};
use super::disk::{NamedFile, damaged};
use super::map::{BLOCKS_AT_ONCE, BlockMap};

/// Blocks of each map that are read at once when several are merged.
const MERGED_AT_ONCE: usize = 32;

/// Reads all blocks of a map and checks every checksum.
pub(super) struct BlockReader<'a> {
    map: &'a BlockMap,
    at_once: usize,
    bytes: Vec<u8>,
    next: u64,
    block: Block,
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(map: &'a BlockMap, at_once: usize) -> Self {
        Self { map, at_once, bytes: Vec::new(), next: 0, block: Block::unloaded(0) }
    }

    pub(super) fn next(&mut self) -> Result<Option<&Block>> {
        let (blocks, at) = (1u64 << self.map.log2_blocks(), (self.next % self.at_once as u64) as usize * BLOCK_BYTES);
        if self.next == blocks {
            return Ok(None);
        }
        if at == 0 {
            self.bytes.resize(BLOCK_BYTES * (blocks - self.next).min(self.at_once as u64) as usize, 0);
            self.map.file().read_at(&mut self.bytes, BLOCKS_AT + self.next * BLOCK_BYTES as u64)?;
        }
        self.block.take_bytes(self.next, &self.bytes[at..at + BLOCK_BYTES]);
        self.block.check_all(self.map.file())?;
        self.next += 1;
        Ok(Some(&self.block))
    }
}

/// Writes blocks one after the other.
pub(super) struct BlockWriter<'a> {
    file: &'a NamedFile,
    bytes: Vec<u8>,
    at: u64,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn new(file: &'a NamedFile) -> Self {
        Self { file, bytes: Vec::new(), at: BLOCKS_AT }
    }

    pub(super) fn push(&mut self, block: &mut Block) -> Result<()> {
        self.bytes.extend_from_slice(block.sealed());
        if self.bytes.len() >= BLOCK_BYTES * BLOCKS_AT_ONCE { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Writes the blocks of a new map from its entries in order.
pub(super) struct BlockFiller<'a> {
    file: &'a NamedFile,
    log2_blocks: u32,
    block: Block,
    writer: BlockWriter<'a>,
}

impl<'a> BlockFiller<'a> {
    pub(super) fn new(file: &'a NamedFile, log2_blocks: u32) -> Self {
        Self { file, log2_blocks, block: Block::unloaded(0), writer: BlockWriter::new(file) }
    }

    /// Writes the next blocks, whose entries ascend and differ; false when one is full.
    pub(super) fn fill(&mut self, numbers: Range<u64>, ascending: &[(KeyHash, u64)]) -> Result<bool> {
        let mut rest = ascending;
        for number in numbers {
            self.block.start_empty(number);
            let here = rest.partition_point(|(key, _)| key.block(self.log2_blocks) == number);
            for (key, payload) in &rest[..here] {
                if !self.block.insert(*key, *payload, self.file)? {
                    return Ok(false);
                }
            }
            rest = &rest[here..];
            self.writer.push(&mut self.block)?;
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}

/// Writes the blocks of a new map that take the place of each block of an old one.
pub(super) struct Split<'a> {
    file: &'a NamedFile,
    log2_blocks: u32,
    /// The new blocks for the present old one.
    blocks: Vec<Block>,
    writer: BlockWriter<'a>,
    entries: u64,
    full: bool,
}

impl<'a> Split<'a> {
    /// From `1 << old_log2_blocks` blocks to as many or more.
    pub(super) fn new(file: &'a NamedFile, old_log2_blocks: u32, log2_blocks: u32) -> Self {
        let blocks = (0..1 << (log2_blocks - old_log2_blocks)).map(Block::unloaded).collect();
        Self { file, log2_blocks, blocks, writer: BlockWriter::new(file), entries: 0, full: false }
    }

    /// Begins with the new blocks for an old one.
    pub(super) fn start(&mut self, old: u64) {
        let fan = self.blocks.len() as u64;
        for (block, number) in self.blocks.iter_mut().zip(old * fan..) {
            block.start_empty(number);
        }
    }

    /// The same with all entries of the old block, which is loaded whole.
    pub(super) fn start_with(&mut self, old: &Block) -> Result<()> {
        if let [block] = self.blocks.as_mut_slice() {
            block.copy_from(old);
            self.entries += old.len();
            return Ok(());
        }
        self.start(old.number());
        old.entries().try_for_each(|(key, payload)| self.add(key, payload))
    }

    /// Adds a key of the present old block, which the new ones do not have.
    pub(super) fn add(&mut self, key: KeyHash, payload: u64) -> Result<()> {
        let file = self.file;
        if self.target(key).insert(key, payload, file)? {
            self.entries += 1;
        } else {
            self.full = true;
        }
        Ok(())
    }

    /// Adds a key of the present old block, or replaces what is under it when that `yields`.
    pub(super) fn merge(&mut self, key: KeyHash, payload: u64, yields: impl Fn(u64) -> bool) -> Result<()> {
        let file = self.file;
        let target = self.target(key);
        match target.get(key, file)? {
            None => self.add(key, payload),
            Some(before) if yields(before) => target.set(key, Some(payload), file).map(drop),
            Some(_) => Ok(()),
        }
    }

    /// Writes the new blocks for the present old one.
    pub(super) fn write(&mut self) -> Result<()> {
        self.blocks.iter_mut().try_for_each(|block| self.writer.push(block))
    }

    /// The number of entries; `None` when a block was full.
    pub(super) fn finish(self) -> Result<Option<u64>> {
        self.writer.finish()?;
        Ok((!self.full).then_some(self.entries))
    }

    fn target(&mut self, key: KeyHash) -> &mut Block {
        let number = key.block(self.log2_blocks) as usize % self.blocks.len();
        &mut self.blocks[number]
    }
}

/// The entries of several maps, newest last, in the order of another map's blocks.
pub(super) struct Incoming<'a> {
    readers: Vec<BlockReader<'a>>,
    /// Of the map whose blocks are asked for.
    log2_blocks: u32,
    /// The maps are read by so many parts: as many blocks as the smallest of them has.
    log2_parts: u32,
    part: Option<u64>,
    /// The entries of the part, ascending by key, the newest of each.
    entries: Vec<(KeyHash, u64)>,
    handed: usize,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(maps: &'a [BlockMap], log2_blocks: u32) -> Self {
        let log2_parts = maps.iter().map(BlockMap::log2_blocks).fold(log2_blocks, u32::min);
        let readers = maps.iter().map(|map| BlockReader::new(map, MERGED_AT_ONCE)).collect();
        Self { readers, log2_blocks, log2_parts, part: None, entries: Vec::new(), handed: 0 }
    }

    /// The entries of a block; all blocks are asked for in ascending order.
    pub(super) fn of_block(&mut self, number: u64) -> Result<&[(KeyHash, u64)]> {
        let part = number >> (self.log2_blocks - self.log2_parts);
        if self.part != Some(part) {
            self.read_part()?;
            self.part = Some(part);
        }
        let rest = &self.entries[self.handed..];
        let here = rest.partition_point(|(key, _)| key.block(self.log2_blocks) == number);
        self.handed += here;
        Ok(&rest[..here])
    }

    fn read_part(&mut self) -> Result<()> {
        let part = self.part.map_or(0, |part| part + 1);
        let mut entries = Vec::new();
        for (age, reader) in self.readers.iter_mut().rev().enumerate() {
            let before = entries.len();
            for _ in 0..1u64 << (reader.map.log2_blocks() - self.log2_parts) {
                let Some(block) = reader.next()? else { break };
                entries.extend(block.entries().map(|(key, payload)| (key, age, payload)));
            }
            if entries[before..].iter().any(|(key, ..)| key.block(self.log2_parts) != part) {
                return Err(damaged(reader.map.file().path(), "an entry lies in a block that is not its own"));
            }
        }
        entries.sort_unstable_by_key(|(key, age, _)| (*key, *age));
        entries.dedup_by_key(|(key, ..)| *key);
        self.entries.clear();
        self.entries.extend(entries.into_iter().map(|(key, _, payload)| (key, payload)));
        self.handed = 0;
        Ok(())
    }
}
