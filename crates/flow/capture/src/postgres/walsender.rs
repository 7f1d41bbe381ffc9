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
    /// Whether the server was promoted since `before` and goes on from our position: the epoch rises.
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

/// Connects, checks that this is still the same history, and starts the stream.
///
/// `SourceGone` when it is another history; `Unavailable` and `Auth` as for any connection.
pub(crate) async fn start(address: &Address, start: Start<'_>) -> Result<Link> {
    let attempt = async {
        let fail = |error| failure::starting(address, start.slot, &error);
        let config = address.replication(start.slot, start.publication, start.from, start.durable);
        let mut client = ReplicationClient::connect_gated(config).await.map_err(fail)?;
        let system = client.identify_system().await.map_err(fail)?;
        let identity = StreamIdentity {
            system: system.system_id,
            database: address.database().to_string(),
            slot: start.slot.to_string(),
            timeline: system.timeline,
        };
        let mut new_timeline = false;
        if let Some((before, highest)) = start.before {
            let history = if before.timeline == identity.timeline {
                None
            } else {
                let history = client.timeline_history(identity.timeline).await.map_err(fail)?;
                Some(String::from_utf8_lossy(&history.content).into_owned())
            };
            new_timeline = continues(before, &identity, highest, history.as_deref())?;
        }
        client.start().await.map_err(fail)?;
        client.wait_started().await.map_err(fail)?;
        Ok(Link { client, identity, new_timeline })
    };
    match tokio::time::timeout(START_TIMEOUT, attempt).await {
        Ok(link) => link,
        Err(_) => Err(failure::silent(address)),
    }
}
