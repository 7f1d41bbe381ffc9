use std::error::Error as _;
use std::io;

use change::{Error, Kind};
use pgwire_replication::PgWireError;

use super::client::Address;
use super::publication;

/// What a failed connection attempt means. Postgres' own message is used only to tell classes apart: DETAIL, HINT and CONTEXT, which may hold
/// row values, never get this far.
pub(crate) fn connecting(address: &Address, error: tokio_postgres::Error) -> Error {
    let place = address.place();
    if let Some(code) = error.code() {
        return by_code(address, code.code());
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return tls_failure(address, &tls.to_string());
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return tls_failure(address, &tls.to_string());
            }
            return unreachable(&place, io.kind());
        }
        cause = inner.source();
    }
    let text = error.to_string();
    if text.contains("TLS") {
        return tls_failure(address, "the server offers no TLS");
    }
    if error.source().is_some_and(|cause| cause.to_string().contains("password missing")) {
        return Error::new(Kind::Auth, format!("{place} asks {} for a password and none is declared", address.user()))
            .fix("Add `password: ${env:NAME}` to the source.");
    }
    if text.contains("authentication") {
        return by_code(address, "28P01");
    }
    Error::new(Kind::Unavailable, format!("the connection to {place} failed"))
        .fix("Check that a PostgreSQL server listens there.")
}

fn unreachable(place: &str, kind: io::ErrorKind) -> Error {
    let (what, fix) = match kind {
        io::ErrorKind::ConnectionRefused => {
            ("refuses the connection", "Check the port, and that the server runs and listens on that address.")
        }
        io::ErrorKind::NotFound => ("has no such socket", "Check the socket folder, and that the server runs."),
        io::ErrorKind::PermissionDenied => ("may not be opened by this user", "Check the rights of the socket folder."),
        io::ErrorKind::TimedOut => {
            ("does not answer", "Check firewalls and routes between this machine and the server.")
        }
        _ => ("broke the connection", "Try again; check the server's log if it lasts."),
    };
    Error::new(Kind::Unavailable, format!("{place} {what}")).fix(fix)
}

fn tls_failure(address: &Address, why: &str) -> Error {
    let fix = "Set `sslrootcert` to the authority that signed the server's certificate, and use the host name that the certificate carries. A \
               server without TLS can only be read over a Unix socket or from its own machine.";
    // Which a server that has only other suites or curves does not tell.
    let fips = " A build for FIPS speaks AES-GCM over P-256, P-384 or X25519MLKEM768, and nothing else.";
    let fix = if cfg!(feature = "fips") { format!("{fix}{fips}") } else { fix.to_owned() };
    Error::new(Kind::Unavailable, format!("no trusted TLS connection to {}: {why}", address.place())).fix(fix)
}

/// SQLSTATE `character_not_in_repertoire`.
pub(crate) const NO_TEXT: &str = "22021";

/// What a server says that takes no connections, or ends them, because it starts or stops.
const STOPPING: &str = "is starting or stopping";

/// Whether an error of this module says that the server starts or stops.
pub(crate) fn is_stopping(error: &Error) -> bool {
    error.what().contains(STOPPING)
}

/// What an SQLSTATE means, in our own words. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn by_code(address: &Address, code: &str) -> Error {
    let (place, user) = (address.place(), address.user());
    match code {
        "28P01" => Error::new(Kind::Auth, format!("{place} refuses the password of {user}"))
            .fix("Check the secret that the source's `password` points to."),
        "28000" => Error::new(Kind::Auth, format!("{place} lets {user} in under no rule (SQLSTATE 28000)"))
            .fix("Check that the role exists, that pg_hba.conf has a line for it, this database and this client's address, and that `sslcert` and `sslkey` are given where the line asks for a certificate."),
        "3D000" => Error::new(Kind::Config, format!("there is no database {} on this server", address.database()))
            .fix("Check the database name in the source's `url`."),
        "42501" => Error::new(Kind::Auth, format!("{user} lacks a right on {place} (SQLSTATE 42501)"))
            .fix("Run `lockgate check --connect`: it names the grants that are missing."),
        "53300" => Error::new(Kind::Unavailable, format!("{place} has no free connections"))
            .fix("Raise max_connections or max_wal_senders on the server, or close other sessions."),
        "57P01" | "57P02" | "57P03" => Error::new(Kind::Unavailable, format!("{place} {STOPPING}"))
            .fix("Nothing, if it comes back; it is tried again."),
        NO_TEXT => Error::new(Kind::Data, format!("{place} has a text whose bytes are none in UTF-8 (SQLSTATE {NO_TEXT})"))
            .fix("Databases of the encoding SQL_ASCII take any bytes: correct the value or the name, or load the database into one with the encoding of its texts."),
        "55006" => Error::new(Kind::Unavailable, format!("the replication slot on {place} is in use by another connection"))
            .fix("If it lasts: stop the other process that reads this slot. Two cannot share one."),
        "58P01" | "55000" => Error::new(Kind::SourceGone, format!("{place} cannot give the log from our position on (SQLSTATE {code})"))
            .fix(super::slot::COPY_AGAIN),
        "55P03" => Error::new(Kind::Unavailable, format!("{place} kept us waiting for a lock too long"))
            .fix("Find the session that holds the table (pg_stat_activity, pg_locks); it is tried again."),
        code if code.starts_with("08") || code.starts_with("57") => {
            Error::new(Kind::Unavailable, format!("the connection to {place} broke (SQLSTATE {code})"))
        }
        // Deadlocks and serialization, resources and limits, and the server's own disk.
        code if ["40", "53", "58"].iter().any(|class| code.starts_with(class)) => {
            Error::new(Kind::Unavailable, format!("{place} could not do it now (SQLSTATE {code})"))
                .fix("Look the code up in the server's log at this time; it is tried again.")
        }
        code => Error::new(Kind::Data, format!("{place} answered with SQLSTATE {code}"))
            .fix("Look the code up in the server's log at this time: the statement and its reason stand there."),
    }
}

/// What a failed statement means; `doing` says what was being done.
pub(crate) fn asking(address: &Address, doing: &str, error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(code) => by_code(address, code.code()).context(doing),
        None if error.is_closed() || error.source().is_some_and(|cause| cause.is::<io::Error>()) => {
            unreachable(&address.place(), io::ErrorKind::ConnectionReset).context(doing)
        }
        // A value of an unexpected type in an answer: the statement and the server disagree.
        None => Error::new(Kind::Bug, format!("{doing}: the answer of {} could not be read", address.place())),
    }
}

/// SQLSTATE of a name that nothing has.
pub(crate) const NO_SUCH_OBJECT: &str = "42704";

/// What the end of a stream that was running means: the server looks the publication up as it was at each change.
pub(crate) fn following(address: &Address, publication: &str, error: &PgWireError) -> Error {
    match error {
        PgWireError::Server(text) if sqlstate(text) == NO_SUCH_OBJECT => publication::gone(publication),
        error => streaming(address, error),
    }
}

/// What a stream that did not start means.
pub(crate) fn starting(address: &Address, slot: &str, error: &PgWireError) -> Error {
    match error {
        PgWireError::Server(text) if sqlstate(text) == NO_SUCH_OBJECT => {
            Error::new(Kind::SourceGone, format!("the replication slot {slot} is gone")).fix(super::slot::COPY_AGAIN)
        }
        // "logical decoding cannot be used while in recovery", as servers before PostgreSQL 16 say it.
        PgWireError::Server(text) if sqlstate(text) == "0A000" => {
            Error::new(Kind::Unavailable, format!("{} is a standby now", address.place()))
                .fix("Promote it, or point the source's `url` at the primary; it is tried again.")
        }
        error => streaming(address, error),
    }
}

/// What the end of a replication connection means.
pub(crate) fn streaming(address: &Address, error: &PgWireError) -> Error {
    match error {
        PgWireError::Io(io) => unreachable(&address.place(), io.kind()),
        PgWireError::Server(text) => by_code(address, sqlstate(text)),
        PgWireError::Auth(_) => by_code(address, "28P01"),
        PgWireError::Tls(why) => tls_failure(address, why),
        PgWireError::MessageTooLarge { payload_bytes, limit_bytes } => Error::new(
            Kind::Data,
            format!("one change takes {payload_bytes} bytes, more than the limit of {limit_bytes}"),
        ),
        // The texts of the rest are the library's own, but are not repeated: a malformed message could be quoted in one.
        _ => Error::new(Kind::Unavailable, format!("the replication connection to {} broke", address.place())),
    }
}

/// What a slot that could not be made means.
pub(crate) fn making_slot(address: &Address, name: &str, error: tokio_postgres::Error) -> Error {
    if error.code().is_some_and(|code| code.code() == "53400") {
        return slots_taken(address);
    }
    asking(address, &format!("making the replication slot {name}"), error)
}

/// What a temporary slot that could not be made means.
pub(crate) fn making_temporary_slot(address: &Address, error: &PgWireError) -> Error {
    match error {
        PgWireError::Server(text) if sqlstate(text) == "53400" => slots_taken(address),
        error => streaming(address, error),
    }
}

fn slots_taken(address: &Address) -> Error {
    Error::new(Kind::Unavailable, format!("all replication slots of {} are taken", address.place())).fix(FREE_A_SLOT)
}

/// What to do when the server has no slot left.
pub(crate) const FREE_A_SLOT: &str = "Drop one that nobody uses (select * from pg_replication_slots where not active), or raise max_replication_slots and restart.";

/// The server accepted the connection and then said nothing.
pub(crate) fn silent(address: &Address) -> Error {
    unreachable(&address.place(), io::ErrorKind::TimedOut)
}

/// The server ended the stream without an error.
pub(crate) fn ended(address: &Address) -> Error {
    Error::new(Kind::Unavailable, format!("{} ended the stream", address.place()))
}

/// The code in `... (SQLSTATE 57P01)`; empty when there is none.
fn sqlstate(text: &str) -> &str {
    text.rsplit_once("SQLSTATE ").and_then(|(_, rest)| rest.get(..5)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_code_in_the_librarys_text() {
        assert_eq!(sqlstate("FATAL: terminating connection (SQLSTATE 57P01)"), "57P01");
        assert_eq!(sqlstate("no code"), "");
        assert_eq!(sqlstate("SQLSTATE 5"), "");
    }

    #[test]
    fn a_standby_that_may_still_be_promoted_is_tried_again() {
        let error = PgWireError::Server("logical decoding cannot be used (SQLSTATE 0A000)".into());
        assert_eq!(starting(&address(), "s", &error).kind(), Kind::Unavailable);
    }

    fn address() -> Address {
        let json = serde_json::json!({ "url": "postgresql://u@/d?host=/tmp", "slot": "s", "tables": ["a.b"] });
        Address::of(&serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_lost_is_not() {
        let address = address();
        for code in ["55P03", "40001", "40P01", "53100", "53200", "53300", "53400", "57P01", "57014", "58030", "08006"]
        {
            assert_eq!(by_code(&address, code).kind(), Kind::Unavailable, "{code}");
        }
        for (code, kind) in [("58P01", Kind::SourceGone), ("42703", Kind::Data), ("42501", Kind::Auth)] {
            assert_eq!(by_code(&address, code).kind(), kind, "{code}");
        }
    }
}
