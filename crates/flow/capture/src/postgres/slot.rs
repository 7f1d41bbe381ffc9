use change::{Error, Kind, Result};
use pgwire_replication::Lsn;
use serde::Deserialize;
use serde::de::Error as _;

use super::client::{Address, Session};
use super::copy::snapshot::waiting;
use super::failure;

/// What to do when the log between a checkpoint and now cannot be read any more.
pub(crate) const COPY_AGAIN: &str = "Changes may be missing from here on, so nothing goes on by itself. Run `lockgate repair`: it makes a new slot and \
                                     writes only what differs. Or take the first copy again: move this source's folder out of the lake (or name the source anew), drop its slot if there is one \
                                     (select pg_drop_replication_slot('...')), and start.";

/// A replication slot as `pg_replication_slots` shows it; fields that a version lacks are `None`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct SlotState {
    pub(crate) plugin: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) active: bool,
    pub(crate) active_pid: Option<i32>,
    #[serde(rename = "confirmed_flush_lsn", deserialize_with = "lsn", default)]
    pub(crate) confirmed: Option<Lsn>,
    #[serde(rename = "restart_lsn", deserialize_with = "lsn", default)]
    pub(crate) restart: Option<Lsn>,
    #[serde(default)]
    pub(crate) wal_status: Option<String>,
    #[serde(default)]
    pub(crate) safe_wal_size: Option<i64>,
    /// From PostgreSQL 16 on.
    #[serde(default)]
    pub(crate) conflicting: Option<bool>,
    /// From PostgreSQL 17 on.
    #[serde(default)]
    pub(crate) invalidation_reason: Option<String>,
}

fn lsn<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| Lsn::parse(&text).map_err(|_| D::Error::custom("not an LSN")))
        .transpose()
}

impl SlotState {
    /// Why the slot can never be read again; `None` when it can.
    pub(crate) fn invalid(&self) -> Option<String> {
        if let Some(reason) = &self.invalidation_reason {
            return Some(format!("the server has invalidated it ({reason})"));
        }
        if self.conflicting == Some(true) {
            return Some("it conflicted with recovery on a standby".into());
        }
        if self.wal_status.as_deref() == Some("lost") {
            return Some("the server has removed log that it still needed (max_slot_wal_keep_size)".into());
        }
        None
    }
}

/// What the slot and the lake's records together allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotVerdict {
    /// There is no slot and nothing was recorded: make one.
    Create,
    /// The slot holds everything after this position.
    Follow {
        /// The slot's confirmed position.
        confirmed: Lsn,
    },
}

/// Whether the stream can go on from what was recorded; [`Kind::SourceGone`] when there may be a gap.
pub(crate) fn judge(
    name: &str,
    database: &str,
    slot: Option<&SlotState>,
    recorded: Option<Lsn>,
) -> Result<SlotVerdict> {
    let gone = |what: String| Err(Error::new(Kind::SourceGone, what).fix(COPY_AGAIN));
    let Some(slot) = slot else {
        return match recorded {
            None => Ok(SlotVerdict::Create),
            Some(at) => gone(format!("the replication slot {name} is gone; the lake's tables reach to {at}")),
        };
    };
    if slot.plugin.as_deref() != Some("pgoutput") || slot.database.as_deref() != Some(database) {
        return Err(Error::new(
            Kind::Config,
            format!("the replication slot {name} belongs to something else: it is not a pgoutput slot of database {database}"),
        )
        .fix("Choose another `slot` for this source; it is made if missing."));
    }
    if let Some(why) = slot.invalid() {
        return gone(format!("the replication slot {name} cannot be read any more: {why}"));
    }
    let Some(confirmed) = slot.confirmed else {
        if slot.active_pid.is_some() {
            // The server goes on making it when whoever asked for it has left.
            let what =
                format!("the replication slot {name} is being made: the server waits for transactions that write");
            return Err(Error::new(Kind::Unavailable, what).fix("Nothing, when they end; it is tried again."));
        }
        return gone(format!("the replication slot {name} has no confirmed position"));
    };
    match recorded {
        Some(at) if confirmed > at => gone(format!(
            "the replication slot {name} begins at {confirmed}, but the lake's tables reach only to {at}: it was made anew or moved on by \
             someone else"
        )),
        _ => Ok(SlotVerdict::Follow { confirmed }),
    }
}

/// Reads the slot; `None` when there is none.
pub(crate) async fn read(address: &Address, session: &Session, name: &str) -> Result<Option<SlotState>> {
    // As JSON, because the view has other columns in every version.
    let row = session
        .client
        .query_opt("select to_jsonb(s)::text from pg_replication_slots s where slot_name = $1", &[&name])
        .await
        .map_err(|e| failure::asking(address, "reading the replication slot", e))?;
    row.map(|row| {
        serde_json::from_str(row.get(0))
            .map_err(|e| Error::new(Kind::Bug, "pg_replication_slots has an unknown form").source(e))
    })
    .transpose()
}

/// Makes the slot and gives its consistent point: everything that commits above it will be streamed.
///
/// Waits until every transaction that writes at this moment has ended: the server does.
pub(crate) async fn create(address: &Address, session: &Session, name: &str, version: u32) -> Result<Lsn> {
    // From PostgreSQL 17 on a slot can follow a failover to a standby.
    let sql = if version >= 170_000 {
        "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)"
    } else {
        "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')"
    };
    let fail = |e| failure::making_slot(address, name, e);
    session.client.batch_execute("set lock_timeout = 0").await.map_err(fail)?;
    let row = waiting(session.client.query_one(sql, &[&name])).await.map_err(fail)?;
    session.client.batch_execute("reset lock_timeout").await.map_err(fail)?;
    Lsn::parse(row.get(0)).map_err(|e| Error::new(Kind::Bug, "the new slot's position cannot be read").source(e))
}

/// SQLSTATE `object_in_use`: somebody reads the slot.
const IN_USE: &str = "55006";

/// Drops the slot; does nothing when there is none. `false` when somebody reads it.
pub(crate) async fn drop_unused(address: &Address, session: &Session, name: &str) -> Result<bool> {
    let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1";
    match session.client.execute(sql, &[&name]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code().is_some_and(|code| code.code() == IN_USE) => Ok(false),
        Err(error) => Err(failure::asking(address, "dropping the replication slot", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(confirmed: u64) -> SlotState {
        SlotState {
            plugin: Some("pgoutput".into()),
            database: Some("d".into()),
            confirmed: Some(Lsn::from_u64(confirmed)),
            ..SlotState::default()
        }
    }

    fn verdict(slot: Option<SlotState>, recorded: Option<u64>) -> Result<SlotVerdict> {
        judge("s", "d", slot.as_ref(), recorded.map(Lsn::from_u64))
    }

    #[test]
    fn a_slot_that_is_being_made_is_waited_for() {
        let unconfirmed = SlotState { confirmed: None, ..slot(0) };
        let made = SlotState { active: true, active_pid: Some(7), ..unconfirmed.clone() };
        assert_eq!(verdict(Some(made), None).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(verdict(Some(unconfirmed), None).unwrap_err().kind(), Kind::SourceGone);
    }

    #[test]
    fn a_slot_behind_the_records_is_normal_replay() {
        assert_eq!(verdict(None, None).unwrap(), SlotVerdict::Create);
        for recorded in [None, Some(5), Some(9)] {
            assert_eq!(verdict(Some(slot(5)), recorded).unwrap(), SlotVerdict::Follow { confirmed: Lsn::from_u64(5) });
        }
    }

    #[test]
    fn a_gap_is_a_hard_stop_that_says_what_to_do() {
        let lost = SlotState { wal_status: Some("lost".into()), ..slot(5) };
        let invalid = SlotState { invalidation_reason: Some("wal_removed".into()), ..slot(5) };
        let conflicting = SlotState { conflicting: Some(true), ..slot(5) };
        for (slot, recorded, what) in [
            (None, Some(4), "is gone"),
            (Some(slot(5)), Some(4), "made anew"),
            (Some(lost), Some(9), "max_slot_wal_keep_size"),
            (Some(invalid), None, "wal_removed"),
            (Some(conflicting), Some(9), "recovery"),
        ] {
            let error = verdict(slot, recorded).unwrap_err();
            assert_eq!(error.kind(), Kind::SourceGone);
            assert!(error.what().contains(what), "{error}");
            assert!(error.how_to_fix().unwrap().contains("first copy again"));
        }
    }

    #[test]
    fn anothers_slot_is_not_taken() {
        let foreign = SlotState { plugin: Some("wal2json".into()), ..slot(5) };
        assert_eq!(verdict(Some(foreign), None).unwrap_err().kind(), Kind::Config);
    }

    #[test]
    fn reads_the_views_json_of_old_and_new_versions() {
        let old = r#"{"plugin": "pgoutput", "database": "d", "active": true, "active_pid": 7, "restart_lsn": "0/1A", "confirmed_flush_lsn":
            "0/1B", "wal_status": "reserved", "safe_wal_size": null, "slot_name": "s", "two_phase": false}"#;
        let state: SlotState = serde_json::from_str(old).unwrap();
        assert_eq!((state.confirmed, state.restart), (Some(Lsn::from_u64(0x1b)), Some(Lsn::from_u64(0x1a))));
        assert_eq!(state.invalid(), None);
    }
}
