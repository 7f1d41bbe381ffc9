//! Which Arrow type a Postgres type becomes, and how its values are read.
//!
//! The rule: a native Arrow type when it holds every ordinary value of the Postgres type exactly, else the text that Postgres itself
//! prints; never a number, date or time that differs from the source's. The few values that a native type cannot hold (a numeric NaN,
//! an infinite date) are *unfit*: see [`OnUnfit`].
//!
//! | Postgres | Arrow | unfit |
//! |---|---|---|
//! | `bool`, `int2`, `int4`, `int8`, `float4`, `float8` | the same | none |
//! | `oid` | `Int64` | none |
//! | `numeric(p,s)` of at most 38 digits | `Decimal128` | NaN |
//! | `numeric`, wider `numeric(p,s)` | `Utf8` | none |
//! | `date` | `Date32` | infinity, years outside 1 to 9999 |
//! | `timestamp`, `timestamptz` | `Timestamp(us)`, with zone `UTC` for the latter | infinity, years outside 1 to 9999 |
//! | `bytea` | `Binary` | none |
//! | a domain | as its base type | as its base type |
//! | everything else | `Utf8` | none |
//!
//! Arrays are text too, on purpose: the type of a Postgres array says neither how many dimensions a value has nor where its
//! subscripts begin, so any list type would meet legal values that it cannot hold and would have to stop the table on them. `time` is
//! text because Delta has no time type and Postgres knows `24:00:00`; `money` because its scale is a setting of the server.

mod column;
mod moment;
mod number;

use arrow::datatypes::{DataType, TimeUnit};
use change::{Error, Kind, Result};
use serde::Deserialize;

pub(crate) use column::{CellFault, ColumnBuilder};

/// A Postgres type as a column declares it: an entry of `pg_type` with the column's modifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgType {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_attribute.atttypmod` (for the base of a domain: `pg_type.typtypmod`); -1 when there is none.
    pub typmod: i32,
    /// What `format_type(oid, typmod)` prints, for people: `numeric(12,2)`.
    pub name: String,
    /// What sort of type it is.
    pub kind: PgTypeKind,
}

/// What sort of type a [`PgType`] is, from `pg_type.typtype` and `typcategory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgTypeKind {
    /// A base type of `pg_catalog` (`oid` below 16384), arrays excepted.
    Builtin,
    /// An enumeration.
    Enum,
    /// A domain over another type; the domain's own modifier stands in the inner type.
    Domain(Box<PgType>),
    /// An array of the inner type.
    Array(Box<PgType>),
    /// A range.
    Range,
    /// A multirange.
    Multirange,
    /// A row type.
    Composite,
    /// A base type that an extension or a user brought: hstore, citext, ltree.
    Extension,
    /// A pseudo-type, a shell type, or one that the catalog no longer has: no column of it can be read.
    Unreadable,
}

/// What happens to a value that the column's Arrow type cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnfit {
    /// The table stops, with an error that names the column and the kind of value.
    #[default]
    Halt,
    /// The value becomes null and is counted. Never applies to a column of the key.
    Null,
}

/// How the values of a column are read, and into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Decimal { precision: u8, scale: i8 },
    Date,
    Timestamp { utc: bool },
    Bytea,
    Text(TextForm),
}

/// What the binary form of a column that lands as text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextForm {
    /// The bytes of the text itself.
    Same,
    /// One byte, type `"char"`.
    Char,
    /// A numeric.
    Numeric,
    /// 16 bytes.
    Uuid,
    /// A version byte, then the text.
    Jsonb,
    /// Nothing that is read here: the server is asked for its text.
    Printed,
}

/// The most digits that Arrow's and Delta's decimal hold.
const DECIMAL_DIGITS_MAX: i32 = 38;

/// `VARHDRSZ`, which Postgres adds to the modifier of a numeric.
const NUMERIC_TYPMOD_BIAS: i32 = 4;

impl PgType {
    /// How values of the type are read; [`Kind::Contract`] when they cannot be.
    pub(crate) fn form(&self) -> Result<Form> {
        match &self.kind {
            PgTypeKind::Builtin => Ok(self.builtin_form()),
            PgTypeKind::Domain(base) => base.form(),
            // `enum_send` sends the label.
            PgTypeKind::Enum => Ok(Form::Text(TextForm::Same)),
            PgTypeKind::Array(_)
            | PgTypeKind::Range
            | PgTypeKind::Multirange
            | PgTypeKind::Composite
            | PgTypeKind::Extension => Ok(Form::Text(TextForm::Printed)),
            PgTypeKind::Unreadable => {
                Err(Error::new(Kind::Contract, format!("no value of type {} can be read", self.name))
                    .fix("Leave the column out of the publication, or change its type."))
            }
        }
    }

    /// Oids are fixed in Postgres' `pg_type.dat`.
    fn builtin_form(&self) -> Form {
        match self.oid {
            16 => Form::Bool,
            17 => Form::Bytea,
            18 => Form::Text(TextForm::Char),
            20 => Form::Int8,
            21 => Form::Int2,
            23 => Form::Int4,
            26 => Form::Oid,
            700 => Form::Float4,
            701 => Form::Float8,
            1082 => Form::Date,
            1114 => Form::Timestamp { utc: false },
            1184 => Form::Timestamp { utc: true },
            1700 => numeric_form(self.typmod),
            // name, text, json, xml, bpchar, varchar: the send functions send the text that is printed.
            19 | 25 | 114 | 142 | 1042 | 1043 => Form::Text(TextForm::Same),
            2950 => Form::Text(TextForm::Uuid),
            3802 => Form::Text(TextForm::Jsonb),
            _ => Form::Text(TextForm::Printed),
        }
    }
}

/// `numeric(p,s)` as a decimal when 38 digits hold every finite value of it. Scales below zero and above the precision (legal since
/// Postgres 15) become the narrowest decimal that holds them, because Delta knows neither.
fn numeric_form(typmod: i32) -> Form {
    let unbounded = Form::Text(TextForm::Numeric);
    if typmod < NUMERIC_TYPMOD_BIAS {
        return unbounded;
    }
    let packed = typmod - NUMERIC_TYPMOD_BIAS;
    let precision = (packed >> 16) & 0xffff;
    // Eleven bits, two's complement: `numeric_typmod_scale` in Postgres' numeric.c.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
    match (u8::try_from(digits), i8::try_from(scale.max(0))) {
        (Ok(precision), Ok(scale)) if (1..=DECIMAL_DIGITS_MAX).contains(&digits) => Form::Decimal { precision, scale },
        _ => unbounded,
    }
}

impl Form {
    /// The Arrow type that values of this form land in.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            Self::Date => DataType::Date32,
            Self::Timestamp { utc } => DataType::Timestamp(TimeUnit::Microsecond, utc.then(|| "UTC".into())),
            Self::Bytea => DataType::Binary,
            Self::Text(_) => DataType::Utf8,
        }
    }
}

/// The Arrow type that a Postgres type becomes; [`Kind::Contract`] when its values cannot be read.
pub fn arrow_type(pg_type: &PgType) -> Result<DataType> {
    pg_type.form().map(Form::arrow)
}
