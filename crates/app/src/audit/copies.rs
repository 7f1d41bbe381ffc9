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
    /// What has signed them: nothing else gets to the anchor.
    key: PublicKey,
    mark_file: PathBuf,
    state: Mutex<State>,
}

struct State {
    mark: Mark,
    /// The newest head that was copied out of turn.
    ahead: Option<u64>,
    /// Whether the anchor was asked for heads that the log lacks, and what it has was written down.
    asked: bool,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    /// SHA-256 of the anchor's place.
    place: Hash,
    /// Where the first line begins in the file that was not copied.
    next: u64,
    /// SHA-256 of the line before it: where it is another one, heads were cut off, and others have come.
    last: Hash,
    /// The number from which on the anchor is asked for heads that the log lacks.
    first: u64,
}

impl Copies {
    /// Goes on where the last process has ended, and begins with the first head of a log that was never marked. An anchor in the place of
    /// another one gets what comes from here on.
    ///
    /// # Errors
    /// `Full` when the log's folder cannot be read.
    pub(super) fn of(folder: &Path, anchor: Anchor, key: PublicKey) -> Result<Self> {
        let (heads, mark_file) = (Heads::of(folder), folder.join(MARK_FILE));
        let text = std::fs::read(&mark_file).unwrap_or_default();
        let place = anchor.place;
        let mut is_new = false;
        let mark = match serde_json::from_slice::<Mark>(&text) {
            Ok(mark) if mark.place == place => {
                // Nothing that the file has not by now was asked for.
                let newest = heads.newest(&key).map_err(unreadable)?.map_or(0, |(head, _)| head.nth);
                Mark { first: mark.first.min(newest), ..mark }
            }
            Ok(_) => {
                let end = heads.length().map_err(unreadable)?;
                let last = heads.line_before(end).map_err(unreadable)?;
                let (next, last) = last.map_or((0, Hash::default()), |last| (end, last));
                is_new = true;
                Mark { place, next, last, first: 0 }
            }
            Err(_) => Mark { place, next: 0, last: Hash::default(), first: 0 },
        };
        if is_new {
            write_mark(&mark_file, &mark);
        }
        let state = Mutex::new(State { mark, ahead: None, asked: false });
        Ok(Self { anchor, heads, key, mark_file, state })
    }

    /// Copies the next heads, and the newest one first where there are many; whether all are there.
    ///
    /// # Errors
    /// Those of the anchor: what did not arrive is copied by the next call, of this process or another.
    pub(super) async fn send(&self) -> Result<bool> {
        let mut state = self.state.lock().await;
        // Heads were cut off: those that are there now are copied again, each under the name that it has there.
        if self.heads.line_before(state.mark.next).map_err(unreadable)? != Some(state.mark.last) {
            (state.mark.next, state.mark.last) = (0, Hash::default());
        }
        let lines = self.heads.from(state.mark.next, PIECE, &self.key).map_err(unreadable)?;
        let is_all = lines.len() < PIECE;
        if let (false, Some((head, line))) = (is_all, self.heads.newest(&self.key).map_err(unreadable)?)
            && state.ahead != Some(head.nth)
        {
            self.anchor.keep(&head, &line).await?;
            state.ahead = Some(head.nth);
        }
        let before = state.mark.next;
        let mut sent = Ok(is_all);
        for line in lines {
            if let Some(head) = &line.head {
                if let Err(error) = self.anchor.keep(head, &line.line).await {
                    sent = Err(error);
                    break;
                }
                if state.asked {
                    state.mark.first = head.nth;
                }
            }
            (state.mark.next, state.mark.last) = (line.end, line.hash);
        }
        if state.mark.next != before {
            write_mark(&self.mark_file, &state.mark);
        }
        sent
    }

    /// Asks the anchor for heads of this log that the log lacks, and has the highest number of those that were looked at written down. It does so
    /// once, behind what was copied when it was asked the last time: heads get to the anchor from the file, so that the file had them all.
    ///
    /// # Errors
    /// Those of `note`, which says whether it has written: until it has, the anchor is asked again, by the next process too.
    pub(super) async fn ask(&self, log: Hash, note: impl FnOnce(u64) -> Result<bool>) -> Result<()> {
        let mut state = self.state.lock().await;
        if state.asked {
            return Ok(());
        }
        let lacking = match self.lacking(&log, state.mark.first).await {
            Ok(lacking) => lacking,
            // Who may write there may perhaps not list.
            Err(error) => {
                tracing::warn!(%error, "the anchor cannot be asked which heads of the audit log it has");
                return Ok(());
            }
        };
        if !lacking.map_or(Ok(true), note)? {
            return Ok(());
        }
        state.asked = true;
        state.mark.first = self.heads.newest(&self.key).map_err(unreadable)?.map_or(0, |(head, _)| head.nth);
        write_mark(&self.mark_file, &state.mark);
        Ok(())
    }

    async fn lacking(&self, log: &Hash, first: u64) -> Result<Option<u64>> {
        let mut lacking = None;
        for (head, line) in self.anchor.from(log, first, &self.key).await? {
            if !self.heads.have(&head, &line, &self.key).map_err(unreadable)? {
                lacking = lacking.max(Some(head.nth));
            }
        }
        Ok(lacking)
    }
}

fn write_mark(file: &Path, mark: &Mark) {
    let unnamed = file.with_extension("json.new");
    let text = serde_json::to_vec(mark).unwrap_or_default();
    if let Err(error) = std::fs::write(&unnamed, text).and_then(|()| std::fs::rename(&unnamed, file)) {
        tracing::warn!(%error, "it was not noted which heads of the audit log are at the anchor; they will be copied again");
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Full, "the heads of the audit log cannot be read").source(error).fix("Give this user the file.")
}
