//! What has passed the gate and waits on a local disk, because the lake is away: sealed, in the order of the stream.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Field;
use change::{Error, Kind, Origin, Result, TableName, TableSchema};
use zeroize::Zeroizing;

use crate::carried::{self, Carried};
use crate::{ClearedBatch, ClearedSchema, Gate, KeyRing};

/// One entry of a spool.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every entry is the large one, and it is moved a few times for many rows"
)]
pub enum Spooled {
    /// A table's structure, before the rows that follow it.
    Structure(Arc<TableSchema>),
    /// Streamed rows that have passed.
    Rows(ClearedBatch),
    /// Rows that opened and cannot be read: their table has no structure now, or another one. What to do so that they can.
    Unread(TableName, Error),
    /// What the keeper of the spool writes between them; no row value.
    Note(Vec<u8>),
}

/// Seals the entries of a spool, and opens them again. What comes out as rows has passed a gate with these keys.
pub struct SpoolCipher(Arc<KeyRing>);

const WHAT: &str = "the spool";

impl Gate {
    /// Seals what has passed.
    ///
    /// # Errors
    /// [`Kind::Config`] when the policy names no keys.
    pub fn spool_cipher(&self) -> Result<SpoolCipher> {
        self.keys().cloned().map(SpoolCipher).ok_or_else(|| {
            Error::new(Kind::Config, "there are no keys to seal a spool with").fix("Write `keys:` into policy.yaml.")
        })
    }
}

impl SpoolCipher {
    /// Seals an entry for its place. `nonce` must be fresh from the operating system's generator.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key file has no key for the current epoch.
    pub fn seal(&self, nonce: [u8; 16], place: &[u8], entry: &Spooled) -> Result<Vec<u8>> {
        let unwritable = |table: &TableName| Error::new(Kind::Bug, format!("{table}: it cannot be written to a spool"));
        let (tag, plain) = match entry {
            Spooled::Structure(table) => (b's', carried::structure(table).ok_or_else(|| unwritable(&table.table))?),
            Spooled::Rows(rows) => (b'r', encode(rows).ok_or_else(|| unwritable(&rows.schema().table))?),
            Spooled::Unread(table, _) => return Err(unwritable(table)),
            Spooled::Note(note) => (b'n', Zeroizing::new(note.clone())),
        };
        let tagged = Zeroizing::new([&[tag], plain.as_slice()].concat());
        self.0.sealer(WHAT).seal(nonce, place, &tagged)
    }

    /// Opens an entry that was sealed for this place. `structure` is how the table is cleared now; `None` when it is not.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when it is damaged, was moved, or was sealed with another key.
    pub fn open(
        &self,
        place: &[u8],
        record: &[u8],
        structure: impl FnOnce(&TableName) -> Option<Arc<ClearedSchema>>,
    ) -> Result<Spooled> {
        let plain = self.0.sealer(WHAT).open(place, record)?;
        let strange = || Error::new(Kind::Bug, "an entry of the spool opens and is not what was sealed");
        match plain.split_first().ok_or_else(strange)? {
            (b'n', note) => Ok(Spooled::Note(note.to_vec())),
            (b's', table) => carried::read_structure(table).map(Arc::new).map(Spooled::Structure).ok_or_else(strange),
            (b'r', rows) => decode(carried::read(rows).ok_or_else(strange)?, structure),
            _ => Err(strange()),
        }
    }
}

fn encode(batch: &ClearedBatch) -> Option<Zeroizing<Vec<u8>>> {
    let field = |column: &crate::ClearedColumn| Field::new(&column.name, column.data_type.clone(), true);
    let fields = batch.schema().columns.iter().map(field).collect();
    carried::rows(fields, carried::named(&batch.schema().table), batch.rows(), batch.meta(), batch.unsent())
}

fn decode(carried: Carried, structure: impl FnOnce(&TableName) -> Option<Arc<ClearedSchema>>) -> Result<Spooled> {
    let Carried { fields, said, columns, meta, unsent } = carried;
    let table = carried::name(&said).ok_or_else(|| Error::new(Kind::Bug, "rows of a spool do not name their table"))?;
    let unread = |table: TableName| {
        let error =
            Error::new(Kind::Contract, format!("{table}: its rows in the spool were cleared under other rules"));
        Spooled::Unread(table, error.fix("Put the policy of then back until the spool is drained."))
    };
    let Some(schema) = structure(&table) else { return Ok(unread(table)) };
    let arrow = schema.arrow();
    let same = arrow.fields().len() == fields.len()
        && arrow
            .fields()
            .iter()
            .zip(&fields)
            .all(|(now, then)| now.name() == then.name() && now.data_type() == then.data_type());
    let options = RecordBatchOptions::new().with_row_count(Some(meta.len()));
    let rows = same.then(|| RecordBatch::try_new_with_options(arrow, columns, &options).ok()).flatten();
    let Some(rows) = rows else { return Ok(unread(table)) };
    Ok(Spooled::Rows(ClearedBatch::new(schema, Origin::Stream, rows, meta, unsent)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::buffer::BooleanBuffer;
    use arrow::datatypes::DataType;
    use change::{Identity, Op, RowMetaBuilder, Unsent};

    use super::*;
    use crate::ClearedColumn;
    use crate::policy::tests::keys;

    fn structure(names: &[&str]) -> Arc<ClearedSchema> {
        let column = |name: &&str| ClearedColumn {
            name: (*name).to_owned(),
            data_type: if *name == "id" { DataType::Int64 } else { DataType::Utf8 },
            transform: "keep".into(),
            statistics: false,
        };
        Arc::new(ClearedSchema {
            table: TableName::new("db", "public", "members"),
            columns: names.iter().map(column).collect(),
            identity: Identity::Key(vec![0]),
        })
    }

    fn rows(schema: &Arc<ClearedSchema>) -> ClearedBatch {
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("HMO"), None]))];
        let mut meta = RowMetaBuilder::default();
        meta.push(Op::Insert, &[1, 1], 11, 3, 1);
        meta.push(Op::Update, &[1, 2], 12, 4, 2);
        let unsent = Unsent(vec![None, Some(BooleanBuffer::from(vec![false, true]))]);
        let values = RecordBatch::try_new(schema.arrow(), columns.to_vec()).unwrap();
        ClearedBatch::new(schema.clone(), Origin::Stream, values, meta.finish(), unsent)
    }

    fn cipher(epoch: u8) -> SpoolCipher {
        SpoolCipher(Arc::new(keys(epoch).unwrap()))
    }

    #[test]
    fn rows_come_back_as_they_were_where_they_were_sealed_and_nowhere_else() {
        let schema = structure(&["id", "plan"]);
        let sealed = cipher(0).seal([1; 16], b"1/1", &Spooled::Rows(rows(&schema))).unwrap();
        assert!(!sealed.windows(3).any(|window| window == b"HMO"));
        let Spooled::Rows(back) = cipher(0).open(b"1/1", &sealed, |_| Some(schema.clone())).unwrap() else {
            panic!("not rows")
        };
        let sent = rows(&schema);
        assert_eq!((back.rows(), back.unsent(), back.origin()), (sent.rows(), sent.unsent(), sent.origin()));
        assert_eq!((&back.meta().ops, &back.meta().positions), (&sent.meta().ops, &sent.meta().positions));
        assert_eq!(back.meta().committed_at, sent.meta().committed_at);
        for (cipher, place) in [(cipher(0), b"1/2"), (cipher(1), b"1/1")] {
            let Err(error) = cipher.open(place, &sealed, |_| Some(schema.clone())) else { panic!("it opened") };
            assert_eq!(error.kind(), Kind::Privacy);
        }
        for now in [None, Some(structure(&["id"])), Some(structure(&["id", "ssn"]))] {
            let Spooled::Unread(table, error) = cipher(0).open(b"1/1", &sealed, |_| now).unwrap() else {
                panic!("under other rules")
            };
            assert_eq!((&table, error.kind()), (&schema.table, Kind::Contract));
        }
    }

    #[test]
    fn a_structure_and_a_note_come_back() {
        for identity in [Identity::Key(vec![1, 0]), Identity::WholeRow, Identity::InsertOnly] {
            let column = change::Column {
                name: "id".into(),
                data_type: DataType::Decimal128(12, 2),
                nullable: false,
                source_type: "numeric(12,2)".into(),
                number: Some(7 << 16 | 3),
            };
            let table = TableSchema { table: TableName::new("a.b", "c", "d"), columns: vec![column], identity };
            let table = Arc::new(table);
            let sealed = cipher(0).seal([2; 16], b"", &Spooled::Structure(table.clone())).unwrap();
            let Spooled::Structure(back) = cipher(0).open(b"", &sealed, |_| None).unwrap() else { panic!() };
            assert_eq!(back, table);
        }
        let sealed = cipher(0).seal([3; 16], b"", &Spooled::Note(b"through 7".to_vec())).unwrap();
        assert!(matches!(cipher(0).open(b"", &sealed, |_| None).unwrap(), Spooled::Note(note) if note == b"through 7"));
    }
}
