//! The proof of a log, from its files alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};

use crate::anchored::{Anchored, KeptHead};
use crate::finding::Finding;
use crate::head::SignedHead;
use crate::proof::{Means, Proof};
use crate::remains::log_of;
use crate::{Hash, MacKey, PublicKey};

/// A log's files.
pub struct Files<L> {
    /// The entries' file.
    pub entries: L,
    /// The heads' file.
    pub heads: L,
}

/// A key that the verifier has from elsewhere.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// What must have signed.
    pub public: PublicKey,
    /// The key of the MACs; without it those of the youngest entries, which no head covers, are not proven.
    pub macs: Option<&'a MacKey>,
}

/// What a proof is made from.
pub struct Evidence<'a, L> {
    /// The log.
    pub log: Files<L>,
    /// Kept copies of logs before it.
    pub before: Vec<Files<L>>,
    /// Heads that were kept elsewhere, of all logs.
    pub anchored: &'a Anchored,
    /// The key of the log.
    pub key: Given<'a>,
    /// Those of logs before it that had others.
    pub former_keys: Vec<Given<'a>>,
    /// The time of the proof, microseconds since the Unix epoch.
    pub now: Timestamp,
}

/// What a proof has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log: the hash of its first entry; `None` when there is no entry.
    pub log: Option<Hash>,
    /// The key that it was proven with.
    pub key: Option<PublicKey>,
    /// Whether nobody gave this key, but the log after this one names it.
    pub key_was_named: bool,
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
    /// How often a closed log was found without a head over its end.
    pub closed_unsigned: u64,
    /// Entries of kinds that this version does not know.
    pub unknown: u64,
    /// Bytes of a last entry that is cut off in its middle: a stop of the machine, or the copy was made while it was written.
    pub torn_bytes: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// The logs before it, in the order in which they were handed over.
    pub before: Vec<Report>,
}

/// Findings that are kept: who changes much is found out by the first of them.
const FINDINGS_MAX: usize = 100;

/// Proves a log, and those before it.
///
/// # Errors
/// `Unavailable` when a log cannot be read; what is wrong with its content is in the report.
pub fn verify<L: BufRead>(evidence: Evidence<'_, L>) -> Result<Report> {
    let Evidence { log, before, anchored, key, former_keys, now } = evidence;
    let mut findings = Vec::new();
    if anchored.unreadable > 0 {
        findings.push(Finding::UnreadableAnchored { objects: anchored.unreadable });
    }
    let mut kept: Vec<&KeptHead> = anchored.heads.iter().collect();
    kept.sort_by_key(|head| head.nth);
    let mut means = Means { anchored: kept, now, named: HashMap::new() };
    let given: Vec<Given<'_>> = std::iter::once(key).chain(former_keys).collect();
    let mut proofs = vec![(0, prove(log, &means, key, false)?)];
    let mut waiting = Vec::new();
    for (files, place) in before.into_iter().zip(1..) {
        waiting.push((place, Peeked::of(files)?));
    }
    while !waiting.is_empty() {
        means.named.extend(proofs.iter().filter_map(|(_, proof)| proof.named_key()));
        // Newer logs name the keys of older ones.
        let named = |(_, peeked): &(usize, Peeked<L>)| peeked.log.is_some_and(|log| means.named.contains_key(&log));
        let (place, peeked) = waiting.swap_remove(waiting.iter().position(named).unwrap_or(0));
        let (key, was_named) = peeked.key(&given, &means.named);
        proofs.push((place, prove(peeked.files, &means, key, was_named)?));
    }
    means.named.extend(proofs.iter().filter_map(|(_, proof)| proof.named_key()));
    proofs.sort_by_key(|(place, _)| *place);
    let mut proofs: Vec<Proof<'_>> = proofs.into_iter().map(|(_, proof)| proof).collect();
    let keys = given.iter().map(|given| given.public).chain(means.named.values().copied()).collect::<Vec<_>>();
    findings.extend(other_logs(&mut proofs, &means.anchored, &keys));
    judge_named_keys(&mut proofs, &given);
    let mut reports = proofs.into_iter().map(|proof| proof.report);
    let mut report = reports.next().unwrap_or_default();
    findings.into_iter().for_each(|finding| report.find(finding));
    report.before = reports.collect();
    Ok(report)
}

fn prove<'a, L: BufRead>(files: Files<L>, means: &Means<'_>, key: Given<'a>, was_named: bool) -> Result<Proof<'a>> {
    let mut proof = Proof::new(means.now, key, was_named);
    proof.read_heads(files.heads)?;
    proof.read_entries(files.entries, &means.anchored)?;
    proof.judge_tail();
    Ok(proof)
}

impl Report {
    /// Whether nothing is wrong, here and in the logs before.
    pub fn is_proven(&self) -> bool {
        self.findings.is_empty() && self.before.iter().all(Self::is_proven)
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        if !self.findings.iter_mut().any(|found| found.takes_in(&finding)) && self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Files of which the beginning was looked at.
struct Peeked<L> {
    files: Files<L>,
    log: Option<Hash>,
    head: Option<SignedHead>,
}

impl<L: BufRead> Peeked<L> {
    fn of(mut files: Files<L>) -> Result<Self> {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        fn first_line(bytes: &[u8]) -> Option<&[u8]> {
            bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[..end])
        }
        let entry = first_line(files.entries.fill_buf().map_err(unreadable)?);
        let head = first_line(files.heads.fill_buf().map_err(unreadable)?);
        let log = log_of(entry, head);
        let head = head.and_then(|line| std::str::from_utf8(line).ok()).and_then(SignedHead::read);
        Ok(Self { files, log, head })
    }

    /// The given key that has signed its first head; else the one that the log after it names; else that of the newest log. And whether nobody
    /// gave it.
    fn key<'a>(&self, given: &[Given<'a>], named: &HashMap<Hash, PublicKey>) -> (Given<'a>, bool) {
        let signed = |given: &&Given<'a>| self.head.as_ref().is_some_and(|head| head.is_signed_by(&given.public));
        if let Some(given) = given.iter().find(signed) {
            return (*given, false);
        }
        let Some(key) = self.log.and_then(|log| named.get(&log)) else { return (given[0], false) };
        match given.iter().find(|given| given.public == *key) {
            Some(given) => (*given, false),
            None => (Given { public: *key, macs: None }, true),
        }
    }
}

/// Somebody who gives the key of a log before means it to be proven with it, and not with one that the files name.
fn judge_named_keys(proofs: &mut [Proof<'_>], given: &[Given<'_>]) {
    let has_signed = |key: &PublicKey| {
        proofs
            .iter()
            .any(|proof| proof.report.heads > 0 && !proof.report.key_was_named && proof.report.key == Some(*key))
    };
    let unused = given[1..].iter().filter(|given| !has_signed(&given.public)).count() as u64;
    for proof in proofs.iter_mut().filter(|proof| unused > 0 && proof.report.key_was_named) {
        proof.report.find(Finding::KeyNamed { unused });
    }
}

/// Logs that the anchor or a log's first entry knows of, and that were not handed over.
fn other_logs(proofs: &mut [Proof<'_>], anchored: &[&KeptHead], keys: &[PublicKey]) -> Vec<Finding> {
    let known: HashSet<Hash> = proofs.iter().filter_map(|proof| proof.report.log).collect();
    let mut findings = Vec::new();
    // Heads, entries and time of each.
    let mut others: BTreeMap<Hash, (u64, u64, Timestamp)> = BTreeMap::new();
    let mut see = |log: Hash, heads: u64, entries: u64, at: Timestamp| {
        let other = others.entry(log).or_insert((0, 0, at));
        *other = (other.0 + heads, other.1.max(entries), other.2.max(at));
    };
    let mut foreign = 0;
    for head in anchored.iter().filter(|head| !known.contains(&head.log)) {
        match keys.iter().any(|key| head.is_proven_by(key)) {
            true => see(head.log, 1, head.entries, head.at),
            false => foreign += 1,
        }
    }
    if foreign > 0 {
        findings.push(Finding::ForeignHeads { heads: foreign });
    }
    for former in proofs.iter().filter_map(|proof| proof.former.clone()).collect::<Vec<_>>() {
        if !known.contains(&former.log) {
            see(former.log, 0, former.entries, former.at);
        }
        for proof in proofs.iter_mut().filter(|proof| proof.report.log == Some(former.log) && former.head > 0) {
            if !proof.has_head(former.head, &former.hash) {
                proof.report.find(Finding::HeadGone { head: former.head, later: 0 });
            }
        }
    }
    let finding = |(log, (heads, entries, last))| Finding::OtherLog { log, heads, entries, last };
    findings.extend(others.into_iter().map(finding));
    findings
}
