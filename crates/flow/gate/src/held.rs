//! Rows that the gate keeps back, and the order in which they come in after all.
//!
//! A value that its transform cannot read, under `on_invalid: hold`, keeps its whole row out of the lake. What leaves this crate is a
//! [`HeldRow`]: the raw row in a sealed record, and beside it only where it was and why it is held.
//!
//! Order must survive. Between the change that is held and its release, the source goes on changing the same row, so everything that
//! follows on the same key, deletes included, is held behind it ([`Why::Behind`]); keys are known by a keyed hash. A change of key (the two
//! halves [`change::Op::MoveOut`] and [`change::Op::Insert`]) is one unit and has two keys. Released rows come in by position, and none
//! before an earlier one of its key: when a key is free again, what the lake has of it is the newest, and the stream goes on.
//!
//! Rows of a first copy carry LOW and lose to every change above it. So one is held only when no change of its key has passed during the
//! copy ([`Cleared::passed`](crate::Cleared::passed) tells the keeper of those); a chunk that is read again replaces the copied row that is
//! held.
//!
//! A source sends again what was not confirmed. A row that was kept back before is known by its position and passed over, also when it
//! has been released or dropped since, until every lake table is beyond it; from then on everything up to there is passed over.

use std::collections::{BTreeSet, HashMap};

use change::{Op, Position, Timestamp};

mod record;
mod row_key;

pub use self::record::Sealed;
pub(crate) use self::record::{adapt, joined_meta, meta_of, open, seal};
pub use self::row_key::RowKey;
pub(crate) use self::row_key::RowKeys;

/// A change that the gate has kept back: sealed, with what may be known of it in clear.
#[derive(Clone, Debug)]
pub struct HeldRow {
    /// Where it was; for a change of key, where the first half was.
    pub position: Position,
    /// The position of the second half of a change of key, else that of the row.
    pub last: Position,
    /// Whether the first copy brought it: then it is known by its key, because all copied rows share a position.
    pub copied: bool,
    /// The keyed hashes of its key; two for a change of key.
    pub keys: Vec<RowKey>,
    /// What happened to the row.
    pub op: Op,
    /// When the source committed.
    pub committed_at: Timestamp,
    /// Whether the source sent every value: then it needs no earlier row to be complete.
    pub whole: bool,
    /// Why it is held.
    pub why: Why,
    /// The record, see [`Sealed`].
    pub sealed: Vec<u8>,
}

/// Why a row is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A transform cannot read a value of it.
    Unreadable {
        /// The column.
        column: String,
        /// The transform, as the policy spells it.
        transform: String,
    },
    /// An earlier change of the same key is held.
    Behind,
}

/// Gives sixteen fresh bytes of the operating system's generator.
pub type Nonces<'a> = dyn FnMut() -> change::Result<[u8; 16]> + 'a;

/// What is held of one table, as the gate has to know it.
#[derive(Default)]
pub struct HeldIndex {
    /// Keys of which changes are held, and where those are.
    keys: HashMap<RowKey, BTreeSet<Position>>,
    /// Where streamed rows were kept back: held now, or so lately that they may be sent again.
    positions: BTreeSet<Position>,
    /// Keys of copied rows that were kept back, and whether they are held now.
    copied: HashMap<RowKey, bool>,
    copying: bool,
    /// Every lake table has what came from the stream at or below this position, or it was kept back.
    durable: Option<Position>,
    /// One lake table has, from an earlier start, what came from the stream at or below this position and was not kept back.
    passed: Option<Position>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Hold,
    /// It was kept back before.
    Skip,
}

impl HeldIndex {
    /// Whether a first copy is going on, beside which every key that passes has to be noted.
    pub fn set_copying(&mut self, copying: bool) {
        self.copying = copying;
    }

    /// See [`HeldIndex::set_copying`].
    pub fn is_copying(&self) -> bool {
        self.copying
    }

    /// Takes over what is known of the run, and not of the rows, from an index that this one replaces.
    pub fn go_on_from(&mut self, before: &Self) {
        self.copying = before.copying;
        self.durable.clone_from(&before.durable);
        self.passed.clone_from(&before.passed);
    }

    /// What is sent again at or below this position and was not kept back has passed, whatever the rules are now: one of the lake tables has it.
    pub fn set_passed(&mut self, through: Option<Position>) {
        self.passed = through;
    }

    /// See [`Self::set_passed`].
    pub fn passed(&self) -> Option<&Position> {
        self.passed.as_ref()
    }

    /// Takes in a streamed row that was kept back; `held` unless it was released or dropped since.
    pub fn add_streamed(&mut self, first: Position, last: Position, keys: &[RowKey], held: bool) {
        for key in keys.iter().filter(|_| held) {
            self.keys.entry(*key).or_default().insert(first.clone());
        }
        self.positions.extend([first, last]);
    }

    /// Takes in a copied row that was kept back; `held` unless it was released or dropped since.
    pub fn add_copied(&mut self, low: Position, key: RowKey, held: bool) {
        self.copied.insert(key, held);
        if held {
            self.keys.entry(key).or_default().insert(low);
        }
    }

    /// A row is not held any more; it is still known, because it may be sent again.
    pub fn let_go(&mut self, position: &Position, keys: &[RowKey], copied: bool) {
        for key in keys {
            if let Some(held) = self.keys.get_mut(key) {
                held.remove(position);
                if held.is_empty() {
                    self.keys.remove(key);
                }
            }
            if copied {
                self.copied.insert(*key, false);
            }
        }
    }

    /// Whether rows at or below this position are known to have been kept back.
    pub fn knows_of(&self, through: &Position) -> bool {
        self.positions.first().is_some_and(|first| first <= through)
    }

    /// Every lake table is beyond this position: what is sent again from there is passed over, whether it was kept back or not.
    pub fn forget(&mut self, through: &Position) {
        let later = self.positions.split_off(through);
        self.positions = later.into_iter().filter(|position| position > through).collect();
        if self.durable.as_ref().is_none_or(|durable| durable < through) {
            self.durable = Some(through.clone());
        }
    }

    /// No copied row can be sent again.
    pub fn forget_copied(&mut self) {
        self.copied.retain(|_, held| *held);
    }

    pub(crate) fn add(&mut self, row: &HeldRow) {
        match (row.copied, row.keys.as_slice()) {
            (true, [key, ..]) => self.add_copied(row.position.clone(), *key, true),
            _ => self.add_streamed(row.position.clone(), row.last.clone(), &row.keys, true),
        }
    }

    /// Whether nothing has to be known of the keys of readable rows.
    pub(crate) fn is_idle(&self, copied: bool) -> bool {
        match copied {
            true => self.copied.is_empty(),
            false => !self.copying && self.keys.is_empty() && self.positions.is_empty(),
        }
    }

    pub(crate) fn fate(&self, copied: bool, position: &[u8], keys: &[RowKey], readable: bool) -> Fate {
        let held_back = if copied {
            match keys.first().and_then(|key| self.copied.get(key)) {
                Some(false) => return Fate::Skip,
                Some(true) => true,
                None => false,
            }
        } else {
            let old = self.durable.as_ref().is_some_and(|durable| position <= durable.as_bytes());
            if old || !self.positions.is_empty() && self.positions.contains(&Position::from_bytes(position)) {
                return Fate::Skip;
            }
            if self.passed.as_ref().is_some_and(|passed| position <= passed.as_bytes()) {
                return Fate::Pass;
            }
            // What comes before the first held change of its key has passed before, and is sent again.
            let waits = |held: &BTreeSet<Position>| held.first().is_some_and(|first| first.as_bytes() < position);
            keys.iter().any(|key| self.keys.get(key).is_some_and(waits))
        };
        if held_back || !readable { Fate::Hold } else { Fate::Pass }
    }
}

#[cfg(test)]
mod tests;
