//! One log, read once from its first line to its last, beside its heads.

use std::collections::HashMap;
use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};

use crate::anchored::KeptHead;
use crate::entry::{Entry, Line, Outline, chained};
use crate::finding::Finding;
use crate::head::SignedHead;
use crate::log::JUMP_MICROS;
use crate::tree::Tree;
use crate::verify::{Given, Report};
use crate::writers::Writers;
use crate::{Because, Event, Former, Hash, PublicKey};

/// Heads come every minute; what is older than this and not covered has lost its head.
const UNSIGNED_MICROS_MAX: i64 = 150_000_000;

/// What all logs of a proof are judged by.
pub(crate) struct Means<'a> {
    /// Heads that were kept elsewhere, by number.
    pub(crate) anchored: Vec<&'a KeptHead>,
    pub(crate) now: Timestamp,
    /// Keys of logs, as the logs after them name them.
    pub(crate) named: HashMap<Hash, PublicKey>,
}

/// A head and where it lay.
struct Claim {
    nth: u64,
    entries: u64,
    root: Hash,
    anchored: bool,
}

pub(crate) struct Proof<'a> {
    now: Timestamp,
    key: Given<'a>,
    pub(crate) report: Report,
    /// Heads whose signatures hold, by the number of entries.
    claims: Vec<Claim>,
    local: HashMap<u64, Hash>,
    /// Numbers of heads that are left out in the file: of the head before, and of the one behind.
    gaps: Vec<(u64, u64)>,
    /// The number of the last head in the file.
    last_head: u64,
    writers: Writers,
    /// Entries that a head covers which was signed over others.
    parted: u64,
    /// When the first entry was written that no head covers.
    unsigned_since: Option<Timestamp>,
    /// Whether the entry before carries a MAC.
    macs: bool,
    /// How far the number of the entry before was from its place.
    shift: u64,
    /// The line of the first entry that is dated after the proof, how many there are, and by how much.
    future: Option<(u64, u64, i64)>,
    /// The log before this one, by this one's first entry.
    pub(crate) former: Option<Former>,
    /// Whether the reason for this one is that it gets another key.
    is_rekeyed: bool,
    /// Whether the log was set aside at an entry before.
    has_ended: bool,
}

impl<'a> Proof<'a> {
    pub(crate) fn new(now: Timestamp, key: Given<'a>, key_was_named: bool) -> Self {
        Self {
            now,
            key,
            report: Report { key: Some(key.public), key_was_named, ..Report::default() },
            claims: Vec::new(),
            local: HashMap::new(),
            gaps: Vec::new(),
            last_head: 0,
            writers: Writers::default(),
            parted: 0,
            unsigned_since: None,
            macs: false,
            shift: 0,
            future: None,
            former: None,
            is_rekeyed: false,
            has_ended: false,
        }
    }

    /// The log before, and its key, when this one has been proven so far as to say so. Without a reason for another one it is this one's:
    /// nobody who exchanges a log gets the key of theirs named.
    pub(crate) fn named_key(&self) -> Option<(Hash, PublicKey)> {
        let former = self.former.as_ref().filter(|_| self.report.proven > 0)?;
        let other = former.key.filter(|_| self.is_rekeyed);
        Some((former.log, other.unwrap_or(self.key.public)))
    }

    pub(crate) fn has_head(&self, nth: u64, hash: &Hash) -> bool {
        self.local.get(&nth) == Some(hash)
    }

    fn find(&mut self, finding: Finding) {
        self.report.find(finding);
    }

    pub(crate) fn read_heads<L: BufRead>(&mut self, mut heads: L) -> Result<()> {
        let (mut previous, mut entries, mut text) = (Hash::default(), 0, Vec::new());
        for line in 1.. {
            text.clear();
            if heads.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            // A head that was cut off by a stop of the machine is not there; its entries are signed again.
            let Some(whole) = text.strip_suffix(b"\n") else { break };
            let Some(signed) = std::str::from_utf8(whole).ok().and_then(SignedHead::read) else {
                self.find(Finding::UnreadableHead { line, later: 0 });
                continue;
            };
            let head = &signed.said;
            self.report.heads += 1;
            if !signed.is_proven_by(&self.key.public) {
                self.find(Finding::Signature { head: line, later: 0, anchored: false });
                continue;
            }
            let follows = head.previous == previous && head.entries > entries && head.nth > self.last_head;
            if !follows {
                self.find(Finding::HeadChain { head: head.nth });
            } else if head.nth != self.last_head + 1 {
                self.gaps.push((self.last_head, head.nth));
            }
            (previous, entries, self.last_head) = (signed.hash, head.entries, head.nth);
            self.local.insert(head.nth, signed.hash);
            self.claims.push(Claim { nth: head.nth, entries: head.entries, root: head.root, anchored: false });
        }
        Ok(())
    }

    /// Takes in the heads of this log that were kept elsewhere.
    fn read_anchored(&mut self, log: Hash, anchored: &[&KeptHead]) {
        for head in anchored.iter().filter(|head| head.log == log) {
            if !head.is_proven_by(&self.key.public) {
                self.find(Finding::Signature { head: head.nth, later: 0, anchored: true });
                continue;
            }
            self.report.anchored += 1;
            if !self.has_head(head.nth, &head.hash) {
                self.find(Finding::HeadGone { head: head.nth, later: 0 });
            }
            self.claims.push(Claim { nth: head.nth, entries: head.entries, root: head.root, anchored: true });
        }
        self.claims.sort_by_key(|claim| claim.entries);
    }

    pub(crate) fn read_entries<L: BufRead>(&mut self, mut log: L, anchored: &[&KeptHead]) -> Result<()> {
        let (mut text, mut number) = (Vec::new(), 0_u64);
        let (mut tree, mut next) = (Tree::default(), 0);
        // The hash that the line before should have; `None` when that cannot be known.
        let mut meant = Some(Hash::default());
        loop {
            text.clear();
            if log.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            number += 1;
            let Some(whole) = text.strip_suffix(b"\n") else {
                self.report.torn_bytes = text.len() as u64;
                break;
            };
            let Some(line) = Line::read(whole) else {
                self.find(Finding::Unreadable { line: number, later: 0, heads: 0 });
                tree.push(&Hash::default());
                (meant, next) = (None, self.meet_claims(next, &tree));
                continue;
            };
            let hash = chained(&self.report.last, line.body);
            // What is changed at one place is found there, and not once more behind it.
            let follows = hash == line.hash || meant.is_none_or(|meant| chained(&meant, line.body) == line.hash);
            if !follows {
                self.find(Finding::Chain { line: number, heads: 0 });
            }
            meant = Some(hash);
            if self.report.log.is_none() {
                self.report.log = Some(line.hash);
                self.read_anchored(line.hash, anchored);
            }
            self.report.last = line.hash;
            tree.push(&line.leaf());
            self.judge_entry(&line, number, follows);
            next = self.meet_claims(next, &tree);
        }
        self.report.entries = tree.leaves();
        for claim in self.claims.drain(next..).collect::<Vec<_>>() {
            let Claim { nth: head, entries, anchored, .. } = claim;
            self.find(Finding::Missing { head, entries, present: tree.leaves(), later: 0, anchored });
        }
        Ok(())
    }

    /// Compares the tree with the heads that were signed over as many entries.
    fn meet_claims(&mut self, mut next: usize, tree: &Tree) -> usize {
        let mut root = None;
        while let Some(claim) = self.claims.get(next).filter(|claim| claim.entries <= tree.leaves()) {
            let (head, entries, anchored) = (claim.nth, claim.entries, claim.anchored);
            if *root.get_or_insert_with(|| tree.root()) == claim.root {
                self.report.proven = entries;
                self.unsigned_since = None;
            } else {
                self.part(head, entries, anchored);
            }
            next += 1;
        }
        next
    }

    /// Entries are others than a head says. Where the chain of hashes is broken among them, that is the cause.
    fn part(&mut self, head: u64, entries: u64, anchored: bool) {
        let proven = self.report.proven;
        if !anchored {
            (self.parted, self.unsigned_since) = (entries, None);
        }
        let broken = |finding: &&mut Finding| matches!(finding, Finding::Chain { line, .. } | Finding::Unreadable { line, .. } if (proven + 1..=entries).contains(line));
        let among_others = self.report.findings.iter().any(|found| matches!(found, Finding::Root { .. }));
        match self.report.findings.iter_mut().find(broken) {
            Some(Finding::Chain { heads, .. } | Finding::Unreadable { heads, .. }) if !anchored && !among_others => {
                *heads += 1
            }
            _ => self.find(Finding::Root { head, entries, proven, later: 0, anchored }),
        }
    }

    fn judge_entry(&mut self, line: &Line<'_>, number: u64, follows: bool) {
        let entry = match serde_json::from_slice::<Entry>(line.body) {
            Ok(entry) => {
                let (outline, event) = entry.parts();
                Some((outline, Some(event)))
            }
            Err(_) => serde_json::from_slice::<Outline>(line.body).ok().map(|outline| (outline, None)),
        };
        let Some((outline, event)) = entry else {
            return self.find(Finding::Unreadable { line: number, later: 0, heads: 0 });
        };
        self.report.unknown += u64::from(event.is_none());
        self.judge_mac(line, event.as_ref(), number);
        let shift = outline.seq.wrapping_sub(number - 1);
        if shift != self.shift && follows {
            self.find(Finding::Number { line: number });
        }
        self.shift = shift;
        self.judge_heads(&outline, event.as_ref(), number);
        let ahead = outline.at.saturating_sub(self.now);
        if ahead > JUMP_MICROS {
            let (first, entries, most) = self.future.unwrap_or((number, 0, 0));
            self.future = Some((first, entries + 1, ahead.max(most)));
        }
        self.unsigned_since.get_or_insert(outline.at);
        let last = self.report.span.map(|(_, last)| last);
        self.report.span = Some((self.report.span.map_or(outline.at, |(first, _)| first), outline.at));
        let found = self.writers.follow(&outline, event.as_ref(), number, last);
        found.into_iter().for_each(|finding| self.find(finding));
        if self.has_ended && event.as_ref().is_some_and(|event| !event.is_of_a_renewal()) {
            self.find(Finding::GoesOn { line: number, later: 0 });
        }
        match event {
            Some(Event::Begun { former, because, .. }) if number == 1 => {
                self.is_rekeyed = matches!(because, Some(Because::KeyLost | Because::KeyExposed));
                self.former = former;
            }
            Some(Event::Ended { .. }) => self.has_ended = true,
            Some(Event::ClosedUnsigned { .. }) => self.report.closed_unsigned += 1,
            _ => {}
        }
    }

    fn judge_mac(&mut self, line: &Line<'_>, what: Option<&Event>, number: u64) {
        let begin = line.mac.is_some() && !self.macs && number > 1;
        if begin && what != Some(&Event::MacsBegun {}) || line.mac.is_none() && self.macs {
            self.find(Finding::Mixed { line: number, later: 0 });
        }
        self.macs |= line.mac.is_some();
        if let (Some(key), Some(mac)) = (self.key.macs, &line.mac) {
            self.report.macs += 1;
            if !key.proves(&line.hash, mac) {
                self.find(Finding::Mac { line: number, later: 0 });
            }
        }
    }

    /// What entries say of heads holds.
    fn judge_heads(&mut self, entry: &Outline, event: Option<&Event>, line: u64) {
        if let Some(Event::HeadsMissing { known, head, left }) = event {
            // The head behind them has a number of its own.
            self.gaps.retain(|(before, behind)| before != left || behind <= head);
            self.find(Finding::HeadsMissing { line, known: *known, head: *head, left: *left });
        }
        if entry.heads > self.last_head {
            self.find(Finding::HeadNamed { line, head: entry.heads, left: self.last_head, later: 0 });
        }
    }

    pub(crate) fn judge_tail(&mut self) {
        for (_, head) in std::mem::take(&mut self.gaps) {
            self.find(Finding::HeadChain { head });
        }
        let now = self.now;
        if let Some((line, entries, micros)) = self.future {
            self.find(Finding::Future { line, entries, micros });
        }
        let Some((_, last)) = self.report.span else { return self.find(Finding::Empty) };
        let unsigned = self.report.entries.saturating_sub(self.report.proven.max(self.parted));
        // No head is on its way to what a clock ahead of ours has written.
        let late = |since| now.saturating_sub(since) > UNSIGNED_MICROS_MAX || since.saturating_sub(now) > JUMP_MICROS;
        if unsigned > 0 && self.unsigned_since.is_none_or(late) {
            self.find(Finding::Unsigned { entries: unsigned });
        }
        let (killed, breaks_off) = self.writers.ends(now, last);
        self.report.killed = killed;
        breaks_off.into_iter().for_each(|finding| self.find(finding));
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, "the audit log cannot be read").source(error)
}
