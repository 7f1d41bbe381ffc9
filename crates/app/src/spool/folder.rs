use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use change::{Checkpoint, Error, Kind, Result};
use gate::{Gate, SpoolCipher};

use super::Entry;

/// The folder of one source's spool. Whoever has it is the only one.
pub struct SpoolFolder {
    path: PathBuf,
    source: String,
    cipher: SpoolCipher,
    /// The numbers of the segments, ascending.
    segments: Vec<u32>,
    /// The last boundary in it; `None` when it is empty.
    through: Option<Checkpoint>,
    _lock: File,
}

const LOCK_FILE: &str = "lock";

impl SpoolFolder {
    /// The spool of a source, when there is one with something in it. What lies behind its last boundary is cut off.
    ///
    /// # Errors
    /// `Privacy` when it does not open with these keys, `Config` when it was filled under another policy, `Unavailable` while another process
    /// has it, whether something is in it or not.
    pub fn waiting(state_dir: &Path, source: &str, gate: &Gate) -> Result<Option<Self>> {
        let path = place(state_dir, source);
        if !path.exists() {
            return Ok(None);
        }
        // One that was drained leaves its folder behind; one that is about to be filled is somebody's already.
        if numbers(&path).map_err(|error| unusable(&path, error))?.is_empty() {
            return lock(&path).map(|_| None);
        }
        let folder = Self::open(state_dir, source, gate)?;
        Ok(if folder.segments.is_empty() { None } else { Some(folder) })
    }

    /// The spool of a source, made when there is none.
    ///
    /// # Errors
    /// As [`SpoolFolder::waiting`]; `Full` when it cannot be made.
    pub fn open(state_dir: &Path, source: &str, gate: &Gate) -> Result<Self> {
        let path = place(state_dir, source);
        make(&path).map_err(|error| unusable(&path, error))?;
        let cipher = gate.spool_cipher()?;
        let lock = lock(&path)?;
        let segments = numbers(&path).map_err(|error| unusable(&path, error))?;
        let mut folder = Self { path, source: source.to_owned(), cipher, segments, through: None, _lock: lock };
        folder.cut(gate)?;
        Ok(folder)
    }

    /// The last boundary in it.
    pub fn through(&self) -> Option<&Checkpoint> {
        self.through.as_ref()
    }

    pub(super) fn reached(&mut self, boundary: Checkpoint) {
        self.through = Some(boundary);
    }

    pub(super) fn segments(&self) -> &[u32] {
        &self.segments
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.path.join(file_name(number))
    }

    /// A number for one more segment.
    pub(super) fn next(&mut self) -> u32 {
        let number = self.segments.last().map_or(1, |last| last + 1);
        self.segments.push(number);
        number
    }

    pub(super) fn cipher(&self) -> &SpoolCipher {
        &self.cipher
    }

    /// What an entry is bound to beside its key: it opens nowhere else.
    pub(super) fn place(&self, segment: u32, entry: u32) -> Vec<u8> {
        format!("{}/{segment}/{entry}", self.source).into_bytes()
    }

    /// Removes a segment whose rows are durable in the lake.
    pub(super) fn remove(&mut self, segment: u32) -> Result<()> {
        std::fs::remove_file(self.segment(segment)).map_err(|error| unusable(&self.path, error))?;
        self.segments.retain(|number| *number != segment);
        Ok(())
    }

    /// Removes what a process that was killed had not finished, and learns how far the rest goes.
    fn cut(&mut self, gate: &Gate) -> Result<()> {
        while let Some(last) = self.segments.last().copied() {
            let path = self.segment(last);
            let whole = self.whole(last, gate)?;
            let failed = |error| unusable(&path, error);
            if let Some((end, boundary)) = whole {
                let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
                file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)?;
                self.through = Some(boundary);
                return Ok(());
            }
            self.remove(last)?;
        }
        Ok(())
    }

    /// Where the last boundary of a segment ends, and which it is. Bytes that do not open end the search: a machine that lost its power may
    /// leave such behind the last boundary that was synchronised.
    fn whole(&self, segment: u32, gate: &Gate) -> Result<Option<(u64, Checkpoint)>> {
        let path = self.segment(segment);
        let mut file = std::io::BufReader::new(File::open(&path).map_err(|error| unusable(&path, error))?);
        let (mut at, mut found) = (0, None);
        for entry in 0.. {
            let Frame::Whole(frame) = frame(&mut file).map_err(|error| unusable(&path, error))? else { break };
            at += 4 + frame.len() as u64;
            // Rows are opened to see that they can be, and not looked at: they need no structure.
            let opened = self.cipher.open(&self.place(segment, entry), &frame, |_| None);
            match opened.and_then(Entry::of) {
                Ok(Entry::Boundary(boundary)) => found = Some((at, boundary)),
                Ok(Entry::Begin(stamp, _)) if stamp != *gate.stamp() => return Err(self.of_another_policy()),
                Ok(_) => {}
                Err(error) if entry == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(segment = %path.display(), %error, "what lies behind is cut off; it was not confirmed to the source");
                    break;
                }
            }
        }
        Ok(found)
    }

    fn of_another_policy(&self) -> Error {
        let what = format!("the spool of {} was filled under another policy or with other keys", self.source);
        Error::new(Kind::Config, what).fix(
            "Put policy.yaml and the key file of then back, drain it with `lockgate run --once`, and change them after that.",
        )
    }
}

/// What stands next in a segment.
pub(super) enum Frame {
    Whole(Vec<u8>),
    /// Fewer bytes than were announced.
    Torn,
    End,
}

/// The next frame of a segment.
pub(super) fn frame(file: &mut impl Read) -> std::io::Result<Frame> {
    let mut length = Vec::new();
    file.take(4).read_to_end(&mut length)?;
    let Ok(bytes) = <[u8; 4]>::try_from(length.as_slice()) else {
        return Ok(if length.is_empty() { Frame::End } else { Frame::Torn });
    };
    let length = u64::from(u32::from_be_bytes(bytes));
    // Read as it comes: a length that was damaged must not reserve memory.
    let mut frame = Vec::new();
    file.take(length).read_to_end(&mut frame)?;
    Ok(if frame.len() as u64 == length { Frame::Whole(frame) } else { Frame::Torn })
}

/// Refuses what may not be done while rows wait in a spool, of any source.
///
/// # Errors
/// `Config` when some do.
pub(crate) fn must_be_empty(state_dir: &Path, what: &str) -> Result<()> {
    let root = state_dir.join("spool");
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(&root, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unusable(&root, error))?.path();
        if !numbers(&path).map_err(|error| unusable(&path, error))?.is_empty() {
            let what = format!("rows wait in {} for the lake, and {what} would not reach them", path.display());
            let fix = "Drain them first: lockgate run --once. They stay while a table is stopped: restore it, or take both of its folders out of the lake.";
            return Err(Error::new(Kind::Config, what).fix(fix));
        }
    }
    Ok(())
}

/// How many bytes wait for the lake in the spool of a source.
pub(crate) fn bytes(state_dir: &Path, source: &str) -> u64 {
    let folder = place(state_dir, source);
    // A segment may go while they are counted.
    let size = |number: &u32| folder.join(file_name(*number)).metadata().map_or(0, |file| file.len());
    numbers(&folder).unwrap_or_default().iter().map(size).sum()
}

fn file_name(segment: u32) -> String {
    format!("{segment:08}.spool")
}

fn place(state_dir: &Path, source: &str) -> PathBuf {
    state_dir.join("spool").join(source)
}

fn numbers(path: &Path) -> std::io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn make(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK_FILE));
    let file = file.map_err(|error| unusable(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Unavailable, format!("another run works with the spool {}", path.display()))
                .fix("Wait for it, or stop it."))
        }
        Err(TryLockError::Error(error)) => Err(unusable(path, error)),
    }
}

pub(super) fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("cannot read or write the spool {}", path.display()))
        .source(error)
        .fix("Free space there, or allow reading and writing.")
}
