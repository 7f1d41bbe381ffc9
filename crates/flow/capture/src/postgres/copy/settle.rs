//! When a first copy is finished: not when its last chunk is read, but when no row can lack its base any more.
//!
//! An update beside the copy may leave out unchanged large values, and the chunks may have missed its row: it moved from a place that was still
//! to be read to one that was read already. So the values are read again, some time after the update. Then the row may be gone, or newer.
//! Either way the table is right again once the stream has come to the end of the log as it was after the last such reading, because the
//! change that made the difference lies below. That position is what the lake is told as the end of the copy, and not before
//! the stream has passed it: until then an update may find no row, and must not be taken for a sign of loss.
//!
//! From the first such position on only updates that change the key are read again: their row may be one that is missing under its old key.
//! They are rare, so an end comes.

use change::CopyProgress;
use pgwire_replication::Lsn;

/// Whether the lake has the rows that streamed updates build upon.
#[derive(Debug)]
pub(crate) enum Base {
    /// Chunks are still to be read, or handed over.
    Copying,
    /// All chunks are handed over, and the stream is not far enough.
    Settling(Settling),
    /// It has them all.
    Whole,
}

/// A copy whose chunks are all handed over.
#[derive(Debug)]
pub(crate) struct Settling {
    progress: CopyProgress,
    /// A table without key has no such updates, so it waits for nothing.
    keyed: bool,
    /// Every value that an update below left out is read again.
    all_below: Option<Lsn>,
    /// The end of the log when it was last looked at; `None` when it has to be.
    through: Option<Lsn>,
    /// Values were read again since.
    read: bool,
}

/// What a copy that settles needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The stream has to come further.
    Wait,
    /// The end of the log, for [`Base::look`].
    Look,
    /// The copy is finished at this position.
    Finished(Lsn),
}

impl Base {
    /// All chunks of the copy are handed over.
    pub(crate) fn settle(&mut self, progress: CopyProgress, keyed: bool) {
        *self = Self::Settling(Settling { progress, keyed, all_below: None, through: None, read: false });
    }

    /// Whether values that an update left out are to be read again, for the transaction that commits at `lsn`.
    pub(crate) fn lacks(&self, lsn: Lsn, key_changes: bool) -> bool {
        match self {
            Self::Copying => true,
            Self::Settling(settling) => key_changes || settling.all_below.is_none_or(|below| lsn < below),
            Self::Whole => false,
        }
    }

    /// Notes that values were read again just now.
    pub(crate) fn was_read(&mut self) {
        if let Self::Settling(settling) = self {
            settling.read = true;
        }
    }

    /// Forgets positions that may be of another history of the log.
    pub(crate) fn look_again(&mut self) {
        if let Self::Settling(settling) = self {
            settling.through = None;
        }
    }

    /// What is to be done when everything below `reached` was handed over.
    pub(crate) fn next(&self, reached: Lsn) -> Next {
        let Self::Settling(settling) = self else { return Next::Wait };
        match settling.through {
            None => Next::Look,
            Some(through) if settling.keyed && reached < through => Next::Wait,
            Some(_) if settling.read => Next::Look,
            Some(through) => Next::Finished(through),
        }
    }

    /// Takes the end of the log as it is now.
    pub(crate) fn look(&mut self, end: Lsn) {
        if let Self::Settling(settling) = self {
            settling.all_below.get_or_insert(end);
            (settling.through, settling.read) = (Some(end), false);
        }
    }

    /// The progress of a copy that is finished, which settles no more.
    pub(crate) fn finish(&mut self) -> Option<CopyProgress> {
        match std::mem::replace(self, Self::Whole) {
            Self::Settling(settling) => Some(settling.progress),
            other => {
                *self = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use change::{ChunkSet, Position};

    use super::*;

    fn settling(keyed: bool) -> Base {
        let mut base = Base::Copying;
        let (low, done) = (Position::default(), ChunkSet::default());
        base.settle(CopyProgress { low, plan: String::new(), chunks: 0, done, finished: None }, keyed);
        base
    }

    fn lsn(at: u64) -> Lsn {
        Lsn::from_u64(at)
    }

    #[test]
    fn a_copy_ends_where_the_stream_passes_the_log_as_it_was_after_the_last_reading() {
        let mut base = settling(true);
        assert_eq!(base.next(lsn(50)), Next::Look);
        base.look(lsn(100));
        assert!(base.lacks(lsn(99), false));
        assert_eq!(base.next(lsn(99)), Next::Wait);
        base.was_read();
        assert_eq!(base.next(lsn(100)), Next::Look);
        base.look(lsn(200));
        assert!(!base.lacks(lsn(150), false), "its row is in the lake, or gone before 200");
        assert!(base.lacks(lsn(150), true), "its row may be missing under the key that it had");
        assert_eq!(base.next(lsn(200)), Next::Finished(lsn(200)));
        assert!(base.finish().is_some());
        assert!(!base.lacks(lsn(150), true));
        assert_eq!((base.next(lsn(300)), base.finish()), (Next::Wait, None));
    }

    #[test]
    fn another_history_of_the_log_is_looked_at_anew() {
        let mut base = settling(true);
        base.look(lsn(100));
        base.look_again();
        assert_eq!(base.next(lsn(100)), Next::Look);
        base.look(lsn(90));
        assert!(base.lacks(lsn(95), false));
        assert_eq!(base.next(lsn(90)), Next::Finished(lsn(90)));
    }

    #[test]
    fn a_table_without_key_is_whole_at_once() {
        let mut base = settling(false);
        base.look(lsn(100));
        assert_eq!(base.next(lsn(50)), Next::Finished(lsn(100)));
    }

    #[test]
    fn a_table_that_is_being_copied_does_not_settle() {
        assert!(Base::Copying.lacks(lsn(u64::MAX), false));
        assert_eq!((Base::Copying.next(lsn(9)), Base::Copying.finish()), (Next::Wait, None));
    }
}
