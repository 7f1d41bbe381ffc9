use std::time::Duration;

use change::Result;
use pgwire_replication::{Lsn, ReplicationClient};

use super::client::Address;
use super::failure;
use super::identity::{StreamIdentity, continues};

/// How long the server may take to answer a replication command. Starting can take long: the server reads the slot's log first.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A replication connection that is streaming, and who it is to.
pub(crate) struct Link {
    pub(crate) client: ReplicationClient,
    pub(crate) identity: StreamIdentity,
    /// Whether the server was promoted since `before` and goes on from our position.
    pub(crate) new_timeline: bool,
}

/// Where a stream starts.
pub(crate) struct Start<'a> {
    pub(crate) slot: &'a str,
    pub(crate) publication: &'a str,
    /// Send what commits from here on; zero for the slot's confirmed position.
    pub(crate) from: Lsn,
    /// What is durable: the server may forget what lies below.
    pub(crate) durable: Lsn,
    /// Who the stream came from before, with the highest position that is known of it; nothing at a first start.
    pub(crate) before: Option<(&'a StreamIdentity, Lsn)>,
}

/// Who the server is, without streaming from it; with `before`, whether it goes on from there.
///
/// `SourceGone` when it is another history; `Unavailable` and `Auth` as for any connection.
pub(crate) async fn identify(
    address: &Address,
    slot: &str,
    before: Option<(&StreamIdentity, Lsn)>,
) -> Result<StreamIdentity> {
    let attempt = async {
        let config = address.replication(slot, "unused", Lsn::ZERO, Lsn::ZERO);
        let mut client =
            ReplicationClient::connect_gated(config).await.map_err(|error| failure::starting(address, slot, &error))?;
        let identity = identified(&mut client, address, slot).await?;
        if let Some(before) = before {
            goes_on(&mut client, address, before, &identity).await?;
        }
        Ok(identity)
    };
    tokio::time::timeout(START_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(failure::silent(address)))
}

async fn identified(client: &mut ReplicationClient, address: &Address, slot: &str) -> Result<StreamIdentity> {
    let system = client.identify_system().await.map_err(|error| failure::starting(address, slot, &error))?;
    Ok(StreamIdentity {
        system: system.system_id,
        database: address.database().to_string(),
        slot: slot.to_string(),
        timeline: system.timeline,
    })
}

/// Whether the server goes on from `before` on another timeline.
async fn goes_on(
    client: &mut ReplicationClient,
    address: &Address,
    (before, highest): (&StreamIdentity, Lsn),
    now: &StreamIdentity,
) -> Result<bool> {
    let mut history = None;
    if before.timeline != now.timeline {
        let file = client.timeline_history(now.timeline).await;
        let file = file.map_err(|error| failure::starting(address, &now.slot, &error))?;
        history = Some(String::from_utf8_lossy(&file.content).into_owned());
    }
    continues(before, now, highest, history.as_deref())
}

/// Connects, checks that this is still the same history, and starts the stream.
///
/// `SourceGone` when it is another history; `Unavailable` and `Auth` as for any connection.
pub(crate) async fn start(address: &Address, start: Start<'_>) -> Result<Link> {
    let attempt = async {
        let fail = |error| failure::starting(address, start.slot, &error);
        let config = address.replication(start.slot, start.publication, start.from, start.durable);
        let mut client = ReplicationClient::connect_gated(config).await.map_err(fail)?;
        let identity = identified(&mut client, address, start.slot).await?;
        let new_timeline = match start.before {
            Some(before) => goes_on(&mut client, address, before, &identity).await?,
            None => false,
        };
        client.start().await.map_err(fail)?;
        client.wait_started().await.map_err(fail)?;
        Ok(Link { client, identity, new_timeline })
    };
    tokio::time::timeout(START_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(failure::silent(address)))
}
