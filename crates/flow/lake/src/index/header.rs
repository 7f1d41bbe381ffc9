use std::path::Path;

use change::Result;
use xxhash_rust::xxh3::xxh3_128;

use super::block::{BLOCKS_AT, u64_at};
use super::disk::{NamedFile, damaged};
use super::hash::KeySeed;

const MAGIC: &[u8; 8] = b"LGKEYIX\x01";
const BYTES: usize = BLOCKS_AT as usize;
const SUM_AT: usize = BYTES - 4;

/// Whether an identity has one row at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Identities are keys: one entry each.
    Unique,
    /// Identities are whole rows, and equal rows may lie in the table any number of times.
    Multiset,
}

/// One run of the operating system, from boot to power-off, on one machine.
///
/// What a process wrote and did not sync survives the process, not the machine. So an index that was not closed is trusted only within
/// the boot in which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId([u8; 16]);

impl BootId {
    /// From any text that differs from boot to boot, such as the content of `/proc/sys/kernel/random/boot_id`.
    pub fn from_text(text: &str) -> Self {
        Self(xxh3_128(text.trim().as_bytes()).to_le_bytes())
    }
}

/// What the file promises of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Everything is on the medium.
    Closed = 0,
    /// The blocks are right for this boot.
    Live = 1,
    /// The intent is being carried out: the blocks are right once it has been carried out again.
    Applying = 2,
}

/// The first 4 KiB of the file of blocks.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) table_id: [u8; 16],
    pub(super) seed: KeySeed,
    pub(super) shape: Shape,
    pub(super) state: State,
    /// The boot in which the file was last written; `None` when the platform does not tell.
    pub(super) boot: Option<BootId>,
    /// The table version that the blocks reflect; in [`State::Applying`], the one from which the intent starts.
    pub(super) version: u64,
    pub(super) log2_blocks: u32,
    pub(super) entries: u64,
    /// The lowest number that has not been given to a file.
    pub(super) next_file: u32,
    /// The number of files of copied rows' keys that are part of the index; see [`super::copied`].
    pub(super) copied: u32,
}

impl Header {
    pub(super) fn write(&self, file: &NamedFile) -> Result<()> {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.table_id);
        bytes[24..32].copy_from_slice(&self.seed.to_bits().to_le_bytes());
        bytes[32] = matches!(self.shape, Shape::Multiset).into();
        bytes[33] = self.state as u8;
        bytes[34] = self.boot.is_some().into();
        bytes[35] = self.log2_blocks as u8;
        bytes[36..40].copy_from_slice(&self.next_file.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.boot.map_or([0; 16], |boot| boot.0));
        bytes[56..64].copy_from_slice(&self.version.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.entries.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.copied.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        file.write_at(&bytes, 0)
    }

    pub(super) fn read(file: &NamedFile) -> Result<Self> {
        let mut bytes = [0; BYTES];
        file.read_at(&mut bytes, 0)?;
        Self::decode(&bytes, file.path())
    }

    fn decode(bytes: &[u8; BYTES], path: &Path) -> Result<Self> {
        if &bytes[..8] != MAGIC {
            return Err(damaged(path, "the file is not a key index of this version"));
        }
        if bytes[SUM_AT..] != crc32fast::hash(&bytes[..SUM_AT]).to_le_bytes() {
            return Err(damaged(path, "the header's checksum is wrong"));
        }
        let sixteen = |at: usize| {
            let mut copy = [0; 16];
            copy.copy_from_slice(&bytes[at..at + 16]);
            copy
        };
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let state = match bytes[33] {
            0 => State::Closed,
            1 => State::Live,
            2 => State::Applying,
            _ => return Err(damaged(path, "the header's state is unknown")),
        };
        Ok(Self {
            table_id: sixteen(8),
            seed: KeySeed::new(u64_at(bytes, 24)),
            shape: if bytes[32] == 0 { Shape::Unique } else { Shape::Multiset },
            state,
            boot: (bytes[34] != 0).then(|| BootId(sixteen(40))),
            log2_blocks: bytes[35].into(),
            next_file: four(36),
            version: u64_at(bytes, 56),
            entries: u64_at(bytes, 64),
            copied: four(72),
        })
    }
}
