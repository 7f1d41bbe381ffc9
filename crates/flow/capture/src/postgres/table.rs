//! Tables and columns as the catalog or the stream describes them.

use std::sync::Arc;

use change::{Column, Error, Identity, Kind, Result, TableName, TableSchema};

use super::pgoutput::Relation;
use super::types::{Form, PgType, TextForm, arrow_type};

/// What `REPLICA IDENTITY` says, which decides what old rows the stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, when there is one.
    Default,
    /// A unique index.
    Index,
    /// The whole old row.
    Full,
    /// Nothing: updates and deletes are refused by the server while the table is published.
    Nothing,
}

impl ReplicaIdentity {
    /// From `pg_class.relreplident`, which the relation message carries too.
    pub fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'd' => Some(Self::Default),
            b'i' => Some(Self::Index),
            b'f' => Some(Self::Full),
            b'n' => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// A column of a Postgres table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgColumn {
    /// `attname`, unquoted.
    pub name: String,
    /// `attnum`; `None` for a column that the catalog does not have (any more) under this name.
    pub attnum: Option<i16>,
    /// The declared type.
    pub pg_type: PgType,
    /// `attnotnull`.
    pub not_null: bool,
    /// Whether it is `GENERATED ALWAYS AS (...)`.
    pub generated: bool,
}

impl PgColumn {
    /// The column as it is to stand in the select list of a `COPY (SELECT ...) TO STDOUT (FORMAT binary)`: printed by the server when
    /// the type's binary form is not read here.
    pub fn copy_expression(&self) -> Result<String> {
        Ok(match self.pg_type.form()? {
            Form::Text(TextForm::Printed) => printed(&self.name),
            _ => quoted(&self.name),
        })
    }
}

/// An SQL expression that is what the stream carries of a column in text mode, byte for byte: what the type's output function prints, or
/// null.
///
/// `format` calls that function. A cast would not do: casts to text may print differently (`inet` gains its mask, `char(n)` loses its
/// blanks), and users may define their own. `num_nulls` because `IS NULL` is also true of a row whose fields are all null.
pub(crate) fn printed(column: &str) -> String {
    let name = quoted(column);
    format!("CASE WHEN pg_catalog.num_nulls({name}) = 0 THEN pg_catalog.format('%s', {name}) END")
}

/// A Postgres table as the catalog or a relation message describes it: the columns that the stream carries, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgTable {
    /// `pg_class.oid`.
    pub oid: u32,
    /// The full name.
    pub table: TableName,
    /// The published columns in the order of `attnum`. Dropped columns, columns outside a column list and generated columns that the
    /// publication leaves out are not in it.
    pub columns: Vec<PgColumn>,
    /// How changed rows are found again, by index into `columns`. With [`ReplicaIdentity::Full`] it may be the primary key.
    pub identity: Identity,
    /// What the stream carries of old rows.
    pub replica_identity: ReplicaIdentity,
}

impl PgTable {
    /// The table as the stream announces it, which may be older than the catalog. `resolve` finds a type by oid and modifier.
    ///
    /// Whether a column allows null, and its number, are not in the message: all do, and none has one. With replica identity full the identity is the whole row, as the
    /// message does not name the primary key.
    pub fn from_relation(
        table: TableName,
        relation: &Relation,
        mut resolve: impl FnMut(u32, i32) -> Result<PgType>,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let pg_type = resolve(column.type_oid, column.typmod)
                .map_err(|error| error.context(format!("{table}: column {}", column.name)))?;
            columns.push(PgColumn {
                name: column.name.clone(),
                attnum: None,
                pg_type,
                not_null: false,
                generated: false,
            });
        }
        let key: Vec<usize> = (0..relation.columns.len()).filter(|index| relation.columns[*index].key).collect();
        let identity = match relation.replica_identity {
            ReplicaIdentity::Full => Identity::WholeRow,
            ReplicaIdentity::Nothing => Identity::InsertOnly,
            ReplicaIdentity::Default | ReplicaIdentity::Index if key.is_empty() => Identity::InsertOnly,
            ReplicaIdentity::Default | ReplicaIdentity::Index => Identity::Key(key),
        };
        Ok(Self { oid: relation.oid, table, columns, identity, replica_identity: relation.replica_identity })
    }

    /// The structure that its batches follow; [`Kind::Contract`] naming the column whose type cannot be read.
    pub fn schema(&self) -> Result<Arc<TableSchema>> {
        let columns = self.columns.iter().map(|column| {
            let data_type = arrow_type(&column.pg_type)
                .map_err(|error| error.context(format!("{}: column {}", self.table, column.name)))?;
            Ok(Column {
                name: column.name.clone(),
                data_type,
                nullable: !column.not_null,
                source_type: column.pg_type.name.clone(),
                // A table that was made again under its name has another oid.
                number: column.attnum.map(|attnum| i64::from(self.oid) << 16 | i64::from(attnum)),
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if let Identity::Key(key) = &self.identity
            && key.iter().any(|index| *index >= columns.len())
        {
            return Err(Error::new(
                Kind::Bug,
                format!("{}: its identity names a column that is not there", self.table),
            ));
        }
        Ok(Arc::new(TableSchema { table: self.table.clone(), columns, identity: self.identity.clone() }))
    }
}

/// A name as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
