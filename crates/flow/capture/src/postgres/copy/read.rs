use change::{ChangeBatch, Clock, Error, Kind, Position, Result};
use futures::TryStreamExt;

use super::plan::{Leaf, Range};
use crate::postgres::catalog::PLACE;
use crate::postgres::client::{Address, Session};
use crate::postgres::copy_binary::CopyReader;
use crate::postgres::failure;
use crate::postgres::room::Room;
use crate::postgres::rows::TableDecoder;
use crate::postgres::table::PgTable;
use crate::postgres::types::OnUnfit;

/// Rows and bytes at which a batch is handed over.
const ROWS_MAX: usize = 8192;
const BYTES_MAX: usize = 8 << 20;

/// What reading a chunk came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All its rows were handed over.
    Read,
    /// The table's rows were rewritten elsewhere since the plan was made: nothing was read.
    Rewritten,
}

/// What a chunk is read from, and how.
pub(crate) struct ChunkRead<'a> {
    pub(crate) address: &'a Address,
    pub(crate) table: &'a PgTable,
    pub(crate) range: Range,
    pub(crate) chunk: u32,
    pub(crate) low: &'a Position,
    /// An exported snapshot to read under; else each chunk has its own.
    pub(crate) snapshot: Option<&'a str>,
    pub(crate) on_unfit: OnUnfit,
    /// What its rows may take of memory on their way.
    pub(crate) room: &'a Room,
}

impl ChunkRead<'_> {
    /// Reads the chunk in one short read-only transaction and gives its batches to `hand_over`.
    pub(crate) async fn run<F>(
        &self,
        session: &Session,
        clock: &dyn Clock,
        mut hand_over: impl FnMut(ChangeBatch) -> F,
    ) -> Result<Outcome>
    where
        F: Future<Output = Result<()>>,
    {
        let ask = |e| failure::asking(self.address, &format!("{}: copying", self.table.table), e);
        let client = &session.client;
        client.batch_execute("begin transaction isolation level repeatable read, read only").await.map_err(ask)?;
        if let Some(snapshot) = self.snapshot {
            client.batch_execute(&format!("set transaction snapshot '{snapshot}'")).await.map_err(ask)?;
        }
        let outcome = match self.locked(session).await? {
            None => Outcome::Rewritten,
            Some(leaf) => {
                let mut decoder = TableDecoder::for_copy(self.table, self.chunk, self.on_unfit)?;
                let mut reader = CopyReader::new(self.low.clone(), clock.now());
                let mut frames = Box::pin(client.copy_out(&self.statement(&leaf)?).await.map_err(ask)?);
                while let Some(frame) = frames.try_next().await.map_err(ask)? {
                    self.room.wait(frame.len()).await;
                    reader.push(&frame, &mut decoder)?;
                    // A large row is not held twice while it waits.
                    drop(frame);
                    let full = decoder.rows() >= ROWS_MAX || decoder.bytes() >= BYTES_MAX;
                    if full && let Some(batch) = decoder.finish()? {
                        hand_over(self.room.admit(batch).await).await?;
                    }
                }
                reader.end(&decoder)?;
                if let Some(batch) = decoder.finish()? {
                    hand_over(self.room.admit(batch).await).await?;
                }
                Outcome::Read
            }
        };
        client.batch_execute("commit").await.map_err(ask)?;
        Ok(outcome)
    }

    /// Locks the leaf against a rewrite and gives its name; `None` when it was rewritten or dropped.
    ///
    /// VACUUM FULL, CLUSTER and rewriting forms of ALTER TABLE move rows to other blocks without a word in the stream, but need a lock
    /// that excludes ours, and give the table another file. A query that reads nothing takes the lock, because LOCK TABLE asks for the right to
    /// the whole table.
    async fn locked(&self, session: &Session) -> Result<Option<String>> {
        let ask = |e| failure::asking(self.address, &format!("{}: copying", self.table.table), e);
        let client = &session.client;
        let name =
            "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where c.oid = $1";
        let Some(row) = client.query_opt(name, &[&self.range.oid]).await.map_err(ask)? else { return Ok(None) };
        let name: String = row.get(0);
        let lock = format!("select {PLACE} from only {name} limit 0");
        match client.batch_execute(&lock).await {
            Ok(()) => {}
            // Renamed or dropped between the two statements.
            Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => return Ok(None),
            Err(error) => return Err(ask(error)),
        }
        let same =
            "select coalesce(to_regclass($1)::oid = $2::oid and pg_relation_filenode($2::oid::regclass) = $3, false)";
        let row = client.query_one(same, &[&name, &self.range.oid, &self.range.filenode]).await.map_err(ask)?;
        Ok(row.get::<_, bool>(0).then_some(name))
    }

    fn statement(&self, leaf: &str) -> Result<String> {
        let columns = self.table.columns.iter().map(|column| column.copy_expression()).collect::<Result<Vec<_>>>()?;
        let Range { from, to, .. } = self.range;
        Ok(format!(
            "copy (select {} from only {leaf} where ctid >= '({from},0)'::tid and ctid < '({to},0)'::tid) to stdout (format binary)",
            columns.join(", ")
        ))
    }
}

const LEAVES: &str = "
    select c.oid, pg_relation_filenode(c.oid) as filenode,
           pg_relation_size(c.oid) / current_setting('block_size')::bigint as blocks,
           case when c.relpages > 0 and c.reltuples > 0 then c.reltuples::float8 / c.relpages end as density
    from pg_class c
    where c.relkind = 'r' and c.oid in (select relid from pg_partition_tree($1::oid::regclass) union select $1::oid)
    order by c.oid";

/// The stored tables of `table` as they are now.
pub(crate) async fn leaves(
    address: &Address,
    session: &Session,
    table: &PgTable,
    chunk_rows: u64,
) -> Result<Vec<Leaf>> {
    let rows = session
        .client
        .query(LEAVES, &[&table.oid])
        .await
        .map_err(|e| failure::asking(address, &format!("{}: planning its copy", table.table), e))?;
    rows.iter()
        .map(|row| {
            let blocks = u32::try_from(row.get::<_, i64>("blocks"))
                .map_err(|_| Error::new(Kind::Bug, format!("{}: its size cannot be read", table.table)))?;
            let density: Option<f64> = row.get("density");
            Ok(Leaf::new(row.get("oid"), row.get("filenode"), blocks, density, chunk_rows))
        })
        .collect()
}
