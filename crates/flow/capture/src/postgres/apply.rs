use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use change::{ChangeBatch, CopyProgress, Error, Identity, Kind, Result, TableName, TableSchema, Timestamp};
use pgwire_replication::Lsn;

use super::catalog::{self, CatalogTable};
use super::client::{Address, Session};
use super::copy::settle::{Base, Next};
use super::pgoutput::{Message, Relation};
use super::rows::{RowAt, TableDecoder};
use super::table::{PgTable, ReplicaIdentity};
use super::types::{OnUnfit, PgType};

/// What the tasks of one source share of one table.
#[derive(Debug)]
pub(crate) struct TableFlags {
    /// The table cannot be read any further.
    pub(crate) stopped: AtomicBool,
}

/// A table of the stream, with the rows that were decoded and not yet handed over.
pub(crate) struct Followed {
    pub(crate) catalog: CatalogTable,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) flags: Arc<TableFlags>,
    /// LOW of its first copy: changes that commit below were visible to every chunk and are not handed over.
    pub(crate) from: Lsn,
    pub(crate) base: Base,
    /// Its publication's column list leaves columns out.
    listed: bool,
    /// Its columns had other names when what comes now was logged.
    misnamed: bool,
    relation: Option<Relation>,
    decoder: Option<TableDecoder>,
}

/// The transaction that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    pub(crate) lsn: Lsn,
    pub(crate) txid: u64,
    pub(crate) committed_at: Timestamp,
    /// Row messages so far.
    pub(crate) message: u64,
    /// Rows so far: one message may become two.
    pub(crate) ordinal: u64,
}

impl Transaction {
    pub(crate) fn at(&self, epoch: u32) -> RowAt {
        RowAt {
            epoch,
            lsn: self.lsn.as_u64(),
            ordinal: self.ordinal + 1,
            committed_at: self.committed_at,
            txid: self.txid,
        }
    }
}

/// What became of a row message.
pub(crate) enum Applied {
    /// It became this many rows, or belongs to a table that is not followed.
    Rows(u64),
    /// The table cannot be read any further; its rows since the last boundary are gone.
    Stopped(TableName, Error),
}

/// The followed tables by oid, and how much they hold.
#[derive(Default)]
pub(crate) struct Tables {
    by_oid: BTreeMap<u32, Followed>,
    /// Those whose copies settle, by oid.
    settling: Vec<u32>,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    on_unfit: OnUnfit,
}

impl Followed {
    pub(crate) fn new(catalog: CatalogTable, from: Lsn, base: Base, flags: Arc<TableFlags>) -> Result<Self> {
        let schema = catalog.table.schema()?;
        let listed = catalog.listed;
        Ok(Self { catalog, schema, flags, from, base, listed, misnamed: false, relation: None, decoder: None })
    }

    pub(crate) fn name(&self) -> &TableName {
        &self.catalog.table.table
    }

    /// What the stream announced last; `None` before it did.
    pub(crate) fn relation(&self) -> Option<&Relation> {
        self.relation.as_ref()
    }
}

impl Tables {
    pub(crate) fn new(on_unfit: OnUnfit) -> Self {
        Self { on_unfit, ..Self::default() }
    }

    pub(crate) fn add(&mut self, table: Followed) {
        self.by_oid.insert(table.catalog.table.oid, table);
    }

    pub(crate) fn get(&self, oid: u32) -> Option<&Followed> {
        self.by_oid.get(&oid)
    }

    pub(crate) fn get_mut(&mut self, oid: u32) -> Option<&mut Followed> {
        self.by_oid.get_mut(&oid)
    }

    /// Every chunk of a table's copy was handed over.
    pub(crate) fn settle(&mut self, oid: u32, progress: CopyProgress) {
        if let Some(table) = self.by_oid.get_mut(&oid) {
            table.base.settle(progress, matches!(table.schema.identity, Identity::Key(_)));
            self.settling.push(oid);
        }
    }

    /// A table whose copy needs something once everything below `reached` was handed over.
    pub(crate) fn settling(&self, reached: Lsn) -> Option<(u32, Next)> {
        let next = |oid: &u32| Some((*oid, self.by_oid.get(oid)?.base.next(reached)));
        self.settling.iter().filter_map(next).find(|(_, next)| *next != Next::Wait)
    }

    /// The copy of a table is finished; its progress, unless the table is stopped.
    pub(crate) fn finish(&mut self, oid: u32) -> Option<(TableName, CopyProgress)> {
        self.settling.retain(|settling| *settling != oid);
        let table = self.by_oid.get_mut(&oid)?;
        let progress = table.base.finish()?;
        (!table.flags.stopped.load(Ordering::Acquire)).then(|| (table.name().clone(), progress))
    }

    /// Forgets positions that may be of another history of the log.
    pub(crate) fn look_again(&mut self) {
        self.by_oid.values_mut().for_each(|table| table.base.look_again());
    }

    /// Whether the announcement says anything new of a table that is followed.
    pub(crate) fn is_news(&self, relation: &Relation) -> bool {
        self.by_oid.get(&relation.oid).is_some_and(|table| table.relation.as_ref() != Some(relation))
    }

    /// Appends the rows of one message.
    pub(crate) fn apply(&mut self, message: &Message<'_>, at: &RowAt) -> Applied {
        let relation = match message {
            Message::Insert { relation, .. } | Message::Update { relation, .. } | Message::Delete { relation, .. } => {
                *relation
            }
            _ => return Applied::Rows(0),
        };
        let Some(table) = self.by_oid.get_mut(&relation) else { return Applied::Rows(1) };
        if table.flags.stopped.load(Ordering::Acquire) || at.lsn < table.from.as_u64() {
            return Applied::Rows(1);
        }
        if table.misnamed {
            let error = other_names(&table.catalog);
            return self.stop(relation, error);
        }
        let Some(decoder) = &mut table.decoder else {
            let error =
                Error::new(Kind::Data, format!("{}: a change came before its table was announced", table.name()));
            return self.stop(relation, error);
        };
        let (rows, bytes) = (decoder.rows(), decoder.bytes());
        let applied = match message {
            Message::Insert { new, .. } => decoder.insert(new, at).map(|()| 1),
            Message::Update { old, new, .. } => decoder.update(old.as_ref(), new, at),
            Message::Delete { old, .. } => decoder.delete(old, at).map(|()| 1),
            _ => Ok(0),
        };
        self.rows += decoder.rows() - rows;
        self.bytes += decoder.bytes() - bytes;
        match applied {
            Ok(rows) => Applied::Rows(rows),
            Err(error) => self.stop(relation, error),
        }
    }

    /// Gives the table up: its rows since the last boundary are dropped, and nothing more is read of it.
    pub(crate) fn stop(&mut self, oid: u32, error: Error) -> Applied {
        let Some(table) = self.by_oid.get_mut(&oid) else { return Applied::Rows(1) };
        table.flags.stopped.store(true, Ordering::Release);
        if let Some(decoder) = table.decoder.take() {
            self.rows -= decoder.rows();
            self.bytes -= decoder.bytes();
        }
        Applied::Stopped(table.name().clone(), error)
    }

    /// Takes everything that was decoded, table by table.
    pub(crate) fn take(&mut self) -> Vec<(u32, Result<ChangeBatch>)> {
        self.rows = 0;
        self.bytes = 0;
        self.by_oid
            .iter_mut()
            .filter_map(|(oid, table)| {
                if table.flags.stopped.load(Ordering::Acquire) {
                    // Stopped from beside the stream: what was decoded belongs to no boundary any more.
                    table.decoder = None;
                }
                let batch = table.decoder.as_mut()?.finish().transpose()?;
                Some((*oid, batch))
            })
            .collect()
    }

    /// Follows an announcement: the schema that rows have from here on, when it differs from the last.
    ///
    /// The announcement may be older than the catalog, so columns, types and key come from it; the catalog is asked only for what it lacks.
    /// Everything decoded before must have been taken.
    pub(crate) async fn announce(
        &mut self,
        address: &Address,
        session: &Session,
        source: &str,
        relation: Relation,
    ) -> Result<Option<Arc<TableSchema>>> {
        let on_unfit = self.on_unfit;
        let Some(table) = self.by_oid.get_mut(&relation.oid) else { return Ok(None) };
        let differs = table.relation.is_some() || !names_agree(&table.catalog.table, &relation);
        if differs && let Some(fresh) = catalog::table_by_oid(address, session, source, relation.oid).await? {
            let name = table.catalog.table.table.clone();
            table.catalog = fresh;
            // A renamed table keeps the name that it has in the lake.
            table.catalog.table.table = name;
        }
        table.misnamed = !table.listed && !numbers_agree(&table.catalog.table, &relation);
        let described = described(address, session, &table.catalog.table, &relation).await?;
        if described.identity == Identity::InsertOnly {
            return Err(lost_identity(&table.catalog));
        }
        let schema = described.schema()?;
        table.decoder = Some(TableDecoder::for_stream(&described, &relation, on_unfit)?);
        table.relation = Some(relation);
        let changed = *schema != *table.schema;
        table.schema = Arc::clone(&schema);
        Ok(changed.then_some(schema))
    }
}

fn names_agree(catalog: &PgTable, relation: &Relation) -> bool {
    catalog.columns.len() == relation.columns.len()
        && catalog.columns.iter().zip(&relation.columns).all(|(c, r)| c.name == r.name && c.pg_type.oid == r.type_oid)
}

/// Whether the columns of an announcement can have the numbers that their names have now. A column that is added has a higher number than any before
/// it, so every column below one that was announced was there too; where the announcement does not name it, it had another name then.
fn numbers_agree(catalog: &PgTable, relation: &Relation) -> bool {
    let (mut below, mut unknown) = (0, 0);
    for column in &relation.columns {
        let now = catalog.columns.iter().find(|known| known.name == column.name).and_then(|known| known.attnum);
        let Some(now) = now else {
            unknown += 1;
            continue;
        };
        let unnamed =
            catalog.columns.iter().filter_map(|known| known.attnum).any(|number| number > below && number < now);
        if now <= below || unnamed || now - below - 1 < unknown {
            return false;
        }
        (below, unknown) = (now, 0);
    }
    true
}

fn other_names(catalog: &CatalogTable) -> Error {
    let what = "rows were logged while its columns had other names: which of their values are whose cannot be told";
    Error::new(Kind::Contract, format!("{}: {what}", catalog.table.table))
        .fix("Take both folders of the table out of the lake: it is then copied anew.")
}

fn lost_identity(catalog: &CatalogTable) -> Error {
    let error = Error::new(
        Kind::Contract,
        format!("{}: it has lost its replica identity, so changed rows cannot be named any more", catalog.table.table),
    );
    error.fix(format!(
        "Add a primary key again, or run: ALTER TABLE {} REPLICA IDENTITY FULL; then copy the table again.",
        catalog.quoted()
    ))
}

/// The table as the announcement has it, with what only the catalog knows: nullability, and the primary key under replica identity full.
async fn described(address: &Address, session: &Session, catalog: &PgTable, relation: &Relation) -> Result<PgTable> {
    let known = |oid: u32, typmod: i32| -> Option<&PgType> {
        catalog.columns.iter().map(|c| &c.pg_type).find(|t| t.oid == oid && t.typmod == typmod)
    };
    let unknown: Vec<(u32, i32)> = relation
        .columns
        .iter()
        .map(|column| (column.type_oid, column.typmod))
        .filter(|(oid, typmod)| known(*oid, *typmod).is_none())
        .collect();
    let read =
        if unknown.is_empty() { Default::default() } else { catalog::read_types(address, session, &unknown).await? };
    let resolve = |oid: u32, typmod: i32| {
        known(oid, typmod)
            .or_else(|| read.get(&(oid, typmod)))
            .cloned()
            .ok_or_else(|| Error::new(Kind::Contract, format!("the type with oid {oid} cannot be found")))
    };
    let mut described = PgTable::from_relation(catalog.table.clone(), relation, resolve)?;
    for column in &mut described.columns {
        if let Some(same) = catalog.columns.iter().find(|c| c.name == column.name) {
            column.attnum = same.attnum;
            column.not_null = same.not_null && same.pg_type == column.pg_type;
        }
    }
    if let (ReplicaIdentity::Full, Identity::Key(key)) = (relation.replica_identity, &catalog.identity) {
        let place = |index: &usize| {
            let name = &catalog.columns.get(*index)?.name;
            described.columns.iter().position(|column| column.name == *name)
        };
        if let Some(key) = key.iter().map(place).collect::<Option<Vec<_>>>() {
            described.identity = Identity::Key(key);
        }
    }
    Ok(described)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::RelationColumn;
    use crate::postgres::table::PgColumn;
    use crate::postgres::types::{PgType, PgTypeKind};

    /// Whether `announced` columns may be those that the catalog has under these numbers.
    fn agree(catalog: &[(&str, i16)], announced: &[&str]) -> bool {
        let pg_type = PgType { oid: 25, typmod: -1, name: "text".into(), kind: PgTypeKind::Builtin };
        let column = |(name, number): &(&str, i16)| PgColumn {
            name: (*name).into(),
            attnum: Some(*number),
            pg_type: pg_type.clone(),
            not_null: false,
            generated: false,
        };
        let columns = |names: &[&str]| {
            let of = |name: &&str| RelationColumn { name: (*name).into(), key: false, type_oid: 25, typmod: -1 };
            names.iter().map(of).collect()
        };
        let relation = Relation {
            xid: None,
            oid: 7,
            schema: "public".into(),
            name: "t".into(),
            replica_identity: ReplicaIdentity::Full,
            columns: columns(announced),
        };
        let mut table =
            PgTable::from_relation(TableName::new("db", "public", "t"), &relation, |_, _| Ok(pg_type.clone())).unwrap();
        table.columns = catalog.iter().map(column).collect();
        numbers_agree(&table, &relation)
    }

    #[test]
    fn an_older_announcement_agrees_with_columns_that_came_and_went_and_not_with_other_names() {
        let now = [("id", 1), ("plan", 2), ("code", 3)];
        // As it is, before one came, before one went, before two went and one came.
        assert!(agree(&now, &["id", "plan", "code"]) && agree(&now, &["id", "plan"]));
        assert!(agree(&[("id", 1), ("code", 3)], &["id", "gone", "code"]));
        assert!(agree(&[("id", 1), ("b", 4), ("new", 5)], &["id", "gone", "gone too", "b"]));
        // Renamed, with another one under the old name; swapped; renamed over one that left.
        assert!(!agree(&[("id", 1), ("old_code", 2), ("code", 3)], &["id", "code"]));
        assert!(!agree(&[("id", 1), ("code", 2), ("plan", 3)], &["id", "plan", "code"]));
        assert!(!agree(&[("id", 1), ("plan", 2)], &["id", "ssn", "plan"]));
    }
}
