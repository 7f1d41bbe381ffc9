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
        let owned = canaries
            .iter()
            .enumerate()
            .flat_map(|(i, canary)| canary.needles().into_iter().map(move |needle| (i, needle)));
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
        let batches =
            ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()).map_err(unreadable)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, Encoding};
    use parquet::file::properties::WriterProperties;

    use super::*;

    fn write(path: &Path, names: &[&str], ids: &[i64]) {
        let columns: [(&str, ArrayRef); 2] =
            [("name", Arc::new(StringArray::from(names.to_vec()))), ("id", Arc::new(Int64Array::from(ids.to_vec())))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_column_encoding("name".into(), Encoding::DELTA_BYTE_ARRAY)
            .set_column_encoding("id".into(), Encoding::DELTA_BINARY_PACKED)
            .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
            .build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn values_are_found_however_they_are_encoded_and_nothing_else_is() {
        let root = std::env::temp_dir().join(format!("lockgate-leaks-{}", std::process::id()));
        let (project, source) = (root.join("project"), root.join("source"));
        for folder in [project.join("keys"), project.join("lake/t"), source.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        let canaries = [
            Canary { column: "members.last_name", value: "Qxzabcdefvyw".into() },
            Canary { column: "members.member_id", value: "5000000003".into() },
        ];
        fs::write(source.join("heap"), "..Qxzabcdefvyw..5000000003..").unwrap();
        fs::write(project.join("keys/dev.key"), "Qxzabcdefvyw").unwrap();
        // Prefixes are shared and integers are differences: neither value lies in the file as it is.
        write(&project.join("lake/t/clean.parquet"), &["Qxzabcdea", "Qxzabcdezz"], &[5_000_000_000, 5_000_000_002]);
        let clean = search_both(&canaries, &project, &source).unwrap();
        assert!(clean.holds() && clean.in_lake.is_empty() && clean.in_source == 2 && clean.files == 1);

        write(&project.join("lake/t/leak.parquet"), &["Qxzabcdea", "Qxzabcdefvyw"], &[5_000_000_000, 5_000_000_003]);
        let leaked = search_both(&canaries, &project, &source).unwrap();
        let place = PathBuf::from("lake/t/leak.parquet");
        let expected = [(place.clone(), "members.last_name"), (place, "members.member_id")];
        assert_eq!(leaked.in_lake, BTreeSet::from(expected));
        assert!(!leaked.holds());
        fs::remove_dir_all(root).unwrap();
    }
}
