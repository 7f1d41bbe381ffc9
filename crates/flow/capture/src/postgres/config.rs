use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use change::{Problem, Result, Severity, TableName};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::dsn::Dsn;
use super::types::OnUnfit;

/// A secret that was already resolved (`${env:...}` and its like are the caller's). `Debug` hides it; nothing prints it; it is zeroed when
/// it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a resolved secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A Postgres database as `lockgate.yaml` declares it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The source's name in `lockgate.yaml`: the first level of every table's name, and the name of the stream. Not read from the
    /// connector's own section: the caller fills it in.
    #[serde(skip)]
    pub source: String,
    /// `postgresql://user@host:port/database?sslmode=verify-full`, without a password.
    pub url: String,
    /// The password of the user in `url`; not needed with `peer`, `trust` or a client certificate.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The logical replication slot; made if missing. Letters, digits and underscores, lower case.
    pub slot: String,
    /// The publication; made if missing. The slot's name when not given.
    #[serde(default)]
    pub publication: Option<String>,
    /// The tables to follow: `schema.table`, or a pattern with `*` in either part.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Tables that are not followed now and will be: the publication keeps them, for the slot keeps their log. Not read from the connector's own
    /// section: the caller fills it in.
    #[serde(skip)]
    pub kept: Vec<String>,
    /// PEM file with the certificates to trust; the public (Mozilla) roots when neither this nor the URL names one.
    #[serde(default)]
    pub sslrootcert: Option<PathBuf>,
    /// PEM file with the client certificate.
    #[serde(default)]
    pub sslcert: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    #[serde(default)]
    pub sslkey: Option<PathBuf>,
    /// How much log the source may keep for us.
    #[serde(default)]
    pub wal_budget: WalBudget,
    /// How the first copy reads.
    #[serde(default)]
    pub copy: CopyConfig,
    /// What happens to a value that the lake's type cannot hold.
    #[serde(default)]
    pub on_unfit: OnUnfit,
}

/// How much log the source may keep for us before someone is told, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WalBudget {
    /// Retained log from which on a warning is given.
    pub warn: ByteSize,
    /// Retained log from which on the policy applies.
    pub critical: ByteSize,
    /// What is done at the critical level.
    pub policy: WalPolicy,
}

impl Default for WalBudget {
    fn default() -> Self {
        Self { warn: ByteSize(4 << 30), critical: ByteSize(10 << 30), policy: WalPolicy::Spool }
    }
}

/// How the retained log stands to its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BudgetLevel {
    /// Below the warning.
    Within,
    /// At or above the warning.
    Warn,
    /// At or above the critical level: the policy applies.
    Critical,
}

impl WalBudget {
    /// The level that so many retained bytes reach.
    pub fn level(&self, retained_bytes: u64) -> BudgetLevel {
        if retained_bytes >= self.critical.0 {
            BudgetLevel::Critical
        } else if retained_bytes >= self.warn.0 {
            BudgetLevel::Warn
        } else {
            BudgetLevel::Within
        }
    }
}

/// What is done when the source keeps more log for us than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalPolicy {
    /// Nothing is given up: the slot stays, retries go on, and the status says so until an operator acts.
    Pause,
    /// While the lake is away, keep draining the log into a sealed spool on the local disk.
    Spool,
    /// Drop the slot, so that the server's disk is safe, and stop: the tables are compared with the source afterwards.
    DropAndRepair,
}

/// A number of bytes: `4GiB`, `512MiB`, `10GB`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(bytes) => Ok(Self(bytes)),
            Form::Text(text) => parse_bytes(&text).map(Self).ok_or_else(|| {
                serde::de::Error::custom("a size is written as 4GiB, 512MiB, 10GB or a number of bytes")
            }),
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// How the first copy reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CopyConfig {
    /// Tables that are copied at the same time, a connection each.
    pub parallel: usize,
    /// Rows that a chunk should hold: what has to be read again after a crash.
    pub chunk_rows: u64,
    /// Tables of which a row can take a good part of a second on its way: their chunks are small, because each is read in one transaction.
    #[serde(skip)]
    pub slow: BTreeSet<TableName>,
}

/// Rows of a chunk of a slow table at most.
pub const SLOW_CHUNK_ROWS: u64 = 500;

impl CopyConfig {
    /// Rows that a chunk of the table should hold.
    pub(crate) fn chunk_rows_of(&self, table: &TableName) -> u64 {
        if self.slow.contains(table) { self.chunk_rows.min(SLOW_CHUNK_ROWS) } else { self.chunk_rows }
    }
}

impl Default for CopyConfig {
    fn default() -> Self {
        Self { parallel: 2, chunk_rows: 500_000, slow: BTreeSet::new() }
    }
}

impl PostgresConfig {
    /// Everything that is wrong with the declaration, found without connecting. Only `what` and `fix` are set: the caller knows the file.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems_by_field().into_iter().map(|(_, problem)| problem).collect()
    }

    /// As [`PostgresConfig::problems`], each with the field that it is about.
    pub fn problems_by_field(&self) -> Vec<(&'static str, Problem)> {
        let mut found = Vec::new();
        match Dsn::parse(&self.url) {
            Ok(dsn) => self.connection_problems(&dsn, &mut found),
            Err(wrong) => found.push(("url", problem(wrong.what(), wrong.how_to_fix().unwrap_or_default()))),
        }
        if !is_slot_name(&self.slot) {
            let what = format!("{:?} cannot be the name of a replication slot", self.slot);
            found.push(("slot", problem(&what, "Use 1 to 63 lower-case letters, digits and underscores.")));
        }
        if self.publication().contains([',', ' ', '\'', '"']) {
            let what = format!("the publication {:?} cannot be named in a replication command", self.publication());
            found.push(("publication", problem(&what, "Use letters, digits and underscores.")));
        }
        self.table_problems(&mut found);
        self.limit_problems(&mut found);
        found
    }

    /// The publication's name.
    pub fn publication(&self) -> &str {
        self.publication.as_deref().unwrap_or(&self.slot)
    }

    fn connection_problems(&self, dsn: &Dsn, found: &mut Vec<(&'static str, Problem)>) {
        let mut add = |field, what: &str, fix| found.push((field, problem(what, fix)));
        if dsn.has_password {
            add(
                "url",
                "the source's `url` carries a password",
                "Take it out of the url and write `password: ${env:NAME}` (or ${file:PATH}) beside it.",
            );
        }
        match dsn.sslmode.as_deref() {
            Some("verify-full") if dsn.is_unix_socket() => add(
                "url",
                "sslmode=verify-full does not apply to a Unix socket",
                "Take `sslmode` out of the url: a socket's bytes do not leave the machine.",
            ),
            None | Some("verify-full") => {}
            Some("disable") if dsn.is_local() => {}
            Some(mode @ ("disable" | "allow" | "prefer" | "require" | "verify-ca")) => add(
                "url",
                &format!("sslmode={mode} would let someone on the network to {} read or change the rows", dsn.host),
                "Use sslmode=verify-full, with `sslrootcert` when the server's certificate is signed by a private authority.",
            ),
            Some(mode) => add(
                "url",
                &format!("sslmode={mode} does not exist"),
                "Use sslmode=verify-full; sslmode=disable is allowed on a loopback address.",
            ),
        }
        let files = TlsFiles::of(self, dsn);
        if files.certificate.is_some() != files.key.is_some() {
            let given = if files.certificate.is_some() { "sslcert" } else { "sslkey" };
            add(given, "a client certificate needs both `sslcert` and `sslkey`", "Give both files, or neither.");
        }
    }

    /// A table's name may hold dots of its own: what is before the first is the schema.
    fn table_problems(&self, found: &mut Vec<(&'static str, Problem)>) {
        let mut add = |what: &str, fix: &str| found.push(("tables", problem(what, fix)));
        if self.tables.is_empty() {
            add("the source names no tables", "List them under `tables`: schema.table, or schema.*");
        }
        for pattern in &self.tables {
            match pattern.split_once('.') {
                Some((schema, table)) if schema == self.source && table.contains('.') => {
                    add(&format!("`{pattern}` names the source, too"), &format!("Write `{table}`."));
                }
                Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {}
                _ => add(&format!("`{pattern}` is not a table"), "Write schema.table, or a pattern such as public.*"),
            }
        }
    }

    fn limit_problems(&self, found: &mut Vec<(&'static str, Problem)>) {
        let budget = &self.wal_budget;
        if budget.warn > budget.critical {
            let what = "`wal_budget.warn` lies above `wal_budget.critical`";
            found.push(("wal_budget", problem(what, "Make `warn` the smaller one.")));
        }
        if self.copy.parallel == 0 || self.copy.chunk_rows == 0 {
            let what = "`copy.parallel` and `copy.chunk_rows` must be at least 1";
            found.push(("copy", problem(what, "Raise the one that is 0.")));
        }
    }
}

/// The TLS files that apply: those of the section, else those of the URL.
pub(crate) struct TlsFiles {
    pub(crate) roots: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    pub(crate) fn of(config: &PostgresConfig, dsn: &Dsn) -> Self {
        let choose =
            |own: &Option<PathBuf>, url: &Option<String>| own.clone().or_else(|| url.as_ref().map(PathBuf::from));
        Self {
            roots: choose(&config.sslrootcert, &dsn.sslrootcert),
            certificate: choose(&config.sslcert, &dsn.sslcert),
            key: choose(&config.sslkey, &dsn.sslkey),
        }
    }
}

fn is_slot_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

pub(crate) fn problem(what: &str, fix: &str) -> Problem {
    Problem { severity: Severity::Error, file: String::new(), line: None, what: what.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests;
