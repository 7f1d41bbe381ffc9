//! Where the follower of a stream is.

use pgwire_replication::Lsn;
use tokio::time::Instant;

use crate::postgres::apply::Transaction;
use crate::postgres::client::Session;

/// How far the messages of a transaction were applied, so that its repetition after a reconnect is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AppliedTo {
    pub(super) lsn: Lsn,
    pub(super) message: u64,
    pub(super) ordinal: u64,
}

/// Where the follower is in the stream.
#[derive(Default)]
pub(crate) struct Progress {
    pub(super) transaction: Option<Transaction>,
    pub(super) applied: AppliedTo,
    /// The end of what has come in whole.
    pub(super) reached: Lsn,
    /// The last transaction of which a part was handed over before its end had come, by the position of its commit.
    pub(super) begun: Option<Lsn>,
    /// When what waits is handed over.
    pub(super) due: Option<Instant>,
    /// A connection for what the stream does not say.
    pub(super) side: Option<Session>,
    /// The slot is not where we left it: only a new start, which knows what the lake has, can say what that means.
    pub(super) displaced: bool,
}

impl Progress {
    /// At the slot's confirmed position.
    pub(crate) fn from(reached: Lsn) -> Self {
        Self { reached, ..Self::default() }
    }

    /// The transaction of which rows were applied and whose end has not come, by the position of its commit: the one that is open, or one
    /// that a broken connection cut off and that will be sent again. No boundary lies behind them.
    pub(super) fn open(&self) -> Option<Lsn> {
        let cut_off = (self.applied.message > 0 && self.applied.lsn >= self.reached).then_some(self.applied.lsn);
        self.transaction.filter(|open| open.message > 0).map(|open| open.lsn).or(cut_off)
    }
}
