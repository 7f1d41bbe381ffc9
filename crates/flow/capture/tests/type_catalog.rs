//! What the catalog says of types, for tests that have no connector.

use std::collections::HashMap;

use capture::postgres::types::{PgType, PgTypeKind};
use change::{Error, Kind, Result};

/// The first oid that is not built in.
const FIRST_NORMAL_OID: u32 = 16_384;

/// Rows of `pg_type` by oid.
#[derive(Default)]
pub(crate) struct TypeCatalog(HashMap<u32, Entry>);

struct Entry {
    name: String,
    /// `typtype`.
    sort: String,
    /// `typbasetype` and `typtypmod` of a domain.
    base: (u32, i32),
    /// `typelem` of an array, else 0.
    element: u32,
}

impl TypeCatalog {
    pub(crate) fn insert(&mut self, oid: u32, name: &str, sort: &str, base: (u32, i32), element: u32) {
        self.0.insert(oid, Entry { name: name.to_owned(), sort: sort.to_owned(), base, element });
    }

    pub(crate) fn resolve(&self, oid: u32, typmod: i32) -> Result<PgType> {
        let builtin = oid < FIRST_NORMAL_OID;
        let Some(entry) = self.0.get(&oid) else {
            if builtin {
                return Ok(PgType { oid, typmod, name: format!("oid {oid}"), kind: PgTypeKind::Builtin });
            }
            return Err(Error::new(Kind::Contract, format!("type {oid} is unknown")));
        };
        let kind = match entry.sort.as_str() {
            "e" => PgTypeKind::Enum,
            "d" => PgTypeKind::Domain(Box::new(self.resolve(entry.base.0, entry.base.1)?)),
            "c" => PgTypeKind::Composite,
            "r" => PgTypeKind::Range,
            "m" => PgTypeKind::Multirange,
            "b" if entry.element != 0 => PgTypeKind::Array(Box::new(self.resolve(entry.element, -1)?)),
            "b" if builtin => PgTypeKind::Builtin,
            "b" => PgTypeKind::Extension,
            _ => PgTypeKind::Unreadable,
        };
        Ok(PgType { oid, typmod, name: entry.name.clone(), kind })
    }
}
