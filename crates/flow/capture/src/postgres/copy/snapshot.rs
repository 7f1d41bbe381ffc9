use change::{Error, Kind, Result};
use pgwire_replication::{Lsn, ReplicationClient};

use crate::postgres::client::{Address, Session};
use crate::postgres::failure;

/// How long writers may keep a copy waiting before the log says so.
const TELL_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// The state of the database at one consistent point, kept readable for as long as this value lives.
pub(crate) struct Snapshot {
    /// What commits below is in the snapshot, what commits at or above is not.
    pub(crate) at: Lsn,
    /// Its name for `SET TRANSACTION SNAPSHOT`.
    pub(crate) name: String,
    /// The session that exported it; the snapshot ends with it.
    _session: ReplicationClient,
}

impl Snapshot {
    /// Makes a temporary slot, which gives a snapshot and its exact place in the log. The server first waits for all writers.
    pub(crate) async fn export(address: &Address, slot: &str) -> Result<Self> {
        let fail = |error| failure::streaming(address, &error);
        let name = format!("{slot:.50}_copy");
        let mut session = ReplicationClient::connect_gated(address.replication(&name, "unused", Lsn::ZERO, Lsn::ZERO))
            .await
            .map_err(fail)?;
        let sql = format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT");
        let made = waiting(session.simple_query(&sql)).await;
        let rows = made.map_err(|error| failure::making_temporary_slot(address, &error))?;
        // slot_name, consistent_point, snapshot_name, output_plugin
        let field = |index: usize| {
            let bytes = rows.first()?.get(index)?.as_ref()?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        match (field(1).and_then(|text| Lsn::parse(&text).ok()), field(2)) {
            (Some(at), Some(name)) => Ok(Self { at, name, _session: session }),
            _ => Err(Error::new(Kind::Bug, "the answer to CREATE_REPLICATION_SLOT has an unknown form")),
        }
    }
}

/// Says so when making a slot takes long: the server waits for every transaction that is writing.
pub(crate) async fn waiting<T>(made: impl Future<Output = T>) -> T {
    let mut made = std::pin::pin!(made);
    match tokio::time::timeout(TELL_AFTER, made.as_mut()).await {
        Ok(made) => made,
        Err(_) => {
            tracing::warn!("the replication slot waits for transactions that are writing; see pg_stat_activity");
            made.await
        }
    }
}

/// Waits until every transaction that is writing now has ended.
///
/// Two sorts matter: one whose commit the log already holds but that other sessions do not see yet, and one that wrote to a table before it
/// was published, whose changes the stream therefore lacks.
pub(crate) async fn wait_for_writers(address: &Address, session: &Session) -> Result<()> {
    let ask = |e| failure::asking(address, "waiting for open transactions", e);
    let client = &session.client;
    let row = client.query_one("select pg_snapshot_xmax(pg_current_snapshot())::text", &[]).await.map_err(ask)?;
    let newest: String = row.get(0);
    let mut pause = std::time::Duration::from_millis(10);
    let mut waited = std::time::Duration::ZERO;
    loop {
        // xid8 has no cast from text to compare with before it is read as one; numeric does as well.
        let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text::numeric >= $1::text::numeric";
        if client.query_one(sql, &[&newest]).await.map_err(ask)?.get(0) {
            return Ok(());
        }
        if waited < TELL_AFTER && waited + pause >= TELL_AFTER {
            tracing::warn!(
                "the first copy waits for transactions that were writing when it was set up; see pg_stat_activity"
            );
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(std::time::Duration::from_millis(500));
    }
}
