use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use change::{Error, Identity, Kind, Origin, Result, RowMeta, TableName, Unsent};

/// A column of the lake, as the gate lets it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearedColumn {
    /// The column's name, as in the source.
    pub name: String,
    /// The Arrow type after the transform.
    pub data_type: DataType,
    /// The transform, as the policy spells it: `hmac_token(member)`.
    pub transform: String,
    /// Whether minimum and maximum of the values may be written into file statistics: false for tokens and for every transform whose
    /// output could point at one person.
    pub statistics: bool,
}

/// A table's structure after the gate. Columns that the policy drops are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearedSchema {
    /// The table.
    pub table: TableName,
    /// The columns in the source's order.
    pub columns: Vec<ClearedColumn>,
    /// How a changed row is found again, by index into `columns`.
    pub identity: Identity,
}

impl ClearedSchema {
    /// The Arrow schema of a [`ClearedBatch`]'s rows: every field nullable.
    pub fn arrow(&self) -> SchemaRef {
        let field = |column: &ClearedColumn| Field::new(&column.name, column.data_type.clone(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Indexes of the columns that identify a row; all of them for [`Identity::WholeRow`], none for [`Identity::InsertOnly`].
    pub fn identity_columns(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Key(columns) => columns.clone(),
            Identity::WholeRow => (0..self.columns.len()).collect(),
            Identity::InsertOnly => Vec::new(),
        }
    }
}

/// Rows that have passed contract, masking and quality: the only thing that the lake accepts.
///
/// The fields are private and nothing outside this crate can fill them, so unmasked rows in the lake do not compile:
///
/// ```compile_fail,E0451
/// # fn leak(schema: std::sync::Arc<gate::ClearedSchema>, rows: arrow::array::RecordBatch, meta: change::RowMeta) {
/// let _ = gate::ClearedBatch { schema, origin: change::Origin::Stream, rows, meta, unsent: change::Unsent::none(0) };
/// # }
/// ```
///
/// The gate's raw input can be neither printed nor serialised:
///
/// ```compile_fail,E0277
/// # fn print(value: &change::Raw<String>) {
/// println!("{value:?}");
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn print(value: &change::Raw<String>) {
/// println!("{value}");
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn serialise(value: &change::Raw<String>) {
/// let _ = serde_json::to_string(value);
/// # }
/// ```
/// ```compile_fail,E0277
/// # fn print(keys: &gate::KeyRing) {
/// println!("{keys:?}");
/// # }
/// ```
#[derive(Clone)]
pub struct ClearedBatch {
    schema: Arc<ClearedSchema>,
    origin: Origin,
    rows: RecordBatch,
    meta: RowMeta,
    unsent: Unsent,
}

impl ClearedBatch {
    pub(crate) fn new(
        schema: Arc<ClearedSchema>,
        origin: Origin,
        rows: RecordBatch,
        meta: RowMeta,
        unsent: Unsent,
    ) -> Self {
        Self { schema, origin, rows, meta, unsent }
    }

    /// The structure that the rows follow.
    pub fn schema(&self) -> &Arc<ClearedSchema> {
        &self.schema
    }

    /// Where the rows were read.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The cleared values, one Arrow column for each column of the schema.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Ops, positions and the rest, one entry per row.
    pub fn meta(&self) -> &RowMeta {
        &self.meta
    }

    /// Which cells the source did not send, by cleared column.
    pub fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// The rows that `keep` has a true value for, as other changes of the same table: `meta` has one entry for each of them.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the lengths disagree.
    pub fn chosen(&self, keep: &BooleanArray, origin: Origin, meta: RowMeta) -> Result<Self> {
        let bug = || Error::new(Kind::Bug, format!("{}: rows were chosen wrongly", self.schema.table));
        if keep.len() != self.len() || keep.true_count() != meta.len() {
            return Err(bug());
        }
        let rows = filter_record_batch(&self.rows, keep).map_err(|_| bug())?;
        let mask = |bits: &Option<arrow::buffer::BooleanBuffer>| {
            let Some(bits) = bits else { return Ok(None) };
            let bits = filter(&BooleanArray::new(bits.clone(), None), keep).map_err(|_| bug())?;
            Ok(Some(arrow::array::AsArray::as_boolean(&bits).values().clone()))
        };
        let unsent = Unsent(self.unsent.0.iter().map(mask).collect::<Result<_>>()?);
        Ok(Self { schema: self.schema.clone(), origin, rows, meta, unsent })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }
}

impl fmt::Debug for ClearedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClearedBatch")
            .field("table", &self.schema.table.to_string())
            .field("origin", &self.origin)
            .field("rows", &self.len())
            .finish_non_exhaustive()
    }
}
