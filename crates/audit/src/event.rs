use change::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Hash, Hex, Name, PublicKey};

/// What happened. Every field has a type with a known set of values, or is a number, a hash or the name of a table or column: there is no
/// room for a row value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The log was begun: its first entry.
    Begun {
        /// What was at its anchor.
        anchor: AnchorSeen,
        /// The newest head there, of a log before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former: Option<Former>,
        /// Why somebody set the log before aside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<Because>,
        /// What the last run of that one had in force, where its key proves it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_force: Option<InForce>,
    },
    /// Somebody set the log aside, and another one begins: its last entry, where its key was there to write it.
    Ended {
        /// Why.
        because: Because,
    },
    /// From here on entries carry MACs: the log was begun without.
    MacsBegun {},
    /// A process began to write the log.
    Opened {
        /// Which command.
        program: Program,
        /// The user of the machine who started it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Name>,
        /// SHA-256 of the `lockgate.yaml` that it goes by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<Hash>,
        /// The number of the FIPS module that it was built with, and proved to run in when it started; `None` for another build.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fips_module: Option<u32>,
    },
    /// A process has written all that it had to say.
    Closed {},
    /// A process lives and has nothing to say: once a minute.
    Heartbeat {},
    /// The last line was cut off, by a stop of the machine, and was taken away.
    Recovered {
        /// Bytes of the cut line.
        torn_bytes: u64,
    },
    /// Heads that had been signed were not among the log's any more: they were cut off, or the log was set back.
    HeadsMissing {
        /// Where they are known from.
        known: HeadsKnown,
        /// The number of the newest one that is known.
        head: u64,
        /// The number of the newest one that was left; 0 for none.
        left: u64,
    },
    /// A process had closed the log, and no head covered its end: a kill at that moment leaves it so, and who takes the last head away.
    ClosedUnsigned {
        /// Entries without a head.
        entries: u64,
    },
    /// The machine's clock went another way than time does.
    ClockJumped {
        /// How far, forward or back.
        micros: i64,
    },
    /// A run started.
    RunStarted {
        /// SHA-256 of `lockgate.yaml`.
        config: Hash,
        /// The compiled policy.
        policy: Hex,
        /// The epoch of new tokens.
        key_epoch: Option<u32>,
        /// The fingerprint of that epoch's key.
        key_fingerprint: Option<Hex>,
        /// Tables that take part.
        tables: u32,
    },
    /// A run ended.
    RunStopped {
        /// How.
        ending: RunEnding,
    },
    /// `lockgate.yaml` is another one than at the last start.
    ConfigChanged {
        /// SHA-256 of the file before.
        from: Hash,
        /// And now.
        to: Hash,
    },
    /// The policy does something else than at the last start.
    PolicyChanged {
        /// The compiled policy before.
        from: Hex,
        /// And now.
        to: Hex,
    },
    /// Somebody approved a policy, so that it may come into force.
    PolicyApproved {
        /// The user of the machine.
        by: Name,
        /// The user's number: one person counts once.
        number: u32,
        /// SHA-256 of `policy.yaml`.
        file: Hash,
        /// What it compiles to.
        policy: Hex,
    },
    /// Somebody who has not the role wanted to approve a policy.
    ApprovalRefused {
        /// The user of the machine.
        by: Name,
        /// SHA-256 of `policy.yaml`.
        file: Hash,
    },
    /// Somebody who has not the role wanted to run a command that needs it.
    Denied {
        /// The user of the machine.
        by: Name,
        /// The role.
        role: Role,
    },
    /// A policy was not put in force, because approvals of it were missing.
    PolicyRefused {
        /// SHA-256 of `policy.yaml`.
        file: Hash,
        /// So many different people had approved it.
        approvals: u32,
        /// And so many are needed.
        needed: u32,
    },
    /// A policy that does something else than the one before came into force; approvals of before count no more.
    PolicyInForce {
        /// SHA-256 of the `policy.yaml` before; `None` when none was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Hash>,
        /// And now.
        file: Hash,
        /// What it compiles to.
        policy: Hex,
        /// How many differences tell a reader more.
        loosens: u32,
        /// How many tell something else.
        alters: u32,
        /// How many tell less.
        tightens: u32,
        /// Who had approved it; nobody where no approval is asked for.
        approvers: Vec<Name>,
    },
    /// New tokens are made with another key than at the last start.
    KeyChanged {
        /// The fingerprint before.
        from: Option<Hex>,
        /// And now.
        to: Option<Hex>,
        /// The epoch now.
        epoch: Option<u32>,
    },
    /// Somebody asked which epochs of the key there are; never a key.
    KeysShown {},
    /// A new key was made and takes the place of another. It is written where the keys are, or where the user said.
    KeyRotated {
        /// The epoch before.
        from: u32,
        /// The epoch from here on.
        to: u32,
        /// The fingerprint of the new key.
        fingerprint: Hex,
        /// Somebody else may have the keys of before: what they made in these domains and tables is exposed.
        compromised: bool,
        /// The domains whose values they make.
        domains: Vec<Name>,
        /// The tables of the lake that carry what the key of the epoch before made, or any key when they are compromised.
        tables: Vec<Name>,
    },
    /// The keys as they are were written once more, so that a key manager opens them.
    KeysWrapped {
        /// The kind of manager, as references begin.
        manager: Name,
        /// SHA-256 of the written file.
        file: Hash,
    },
    /// A key that nothing needs any more was taken out of the file.
    KeyRetired {
        /// Its epoch.
        epoch: u32,
        /// Its fingerprint.
        fingerprint: Hex,
    },
    /// Records that are kept sealed were sealed under the current key.
    SealedAnew {
        /// The epoch.
        epoch: u32,
        /// How many were under another.
        records: u64,
    },
    /// Rows became durable.
    TableCommitted {
        /// The source table.
        table: Name,
        /// The version of the table of current rows before.
        from: Option<u64>,
        /// And now.
        version: Option<u64>,
        /// Changes that became durable in the change log in between.
        rows: u64,
        /// The policy that cleared them.
        policy: Hex,
    },
    /// The lake was away: rows of a source that had passed the gate began to wait on the local disk, sealed.
    SpoolFilled {
        /// The source.
        source: Name,
    },
    /// Everything that waited there is in the lake, and gone from the disk.
    SpoolDrained {
        /// The source.
        source: Name,
    },
    /// A table was stopped.
    TableStopped {
        /// The source table.
        table: Name,
        /// Why.
        reason: Reason,
    },
    /// The structure of a source table changed.
    SchemaChanged {
        /// The source table.
        table: Name,
    },
    /// Columns are not stored, because no rule names them.
    ColumnsDropped {
        /// The source table.
        table: Name,
        /// The columns.
        columns: Vec<Name>,
    },
    /// Somebody looked at rows that were held back, or decided on them.
    HeldDecided {
        /// What was done.
        action: HeldAction,
        /// The source table.
        table: Name,
        /// How many rows.
        rows: u64,
    },
    /// Somebody who has not the role wanted to turn stored values back into what they were.
    RevealRefused {
        /// The user of the machine.
        by: Name,
        /// What for.
        purpose: Purpose,
        /// The column.
        column: Name,
    },
    /// Somebody turned stored values back into what they were. Versions before [`Event::RevealRefused`] wrote a refusal as none of none.
    Revealed {
        /// The user of the machine who asked.
        by: Name,
        /// What for.
        purpose: Purpose,
        /// The column.
        column: Name,
        /// How many values were asked for.
        asked: u64,
        /// How many were opened.
        opened: u64,
    },
    /// A table was released in groups of at least k.
    Released {
        /// The source table.
        table: Name,
        /// Its version.
        version: u64,
        /// Rows of the release.
        rows: u64,
        /// The least persons or rows of a group.
        k: u32,
        /// The policy.
        policy: Hex,
        /// SHA-256 of the file.
        file: Hash,
    },
    /// Persons are to be erased; from here on their rows are kept out.
    EraseRequested {
        /// The request.
        request: Hex,
        /// The column by which the persons were named.
        subject: Name,
        /// How many persons.
        persons: u64,
        /// How many of those asked for are under legal hold and were left.
        on_hold: u64,
        /// When old versions go.
        purge: Purge,
    },
    /// The keys of persons' encrypted cells were destroyed: nobody can open them any more.
    DataKeysDestroyed {
        /// The request.
        request: Hex,
        /// How many keys.
        keys: u64,
    },
    /// Persons' rows are in no table's current version any more.
    Erased {
        /// The request.
        request: Hex,
        /// Rows that were taken out, in both tables of all source tables.
        rows: u64,
    },
    /// Persons' rows are in no object of the lake any more, and a scan has shown it.
    ErasePurged {
        /// The request.
        request: Hex,
        /// Objects that were scanned.
        objects: u64,
        /// SHA-256 of the receipt.
        receipt: Hash,
    },
    /// Persons came under legal hold.
    HoldPlaced {
        /// The column by which the persons were named.
        subject: Name,
        /// How many persons.
        persons: u64,
    },
    /// Persons are no longer under legal hold.
    HoldLifted {
        /// The column by which the persons were named.
        subject: Name,
        /// How many persons.
        persons: u64,
    },
    /// What a gap in the source's log had swallowed was written.
    Repaired {
        /// The source table.
        table: Name,
        /// Rows that were missing.
        inserted: u64,
        /// Rows that were otherwise.
        updated: u64,
        /// Rows that were no longer at the source.
        deleted: u64,
    },
    /// A table's stored rows were brought under another policy.
    Remasked {
        /// The source table.
        table: Name,
        /// The policy now.
        policy: Hex,
        /// Columns that changed.
        columns: Vec<Name>,
        /// The place in the source up to which the rows were there at the switch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Hex>,
        /// SHA-256 of the receipt.
        receipt: Hash,
    },
}

/// What the anchor had when a log was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorSeen {
    /// There is no anchor.
    #[default]
    None,
    /// It could not be asked.
    Away,
    /// No head that was signed with this key.
    Empty,
    /// A head of another log.
    Head,
}

impl Event {
    /// Whether it is what a renewal leaves at the end of the log that it sets aside, also when it is killed and done again.
    pub(crate) fn is_of_a_renewal(&self) -> bool {
        match self {
            Self::Opened { program, .. } => *program == Program::Audit,
            Self::Ended { .. }
            | Self::Closed {}
            | Self::Recovered { .. }
            | Self::HeadsMissing { .. }
            | Self::ClosedUnsigned { .. }
            | Self::ClockJumped { .. } => true,
            _ => false,
        }
    }
}

/// A head of a log before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// The log, see [`crate::Head::log`].
    pub log: Hash,
    /// The head's number.
    pub head: u64,
    /// SHA-256 of the head's bytes.
    pub hash: Hash,
    /// Entries that it covers.
    pub entries: u64,
    /// When it was signed, microseconds since the Unix epoch.
    pub at: Timestamp,
    /// Its key, where the log that names it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
}

/// What a run has in force: its [`Event::RunStarted`] says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// SHA-256 of `lockgate.yaml`.
    pub config: Hash,
    /// The compiled policy.
    pub policy: Hex,
    /// The epoch of new tokens.
    pub key_epoch: Option<u32>,
    /// The fingerprint of that epoch's key.
    pub key_fingerprint: Option<Hex>,
}

/// Why a log was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Its key is lost.
    KeyLost,
    /// Somebody else may have its key.
    KeyExposed,
    /// It is not what its writers left.
    Damaged,
}

/// Where a head is known from that the log lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadsKnown {
    /// An entry of the log, or the process that signed it.
    Log,
    /// The anchor.
    Anchor,
}

/// Which command wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `lockgate run`.
    Run,
    /// `lockgate erase`.
    Erase,
    /// `lockgate remask`.
    Remask,
    /// `lockgate held`.
    Held,
    /// `lockgate repair`.
    Repair,
    /// `lockgate keys`.
    Keys,
    /// `lockgate reveal`.
    Reveal,
    /// `lockgate release`.
    Release,
    /// `lockgate policy`.
    Policy,
    /// `lockgate audit`.
    Audit,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnding {
    /// Everything was durable, or it was told to stop.
    Done,
    /// It was told to stop before it had caught up.
    Interrupted,
    /// A command had to be alone; the run goes on after it.
    GaveWay,
    /// Some tables are stopped.
    Held,
    /// An error ended it.
    Failed(Reason),
}

/// Why something was refused or stopped: the kinds of [`change::Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of change::Kind")]
pub enum Reason {
    Config,
    Auth,
    Unavailable,
    SourceGone,
    Contract,
    Privacy,
    Conflict,
    Data,
    Full,
    Bug,
}

impl From<change::Kind> for Reason {
    fn from(kind: change::Kind) -> Self {
        use change::Kind;
        match kind {
            Kind::Config => Self::Config,
            Kind::Auth => Self::Auth,
            Kind::Unavailable => Self::Unavailable,
            Kind::SourceGone => Self::SourceGone,
            Kind::Contract => Self::Contract,
            Kind::Privacy => Self::Privacy,
            Kind::Conflict => Self::Conflict,
            Kind::Data => Self::Data,
            Kind::Full => Self::Full,
            Kind::Bug => Self::Bug,
        }
    }
}

/// What a user of the machine may do. Opening stored values and approving policies have refusals of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Run, repair, remask, release.
    Operate,
    /// Make, retire and wrap keys.
    Keys,
    /// See held rows and decide about them.
    Held,
    /// Erase persons, place and lift legal holds.
    Erase,
    /// Set the audit log aside.
    Audit,
}

/// What somebody needs an opened value for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Treatment of the person.
    Treatment,
    /// Payment of a claim.
    Payment,
    /// Operations: quality, support.
    Operations,
    /// The person asked for what is known of them.
    Access,
    /// A court or an authority asked.
    Legal,
    /// An incident is looked into.
    Incident,
}

/// What was done with rows that were held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldAction {
    /// They were shown to somebody.
    Shown,
    /// They went through the gate again.
    Released,
    /// They were thrown away.
    Dropped,
    /// Their time was up.
    Expired,
}

/// When the versions of a table that still show erased rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purge {
    /// At once: nobody can read older versions of these tables any more.
    Now,
    /// When the time for which versions are kept is over.
    After,
}
