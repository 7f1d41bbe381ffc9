use std::fs;
use std::path::Path;

use change::{Error, Kind, Result};

use super::copied::{self, Copied};
use super::disk::{Dir, damaged};
use super::entry::{self, Entry, FileId, Place};
use super::files::FileTable;
use super::header::{BootId, Header, Shape, State};
use super::intent::{Intent, IntentWriter};
use super::map::{BlockMap, log2_blocks_for};
use super::multiset::Multiset;
use super::scratch::ScratchMap;
use super::step::Step;
use super::{Builder, KeyHash, KeySeed};

pub(super) const NAME: &str = "blocks";
pub(super) const NEW_NAME: &str = "blocks.new";
/// No file is ever that large: 2^40 blocks are 4 PiB.
pub(super) const LOG2_BLOCKS_MAX: u32 = 40;

/// Where every live row of one lake table lies, by identity, on local disk.
///
/// It is a cache of the table: whatever error a method returns, dropping the index, opening it again and, unless it is then
/// [`Opened::Ready`] at the table's version, building it anew is right. [`Kind::Data`] means damage. One process uses a folder at a time.
pub struct KeyIndex {
    pub(super) dir: Dir,
    pub(super) header: Header,
    pub(super) map: BlockMap,
    pub(super) files: FileTable,
    pub(super) boot: Option<BootId>,
    /// Keys that are not in the blocks yet.
    pub(super) copied: Copied,
    prepared: Option<Intent>,
    /// A step was cut off by an error: the blocks are half-way.
    broken: bool,
    /// The intent on disk is of a step that this index has let go of.
    left: bool,
}

/// What was found in the folder of an index.
pub enum Opened {
    /// An index that is right at its version; the caller compares that with the table's.
    Ready(Box<KeyIndex>),
    /// Nothing: build it.
    Missing,
    /// Something that cannot be trusted: build it anew.
    Unusable {
        /// Why, for the log.
        why: Error,
    },
}

/// A step that was written down and not yet carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The table version to which it leads.
    pub to_version: u64,
    /// What the caller wrote into it, to know the commit again.
    pub stamp: u128,
}

impl KeyIndex {
    /// Opens what is in the folder `path`, which is made when missing. An index of another table (by id) is not usable, nor is one that was
    /// not closed before the machine stopped (`boot` differs from the one it was written in, or is `None`).
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process uses the folder; otherwise when the disk fails.
    pub fn open(path: &Path, table_id: [u8; 16], boot: Option<BootId>) -> Result<Opened> {
        Self::open_in(Dir::local(path)?, table_id, boot)
    }

    pub(super) fn open_in(dir: Dir, table_id: [u8; 16], boot: Option<BootId>) -> Result<Opened> {
        match Self::read(dir, table_id, boot) {
            Ok(Some(index)) => Ok(Opened::Ready(Box::new(index))),
            Ok(None) => Ok(Opened::Missing),
            Err(why) if why.kind() == Kind::Data => Ok(Opened::Unusable { why }),
            Err(error) => Err(error),
        }
    }

    fn read(dir: Dir, table_id: [u8; 16], boot: Option<BootId>) -> Result<Option<Self>> {
        let Some(file) = dir.open(NAME)? else { return Ok(None) };
        let header = Header::read(&file)?;
        let refuse = |what: &str| Err(damaged(file.path(), what));
        if header.table_id != table_id {
            return refuse("it belongs to another table");
        }
        if header.state != State::Closed && (boot.is_none() || boot != header.boot) {
            return refuse("it was not closed before the machine stopped");
        }
        if header.log2_blocks > LOG2_BLOCKS_MAX {
            return refuse("the header's number of blocks is impossible");
        }
        let prepared = match header.state {
            State::Closed => None,
            State::Live | State::Applying => Intent::open(&dir)?.filter(|intent| intent.from == header.version),
        };
        let next_file = prepared.as_ref().map_or(0, |intent| intent.next_file).max(header.next_file);
        let files = FileTable::open(&dir, next_file)?;
        let map = BlockMap::open(file, header.log2_blocks, header.entries)?;
        let copied = Copied::open(&dir, &header, prepared.as_ref())?;
        let mut index = Self { dir, header, map, files, boot, copied, prepared, broken: false, left: false };
        if header.state == State::Applying {
            if index.prepared.is_none() {
                return Err(Intent::missing(&index.dir));
            }
            index.map.recount()?;
            index.finish()?;
        }
        Ok(Some(index))
    }

    /// Removes an index and its folder, if there is one.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process uses the folder; otherwise when the disk fails.
    pub fn delete(path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let _locked = Dir::local(path)?;
        fs::remove_dir_all(path).map_err(|error| {
            Error::new(Kind::Unavailable, format!("{}: cannot remove the key index", path.display()))
                .source(error)
                .fix("Remove the folder by hand.")
        })
    }

    /// An index that was just built.
    pub(super) fn built(dir: Dir, header: Header, map: BlockMap, files: FileTable) -> Self {
        let (copied, prepared) = (Copied::default(), None);
        Self { dir, boot: header.boot, header, map, files, copied, prepared, broken: false, left: false }
    }

    /// The table version that the index reflects.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// The key of this index's hashes.
    pub fn seed(&self) -> KeySeed {
        self.header.seed
    }

    /// Whether identities have one row at most.
    pub fn shape(&self) -> Shape {
        self.header.shape
    }

    /// The number of entries, tombstones and a multiset's counts among them. While a first copy goes on, a key may count twice.
    pub fn entries(&self) -> u64 {
        self.map.entries() + self.copied.entries()
    }

    /// The number that stands for a data file, by its path; a new one when the path is new.
    pub fn file_id(&mut self, path: &str) -> Result<FileId> {
        self.wake()?;
        self.files.id(path)
    }

    /// The number that stands for a data file, when it has one.
    pub fn existing_file_id(&self, path: &str) -> Option<FileId> {
        self.files.existing(path)
    }

    /// The path of a data file; `None` when the number was forgotten.
    pub fn file_path(&self, file: FileId) -> Option<&str> {
        self.files.path(file)
    }

    /// Drops the numbers of data files that are no longer part of the table. The caller vouches that no entry refers to them.
    pub fn forget_files(&mut self, files: &[FileId]) -> Result<()> {
        self.wake()?;
        self.files.forget(&self.dir, files)
    }

    /// Data files were written again, row by row the same: each first path becomes the second. Before the index has gone to the table version
    /// of that, it is right for no version.
    pub fn rename_files<'a>(&mut self, renamed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        self.check_idle()?;
        self.wake()?;
        renamed.into_iter().try_for_each(|(from, to)| self.files.rename(from, to))
    }

    /// What the index knows of each of the keys, in their order; in a multiset, of one of its rows.
    ///
    /// # Errors
    /// [`Kind::Data`] when the index is damaged; otherwise when the disk fails.
    pub fn lookup(&self, keys: &[KeyHash]) -> Result<Vec<Option<Entry>>> {
        self.check_whole()?;
        Ok(self.payloads(keys)?.into_iter().map(|payload| payload.map(entry::decode)).collect())
    }

    /// Up to the wanted number of places for each of the keys, in their order, those added last first. For deletes from a multiset; the
    /// same place may not be taken twice, so ask once for each key.
    pub fn rows(&self, wanted: &[(KeyHash, u64)]) -> Result<Vec<Vec<Place>>> {
        self.check_whole()?;
        wanted.iter().map(|(key, rows)| Multiset::new(&self.map, None).last_rows(*key, *rows)).collect()
    }

    /// Begins the step to another table version. Nothing changes before [`Step::prepare`] and [`KeyIndex::finish`].
    ///
    /// The order of durability is: prepare, commit to the table, finish; only the first stands between readers and the commit. After a
    /// crash [`KeyIndex::prepared`] tells what was under way: finish it when the table has the commit that carries `stamp`, abandon it
    /// when not.
    pub fn step(&mut self, to_version: u64, stamp: u128) -> Result<Step<'_>> {
        let writer = self.begin_step(to_version)?;
        Ok(Step::new(self, writer, to_version, stamp))
    }

    /// The step that was prepared and neither finished nor abandoned.
    pub fn prepared(&self) -> Option<Prepared> {
        self.prepared.as_ref().map(|intent| Prepared { to_version: intent.to, stamp: intent.stamp })
    }

    /// Carries out the step that was prepared; does nothing when there is none.
    ///
    /// # Errors
    /// When the disk fails or the index is damaged; from then on every method does, and the caller opens the index again.
    pub fn finish(&mut self) -> Result<()> {
        let Some(intent) = self.prepared.take() else { return Ok(()) };
        self.broken = true;
        self.carry_out(&intent)?;
        self.copied.keep(intent.copies);
        self.header.state = State::Live;
        self.header.version = intent.to;
        self.write_header()?;
        self.broken = false;
        if intent.copies && self.copied.are_many(self.map.entries()) { self.settle() } else { Ok(()) }
    }

    /// Lets go of the step that was prepared, whose commit may have been made or not: this index goes on as if it had not. Opened again before
    /// another step is begun, it tells of the step by [`KeyIndex::prepared`].
    pub fn leave(&mut self) {
        self.copied.drop_next();
        self.left |= self.prepared.take().is_some();
    }

    /// Drops the step that was prepared.
    pub fn abandon(&mut self) -> Result<()> {
        self.copied.drop_next();
        if self.prepared.take().is_some() { self.dir.remove(super::intent::NAME) } else { Ok(()) }
    }

    /// Goes to a later table version in which no row moved.
    pub fn advance(&mut self, to_version: u64) -> Result<()> {
        self.step(to_version, 0)?.prepare()?;
        self.finish()
    }

    /// Goes to a later table version in which compaction moved rows: `moved` gives the new place of a row that has moved, else the same.
    /// Rewrites the whole index, sequentially; for a few keys of a unique index [`super::Change::Move`] is cheaper.
    pub fn relocate(&mut self, to_version: u64, mut moved: impl FnMut(Place) -> Place) -> Result<()> {
        self.check_idle()?;
        self.settle()?;
        self.rewrite(to_version, |payload| {
            if !entry::is_row(payload) {
                return Ok(Some(payload));
            }
            Ok(Some(entry::pack(moved(entry::unpack(payload)))? | entry::marks(payload)))
        })
    }

    /// Drops all tombstones, when the first copy is finished. Reads the whole index, sequentially, and rewrites it when there are any.
    pub fn clear_tombstones(&mut self) -> Result<()> {
        self.check_idle()?;
        self.settle()?;
        self.copied = Copied::default();
        // One that was prepared before a crash may lie there still.
        copied::remove_all(&self.dir)?;
        let mut found = false;
        self.map.for_each(|_, payload| {
            found |= entry::is_tombstone(payload);
            Ok(())
        })?;
        if !found {
            return Ok(());
        }
        self.rewrite(self.version(), |payload| Ok((!entry::is_tombstone(payload)).then_some(payload)))
    }

    /// Goes to a later table version that has no rows, after a truncate. A crash leaves no index, which is quickly built for such a table.
    pub fn emptied(self, to_version: u64) -> Result<Self> {
        let Header { table_id, shape, seed, .. } = self.header;
        Builder::create_in(self.dir, table_id, shape, seed, self.boot, 0)?.finish(to_version)
    }

    /// Reads everything and checks every checksum.
    pub fn verify(&self) -> Result<()> {
        self.check_whole()?;
        self.map.for_each(|_, _| Ok(()))?;
        self.copied.verify()
    }

    /// Makes the index outlast a stop of the machine. Without it the next start in another boot builds it anew. Does nothing after
    /// [`KeyIndex::leave`]: the next start has to see the step.
    pub fn close(mut self) -> Result<()> {
        self.check_idle()?;
        if self.left {
            return Ok(());
        }
        self.dir.remove(super::intent::NAME)?;
        self.map.file().sync()?;
        self.copied.sync()?;
        self.files.sync()?;
        self.header.state = State::Closed;
        self.write_header()?;
        self.map.file().sync()?;
        self.dir.sync()
    }

    pub(super) fn begin_step(&mut self, to_version: u64) -> Result<IntentWriter> {
        self.check_idle()?;
        if to_version <= self.version() {
            return Err(Error::new(
                Kind::Bug,
                format!("{}: asked to step from version {} to {to_version}", self.dir.path().display(), self.version()),
            ));
        }
        self.wake()?;
        self.left = false;
        IntentWriter::create(&self.dir)
    }

    pub(super) fn keep_prepared(&mut self, intent: Intent) {
        self.prepared = Some(intent);
    }

    /// Changes within one step of a multiset see each other through this.
    pub(super) fn overlay(&self) -> ScratchMap {
        ScratchMap::within(self.dir.clone(), super::step::OVERLAY_KEYS_MAX)
    }

    fn carry_out(&mut self, intent: &Intent) -> Result<()> {
        if intent.is_empty() {
            return Ok(());
        }
        self.header.state = State::Applying;
        self.write_header()?;
        let mut coming = intent.records();
        for chunk in intent.chunks() {
            let chunk = chunk?;
            self.make_room(chunk.len() as u64)?;
            while !self.map.set(&chunk)? {
                self.grow(coming)?;
            }
            coming -= (chunk.len() as u64).min(coming);
            if self.map.is_loaded() {
                self.double()?;
            }
        }
        Ok(())
    }

    /// Grows where a block is full: a large step comes in the order of blocks too, so that what has come of it fills few of them.
    fn grow(&mut self, coming: u64) -> Result<()> {
        let before = self.map.log2_blocks();
        self.make_room(coming)?;
        if self.map.log2_blocks() == before { self.double() } else { Ok(()) }
    }

    /// Grows ahead of many new keys, in one rewrite: they come in the order of blocks, so the load so far says nothing of the next block.
    fn make_room(&mut self, keys: u64) -> Result<()> {
        let mut log2_blocks = log2_blocks_for(self.map.entries() + keys);
        while log2_blocks > self.map.log2_blocks() {
            let file = self.dir.create(NEW_NAME)?;
            match self.map.rewrite(file, log2_blocks, |payload| Ok(Some(payload)))? {
                Some(map) => return self.replace_map(map),
                None => log2_blocks += 1,
            }
        }
        Ok(())
    }

    fn double(&mut self) -> Result<()> {
        let map = self.map.doubled(|| self.dir.create(NEW_NAME))?;
        self.replace_map(map)
    }

    fn rewrite(&mut self, version: u64, keep: impl FnMut(u64) -> Result<Option<u64>>) -> Result<()> {
        self.wake()?;
        let file = self.dir.create(NEW_NAME)?;
        let Some(map) = self.map.rewrite(file, self.map.log2_blocks(), keep)? else {
            return Err(damaged(self.map.file().path(), "a block has more entries than it can hold"));
        };
        self.broken = true;
        self.header.version = version;
        self.replace_map(map)?;
        self.broken = false;
        Ok(())
    }

    /// Brings the keys of copied rows into the blocks. The index is right for the same version before and after it.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.copied.number() == 0 {
            return Ok(());
        }
        self.wake()?;
        let mut log2_blocks = self.map.log2_blocks().max(log2_blocks_for(self.entries()));
        let map = loop {
            let file = self.dir.create(NEW_NAME)?;
            match self.map.merged(self.copied.maps(), file, log2_blocks, entry::is_copied)? {
                Some(map) => break map,
                None => log2_blocks += 1,
            }
        };
        self.broken = true;
        let files = self.copied.clear();
        self.replace_map(map)?;
        copied::remove(&self.dir, files)?;
        self.broken = false;
        Ok(())
    }

    /// Puts another file of blocks in the place of the present one, in one step.
    fn replace_map(&mut self, map: BlockMap) -> Result<()> {
        self.header_of(&map).write(map.file())?;
        self.map = map.renamed(|file| self.dir.rename(file, NEW_NAME, NAME))?;
        Ok(())
    }

    fn write_header(&mut self) -> Result<()> {
        let header = self.header_of(&self.map);
        header.write(self.map.file())?;
        self.header = header;
        Ok(())
    }

    fn header_of(&self, map: &BlockMap) -> Header {
        Header {
            log2_blocks: map.log2_blocks(),
            entries: map.entries(),
            next_file: self.files.next(),
            boot: self.boot,
            copied: self.copied.number(),
            ..self.header
        }
    }

    /// Before the first change after a close: the medium must not go on promising that everything is there.
    fn wake(&mut self) -> Result<()> {
        self.check_whole()?;
        if self.header.state != State::Closed {
            return Ok(());
        }
        self.header.state = State::Live;
        self.write_header()?;
        self.map.file().sync()
    }

    fn check_whole(&self) -> Result<()> {
        if self.broken {
            return Err(damaged(self.dir.path(), "an earlier error cut off a step; it has to be opened again"));
        }
        Ok(())
    }

    fn check_idle(&self) -> Result<()> {
        self.check_whole()?;
        match self.prepared() {
            None => Ok(()),
            Some(prepared) => Err(Error::new(
                Kind::Bug,
                format!("{}: the step to version {} is open", self.dir.path().display(), prepared.to_version),
            )),
        }
    }
}
