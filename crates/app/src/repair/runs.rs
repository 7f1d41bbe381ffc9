//! Fingerprints in a file, so that a comparison of any size keeps few of them in memory, and goes on after a kill.
//!
//! A file is a row of frames. Each holds the fingerprints of some rows, by key in ascending order, under a number: that of the chunk that they
//! were read in. Frames are only appended; a file of which most was replaced is written anew when it is opened. Nothing but such a new file is
//! synced: a frame counts when its checksum does, and what a kill or a loss of power has torn is cut off.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use change::Result;
use xxhash_rust::xxh3::Xxh3;

use super::fingerprint::Print;
use crate::turn::unusable;

/// Number and rows of a frame, and the checksum of all of it.
const HEAD_BYTES: u64 = 8 + 8 + 16;
const PRINT_BYTES: u64 = 32;
/// What is read at a time to check a frame.
const CHECKED_BYTES: u64 = 1 << 20;

/// A file of fingerprints.
pub(crate) struct Runs {
    path: PathBuf,
    file: File,
    seed: u64,
    /// Where the next frame goes.
    end: u64,
    runs: BTreeMap<u32, Vec<Run>>,
}

/// The fingerprints of one frame.
#[derive(Clone, Copy)]
struct Run {
    at: u64,
    rows: u64,
    /// How many of them [`Runs::below`] has given.
    taken: u64,
}

impl Runs {
    /// An empty file. `seed` tells the frames of one comparison from those of another.
    pub(crate) fn create(path: &Path, seed: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(|error| unusable(path, error))?;
        Ok(Self { path: path.to_owned(), file, seed, end: 0, runs: BTreeMap::new() })
    }

    /// The file as it was left; an empty one when there is none. Of frames with the same number the last one counts; when less
    /// than half of the file does, the others go.
    pub(crate) fn open(path: &Path, seed: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| unusable(path, error))?;
        let mut runs = Self { path: path.to_owned(), file, seed, end: 0, runs: BTreeMap::new() };
        runs.read_frames().map_err(|error| unusable(path, error))?;
        if runs.bytes() < runs.end / 2 { runs.rewritten() } else { Ok(runs) }
    }

    /// Whether there is a frame with this number.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.runs.contains_key(&number)
    }

    /// The numbers that there are, ascending.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.runs.keys().copied().collect()
    }

    /// The rows in all frames that count.
    pub(crate) fn rows(&self) -> u64 {
        self.runs.values().flatten().map(|run| run.rows).sum()
    }

    /// Appends a frame, beside others with the same number.
    pub(crate) fn put(&mut self, number: u32, mut prints: Vec<Print>) -> Result<()> {
        prints.sort_unstable_by_key(|print| print.key);
        let rows = prints.len() as u64;
        let mut bytes = vec![0; HEAD_BYTES as usize];
        for print in prints {
            bytes.extend(print.key.to_le_bytes());
            bytes.extend(print.row.to_le_bytes());
        }
        bytes[..8].copy_from_slice(&u64::from(number).to_le_bytes());
        bytes[8..16].copy_from_slice(&rows.to_le_bytes());
        let mut checksum = Xxh3::with_seed(self.seed);
        checksum.update(&bytes[..16]);
        checksum.update(&bytes[HEAD_BYTES as usize..]);
        bytes[16..HEAD_BYTES as usize].copy_from_slice(&checksum.digest128().to_le_bytes());
        self.file.write_all_at(&bytes, self.end).map_err(|error| unusable(&self.path, error))?;
        self.runs.entry(number).or_default().push(Run { at: self.end + HEAD_BYTES, rows, taken: 0 });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Puts a frame in the place of those with the same number.
    pub(crate) fn renew(&mut self, number: u32, prints: Vec<Print>) -> Result<()> {
        let before = self.runs.remove(&number);
        let put = self.put(number, prints);
        if let (Err(_), Some(before)) = (&put, before) {
            self.runs.insert(number, before);
        }
        put
    }

    /// All fingerprints under a number.
    pub(crate) fn under(&self, number: u32) -> Result<Vec<Print>> {
        let runs = self.runs.get(&number).into_iter().flatten();
        let mut prints = Vec::new();
        for run in runs {
            self.read(run, 0, run.rows, |print| prints.push(print))?;
        }
        Ok(prints)
    }

    /// The fingerprints with keys below `bound` that were not given before, and the number of each; without a bound, all that are left.
    pub(crate) fn below(&mut self, bound: Option<u128>) -> Result<Vec<(u32, Print)>> {
        let (mut given, mut ends) = (Vec::new(), Vec::new());
        for (number, run) in self.runs.iter().flat_map(|(number, runs)| runs.iter().map(move |run| (*number, run))) {
            let end = match bound {
                Some(bound) => self.first_at(run, bound).map_err(|error| unusable(&self.path, error))?,
                None => run.rows,
            };
            self.read(run, run.taken, end, |print| given.push((number, print)))?;
            ends.push(end);
        }
        self.runs.values_mut().flatten().zip(ends).for_each(|(run, end)| run.taken = end);
        Ok(given)
    }

    /// The place of the first key of a run that is not below `bound`.
    fn first_at(&self, run: &Run, bound: u128) -> std::io::Result<u64> {
        let (mut low, mut high) = (run.taken, run.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut key = [0; 16];
            self.file.read_exact_at(&mut key, run.at + middle * PRINT_BYTES)?;
            if u128::from_le_bytes(key) < bound { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn read(&self, run: &Run, from: u64, to: u64, mut each: impl FnMut(Print)) -> Result<()> {
        let mut bytes = vec![0; ((to - from) * PRINT_BYTES) as usize];
        let read = self.file.read_exact_at(&mut bytes, run.at + from * PRINT_BYTES);
        read.map_err(|error| unusable(&self.path, error))?;
        for print in bytes.chunks_exact(PRINT_BYTES as usize) {
            each(Print { key: number_in(&print[..16]), row: number_in(&print[16..]) });
        }
        Ok(())
    }

    /// The bytes of all frames that count.
    fn bytes(&self) -> u64 {
        self.runs.values().flatten().map(|run| HEAD_BYTES + run.rows * PRINT_BYTES).sum()
    }

    /// The same frames in a new file, which takes the place of this one when it is whole.
    fn rewritten(self) -> Result<Self> {
        let path = self.path.with_extension("new");
        let mut new = Self::create(&path, self.seed)?;
        for number in self.numbers() {
            new.put(number, self.under(number)?)?;
        }
        let replaced = new.file.sync_data().and_then(|()| std::fs::rename(&path, &self.path));
        replaced.map_err(|error| unusable(&self.path, error))?;
        Ok(Self { path: self.path, ..new })
    }

    /// Takes the frames up to the first that is torn, and cuts the rest off.
    fn read_frames(&mut self) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        while let Some((number, run)) = self.frame(self.end, length)? {
            self.end = run.at + run.rows * PRINT_BYTES;
            self.runs.insert(number, vec![run]);
        }
        self.file.set_len(self.end)
    }

    /// The frame at a place; `None` when it is not whole.
    fn frame(&self, at: u64, length: u64) -> std::io::Result<Option<(u32, Run)>> {
        if length - at < HEAD_BYTES {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES as usize];
        self.file.read_exact_at(&mut head, at)?;
        let [number, rows] = [&head[..8], &head[8..16]].map(number_in);
        let left = u128::from(length - at - HEAD_BYTES);
        let (Ok(number), true) = (u32::try_from(number), rows.saturating_mul(u128::from(PRINT_BYTES)) <= left) else {
            return Ok(None);
        };
        let run = Run { at: at + HEAD_BYTES, rows: rows as u64, taken: 0 };
        let mut checksum = Xxh3::with_seed(self.seed);
        checksum.update(&head[..16]);
        let (mut from, end) = (run.at, run.at + run.rows * PRINT_BYTES);
        while from < end {
            let mut bytes = vec![0; (end - from).min(CHECKED_BYTES) as usize];
            self.file.read_exact_at(&mut bytes, from)?;
            checksum.update(&bytes);
            from += bytes.len() as u64;
        }
        Ok((checksum.digest128() == number_in(&head[16..])).then_some((number, run)))
    }
}

/// At most 16 bytes as a number, the lowest first.
fn number_in(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lockgate-runs-{name}-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        path
    }

    fn prints(keys: impl IntoIterator<Item = u128>) -> Vec<Print> {
        keys.into_iter().map(|key| Print { key: key << 100, row: key + 1 }).collect()
    }

    #[test]
    fn what_is_put_comes_back_by_number_and_in_ranges_of_keys_once() {
        let path = place("ranges");
        let mut runs = Runs::create(&path, 7).unwrap();
        runs.put(3, prints([9, 1, 5])).unwrap();
        runs.put(1, prints([4, 2])).unwrap();
        runs.put(3, prints([7])).unwrap();
        runs.put(8, Vec::new()).unwrap();
        assert_eq!((runs.numbers(), runs.rows()), (vec![1, 3, 8], 6));
        assert_eq!(runs.under(3).unwrap(), prints([1, 5, 9, 7]));
        let keys = |given: Vec<(u32, Print)>| given.into_iter().map(|(n, p)| (n, p.key >> 100)).collect::<Vec<_>>();
        assert_eq!(keys(runs.below(Some(5 << 100)).unwrap()), [(1, 2), (1, 4), (3, 1)]);
        assert_eq!(keys(runs.below(Some(5 << 100)).unwrap()), []);
        assert_eq!(keys(runs.below(None).unwrap()), [(3, 5), (3, 9), (3, 7)]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_was_torn_anywhere_has_its_whole_frames_and_goes_on_behind_them() {
        let path = place("torn");
        let mut runs = Runs::create(&path, 7).unwrap();
        runs.put(0, prints([1, 2])).unwrap();
        let first = runs.end;
        runs.put(1, prints([3])).unwrap();
        runs.renew(0, prints([4, 5, 6])).unwrap();
        let (whole, second) = (std::fs::read(&path).unwrap(), first + HEAD_BYTES + PRINT_BYTES);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut runs = Runs::open(&path, 7).unwrap();
            let expected = match length as u64 {
                length if length < first => vec![],
                length if length < second => vec![0],
                _ => vec![0, 1],
            };
            assert_eq!(runs.numbers(), expected, "{length} bytes");
            let renewed = length == whole.len();
            if length as u64 >= first {
                assert_eq!(runs.under(0).unwrap(), if renewed { prints([4, 5, 6]) } else { prints([1, 2]) });
            }
            runs.put(9, prints([8])).unwrap();
            assert_eq!(Runs::open(&path, 7).unwrap().under(9).unwrap(), prints([8]), "{length} bytes");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_of_which_less_than_half_counts_is_written_anew_and_no_other() {
        let path = place("anew");
        let mut runs = Runs::create(&path, 7).unwrap();
        runs.put(0, prints([1, 2])).unwrap();
        runs.put(1, prints([3])).unwrap();
        let whole = runs.end;
        runs.renew(0, prints([4, 5])).unwrap();
        let renewed = runs.end;
        assert_eq!(Runs::open(&path, 7).unwrap().end, renewed);
        for _ in 0..3 {
            runs.renew(0, prints([6, 7])).unwrap();
        }
        // Nothing of a new file that a kill has left counts.
        std::fs::write(path.with_extension("new"), "torn").unwrap();
        // The second time there is nothing to do.
        for _ in 0..2 {
            let runs = Runs::open(&path, 7).unwrap();
            assert_eq!((runs.end, std::fs::metadata(&path).unwrap().len()), (whole, whole));
            assert_eq!((runs.under(0).unwrap(), runs.under(1).unwrap()), (prints([6, 7]), prints([3])));
        }
        assert!(!path.with_extension("new").exists());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_reading_that_failed_takes_nothing_away() {
        let path = place("unread");
        let mut runs = Runs::create(&path, 7).unwrap();
        runs.put(0, prints([1, 3])).unwrap();
        runs.put(1, prints([2])).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(runs.below(None).is_err());
        std::fs::write(&path, whole).unwrap();
        assert_eq!((runs.rows(), runs.below(None).unwrap().len()), (3, 3));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn damaged_bytes_and_frames_of_another_comparison_do_not_count() {
        let path = place("damaged");
        let mut runs = Runs::create(&path, 7).unwrap();
        runs.put(0, prints([1, 2])).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert!(!Runs::open(&path, 7).unwrap().has(0), "byte {at}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(!Runs::open(&path, 8).unwrap().has(0));
        std::fs::write(&path, &whole).unwrap();
        assert!(Runs::open(&path, 7).unwrap().has(0));
        std::fs::remove_file(path).unwrap();
    }
}
