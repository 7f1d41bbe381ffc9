//! The wrapped key file: the text of a key file under a random key of its own, and that key under a key that never leaves its manager.
//!
//! ```text
//! # comment
//! lockgate-wrapped 1
//! manager aws-kms
//! tenant default
//! key <the random key as the manager wrapped it, base64>
//! text <nonce of 12 bytes, AES-256-GCM of the key file, tag of 16 bytes, base64>
//! ```
//!
//! The first three lines are the additional data of AES-GCM, and the tenant goes to the manager too where it takes a context: a file
//! that was wrapped for another tenant opens nowhere else.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use change::{Error, Kind, Result};
use gate::KeyRing;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

const HEADER: &str = "lockgate-wrapped 1";
/// The largest file that is read, bytes.
const FILE_MAX: u64 = 1 << 20;

/// A key that is used for one file only.
pub(super) type FileKey = Zeroizing<[u8; 32]>;

/// A wrapped key file as it lies in the project; it holds nothing that is secret by itself.
pub(super) struct Wrapped {
    manager: String,
    tenant: String,
    key: Vec<u8>,
    text: Vec<u8>,
}

/// A fresh key for one file.
///
/// # Errors
/// `Unavailable` when the system gives no random numbers.
pub(super) fn file_key() -> Result<FileKey> {
    let mut key = Zeroizing::new([0; 32]);
    random(&mut *key)?;
    Ok(key)
}

fn random(bytes: &mut [u8]) -> Result<()> {
    OsRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::new(Kind::Unavailable, "the system gave no random numbers for a key").source(error))
}

impl Wrapped {
    /// Seals the text of a key file under `file_key`, whose wrapped form is `key`.
    ///
    /// # Errors
    /// `Privacy` when the text is no key file.
    pub(super) fn seal(manager: &str, key: Vec<u8>, file_key: &FileKey, text: &str) -> Result<Self> {
        let tenant = KeyRing::parse(text)?.tenant().to_owned();
        let mut wrapped = Self { manager: manager.to_owned(), tenant, key, text: Vec::new() };
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut sealed = Zeroizing::new(text.as_bytes().to_vec());
        let tag = cipher(file_key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), wrapped.bound(), &mut sealed)
            .map_err(|_| Error::new(Kind::Bug, "a key file could not be sealed"))?;
        wrapped.text = [&nonce, sealed.as_slice(), tag.as_ref()].concat();
        Ok(wrapped)
    }

    /// The text of the key file.
    ///
    /// # Errors
    /// `Privacy` when the file was changed, or the key is another one's.
    pub(super) fn open(&self, file_key: &[u8]) -> Result<Zeroizing<String>> {
        let refused = || {
            Error::new(Kind::Privacy, "the wrapped key file does not open: it was changed, or is another one's")
                .fix("Restore it from where you keep keys, or wrap the key file again: lockgate keys wrap")
        };
        let file_key: FileKey = Zeroizing::new(file_key.try_into().map_err(|_| refused())?);
        let (nonce, sealed) = self.text.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = cipher(&file_key)?.open_in_place(nonce, self.bound(), &mut opened).map_err(|_| refused())?;
        let text = std::str::from_utf8(text).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| refused())?;
        if KeyRing::parse(&text)?.tenant() != self.tenant {
            return Err(refused());
        }
        Ok(text)
    }

    /// The random key as the manager wrapped it.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whose keys these are.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    fn bound(&self) -> Aad<String> {
        Aad::from(format!("{HEADER}\nmanager {}\ntenant {}\n", self.manager, self.tenant))
    }

    /// Reads a file that `manager` is to open.
    ///
    /// # Errors
    /// `Privacy` when it is missing or damaged; `Config` when another manager wrapped it.
    pub(super) fn read(path: &Path, manager: &str) -> Result<Self> {
        let shown = path.display();
        let wrong = |what: String| {
            Error::new(Kind::Privacy, what)
                .fix("Restore it from where you keep keys, or make it: lockgate keys wrap REFERENCE")
        };
        let unreadable = |error| wrong(format!("cannot read the wrapped key file {shown}")).source(error);
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX {
            return Err(wrong(format!("{shown} is no wrapped key file: it is too large")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let wrapped =
            Self::parse(&text).ok_or_else(|| wrong(format!("{shown} is no wrapped key file, or is cut off")))?;
        if wrapped.manager != manager {
            let what = format!("{shown} was wrapped by {}, and `keys` of policy.yaml says {manager}", wrapped.manager);
            return Err(Error::new(Kind::Config, what).fix("Name the manager that wrapped it."));
        }
        Ok(wrapped)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next()? != HEADER {
            return None;
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (manager, tenant) = (field("manager")?.to_owned(), field("tenant")?.to_owned());
        let (key, text) = (STANDARD.decode(field("key")?).ok()?, STANDARD.decode(field("text")?).ok()?);
        let whole = text.len() > NONCE_LEN + AES_256_GCM.tag_len() && !key.is_empty() && lines.next().is_none();
        whole.then_some(Self { manager, tenant, key, text })
    }

    /// Writes the file whole under a name of its own, beside `path`: one that is there stays until [`Unnamed::name`]. What a kill has left
    /// under that name is written over.
    ///
    /// # Errors
    /// `Config` when it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<Unnamed> {
        let failed = |error| unwritable(path, error);
        let text = format!(
            "# Keys of Lockgate, wrapped: worth nothing without the manager's key. Keep a copy where you keep keys.\n\
             {HEADER}\nmanager {}\ntenant {}\nkey {}\ntext {}\n",
            self.manager,
            self.tenant,
            STANDARD.encode(&self.key),
            STANDARD.encode(&self.text)
        );
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let unnamed = Unnamed { beside: beside.into(), path: path.to_owned(), text };
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&unnamed.beside);
        let mut file = file.map_err(failed)?;
        file.write_all(unnamed.text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(unnamed)
    }
}

/// A wrapped key file that is whole and has not its name yet.
pub(crate) struct Unnamed {
    beside: PathBuf,
    path: PathBuf,
    text: String,
}

impl Unnamed {
    /// Where it lies.
    pub(super) fn beside(&self) -> &Path {
        &self.beside
    }

    /// What is in it, which is nothing secret by itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Gives it its name, in place of a file that has it.
    ///
    /// # Errors
    /// `Config` when the name cannot be given.
    pub(crate) fn name(self) -> Result<PathBuf> {
        let failed = |error| unwritable(&self.path, error);
        std::fs::rename(&self.beside, &self.path).map_err(failed)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(self.path)
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Config, format!("cannot write the wrapped key file {}", path.display())).source(error)
}

fn cipher(key: &FileKey) -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &**key).map_err(|_| Error::new(Kind::Bug, "a key of another length"))?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(tenant: &str) -> Zeroizing<String> {
        KeyRing::generate(tenant, Zeroizing::new(std::array::from_fn(|i| i as u8))).unwrap()
    }

    /// Written by AESGCM of Python's `cryptography`, with the bytes 0 to 31 as the key.
    #[test]
    fn another_program_s_file_is_opened() {
        let file_key: Vec<u8> = (0..32).collect();
        let wrapped = Wrapped::parse(include_str!("wrapped/golden.txt")).unwrap();
        assert_eq!((wrapped.key(), wrapped.tenant()), (&b"wrapped key"[..], "acme"));
        assert!(KeyRing::parse(&wrapped.open(&file_key).unwrap()).is_ok());
    }

    #[test]
    fn a_file_comes_back_and_every_change_of_it_is_refused() {
        let (folder, text) =
            (std::env::temp_dir().join(format!("lockgate-wrapped-{}", std::process::id())), key_file("a"));
        let (path, key) = (folder.join("keys/wrapped"), file_key().unwrap());
        Wrapped::seal("aws-kms", b"sealed".to_vec(), &key, &text).unwrap().write(&path).unwrap().name().unwrap();
        let wrapped = Wrapped::read(&path, "aws-kms").unwrap();
        assert_eq!(*wrapped.open(&*key).unwrap(), *text);
        let error = Wrapped::read(&path, "gcp-kms").err().unwrap();
        assert!(error.to_string().contains("wrapped by aws-kms"));
        assert!(wrapped.open(&*file_key().unwrap()).is_err() && wrapped.open(&key[..31]).is_err());
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(!written.contains("epoch"));
        let tenant = Wrapped::parse(&written.replace("tenant a", "tenant b")).unwrap();
        assert_eq!(tenant.open(&*key).err().unwrap().kind(), Kind::Privacy);
        // No beginning of it is taken for the whole, and no digit may be another one.
        for end in 0..written.len() - 1 {
            let opened = Wrapped::parse(&written[..end]).map(|wrapped| wrapped.open(&*key));
            assert!(opened.is_none_or(|opened| opened.is_err()), "cut at {end}");
        }
        for (at, byte) in written.bytes().enumerate().skip(written.find("text ").unwrap() + 5) {
            let other = if byte == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &written[..at], &written[at + 1..]);
            let opened = Wrapped::parse(&changed).map(|wrapped| wrapped.open(&*key));
            assert!(opened.is_none_or(|opened| opened.is_err()), "changed at {at}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_without_its_name_leaves_the_one_before_and_is_written_over() {
        let folder = std::env::temp_dir().join(format!("lockgate-unnamed-{}", std::process::id()));
        let (path, key) = (folder.join("wrapped"), file_key().unwrap());
        let write = |tenant: &str| {
            let wrapped = Wrapped::seal("aws-kms", b"sealed".to_vec(), &key, &key_file(tenant)).unwrap();
            wrapped.write(&path).unwrap()
        };
        let tenant = || Wrapped::read(&path, "aws-kms").map(|wrapped| wrapped.tenant().to_owned());
        // As a kill leaves it: nothing has the name.
        drop(write("a-long-name-of-a-tenant-so-that-the-file-is-longer"));
        assert!(tenant().is_err());
        write("a").name().unwrap();
        assert_eq!(tenant().unwrap(), "a");
        drop(write("b"));
        assert_eq!(tenant().unwrap(), "a");
        let unnamed = write("c");
        assert_eq!(std::fs::read_to_string(unnamed.beside()).unwrap(), unnamed.text());
        unnamed.name().unwrap();
        assert_eq!(tenant().unwrap(), "c");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_key_file_is_not_sealed() {
        assert!(Wrapped::seal("aws-kms", vec![1], &file_key().unwrap(), "hunter2").is_err());
    }
}
