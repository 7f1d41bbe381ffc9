//! One pass over bytes for all forms of all planted values, and over what the formats of our files hide in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use arrow::array::{Array, ArrayData, AsArray};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;

use super::canary::{Canary, Planted};
use super::forms::{Needle, SURE_BITS, bits, needles};
use super::surface::Surface;

/// A planted value that was found. It says where and in which form, never the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) surface: Surface,
    pub(crate) place: String,
    pub(crate) column: &'static str,
    pub(crate) form: &'static str,
}

struct Owner {
    canary: usize,
    form: &'static str,
    sure: bool,
}

/// Needles of one way of comparing.
struct Half {
    search: AhoCorasick,
    owners: Vec<Owner>,
}

/// What a part of a value in digits belongs to.
type Parts = HashMap<String, usize>;

pub(crate) struct Scanner {
    canaries: Vec<Canary>,
    folded: Half,
    exact: Half,
    parts: Parts,
    hits: BTreeSet<Hit>,
    // What is no find alone: the canaries of a hit that is not sure.
    unsure: BTreeMap<Hit, BTreeSet<usize>>,
    seen: BTreeMap<Surface, u64>,
}

impl Scanner {
    pub(crate) fn new(canaries: Vec<Canary>) -> Self {
        let (mut folded, mut exact) = (Vec::new(), Vec::new());
        for (canary, planted) in canaries.iter().enumerate() {
            for needle in needles(&planted.planted) {
                if needle.folded { &mut folded } else { &mut exact }.push((canary, needle));
            }
        }
        let parts =
            canaries.iter().enumerate().flat_map(|(at, canary)| parts(canary).into_iter().map(move |part| (part, at)));
        Self {
            folded: Half::new(folded, true),
            exact: Half::new(exact, false),
            parts: parts.collect(),
            canaries,
            hits: BTreeSet::new(),
            unsure: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Searches bytes as they are.
    pub(crate) fn look(&mut self, surface: Surface, place: &str, bytes: &[u8]) {
        *self.seen.entry(surface).or_default() += bytes.len() as u64;
        let mut found = BTreeSet::new();
        for half in [&self.folded, &self.exact] {
            for hit in half.search.find_overlapping_iter(bytes) {
                let owner = &half.owners[hit.pattern().as_usize()];
                found.insert((owner.canary, owner.form, owner.sure));
            }
        }
        for (canary, form, sure) in found {
            self.note(surface, place, canary, form, sure);
        }
    }

    /// Searches a file: its path, its bytes, and what a Parquet file holds compressed and encoded. Another compressed file is an error.
    pub(crate) fn file(&mut self, surface: Surface, path: &Path, below: &Path) {
        let place = path.strip_prefix(below).unwrap_or(path).display().to_string();
        self.look(Surface::Paths, &place, place.as_bytes());
        let Ok(bytes) = std::fs::read(path) else { return };
        self.look(surface, &place, &bytes);
        if bytes.starts_with(b"PAR1") {
            self.parquet(surface, &place, path);
        } else {
            assert!(!is_compressed(&bytes), "{place} is compressed in a way that is not looked into");
        }
    }

    fn parquet(&mut self, surface: Surface, place: &str, path: &Path) {
        let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
        let options = ReadOptionsBuilder::new().with_reader_properties(properties).with_page_index().build();
        let reader = SerializedFileReader::new_with_options(File::open(path).unwrap(), options).unwrap();
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).unwrap();
            for column in 0..group.num_columns() {
                if let Some(filter) = group.get_column_bloom_filter(column) {
                    self.bloom_filter(surface, place, &|bytes| filter.check(&bytes));
                }
                let mut pages = group.get_column_page_reader(column).unwrap();
                while let Some(page) = pages.get_next_page().unwrap() {
                    self.look(surface, place, page.buffer());
                }
            }
        }
        let file = File::open(path).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            for column in batch.unwrap().columns() {
                self.array(surface, place, &column.to_data());
                self.cells(surface, place, column);
            }
        }
    }

    /// A filter says of one value in a hundred wrongly that it may be there: only of most values of a column it is a find.
    fn bloom_filter(&mut self, surface: Surface, place: &str, may_hold: &dyn Fn(Vec<u8>) -> bool) {
        let mut probed: BTreeMap<&'static str, (u32, u32)> = BTreeMap::new();
        for canary in &self.canaries {
            let (of, held) = probed.entry(canary.column).or_default();
            *of += 1;
            *held += u32::from(plain(&canary.planted).into_iter().any(may_hold));
        }
        for (column, _) in probed.into_iter().filter(|(_, (of, held))| *of > 1 && held * 4 > *of) {
            self.hits.insert(Hit { surface, place: place.into(), column, form: "bloom filter" });
        }
    }

    fn array(&mut self, surface: Surface, place: &str, data: &ArrayData) {
        data.buffers().iter().for_each(|buffer| self.look(surface, place, buffer.as_slice()));
        data.child_data().iter().for_each(|child| self.array(surface, place, child));
    }

    /// The digits in cells of text: four of them at the end of a cell are a find that they are not within a file's bytes.
    fn cells(&mut self, surface: Surface, place: &str, column: &arrow::array::ArrayRef) {
        if *column.data_type() != DataType::Utf8 {
            return;
        }
        for cell in column.as_string::<i32>().iter().flatten() {
            for run in cell.split(|letter: char| !letter.is_ascii_digit()) {
                if let Some(canary) = self.parts.get(run).copied() {
                    self.note(surface, place, canary, "part in a cell", false);
                }
            }
        }
    }

    fn note(&mut self, surface: Surface, place: &str, canary: usize, form: &'static str, sure: bool) {
        let hit = Hit { surface, place: place.into(), column: self.canaries[canary].column, form };
        if sure {
            self.hits.insert(hit);
            return;
        }
        let company = self.unsure.entry(hit.clone()).or_default();
        company.insert(canary);
        if company.len() > 1 {
            self.hits.insert(hit);
        }
    }

    pub(crate) fn hits(&self) -> &BTreeSet<Hit> {
        &self.hits
    }

    /// Bytes searched of each surface; pages and columns of Parquet files count again.
    pub(crate) fn seen(&self) -> &BTreeMap<Surface, u64> {
        &self.seen
    }

    pub(crate) fn needles(&self) -> usize {
        self.folded.owners.len() + self.exact.owners.len()
    }
}

impl Half {
    fn new(needles: Vec<(usize, Needle)>, folded: bool) -> Self {
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(folded)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(needles.iter().map(|(_, needle)| &needle.bytes))
            .unwrap();
        let owner =
            |(canary, needle): (usize, Needle)| Owner { canary, form: needle.form, sure: bits(&needle) >= SURE_BITS };
        Self { search, owners: needles.into_iter().map(owner).collect() }
    }
}

/// The last four digits, the ZIP code of five and the like.
fn parts(canary: &Canary) -> Vec<String> {
    let Planted::Digits(value) = &canary.planted else { return Vec::new() };
    let parts = value.split(|letter: char| !letter.is_ascii_digit()).filter(|part| part.len() >= 4);
    parts.map(str::to_owned).collect()
}

/// A value as a Parquet column holds it.
fn plain(planted: &Planted) -> Vec<Vec<u8>> {
    match planted {
        Planted::Text(value) | Planted::Digits(value) => vec![value.as_bytes().to_vec()],
        Planted::Number { unscaled, .. } => {
            vec![unscaled.to_le_bytes().to_vec(), (*unscaled as i32).to_le_bytes().to_vec()]
        }
        Planted::Float(value) => vec![value.to_le_bytes().to_vec()],
        Planted::Day(days) => vec![days.to_le_bytes().to_vec()],
        Planted::Moment(micros) => vec![micros.to_le_bytes().to_vec()],
        Planted::Bytes(value) => vec![value.clone()],
    }
}

/// gzip, Zstandard, LZ4 and snappy frames, xz, bzip2.
fn is_compressed(bytes: &[u8]) -> bool {
    const STARTS: [&[u8]; 6] = [
        &[0x1f, 0x8b],
        &[0x28, 0xb5, 0x2f, 0xfd],
        &[0x04, 0x22, 0x4d, 0x18],
        b"\xff\x06\0\0sNaPpY",
        b"\xfd7zXZ",
        b"BZh",
    ];
    STARTS.iter().any(|start| bytes.starts_with(start))
}
