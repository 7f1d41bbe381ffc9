//! Writing: one file, appended by one process at a time, line by line durable.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use change::{Clock, Error, Kind, Result, Timestamp};

use crate::backwards::Backwards;
use crate::entry::{self, Entry, Line, Outline};
use crate::head::{Head, SignedHead};
use crate::heads_file::{Heads, LastHead};
use crate::tree::Tree;
use crate::{
    AnchorSeen, Because, Event, Former, Hash, HeadsKnown, Hex, InForce, MacKey, Name, Program, PublicKey, SigningKey,
};

/// The entries, in the log's folder.
pub const LOG_FILE: &str = "audit.jsonl";
/// The signed heads, beside them.
pub const HEADS_FILE: &str = "heads.jsonl";
/// The public key, beside them.
pub const PUBLIC_KEY_FILE: &str = "audit.pub";

/// Entries between two heads at most.
const ENTRIES_PER_HEAD: u64 = 1000;
/// Time between two heads at most, while entries come.
const HEAD_EVERY: Duration = Duration::from_secs(60);
/// How far the machine's clock may move against time before an entry says so.
pub(crate) const JUMP_MICROS: i64 = 5_000_000;

/// The time of an entry, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Microseconds since the Unix epoch.
    pub at: Timestamp,
    /// Time by a clock that cannot be set.
    pub monotonic: Duration,
}

impl Moment {
    /// The time now.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), monotonic: clock.monotonic() }
    }
}

/// Who opens a log.
#[derive(Clone, Debug)]
pub struct Opener {
    /// A random number of this process.
    pub writer: Hex,
    /// Which command.
    pub program: Program,
    /// The user of the machine.
    pub by: Option<Name>,
    /// SHA-256 of the `lockgate.yaml` that it goes by.
    pub config: Option<Hash>,
    /// The FIPS module that it runs in.
    pub fips_module: Option<u32>,
    /// What the anchor has; said when the log begins, and not else.
    pub anchor: AnchorSeen,
    /// The newest head there, or of the log that was set aside.
    pub former: Option<Former>,
    /// Why that was set aside; said when the log begins.
    pub because: Option<Because>,
    /// What its last run had in force; said when the log begins.
    pub in_force: Option<InForce>,
}

/// What has been written so far, by whomever.
#[derive(Clone, Default)]
struct Written {
    bytes: u64,
    last: Hash,
    first: Option<Hash>,
    /// Time of the last entry.
    at: Option<Timestamp>,
    tree: Tree,
    /// Whether the last entry carries a MAC.
    macs: bool,
}

/// What was found behind that.
#[derive(Default)]
struct Caught {
    /// Bytes of a last line without end.
    torn_bytes: u64,
    /// Entries.
    entries: u64,
    /// Whether a process has closed the log in them.
    closed: bool,
}

/// A log that is open for writing. Several processes may have it open: each write looks first what the others have added.
pub struct Log {
    folder: PathBuf,
    file: File,
    heads: Heads,
    key: SigningKey,
    writer: Hex,
    nth: u64,
    started: Moment,
    /// Time of the last entry of this process.
    latest: Moment,
    written: Written,
    /// The last head in the file.
    head: Option<SignedHead>,
    head_at: Duration,
    /// The length of the file of heads when it was last read or written: another one means that somebody else has signed.
    heads_bytes: u64,
    /// The highest number of a head that is known, and where from: the file has it, or heads are missing.
    signed: (u64, HeadsKnown),
}

impl Log {
    /// Opens the log in a folder, which is made when it is missing, and says so in it; and what of it is not as the last process left it.
    ///
    /// # Errors
    /// `Privacy` when the log is not what its signed heads say, or somebody without the key has added to it; `Full` when it cannot be written.
    pub fn open(folder: &Path, key: SigningKey, now: Moment, opener: Opener) -> Result<Self> {
        let failed = |error| unwritable(folder, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = open_private(&folder.join(LOG_FILE)).map_err(failed)?;
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            heads: Heads::of(folder),
            key,
            writer: opener.writer.clone(),
            nth: 0,
            started: now,
            latest: now,
            written: Written::default(),
            head: None,
            heads_bytes: 0,
            head_at: now.monotonic,
            signed: (0, HeadsKnown::Log),
        };
        log.locked(|log| {
            log.resume()?;
            let caught = log.catch_up()?;
            let is_whole = log.written.first.is_some() && log.missing().is_none();
            log.begin(now, opener, &caught)?;
            log.file.sync_data().map_err(failed)?;
            // Entries name heads: none is without one for longer than it takes to begin.
            if !is_whole {
                log.sign(now)?;
            }
            log.show_key().map_err(failed)
        })?;
        Ok(log)
    }

    /// The first entries of a process.
    fn begin(&mut self, now: Moment, opener: Opener, caught: &Caught) -> Result<()> {
        let Opener { program, by, config, fips_module, anchor, former, because, in_force, .. } = opener;
        if self.written.first.is_none() {
            self.add(now, Event::Begun { anchor, former, because, in_force })?;
        } else {
            let back = self.written.at.map(|at| now.at.saturating_sub(at)).filter(|ago| *ago < -JUMP_MICROS);
            // The first entry with a MAC says that there are MACs.
            if !self.written.macs {
                self.add(now, Event::MacsBegun {})?;
            }
            if let Some(micros) = back {
                self.add(now, Event::ClockJumped { micros })?;
            }
        }
        if let Some(missing) = self.missing() {
            self.add(now, missing)?;
        } else if caught.closed {
            self.add(now, Event::ClosedUnsigned { entries: caught.entries })?;
        }
        if caught.torn_bytes > 0 {
            self.add(now, Event::Recovered { torn_bytes: caught.torn_bytes })?;
        }
        self.add(now, Event::Opened { program, by, config, fips_module })
    }

    /// Writes the public key beside the log that it proves.
    fn show_key(&self) -> std::io::Result<()> {
        let (path, text) = (self.folder.join(PUBLIC_KEY_FILE), format!("{}\n", self.key.public()));
        match std::fs::read_to_string(&path) {
            Ok(shown) if shown == text => Ok(()),
            _ => std::fs::write(path, text),
        }
    }

    /// The public half of the key.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Adds an entry; it is durable when this returns. Returns a new head when one was due: a copy of it belongs elsewhere.
    ///
    /// # Errors
    /// `Full` when it cannot be written: what was to be recorded must not be done.
    pub fn append(&mut self, now: Moment, event: Event) -> Result<Option<Head>> {
        self.append_all(now, [event])
    }

    /// As [`Log::append`], for several entries with one wait for the disk.
    ///
    /// # Errors
    /// As [`Log::append`]; some of the entries may have been written.
    pub fn append_all(&mut self, now: Moment, events: impl IntoIterator<Item = Event>) -> Result<Option<Head>> {
        self.locked(|log| {
            let missing = log.go_on(now)?;
            log.add_all(now, events)?;
            let signed = log.head.as_ref().map_or(0, |head| head.said.entries);
            let unsigned = log.written.tree.leaves().saturating_sub(signed);
            let due = unsigned >= ENTRIES_PER_HEAD || now.monotonic.saturating_sub(log.head_at) >= HEAD_EVERY;
            if due || missing { log.sign(now) } else { Ok(None) }
        })
    }

    /// Signs what is not signed yet.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn sign_now(&mut self, now: Moment) -> Result<Option<Head>> {
        self.locked(|log| {
            log.go_on(now)?;
            log.sign(now)
        })
    }

    /// Says that this process is done, and signs, without anybody in between. Nothing may be added after it.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn end(&mut self, now: Moment) -> Result<Option<Head>> {
        self.locked(|log| {
            log.go_on(now)?;
            log.add_all(now, [Event::Closed {}])?;
            log.sign(now)
        })
    }

    /// As [`Log::end`], and returns the newest head.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn close(mut self, now: Moment) -> Result<Option<Head>> {
        self.end(now)?;
        Ok(self.head.map(|signed| signed.said))
    }

    /// Says that the anchor has a head of this log with this number, and the log lacks it.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn lacks(&mut self, now: Moment, head: u64) -> Result<()> {
        self.locked(|log| {
            log.catch_up()?;
            let left = log.head.as_ref().map_or(0, |head| head.said.nth);
            log.add_all(now, [Event::HeadsMissing { known: HeadsKnown::Anchor, head, left }])?;
            // Its own next head gets a number of its own.
            if head > log.signed.0 {
                log.signed = (head, HeadsKnown::Anchor);
            }
            log.sign(now).map(|_| ())
        })
    }

    /// The log: the hash of its first entry.
    pub fn id(&self) -> Hash {
        self.written.first.unwrap_or_default()
    }

    /// The file, the bytes of it that are entries which a head or a MAC proves, the hash of the last of them, and the key of the MACs.
    pub(crate) fn taken_in(&mut self) -> Result<(&File, u64, Hash, &MacKey)> {
        self.locked(Self::catch_up)?;
        Ok((&self.file, self.written.bytes, self.written.last, self.key.macs()))
    }

    fn locked<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.file.lock().map_err(|error| unwritable(&self.folder, error))?;
        let done = self.is_in_place().and_then(|()| write(self));
        self.file.unlock().map_err(|error| unwritable(&self.folder, error))?;
        done
    }

    /// Whoever goes on in a file that has another name by now writes where nobody reads.
    fn is_in_place(&self) -> Result<()> {
        let ours = self.file.metadata().map_err(|error| unwritable(&self.folder, error))?;
        match std::fs::metadata(self.folder.join(LOG_FILE)) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            Ok(_) => Err(tampered("another file has taken its place")),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(tampered("its file was moved away")),
            Err(error) => Err(unwritable(&self.folder, error)),
        }
    }

    /// Goes on from the last head of ours, so that a long log need not be read again.
    fn resume(&mut self) -> Result<()> {
        let failed = |error| unwritable(&self.folder, error);
        self.heads_bytes = self.heads.length().map_err(failed)?;
        let Some(signed) = self.last_head()? else { return Ok(()) };
        let head = &signed.said;
        let length = self.file.metadata().map_err(failed)?.len();
        if length < head.bytes {
            return Err(tampered("it is shorter than its last signed head says"));
        }
        let covered = Backwards::new(&self.file, head.bytes).line().map_err(failed)?;
        let covered = covered.filter(|line| line.whole).map(|line| line.text).unwrap_or_default();
        let covered = Line::read(&covered).filter(|line| line.hash == head.last);
        let covered =
            covered.ok_or_else(|| tampered("the last entry that its last signed head covers is another one"))?;
        let at = serde_json::from_slice::<Outline>(covered.body).ok().map(|entry| entry.at);
        let tree = Tree::resume(head.entries, head.peaks.clone())
            .ok_or_else(|| tampered("its last head contradicts itself"))?;
        self.written = Written { bytes: head.bytes, last: head.last, first: Some(head.log), at, tree, macs: head.macs };
        self.signed.0 = head.nth;
        self.head = Some(signed);
        Ok(())
    }

    fn last_head(&self) -> Result<Option<SignedHead>> {
        match self.heads.last().map_err(|error| unwritable(&self.folder, error))? {
            LastHead::None => Ok(None),
            LastHead::Unreadable => Err(tampered("its last head cannot be read")),
            LastHead::Is(signed) if signed.is_proven_by(&self.key.public()) => Ok(Some(*signed)),
            LastHead::Is(_) => Err(tampered("its last head is not signed with this key")),
        }
    }

    /// Heads that are known and that the file has not.
    fn missing(&self) -> Option<Event> {
        let left = self.head.as_ref().map_or(0, |head| head.said.nth);
        let (head, known) = self.signed;
        (left < head).then_some(Event::HeadsMissing { known, head, left })
    }

    /// Takes in what others have done, and says so when heads are missing; whether they are.
    fn go_on(&mut self, now: Moment) -> Result<bool> {
        self.catch_up()?;
        let missing = self.missing();
        let are_missing = missing.is_some();
        self.add_all(now, missing)?;
        Ok(are_missing)
    }

    /// Takes in what others have appended: no head covers it yet, so each line must prove by its MAC that a process with the key wrote it. A
    /// last line without end was cut off by a stop of the machine: it is taken away.
    fn catch_up(&mut self) -> Result<Caught> {
        // Heads that others have signed count for the next one's number. Whoever has no more to say may sign what is here already.
        let heads_bytes = self.heads.length().map_err(|error| unwritable(&self.folder, error))?;
        if heads_bytes != self.heads_bytes {
            self.head = self.last_head()?;
            self.heads_bytes = heads_bytes;
            let foreign = |head: &SignedHead| self.written.first.is_some_and(|first| first != head.said.log);
            if self.head.as_ref().is_some_and(foreign) {
                return Err(tampered("its last head is one of another log"));
            }
            self.knows(self.head.as_ref().map_or(0, |head| head.said.nth));
        }
        let failed = |error| unwritable(&self.folder, error);
        let length = self.file.metadata().map_err(failed)?.len();
        if length < self.written.bytes {
            return Err(tampered("it has become shorter"));
        }
        let mut caught = Caught::default();
        if length == self.written.bytes {
            return Ok(caught);
        }
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(self.written.bytes)).map_err(failed)?;
        let mut reader = BufReader::new((&file).take(length - self.written.bytes));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(|error| unwritable(&self.folder, error))? > 0 {
            let Some(whole) = line.strip_suffix(b"\n") else {
                caught.torn_bytes = line.len() as u64;
                file.set_len(self.written.bytes).map_err(|error| unwritable(&self.folder, error))?;
                break;
            };
            caught.closed |= self.take_in(whole)?;
            caught.entries += 1;
            line.clear();
        }
        Ok(caught)
    }

    /// Takes in a line of another process; whether that has closed the log.
    fn take_in(&mut self, text: &[u8]) -> Result<bool> {
        let number = self.written.tree.leaves() + 1;
        let changed = |why: &str| tampered(&format!("line {number} {why}"));
        let line = Line::read(text).ok_or_else(|| changed("cannot be read"))?;
        if entry::chained(&self.written.last, line.body) != line.hash {
            return Err(changed("breaks its chain of hashes"));
        }
        match line.mac {
            Some(mac) if self.key.macs().proves(&line.hash, &mac) => {}
            Some(_) => return Err(changed("was written by somebody without its key")),
            None => return Err(unkeyed(number)),
        }
        let entry: Outline = serde_json::from_slice(line.body).map_err(|_| changed("cannot be read"))?;
        self.written.take(line.hash, &line.leaf(), text.len() as u64 + 1, entry.at);
        self.knows(entry.heads);
        Ok(entry.event() == "closed")
    }

    fn knows(&mut self, head: u64) {
        if head > self.signed.0 {
            self.signed = (head, HeadsKnown::Log);
        }
    }

    fn jumped(&self, now: Moment) -> i64 {
        let passed = now.monotonic.saturating_sub(self.latest.monotonic).as_micros();
        (now.at - self.latest.at) - i64::try_from(passed).unwrap_or(i64::MAX)
    }

    /// Adds entries and waits for the disk.
    fn add_all(&mut self, now: Moment, events: impl IntoIterator<Item = Event>) -> Result<()> {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return Ok(());
        }
        let jumped = self.jumped(now);
        let said = (jumped.abs() > JUMP_MICROS).then_some(Event::ClockJumped { micros: jumped });
        for event in said.into_iter().chain(events) {
            self.add(now, event)?;
        }
        self.file.sync_data().map_err(|error| unwritable(&self.folder, error))
    }

    fn add(&mut self, now: Moment, event: Event) -> Result<()> {
        let up = now.monotonic.saturating_sub(self.started.monotonic).as_micros();
        let entry = Entry {
            seq: self.written.tree.leaves(),
            writer: self.writer.clone(),
            nth: self.nth + 1,
            at: now.at,
            up: u64::try_from(up).unwrap_or(u64::MAX),
            heads: self.signed.0,
            what: event,
        };
        let line = entry::line(&self.written.last, &entry, self.key.macs())?;
        // The file is open for appending: whatever the place of the last read, this goes to its end.
        self.file.write_all(&line.text).map_err(|error| unwritable(&self.folder, error))?;
        self.written.take(line.hash, &line.leaf, line.text.len() as u64, entry.at);
        (self.nth, self.latest) = (entry.nth, now);
        Ok(())
    }

    fn sign(&mut self, now: Moment) -> Result<Option<Head>> {
        let entries = self.written.tree.leaves();
        let Some(first) = self.written.first else { return Ok(None) };
        if self.head.as_ref().is_some_and(|head| head.said.entries == entries) {
            return Ok(None);
        }
        let head = Head {
            log: first,
            nth: self.signed.0 + 1,
            previous: self.head.as_ref().map_or_else(Hash::default, |head| head.hash),
            entries,
            bytes: self.written.bytes,
            last: self.written.last,
            root: self.written.tree.root(),
            peaks: self.written.tree.peaks().to_vec(),
            macs: self.written.macs,
            at: now.at,
            key: self.key.public().fingerprint(),
        };
        let signed = SignedHead::sign(head.clone(), &self.key)?;
        let failed = |error| unwritable(&self.folder, error);
        self.heads.add(&signed).map_err(failed)?;
        self.head = Some(signed);
        self.head_at = now.monotonic;
        self.signed = (head.nth, HeadsKnown::Log);
        self.heads_bytes = self.heads.length().map_err(failed)?;
        Ok(Some(head))
    }
}

impl Written {
    /// Takes in a line that carries a MAC.
    fn take(&mut self, hash: Hash, leaf: &Hash, bytes: u64, at: Timestamp) {
        self.tree.push(leaf);
        self.first.get_or_insert(hash);
        (self.last, self.bytes, self.macs, self.at) = (hash, self.bytes + bytes, true, Some(at));
    }
}

pub(crate) fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

fn unwritable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("the audit log in {} cannot be written", folder.display()))
        .source(error)
        .fix("Free space there, or allow writing: what cannot be recorded is not done.")
}

pub(crate) fn tampered(why: &str) -> Error {
    Error::new(Kind::Privacy, format!("the audit log was changed by something else: {why}")).fix(
        "Run `lockgate audit verify`, and keep what it says. `lockgate audit renew --because damaged` sets the folder .lockgate/audit aside as \
         evidence and begins a new log, which says so.",
    )
}

fn unkeyed(number: u64) -> Error {
    Error::new(
        Kind::Privacy,
        format!("the audit log was changed by something else: line {number} carries no MAC, and no signed head covers it"),
    )
    .fix(
        "If a version without MACs wrote it and was killed, run that version once more: its end signs the line. Else run \
         `lockgate audit verify`, keep what it says, and `lockgate audit renew --because damaged`: a new log then begins, which says so.",
    )
}
