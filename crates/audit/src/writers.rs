//! The writers of a log, each by its own numbers and clocks.

use std::collections::HashMap;

use change::Timestamp;

use crate::entry::Outline;
use crate::finding::Finding;
use crate::log::JUMP_MICROS;
use crate::{Event, Hex, Program};

/// Heartbeats come every minute.
const SILENCE_MICROS_MAX: i64 = 150_000_000;

/// All writers of a log so far.
#[derive(Default)]
pub(crate) struct Writers {
    seen: HashMap<Hex, Seen>,
    last: Option<Hex>,
}

struct Seen {
    nth: u64,
    at: Timestamp,
    up: u64,
    heartbeats: bool,
    closed: bool,
    /// How far the clock was set back before its first entry, where MACs begin there: the entry behind it says so.
    unsaid: Option<(u64, i64)>,
}

impl Writers {
    /// One entry after the other, as its writer must have left it; `last` is the time of the one before. Times are anybody's until a head has
    /// proven them.
    pub(crate) fn follow(
        &mut self,
        entry: &Outline,
        event: Option<&Event>,
        line: u64,
        last: Option<Timestamp>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        // An entry that says how the clock jumped is what a writer leaves.
        let jump_said = matches!(event, Some(Event::ClockJumped { .. }));
        let back = last.map_or(0, |last| entry.at.saturating_sub(last));
        let mut unsaid = (back < -JUMP_MICROS && entry.nth == 1 && !jump_said).then_some((line, back));
        if event != Some(&Event::MacsBegun {}) {
            findings.extend(unsaid.take().map(|(line, micros)| Finding::Clock { line, micros }));
        }
        let heartbeats = matches!(event, Some(Event::Opened { program: Program::Run, .. }));
        let closed = event == Some(&Event::Closed {});
        if self.last.as_ref() != Some(&entry.writer) {
            self.last = Some(entry.writer.clone());
        }
        let Some(seen) = self.seen.get_mut(&entry.writer) else {
            let seen = Seen { nth: entry.nth, at: entry.at, up: entry.up, heartbeats, closed, unsaid };
            self.seen.insert(entry.writer.clone(), seen);
            if entry.nth != 1 {
                findings.push(Finding::Writer { line });
            }
            return findings;
        };
        let unsaid = seen.unsaid.take().filter(|_| !jump_said);
        findings.extend(unsaid.map(|(line, micros)| Finding::Clock { line, micros }));
        let passed = entry.up.cast_signed().saturating_sub(seen.up.cast_signed());
        let jumped = entry.at.saturating_sub(seen.at).saturating_sub(passed);
        if Some(entry.nth) != seen.nth.checked_add(1) || passed < 0 || seen.closed {
            findings.push(Finding::Writer { line });
        }
        if seen.heartbeats && passed > SILENCE_MICROS_MAX {
            findings.push(Finding::Silence { line, micros: passed });
        }
        if jumped.saturating_abs() > JUMP_MICROS && !jump_said {
            findings.push(Finding::Clock { line, micros: jumped });
        }
        (seen.nth, seen.at, seen.up) = (entry.nth, entry.at, entry.up);
        seen.heartbeats |= heartbeats;
        seen.closed |= closed;
        findings
    }

    /// How many ended without closing, and whether the last one, nobody having come after it, has been silent for too long.
    pub(crate) fn ends(&self, now: Timestamp, last: Timestamp) -> (u64, Option<Finding>) {
        let open = self.seen.values().filter(|writer| !writer.closed).count() as u64;
        let latest = self.last.as_ref().and_then(|writer| self.seen.get(writer));
        if latest.is_none_or(|writer| writer.closed) {
            return (open, None);
        }
        // It still writes, or the end is missing.
        let silent_micros = now.saturating_sub(last);
        (open - 1, (silent_micros > SILENCE_MICROS_MAX).then_some(Finding::BreaksOff { silent_micros }))
    }
}
