//! What the lake may lack while rows are held, and what it must have all the same.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use app::{HeldLine, HeldStore};
use change::{Op, Position};

use super::{Judge, Skipped, by_key, rows_shown};
use crate::delta::Stored;
use crate::history::{Change, What};
use crate::script::{BIG, Cell, Row, cell, is_unreadable, parts, position};
use crate::source::shown;

/// Beginnings of copies beside each other of which every choice is tried.
const MAYBE_MAX: usize = 8;

/// What is known of held rows, by table.
pub(crate) struct Held {
    state_dir: PathBuf,
    store: Option<Arc<HeldStore>>,
    /// Rows whose values cannot be read may come in, with null for those.
    pub(crate) lets_in: bool,
    /// What was held before such a place stands for nothing: every row was removed there, or a copy began.
    resets: Vec<BTreeSet<Position>>,
    /// As those, where the beginning of a copy may not have got that far: another process had the table.
    maybe_resets: Vec<BTreeSet<Position>>,
    /// Keys of which a chunk had a row that cannot be read.
    copied: Vec<BTreeSet<Cell>>,
    /// Changes that the change log had at its last version.
    logged: Vec<BTreeSet<Vec<u8>>>,
    /// Changes that it lacks and that nothing has made void.
    missing: Vec<Vec<Position>>,
    /// Changes that were given up.
    dropped: Vec<BTreeSet<Position>>,
    /// Whether a copied row was given up.
    dropped_copied: Vec<bool>,
}

impl Held {
    pub(super) fn new(tables: usize, state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            store: None,
            lets_in: false,
            resets: vec![BTreeSet::new(); tables],
            maybe_resets: vec![BTreeSet::new(); tables],
            copied: vec![BTreeSet::new(); tables],
            logged: vec![BTreeSet::new(); tables],
            missing: vec![Vec::new(); tables],
            dropped: vec![BTreeSet::new(); tables],
            dropped_copied: vec![false; tables],
        }
    }

    /// The rows that are held, in the product's own words.
    pub(crate) fn lines(&mut self) -> Vec<HeldLine> {
        self.store().map(|store| store.lines().unwrap()).unwrap_or_default()
    }

    /// The store of held rows, opened once, as soon as there is one.
    pub(crate) fn store(&mut self) -> Option<Arc<HeldStore>> {
        if self.store.is_none() {
            self.store = HeldStore::existing(&self.state_dir).unwrap().map(Arc::new);
        }
        self.store.clone()
    }

    pub(super) fn logged(&mut self, table: usize, logged: Logged) {
        (self.logged[table], self.missing[table]) = (logged.found, logged.missing);
    }

    /// Whether the copied row of a key may be missing, or be of another reading of its chunk.
    pub(super) fn may_lack(&self, table: usize, key: &Cell) -> bool {
        self.copied[table].contains(key)
    }
}

/// What a version of a change log has and lacks.
pub(super) struct Logged {
    found: BTreeSet<Vec<u8>>,
    missing: Vec<Position>,
}

/// Changes that belong together: a change of key is two.
fn units(changes: &[Change]) -> impl Iterator<Item = Range<usize>> {
    let moves = |at: usize| matches!(changes[at].what, What::Row { op: Op::MoveOut, .. });
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        (start < changes.len()).then(|| {
            next = (start + 1 + usize::from(moves(start))).min(changes.len());
            start..next
        })
    })
}

/// The keys of a unit, and whether a rule that holds keeps it back; `None` for a truncate.
fn of_unit(unit: &[Change]) -> Option<(Vec<Cell>, bool)> {
    let (mut keys, mut unreadable) = (Vec::new(), false);
    for change in unit {
        let What::Row { op, row, .. } = &change.what else { return None };
        keys.push(row[0].clone());
        unreadable |= matches!(op, Op::Insert | Op::Update) && is_unreadable(row);
    }
    Some((keys, unreadable))
}

fn at(change: &Change) -> Position {
    position(change.lsn, change.ordinal)
}

impl Judge {
    /// Notes that what was held of a table before a place stands for nothing, or `maybe`.
    pub(crate) fn reset(&mut self, table: usize, at: Position, maybe: bool) {
        let resets = if maybe { &mut self.held.maybe_resets } else { &mut self.held.resets };
        resets[table].insert(at);
    }

    /// The places before which what was held stands for nothing, in each way in which those that may be such are or are not: all of them first.
    fn resets(&self, table: usize) -> impl Iterator<Item = BTreeSet<Position>> {
        let maybe: Vec<&Position> = self.held.maybe_resets[table].iter().collect();
        // Of very many, the last ones.
        let first = maybe.len().saturating_sub(MAYBE_MAX);
        let ways = (0..1_u32 << (maybe.len() - first)).rev();
        ways.map(move |way| {
            let are = maybe[first..].iter().enumerate().filter(|(bit, _)| way >> bit & 1 == 1).map(|(_, at)| *at);
            self.held.resets[table].iter().chain(are).cloned().collect()
        })
    }

    /// Notes that held rows were given up.
    pub(crate) fn discarded(&mut self, lines: &[HeldLine]) {
        for line in lines {
            let table = self.script.tables.iter().position(|table| table.name == line.table).unwrap();
            self.held.dropped[table].insert(line.position.clone());
            self.held.dropped_copied[table] |= line.op == Op::Copy.letter();
        }
    }

    /// Keys of which something was given up, so that nobody can say what they are in the end.
    pub(super) fn given_up(&self, table: usize) -> BTreeSet<Cell> {
        let mut keys = if self.held.dropped_copied[table] { self.held.copied[table].clone() } else { BTreeSet::new() };
        for unit in units(&self.history[table]) {
            let changes = &self.history[table][unit];
            let Some((of, _)) = of_unit(changes) else { continue };
            // What was given up under one key is not there to be moved to another.
            if self.is_dropped(table, changes) || of.iter().any(|key| keys.contains(key)) {
                keys.extend(of);
            }
        }
        keys
    }

    fn is_dropped(&self, table: usize, unit: &[Change]) -> bool {
        unit.iter().any(|change| self.held.dropped[table].contains(&at(change)))
    }

    /// Where the rows of a table come from that are held.
    fn held_now(&self, table: usize) -> BTreeSet<Position> {
        let lines = self.held.store.as_ref().map(|store| store.lines().unwrap()).unwrap_or_default();
        let name = &self.script.tables[table].name;
        lines.into_iter().filter(|line| line.table == *name).map(|line| line.position).collect()
    }

    /// Notes what of a chunk cannot be read.
    pub(super) fn copied_unreadable(&mut self, table: usize, rows: &[Row]) {
        if self.script.tables[table].holds {
            let keys = rows.iter().filter(|row| is_unreadable(row)).map(|row| row[0].clone());
            self.held.copied[table].extend(keys);
        }
    }

    /// As [`Judge::unlike_log`], where two processes may have begun a copy beside each other: any way in which one had its way is right.
    pub(super) fn unlike_log_as_read(
        &self,
        table: usize,
        through: &Position,
        sure: &[Skipped],
        found: &[&Stored],
    ) -> Result<Logged, String> {
        let recorded = self.as_recorded(table, sure, found);
        let mut unlike = None;
        // A process that the other one turned away has made nothing void.
        for resets in self.resets(table) {
            // With held rows a larger choice may skip what others of their key wait for, so the smaller ones are tried as well.
            for skipped in (sure.len()..=recorded.len()).rev().map(|choice| &recorded[..choice]) {
                let wanted: Vec<Change> = self.wanted(table, through, skipped).into_iter().cloned().collect();
                match self.unlike_log(table, found, &wanted, &resets) {
                    Ok(logged) => return Ok(logged),
                    Err(what) => unlike.get_or_insert(what),
                };
            }
        }
        Err(unlike.unwrap_or_default())
    }

    /// Every change is in the log once and as it was, but for unreadable ones and those behind them on the same key.
    fn unlike_log(
        &self,
        table: usize,
        found: &[&Stored],
        wanted: &[Change],
        resets: &BTreeSet<Position>,
    ) -> Result<Logged, String> {
        let mut left: HashMap<&[u8], &Stored> = HashMap::new();
        for &row in found {
            if left.insert(&row.position, row).is_some() {
                return Err(format!("the change at {} is there twice", shown(&Position::from_bytes(&row.position))));
            }
        }
        let lost = self.held.logged[table].iter().find(|position| !left.contains_key(position.as_slice()));
        if let Some(lost) = lost {
            return Err(format!("the change at {} was there before", shown(&Position::from_bytes(lost))));
        }
        // A change that came while an earlier one of its key was held can be held for longer than that one.
        let (mut blocked, mut missing, mut behind) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let last_reset = resets.last();
        let still_held = LazyCell::new(|| self.held_now(table));
        // A truncate that the process has seen makes void what was held before it, also when it is sent again after a start.
        let waits_for = |held: &Position| last_reset.is_none_or(|reset| held > reset) || still_held.contains(held);
        let mut resets = resets.iter().peekable();
        for unit in units(wanted) {
            let first = at(&wanted[unit.start]);
            while resets.next_if(|reset| **reset <= first).is_some() {
                (blocked, missing, behind) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
            }
            let changes = &wanted[unit];
            let rows: Vec<_> = changes.iter().map(|change| left.remove(at(change).as_bytes())).collect();
            let has = rows.iter().flatten().count();
            for (row, change) in rows.iter().zip(changes) {
                if row.is_some_and(|row| !self.is_logged(row, change)) {
                    return Err(format!("{} {row:?}\n  must be {change:?}", shown(&at(change))));
                }
            }
            let Some((keys, unreadable)) = of_unit(changes) else {
                if has == 0 {
                    return Err(format!("the truncate at {} is missing", shown(&first)));
                }
                continue;
            };
            let waits = has > 0 && keys.iter().filter_map(|key| blocked.get(key)).any(waits_for);
            let may_wait = unreadable || keys.iter().any(|key| behind.contains(key) || self.held.may_lack(table, key));
            if may_wait {
                behind.extend(keys.iter().cloned());
            }
            let what = match has {
                0 if self.is_dropped(table, changes) => continue,
                0 if !may_wait => "is missing, and nothing of its key is held",
                0 => {
                    blocked.extend(keys.into_iter().map(|key| (key, first.clone())));
                    missing.push(first);
                    continue;
                }
                _ if has < changes.len() => "is there by half",
                _ if waits => "is there before an earlier one of its key",
                _ if unreadable && !self.held.lets_in => "cannot be read and is there",
                _ => continue,
            };
            return Err(format!("the change at {} {what}", shown(&first)));
        }
        if let Some(odd) = left.keys().next() {
            return Err(format!("nothing happened at {}", shown(&Position::from_bytes(odd))));
        }
        missing.retain(|position| last_reset.is_none_or(|reset| position > reset));
        Ok(Logged { found: found.iter().map(|row| row.position.clone()).collect(), missing })
    }

    /// What the lake lacks is held, and where nothing is held it lacks nothing.
    pub(super) fn judge_held(&mut self) {
        let lines = self.held.lines();
        for table in 0..self.script.tables.len() {
            let name = self.script.tables[table].name.clone();
            let places: BTreeSet<&Position> =
                lines.iter().filter(|line| line.table == name).map(|line| &line.position).collect();
            let resets = self.resets(table).next().unwrap_or_default();
            let last_reset = resets.last();
            let lost = self.held.missing[table]
                .iter()
                .filter(|position| !self.held.dropped[table].contains(position))
                .find(|position| !places.contains(position) && last_reset.is_none_or(|reset| *position > reset));
            if let Some(lost) = lost {
                let what = format!("{name}: the change at {} is neither in the lake nor held", shown(lost));
                return self.fault(what);
            }
        }
    }

    /// What each key may be at a boundary: as everything has made it, or as it was before a change that may be held.
    fn may_be(
        &self,
        table: usize,
        low: u64,
        through: &Position,
        finished: Option<&Position>,
    ) -> BTreeMap<Cell, Vec<Option<Row>>> {
        let initial = self.script.rows_at(&position(low, 0), table).into_iter();
        let mut states: BTreeMap<Cell, Vec<Option<Row>>> =
            initial.map(|row| (row[0].clone(), vec![Some(self.padded(table, &row))])).collect();
        let copied = &self.held.copied[table];
        for key in copied {
            states.entry(key.clone()).or_default().push(None);
        }
        let mut readings: HashMap<&Cell, Vec<Option<Row>>> = HashMap::new();
        for row in
            self.deliveries.iter().filter(|((of, ..), _)| *of == table).flat_map(|(_, rows)| rows.iter().flatten())
        {
            readings.entry(&row[0]).or_default().push(Some(self.padded(table, row)));
        }
        for key in copied {
            states.entry(key.clone()).or_default().extend(readings.get(key).into_iter().flatten().cloned());
        }
        let mut blocked = copied.clone();
        let seen: Vec<Change> =
            self.history[table].iter().filter(|change| change.lsn >= low && at(change) <= *through).cloned().collect();
        for unit in units(&seen) {
            let changes = &seen[unit];
            let Some((keys, unreadable)) = of_unit(changes) else {
                states.values_mut().for_each(|states| *states = vec![None]);
                blocked.clone_from(copied);
                continue;
            };
            let may_wait = unreadable || keys.iter().any(|key| blocked.contains(key));
            for change in changes {
                let What::Row { op, row, unsent } = &change.what else { continue };
                let gone = matches!(op, Op::Delete | Op::MoveOut);
                let state = (!gone).then(|| self.padded(table, row));
                let beside_copy = finished.is_none_or(|finished| at(change) <= *finished);
                let states = states.entry(row[0].clone()).or_insert_with(|| vec![None]);
                if !may_wait {
                    states.clear();
                } else {
                    states.extend(readings.get(&row[0]).into_iter().flatten().cloned());
                    // The copy may have passed over a row that this change had moved.
                    states.extend(beside_copy.then_some(None));
                }
                if *unsent && beside_copy {
                    // What the log left out may have been read from the database, and be newer.
                    let bigs = self.history[table].iter().filter_map(|change| match &change.what {
                        What::Row { row: other, .. } if other[0] == row[0] => Some(cell(other, BIG)),
                        _ => None,
                    });
                    let newer = bigs.zip(std::iter::repeat(&state)).filter_map(|(big, state)| {
                        let mut state = state.clone()?;
                        state[BIG] = big;
                        Some(Some(state))
                    });
                    states.extend(newer.collect::<Vec<_>>());
                }
                states.push(state);
            }
            if may_wait {
                blocked.extend(keys);
            }
        }
        states
    }

    /// Each key is as it may be.
    pub(super) fn unlike_held(
        &self,
        table: usize,
        low: &Position,
        through: &Position,
        finished: Option<&Position>,
        found: &[&Stored],
    ) -> Option<String> {
        let rows = match by_key(found) {
            Ok(rows) => rows,
            Err(twice) => return Some(twice),
        };
        let states = self.may_be(table, parts(low).0, through, finished);
        let (none, given_up) = (vec![None], self.given_up(table));
        // An update that leaves out a large value keeps the one that the lake has, which may be older than one that was given up.
        for key in states.keys().chain(rows.keys().copied()).filter(|key| !given_up.contains(key)) {
            let has = rows.get(key).map(|row| row.cells.clone());
            let may = states.get(key).unwrap_or(&none);
            if !may.contains(&has) {
                return Some(format!("key {key:?} is {has:?} and may be {}", may_shown(may)));
            }
        }
        None
    }

    /// While the table is copied: keys that the stream has brought are as they may be.
    pub(super) fn unlike_held_copying(
        &self,
        table: usize,
        low: &Position,
        through: &Position,
        finished: Option<&Position>,
        rows: &BTreeMap<&Cell, &Stored>,
    ) -> Option<String> {
        let low = parts(low).0;
        let small = |row: &Row| -> Row {
            row.iter().enumerate().filter(|(at, _)| *at != BIG).map(|(_, cell)| cell.clone()).collect()
        };
        let states = self.may_be(table, low, through, finished);
        for change in self.history[table].iter().filter(|change| change.lsn >= low && at(change) <= *through) {
            let What::Row { row, .. } = &change.what else { continue };
            let has = rows.get(&row[0]).map(|row| small(&row.cells));
            let may: Vec<_> = states[&row[0]].iter().map(|state| state.as_ref().map(small)).collect();
            if !may.contains(&has) && !self.may_lack(table, &row[0], low, through, finished) {
                return Some(format!("key {:?} is {has:?} and may be {}", row[0], may_shown(&may)));
            }
        }
        None
    }
}

fn may_shown(may: &[Option<Row>]) -> String {
    let some: Vec<Row> = may.iter().flatten().cloned().collect();
    format!("{}{}", if some.len() < may.len() { "absent, or " } else { "" }, rows_shown(&some))
}
