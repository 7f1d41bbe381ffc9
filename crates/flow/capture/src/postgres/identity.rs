use std::collections::BTreeMap;
use std::fmt;

use change::{Checkpoint, Error, Kind, Position, Result, TableCheckpoint, TableName};
use pgwire_replication::Lsn;

use super::position::PgPosition;
use super::slot::COPY_AGAIN;

/// Who a stream comes from: stored with every checkpoint, checked at open and after each reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamIdentity {
    /// `system_identifier`: made once, by initdb; a copy of the data folder keeps it.
    pub(crate) system: String,
    pub(crate) database: String,
    pub(crate) slot: String,
    /// Rises by promotion and by recovery to a point in time.
    pub(crate) timeline: u32,
}

impl fmt::Display for StreamIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, database, slot, timeline } = self;
        write!(f, "postgres/{system}/{slot}/{timeline}/{database}")
    }
}

impl StreamIdentity {
    /// Reads the form that `Display` writes.
    fn parse(text: &str) -> Option<Self> {
        // The database comes last because its name may hold a slash.
        let mut parts = text.splitn(5, '/');
        if parts.next()? != "postgres" {
            return None;
        }
        let (system, slot, timeline) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(Self { system: system.into(), slot: slot.into(), timeline, database: parts.next()?.into() })
    }
}

/// What the lake had recorded when the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Every table's own checkpoint; a table that is not in it begins with a first copy.
    pub tables: BTreeMap<TableName, TableCheckpoint>,
    /// The stream's checkpoint, written when the slot was confirmed while no table had changes.
    pub stream: Option<Checkpoint>,
    /// The highest position of a boundary in any lake table: one layer of a table may be ahead of the other.
    pub reached: Option<Position>,
}

/// The facts that [`Resume`] comes down to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Recorded {
    /// The highest position that anything was recorded at, with its stream's identity.
    pub(crate) identity: Option<StreamIdentity>,
    /// The highest boundary recorded; `None` when nothing was.
    pub(crate) highest: Option<PgPosition>,
    /// The highest position that a finished copy can have seen, or that one layer of a table has.
    pub(crate) seen: Option<PgPosition>,
}

impl Recorded {
    pub(crate) fn of(resume: &Resume) -> Result<Self> {
        let mut recorded = Self::default();
        let table_streams = resume.tables.values().filter_map(|table| table.stream.as_ref());
        for checkpoint in table_streams.chain(&resume.stream) {
            let position = PgPosition::parse(&checkpoint.through)?;
            let identity = StreamIdentity::parse(&checkpoint.identity).ok_or_else(|| {
                Error::new(Kind::SourceGone, "a checkpoint in the lake was not written by a Postgres source")
                    .fix("Give this source another name in lockgate.yaml, or point it at the database it had before.")
            })?;
            if recorded.highest.is_none_or(|highest| position >= highest) {
                recorded.highest = Some(position);
                recorded.identity = Some(identity);
            }
        }
        for copy in resume.tables.values().filter_map(|table| table.copy.as_ref()) {
            recorded.highest = recorded.highest.max(Some(PgPosition::parse(&copy.low)?));
            let finished = copy.finished.as_ref().map(PgPosition::parse).transpose()?;
            recorded.seen = recorded.seen.max(finished);
        }
        let reached = resume.reached.as_ref().map(PgPosition::parse).transpose()?;
        recorded.seen = recorded.seen.max(reached);
        Ok(recorded)
    }

    /// The epoch that the stream goes on with when nothing has changed.
    pub(crate) fn epoch(&self) -> u32 {
        self.highest.map_or(0, |highest| highest.epoch)
    }
}

/// Whether `now` continues `before`: `Ok(false)` on the same timeline, `Ok(true)` over a switch that lies above everything recorded. `history` is the server's timeline history file, asked for only when the timeline differs.
pub(crate) fn continues(
    before: &StreamIdentity,
    now: &StreamIdentity,
    recorded: Lsn,
    history: Option<&str>,
) -> Result<bool> {
    let gone = |what: String| Err(Error::new(Kind::SourceGone, what).fix(COPY_AGAIN));
    if before.system != now.system {
        return gone(format!(
            "the server is another one: its system identifier is {}, the checkpoints are from {}",
            now.system, before.system
        ));
    }
    if (&before.database, &before.slot) != (&now.database, &now.slot) {
        return gone(format!(
            "the checkpoints are from database {}, slot {}; the configuration names database {}, slot {}",
            before.database, before.slot, now.database, now.slot
        ));
    }
    if before.timeline == now.timeline {
        return Ok(false);
    }
    match history.and_then(|history| fork_point(history, before.timeline)) {
        Some(fork) if before.timeline < now.timeline && fork >= recorded => Ok(true),
        Some(fork) if before.timeline < now.timeline => gone(format!(
            "the server was promoted and left its old history at {fork}, before our position {recorded}: some of what the lake holds \
             never happened there"
        )),
        _ => gone(format!(
            "the server is on timeline {}, which does not descend from timeline {} of the checkpoints",
            now.timeline, before.timeline
        )),
    }
}

/// Where `timeline` was left, by a timeline history file: lines of `timeline <tab> LSN <tab> reason`.
fn fork_point(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let number: u32 = fields.next()?.parse().ok()?;
        (number == timeline).then(|| Lsn::parse(fields.next()?).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(timeline: u32) -> StreamIdentity {
        StreamIdentity { system: "7".into(), database: "a/b".into(), slot: "s".into(), timeline }
    }

    #[test]
    fn identity_reads_back() {
        assert_eq!(StreamIdentity::parse(&identity(3).to_string()), Some(identity(3)));
        assert_eq!(StreamIdentity::parse("mysql/1/2/3/4"), None);
    }

    #[test]
    fn a_timeline_switch_is_accepted_only_above_everything_recorded() {
        let history = "1\t0/5000\tno recovery target specified\n\n2\t0/9000\tno recovery target specified\n";
        let lsn = Lsn::from_u64;
        assert!(!continues(&identity(1), &identity(1), lsn(0x9999), None).unwrap());
        assert!(continues(&identity(1), &identity(3), lsn(0x5000), Some(history)).unwrap());
        for (before, now, at, history, what) in [
            (1, 3, 0x5001, Some(history), "never happened"),
            (3, 1, 0x10, None, "does not descend"),
            (4, 5, 0x10, Some(history), "does not descend"),
        ] {
            let error = continues(&identity(before), &identity(now), lsn(at), history).unwrap_err();
            assert_eq!(error.kind(), Kind::SourceGone);
            assert!(error.what().contains(what), "{error}");
        }
    }

    #[test]
    fn another_server_database_or_slot_is_refused() {
        let other = |change: fn(&mut StreamIdentity)| {
            let mut now = identity(1);
            change(&mut now);
            continues(&identity(1), &now, Lsn::ZERO, None).unwrap_err().to_string()
        };
        assert!(other(|now| now.system = "8".into()).contains("system identifier"));
        assert!(other(|now| now.database = "c".into()).contains("database c"));
        assert!(other(|now| now.slot = "t".into()).contains("slot t"));
    }

    #[test]
    fn recorded_takes_the_highest_boundary_of_tables_and_stream() {
        let at = |lsn| PgPosition::boundary(2, Lsn::from_u64(lsn));
        let checkpoint = |lsn, timeline| Checkpoint {
            stream: "db".into(),
            through: at(lsn).position(),
            identity: identity(timeline).to_string(),
        };
        let table = TableCheckpoint { stream: Some(checkpoint(5, 1)), ..TableCheckpoint::default() };
        let resume = Resume {
            tables: [(TableName::new("db", "p", "t"), table)].into(),
            stream: Some(checkpoint(9, 2)),
            reached: Some(at(11).position()),
        };
        let recorded = Recorded::of(&resume).unwrap();
        assert_eq!((recorded.highest, recorded.epoch()), (Some(at(9)), 2));
        assert_eq!((recorded.identity, recorded.seen), (Some(identity(2)), Some(at(11))));
        assert_eq!(Recorded::of(&Resume::default()).unwrap(), Recorded::default());
    }
}
