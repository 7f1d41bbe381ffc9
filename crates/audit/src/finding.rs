use std::fmt;

use change::Timestamp;

use crate::Hash;
use crate::time::utc;

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
    /// The MAC is not of the key: the entry was added without it.
    Mac { line: u64 },
    /// Entries with and without a MAC are mixed, and no entry says that MACs begin.
    Mixed { line: u64 },
    /// A writer's own numbers do not follow each other.
    Writer { line: u64 },
    /// The machine's clock was set, and no entry says so.
    Clock { line: u64, micros: i64 },
    /// A run was silent for longer than its heartbeat allows.
    Silence { line: u64, micros: i64 },
    /// Entries are dated after the proof; the line is that of the first.
    Future { line: u64, entries: u64, micros: i64 },
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
    /// There was another log under this key, and no copy of it was handed over: heads of it at the anchor, entries that the newest head
    /// covers, and its time.
    OtherLog { log: Hash, heads: u64, entries: u64, last: Timestamp },
    /// There is no entry at all.
    Empty,
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
            Self::Mac { line } => {
                write!(f, "line {line}: its MAC is not of the key: the entry was added by somebody without it")
            }
            Self::Mixed { line } => write!(f, "line {line}: entries with and without a MAC are mixed"),
            Self::Number { line } => write!(f, "line {line}: the entry has the number of another place"),
            Self::Writer { line } => write!(f, "line {line}: the numbers or times of its writer do not follow"),
            Self::Clock { line, micros } => {
                write!(f, "line {line}: the clock jumped by {:.1} s, and no entry says so", seconds(micros))
            }
            Self::Silence { line, micros } => {
                write!(f, "line {line}: no heartbeat for {:.0} s before it", seconds(micros))
            }
            Self::Future { line, entries, micros } => {
                let seconds = seconds(micros);
                write!(f, "{entries} entries from line {line} on are dated after now, by up to {seconds:.0} s")
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
                write!(f, "head {head} was kept elsewhere and is not in the log: the log was set back")
            }
            Self::OtherLog { log, heads, entries, last } => write!(
                f,
                "the log {} of this key was thrown away or begun anew: it had {entries} entries until {}, {heads} of its heads lie at the \
                 anchor; prove its kept copy with this one (--before FOLDER)",
                log.short(),
                utc(*last)
            ),
            Self::Empty => f.write_str("there is no entry"),
        }
    }
}
