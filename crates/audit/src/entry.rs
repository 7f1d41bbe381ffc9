use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hex::{decode, encode};
use crate::{Event, Hash, Hex};

/// One line of the log: `{"hash":"<64 digits>","entry":{...}}`. The hash is SHA-256 of the hash before it (32 bytes, zero for the first) and
/// the bytes of the entry as they stand in the line.
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
    /// What happened.
    pub what: Event,
}

const OPEN: &[u8] = b"{\"hash\":\"";
const BETWEEN: &[u8] = b"\",\"entry\":";
const BODY_AT: usize = OPEN.len() + 64 + BETWEEN.len();

/// A line without its line break, taken apart: the hash that it states, and the entry's bytes.
pub(crate) fn split(line: &[u8]) -> Option<(Hash, &[u8])> {
    let rest = line.strip_prefix(OPEN)?;
    let (digits, rest) = rest.split_at_checked(64)?;
    let body = rest.strip_prefix(BETWEEN)?.strip_suffix(b"}")?;
    let mut hash = [0; 32];
    decode(digits, &mut hash).then_some((Hash(hash), body))
}

/// The hash of an entry behind `previous`.
pub(crate) fn chained(previous: &Hash, body: &[u8]) -> Hash {
    Hash::of(&[&previous.0, body])
}

/// The line of an entry behind `previous`, with its line break, and its hash.
pub(crate) fn line(previous: &Hash, entry: &Entry) -> Result<(Vec<u8>, Hash)> {
    let body = serde_json::to_vec(entry)
        .map_err(|error| Error::new(Kind::Bug, "an entry of the audit log is not JSON").source(error))?;
    let hash = chained(previous, &body);
    let mut line = Vec::with_capacity(BODY_AT + body.len() + 2);
    line.extend_from_slice(OPEN);
    line.extend_from_slice(encode(&hash.0).as_bytes());
    line.extend_from_slice(BETWEEN);
    line.extend_from_slice(&body);
    line.extend_from_slice(b"}\n");
    Ok((line, hash))
}

/// The entry of a line of the log, without any proof; `None` for what is no such line.
pub fn read_line(line: &str) -> Option<Entry> {
    serde_json::from_slice(split(line.as_bytes())?.1).ok()
}
