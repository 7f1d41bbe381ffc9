use change::Result;

use super::KeyHash;
use super::block::{BLOCK_BYTES, BLOCK_ENTRIES, BLOCKS_AT, Block};
use super::disk::{NamedFile, damaged};
use super::sequence::{BlockFiller, BlockReader, BlockWriter, Incoming, Split};

/// A map from hash to 64 bits in a file of blocks; the caller owns what stands before the first block.
///
/// The share of entries above which it doubles is [`LOAD_MAX`]. Hashes fill blocks like balls thrown at random: at that load a block of
/// [`BLOCK_ENTRIES`] holds 100 on average, and the odds that one is full are below 10^-8; then the file doubles early, which costs
/// time and nothing else.
pub(super) struct BlockMap {
    file: NamedFile,
    log2_blocks: u32,
    entries: u64,
}

/// In hundredths.
const LOAD_MAX: u64 = 60;
/// Below this load, in hundredths, a full block is no accident: the hashes are not random.
const LOAD_SUSPECT: u64 = 5;
/// With fewer blocks than this, chance may well fill one.
const LOG2_BLOCKS_SMALL: u32 = 6;
/// From this many keys of one block on, it is read whole.
const KEYS_FOR_WHOLE_BLOCK: usize = 3;
/// With a key for every so many blocks, reading all of them costs less than a call for each that is wanted.
const BLOCKS_PER_KEY_DENSE: u64 = 2;
/// Blocks that are read or written at once by sequential work.
pub(super) const BLOCKS_AT_ONCE: usize = 256;

impl BlockMap {
    /// An empty map of `1 << log2_blocks` blocks.
    pub(super) fn create(file: NamedFile, log2_blocks: u32) -> Result<Self> {
        let mut writer = BlockWriter::new(&file);
        let mut block = Block::unloaded(0);
        for number in 0..1 << log2_blocks {
            block.start_empty(number);
            writer.push(&mut block)?;
        }
        writer.finish()?;
        Ok(Self { file, log2_blocks, entries: 0 })
    }

    /// A map of entries that ascend and differ. `make` gives an empty file.
    pub(super) fn of(mut make: impl FnMut() -> Result<NamedFile>, ascending: &[(KeyHash, u64)]) -> Result<Self> {
        let entries = ascending.len() as u64;
        let mut log2_blocks = log2_blocks_for(entries);
        loop {
            let file = make()?;
            let mut filler = BlockFiller::new(&file, log2_blocks);
            if filler.fill(0..1 << log2_blocks, ascending)? {
                filler.finish()?;
                return Ok(Self { file, log2_blocks, entries });
            }
            log2_blocks += 1;
        }
    }

    /// A map that is in the file already; the file's size must fit.
    pub(super) fn open(file: NamedFile, log2_blocks: u32, entries: u64) -> Result<Self> {
        let wanted = BLOCKS_AT + (BLOCK_BYTES as u64) * (1 << log2_blocks);
        if file.len()? != wanted {
            return Err(damaged(
                file.path(),
                &format!("the file does not have the {wanted} bytes that its header says"),
            ));
        }
        if entries > (BLOCK_ENTRIES as u64) << log2_blocks {
            return Err(damaged(file.path(), "its header counts more entries than its blocks can hold"));
        }
        Ok(Self { file, log2_blocks, entries })
    }

    pub(super) fn file(&self) -> &NamedFile {
        &self.file
    }

    pub(super) fn log2_blocks(&self) -> u32 {
        self.log2_blocks
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// What lies under each of the keys, in their order. Reads every block once.
    pub(super) fn get(&self, keys: &[KeyHash]) -> Result<Vec<Option<u64>>> {
        let mut order: Vec<(KeyHash, u32)> = keys.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut found = vec![None; keys.len()];
        let mut block = Block::unloaded(0);
        let mut window = Window::for_keys(self, keys.len());
        let groups = || order.chunk_by(|(left, _), (right, _)| self.same_block(*left, *right));
        let mut ahead = Ahead::new(&self.file, groups().map(|group| group[0].0.block(self.log2_blocks)));
        for group in groups() {
            match &mut window {
                Some(window) => window.take(&mut block, group[0].0.block(self.log2_blocks))?,
                None => {
                    ahead.fetch();
                    self.turn(&mut block, group[0].0, group.len())?;
                }
            }
            for (key, index) in group {
                found[*index as usize] = block.get(*key, &self.file)?;
            }
        }
        Ok(found)
    }

    /// Sets what lies under keys that ascend and differ; `None` removes. False when a block is full: then some of the keys are set, and
    /// the same call is right again after [`BlockMap::rewrite`] into more blocks.
    pub(super) fn set(&mut self, ascending: &[(KeyHash, Option<u64>)]) -> Result<bool> {
        let mut entries = self.entries;
        let done = self.set_blocks(ascending, &mut entries);
        self.entries = entries;
        done
    }

    /// Counts in `entries` what is stored.
    fn set_blocks(&self, ascending: &[(KeyHash, Option<u64>)], entries: &mut u64) -> Result<bool> {
        let mut block = Block::unloaded(0);
        let mut window = Window::for_keys(self, ascending.len());
        for group in ascending.chunk_by(|(left, _), (right, _)| self.same_block(*left, *right)) {
            match &mut window {
                Some(window) => window.take(&mut block, group[0].0.block(self.log2_blocks))?,
                None => self.turn(&mut block, group[0].0, group.len())?,
            }
            let mut with_group = *entries;
            for (key, payload) in group {
                let Some(before) = block.set(*key, *payload, &self.file)? else {
                    window.map_or(Ok(()), |mut window| window.flush())?;
                    return Ok(false);
                };
                with_group += u64::from(payload.is_some());
                with_group = with_group
                    .checked_sub(before.is_some().into())
                    .ok_or_else(|| damaged(self.file.path(), "its header counts fewer entries than its blocks hold"))?;
            }
            match &mut window {
                Some(window) => window.give(&mut block),
                None => block.store(&self.file)?,
            }
            *entries = with_group;
        }
        window.map_or(Ok(()), |mut window| window.flush())?;
        Ok(true)
    }

    /// Whether the map should double.
    pub(super) fn is_loaded(&self) -> bool {
        self.load() > LOAD_MAX
    }

    /// The same entries in twice as many blocks, or more when chance fills one of those too. `make` gives an empty file.
    pub(super) fn doubled(&self, mut make: impl FnMut() -> Result<NamedFile>) -> Result<Self> {
        if self.log2_blocks > LOG2_BLOCKS_SMALL && self.load() < LOAD_SUSPECT {
            return Err(damaged(self.file.path(), "a block is full while the file is almost empty"));
        }
        let mut log2_blocks = self.log2_blocks;
        loop {
            log2_blocks += 1;
            if let Some(map) = self.rewrite(make()?, log2_blocks, |payload| Ok(Some(payload)))? {
                return Ok(map);
            }
        }
    }

    /// Writes every entry that `keep` returns, as it returns it, into `file`, in `1 << log2_blocks` blocks: at least as many as now.
    /// Reads and writes sequentially. `None` when a block of the new file is full; then the new file is worth nothing.
    pub(super) fn rewrite(
        &self,
        file: NamedFile,
        log2_blocks: u32,
        mut keep: impl FnMut(u64) -> Result<Option<u64>>,
    ) -> Result<Option<Self>> {
        let mut split = Split::new(&file, self.log2_blocks, log2_blocks);
        self.for_each_block(|source| {
            split.start(source.number());
            for (key, payload) in source.entries() {
                if let Some(payload) = keep(payload)? {
                    split.add(key, payload)?;
                }
            }
            split.write()
        })?;
        let entries = split.finish()?;
        Ok(entries.map(|entries| Self { file, log2_blocks, entries }))
    }

    /// Writes every entry of this map and of the `newer` ones (the oldest of them first) into `file`, in `1 << log2_blocks` blocks: at least
    /// as many as now. A newer entry counts where this map has none, or one that `yields`. Reads and writes sequentially. `None` when a
    /// block of the new file is full; then the new file is worth nothing.
    pub(super) fn merged(
        &self,
        newer: &[Self],
        file: NamedFile,
        log2_blocks: u32,
        yields: impl Fn(u64) -> bool,
    ) -> Result<Option<Self>> {
        let mut split = Split::new(&file, self.log2_blocks, log2_blocks);
        let mut incoming = Incoming::new(newer, self.log2_blocks);
        self.for_each_block(|source| {
            split.start_with(source)?;
            for (key, payload) in incoming.of_block(source.number())? {
                split.merge(*key, *payload, &yields)?;
            }
            split.write()
        })?;
        let entries = split.finish()?;
        Ok(entries.map(|entries| Self { file, log2_blocks, entries }))
    }

    /// Hands out every entry, in the order of blocks, and checks every checksum.
    pub(super) fn for_each(&self, mut visit: impl FnMut(KeyHash, u64) -> Result<()>) -> Result<()> {
        self.for_each_block(|block| block.entries().try_for_each(|(key, payload)| visit(key, payload)))
    }

    /// Counts the entries anew, after a set that was cut off.
    pub(super) fn recount(&mut self) -> Result<()> {
        let mut entries = 0;
        self.for_each(|_, _| {
            entries += 1;
            Ok(())
        })?;
        self.entries = entries;
        Ok(())
    }

    /// Gives the file another name.
    pub(super) fn renamed(self, rename: impl FnOnce(NamedFile) -> Result<NamedFile>) -> Result<Self> {
        Ok(Self { file: rename(self.file)?, log2_blocks: self.log2_blocks, entries: self.entries })
    }

    fn for_each_block(&self, mut visit: impl FnMut(&Block) -> Result<()>) -> Result<()> {
        let mut reader = BlockReader::new(self, BLOCKS_AT_ONCE);
        while let Some(block) = reader.next()? {
            visit(block)?;
        }
        Ok(())
    }

    fn turn(&self, block: &mut Block, key: KeyHash, keys: usize) -> Result<()> {
        block.turn_to(key.block(self.log2_blocks));
        if keys >= KEYS_FOR_WHOLE_BLOCK { block.load(&self.file) } else { Ok(()) }
    }

    fn same_block(&self, left: KeyHash, right: KeyHash) -> bool {
        left.block(self.log2_blocks) == right.block(self.log2_blocks)
    }

    fn load(&self) -> u64 {
        self.entries * 100 / ((BLOCK_ENTRIES as u64) << self.log2_blocks)
    }
}

/// Has the blocks of a batch fetched before they are read, as soon as a read had to wait: many wait for the medium together, where one after the
/// other would. When the file is in memory nothing is asked.
struct Ahead<'a, I> {
    file: &'a NamedFile,
    /// Those that were not asked for yet.
    blocks: I,
    /// So many that were asked for are still to be read.
    asked: usize,
    /// Reads of the file that had waited before this batch.
    waits: u64,
}

/// A drive of today has as many requests under way as that.
const BLOCKS_ASKED: usize = 128;

impl<'a, I: Iterator<Item = u64>> Ahead<'a, I> {
    /// Of the blocks that will be read, in this order.
    fn new(file: &'a NamedFile, blocks: I) -> Self {
        Self { file, blocks, asked: 0, waits: file.waits() }
    }

    /// Before the next block is read.
    fn fetch(&mut self) {
        if self.file.waits() > self.waits {
            for block in self.blocks.by_ref().take(BLOCKS_ASKED - self.asked) {
                self.file.expect(BLOCKS_AT + block * BLOCK_BYTES as u64, BLOCK_BYTES);
                self.asked += 1;
            }
        }
        match self.asked.checked_sub(1) {
            Some(left) => self.asked = left,
            None => drop(self.blocks.next()),
        }
    }
}

/// Neighbouring blocks that are read, and written when one has changed, in one call each: for work that touches many of them in order.
struct Window<'a> {
    file: &'a NamedFile,
    /// Blocks of the file.
    blocks: u64,
    bytes: Vec<u8>,
    /// The first block in `bytes`; meaningless while there is none.
    first: u64,
    changed: bool,
}

impl<'a> Window<'a> {
    /// `None` when so few keys of the map are wanted that block by block is less work.
    fn for_keys(map: &'a BlockMap, keys: usize) -> Option<Self> {
        let blocks = 1 << map.log2_blocks;
        let dense = keys as u64 * BLOCKS_PER_KEY_DENSE >= blocks;
        dense.then_some(Self { file: &map.file, blocks, bytes: Vec::new(), first: 0, changed: false })
    }

    /// Hands a block out; they are asked for in ascending order.
    fn take(&mut self, block: &mut Block, number: u64) -> Result<()> {
        if !(self.first..self.first + (self.bytes.len() / BLOCK_BYTES) as u64).contains(&number) {
            self.flush()?;
            self.first = number;
            self.bytes.resize(BLOCK_BYTES * (self.blocks - number).min(BLOCKS_AT_ONCE as u64) as usize, 0);
            let at = self.at();
            self.file.read_at(&mut self.bytes, at)?;
        }
        let span = self.span(number);
        block.take_bytes(number, &self.bytes[span]);
        Ok(())
    }

    /// Takes a block back that was handed out last.
    fn give(&mut self, block: &mut Block) {
        let span = self.span(block.number());
        self.changed |= block.give_bytes(&mut self.bytes[span]);
    }

    fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.changed) { self.file.write_at(&self.bytes, self.at()) } else { Ok(()) }
    }

    fn span(&self, number: u64) -> std::ops::Range<usize> {
        let at = (number - self.first) as usize * BLOCK_BYTES;
        at..at + BLOCK_BYTES
    }

    fn at(&self) -> u64 {
        BLOCKS_AT + self.first * BLOCK_BYTES as u64
    }
}

/// The smallest number of blocks, as a power of two, that holds so many entries with room to grow by a tenth.
pub(super) fn log2_blocks_for(entries: u64) -> u32 {
    let blocks = entries * 11 / 10 * 100 / LOAD_MAX / BLOCK_ENTRIES as u64 + 1;
    blocks.next_power_of_two().trailing_zeros()
}
