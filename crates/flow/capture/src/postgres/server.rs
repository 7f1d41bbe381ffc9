use change::{Error, Kind, Result};

use super::client::{Address, Session};
use super::failure;

/// The oldest server that is supported: TID range scans and `binary` in pgoutput came with it.
pub(crate) const VERSION_MIN: u32 = 140_000;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `server_version_num`: 150018 is 15.18.
    pub(crate) version: u32,
    pub(crate) wal_level: String,
    pub(crate) in_recovery: bool,
    pub(crate) slots_max: i32,
    pub(crate) slots_used: i64,
    pub(crate) senders_max: i32,
    pub(crate) senders_used: i64,
    /// Whether this user may replicate.
    pub(crate) may_replicate: bool,
    pub(crate) slot_keep_mb: i32,
}

const SERVER: &str = "
    select current_setting('server_version_num')::int4, current_setting('wal_level'), pg_is_in_recovery(),
           current_setting('max_replication_slots')::int4, (select count(*) from pg_replication_slots),
           current_setting('max_wal_senders')::int4, (select count(*) from pg_stat_replication),
           (select rolreplication or rolsuper from pg_roles where rolname = current_user),
           (select setting::int4 from pg_settings where name = 'max_slot_wal_keep_size')";

impl Server {
    pub(crate) async fn read(address: &Address, session: &Session) -> Result<Self> {
        let row = session.client.query_one(SERVER, &[]).await;
        let row = row.map_err(|e| failure::asking(address, "reading the server's settings", e))?;
        Ok(Self {
            version: u32::try_from(row.get::<_, i32>(0)).unwrap_or(0),
            wal_level: row.get(1),
            in_recovery: row.get(2),
            slots_max: row.get(3),
            slots_used: row.get(4),
            senders_max: row.get(5),
            senders_used: row.get(6),
            may_replicate: row.get(7),
            slot_keep_mb: row.get(8),
        })
    }

    /// The first thing that keeps a stream from starting.
    pub(crate) fn check(&self) -> Result<()> {
        match self.obstacles().into_iter().next() {
            None => Ok(()),
            Some((what, fix)) => Err(Error::new(Kind::Config, what).fix(fix)),
        }
    }

    /// Everything that keeps a stream from starting, each with its fix.
    pub(crate) fn obstacles(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.version < VERSION_MIN {
            let major = self.version / 10_000;
            found.push((format!("the server is PostgreSQL {major}"), "Use PostgreSQL 14 or newer.".into()));
        }
        if self.in_recovery {
            found.push((
                "the server is a standby, which can neither make the publication nor show all of the log".into(),
                "Put the primary's address into the source's `url`.".into(),
            ));
        }
        if self.wal_level != "logical" {
            found.push((
                format!("the server's wal_level is {}", self.wal_level),
                "Run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server.".into(),
            ));
        }
        if !self.may_replicate {
            found.push((
                "this user may not replicate".into(),
                "Run: ALTER ROLE ... REPLICATION; for the user of the source's `url`.".into(),
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            version: 150_018,
            wal_level: "logical".into(),
            in_recovery: false,
            slots_max: 10,
            slots_used: 0,
            senders_max: 10,
            senders_used: 0,
            may_replicate: true,
            slot_keep_mb: -1,
        }
    }

    #[test]
    fn a_fit_server_has_no_obstacles() {
        assert!(server().check().is_ok());
    }

    #[test]
    fn every_obstacle_is_named_with_its_statement() {
        let unfit = Server {
            version: 130_010,
            wal_level: "replica".into(),
            in_recovery: true,
            may_replicate: false,
            ..server()
        };
        let all: String = unfit.obstacles().iter().map(|(what, fix)| format!("{what}: {fix}\n")).collect();
        for part in ["14 or newer", "primary", "ALTER SYSTEM SET wal_level = 'logical'", "ALTER ROLE ... REPLICATION"] {
            assert!(all.contains(part), "{part} is missing in:\n{all}");
        }
        assert_eq!(unfit.check().unwrap_err().kind(), Kind::Config);
    }
}
