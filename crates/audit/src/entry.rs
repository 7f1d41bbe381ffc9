use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hex::{decode, encode};
use crate::{Event, Hash, Hex, MacKey, Name};

/// One line of the log: `{"hash":"<64 digits>","mac":"<64 digits>","entry":{...}}`. The hash is SHA-256 of the hash before it (32 bytes, zero
/// for the first) and the bytes of the entry as they stand in the line; the MAC is [`MacKey`]'s of the hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The entry's number in the log, from 0.
    pub seq: u64,
    /// The process that wrote it.
    pub writer: Hex,
    /// The entry's number among those of its writer, from 1.
    pub nth: u64,
    /// The machine's time, microseconds since the Unix epoch.
    pub at: Timestamp,
    /// Time since the writer's start by a clock that cannot be set, in microseconds.
    pub up: u64,
    /// The number of the newest head that its writer knew of: it cannot be taken away later without this entry contradicting it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub heads: u64,
    /// What happened.
    pub what: Event,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_none(heads: &u64) -> bool {
    *heads == 0
}

/// What every version reads of an entry, also of one that a newer version wrote.
#[derive(Deserialize)]
pub(crate) struct Outline {
    pub(crate) seq: u64,
    pub(crate) writer: Hex,
    pub(crate) nth: u64,
    pub(crate) at: Timestamp,
    pub(crate) up: u64,
    #[serde(default)]
    pub(crate) heads: u64,
    what: Kindred,
}

#[derive(Default, Deserialize)]
struct Kindred {
    event: Name,
}

impl Outline {
    /// The word for its event, of a line that was read as an outline.
    pub(crate) fn event(&self) -> &str {
        self.what.event.as_str()
    }
}

impl Entry {
    /// Its numbers, and what happened.
    pub(crate) fn parts(self) -> (Outline, Event) {
        let Self { seq, writer, nth, at, up, heads, what } = self;
        (Outline { seq, writer, nth, at, up, heads, what: Kindred::default() }, what)
    }
}

const OPEN: &[u8] = b"{\"hash\":\"";
const MAC: &[u8] = b"\",\"mac\":\"";
const BODY: &[u8] = b"\",\"entry\":";

/// A line, taken apart.
pub(crate) struct Line<'a> {
    /// The hash that it states.
    pub(crate) hash: Hash,
    /// The MAC that it states; lines of logs that were begun before there were MACs have none.
    pub(crate) mac: Option<Hash>,
    /// The entry's bytes.
    pub(crate) body: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line without its line break.
    pub(crate) fn read(line: &'a [u8]) -> Option<Self> {
        let (hash, rest) = digits(line.strip_prefix(OPEN)?)?;
        let (mac, rest) = match rest.strip_prefix(MAC) {
            Some(rest) => digits(rest).map(|(mac, rest)| (Some(mac), rest))?,
            None => (None, rest),
        };
        let body = rest.strip_prefix(BODY)?.strip_suffix(b"}")?;
        Some(Self { hash, mac, body })
    }

    /// What stands for the line in the tree: both, so that a head covers MACs for those who cannot prove them.
    pub(crate) fn leaf(&self) -> Hash {
        leaf(&self.hash, self.mac.as_ref())
    }
}

fn digits(text: &[u8]) -> Option<(Hash, &[u8])> {
    let (digits, rest) = text.split_at_checked(64)?;
    let mut hash = Hash::default();
    decode(digits, &mut hash.0).then_some((hash, rest))
}

fn leaf(hash: &Hash, mac: Option<&Hash>) -> Hash {
    mac.map_or(*hash, |mac| Hash::of(&[&hash.0, &mac.0]))
}

/// The hash of an entry behind `previous`.
pub(crate) fn chained(previous: &Hash, body: &[u8]) -> Hash {
    Hash::of(&[&previous.0, body])
}

/// A line that was made: its text with the line break, its hash, and its leaf.
pub(crate) struct Made {
    pub(crate) text: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) leaf: Hash,
}

/// Makes the line of an entry behind `previous`.
pub(crate) fn line(previous: &Hash, entry: &Entry, macs: &MacKey) -> Result<Made> {
    let body = serde_json::to_vec(entry)
        .map_err(|error| Error::new(Kind::Bug, "an entry of the audit log is not JSON").source(error))?;
    let hash = chained(previous, &body);
    let mac = macs.of(&hash);
    let (hash_digits, mac_digits) = (encode(&hash.0), encode(&mac.0));
    let text = [OPEN, hash_digits.as_bytes(), MAC, mac_digits.as_bytes(), BODY, &body, b"}\n"].concat();
    Ok(Made { text, hash, leaf: leaf(&hash, Some(&mac)) })
}

/// When and by which word of a newer version a line of the log was written that this version does not know, without any proof; `None` for
/// what is no line of any version.
pub fn read_newer_line(line: &str) -> Option<(Timestamp, Name)> {
    let outline: Outline = serde_json::from_slice(Line::read(line.as_bytes())?.body).ok()?;
    Some((outline.at, outline.what.event))
}

/// The entry of a line of the log, without any proof; `None` for what is no such line.
pub fn read_line(line: &str) -> Option<Entry> {
    serde_json::from_slice(Line::read(line.as_bytes())?.body).ok()
}
