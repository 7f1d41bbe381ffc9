use std::fmt;

use change::Timestamp;

use crate::time::utc;
use crate::{Hash, HeadsKnown};

/// Something that is not as the writers of the log leave it: one finding for a cause, with how much more it has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "lines and heads are numbered from 1, times are microseconds, `later` counts lines or heads, the rest is called what it counts"
)]
pub enum Finding {
    /// The line is no entry, nor are those right behind it. So many heads were signed over something else for it.
    Unreadable { line: u64, later: u64, heads: u64 },
    /// The hash does not follow from the entry and the one before it: something was changed, put in, taken out or exchanged here. So many heads
    /// were signed over something else for it.
    Chain { line: u64, heads: u64 },
    /// The entry has another number than its place, by another distance than the one before it.
    Number { line: u64 },
    /// The MAC is not of the key: the entry was added without it, and those right behind it.
    Mac { line: u64, later: u64 },
    /// Entries with and without a MAC are mixed, and no entry says that MACs begin.
    Mixed { line: u64, later: u64 },
    /// A writer's own numbers do not follow each other.
    Writer { line: u64 },
    /// The machine's clock was set, and no entry says so.
    Clock { line: u64, micros: i64 },
    /// A run was silent for longer than its heartbeat allows.
    Silence { line: u64, micros: i64 },
    /// Entries are dated after the proof; the line is that of the first.
    Future { line: u64, entries: u64, micros: i64 },
    /// A line of the heads is no head, nor are those right behind it.
    UnreadableHead { line: u64, later: u64 },
    /// Objects at the anchor are no heads.
    UnreadableAnchored { objects: u64 },
    /// The signature of a head is not of this key, nor are those of the heads right behind it.
    Signature { head: u64, later: u64, anchored: bool },
    /// A head does not follow from the one before it: one was taken out, put in or replayed.
    HeadChain { head: u64 },
    /// A head was signed over other entries than there are now, and so were later ones: the log was rewritten or forked. All heads hold up to
    /// `proven` entries.
    Root { head: u64, entries: u64, proven: u64, later: u64, anchored: bool },
    /// A head covers more entries than there are, as later ones do, up to this many: the tail was cut off.
    Missing { head: u64, entries: u64, present: u64, later: u64, anchored: bool },
    /// Entries that no head covers and should.
    Unsigned { entries: u64 },
    /// The log ends without a word of its last writer.
    BreaksOff { silent_micros: i64 },
    /// A head that was kept elsewhere, or is named by the log after this one, is not among the log's; nor are later ones.
    HeadGone { head: u64, later: u64 },
    /// An entry names a head that is not among the log's, as later ones do; the last one that is there is `left`.
    HeadNamed { line: u64, head: u64, left: u64, later: u64 },
    /// A writer has found that heads were missing, and has said so.
    HeadsMissing { line: u64, known: HeadsKnown, head: u64, left: u64 },
    /// There was another log, and no copy of it was handed over: heads of it at the anchor, entries that the newest head covers, and its time.
    OtherLog { log: Hash, heads: u64, entries: u64, last: Timestamp },
    /// Heads of other logs at the anchor are signed by none of the keys.
    ForeignHeads { heads: u64 },
    /// Nobody gave the key of this log: the one after it names it. And so many keys that were given have signed none of the logs.
    KeyNamed { unused: u64 },
    /// The line is of a command that goes on after the log was set aside, and so are later ones.
    GoesOn { line: u64, later: u64 },
    /// There is no entry at all.
    Empty,
}

impl Finding {
    /// Takes in another finding of the same cause, which came after this one; whether it is one.
    pub(crate) fn takes_in(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unreadable { line, later, .. }, Self::Unreadable { line: next, .. })
            | (Self::Mac { line, later }, Self::Mac { line: next, .. })
            | (Self::Mixed { line, later }, Self::Mixed { line: next, .. })
            | (Self::UnreadableHead { line, later }, Self::UnreadableHead { line: next, .. }) => {
                count(later, *next == *line + *later + 1)
            }
            (Self::Signature { head, later, anchored }, Self::Signature { head: next, anchored: at, .. }) => {
                count(later, anchored == at && (*anchored || *next == *head + *later + 1))
            }
            (Self::Root { later, anchored, .. }, Self::Root { anchored: at, .. }) => count(later, anchored == at),
            (Self::Missing { entries, later, anchored, .. }, Self::Missing { entries: more, anchored: at, .. }) => {
                *entries = if anchored == at { *more.max(entries) } else { *entries };
                count(later, anchored == at)
            }
            (Self::HeadGone { later, .. }, Self::HeadGone { .. })
            | (Self::HeadNamed { later, .. }, Self::HeadNamed { .. })
            | (Self::GoesOn { later, .. }, Self::GoesOn { .. })
            | (Self::UnreadableAnchored { objects: later }, Self::UnreadableAnchored { .. })
            | (Self::ForeignHeads { heads: later }, Self::ForeignHeads { .. }) => count(later, true),
            _ => false,
        }
    }
}

fn count(later: &mut u64, is_same: bool) -> bool {
    *later += u64::from(is_same);
    is_same
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { line, later, heads } => {
                write!(f, "line {line} is no entry{}{}", more(*later, "lines"), parted(*heads))
            }
            Self::Chain { line, heads } => {
                let what =
                    "its hash does not follow: an entry was changed, put in, taken out or exchanged at or before it";
                write!(f, "line {line}: {what}{}", parted(*heads))
            }
            Self::Mac { line, later } => {
                let more = more(*later, "lines");
                write!(f, "line {line}: its MAC is not of the key: the entry was added by somebody without it{more}")
            }
            Self::Mixed { line, later } => {
                write!(f, "line {line}: entries with and without a MAC are mixed{}", more(*later, "lines"))
            }
            Self::Number { line } => write!(f, "line {line}: the entry has the number of another place"),
            Self::Writer { line } => write!(f, "line {line}: the numbers or times of its writer do not follow"),
            Self::Clock { line, micros } => {
                write!(f, "line {line}: the clock jumped by {:.1} s, and no entry says so", seconds(*micros))
            }
            Self::Silence { line, micros } => {
                write!(f, "line {line}: no heartbeat for {:.0} s before it", seconds(*micros))
            }
            Self::Future { line, entries, micros } => {
                let seconds = seconds(*micros);
                write!(f, "{entries} entries from line {line} on are dated after now, by up to {seconds:.0} s")
            }
            Self::Unsigned { entries } => write!(f, "the last {entries} entries are not signed: they prove nothing"),
            Self::BreaksOff { silent_micros } => write!(
                f,
                "the log breaks off: its last writer neither closed nor gave a heartbeat for {:.0} s",
                seconds(*silent_micros)
            ),
            Self::Empty => f.write_str("there is no entry"),
            Self::GoesOn { line, later } => {
                write!(f, "line {line}: the log goes on after it was set aside{}", more(*later, "lines"))
            }
            Self::KeyNamed { unused } => write!(
                f,
                "its key is named by the log after it alone, and {unused} keys that you gave have signed no log here: another log may have taken its place"
            ),
            of_heads => of_heads.tell_of_heads(f),
        }
    }
}

impl Finding {
    fn tell_of_heads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |anchored: &bool| if *anchored { " of the anchor" } else { "" };
        match self {
            Self::UnreadableHead { line, later } => {
                write!(f, "line {line} of the heads is no signed head{}", more(*later, "lines"))
            }
            Self::UnreadableAnchored { objects } => write!(f, "{objects} objects at the anchor are no signed heads"),
            Self::Signature { head, later, anchored } => {
                let (place, more) = (place(anchored), more(*later, "heads"));
                write!(f, "head {head}{place}: its signature is missing or of another key{more}")
            }
            Self::HeadChain { head } => {
                write!(f, "head {head} does not follow from the one before it: one was taken out, put in or replayed")
            }
            Self::Root { head, entries, proven, later, anchored } => {
                let (place, from, more) = (place(anchored), proven + 1, more(*later, "heads"));
                write!(f, "entries {from} to {entries} are others than head {head}{place} was signed over{more}")
            }
            Self::Missing { head, entries, present, later, anchored } => {
                let (place, more) = (place(anchored), more(*later, "heads"));
                let what = format!("head {head}{place} covers entries that are gone{more}");
                write!(f, "{what}: of {entries} entries only {present} are left, the tail was cut off")
            }
            Self::HeadGone { head, later } => {
                let more = more(*later, "heads");
                write!(f, "head {head} was kept elsewhere and is not in the log{more}: the log was set back")
            }
            Self::HeadNamed { line, head, left, later } => {
                let more = more(*later, "entries");
                write!(
                    f,
                    "line {line} names head {head}, and head {left} is the last that is left{more}: heads were cut off"
                )
            }
            Self::HeadsMissing { line, known, head, left } => {
                let known = match known {
                    HeadsKnown::Log => "by the log",
                    HeadsKnown::Anchor => "by the anchor",
                };
                write!(
                    f,
                    "line {line}: its writer found heads missing: {known} there was head {head}, and {left} was the last"
                )
            }
            Self::OtherLog { log, heads, entries, last } => {
                let (log, last) = (log.short(), utc(*last));
                let had = format!("it had {entries} entries until {last}, {heads} of its heads lie at the anchor");
                let to_do = "prove its kept copy with this one (--before FOLDER)";
                write!(f, "the log {log} was set aside, thrown away or begun anew: {had}; {to_do}")
            }
            Self::ForeignHeads { heads } => write!(
                f,
                "{heads} heads of other logs at the anchor are signed by none of the keys: give the keys of the logs before, too (--key KEY --key KEY)"
            ),
            _ => Ok(()),
        }
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn more(later: u64, what: &str) -> String {
    if later == 0 { String::new() } else { format!(", and so it is with {later} later {what}") }
}

fn parted(heads: u64) -> String {
    if heads == 0 { String::new() } else { format!("; {heads} heads were signed over what was there before") }
}
