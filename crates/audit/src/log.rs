//! Writing: one file, appended by one process at a time, line by line durable.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use change::{Clock, Error, Kind, Result, Timestamp};

use crate::backwards::Backwards;
use crate::entry::{self, Entry, Line};
use crate::head::{Head, SignedHead};
use crate::tree::Tree;
use crate::{AnchorSeen, Event, Former, Hash, Hex, MacKey, Name, Program, PublicKey, SigningKey};

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
    /// What the anchor has; said when the log begins, and not else.
    pub anchor: AnchorSeen,
    /// The newest head there.
    pub former: Option<Former>,
}

/// What has been written so far, by whomever.
#[derive(Clone, Default)]
struct Written {
    bytes: u64,
    last: Hash,
    first: Option<Hash>,
    tree: Tree,
    /// Whether the last entry carries a MAC.
    macs: bool,
}

/// A log that is open for writing. Several processes may have it open: each write looks first what the others have added.
pub struct Log {
    folder: PathBuf,
    file: File,
    key: SigningKey,
    writer: Hex,
    nth: u64,
    started: Moment,
    /// Time of the last entry of this process.
    latest: Moment,
    written: Written,
    head: Option<SignedHead>,
    head_at: Duration,
    /// The length of the file of heads when it was last read or written: another one means that somebody else has signed.
    heads_bytes: u64,
}

impl Log {
    /// Whether a folder has a log.
    pub fn is_begun(folder: &Path) -> bool {
        std::fs::metadata(folder.join(LOG_FILE)).is_ok_and(|file| file.len() > 0)
    }

    /// Opens the log in a folder, which is made when it is missing, and says so in it.
    ///
    /// # Errors
    /// `Privacy` when the log is not what its signed heads say, or somebody without the key has added to it; `Full` when it cannot be written.
    pub fn open(folder: &Path, key: SigningKey, now: Moment, opener: Opener) -> Result<Self> {
        let failed = |error| unwritable(folder, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = open_private(&folder.join(LOG_FILE)).map_err(failed)?;
        std::fs::write(folder.join(PUBLIC_KEY_FILE), format!("{}\n", key.public())).map_err(failed)?;
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            key,
            writer: opener.writer,
            nth: 0,
            started: now,
            latest: now,
            written: Written::default(),
            head: None,
            heads_bytes: 0,
            head_at: now.monotonic,
        };
        log.locked(|log| {
            log.resume()?;
            let torn_bytes = log.catch_up()?;
            if log.written.first.is_none() {
                log.add(now, Event::Begun { anchor: opener.anchor, former: opener.former })?;
            } else if !log.written.macs {
                log.add(now, Event::MacsBegun {})?;
            }
            if torn_bytes > 0 {
                log.add(now, Event::Recovered { torn_bytes })?;
            }
            log.add(now, Event::Opened { program: opener.program, by: opener.by })?;
            log.file.sync_data().map_err(failed)
        })?;
        Ok(log)
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
            log.catch_up()?;
            let jumped = log.jumped(now);
            let said = (jumped.abs() > JUMP_MICROS).then_some(Event::ClockJumped { micros: jumped });
            for event in said.into_iter().chain(events) {
                log.add(now, event)?;
            }
            log.file.sync_data().map_err(|error| unwritable(&log.folder, error))?;
            let signed = log.head.as_ref().map_or(0, |head| head.said.entries);
            let unsigned = log.written.tree.leaves().saturating_sub(signed);
            let due = unsigned >= ENTRIES_PER_HEAD || now.monotonic.saturating_sub(log.head_at) >= HEAD_EVERY;
            if due { log.sign(now) } else { Ok(None) }
        })
    }

    /// Signs what is not signed yet.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn sign_now(&mut self, now: Moment) -> Result<Option<Head>> {
        self.locked(|log| {
            log.catch_up()?;
            log.sign(now)
        })
    }

    /// Says that this process is done, and signs.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn close(mut self, now: Moment) -> Result<Option<Head>> {
        self.append(now, Event::Closed {})?;
        let head = self.sign_now(now)?;
        Ok(head.or_else(|| self.head.map(|signed| signed.said)))
    }

    /// The line of the newest head, as it is copied to an anchor.
    pub fn head_line(&self) -> Option<String> {
        self.head.as_ref().map(SignedHead::line)
    }

    /// The file, the bytes of it that are entries which a head or a MAC proves, the hash of the last of them, and the key of the MACs.
    pub(crate) fn taken_in(&mut self) -> Result<(&File, u64, Hash, &MacKey)> {
        self.locked(Self::catch_up)?;
        Ok((&self.file, self.written.bytes, self.written.last, self.key.macs()))
    }

    fn locked<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.file.lock().map_err(|error| unwritable(&self.folder, error))?;
        let done = write(self);
        self.file.unlock().map_err(|error| unwritable(&self.folder, error))?;
        done
    }

    /// Goes on from the last head of ours, so that a long log need not be read again.
    fn resume(&mut self) -> Result<()> {
        let Some(signed) = self.last_head()? else { return Ok(()) };
        let head = &signed.said;
        let length = self.file.metadata().map_err(|error| unwritable(&self.folder, error))?.len();
        if length < head.bytes {
            return Err(tampered("it is shorter than its last signed head says"));
        }
        let tree = Tree::resume(head.entries, head.peaks.clone())
            .ok_or_else(|| tampered("its last head contradicts itself"))?;
        self.written = Written { bytes: head.bytes, last: head.last, first: Some(head.log), tree, macs: head.macs };
        self.head = Some(signed);
        Ok(())
    }

    /// A run asks for it each minute: of a long file only the end is read.
    fn last_head(&self) -> Result<Option<SignedHead>> {
        let failed = |error| unwritable(&self.folder, error);
        let file = match File::open(self.folder.join(HEADS_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut lines = Backwards::new(&file, file.metadata().map_err(failed)?.len());
        let mut last = lines.line().map_err(failed)?;
        // A head that was cut off by a stop of the machine is not there; the entries are, and are signed again.
        if last.as_ref().is_some_and(|line| !line.whole) {
            last = lines.line().map_err(failed)?;
        }
        let Some(line) = last else { return Ok(None) };
        let signed = std::str::from_utf8(&line.text).ok().and_then(SignedHead::read);
        let signed = signed.ok_or_else(|| tampered("its last head cannot be read"))?;
        match signed.is_proven_by(&self.key.public()) {
            true => Ok(Some(signed)),
            false => Err(tampered("its last head is not signed with this key")),
        }
    }

    /// Takes in what others have appended: no head covers it yet, so each line must prove by its MAC that a process with the key wrote it. A
    /// last line without end was cut off by a stop of the machine: it is taken away, and its length returned.
    fn catch_up(&mut self) -> Result<u64> {
        // Heads that others have signed count for the next one's number. Whoever has no more to say may sign what is here already.
        let heads_bytes = self.heads_length()?;
        if heads_bytes != self.heads_bytes {
            self.head = self.last_head()?.or(self.head.take());
            self.heads_bytes = heads_bytes;
            let foreign = |head: &SignedHead| self.written.first.is_some_and(|first| first != head.said.log);
            if self.head.as_ref().is_some_and(foreign) {
                return Err(tampered("its last head is one of another log"));
            }
        }
        let failed = |error| unwritable(&self.folder, error);
        let length = self.file.metadata().map_err(failed)?.len();
        if length == self.written.bytes {
            return Ok(0);
        }
        if length < self.written.bytes {
            return Err(tampered("it has become shorter"));
        }
        self.file.seek(SeekFrom::Start(self.written.bytes)).map_err(failed)?;
        let mut reader = BufReader::new((&self.file).take(length - self.written.bytes));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 {
                break;
            }
            let Some(whole) = line.strip_suffix(b"\n") else {
                self.file.set_len(self.written.bytes).map_err(failed)?;
                break;
            };
            let number = self.written.tree.leaves() + 1;
            let changed = |why: &str| tampered(&format!("line {number} {why}"));
            let line = Line::read(whole).ok_or_else(|| changed("cannot be read"))?;
            if entry::chained(&self.written.last, line.body) != line.hash {
                return Err(changed("breaks its chain of hashes"));
            }
            match line.mac {
                Some(mac) if self.key.macs().proves(&line.hash, &mac) => {}
                Some(_) => return Err(changed("was written by somebody without its key")),
                None => return Err(unkeyed(number)),
            }
            self.written.take(line.hash, &line.leaf(), read as u64);
        }
        Ok(length - self.written.bytes)
    }

    fn jumped(&self, now: Moment) -> i64 {
        let passed = now.monotonic.saturating_sub(self.latest.monotonic).as_micros();
        (now.at - self.latest.at) - i64::try_from(passed).unwrap_or(i64::MAX)
    }

    fn add(&mut self, now: Moment, event: Event) -> Result<()> {
        let up = now.monotonic.saturating_sub(self.started.monotonic).as_micros();
        let entry = Entry {
            seq: self.written.tree.leaves(),
            writer: self.writer.clone(),
            nth: self.nth + 1,
            at: now.at,
            up: u64::try_from(up).unwrap_or(u64::MAX),
            what: event,
        };
        let line = entry::line(&self.written.last, &entry, self.key.macs())?;
        // The file is open for appending: whatever the place of the last read, this goes to its end.
        self.file.write_all(&line.text).map_err(|error| unwritable(&self.folder, error))?;
        self.written.take(line.hash, &line.leaf, line.text.len() as u64);
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
            nth: self.head.as_ref().map_or(0, |head| head.said.nth) + 1,
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
        let path = self.folder.join(HEADS_FILE);
        let mut file = open_private(&path).map_err(failed)?;
        drop_torn_line(&file).map_err(failed)?;
        file.write_all(format!("{}\n", signed.line()).as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
        self.head = Some(signed);
        self.head_at = now.monotonic;
        self.heads_bytes = self.heads_length()?;
        Ok(Some(head))
    }

    fn heads_length(&self) -> Result<u64> {
        match std::fs::metadata(self.folder.join(HEADS_FILE)) {
            Ok(heads) => Ok(heads.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(unwritable(&self.folder, error)),
        }
    }
}

impl Written {
    /// Takes in a line that carries a MAC.
    fn take(&mut self, hash: Hash, leaf: &Hash, bytes: u64) {
        self.tree.push(leaf);
        self.first.get_or_insert(hash);
        (self.last, self.bytes, self.macs) = (hash, self.bytes + bytes, true);
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Cuts off a last line without end.
fn drop_torn_line(file: &File) -> std::io::Result<()> {
    match Backwards::new(file, file.metadata()?.len()).line()? {
        Some(line) if !line.whole => file.set_len(line.start),
        _ => Ok(()),
    }
}

fn unwritable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("the audit log in {} cannot be written", folder.display()))
        .source(error)
        .fix("Free space there, or allow writing: what cannot be recorded is not done.")
}

pub(crate) fn tampered(why: &str) -> Error {
    Error::new(Kind::Privacy, format!("the audit log was changed by something else: {why}")).fix(
        "Run `lockgate audit verify`, keep the folder .lockgate/audit as evidence, and move it away: a new log then begins, and \
         `lockgate audit verify --before FOLDER` proves both.",
    )
}

fn unkeyed(number: u64) -> Error {
    Error::new(
        Kind::Privacy,
        format!("the audit log was changed by something else: line {number} carries no MAC, and no signed head covers it"),
    )
    .fix(
        "If a version without MACs wrote it and was killed, run that version once more: its end signs the line. Else run \
         `lockgate audit verify`, keep the folder .lockgate/audit as evidence, and move it away: a new log then begins.",
    )
}
