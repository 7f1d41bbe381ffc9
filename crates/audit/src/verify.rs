//! The proof of a log, from its files alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};

use crate::entry::{Entry, Line, chained};
use crate::finding::Finding;
use crate::head::SignedHead;
use crate::log::JUMP_MICROS;
use crate::tree::Tree;
use crate::{Event, Former, Hash, Hex, MacKey, Program, PublicKey};

/// A log's files.
pub struct Files<L> {
    /// The entries' file.
    pub entries: L,
    /// The text of the heads' file.
    pub heads: String,
}

/// What a proof is made from.
pub struct Evidence<'a, L> {
    /// The log.
    pub log: Files<L>,
    /// Kept copies of logs before it.
    pub before: Vec<Files<L>>,
    /// Lines of heads that were kept elsewhere, of all logs under the key.
    pub anchored: Vec<String>,
    /// The key that must have signed.
    pub key: PublicKey,
    /// The key of the MACs; without it those of the youngest entries, which no head covers, are not proven.
    pub macs: Option<&'a MacKey>,
    /// The time of the proof, microseconds since the Unix epoch.
    pub now: Timestamp,
}

/// What a proof has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log: the hash of its first entry; `None` when there is no entry.
    pub log: Option<Hash>,
    /// Entries in the log.
    pub entries: u64,
    /// The hash of the last one.
    pub last: Hash,
    /// Entries that a proven head covers.
    pub proven: u64,
    /// Entries whose MAC was looked at.
    pub macs: u64,
    /// Heads of the log.
    pub heads: u64,
    /// Heads of this log that were kept elsewhere.
    pub anchored: u64,
    /// Times of the first and the last entry.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Writers that ended without closing, as a kill does. Up to a minute of what they did last may not be in the log.
    pub killed: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// The logs before it, in the order in which they were handed over.
    pub before: Vec<Report>,
}

/// Findings that are kept: who changes much is found out by the first of them.
const FINDINGS_MAX: usize = 100;
/// Heads come every minute; what is older than this and not covered has lost its head.
const UNSIGNED_MICROS_MAX: i64 = 150_000_000;
/// Heartbeats come every minute.
const SILENCE_MICROS_MAX: i64 = 150_000_000;

/// Proves a log, and those before it.
///
/// # Errors
/// `Unavailable` when a log cannot be read; what is wrong with its content is in the report.
pub fn verify<L: BufRead>(evidence: Evidence<'_, L>) -> Result<Report> {
    let Evidence { log, before, anchored, key, macs, now } = evidence;
    let mut findings = Vec::new();
    let means = Means { anchored: read_anchored(&anchored, &key, &mut findings), key, macs, now };
    let mut proofs = Vec::new();
    for files in std::iter::once(log).chain(before) {
        let mut proof = Proof::new(&means);
        proof.read_heads(&files.heads);
        proof.read_entries(files.entries)?;
        proof.judge_tail();
        proofs.push(proof);
    }
    let others = other_logs(&mut proofs, &means.anchored);
    let mut reports = proofs.into_iter().map(|proof| proof.report);
    let mut report = reports.next().unwrap_or_default();
    findings.into_iter().chain(others).for_each(|finding| report.find(finding));
    report.before = reports.collect();
    Ok(report)
}

impl Report {
    /// Whether nothing is wrong, here and in the logs before.
    pub fn is_proven(&self) -> bool {
        self.findings.is_empty() && self.before.iter().all(Self::is_proven)
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Heads that were kept elsewhere say what their logs were when they were taken away.
fn read_anchored(lines: &[String], key: &PublicKey, findings: &mut Vec<Finding>) -> Vec<SignedHead> {
    let mut proven = Vec::new();
    for line in lines {
        match SignedHead::read(line) {
            None => findings.push(Finding::UnreadableHead { line: 0 }),
            Some(signed) if !signed.is_proven_by(key) => findings.push(Finding::Signature { head: signed.said.nth }),
            Some(signed) => proven.push(signed),
        }
    }
    proven
}

/// Logs that the anchor or a log's first entry knows of, and that were not handed over.
fn other_logs(proofs: &mut [Proof<'_>], anchored: &[SignedHead]) -> Vec<Finding> {
    let known: HashSet<Hash> = proofs.iter().filter_map(|proof| proof.report.log).collect();
    // Heads, entries and time of each.
    let mut others: BTreeMap<Hash, (u64, u64, Timestamp)> = BTreeMap::new();
    let mut see = |log: Hash, heads: u64, entries: u64, at: Timestamp| {
        let other = others.entry(log).or_insert((0, 0, at));
        *other = (other.0 + heads, other.1.max(entries), other.2.max(at));
    };
    for SignedHead { said: head, .. } in anchored.iter().filter(|signed| !known.contains(&signed.said.log)) {
        see(head.log, 1, head.entries, head.at);
    }
    for former in proofs.iter().filter_map(|proof| proof.former.clone()).collect::<Vec<_>>() {
        if !known.contains(&former.log) {
            see(former.log, 0, former.entries, former.at);
        }
        for proof in proofs.iter_mut().filter(|proof| proof.report.log == Some(former.log)) {
            if proof.local.get(&former.head) != Some(&former.hash) {
                proof.report.find(Finding::HeadGone { head: former.head });
            }
        }
    }
    let finding = |(log, (heads, entries, last))| Finding::OtherLog { log, heads, entries, last };
    others.into_iter().map(finding).collect()
}

/// What all logs of a proof are judged by.
struct Means<'a> {
    anchored: Vec<SignedHead>,
    key: PublicKey,
    macs: Option<&'a MacKey>,
    now: Timestamp,
}

/// A head and where it lay.
struct Claim {
    nth: u64,
    entries: u64,
    root: Hash,
    anchored: bool,
}

struct Proof<'a> {
    means: &'a Means<'a>,
    report: Report,
    /// Heads whose signatures hold, by the number of entries.
    claims: Vec<Claim>,
    local: HashMap<u64, Hash>,
    writers: HashMap<Hex, WriterSeen>,
    last_writer: Option<Hex>,
    /// When the first entry was written that no head covers.
    unsigned_since: Option<Timestamp>,
    /// Whether the entry before carries a MAC.
    macs: bool,
    /// The line of the first entry that is dated after the proof, how many there are, and by how much.
    future: Option<(u64, u64, i64)>,
    /// The log before this one, by this one's first entry.
    former: Option<Former>,
}

struct WriterSeen {
    nth: u64,
    at: Timestamp,
    up: u64,
    heartbeats: bool,
    closed: bool,
}

impl<'a> Proof<'a> {
    fn new(means: &'a Means<'a>) -> Self {
        Self {
            means,
            report: Report::default(),
            claims: Vec::new(),
            local: HashMap::new(),
            writers: HashMap::new(),
            last_writer: None,
            unsigned_since: None,
            macs: false,
            future: None,
            former: None,
        }
    }

    fn find(&mut self, finding: Finding) {
        self.report.find(finding);
    }

    fn read_heads(&mut self, text: &str) {
        let (mut previous, mut entries, mut at) = (Hash::default(), 0, Timestamp::MIN);
        for (line, nth) in text.lines().zip(1..) {
            let Some(signed) = SignedHead::read(line) else {
                self.find(Finding::UnreadableHead { line: nth });
                continue;
            };
            let head = &signed.said;
            self.report.heads += 1;
            if !signed.is_proven_by(&self.means.key) {
                self.find(Finding::Signature { head: nth });
                continue;
            }
            if head.nth != nth
                || head.previous != previous
                || head.entries <= entries
                || head.at.saturating_add(JUMP_MICROS) < at
            {
                self.find(Finding::HeadChain { head: nth });
            }
            (previous, entries, at) = (signed.hash, head.entries, head.at);
            self.local.insert(head.nth, signed.hash);
            self.claims.push(Claim { nth: head.nth, entries: head.entries, root: head.root, anchored: false });
        }
    }

    /// Takes in the heads of this log that were kept elsewhere.
    fn read_anchored(&mut self, log: Hash) {
        for signed in self.means.anchored.iter().filter(|signed| signed.said.log == log) {
            let head = &signed.said;
            self.report.anchored += 1;
            if self.local.get(&head.nth) != Some(&signed.hash) {
                self.find(Finding::HeadGone { head: head.nth });
            }
            self.claims.push(Claim { nth: head.nth, entries: head.entries, root: head.root, anchored: true });
        }
        self.claims.sort_by_key(|claim| claim.entries);
    }

    fn read_entries<L: BufRead>(&mut self, mut log: L) -> Result<()> {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        let (mut text, mut number) = (Vec::new(), 0_u64);
        let (mut tree, mut next) = (Tree::default(), 0);
        loop {
            text.clear();
            if log.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            number += 1;
            let Some(line) = text.strip_suffix(b"\n").and_then(Line::read) else {
                self.find(Finding::Unreadable { line: number });
                continue;
            };
            if chained(&self.report.last, line.body) != line.hash {
                self.find(Finding::Chain { line: number });
            }
            if self.report.log.is_none() {
                self.report.log = Some(line.hash);
                self.read_anchored(line.hash);
            }
            self.report.last = line.hash;
            tree.push(&line.leaf());
            match serde_json::from_slice::<Entry>(line.body) {
                Ok(entry) => {
                    self.judge_mac(&line, &entry.what, number);
                    self.follow(entry, number);
                }
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

    fn judge_mac(&mut self, line: &Line<'_>, what: &Event, number: u64) {
        let begin = line.mac.is_some() && !self.macs && number > 1;
        if begin && *what != (Event::MacsBegun {}) || line.mac.is_none() && self.macs {
            self.find(Finding::Mixed { line: number });
        }
        self.macs |= line.mac.is_some();
        if let (Some(key), Some(mac)) = (self.means.macs, &line.mac) {
            self.report.macs += 1;
            if !key.proves(&line.hash, mac) {
                self.find(Finding::Mac { line: number });
            }
        }
    }

    /// One entry after the other, as its writer must have left it. Times are anybody's until a head has proven them.
    fn follow(&mut self, entry: Entry, line: u64) {
        if entry.seq != line - 1 {
            self.find(Finding::Number { line });
        }
        let ahead = entry.at.saturating_sub(self.means.now);
        if ahead > JUMP_MICROS {
            let (first, entries, most) = self.future.unwrap_or((line, 0, 0));
            self.future = Some((first, entries + 1, ahead.max(most)));
        }
        self.unsigned_since.get_or_insert(entry.at);
        let (first, last) = self.report.span.unwrap_or((entry.at, entry.at));
        if entry.at.saturating_add(JUMP_MICROS) < last
            && !matches!(entry.what, Event::ClockJumped { .. })
            && entry.nth == 1
        {
            self.find(Finding::Clock { line, micros: entry.at.saturating_sub(last) });
        }
        self.report.span = Some((first, entry.at));
        let heartbeats = matches!(entry.what, Event::Opened { program: Program::Run, .. });
        let closed = entry.what == Event::Closed {};
        let jump_said = matches!(entry.what, Event::ClockJumped { .. });
        if let (1, Event::Begun { former, .. }) = (line, entry.what) {
            self.former = former;
        }
        if self.last_writer.as_ref() != Some(&entry.writer) {
            self.last_writer = Some(entry.writer.clone());
        }
        let Some(seen) = self.writers.get_mut(&entry.writer) else {
            let seen = WriterSeen { nth: entry.nth, at: entry.at, up: entry.up, heartbeats, closed };
            self.writers.insert(entry.writer, seen);
            if entry.nth != 1 {
                self.find(Finding::Writer { line });
            }
            return;
        };
        let passed = entry.up.cast_signed().saturating_sub(seen.up.cast_signed());
        let jumped = entry.at.saturating_sub(seen.at).saturating_sub(passed);
        let follows = Some(entry.nth) == seen.nth.checked_add(1) && passed >= 0 && !seen.closed;
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
        if jumped.saturating_abs() > JUMP_MICROS && !jump_said {
            self.find(Finding::Clock { line, micros: jumped });
        }
    }

    fn judge_tail(&mut self) {
        let now = self.means.now;
        if let Some((line, entries, micros)) = self.future {
            self.find(Finding::Future { line, entries, micros });
        }
        let Some((_, last)) = self.report.span else { return self.find(Finding::Empty) };
        let unsigned = self.report.entries - self.report.proven;
        // No head is on its way to what a clock ahead of ours has written.
        let late = |since| now.saturating_sub(since) > UNSIGNED_MICROS_MAX || since.saturating_sub(now) > JUMP_MICROS;
        if unsigned > 0 && self.unsigned_since.is_none_or(late) {
            self.find(Finding::Unsigned { entries: unsigned });
        }
        let open = |writer: &&WriterSeen| !writer.closed;
        self.report.killed = self.writers.values().filter(open).count() as u64;
        let latest = self.last_writer.as_ref().and_then(|writer| self.writers.get(writer));
        if latest.is_some_and(|writer| !writer.closed) {
            // Nobody has come after it: it still writes, or the end is missing.
            self.report.killed -= 1;
            let silent_micros = now.saturating_sub(last);
            if silent_micros > SILENCE_MICROS_MAX {
                self.find(Finding::BreaksOff { silent_micros });
            }
        }
    }
}
