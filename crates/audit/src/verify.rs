//! The proof of a log, from its files alone.

use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};

use crate::entry::{Entry, chained, split};
use crate::head::SignedHead;
use crate::log::JUMP_MICROS;
use crate::tree::Tree;
use crate::{Event, Hash, Hex, Program, PublicKey};

/// What a proof is made from.
pub struct Evidence<'a, L> {
    /// The entries' file.
    pub log: L,
    /// The text of the heads' file.
    pub heads: &'a str,
    /// Lines of heads that were kept elsewhere; of other logs, too.
    pub anchored: Vec<String>,
    /// The key that must have signed.
    pub key: PublicKey,
    /// The time of the proof, microseconds since the Unix epoch.
    pub now: Timestamp,
}

/// Something that is not as the writers of the log leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "lines and heads are numbered from 1, times are microseconds, the rest is called what it counts"
)]
pub enum Finding {
    /// The line is no entry.
    Unreadable { line: u64 },
    /// The hash does not follow from the entry and the one before it: something was changed, put in, taken out or exchanged here.
    Chain { line: u64 },
    /// The entry has another number than its place.
    Number { line: u64 },
    /// A writer's own numbers do not follow each other.
    Writer { line: u64 },
    /// The machine's clock was set, and no entry says so.
    Clock { line: u64, micros: i64 },
    /// A run was silent for longer than its heartbeat allows.
    Silence { line: u64, micros: i64 },
    /// A line of the heads is no head.
    UnreadableHead { line: u64 },
    /// The signature of a head is not of this key.
    Signature { head: u64 },
    /// A head does not follow from the one before it: one was taken out, put in or replayed.
    HeadChain { head: u64 },
    /// A head was signed over other entries than there are now: the log was rewritten or forked.
    Root { head: u64, entries: u64, anchored: bool },
    /// A head covers more entries than there are: the tail was cut off.
    Missing { head: u64, entries: u64, present: u64, anchored: bool },
    /// Entries that no head covers and should.
    Unsigned { entries: u64 },
    /// The log ends without a word of its last writer.
    BreaksOff { silent_micros: i64 },
    /// A head that was kept elsewhere is not among the log's.
    HeadGone { head: u64 },
    /// There is no entry at all.
    Empty,
}

/// What a proof has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries in the log.
    pub entries: u64,
    /// Entries that a proven head covers.
    pub proven: u64,
    /// Heads of the log.
    pub heads: u64,
    /// Heads of this log that were kept elsewhere.
    pub anchored: u64,
    /// Times of the first and the last entry.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Writers that ended without closing, as a kill does. Up to a minute of what they did last may not be in the log.
    pub killed: u64,
    /// Everything that is wrong; none when the log is proven.
    pub findings: Vec<Finding>,
}

/// Findings that are kept: who changes much is found out by the first of them.
const FINDINGS_MAX: usize = 100;
/// Heads come every minute; what is older than this and not covered has lost its head.
const UNSIGNED_MICROS_MAX: i64 = 150_000_000;
/// Heartbeats come every minute.
const SILENCE_MICROS_MAX: i64 = 150_000_000;

/// Proves a log.
///
/// # Errors
/// `Unavailable` when the log cannot be read; what is wrong with its content is in the report.
pub fn verify<L: BufRead>(evidence: Evidence<'_, L>) -> Result<Report> {
    let mut proof = Proof::new(evidence.key);
    proof.read_heads(evidence.heads);
    proof.read_entries(evidence.log, &evidence.anchored)?;
    proof.judge_tail(evidence.now);
    Ok(proof.report)
}

/// A head and where it lay.
struct Claim {
    nth: u64,
    entries: u64,
    root: Hash,
    anchored: bool,
}

struct Proof {
    key: PublicKey,
    report: Report,
    /// Heads whose signatures hold, by the number of entries.
    claims: Vec<Claim>,
    local: HashMap<u64, Hash>,
    writers: HashMap<Hex, WriterSeen>,
    last_writer: Option<Hex>,
    /// When the first entry was written that no head covers.
    unsigned_since: Option<Timestamp>,
}

struct WriterSeen {
    nth: u64,
    at: Timestamp,
    up: u64,
    heartbeats: bool,
    closed: bool,
}

impl Proof {
    fn new(key: PublicKey) -> Self {
        Self {
            key,
            report: Report::default(),
            claims: Vec::new(),
            local: HashMap::new(),
            writers: HashMap::new(),
            last_writer: None,
            unsigned_since: None,
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn read_heads(&mut self, text: &str) {
        let (mut previous, mut entries, mut at) = (Hash::default(), 0, Timestamp::MIN);
        for (line, nth) in text.lines().zip(1..) {
            let Some(signed) = SignedHead::read(line) else {
                self.find(Finding::UnreadableHead { line: nth });
                continue;
            };
            let head = &signed.head;
            self.report.heads += 1;
            if !signed.is_proven_by(&self.key) {
                self.find(Finding::Signature { head: nth });
                continue;
            }
            if head.nth != nth || head.previous != previous || head.entries <= entries || head.at + JUMP_MICROS < at {
                self.find(Finding::HeadChain { head: nth });
            }
            (previous, entries, at) = (signed.hash, head.entries, head.at);
            self.local.insert(head.nth, signed.hash);
            self.claims.push(Claim { nth: head.nth, entries: head.entries, root: head.root, anchored: false });
        }
    }

    /// Heads of this log that were kept elsewhere say what it was when they were taken away.
    fn read_anchored(&mut self, lines: &[String], log: Hash) {
        for line in lines {
            let Some(signed) = SignedHead::read(line) else {
                self.find(Finding::UnreadableHead { line: 0 });
                continue;
            };
            if !signed.is_proven_by(&self.key) {
                self.find(Finding::Signature { head: signed.head.nth });
            } else if signed.head.log == log {
                self.report.anchored += 1;
                let Claim { nth, entries, root, anchored } = Claim {
                    nth: signed.head.nth,
                    entries: signed.head.entries,
                    root: signed.head.root,
                    anchored: true,
                };
                if self.local.get(&nth) != Some(&signed.hash) {
                    self.find(Finding::HeadGone { head: nth });
                }
                self.claims.push(Claim { nth, entries, root, anchored });
            }
        }
    }

    fn read_entries<L: BufRead>(&mut self, mut log: L, anchored: &[String]) -> Result<()> {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        let (mut line, mut number, mut last) = (Vec::new(), 0_u64, Hash::default());
        let (mut tree, mut next) = (Tree::default(), 0);
        loop {
            line.clear();
            if log.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            number += 1;
            let Some((stated, body)) = line.strip_suffix(b"\n").and_then(split) else {
                self.find(Finding::Unreadable { line: number });
                continue;
            };
            if chained(&last, body) != stated {
                self.find(Finding::Chain { line: number });
            }
            if number == 1 {
                self.read_anchored(anchored, stated);
                self.claims.sort_by_key(|claim| claim.entries);
            }
            last = stated;
            tree.push(&stated);
            match serde_json::from_slice::<Entry>(body) {
                Ok(entry) => self.follow(&entry, number),
                Err(_) => self.find(Finding::Unreadable { line: number }),
            }
            next = self.meet_claims(next, &tree);
        }
        self.report.entries = tree.leaves();
        for claim in self.claims.drain(next..).collect::<Vec<_>>() {
            let Claim { nth: head, entries, anchored, .. } = claim;
            self.find(Finding::Missing { head, entries, present: tree.leaves(), anchored });
        }
        Ok(())
    }

    /// Compares the tree with the heads that were signed over as many entries.
    fn meet_claims(&mut self, mut next: usize, tree: &Tree) -> usize {
        let mut root = None;
        while let Some(claim) = self.claims.get(next).filter(|claim| claim.entries <= tree.leaves()) {
            let (nth, entries, anchored) = (claim.nth, claim.entries, claim.anchored);
            if *root.get_or_insert_with(|| tree.root()) == claim.root {
                self.report.proven = entries;
                self.unsigned_since = None;
            } else {
                self.find(Finding::Root { head: nth, entries, anchored });
            }
            next += 1;
        }
        next
    }

    /// One entry after the other, as its writer must have left it.
    fn follow(&mut self, entry: &Entry, line: u64) {
        if entry.seq + 1 != line {
            self.find(Finding::Number { line });
        }
        self.unsigned_since.get_or_insert(entry.at);
        let (first, last) = self.report.span.unwrap_or((entry.at, entry.at));
        if entry.at + JUMP_MICROS < last && !matches!(entry.what, Event::ClockJumped { .. }) && entry.nth == 1 {
            self.find(Finding::Clock { line, micros: entry.at - last });
        }
        self.report.span = Some((first, entry.at));
        let heartbeats = matches!(entry.what, Event::Opened { program: Program::Run });
        let closed = entry.what == Event::Closed {};
        if self.last_writer.as_ref() != Some(&entry.writer) {
            self.last_writer = Some(entry.writer.clone());
        }
        let Some(seen) = self.writers.get_mut(&entry.writer) else {
            let seen = WriterSeen { nth: entry.nth, at: entry.at, up: entry.up, heartbeats, closed };
            self.writers.insert(entry.writer.clone(), seen);
            if entry.nth != 1 {
                self.find(Finding::Writer { line });
            }
            return;
        };
        let passed = entry.up.cast_signed() - seen.up.cast_signed();
        let jumped = (entry.at - seen.at) - passed;
        let follows = entry.nth == seen.nth + 1 && passed >= 0 && !seen.closed;
        let silent = seen.heartbeats && passed > SILENCE_MICROS_MAX;
        (seen.nth, seen.at, seen.up) = (entry.nth, entry.at, entry.up);
        seen.heartbeats |= heartbeats;
        seen.closed |= closed;
        if !follows {
            self.find(Finding::Writer { line });
        }
        if silent {
            self.find(Finding::Silence { line, micros: passed });
        }
        // An entry that says how the clock jumped is what a writer leaves.
        if jumped.abs() > JUMP_MICROS && !matches!(entry.what, Event::ClockJumped { .. }) {
            self.find(Finding::Clock { line, micros: jumped });
        }
    }

    fn judge_tail(&mut self, now: Timestamp) {
        let Some((_, last)) = self.report.span else { return self.find(Finding::Empty) };
        let unsigned = self.report.entries - self.report.proven;
        if unsigned > 0 && self.unsigned_since.is_none_or(|since| now - since > UNSIGNED_MICROS_MAX) {
            self.find(Finding::Unsigned { entries: unsigned });
        }
        let open = |writer: &&WriterSeen| !writer.closed;
        self.report.killed = self.writers.values().filter(open).count() as u64;
        let latest = self.last_writer.as_ref().and_then(|writer| self.writers.get(writer));
        if latest.is_some_and(|writer| !writer.closed) {
            // Nobody has come after it: it still writes, or the end is missing.
            self.report.killed -= 1;
            if now - last > SILENCE_MICROS_MAX {
                self.find(Finding::BreaksOff { silent_micros: now - last });
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |anchored: &bool| if *anchored { " of the anchor" } else { "" };
        let seconds = |micros: &i64| *micros as f64 / 1e6;
        match self {
            Self::Unreadable { line } => write!(f, "line {line} is no entry"),
            Self::Chain { line } => write!(
                f,
                "line {line}: its hash does not follow: an entry was changed, put in, taken out or exchanged at or before it"
            ),
            Self::Number { line } => write!(f, "line {line}: the entry has the number of another place"),
            Self::Writer { line } => write!(f, "line {line}: the numbers or times of its writer do not follow"),
            Self::Clock { line, micros } => {
                write!(f, "line {line}: the clock jumped by {:.1} s, and no entry says so", seconds(micros))
            }
            Self::Silence { line, micros } => {
                write!(f, "line {line}: no heartbeat for {:.0} s before it", seconds(micros))
            }
            Self::UnreadableHead { line } => write!(f, "line {line} of the heads is no signed head"),
            Self::Signature { head } => write!(f, "head {head}: its signature is missing or of another key"),
            Self::HeadChain { head } => {
                write!(f, "head {head} does not follow from the one before it: one was taken out, put in or replayed")
            }
            Self::Root { head, entries, anchored } => {
                write!(f, "head {head}{} was signed over other {entries} entries than there are now", place(anchored))
            }
            Self::Missing { head, entries, present, anchored } => write!(
                f,
                "head {head}{} covers {entries} entries, and only {present} are left: the tail was cut off",
                place(anchored)
            ),
            Self::Unsigned { entries } => write!(f, "the last {entries} entries are not signed: they prove nothing"),
            Self::BreaksOff { silent_micros } => write!(
                f,
                "the log breaks off: its last writer neither closed nor gave a heartbeat for {:.0} s",
                seconds(silent_micros)
            ),
            Self::HeadGone { head } => {
                write!(f, "head {head} lies at the anchor and not in the log: the log was set back")
            }
            Self::Empty => f.write_str("there is no entry"),
        }
    }
}
