//! Reads a folder of recorded pgoutput messages and applies it to tables of text.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use capture::postgres::pgoutput::{self, Message, Relation};
use capture::postgres::rows::{RowAt, TableDecoder};
use capture::postgres::table::PgTable;
use capture::postgres::types::OnUnfit;
use change::{ChangeBatch, Identity, Op, TableName};

use crate::printed::printed;
use crate::type_catalog::TypeCatalog;

/// A row as column name to printed value.
pub(crate) type Row = BTreeMap<String, Option<String>>;

/// The folder of shared data, or `None` with a line that says so.
#[allow(clippy::disallowed_methods, reason = "a test asks its environment where the data lies")]
pub(crate) fn shared_data(folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data");
    let data = std::env::var_os("LOCKGATE_DATA").map_or(beside, PathBuf::from).join(folder);
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: {} is not there", data.display());
    None
}

/// The lines of a tab-separated file, without its head line.
pub(crate) fn tsv(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// The rows of a CSV file; `\N` without quotes is null.
pub(crate) fn csv(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' | '\n' if !quoted => {
                let value = std::mem::take(&mut field);
                record.push((was_quoted || value != "\\N").then_some(value));
                was_quoted = false;
                if letter == '\n' {
                    records.push(std::mem::take(&mut record));
                }
            }
            letter => field.push(letter),
        }
    }
    let mut records = records.into_iter();
    let head: Vec<String> = records.next().unwrap().into_iter().map(Option::unwrap).collect();
    records.map(|record| head.iter().cloned().zip(record).collect()).collect()
}

/// Bytes from hexadecimal digits.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// One table as its batches say it is.
struct Replica {
    decoder: TableDecoder,
    relation: Relation,
    identity: Identity,
    rows: Vec<Row>,
}

/// Tables that follow a stream.
pub(crate) struct Replay {
    types: TypeCatalog,
    replicas: HashMap<u32, Replica>,
    before: HashMap<String, Vec<Row>>,
    /// Of each open streamed transaction: the subtransaction and the bytes of each message.
    streamed: HashMap<u32, Vec<(u32, Vec<u8>)>>,
    /// How many values of replicas that are no more became null because they were unfit.
    unfit: u64,
    /// Rows by op.
    pub(crate) ops: HashMap<Op, usize>,
    /// Cells that were not sent and were filled from the row before.
    pub(crate) filled: usize,
}

impl Replay {
    pub(crate) fn new(types: TypeCatalog, before: HashMap<String, Vec<Row>>) -> Self {
        Self {
            types,
            replicas: HashMap::new(),
            before,
            streamed: HashMap::new(),
            unfit: 0,
            ops: HashMap::new(),
            filled: 0,
        }
    }

    /// Applies a file of messages.
    pub(crate) fn play(&mut self, recording: &Path) {
        let mut at = RowAt { epoch: 0, lsn: 0, ordinal: 1, committed_at: 0, txid: 0 };
        let mut block = None;
        for line in tsv(recording) {
            let message = bytes(&line[2]);
            match pgoutput::parse(&message, block.is_some()).unwrap() {
                Message::StreamStart { xid, .. } => block = Some(xid),
                Message::StreamStop => block = None,
                Message::StreamCommit { xid, commit_lsn, committed_at, .. } => {
                    at = RowAt { epoch: 0, lsn: commit_lsn, ordinal: 1, committed_at, txid: xid.into() };
                    for (_, message) in self.streamed.remove(&xid).unwrap_or_default() {
                        self.apply(pgoutput::parse(&message, true).unwrap(), &mut at);
                    }
                    self.flush();
                }
                Message::StreamAbort { xid, subxid } if xid == subxid => drop(self.streamed.remove(&xid)),
                Message::StreamAbort { xid, subxid } => {
                    self.streamed.entry(xid).or_default().retain(|(part, _)| *part != subxid);
                }
                Message::Begin { final_lsn, committed_at, xid } => {
                    at = RowAt { epoch: 0, lsn: final_lsn, ordinal: 1, committed_at, txid: xid.into() };
                }
                Message::Commit { .. } => self.flush(),
                parsed => match block {
                    None => self.apply(parsed, &mut at),
                    Some(xid) => {
                        let part = u32::from_be_bytes(message[1..5].try_into().unwrap());
                        self.streamed.entry(xid).or_default().push((part, message));
                    }
                },
            }
        }
        assert!(self.streamed.is_empty() && block.is_none());
    }

    fn apply(&mut self, message: Message<'_>, at: &mut RowAt) {
        match message {
            Message::Relation(relation) => self.announce(relation),
            Message::Insert { relation, new, .. } => {
                self.decoder(relation).insert(&new, at).unwrap();
                at.ordinal += 1;
            }
            Message::Update { relation, old, new, .. } => {
                at.ordinal += self.decoder(relation).update(old.as_ref(), &new, at).unwrap();
            }
            Message::Delete { relation, old, .. } => {
                self.decoder(relation).delete(&old, at).unwrap();
                at.ordinal += 1;
            }
            Message::Truncate { relations, .. } => {
                self.flush();
                relations.iter().for_each(|relation| self.replicas.get_mut(relation).unwrap().rows.clear());
            }
            Message::Origin { .. } | Message::Type { .. } | Message::Logical { .. } => {}
            other => panic!("{other:?} inside a transaction"),
        }
    }

    fn decoder(&mut self, relation: u32) -> &mut TableDecoder {
        &mut self.replicas.get_mut(&relation).unwrap().decoder
    }

    fn announce(&mut self, relation: Relation) {
        self.flush();
        let name = TableName::new("db", &relation.schema, &relation.name);
        let table = PgTable::from_relation(name, &relation, |oid, typmod| self.types.resolve(oid, typmod)).unwrap();
        let decoder = TableDecoder::for_stream(&table, &relation, OnUnfit::Null).unwrap();
        let mut rows = match self.replicas.remove(&relation.oid) {
            Some(replica) => {
                self.unfit += replica.unfit();
                renamed(replica.rows, &replica.relation, &relation)
            }
            None => self.before.remove(&relation.name).unwrap_or_default(),
        };
        for row in &mut rows {
            row.retain(|column, _| relation.columns.iter().any(|announced| announced.name == *column));
            for column in &relation.columns {
                row.entry(column.name.clone()).or_default();
            }
        }
        self.replicas.insert(relation.oid, Replica { decoder, identity: table.identity, relation, rows });
    }

    fn flush(&mut self) {
        for replica in self.replicas.values_mut() {
            assert_eq!(replica.decoder.rows() == 0, replica.decoder.bytes() == 0);
            if let Some(batch) = replica.decoder.finish().unwrap() {
                self.filled += replica.follow(&batch);
                batch.meta().ops.iter().for_each(|op| *self.ops.entry(*op).or_default() += 1);
            }
        }
    }

    /// How many values became null because they were unfit.
    pub(crate) fn unfit(&self) -> u64 {
        self.unfit + self.replicas.values().map(Replica::unfit).sum::<u64>()
    }

    /// The rows of a table, in no order.
    pub(crate) fn rows(&self, table: &str) -> Vec<Row> {
        let named = self.replicas.values().filter(|replica| replica.relation.name == table);
        named.flat_map(|replica| replica.rows.iter().cloned()).collect()
    }
}

/// The rows under the new names of columns that stand where the relation had others.
fn renamed(rows: Vec<Row>, from: &Relation, to: &Relation) -> Vec<Row> {
    if from.columns.len() != to.columns.len() {
        return rows;
    }
    let new_name = |column: &String| {
        let at = from.columns.iter().position(|old| old.name == *column).unwrap();
        to.columns[at].name.clone()
    };
    let rename = |row: Row| row.into_iter().map(|(column, value)| (new_name(&column), value)).collect();
    rows.into_iter().map(rename).collect()
}

impl Replica {
    fn unfit(&self) -> u64 {
        self.decoder.unfit().map(|(_, count)| count).sum()
    }

    /// Applies a batch as the lake would, and gives the number of cells that were filled from the row before.
    fn follow(&mut self, batch: &ChangeBatch) -> usize {
        let schema = batch.schema();
        let identity = schema.identity_columns();
        let (mut moved, mut filled) = (None, 0);
        for (index, op) in batch.meta().ops.iter().enumerate() {
            let columns = batch.rows().expose().columns();
            let row: Row = schema
                .columns
                .iter()
                .map(|column| column.name.clone())
                .zip(columns.iter().map(|array| printed(array, index)))
                .collect();
            let is_it = |stored: &Row| {
                identity.iter().all(|at| stored[&schema.columns[*at].name] == row[&schema.columns[*at].name])
            };
            let found = self.rows.iter().position(is_it).filter(|_| self.identity != Identity::InsertOnly);
            let before = match op {
                Op::Insert => moved.take(),
                Op::Update if self.identity == Identity::WholeRow => None,
                Op::Copy => None,
                Op::Update | Op::Delete | Op::MoveOut => Some(self.rows.swap_remove(found.expect("the row is there"))),
            };
            match op {
                Op::Delete => {}
                Op::MoveOut => moved = before,
                Op::Update if self.identity == Identity::WholeRow => assert!(found.is_some()),
                Op::Insert | Op::Update | Op::Copy => {
                    let mut row = row;
                    for (at, column) in
                        schema.columns.iter().enumerate().filter(|(at, _)| batch.unsent().is_unsent(*at, index))
                    {
                        assert!(columns[at].is_null(index));
                        row.insert(column.name.clone(), before.as_ref().expect("a row before")[&column.name].clone());
                        filled += 1;
                    }
                    self.rows.push(row);
                }
            }
        }
        filled
    }
}
