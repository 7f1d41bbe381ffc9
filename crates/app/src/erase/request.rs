use std::collections::{BTreeMap, BTreeSet};

use audit::Purge;
use change::{Error, Kind, Result, TableName, Timestamp};
use gate::{KeyRing, Suppressed, sealed_epoch};
use lake::{Erased, Lake, LakeTable, Layer};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::audit::random;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The persons' rows do not pass any more.
    Suppressed,
    /// Their rows are in no newest version since this time.
    Deleted(Timestamp),
    /// Nothing of theirs is left since this time.
    Done(Timestamp),
}

/// A request as it is kept, sealed: after the end it holds keyed hashes and counts only.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    /// Random; names the request everywhere.
    pub(crate) id: String,
    /// The column by which the persons were named.
    pub(crate) subject: String,
    pub(crate) at: Timestamp,
    pub(crate) purge: Purge,
    pub(crate) phase: Phase,
    /// The persons: as a whole, and at each of their places. A release before there were places wrote one.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) suppressed: Vec<Suppressed>,
    pub(crate) on_hold: u64,
    /// What the lake knows the persons by; nothing once they are gone.
    pub(crate) tokens: Vec<String>,
    /// The same by person, in the order of `suppressed`. A release before did not write it.
    #[serde(default)]
    pub(crate) asked: Vec<Asked>,
    /// Lines of the request that matched nothing; nobody knows before the lake was looked at.
    #[serde(default)]
    pub(crate) unmatched: Option<Vec<u64>>,
    /// Whether a token is told wherever it stands, or in its columns only.
    pub(crate) unmistakable: bool,
    /// Columns with tokens, and whether they hold documents, by table.
    pub(crate) places: Vec<(TableName, Vec<(String, bool)>)>,
    /// The vault's domain and what to forget there.
    pub(crate) vault: Option<(String, Vec<[u8; 32]>)>,
    pub(crate) codes_removed: u64,
    /// Domains of cells, and whose data keys to destroy there.
    #[serde(default)]
    pub(crate) cells: Vec<(String, Vec<[u8; 32]>)>,
    #[serde(default)]
    pub(crate) data_keys_destroyed: u64,
    /// Rows that were held back, and what was held behind them.
    #[serde(default)]
    pub(crate) held_rows_removed: u64,
    pub(crate) tables: BTreeMap<String, TableErased>,
    /// Source tables whose rows were begun to be taken out, and of which nobody knows how far that came.
    #[serde(default)]
    pub(crate) uncounted: BTreeSet<TableName>,
}

/// A person of a request.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The line of the input.
    pub(crate) line: u64,
    /// What the lake may know the person by.
    pub(crate) tokens: Vec<String>,
}

/// What was taken out of one lake table.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TableErased {
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) version: Option<u64>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Suppressed>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Suppressed),
        Many(Vec<Suppressed>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(one) => vec![one],
        Written::Many(many) => many,
    })
}

const FOLDER: [&str; 2] = ["_lockgate", "erased"];
const KIND: &str = "erased persons";

impl Request {
    /// The records in a lake.
    pub(crate) async fn paths(lake: &Lake) -> Result<Vec<String>> {
        lake.objects_below(&FOLDER).await
    }

    /// Opens a record.
    ///
    /// # Errors
    /// `Privacy` when it does not open with the key.
    pub(crate) async fn load(lake: &Lake, keys: &KeyRing, path: &str) -> Result<Self> {
        let missing = || {
            Error::new(Kind::Privacy, format!("the record {path} of erased persons is gone"))
                .fix("Restore it from the lake's backup: without it they would come back.")
        };
        let sealed = lake.object_at(path).await?.ok_or_else(missing)?;
        let id = path.rsplit('/').next().unwrap_or_default();
        let plain = keys.sealer(KIND).open(id.as_bytes(), &sealed).map_err(|error| error.context(path))?;
        serde_json::from_slice(&plain).map_err(|_| {
            Error::new(Kind::Privacy, format!("the record {path} of erased persons is of another version"))
                .fix("Use the version of Lockgate that wrote it, or a newer one.")
        })
    }

    /// Writes the record, whole or not at all.
    pub(crate) async fn save(&self, lake: &Lake, keys: &KeyRing) -> Result<()> {
        let plain = serde_json::to_vec(self)
            .map(Zeroizing::new)
            .map_err(|_| Error::new(Kind::Bug, "the record of erased persons is not JSON"))?;
        let sealed = keys.sealer(KIND).seal(random()?, self.id.as_bytes(), &plain)?;
        lake.put_object(&[FOLDER[0], FOLDER[1], &self.id], sealed).await
    }

    /// Seals every record under the current epoch of the key; tells how many were under another.
    pub(crate) async fn seal_anew(lake: &Lake, keys: &KeyRing) -> Result<u64> {
        let mut anew = 0;
        for (path, epoch) in Self::sealed_under(lake).await? {
            if epoch != keys.current_epoch() {
                Self::load(lake, keys, &path).await?.save(lake, keys).await?;
                anew += 1;
            }
        }
        Ok(anew)
    }

    /// The records in a lake, and the epoch under which each is sealed.
    pub(crate) async fn sealed_under(lake: &Lake) -> Result<Vec<(String, u32)>> {
        let mut found = Vec::new();
        for path in Self::paths(lake).await? {
            let epoch = lake.object_at(&path).await?.and_then(|record| sealed_epoch(&record));
            found.extend(epoch.map(|epoch| (path, epoch)));
        }
        Ok(found)
    }

    /// Adds what was taken out of the tables of one source table.
    pub(crate) fn count(&mut self, table: &TableName, erased: BTreeMap<Layer, Erased>) {
        for (layer, erased) in erased {
            let all = self.tables.entry(layer_name(table, layer)).or_default();
            all.rows += erased.rows;
            all.files += erased.files;
            all.version = erased.version.or(all.version);
        }
    }

    /// The lake tables with objects of the past to remove: both of each source table in one of which a trace was found, or of which something was
    /// or may have been written again. A change that carries its key alone has no trace, and the other table tells of it.
    ///
    /// # Errors
    /// As [`LakeTable::new`].
    pub(crate) fn tables_to_purge(&self, traced: BTreeSet<LakeTable>) -> Result<BTreeSet<LakeTable>> {
        let mut tables = traced;
        for (table, _) in &self.places {
            let [current, changes] = [Layer::Current, Layer::Changes].map(|layer| LakeTable::new(table.clone(), layer));
            let both = [current?, changes?];
            let written = |layer: &LakeTable| {
                self.tables.get(&layer_name(table, layer.layer)).is_some_and(|erased| erased.files > 0)
            };
            if self.uncounted.contains(table) || both.iter().any(|layer| tables.contains(layer) || written(layer)) {
                tables.extend(both);
            }
        }
        Ok(tables)
    }

    /// How many persons it keeps out.
    pub(crate) fn persons(&self) -> u64 {
        self.suppressed.first().map_or(0, Suppressed::len) as u64
    }

    /// Of how many of them something was there.
    pub(crate) fn matched(&self) -> u64 {
        self.persons().saturating_sub(self.unmatched().len() as u64)
    }

    /// Lines of the input that matched nothing.
    pub(crate) fn unmatched(&self) -> &[u64] {
        self.unmatched.as_deref().unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

fn layer_name(table: &TableName, layer: Layer) -> String {
    format!("{table} ({layer})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            id: "id".into(),
            subject: "db.public.members.member_id".into(),
            at: 0,
            purge: Purge::Now,
            phase: Phase::Deleted(0),
            suppressed: Vec::new(),
            on_hold: 0,
            tokens: Vec::new(),
            asked: Vec::new(),
            unmatched: None,
            unmistakable: true,
            places: vec![(name("members"), Vec::new()), (name("claims"), Vec::new())],
            vault: None,
            codes_removed: 0,
            cells: Vec::new(),
            data_keys_destroyed: 0,
            held_rows_removed: 0,
            tables: BTreeMap::new(),
            uncounted: BTreeSet::new(),
        }
    }

    fn name(table: &str) -> TableName {
        TableName::new("db", "public", table)
    }

    fn both(table: &str) -> BTreeSet<LakeTable> {
        [Layer::Current, Layer::Changes].map(|layer| LakeTable::new(name(table), layer).unwrap()).into()
    }

    #[test]
    fn both_tables_of_a_source_table_are_purged_whichever_tells_of_the_persons() {
        assert!(request().tables_to_purge(BTreeSet::new()).unwrap().is_empty());
        for layer in [Layer::Current, Layer::Changes] {
            let traced = BTreeSet::from([LakeTable::new(name("claims"), layer).unwrap()]);
            assert_eq!(request().tables_to_purge(traced).unwrap(), both("claims"));
            let mut counted = request();
            let erased = |files| Erased { files, ..Erased::default() };
            counted.count(&name("members"), BTreeMap::from([(layer, erased(0))]));
            counted.count(&name("claims"), BTreeMap::from([(layer, erased(1))]));
            assert_eq!(counted.tables_to_purge(BTreeSet::new()).unwrap(), both("claims"));
        }
    }

    #[test]
    fn a_table_of_which_nobody_knows_how_far_it_came_is_purged() {
        let mut killed = request();
        killed.uncounted.insert(name("claims"));
        let written = serde_json::to_vec(&killed).unwrap();
        let read: Request = serde_json::from_slice(&written).unwrap();
        assert_eq!(read.tables_to_purge(BTreeSet::new()).unwrap(), both("claims"));
    }
}
