use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// A source table's full name, three levels: `claims_db.public.members`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The source's name in `lockgate.yaml`.
    pub source: String,
    /// The schema (or database) inside the source.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A name from its three levels.
    pub fn new(source: impl Into<String>, schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { source: source.into(), schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.source, self.schema, self.table)
    }
}

/// A column as the source declares it, with the Arrow type that its values are decoded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name, as the source spells it.
    pub name: String,
    /// The Arrow type of the decoded values.
    pub data_type: DataType,
    /// Whether the source allows null.
    pub nullable: bool,
    /// The source's own type, for people: `numeric(12,2)`.
    pub source_type: String,
    /// What the source knows the column by whatever its name is, unique among all columns of all its tables; `None` where it does not say.
    pub number: Option<i64>,
}

/// How a changed row is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By the columns at these indexes (primary key or replica identity index).
    Key(Vec<usize>),
    /// By all columns (replica identity full without a key): rows form a multiset.
    WholeRow,
    /// Not at all: the source sends inserts and truncates only.
    InsertOnly,
}

/// A table's structure at one point of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// The table.
    pub table: TableName,
    /// The columns in the source's order.
    pub columns: Vec<Column>,
    /// How a changed row is found again.
    pub identity: Identity,
}

impl TableSchema {
    /// The Arrow schema of a [`crate::ChangeBatch`] of this table: every field nullable, because a delete carries its key only.
    pub fn arrow(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.data_type.clone(), true);
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

    /// The index of the column with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
