use std::fmt;

use change::{Error, Kind, Result, TableName};
use object_store::path::Path;

/// Which of a source table's lake tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The current rows: `members`.
    Current,
    /// The append-only log of every change: `members__changes`.
    Changes,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current rows",
            Self::Changes => "change log",
        })
    }
}

const CHANGES: &str = "__changes";
const HISTORY: &str = "__history";

/// A table of the lake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LakeTable {
    /// The source table.
    pub name: TableName,
    /// Which of its lake tables.
    pub layer: Layer,
}

impl LakeTable {
    /// Fails with [`Kind::Config`] when the source table's name would make two lake tables share a folder.
    pub fn new(name: TableName, layer: Layer) -> Result<Self> {
        if name.table.ends_with(CHANGES) || name.table.ends_with(HISTORY) {
            return Err(Error::new(
                Kind::Config,
                format!("{name}: a name that ends in {CHANGES} or {HISTORY} is the lake's own"),
            )
            .fix("Leave this table out of `tables`, or rename it in the source."));
        }
        if [&name.source, &name.schema, &name.table].iter().any(|level| level.is_empty()) {
            return Err(Error::new(Kind::Config, format!("{name}: a level of the table's name is empty")));
        }
        Ok(Self { name, layer })
    }

    /// The table's last level in SQL and in paths: `members__changes`.
    pub fn last_level(&self) -> String {
        match self.layer {
            Layer::Current => self.name.table.clone(),
            Layer::Changes => format!("{}{CHANGES}", self.name.table),
        }
    }

    /// The three folders below the lake's root, each spelled for a path.
    pub fn folders(&self) -> [String; 3] {
        [folder(&self.name.source), folder(&self.name.schema), folder(&self.last_level())]
    }

    /// Reads the folders back; `None` when they are not a table of ours.
    pub(crate) fn from_folders(path: &Path) -> Option<Self> {
        let levels: Vec<String> = path.parts().map(|part| unfold(part.as_ref())).collect::<Option<_>>()?;
        let [source, schema, table] = levels.try_into().ok()?;
        let (table, layer) = match table.strip_suffix(CHANGES) {
            Some(table) => (table.to_owned(), Layer::Changes),
            None => (table, Layer::Current),
        };
        Self::new(TableName { source, schema, table }, layer).ok()
    }
}

impl fmt::Display for LakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.name.source, self.name.schema, self.last_level())
    }
}

/// A name as a folder: letters, digits, `_` and `-` as they are, every other byte as `@` and two hexadecimal digits, so that any name
/// that a database allows is one folder on every store and needs no escape in a URL. A leading `_` is spelled out, because readers of
/// Delta skip such folders.
fn folder(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'_' if at == 0 => folder.push_str("@5f"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(char::from(byte)),
            _ => folder.push_str(&format!("@{byte:02x}")),
        }
    }
    folder
}

fn unfold(folder: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'@' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_folder_and_back() {
        for name in ["members", "Dépôt a/b", "..", "_x", "a~b%20", "a@b", "x__y"] {
            for layer in [Layer::Current, Layer::Changes] {
                let table = LakeTable::new(TableName::new("db", name, name), layer).unwrap();
                let folders = table.folders();
                assert!(
                    folders.iter().flat_map(|f| f.bytes()).all(|b| b.is_ascii_alphanumeric() || b"_-@".contains(&b))
                );
                let path = Path::from_iter(folders.iter().map(String::as_str));
                assert_eq!(LakeTable::from_folders(&path), Some(table));
            }
        }
    }

    #[test]
    fn names_that_would_collide_are_refused() {
        let error = LakeTable::new(TableName::new("db", "public", "members__changes"), Layer::Current).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
    }
}
