//! Takes chosen rows out of a table: every data file that has one, whether readers still see it or not, is written again without it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path as FsPath;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use change::{Error, Kind, Result, TableName, Timestamp};
use deltalake::kernel::{Action, Add};
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use gate::StoredToken;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::changes::without_date;
use crate::encode::Statistics;
use crate::failure::Explain;
use crate::index::KeyIndex;
use crate::join::{Target, join};
use crate::lake::Lake;
use crate::log::{Committed, TableLog, remove};
use crate::naming::{LakeTable, Layer};
use crate::record::Record;
use crate::{deleted, foreign, rows};

/// Which rows of a source table's lake tables are to go.
#[derive(Clone)]
pub struct Doomed {
    /// Columns by which they are known, and whether a column holds documents with the value somewhere within.
    pub columns: Vec<(String, bool)>,
    /// What stands in the columns.
    pub values: Arc<HashSet<String>>,
}

/// What was taken out of one lake table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Rows, those among them that readers no longer saw.
    pub rows: u64,
    /// Data files that were written again or left out.
    pub files: u64,
    /// The table's version without the rows; `None` when there was nothing to do.
    pub version: Option<u64>,
}

impl Doomed {
    /// Which rows of a batch are meant. Columns that the batch does not have mean none.
    pub(crate) fn mark(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let mut marked = vec![false; batch.num_rows()];
        self.meet(batch, |row, _| marked[row] = true)?;
        Ok(marked)
    }

    /// Calls `each` with each row of a batch that is meant and the value that it has, once for each of them.
    pub(crate) fn meet<'a>(&'a self, batch: &RecordBatch, mut each: impl FnMut(usize, &'a str)) -> Result<()> {
        for (name, nested) in &self.columns {
            let Some(column) = batch.column_by_name(name) else { continue };
            for_each_spelled(name, column, |row, value| match nested {
                true => {
                    let within = self.values.iter().filter(|wanted| value.contains(wanted.as_str()));
                    within.for_each(|wanted| each(row, wanted));
                }
                false => self.values.get(value).into_iter().for_each(|wanted| each(row, wanted)),
            })?;
        }
        Ok(())
    }

    /// The rows without any value in these columns: changes that carry their key alone.
    fn silent(&self, batch: &RecordBatch) -> Vec<bool> {
        let columns: Vec<_> = self.columns.iter().filter_map(|(name, _)| batch.column_by_name(name)).collect();
        (0..batch.num_rows()).map(|row| columns.iter().all(|column| column.is_null(row))).collect()
    }
}

/// Bytes of a token or code that is stored as bytes.
const TOKEN_BYTES: usize = 16;

/// Calls `each` with the values of a column as requests write them down; with bytes also as the text that they may be.
fn for_each_spelled(name: &str, column: &ArrayRef, mut each: impl FnMut(usize, &str)) -> Result<()> {
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        for (row, bytes) in bytes.iter().enumerate().filter_map(|(row, bytes)| Some((row, bytes?))) {
            if bytes.len() == TOKEN_BYTES {
                each(row, &StoredToken::spell(bytes));
            }
            if let Ok(text) = std::str::from_utf8(bytes) {
                each(row, text);
            }
        }
        return Ok(());
    }
    let text = cast(column, &DataType::Utf8).explain(|| format!("column {name} cannot be compared"))?;
    text.as_string::<i32>()
        .iter()
        .enumerate()
        .for_each(|(row, value)| value.into_iter().for_each(|value| each(row, value)));
    Ok(())
}

impl Lake {
    /// Takes the rows out of both lake tables of a source table, in one commit each. No writer may have them open: it would be fenced.
    /// `index_dir` is the folder of key indexes, as in [`crate::WriterOptions`]; that of the table is removed, to be built anew.
    ///
    /// # Errors
    /// `Unavailable` while the table's first copy is unfinished; `Conflict` when another program has changed rows, which nobody would notice
    /// behind our commit; those of the store. Doing it again goes on.
    pub async fn erase(
        &self,
        name: &TableName,
        doomed: &Doomed,
        index_dir: &FsPath,
        now: Timestamp,
    ) -> Result<BTreeMap<Layer, Erased>> {
        let mut erased = BTreeMap::new();
        let [current, changes] = [Layer::Current, Layer::Changes].map(|layer| LakeTable::new(name.clone(), layer));
        let (current, changes) = (current?, changes?);
        let mut current_log = TableLog::load(&current, &self.store(&current)?).await?;
        if current_log.as_ref().is_some_and(|log| log.record.copying() && !log.files.is_empty()) {
            let what = format!("{name}: rows cannot be taken out while the table's first copy is unfinished");
            return Err(
                Error::new(Kind::Unavailable, what).fix("Let `lockgate run` finish the copy, then do this again.")
            );
        }
        let mut changes_log = TableLog::load(&changes, &self.store(&changes)?).await?;
        for log in [&current_log, &changes_log].into_iter().flatten() {
            foreign::check(log, false).await?;
        }
        // A remasking that is under way has written rows again that are to go.
        self.discard_staged(&current).await?;
        self.discard_staged(&changes).await?;
        let key = current_log.as_ref().map(|log| log.record.key.clone()).unwrap_or_default();
        let mut keys = Keys::new(key, doomed);
        // The log of changes has every row that ever was: from it come the keys of changes that carry nothing else. So it goes last: what a
        // kill leaves of the current table is found by it.
        for (log, file) in changes_log.iter().flat_map(|log| log.files.values().map(move |file| (log, file))) {
            keys.learn(&log.store, &file.add, doomed).await?;
        }
        if let Some(log) = &mut current_log {
            let done = rewrite(log, doomed, &keys, now / 1000).await?;
            if done.version.is_some() {
                KeyIndex::delete(&index_dir.join(log.table.folders().join("/")))?;
            }
            erased.insert(Layer::Current, done);
        }
        if let Some(log) = &mut changes_log {
            erased.insert(Layer::Changes, rewrite(log, doomed, &keys, now / 1000).await?);
        }
        Ok(erased)
    }
}

/// The keys of rows that are to go, where the key is another column than those by which the rows are known.
struct Keys {
    columns: Vec<String>,
    found: HashSet<Box<[u8]>>,
}

impl Keys {
    fn new(key: Vec<String>, doomed: &Doomed) -> Self {
        let known = key.iter().any(|column| doomed.columns.iter().any(|(name, _)| name == column));
        Self { columns: if known { Vec::new() } else { key }, found: HashSet::new() }
    }

    /// The keys of a batch, row by row; none when rows are not looked for by their key.
    fn of(&self, batch: &RecordBatch) -> Result<Vec<Box<[u8]>>> {
        let doing = || "the keys of rows cannot be compared".to_owned();
        let columns: Option<Vec<_>> = self.columns.iter().map(|name| batch.column_by_name(name).cloned()).collect();
        let Some(columns) = columns.filter(|columns| !columns.is_empty()) else { return Ok(Vec::new()) };
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields).explain(doing)?.convert_columns(&columns).explain(doing)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    fn names<'a>(&'a self, doomed: &'a Doomed) -> Vec<&'a str> {
        doomed.columns.iter().map(|(name, _)| name).chain(&self.columns).map(String::as_str).collect()
    }

    async fn learn(&mut self, store: &LogStoreRef, add: &Add, doomed: &Doomed) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let mut batches = rows::read(store, &add.path, &self.names(doomed), None).await?;
        while let Some(batch) = batches.try_next().await? {
            let marked = doomed.mark(&batch)?;
            let keys = self.of(&batch)?;
            self.found.extend(keys.into_iter().zip(marked).filter(|(_, marked)| *marked).map(|(key, _)| key));
        }
        Ok(())
    }

    /// The rows of a file that may carry their key alone; `None` for all. A live row of the current table is whole: without a value in those
    /// columns it is nobody's.
    async fn keyed(&self, log: &TableLog, add: &Add) -> Result<Option<RoaringTreemap>> {
        match (log.table.layer, &add.deletion_vector) {
            (Layer::Current, Some(gone)) if !self.found.is_empty() => deleted::read(&log.store, gone).await.map(Some),
            (Layer::Current, _) => Ok(Some(RoaringTreemap::new())),
            (Layer::Changes, _) => Ok(None),
        }
    }

    /// The numbers of the rows of a file that are to go.
    async fn rows_of(&self, log: &TableLog, add: &Add, doomed: &Doomed) -> Result<RoaringTreemap> {
        let (mut numbers, mut first) = (RoaringTreemap::new(), 0_u64);
        let mut batches = rows::read(&log.store, &add.path, &self.names(doomed), None).await?;
        let keyed = self.keyed(log, add).await?;
        while let Some(batch) = batches.try_next().await? {
            let mut marked = doomed.mark(&batch)?;
            if !self.found.is_empty() {
                let silent = doomed.silent(&batch);
                for (row, (key, silent)) in self.of(&batch)?.iter().zip(silent).enumerate() {
                    let may_be = keyed.as_ref().is_none_or(|keyed| keyed.contains(first + row as u64));
                    marked[row] |= may_be && silent && self.found.contains(key);
                }
            }
            numbers.extend((first..).zip(marked).filter(|(_, marked)| *marked).map(|(number, _)| number));
            first += batch.num_rows() as u64;
        }
        Ok(numbers)
    }
}

/// Writes the files that have such rows again without them, in one commit.
async fn rewrite(log: &mut TableLog, doomed: &Doomed, keys: &Keys, now_ms: i64) -> Result<Erased> {
    let mut erased = Erased::default();
    let schema = match log.table.layer {
        Layer::Current => log.schema.clone(),
        Layer::Changes => without_date(&log.schema),
    };
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let files: Vec<Add> = log.files.values().map(|file| file.add.clone()).collect();
    for add in files {
        let gone = keys.rows_of(log, &add, doomed).await?;
        if gone.is_empty() {
            continue;
        }
        erased.rows += gone.len();
        let folder = add.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        let target = Target {
            folder: &folder,
            partition: add.partition_values.clone(),
            schema: schema.clone(),
            statistics: statistics_of(&add),
            without: HashMap::from([(add.path.clone(), gone)]),
        };
        let joined = join(&log.store, std::slice::from_ref(&add), target, None, now_ms).await?;
        new.extend(joined.add.map(|add| Add { data_change: true, ..add }));
        old.push(add);
    }
    if old.is_empty() {
        return Ok(erased);
    }
    erased.files = old.len() as u64;
    let removed = old.iter().map(|add| Action::Remove(remove(add, true, now_ms)));
    let actions = removed.chain(new.iter().cloned().map(Action::Add)).collect();
    commit(log, "LOCKGATE ERASE", actions, now_ms).await?;
    log.add_files(new);
    erased.version = Some(log.version);
    Ok(erased)
}

/// Commits as a new owner of the table, so that a process that wrote it before is fenced.
pub(crate) async fn commit(log: &mut TableLog, operation: &str, actions: Vec<Action>, now_ms: i64) -> Result<()> {
    let (epoch, writer) = (log.record.epoch + 1, Uuid::new_v4().to_string());
    let record = Record { epoch, writer, folder: None, ..log.record.clone() };
    match log.commit(operation, actions, record, now_ms).await? {
        Committed::Done => Ok(()),
        Committed::Fenced(error) | Committed::Foreign(error) => Err(error),
    }
}

/// The columns whose minimum and maximum stand with a file: those that its policy let.
pub(crate) fn statistics_of(add: &Add) -> Statistics {
    let stats = add.stats.as_deref().and_then(|stats| serde_json::from_str::<serde_json::Value>(stats).ok());
    let columns = stats.as_ref().and_then(|stats| stats.get("minValues")?.as_object());
    Statistics(columns.into_iter().flat_map(|columns| columns.keys().cloned()).collect())
}
