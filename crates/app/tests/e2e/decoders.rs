//! I8: every decoder of bytes from outside takes any bytes. The fuzzer's corpus is replayed (`fuzz/`), and mutations of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Of each target, spread over the files of its corpus.
const MUTATIONS: usize = 3000;
const SEED: u64 = 20_261_121;
/// An input has some kilobytes: what takes longer hangs, even on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(10);
/// What all inputs of a target together may add to the process's address space.
const MEMORY_MAX_KIB: u64 = 1 << 20;

#[test]
fn any_bytes_are_decoded_or_refused_in_bounded_time_and_memory() {
    for (name, target) in decoders::TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "fuzz/corpus/{name} has {} files", corpus.len());
        let before = address_space_kib();
        let mut random = StdRng::seed_from_u64(SEED);
        for (path, bytes) in &corpus {
            feed(name, target, bytes, path, 0);
        }
        for number in 1..=MUTATIONS {
            let (path, bytes) = &corpus[number % corpus.len()];
            let other = &corpus[random.random_range(0..corpus.len())].1;
            feed(name, target, &mutated(bytes, other, &mut random), path, number);
        }
        let grown = address_space_kib().saturating_sub(before);
        assert!(grown < MEMORY_MAX_KIB, "{name}: {grown} KiB");
    }
}

/// The corpora and the targets are the same list, or one of them is never run.
#[test]
fn every_target_has_its_corpus() {
    let mut folders: Vec<String> = std::fs::read_dir(root().join("fuzz/corpus"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, decoders::TARGETS.map(|(name, _)| name));
}

#[allow(clippy::disallowed_methods, reason = "an input that hangs is told by the wall clock")]
fn feed(name: &str, target: decoders::Target, bytes: &[u8], path: &Path, number: usize) {
    let begun = Instant::now();
    let done = std::panic::catch_unwind(|| target(bytes));
    let place = format!("{name}: {} with mutation {number} of seed {SEED}", path.display());
    assert!(done.is_ok(), "{place} panics");
    assert!(begun.elapsed() < TIME_MAX, "{place} takes {:?}", begun.elapsed());
}

fn mutated(bytes: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(1..9)).min(bytes.len());
        match random.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'-', b'9', b'"'][random.random_range(0..8)],
            // A length or a number at its edge.
            2 if end - at >= 4 => bytes[at..at + 4]
                .copy_from_slice(&[u32::MAX, 0x7fff_ffff, 0x8000_0000, 0][random.random_range(0..4)].to_be_bytes()),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            5 => bytes.truncate(at),
            _ => {
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(1..65)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn address_space_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
