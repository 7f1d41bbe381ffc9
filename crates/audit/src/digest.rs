//! What a log has of a span of time, summed up for whoever reviews it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};
use serde::Serialize;

use crate::entry::{Entry, Line};
use crate::{Event, Hex, Name, Program, Role, RunEnding, utc};

/// Entries of a span of time, by who started the program that wrote them. It has what the log has: names, counts and hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The first moment that belongs to it, microseconds since the Unix epoch.
    pub since: Timestamp,
    /// The first that does not.
    pub until: Timestamp,
    /// Entries in between.
    pub entries: u64,
    /// Entries of kinds that this version does not know, whenever they were written.
    pub unknown: u64,
    /// What each did.
    pub principals: BTreeMap<Principal, Acts>,
}

/// A user of the machine with a program. Unknown is what the log does not say: who started it is in it since entries carry MACs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Principal {
    /// The user.
    pub by: Option<Name>,
    /// The program.
    pub program: Option<Program>,
}

/// What somebody did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// How often each kind of event.
    pub events: BTreeMap<String, u64>,
    /// What was done, under its subject and in words.
    pub sums: BTreeMap<(Subject, String), Sum>,
}

/// What an act is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Stored values that were opened, or not.
    Reveals,
    /// Keys.
    Keys,
    /// Rows that were held back.
    Held,
    /// Persons, and their legal holds.
    Erasures,
    /// Releases in groups.
    Releases,
    /// Policy and configuration.
    Policy,
    /// Runs.
    Runs,
    /// Tables.
    Tables,
    /// The log itself.
    Log,
}

/// Equal acts, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub times: u64,
    /// When the first and the last were.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Their counts.
    pub amounts: BTreeMap<&'static str, u64>,
}

impl Digest {
    /// An empty one.
    pub fn new(since: Timestamp, until: Timestamp) -> Self {
        Self { since, until, entries: 0, unknown: 0, principals: BTreeMap::new() }
    }

    /// Adds the first `entries` lines of a log: what was proven, and not what has come since.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub fn add<L: BufRead>(&mut self, log: L, entries: u64) -> Result<()> {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        let mut writers: HashMap<Hex, Writer> = HashMap::new();
        for line in log.split(b'\n').take(usize::try_from(entries).unwrap_or(usize::MAX)) {
            let line = line.map_err(unreadable)?;
            let Some(entry) = Line::read(&line).and_then(|line| serde_json::from_slice::<Entry>(line.body).ok()) else {
                self.unknown += 1;
                continue;
            };
            let writer = writers.entry(entry.writer).or_default();
            if let Event::Opened { program, by, .. } = &entry.what {
                let principal = Principal { by: by.clone(), program: Some(*program) };
                writer.waiting.drain(..).for_each(|(at, event)| self.take(&principal, at, &event));
                writer.principal = Some(principal);
            }
            if (self.since..self.until).contains(&entry.at) {
                match &writer.principal {
                    Some(principal) => self.take(principal, entry.at, &entry.what),
                    None => writer.waiting.push((entry.at, entry.what)),
                }
            }
        }
        for (at, event) in writers.into_values().flat_map(|writer| writer.waiting) {
            self.take(&Principal::default(), at, &event);
        }
        Ok(())
    }

    fn take(&mut self, writer: &Principal, at: Timestamp, event: &Event) {
        self.entries += 1;
        let mut principal = writer.clone();
        if let (None, Event::Revealed { by, .. } | Event::RevealRefused { by, .. }) = (&principal.by, event) {
            principal.by = Some(by.clone());
        }
        let acts = self.principals.entry(principal).or_default();
        *acts.events.entry(kind(event)).or_default() += 1;
        let Some((subject, words, amounts)) = act(event) else { return };
        let sum = acts.sums.entry((subject, words)).or_default();
        sum.times += 1;
        let (first, last) = sum.span.unwrap_or((at, at));
        sum.span = Some((first.min(at), last.max(at)));
        for (what, amount) in amounts {
            let total = sum.amounts.entry(what).or_default();
            *total = total.saturating_add(amount);
        }
    }
}

/// Who writes, and what they wrote before they said who they are.
#[derive(Default)]
struct Writer {
    principal: Option<Principal>,
    waiting: Vec<(Timestamp, Event)>,
}

/// The word for an event in the log.
fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value["event"].as_str().unwrap_or_default().to_owned()
}

/// The word for a value of a fixed set.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).unwrap_or_default().as_str().unwrap_or_default().to_owned()
}

type Act = (Subject, String, Vec<(&'static str, u64)>);

fn act(event: &Event) -> Option<Act> {
    of_access(event).or_else(|| of_persons(event)).or_else(|| of_rules(event)).or_else(|| of_tables(event))
}

fn of_access(event: &Event) -> Option<Act> {
    Some(match event {
        Event::Revealed { purpose, column, asked, opened, .. } => {
            let amounts = vec![("asked", *asked), ("opened", *opened)];
            (Subject::Reveals, format!("{} for {}", column.as_str(), word(purpose)), amounts)
        }
        Event::RevealRefused { purpose, column, .. } => {
            (Subject::Reveals, format!("{} for {}: refused", column.as_str(), word(purpose)), vec![])
        }
        Event::Denied { role, .. } => {
            let (subject, what) = match role {
                Role::Operate => (Subject::Runs, "operate"),
                Role::Keys => (Subject::Keys, "change keys"),
                Role::Held => (Subject::Held, "see held rows"),
                Role::Erase => (Subject::Erasures, "erase"),
                Role::Audit => (Subject::Log, "set it aside"),
            };
            (subject, format!("may not {what}: refused"), vec![])
        }
        Event::KeysShown {} => (Subject::Keys, "epochs shown".into(), vec![]),
        Event::KeyRotated { from, to, fingerprint, compromised, domains, tables } => {
            let compromised = if *compromised { ", compromised" } else { "" };
            let words = format!("rotated from epoch {from} to {to}, fingerprint {}{compromised}", fingerprint.as_str());
            (Subject::Keys, words, vec![("domains", domains.len() as u64), ("tables", tables.len() as u64)])
        }
        Event::KeysWrapped { manager, file } => {
            (Subject::Keys, format!("wrapped for {}, file {file}", manager.as_str()), vec![])
        }
        Event::KeyRetired { epoch, fingerprint } => {
            (Subject::Keys, format!("epoch {epoch} retired, fingerprint {}", fingerprint.as_str()), vec![])
        }
        Event::SealedAnew { epoch, records } => {
            (Subject::Keys, format!("sealed anew under epoch {epoch}"), vec![("records", *records)])
        }
        Event::KeyChanged { from, to, epoch } => {
            let name = |key: &Option<Hex>| key.as_ref().map_or("none", Hex::as_str).to_owned();
            let epoch = epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
            (Subject::Keys, format!("new tokens from fingerprint {} to {}{epoch}", name(from), name(to)), vec![])
        }
        Event::HeldDecided { action, table, rows } => {
            (Subject::Held, format!("{} of {}", word(action), table.as_str()), vec![("rows", *rows)])
        }
        Event::Released { table, version, rows, k, policy, file } => {
            let (table, policy) = (table.as_str(), policy.as_str());
            let words = format!("{table} version {version}, groups of {k}, policy {policy}, file {file}");
            (Subject::Releases, words, vec![("rows", *rows)])
        }
        _ => return None,
    })
}

fn of_persons(event: &Event) -> Option<Act> {
    let request = |request: &Hex, what: &str| format!("request {}: {what}", request.as_str());
    let (words, amounts) = match event {
        Event::EraseRequested { request: number, subject, persons, on_hold, purge } => {
            let words = request(number, &format!("asked by {}, purge {}", subject.as_str(), word(purge)));
            (words, vec![("persons", *persons), ("left under legal hold", *on_hold)])
        }
        Event::DataKeysDestroyed { request: number, keys } => {
            (request(number, "keys of cells destroyed"), vec![("keys", *keys)])
        }
        Event::Erased { request: number, rows } => (request(number, "erased"), vec![("rows", *rows)]),
        Event::ErasePurged { request: number, objects, receipt } => {
            (request(number, &format!("purged, receipt {receipt}")), vec![("objects", *objects)])
        }
        Event::HoldPlaced { subject, persons } => {
            (format!("legal hold placed by {}", subject.as_str()), vec![("persons", *persons)])
        }
        Event::HoldLifted { subject, persons } => {
            (format!("legal hold lifted by {}", subject.as_str()), vec![("persons", *persons)])
        }
        _ => return None,
    };
    Some((Subject::Erasures, words, amounts))
}

fn of_rules(event: &Event) -> Option<Act> {
    let plain = |subject: Subject, words: String| (subject, words, vec![]);
    Some(match event {
        Event::ConfigChanged { from, to } => plain(Subject::Policy, format!("lockgate.yaml from {from} to {to}")),
        Event::PolicyChanged { from, to } => {
            plain(Subject::Policy, format!("policy from {} to {}", from.as_str(), to.as_str()))
        }
        Event::PolicyApproved { by, file, .. } => {
            plain(Subject::Policy, format!("{} approved policy.yaml {file}", by.as_str()))
        }
        Event::ApprovalRefused { by, file } => {
            plain(Subject::Policy, format!("{} may not approve policy.yaml {file}: refused", by.as_str()))
        }
        Event::PolicyRefused { file, approvals, needed } => {
            plain(Subject::Policy, format!("policy.yaml {file} refused with {approvals} of {needed} approvals"))
        }
        Event::PolicyInForce { from, file, loosens, alters, tightens, approvers, .. } => {
            let from = from.map_or_else(String::new, |from| format!(" instead of {from}"));
            let approvers: Vec<&str> = approvers.iter().map(Name::as_str).collect();
            let approvers = if approvers.is_empty() { "nobody".into() } else { approvers.join(", ") };
            let words = format!("policy.yaml {file} in force{from}, approved by {approvers}");
            let effects = [("loosen", *loosens), ("alter", *alters), ("tighten", *tightens)];
            (Subject::Policy, words, effects.map(|(effect, many)| (effect, u64::from(many))).to_vec())
        }
        Event::RunStarted { policy, tables, .. } => {
            (Subject::Runs, format!("started under policy {}", policy.as_str()), vec![("tables", u64::from(*tables))])
        }
        Event::RunStopped { ending: RunEnding::Failed(reason) } => {
            plain(Subject::Runs, format!("failed: {}", word(reason)))
        }
        Event::RunStopped { ending } => plain(Subject::Runs, format!("ended: {}", word(ending))),
        Event::SpoolFilled { source } => plain(Subject::Runs, format!("spool of {} began to fill", source.as_str())),
        Event::SpoolDrained { source } => plain(Subject::Runs, format!("spool of {} drained", source.as_str())),
        _ => return of_log(event),
    })
}

fn of_log(event: &Event) -> Option<Act> {
    let (words, amounts) = match event {
        Event::Begun { anchor, former, because, in_force: _ } => {
            let former = former.as_ref().map_or_else(String::new, |former| {
                format!(", after log {} with {} entries", former.log.short(), former.entries)
            });
            let because = because.map_or_else(String::new, |because| format!(", because: {}", word(because)));
            (format!("begun, anchor: {}{former}{because}", word(anchor)), vec![])
        }
        Event::Ended { because } => (format!("ended, because: {}", word(because)), vec![]),
        Event::MacsBegun {} => ("entries carry MACs from here on".into(), vec![]),
        Event::Recovered { torn_bytes } => ("a cut line was taken away".into(), vec![("bytes", *torn_bytes)]),
        Event::HeadsMissing { known, head, left } => {
            (format!("heads were missing: {} knows head {head}, {left} was left", word(known)), vec![])
        }
        Event::ClosedUnsigned { entries } => ("its end had no head".into(), vec![("entries", *entries)]),
        Event::ClockJumped { micros } => (format!("the clock jumped by {} s", micros / 1_000_000), vec![]),
        _ => return None,
    };
    Some((Subject::Log, words, amounts))
}

fn of_tables(event: &Event) -> Option<Act> {
    let list = |columns: &[Name]| columns.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let (words, amounts) = match event {
        Event::TableCommitted { table, rows, .. } => {
            (format!("{} committed", table.as_str()), vec![("changes", *rows)])
        }
        Event::TableStopped { table, reason } => (format!("{} stopped: {}", table.as_str(), word(reason)), vec![]),
        Event::SchemaChanged { table } => (format!("{} changed its structure", table.as_str()), vec![]),
        Event::ColumnsDropped { table, columns } => {
            (format!("{} without a rule, not stored: {}", table.as_str(), list(columns)), vec![])
        }
        Event::Repaired { table, inserted, updated, deleted } => {
            let amounts = vec![("inserted", *inserted), ("updated", *updated), ("deleted", *deleted)];
            (format!("{} repaired", table.as_str()), amounts)
        }
        Event::Remasked { table, policy, columns, receipt, .. } => {
            let (table, policy, columns) = (table.as_str(), policy.as_str(), list(columns));
            (format!("{table} remasked under policy {policy}: {columns}, receipt {receipt}"), vec![])
        }
        _ => return None,
    };
    Some((Subject::Tables, words, amounts))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unknown > 0 {
            writeln!(f, "{} entries of kinds that this version does not know are left out", self.unknown)?;
        }
        for (principal, acts) in &self.principals {
            writeln!(f, "{principal}")?;
            let events = acts.events.iter().map(|(kind, times)| format!("{kind} {times}"));
            writeln!(f, "  events: {}", events.collect::<Vec<_>>().join(", "))?;
            for ((subject, words), sum) in &acts.sums {
                writeln!(f, "  {subject}: {words}: {sum}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.map_or_else(|| "an unknown program".into(), word);
        write!(f, "{}, {program}", self.by.as_ref().map_or("an unknown user", Name::as_str))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reveals => "reveals",
            Self::Keys => "keys",
            Self::Held => "held rows",
            Self::Erasures => "erasures",
            Self::Releases => "releases",
            Self::Policy => "policy",
            Self::Runs => "runs",
            Self::Tables => "tables",
            Self::Log => "log",
        })
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.times == 1 { "once".into() } else { format!("{} times", self.times) })?;
        for (what, amount) in &self.amounts {
            write!(f, ", {what} {amount}")?;
        }
        match self.span {
            Some((first, last)) if first == last => write!(f, ", {}", utc(first)),
            Some((first, last)) => write!(f, ", {} to {}", utc(first), utc(last)),
            None => Ok(()),
        }
    }
}
