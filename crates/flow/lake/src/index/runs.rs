use change::Result;

use super::KeyHash;
use super::block::u64_at;
use super::disk::{Dir, NamedFile};

/// Hashes are split by their top bits into so many parts; a thousand million entries make parts of a million.
pub(super) const LOG2_PARTS: u32 = 10;
const ENTRY_BYTES: usize = 24;
const BUFFER_BYTES_MIN: usize = 16 * ENTRY_BYTES;

/// Entries in any order, split by the top bits of their hash, in a file without a name once they outgrow memory.
pub(super) struct Runs {
    dir: Dir,
    file: Option<NamedFile>,
    end: u64,
    buffer_bytes: usize,
    parts: Vec<Part>,
    entries: u64,
}

#[derive(Default)]
struct Part {
    buffer: Vec<u8>,
    /// Where its full buffers lie in the file.
    written: Vec<u64>,
}

impl Runs {
    /// Nothing yet; `memory_bytes` bounds what is buffered.
    pub(super) fn new(dir: &Dir, memory_bytes: usize) -> Self {
        let parts: Vec<Part> = (0..1 << LOG2_PARTS).map(|_| Part::default()).collect();
        let buffer_bytes = (memory_bytes / parts.len()).max(BUFFER_BYTES_MIN) / ENTRY_BYTES * ENTRY_BYTES;
        Self { dir: dir.clone(), file: None, end: 0, buffer_bytes, parts, entries: 0 }
    }

    /// The number of entries.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn push(&mut self, key: KeyHash, payload: u64) -> Result<()> {
        let part = &mut self.parts[key.block(LOG2_PARTS) as usize];
        part.buffer.extend_from_slice(&key.0.to_le_bytes());
        part.buffer.extend_from_slice(&payload.to_le_bytes());
        self.entries += 1;
        if part.buffer.len() < self.buffer_bytes {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.dir.create_nameless()?),
        };
        file.write_at(&part.buffer, self.end)?;
        part.written.push(self.end);
        part.buffer.clear();
        self.end += self.buffer_bytes as u64;
        Ok(())
    }

    /// Hands out the entries of one part, in the order of pushing.
    pub(super) fn for_each(&self, part: usize, mut visit: impl FnMut(KeyHash, u64) -> Result<()>) -> Result<()> {
        let part = &self.parts[part];
        let mut visit_all = |bytes: &[u8]| {
            bytes.chunks_exact(ENTRY_BYTES).try_for_each(|entry| {
                let mut hash = [0; 16];
                hash.copy_from_slice(&entry[..16]);
                visit(KeyHash(u128::from_le_bytes(hash)), u64_at(entry, 16))
            })
        };
        if let Some(file) = &self.file {
            let mut bytes = vec![0; self.buffer_bytes];
            for at in &part.written {
                file.read_at(&mut bytes, *at)?;
                visit_all(&bytes)?;
            }
        }
        visit_all(&part.buffer)
    }
}
