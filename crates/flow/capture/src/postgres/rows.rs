//! From cells to [`ChangeBatch`]es.

use std::sync::Arc;

use change::{ChangeBatch, Error, Identity, Kind, Op, Origin, Result, RowMetaBuilder, TableSchema, Timestamp, Unsent};

use super::pgoutput::{Cell, OldTuple, Relation, Tuple};
use super::table::{PgTable, ReplicaIdentity};
use super::types::{CellFault, ColumnBuilder, OnUnfit};

/// Where in the stream a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowAt {
    /// The epoch of the stream's positions.
    pub epoch: u32,
    /// The commit LSN of the transaction: `final_lsn` of its begin.
    pub lsn: u64,
    /// The number within the transaction of the first row that the change becomes, from 1.
    pub ordinal: u64,
    /// When the transaction was committed.
    pub committed_at: Timestamp,
    /// The transaction's number.
    pub txid: u64,
}

impl RowAt {
    fn position(&self, ordinal: u64) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.lsn.to_be_bytes());
        bytes[12..].copy_from_slice(&ordinal.to_be_bytes());
        bytes
    }
}

/// A fault and the column that it is in; `None` when it is the row's.
type RowFault = (Option<usize>, CellFault);

/// What one table's rows are built with: appends cells to Arrow builders and hands over what has come together.
///
/// A row that fails is taken back whole, so what was appended before it can still be finished.
pub struct TableDecoder {
    schema: Arc<TableSchema>,
    origin: Origin,
    columns: Vec<ColumnBuilder>,
    /// For each cell of a tuple, the column that it belongs to.
    order: Vec<usize>,
    /// For each column, whether it identifies rows.
    identifies: Vec<bool>,
    /// For each column, whether old tuples of replica identity index carry it.
    in_replica_identity: Vec<bool>,
    on_unfit: OnUnfit,
    /// For each column, the values that became null by [`OnUnfit::Null`].
    unfit: Vec<u64>,
    meta: RowMetaBuilder,
    /// Bytes that a row holds beside its strings.
    row_bytes: usize,
    bytes: usize,
}

/// Op, position, commit time, transaction and ordinal, as [`RowMetaBuilder`] counts them.
const META_BYTES: usize = 49;

impl TableDecoder {
    /// For rows of the stream. `relation` is what the stream announced last for the table: it says in which order tuples carry the
    /// columns. [`Kind::Contract`] when it does not describe the columns or the identity of `table`.
    pub fn for_stream(table: &PgTable, relation: &Relation, on_unfit: OnUnfit) -> Result<Self> {
        let differs = |what: String| {
            Error::new(Kind::Contract, format!("{}: the stream does not agree with the catalog: {what}", table.table))
        };
        let mut order = Vec::with_capacity(relation.columns.len());
        let mut in_replica_identity = vec![false; table.columns.len()];
        for announced in &relation.columns {
            let index = table.columns.iter().position(|column| column.name == announced.name);
            let index = index.ok_or_else(|| differs(format!("column {} is not in the table", announced.name)))?;
            let declared = &table.columns[index].pg_type;
            if (declared.oid, declared.typmod) != (announced.type_oid, announced.typmod) {
                return Err(differs(format!("column {} has another type", announced.name)));
            }
            in_replica_identity[index] = announced.key;
            order.push(index);
        }
        let missing = (0..table.columns.len()).find(|index| !order.contains(index));
        if let Some(index) = missing {
            return Err(differs(format!("column {} is not sent", table.columns[index].name)));
        }
        if order.len() != table.columns.len() {
            return Err(differs("a column is announced twice".into()));
        }
        match &table.identity {
            Identity::Key(key) if key.iter().any(|index| in_replica_identity.get(*index) != Some(&true)) => {
                return Err(differs("its replica identity does not cover its key".into()));
            }
            Identity::WholeRow if relation.replica_identity != ReplicaIdentity::Full => {
                return Err(differs("its replica identity is not full".into()));
            }
            _ => {}
        }
        Self::new(table, Origin::Stream, order, in_replica_identity, on_unfit)
    }

    /// For rows of a `COPY (binary)` of the columns of `table`, in its order, each as
    /// [`super::table::PgColumn::copy_expression`] spells it.
    pub fn for_copy(table: &PgTable, chunk: u32, on_unfit: OnUnfit) -> Result<Self> {
        let columns = table.columns.len();
        Self::new(table, Origin::Copy { chunk }, (0..columns).collect(), vec![false; columns], on_unfit)
    }

    fn new(
        table: &PgTable,
        origin: Origin,
        order: Vec<usize>,
        in_replica_identity: Vec<bool>,
        on_unfit: OnUnfit,
    ) -> Result<Self> {
        let schema = table.schema()?;
        let forms = table.columns.iter().map(|column| column.pg_type.form()).collect::<Result<Vec<_>>>()?;
        let mut identifies = vec![false; forms.len()];
        for index in schema.identity_columns() {
            identifies[index] = true;
        }
        let width = |form: &super::types::Form| form.arrow().primitive_width().unwrap_or(4);
        Ok(Self {
            schema,
            origin,
            row_bytes: META_BYTES + forms.iter().map(width).sum::<usize>(),
            columns: forms.into_iter().map(ColumnBuilder::new).collect(),
            unfit: vec![0; identifies.len()],
            order,
            identifies,
            in_replica_identity,
            on_unfit,
            meta: RowMetaBuilder::default(),
            bytes: 0,
        })
    }

    /// The structure that the batches follow.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The rows appended since the last [`Self::finish`].
    pub fn rows(&self) -> usize {
        self.meta.len()
    }

    /// About how many bytes of memory those rows hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The values that became null by [`OnUnfit::Null`] since the decoder was made, by column; columns without any are left out.
    pub fn unfit(&self) -> impl Iterator<Item = (&str, u64)> {
        let counted = self.schema.columns.iter().zip(&self.unfit).filter(|(_, count)| **count > 0);
        counted.map(|(column, count)| (column.name.as_str(), *count))
    }

    /// Appends an inserted row.
    pub fn insert(&mut self, new: &Tuple<'_>, at: &RowAt) -> Result<()> {
        self.whole_row(|decoder| decoder.after_image(new, None))?;
        self.push_meta(Op::Insert, at, 0, new.bytes_len());
        Ok(())
    }

    /// Appends an updated row, and gives the number of rows that it became: one, or two when the identity changed
    /// ([`Op::MoveOut`] at `at.ordinal`, [`Op::Insert`] at the next).
    pub fn update(&mut self, old: Option<&OldTuple<'_>>, new: &Tuple<'_>, at: &RowAt) -> Result<u64> {
        self.check_identity("updates")?;
        let moved_from = old.filter(|old| self.identity_changed(old, new));
        self.whole_row(|decoder| {
            if let Some(old) = moved_from {
                decoder.identity_of(old)?;
            }
            decoder.after_image(new, old)
        })?;
        match moved_from {
            Some(old) => {
                self.push_meta(Op::MoveOut, at, 0, old.tuple().bytes_len());
                self.push_meta(Op::Insert, at, 1, new.bytes_len());
                Ok(2)
            }
            None => {
                self.push_meta(Op::Update, at, 0, new.bytes_len());
                Ok(1)
            }
        }
    }

    /// Appends a deleted row: its identity columns.
    pub fn delete(&mut self, old: &OldTuple<'_>, at: &RowAt) -> Result<()> {
        self.check_identity("deletes")?;
        self.whole_row(|decoder| decoder.identity_of(old))?;
        self.push_meta(Op::Delete, at, 0, old.tuple().bytes_len());
        Ok(())
    }

    /// Appends a copied row. `fields` gives as many values as there are columns, `None` for null.
    pub(crate) fn copy<'a>(
        &mut self,
        fields: impl Iterator<Item = Option<&'a [u8]>>,
        low: &[u8],
        read_at: Timestamp,
        ordinal: u64,
    ) -> Result<()> {
        let mut length = 0;
        self.whole_row(|decoder| {
            for (index, field) in fields.enumerate() {
                match field {
                    Some(bytes) => {
                        length += bytes.len();
                        let appended = decoder.columns[index].append_binary(bytes);
                        decoder.settle(index, appended)?;
                    }
                    None => decoder.columns[index].append_null(),
                }
            }
            Ok(())
        })?;
        self.bytes += self.row_bytes + length;
        self.meta.push(Op::Copy, low, read_at, 0, ordinal);
        Ok(())
    }

    /// Hands over the rows appended so far; `None` when there are none. Also after an error the decoder is empty.
    pub fn finish(&mut self) -> Result<Option<ChangeBatch>> {
        self.bytes = 0;
        if self.meta.is_empty() {
            return Ok(None);
        }
        let meta = self.meta.finish();
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut unsent = Vec::with_capacity(self.columns.len());
        let mut fault = None;
        for (index, column) in self.columns.iter_mut().enumerate() {
            match column.finish() {
                Ok((array, mask)) => {
                    arrays.push(array);
                    unsent.push(mask);
                }
                Err(wrong) => fault = Some((Some(index), wrong)),
            }
        }
        if let Some(fault) = fault {
            return Err(self.error(fault));
        }
        ChangeBatch::try_new(Arc::clone(&self.schema), self.origin, arrays, meta, Unsent(unsent)).map(Some)
    }

    /// Runs `append`, which appends a cell to every column, and takes back what it did when it fails.
    #[inline]
    fn whole_row(&mut self, append: impl FnOnce(&mut Self) -> Result<(), RowFault>) -> Result<()> {
        append(self).map_err(|fault| {
            let rows = self.meta.len();
            self.columns.iter_mut().for_each(|column| column.truncate(rows));
            self.error(fault)
        })
    }

    fn push_meta(&mut self, op: Op, at: &RowAt, offset: u64, cell_bytes: usize) {
        let ordinal = at.ordinal + offset;
        self.bytes += self.row_bytes + cell_bytes;
        self.meta.push(op, &at.position(ordinal), at.committed_at, at.txid, ordinal);
    }

    /// Appends the new row. Where its value is unchanged TOAST, the old row's is taken if that was sent.
    fn after_image(&mut self, new: &Tuple<'_>, old: Option<&OldTuple<'_>>) -> Result<(), RowFault> {
        self.check_width(new)?;
        let mut old_cells = old.map(|old| old.tuple().cells());
        for (at, cell) in new.cells().enumerate() {
            let index = self.order[at];
            let before = old_cells.as_mut().and_then(Iterator::next);
            let sent = match cell {
                Cell::Unchanged if self.old_has(index, old) => before.unwrap_or(cell),
                cell => cell,
            };
            self.cell(index, sent)?;
        }
        Ok(())
    }

    /// Whether the old row carries the column's value.
    fn old_has(&self, index: usize, old: Option<&OldTuple<'_>>) -> bool {
        match old {
            Some(OldTuple::Full(_)) => true,
            Some(OldTuple::Key(_)) => self.in_replica_identity[index],
            None => false,
        }
    }

    /// Appends the identity columns of the old row, and null for the others.
    fn identity_of(&mut self, old: &OldTuple<'_>) -> Result<(), RowFault> {
        let tuple = old.tuple();
        self.check_width(&tuple)?;
        for (at, cell) in tuple.cells().enumerate() {
            let index = self.order[at];
            if self.identifies[index] {
                self.cell(index, cell)?;
            } else {
                self.columns[index].append_null();
            }
        }
        Ok(())
    }

    /// Whether an identity column of the new row differs from the old. Postgres prints equal values of one column alike, apart from
    /// values that are equal but not the same (a numeric's trailing zeros), which are a change to the lake as well.
    fn identity_changed(&self, old: &OldTuple<'_>, new: &Tuple<'_>) -> bool {
        let cells = self.order.iter().zip(old.tuple().cells().zip(new.cells()));
        cells
            .into_iter()
            .any(|(index, (before, after))| self.identifies[*index] && after != Cell::Unchanged && before != after)
    }

    #[inline]
    fn cell(&mut self, index: usize, cell: Cell<'_>) -> Result<(), RowFault> {
        match cell {
            Cell::Text(text) => {
                let appended = self.columns[index].append_text(text);
                self.settle(index, appended)
            }
            Cell::Null => {
                self.columns[index].append_null();
                Ok(())
            }
            Cell::Unchanged if self.identifies[index] => {
                Err((Some(index), CellFault::Malformed("it identifies the row and was not sent")))
            }
            Cell::Unchanged => {
                self.columns[index].append_unsent();
                Ok(())
            }
            Cell::Binary(_) => {
                Err((Some(index), CellFault::Malformed("it was sent in binary, and the stream is text")))
            }
        }
    }

    /// Applies [`OnUnfit`] to what an append gave.
    #[inline]
    fn settle(&mut self, index: usize, appended: Result<(), CellFault>) -> Result<(), RowFault> {
        match appended {
            Ok(()) => Ok(()),
            Err(CellFault::Unfit(_)) if self.on_unfit == OnUnfit::Null && !self.in_key(index) => {
                self.columns[index].append_null();
                self.unfit[index] += 1;
                Ok(())
            }
            Err(fault) => Err((Some(index), fault)),
        }
    }

    /// Whether the column is part of a key. A null would make keys equal that are not; in the multiset of [`Identity::WholeRow`] it is as
    /// good a value as any, because the old row and the new one lose the same to it.
    fn in_key(&self, index: usize) -> bool {
        self.identifies[index] && matches!(self.schema.identity, Identity::Key(_))
    }

    fn check_width(&self, tuple: &Tuple<'_>) -> Result<(), RowFault> {
        if tuple.len() == self.order.len() {
            return Ok(());
        }
        Err((None, CellFault::Malformed("a row has another number of columns than the stream announced")))
    }

    fn check_identity(&self, what: &str) -> Result<()> {
        if self.schema.identity != Identity::InsertOnly {
            return Ok(());
        }
        Err(Error::new(
            Kind::Data,
            format!("{}: the stream carries {what} of rows that nothing identifies", self.schema.table),
        )
        .fix(format!(
            "Give the table a primary key, or run ALTER TABLE {}.{} REPLICA IDENTITY FULL, and copy it again.",
            super::table::quoted(&self.schema.table.schema),
            super::table::quoted(&self.schema.table.table)
        )))
    }

    #[cold]
    fn error(&self, (column, fault): RowFault) -> Error {
        let place = match column.and_then(|index| self.schema.columns.get(index)) {
            Some(column) => format!("{}: column {} ({})", self.schema.table, column.name, column.source_type),
            None => self.schema.table.to_string(),
        };
        match fault {
            CellFault::Unfit(what) => {
                let fix = if column.is_some_and(|index| self.in_key(index)) {
                    "Correct the value in the source, or give the table another key."
                } else {
                    "Correct the value in the source, or declare `on_unfit: null`, which stores null instead and counts it."
                };
                Error::new(Kind::Data, format!("{place}: a row holds {what}, which the lake's type cannot hold"))
                    .fix(fix)
            }
            CellFault::Malformed(what) => Error::new(Kind::Data, format!("{place}: a value cannot be read: {what}")),
            CellFault::Overfull => {
                Error::new(Kind::Full, format!("{place}: the values of one batch come to more than 2 GiB"))
                    .fix("Lower `commit.max_rows`.")
            }
        }
    }
}

#[cfg(test)]
mod tests;
