use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use arrow::array::{Array, ArrayData};
use change::{Error, Kind, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sandbox::claims::Canary;

use super::ask::unreadable;

/// What a search for planted identifiers found.
pub(super) struct Leaks {
    /// How many were planted.
    pub(super) planted: usize,
    /// How many of them the same search finds in the files of the source's database: it must find what is there.
    pub(super) in_source: usize,
    /// Where one lies in the project folder, the lake in it, and of which column it is. Empty when nothing leaked.
    pub(super) in_lake: BTreeSet<(PathBuf, &'static str)>,
    /// Files and bytes of the project folder that were searched.
    pub(super) files: u64,
    /// See `files`; decompressed pages and decoded columns are counted too.
    pub(super) bytes: u64,
}

impl Leaks {
    pub(super) fn holds(&self) -> bool {
        self.in_lake.is_empty() && self.in_source * 10 >= self.planted * 9
    }
}

/// Searches every byte of the project folder (lake, key index, status, log lines): as it lies there, and for Parquet also each page
/// decompressed and each column decoded. Only the key file is left out.
pub(super) async fn search(canaries: Vec<Canary>, project: PathBuf, source: PathBuf) -> Result<Leaks> {
    let searched = tokio::task::spawn_blocking(move || search_both(&canaries, &project, &source)).await;
    searched.map_err(crate::outcome::lost_task)?
}

fn search_both(canaries: &[Canary], project: &Path, source: &Path) -> Result<Leaks> {
    let mut lake = Search::new(canaries)?;
    lake.folder(project, &project.join("keys"))?;
    let mut control = Search::new(canaries)?;
    control.folder(source, Path::new(""))?;
    let seen: BTreeSet<usize> = control.hits.iter().map(|(_, canary)| *canary).collect();
    let relative = |path: &Path| path.strip_prefix(project).unwrap_or(path).to_owned();
    Ok(Leaks {
        planted: canaries.len(),
        in_source: seen.len(),
        in_lake: lake.hits.iter().map(|(path, canary)| (relative(path), canaries[*canary].column)).collect(),
        files: lake.files,
        bytes: lake.bytes,
    })
}

struct Search {
    needles: AhoCorasick,
    // Which canary each needle belongs to.
    owners: Vec<usize>,
    hits: BTreeSet<(PathBuf, usize)>,
    files: u64,
    bytes: u64,
}

impl Search {
    fn new(canaries: &[Canary]) -> Result<Self> {
        let owned = canaries.iter().enumerate().flat_map(|(i, canary)| canary.needles().into_iter().map(move |needle| (i, needle)));
        let (owners, needles): (Vec<usize>, Vec<Vec<u8>>) = owned.unzip();
        let needles = AhoCorasick::builder()
            .ascii_case_insensitive(false)
            .build(&needles)
            .map_err(|error| Error::new(Kind::Bug, "the planted values cannot be searched for").source(error))?;
        Ok(Self { needles, owners, hits: BTreeSet::new(), files: 0, bytes: 0 })
    }

    fn folder(&mut self, folder: &Path, without: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() && path != without {
                self.folder(&path, without)?;
            } else if path.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        self.files += 1;
        self.look(path, &fs::read(path).map_err(unreadable)?);
        if path.extension().is_some_and(|extension| extension == "parquet") {
            self.pages(path).map_err(unreadable)?;
            self.columns(path)?;
        }
        Ok(())
    }

    fn pages(&mut self, path: &Path) -> parquet::errors::Result<()> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group)?;
            for column in 0..group.num_columns() {
                let mut pages = group.get_column_page_reader(column)?;
                while let Some(page) = pages.get_next_page()? {
                    self.look(path, page.buffer());
                }
            }
        }
        Ok(())
    }

    fn columns(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(unreadable)?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()).map_err(unreadable)?;
        for batch in batches {
            for column in batch.map_err(unreadable)?.columns() {
                self.array(path, &column.to_data());
            }
        }
        Ok(())
    }

    fn array(&mut self, path: &Path, data: &ArrayData) {
        for buffer in data.buffers() {
            self.look(path, buffer.as_slice());
        }
        for child in data.child_data() {
            self.array(path, child);
        }
    }

    fn look(&mut self, path: &Path, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for found in self.needles.find_overlapping_iter(bytes) {
            self.hits.insert((path.to_owned(), self.owners[found.pattern().as_usize()]));
        }
    }
}
