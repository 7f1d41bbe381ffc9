//! The command line: names, options and their help. No work is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Production databases in, masked Delta Lake tables out: exactly once, in seconds, with no raw personal data stored.
///
/// Lockgate reads a database's log, passes every row through one gate (contract, masking, quality) and keeps Delta Lake tables
/// current. It is configured by a project folder: lockgate.yaml says what is read and where it goes, policy.yaml says how every
/// column is masked. A column that the policy does not name is never stored.
#[derive(Parser, Debug)]
#[command(name = "lockgate", version, long_version = crate::fips::VERSION.as_str(), max_term_width = 100, after_long_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options that every command takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// The project folder, with lockgate.yaml and policy.yaml
    #[arg(long, global = true, default_value = ".", value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// What is logged to standard error: a level, or targets with levels as in RUST_LOG
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
    /// The form of log lines
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// The form of log lines.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for machines
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Watch the main job, end to end, on a private Postgres with live changes
    Demo(Demo),
    /// Write a starter project folder; propose a transform for every column of a live database
    Init(Init),
    /// Show everything that is wrong with the project folder at once, with file and line
    Check(Check),
    /// Copy the tables, then follow the database's log until told to stop
    ///
    /// Stands aside for commands that have to be alone (erase, remask, repair, keys rotate, keys retire, audit renew): gives its turn at a boundary, waits,
    /// and goes on with everything read anew. With --once it goes on to its end, and they wait.
    Run(Run),
    /// Show the lag of every source, rows and version of every table, what is stopped, and the last error of the run
    Status(Status),
    /// Ask the lake in SQL
    Query(Query),
    /// Release a table with a k_gate: groups that are too small are made coarser, or left out
    ///
    /// Writes rows.parquet and release.json into a new folder: the rows that the lake has now, without Lockgate's own columns. The whole table
    /// is read twice. `lockgate query` answers nothing about such a table.
    Release(Release),
    /// Compare the lake with its sources, row by row
    ///
    /// The sources' rows pass the same gate and are compared as what they become. Exit code 0 when everything is equal, 1 when something
    /// differs or could not be compared. May be used beside a run: what changes meanwhile is looked at again.
    Verify(Verify),
    /// After a lost slot: make a new one, and write what differs between the lake and its source
    ///
    /// No row that is equal is written. The change log records what was found as inserts, updates and deletes. A run in
    /// the folder stands aside; a repair that was interrupted goes on where it was when it is started again, and no run starts before it is finished.
    Repair(Repair),
    /// Say in words what the policy does, what a change of it means, and show it on made-up values
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Erase persons from every table, its history and the vault, and keep them out
    ///
    /// The persons are named by identifiers as the source spells them, one a line, on standard input or in a file: never on the command
    /// line, which every user of the machine can read and which shells write down. Inside the process they become tokens, and are forgotten.
    ///
    /// First nobody of them passes the gate any more: no replay, late change or new copy brings them back. Then their rows go from the newest
    /// version of every table with a column of the same domain, current rows and change log alike; then from every older version, by
    /// removing those tables' history; then every object of the lake is searched for their tokens, and a receipt says that none is left.
    ///
    /// A run in the folder stands aside meanwhile. A kill at any moment is mended by doing it again, or by --due.
    Erase(Erase),
    /// Bring stored rows under a stricter policy or the new epoch of the key, from the lake alone
    ///
    /// Rows that are stored keep the rule under which they came in; a run refuses to mix two. Where the new rule drops a column, or transforms
    /// one that was kept, this writes the table's files again as the policy wants them now, and removes its history: nobody can read it as it
    /// was. After `lockgate keys rotate` it brings stored tokens to the new epoch in the same way, and seals anew what the project keeps sealed.
    /// What cannot be computed from what is stored (a column that was dropped, another domain) is said: copy such a table anew.
    ///
    /// Most of it is done beside a run, under the policy that the run has read. It stands aside for the switch, and goes on under the new one.
    /// After a kill the same command goes on.
    Remask(Remask),
    /// Turn stored tokens and encrypted cells back into what they were; written down in the audit log
    ///
    /// Only for users whom lockgate.yaml names under `roles: { reveal: [...] }`. The answer has one line for each line that was asked: the
    /// value, or nothing for what does not open. Exit code 1 when some did not, 3 when the user has not the role.
    Reveal(Reveal),
    /// Show the epochs of the key, rotate it, take out one that nothing needs; wrap the keys for a cloud's key manager
    ///
    /// Keys are never printed. Rotating and retiring work alone: a run in this folder stands aside, and goes on with the new keys.
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// Prove the audit log, sum it up for a review, or list what is in it
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Look at rows that the gate held back, and decide about them
    ///
    /// Under `on_invalid: hold` a row with a value that its transform cannot read stays out of the lake, and so does everything that
    /// follows on the same key. It is kept sealed in the project's state folder until it is released, dropped, or too old.
    Held {
        #[command(subcommand)]
        command: Held,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of `lockgate demo`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Demo {
    /// How long changes are made, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) seconds: u64,
    /// Rows that the first copy finds, in all tables together
    #[arg(long, default_value_t = 200_000, value_name = "ROWS")]
    pub(crate) rows: u64,
    /// Changes made a second
    #[arg(long, default_value_t = 500, value_name = "CHANGES")]
    pub(crate) rate: u64,
    /// Seed of the made-up people and claims
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Folder of the Postgres programs (initdb, postgres); found by itself when not given
    #[arg(long, value_name = "FOLDER")]
    pub(crate) postgres_bin: Option<PathBuf>,
}

/// Options of `lockgate keys wrap`.
#[derive(Args, Debug, Clone)]
pub(crate) struct WrapKeys {
    /// The manager's key and the file to write: aws-kms:KEY#FILE, gcp-kms:KEY#FILE or azure-kv:KEY#FILE
    #[arg(value_name = "REFERENCE")]
    pub(crate) into: String,
    /// Where the keys are, when not where policy.yaml says: file:./keys/dev.key
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) from: Option<String>,
}

/// Options of `lockgate init`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Init {
    /// The database: postgresql://user@host:5432/database?sslmode=verify-full
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<String>,
    /// Where the password is: ${env:NAME} or ${file:PATH}; never the password itself
    #[arg(long, value_name = "REFERENCE", default_value = "${env:LOCKGATE_SOURCE_PASSWORD}")]
    pub(crate) password: String,
    /// Tables or patterns: public.claims, public.*
    #[arg(long, value_name = "PATTERN", default_value = "public.*", value_delimiter = ',')]
    pub(crate) tables: Vec<String>,
    /// The source's name in the project and in the lake
    #[arg(long, value_name = "NAME", default_value = "source")]
    pub(crate) name: String,
}

/// Options of `lockgate check`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Check {
    /// Also ask the databases: grants, log settings, tables, columns, types
    #[arg(long)]
    pub(crate) connect: bool,
}

/// Options of `lockgate run`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Run {
    /// Stop when everything that the source had committed at start is in the lake
    #[arg(long)]
    pub(crate) once: bool,
    /// Only this table (schema.table, or source.schema.table); may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    /// Progress as one JSON object a line on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a comparison may take.
#[derive(Args, Debug, Clone)]
pub(crate) struct CompareLimits {
    /// Read at most so many rows a second from a source
    #[arg(long, value_name = "ROWS_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Memory for rows that are compared one by one, in MiB; a larger table is compared in parts
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) memory: u64,
}

/// Options of `lockgate verify`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Verify {
    /// Only this table (schema.table, or source.schema.table); may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: CompareLimits,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `lockgate repair`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Repair {
    /// Only this table (schema.table, or source.schema.table); may be repeated. The others have to be repaired before a run goes on
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: CompareLimits,
    /// Also when the log goes on without a gap (after somebody else wrote the lake's tables), or the same data lies on another server
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `lockgate status`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `lockgate query`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Query {
    /// The statement: SELECT ... FROM claims_db.public.claims
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// The tables as they were: a version number, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) at: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    pub(crate) format: QueryFormat,
}

/// What to do with a policy. None of it reads a key or a row, and only `grants` asks a database.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Policy {
    /// Print what becomes of every column and why, and of each of the 18 classes of identifiers
    ///
    /// The class of a column is what its rule declares (`class: G`), else what its name gives away. A column that the policy does not
    /// name is not stored, and so not in the list.
    Explain {
        /// Only this table (schema.table, or source.schema.table); may be repeated
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
    },
    /// Print what differs between two policies, and whether a reader of the lake learns more or less
    ///
    /// Rows that are in the lake already stay as they are: a change holds for rows that pass from then on.
    Diff {
        /// The policy before the change
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The policy after the change; the project's when not given
        #[arg(value_name = "NEW")]
        new: Option<PathBuf>,
    },
    /// Print what differs from the policy in force, or approve the policy; written down in the audit log
    ///
    /// Where lockgate.yaml names users under `roles: { approve: [...] }`, a run starts under another policy than the one in force only once
    /// they have approved it: two of them when it loosens or alters anything, one when it only tightens. Without --hash nothing is approved.
    Approve {
        /// The first 12 or more digits of the hash that this command prints: the policy that you have looked at
        #[arg(long, value_name = "DIGITS")]
        hash: Option<String>,
    },
    /// Print the statements that keep in the database what the policy drops
    ///
    /// For the owner of the source's tables: a publication with column lists, and the right to read the columns that rules use and no others.
    /// Reads the source's catalog and changes nothing. Tables that are published anew are copied anew by the next run.
    Grants {
        /// The source; needed when there are several, for each is a database of its own
        #[arg(value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Print made-up values before and after the policy
    ///
    /// No real row is read, and the keys are made up too: tokens differ from those of a run.
    Test {
        /// Only this table (schema.table, or source.schema.table); may be repeated
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
    },
}

/// Options of `lockgate erase`.
#[derive(Args, Debug, Clone)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Erase {
    /// The column that names the persons: claims_db.public.members.member_id
    #[arg(long, value_name = "SOURCE.SCHEMA.TABLE.COLUMN", group = "what")]
    pub(crate) subject: Option<String>,
    /// Go on with what was interrupted or has become due
    #[arg(long, group = "what")]
    pub(crate) due: bool,
    /// A file with one identifier a line; standard input when not given
    #[arg(long, value_name = "FILE", requires = "subject")]
    pub(crate) ids: Option<PathBuf>,
    /// When older versions of the tables go: now, or after the seven days for which versions can be read
    #[arg(long, value_enum, default_value_t = PurgeWhen::Now)]
    pub(crate) purge: PurgeWhen,
    /// Erase nobody: put the persons on legal hold, so that no request erases them
    #[arg(long, requires = "subject", conflicts_with_all = ["lift", "due"])]
    pub(crate) hold: bool,
    /// Erase nobody: lift the legal hold of the persons
    #[arg(long, requires = "subject", conflicts_with = "due")]
    pub(crate) lift: bool,
}

/// When versions that still show erased rows go.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PurgeWhen {
    /// At once: these tables cannot be read as they were before
    Now,
    /// When the time for which versions are kept is over: run `lockgate erase --due` then
    After,
}

/// Options of `lockgate release`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Release {
    /// The table: schema.table, or source.schema.table
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// A folder that is empty or not there
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
}

/// Options of `lockgate reveal`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Reveal {
    /// The column that the values are of, with siv_token, fpe_ff1 or encrypt_cell: claims_db.public.members.ssn
    #[arg(long, value_name = "SOURCE.SCHEMA.TABLE.COLUMN")]
    pub(crate) column: String,
    /// What for
    #[arg(long, value_enum)]
    pub(crate) purpose: PurposeOf,
    /// A file with one token, or one cell in hexadecimal digits, a line; standard input when not given
    #[arg(long, value_name = "FILE")]
    pub(crate) values: Option<PathBuf>,
    /// The key epoch of values of fpe_ff1, which do not tell it; needed when the key file has several keys
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u32>,
}

/// What opened values are needed for.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PurposeOf {
    /// Treatment of the person
    Treatment,
    /// Payment of a claim
    Payment,
    /// Quality, support
    Operations,
    /// The person asked for what is known of them
    Access,
    /// A court or an authority asked
    Legal,
    /// An incident is looked into
    Incident,
}

/// Why an audit log is set aside.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BecauseOf {
    /// Its key is lost, and there is no copy
    KeyLost,
    /// Somebody else may have its key
    KeyExposed,
    /// It is not what its writers left; the key stays
    Damaged,
}

/// Options of `lockgate remask`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Remask {
    /// Only this table (schema.table, or source.schema.table); may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
}

/// What to do with the keys.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Keys {
    /// Print every epoch: since when, its fingerprint, and what still needs it
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new key, whose tokens wrap those of the one before, and make it the current one
    ///
    /// A key file is written in its place. Where the keys are in a variable or with a manager, the new text goes into --out, with what to
    /// do next. Then run `lockgate remask`: it brings stored tokens to the new epoch, from the lake alone; until then tables with tokens
    /// are stopped and the source keeps their changes.
    Rotate {
        /// Somebody else may have the keys of now: no run starts before the tables are remasked
        #[arg(long)]
        compromised: bool,
        /// A new file for the text of the keys, mode 0600; needed unless the keys are a file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take the key of an epoch out of the file, when no table, rule, held row or sealed record needs it
    Retire {
        /// The number that `lockgate keys show` prints
        #[arg(value_name = "EPOCH")]
        epoch: u32,
        /// A new file for the text of the keys, mode 0600; needed unless the keys are a file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write the key file anew, wrapped by a key of AWS KMS, Google Cloud KMS or Azure Key Vault
    ///
    /// The keys are those that `keys` of policy.yaml names now. They are encrypted under a random key, that key by the manager, and the
    /// file is opened again before it is said to be done. The same command takes them to another key of the manager. No token changes.
    Wrap(WrapKeys),
}

/// What to do with the audit log. None needs a database or the lake, and only `renew` the project's configuration.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Audit {
    /// Prove that nothing in the audit log was changed, put in, taken out or cut off
    ///
    /// Works offline, on a copy of the folder .lockgate/audit too. Give --key the public key that you keep yourself, and --anchor the
    /// place to which signed heads are copied: with the log's own copy of the key, a forger who exchanged both is not seen; without an
    /// anchor, a log that was set back to an earlier end, or thrown away, is not. Exit code 1 when anything is found.
    Verify {
        #[command(flatten)]
        evidence: AuditEvidence,
        /// A report that `audit report --out FILE` wrote, whose signature lies beside it; may be given several times
        #[arg(long, value_name = "FILE")]
        report: Vec<PathBuf>,
    },
    /// Prove the audit log, and sum up a span of time for whoever reviews it
    ///
    /// Per user of the machine and program: how often each kind of event; values that were opened or refused, for which purpose; keys that
    /// were shown or rotated; held rows that were decided on; erasures; changes of the policy; runs; and what the proof has found. Exit code
    /// 1 when the log is not proven.
    Report {
        #[command(flatten)]
        evidence: AuditEvidence,
        /// From when on: 2026-11-15 (0:00 UTC) or 2026-11-15T12:00:00Z; a week before the end when not given
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Up to when, this moment not included; now when not given
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Write the report to a new file too, and its signature with the key of the audit log beside it, as FILE.sig
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Set the log aside and begin another one, which says why
    ///
    /// The folder .lockgate/audit gets another name and stays as it is; the new log's first entry names it, its newest head, its key where
    /// that changes, and the reason. Where the old key is there, the old log's last entry says so too. From then on `audit verify` proves both,
    /// and what was wrong with the old one it says for good. Where approvals of policies are asked for, two approve the policy as it is.
    Renew {
        /// The reason
        #[arg(long, value_name = "REASON")]
        because: BecauseOf,
    },
    /// Print the last entries
    List {
        /// The log's folder or file; the project's when not given
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// How many
        #[arg(long, default_value_t = 50, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..))]
        last: u64,
        /// As they stand in the file: one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// What the audit log is proven with.
#[derive(Args, Debug, Clone)]
pub(crate) struct AuditEvidence {
    /// The log's folder or file; the project's when not given
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// The kept folder of a log before this one, which is proven with it; may be given several times. When neither this nor --file is given:
    /// those that `audit renew` has set aside in the project
    #[arg(long, value_name = "FOLDER")]
    pub(crate) before: Vec<PathBuf>,
    /// Where copies of signed heads are: a folder or URL; the project's when not given
    #[arg(long, value_name = "PLACE")]
    pub(crate) anchor: Option<String>,
    /// The public key: 64 digits, or a file that holds them; the file of the signing key proves the MACs of the youngest entries too. Given
    /// several times: the key of the log first, then those of logs before it
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
}

/// What to do with held rows. No raw value is ever printed.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Held {
    /// Print which rows are held, where they were and why; no values
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a held row as the policy would let it into the lake, and what it cannot read
    Show {
        /// The row's number in the list
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// Let rows in, under the policy of now, in the order in which they were held
    ///
    /// The rows are marked; the running `lockgate run`, or else the next one, takes them in at a boundary. A row waits for earlier
    /// ones of its key. One that still cannot be read is held again. After a change of the policy start the run again before: it has the
    /// policy that it read at its start.
    Release(Chosen),
    /// Erase rows for good: the lake will never have them
    Drop(Chosen),
}

/// Which held rows.
#[derive(Args, Debug, Clone)]
pub(crate) struct Chosen {
    /// The rows' numbers in the list
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<i64>,
    /// Every held row
    #[arg(long)]
    pub(crate) all: bool,
}

/// The form of a query's answer.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryFormat {
    /// For people
    Table,
    /// Comma-separated, with a header line
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file on standard output
    Parquet,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  you must fix something (the message says what)
  2  the command line is wrong
  3  held: quality or privacy stopped it
  4  unavailable: trying again may help";
