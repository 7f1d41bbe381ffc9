//! Heads on their way to the anchor. They lie on the disk until they are there: however long the anchor is away, none is kept in memory.

use std::path::{Path, PathBuf};

use ::audit::{Hash, Heads, PublicKey};
use change::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::anchor::Anchor;

/// Up to where heads were copied, in the log's folder. It is a hint: whoever changes it makes heads be copied again, or left out before the
/// newest one, which covers what they cover.
const MARK_FILE: &str = "anchored.json";
/// Heads that are copied at a time.
const PIECE: usize = 64;

/// The heads of a log, and the anchor that gets copies of them.
pub(super) struct Copies {
    anchor: Anchor,
    heads: Heads,
    mark: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Where the first head begins in the file that was not copied.
    next: u64,
    /// The newest head that was copied out of turn.
    ahead: Option<u64>,
    /// Whether the anchor was asked for heads that the log lacks.
    asked: bool,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    /// SHA-256 of the anchor's place.
    place: Hash,
    next: u64,
}

impl Copies {
    /// Goes on where the last process has ended; with an anchor that is new, or was never marked, from here on.
    ///
    /// # Errors
    /// `Full` when the log's folder cannot be read.
    pub(super) fn of(folder: &Path, anchor: Anchor) -> Result<Self> {
        let (heads, mark) = (Heads::of(folder), folder.join(MARK_FILE));
        let text = std::fs::read(&mark).unwrap_or_default();
        let marked = serde_json::from_slice::<Mark>(&text).ok().filter(|mark| mark.place == anchor.place);
        let next = match marked {
            Some(Mark { next, .. }) if heads.is_between_lines(next).map_err(unreadable)? => next,
            _ => heads.length().map_err(unreadable)?,
        };
        let state = Mutex::new(State { next, ahead: None, asked: false });
        Ok(Self { anchor, heads, mark, state })
    }

    /// Copies the next heads, and the newest one first where there are many; whether all are there.
    ///
    /// # Errors
    /// Those of the anchor: what did not arrive is copied by the next call, of this process or another.
    pub(super) async fn send(&self) -> Result<bool> {
        let mut state = self.state.lock().await;
        let lines = self.heads.from(state.next, PIECE).map_err(unreadable)?;
        let is_all = lines.len() < PIECE;
        if let (false, Some((head, line))) = (is_all, self.heads.newest().map_err(unreadable)?)
            && state.ahead != Some(head.nth)
        {
            self.anchor.keep(&head, &line).await?;
            state.ahead = Some(head.nth);
        }
        let before = state.next;
        let mut sent = Ok(is_all);
        for line in lines {
            if let Some(head) = &line.head
                && let Err(error) = self.anchor.keep(head, &line.line).await
            {
                sent = Err(error);
                break;
            }
            state.next = line.end;
        }
        if state.next != before {
            self.write_mark(state.next);
        }
        sent
    }

    /// The number of a head of this log that the anchor has and the log lacks, the highest one of those that were looked at. It is looked for
    /// once, behind what was copied before: heads get to the anchor from the file, so that the file had them all.
    ///
    /// # Errors
    /// Those of the anchor.
    pub(super) async fn lacking(&self, log: Hash, key: &PublicKey) -> Result<Option<u64>> {
        let mut state = self.state.lock().await;
        if state.asked {
            return Ok(None);
        }
        let waiting = self.heads.from(state.next, 1).map_err(unreadable)?;
        let waiting = waiting.into_iter().find_map(|line| line.head);
        let first = match waiting {
            Some(head) => head.nth,
            None => self.heads.newest().map_err(unreadable)?.map_or(0, |(head, _)| head.nth),
        };
        let mut lacking = None;
        for (head, line) in self.anchor.from(&log, first, key).await? {
            if !self.heads.have(&head, &line).map_err(unreadable)? {
                lacking = lacking.max(Some(head.nth));
            }
        }
        state.asked = true;
        Ok(lacking)
    }

    fn write_mark(&self, next: u64) {
        let unnamed = self.mark.with_extension("json.new");
        let text = serde_json::to_vec(&Mark { place: self.anchor.place, next }).unwrap_or_default();
        let written = std::fs::write(&unnamed, text).and_then(|()| std::fs::rename(&unnamed, &self.mark));
        if let Err(error) = written {
            tracing::warn!(%error, "it was not noted which heads of the audit log are at the anchor; they will be copied again");
        }
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Full, "the heads of the audit log cannot be read").source(error).fix("Give this user the file.")
}
