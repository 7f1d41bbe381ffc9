//! The few file operations that the index needs, behind a trait so that a test can fail or cut any of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use change::{Error, Kind, Result};

/// An open file.
pub(super) trait DiskFile: Send + Sync {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `bytes` if that needs no wait for the medium; whether it did.
    fn read_at_once(&self, bytes: &mut [u8], offset: u64) -> io::Result<bool>;
    /// Says that bytes are going to be read, so that they are fetched meanwhile. A hint: nothing comes of it where it is not understood.
    fn expect(&self, offset: u64, bytes: usize);
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Waits until the file's content and size are on the medium.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of files by name.
pub(super) trait Disk: Send + Sync {
    /// Opens a file, `None` when there is none.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>>;
    /// Makes an empty file, in place of one of the same name.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of one that has it; atomic.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file if it is there.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Waits until renames are on the medium.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A folder on a local disk, locked against other processes as long as this lives.
struct LocalDisk {
    path: PathBuf,
    _lock: File,
}

impl LocalDisk {
    fn file_options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_at_once(&self, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let wanted = bytes.len();
        match preadv2(self, &mut [io::IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == wanted),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            // A file system that cannot tell, or a kernel: whether it has to be waited for is not known, and nothing is asked ahead.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.read_exact_at(bytes, offset).map(|()| true),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_at_once(&self, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
        self.read_exact_at(bytes, offset).map(|()| true)
    }

    #[cfg(target_os = "linux")]
    fn expect(&self, offset: u64, bytes: usize) {
        // Whoever reads them waits, and hears of what is wrong.
        let _hint = rustix::fs::fadvise(self, offset, NonZeroU64::new(bytes as u64), rustix::fs::Advice::WillNeed);
    }

    #[cfg(not(target_os = "linux"))]
    fn expect(&self, _offset: u64, _bytes: usize) {}

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for LocalDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        match Self::file_options().open(self.path.join(name)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self::file_options().create(true).truncate(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// A [`Disk`] whose failures are told as [`Error`]s with the file's path.
#[derive(Clone)]
pub(super) struct Dir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Dir {
    /// Opens a folder, making it (mode 0700) when missing, and locks it.
    pub(super) fn local(path: &Path) -> Result<Self> {
        let fail = |error| failed("open the folder", path, error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        let lock = LocalDisk::file_options().create(true).truncate(false).open(path.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self::new(Arc::new(LocalDisk { path: path.to_owned(), _lock: lock }), path)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(Kind::Unavailable, format!("{}: another process uses this key index", path.display()))
                    .fix(
                        "Stop the other Lockgate that runs on this project folder; this one goes on when it has ended.",
                    ))
            }
            Err(TryLockError::Error(error)) => Err(failed("lock the folder", path, error)),
        }
    }

    pub(super) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(&self, name: &str) -> Result<Option<NamedFile>> {
        let path = self.path.join(name);
        let file = self.disk.open(name).map_err(|error| failed("open", &path, error))?;
        Ok(file.map(|file| NamedFile { file, path, waits: AtomicU64::new(0) }))
    }

    pub(super) fn create(&self, name: &str) -> Result<NamedFile> {
        let path = self.path.join(name);
        let file = self.disk.create(name).map_err(|error| failed("create", &path, error))?;
        Ok(NamedFile { file, path, waits: AtomicU64::new(0) })
    }

    /// Makes a file without a name, which is gone with its last handle.
    pub(super) fn create_nameless(&self) -> Result<NamedFile> {
        let file = self.create("scratch")?;
        self.remove("scratch")?;
        Ok(file)
    }

    /// Puts an open file under another name.
    pub(super) fn rename(&self, mut file: NamedFile, from: &str, to: &str) -> Result<NamedFile> {
        self.disk.rename(from, to).map_err(|error| failed("rename", &file.path, error))?;
        file.path = self.path.join(to);
        Ok(file)
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        self.disk.remove(name).map_err(|error| failed("remove", &self.path.join(name), error))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.disk.sync_dir().map_err(|error| failed("sync the folder", &self.path, error))
    }
}

/// An open file that knows its path.
pub(super) struct NamedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    waits: AtomicU64,
}

impl NamedFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes`; a file that ends before is damage.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&self.path, "the file is shorter than it should be"),
            _ => failed("read", &self.path, error),
        })
    }

    /// As [`NamedFile::read_at`], for few bytes here and there: counts when the medium is waited for.
    pub(super) fn read_scattered(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        if self.file.read_at_once(bytes, offset).map_err(|error| failed("read", &self.path, error))? {
            return Ok(());
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.read_at(bytes, offset)
    }

    /// How often a scattered read had to wait so far.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Says that bytes are going to be read, so that they are fetched meanwhile.
    pub(super) fn expect(&self, offset: u64, bytes: usize) {
        self.file.expect(offset, bytes);
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset).map_err(|error| failed("write", &self.path, error))
    }

    pub(super) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|error| failed("read the size of", &self.path, error))
    }

    pub(super) fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| failed("resize", &self.path, error))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|error| failed("sync", &self.path, error))
    }
}

/// The index on disk is not what was written; [`Kind::Data`], which tells the lake to build it anew.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Kind::Data, format!("{}: the key index is damaged: {what}", path.display()))
        .fix("It is built anew from the table at the next start; if this comes back, check the disk.")
}

fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    let (kind, fix) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (Kind::Full, "Free space on the disk that holds the key index, or move its folder to a larger disk.")
        }
        io::ErrorKind::PermissionDenied => {
            (Kind::Auth, "Give the user that runs Lockgate the right to read and write this path.")
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            (Kind::Config, "Put the key index on a disk that can be written.")
        }
        _ => (Kind::Unavailable, "Check the disk that holds the key index."),
    };
    Error::new(kind, format!("{}: cannot {action} (key index)", path.display())).source(error).fix(fix)
}
