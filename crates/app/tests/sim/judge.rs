//! Compares every version of every lake table with what the database's history says it must be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use change::{ChunkSet, CopyProgress, Identity, Op, Position};

use crate::delta::{DeltaTable, Reading, Stored};
use crate::history::{Change, What, as_logged};
use crate::script::{BIG, Cell, Row, Script, cell, parts, position};
use crate::source::shown;
use crate::store::Contents;

mod held;

use held::Held;

/// What a lake table was found to be, and what it must be.
pub(crate) struct Judge {
    script: Arc<Script>,
    contents: Arc<Contents>,
    /// By table: how its columns are read.
    columns: Vec<Vec<Reading>>,
    current: Vec<DeltaTable>,
    changes: Vec<DeltaTable>,
    /// By table: everything that the log has of it, in order.
    history: Vec<Vec<Change>>,
    /// By table: after a boundary, changes below a position are not in the stream, because a copy that begins there shows them.
    skipped: Vec<Vec<Skipped>>,
    /// By table: where the copies begin that the change log has recorded.
    lows: Vec<BTreeSet<u64>>,
    /// Rows of chunks as they were handed over, by table, plan and chunk.
    deliveries: HashMap<(usize, String, u32), Vec<Vec<Row>>>,
    /// By table: how often its rows were written anew elsewhere on the disk.
    rewrites: Vec<u64>,
    pub(crate) held: Held,
    /// What is confirmed now is safe in the spool, not in the lake.
    pub(crate) spooling: bool,
    spooled: Position,
    /// What is wrong; empty when nothing is.
    pub(crate) faults: Vec<String>,
    pub(crate) versions: u64,
}

/// Changes above a boundary and below a position that are not in the stream.
#[derive(Clone)]
struct Skipped {
    after: Position,
    low: u64,
    /// Of two processes, only one will have its way.
    maybe: bool,
}

impl Skipped {
    fn covers(&self, lsn: u64, at: &Position) -> bool {
        lsn < self.low && *at > self.after
    }
}

/// Faults that are kept.
const FAULTS_MAX: usize = 5;

impl Judge {
    pub(crate) fn new(script: Arc<Script>, contents: Arc<Contents>, state_dir: PathBuf) -> Self {
        let mut history = vec![Vec::new(); script.tables.len()];
        for transaction in 0..script.log.len() {
            script.changes(transaction).into_iter().for_each(|change| history[change.table].push(change));
        }
        let columns = (0..script.tables.len()).map(|table| crate::policy::readings(&script, table)).collect();
        let tables = || (0..script.tables.len()).map(|_| DeltaTable::default()).collect();
        Self {
            columns,
            current: tables(),
            changes: tables(),
            rewrites: vec![0; history.len()],
            held: Held::new(history.len(), state_dir),
            spooling: false,
            spooled: Position::default(),
            skipped: vec![Vec::new(); history.len()],
            lows: vec![BTreeSet::new(); history.len()],
            history,
            script,
            contents,
            deliveries: HashMap::new(),
            faults: Vec::new(),
            versions: 0,
        }
    }

    /// Notes what a chunk was handed over with.
    pub(crate) fn delivered(&mut self, table: usize, progress: &CopyProgress, chunk: u32, rows: &[Row]) {
        self.copied_unreadable(table, rows);
        self.deliveries.entry((table, progress.plan.clone(), chunk)).or_default().push(rows.to_vec());
    }

    /// The table's rows are written anew elsewhere on the disk: a copy that is not finished is void.
    pub(crate) fn rewrite(&mut self, table: usize) {
        self.rewrites[table] += 1;
    }

    /// How often that was.
    pub(crate) fn rewrites(&self, table: usize) -> u64 {
        self.rewrites[table]
    }

    /// Whether a copy may go on.
    pub(crate) fn fits(&self, table: usize, progress: &CopyProgress) -> bool {
        progress.is_read()
            || progress.plan.split(' ').nth(3).and_then(|number| number.parse().ok()) == Some(self.rewrites[table])
    }

    /// Notes that a table's copy begins at LOW, `maybe` because a rival process may begin it elsewhere.
    pub(crate) fn begins(&mut self, table: usize, low: u64, maybe: bool) {
        self.look();
        self.reset(table, position(low, 0), maybe);
        self.skipped[table].push(Skipped { after: self.changes[table].through(), low, maybe });
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what);
        }
    }

    /// Looks at every version that is new.
    pub(crate) fn look(&mut self) {
        for table in 0..self.script.tables.len() {
            let folder = format!("db/public/{}", self.script.tables[table].name.table);
            let contents = self.contents.clone();
            while self.current[table].step(&contents, &folder, &self.columns[table]) {
                self.versions += 1;
                self.judge_current(table);
            }
            let folder = format!("{folder}__changes");
            let low_of = |log: &DeltaTable| log.checkpoint.copy.as_ref().map(|copy| parts(&copy.low).0);
            loop {
                let (after, before) = (self.changes[table].through(), low_of(&self.changes[table]));
                if !self.changes[table].step(&contents, &folder, &self.columns[table]) {
                    break;
                }
                self.versions += 1;
                // The other process may have written on between the beginning of a copy and its first commit.
                let begun = |low: u64| self.skipped[table].iter().any(|skipped| skipped.maybe && skipped.low == low);
                if let Some(low) = low_of(&self.changes[table]).filter(|low| before != Some(*low)) {
                    self.lows[table].insert(low);
                    if begun(low) {
                        self.skipped[table].push(Skipped { after, low, maybe: true });
                    }
                }
                self.judge_changes(table);
            }
            self.judge_files(table);
        }
        self.judge_held();
    }

    /// No file that the newest version has is gone.
    fn judge_files(&mut self, table: usize) {
        let name = self.script.tables[table].name.clone();
        let layers = [(&self.current[table], ""), (&self.changes[table], "__changes")];
        let lost = layers.iter().find_map(|(log, suffix)| {
            let lost = log.lost(&self.contents, &format!("db/public/{}{suffix}", name.table))?;
            Some(format!("{lost} was deleted, and version {} has it", log.next - 1))
        });
        if let Some(lost) = lost {
            self.fault(lost);
        }
    }

    /// A confirmation: everything at or below `through` must be durable.
    pub(crate) fn confirmed(&mut self, through: &Position, said: &Position) {
        self.look();
        if self.spooling {
            self.spooled = self.spooled.clone().max(through.clone());
        }
        if *through <= self.spooled {
            return;
        }
        let mut faults = Vec::new();
        for table in 0..self.script.tables.len() {
            let layers = [("current", &self.current[table]), ("changes", &self.changes[table])];
            // A table that has recorded nothing of its copy, or whose copy can only begin anew, is copied from here on.
            let keyed = matches!(self.script.tables[table].identity, Identity::Key(_));
            let [Some(first), Some(second)] = layers.map(|(_, log)| log.checkpoint.copy.as_ref()) else { continue };
            let newer = if first.low >= second.low { first } else { second };
            let one_plan = (&first.plan, &first.low) == (&second.plan, &second.low);
            let goes_on = if one_plan {
                [first, second].iter().all(|copy| copy.finished.is_some() || keyed && self.fits(table, copy))
            } else {
                // One layer has begun anew and the other has not heard of it: nothing below is of use.
                keyed && self.fits(table, &CopyProgress { done: ChunkSet::default(), ..newer.clone() })
            };
            if !goes_on {
                continue;
            }
            let low = parts(&newer.low).0;
            for (layer, log) in layers {
                let missing =
                    self.history[table].iter().map(|change| (change.lsn, position(change.lsn, change.ordinal)));
                let missing = missing
                    .filter(|(lsn, at)| *lsn >= low && at <= through && *at > log.through())
                    .map(|(_, at)| at)
                    .next();
                if let Some(missing) = missing {
                    let name = &self.script.tables[table].name;
                    let what = format!(
                        "{name} ({layer}): {} was confirmed (the loop said {}), and the change at {} is not durable",
                        shown(through),
                        shown(said),
                        shown(&missing)
                    );
                    faults.push(what);
                }
            }
        }
        faults.into_iter().for_each(|what| self.fault(what));
    }

    /// A row of the database as the lake has it.
    fn padded(&self, table: usize, row: &Row) -> Row {
        let row = &self.script.tables[table].cleared(row);
        let looked_at = self.columns[table].iter().map(|column| column.name.is_some());
        looked_at.enumerate().map(|(column, is)| if is { cell(row, column) } else { Cell::Null }).collect()
    }

    fn judge_current(&mut self, table: usize) {
        let seen = &self.current[table];
        let (through, version) = (seen.through(), seen.next - 1);
        let mut found: Vec<&Stored> = seen.rows().collect();
        found.sort();
        let finished = seen.checkpoint.copy.as_ref().and_then(|copy| copy.finished.clone());
        let low = seen.checkpoint.copy.as_ref().map(|copy| copy.low.clone()).unwrap_or_default();
        let keyed = matches!(self.script.tables[table].identity, Identity::Key(_));
        let at = through.clone().max(low.clone());
        let exact = match &finished {
            // Copied rows that a truncate will remove are passed over as soon as it is known, which is before it is visible.
            Some(finished) => {
                through >= *finished
                    || !keyed
                        && !self.history[table].iter().any(|change| {
                            let at = position(change.lsn, change.ordinal);
                            matches!(change.what, What::Truncate) && at > through && at <= *finished
                        })
            }
            None => false,
        };
        let mut wanted: Vec<Row> = self.script.rows_at(&at, table).iter().map(|row| self.padded(table, row)).collect();
        wanted.sort();
        let cells: Vec<Row> = found.iter().map(|row| row.cells.clone()).collect();
        let holds = self.script.tables[table].holds;
        let what = if exact && holds {
            self.unlike_held(table, &low, &through, finished.as_ref(), &found)
        } else if exact {
            let mut cells = cells;
            cells.sort();
            (cells != wanted).then(|| format!("rows {}\n  must be {}", rows_shown(&cells), rows_shown(&wanted)))
        } else if keyed {
            self.unlike(table, &low, &through, finished.as_ref(), &found)
        } else {
            None
        };
        if let Some(what) = what {
            let name = &self.script.tables[table].name;
            let what =
                format!("{name}, version {version} ({}), through {}: {what}", seen.operation, shown_or(&through));
            self.fault(what);
        }
    }

    /// While a keyed table is copied: keys that the stream has brought are as they were, the others as they were at some time since LOW.
    fn unlike(
        &self,
        table: usize,
        low: &Position,
        through: &Position,
        finished: Option<&Position>,
        found: &[&Stored],
    ) -> Option<String> {
        if low.as_bytes().is_empty() {
            // Nothing of the copy is recorded, so LOW is not either.
            return None;
        }
        let rows = match by_key(found) {
            Ok(rows) => rows,
            Err(twice) => return Some(twice),
        };
        if self.script.tables[table].holds {
            return self.unlike_held_copying(table, low, through, finished, &rows);
        }
        let now: BTreeMap<Cell, Row> = self
            .script
            .rows_at(through, table)
            .into_iter()
            .map(|row| (row[0].clone(), self.padded(table, &row)))
            .collect();
        let low = parts(low).0;
        let small =
            |row: &Row| row.iter().enumerate().filter(|(at, _)| *at != BIG).map(|(_, c)| c.clone()).collect::<Row>();
        for change in self.history[table].iter().filter(|change| change.lsn >= low) {
            if position(change.lsn, change.ordinal) > *through {
                continue;
            }
            if let What::Row { row, .. } = &change.what {
                let (has, must) = (rows.get(&row[0]).map(|row| small(&row.cells)), now.get(&row[0]).map(small));
                if has != must && !self.may_lack(table, &row[0], low, through, finished) {
                    return Some(format!("key {:?} is {has:?} and must be {must:?}", row[0]));
                }
            }
        }
        None
    }

    /// Whether what the stream has said of a key may be missing: an update left out a value, and the row is removed before the copy ends, so that
    /// it may have been gone when the source looked for the value.
    fn may_lack(&self, table: usize, key: &Cell, low: u64, through: &Position, finished: Option<&Position>) -> bool {
        let (mut lacked, mut removed) = (false, false);
        for change in self.history[table].iter().filter(|change| change.lsn >= low) {
            let at = position(change.lsn, change.ordinal);
            if finished.is_some_and(|finished| at > *finished) {
                break;
            }
            let removes = match &change.what {
                What::Truncate => true,
                What::Row { op, row, .. } => op.removes() && row[0] == *key,
            };
            if at > *through {
                removed |= removes;
            } else if removes {
                lacked = false;
            } else if let What::Row { row, unsent, .. } = &change.what {
                lacked |= *unsent && row[0] == *key;
            }
        }
        lacked && removed
    }

    fn judge_changes(&mut self, table: usize) {
        let seen = &self.changes[table];
        let (through, version) = (seen.through(), seen.next - 1);
        let mut found: Vec<&Stored> = seen.rows().filter(|row| row.op != "r" && row.txid != 0).collect();
        found.sort_by(|a, b| (&a.position, a.ordinal).cmp(&(&b.position, b.ordinal)));
        let sure: Vec<Skipped> = self.skipped[table].iter().filter(|skipped| !skipped.maybe).cloned().collect();
        let (mut progress, mut what) = (None, None);
        if self.script.tables[table].holds {
            match self.unlike_log_as_read(table, &through, &sure, &found) {
                Ok(logged) => progress = Some(logged),
                Err(unlike) => what = Some(unlike),
            }
        } else {
            what = self.unlike_whole_log(table, &through, &sure, &found);
        }
        if let Some(what) = what {
            let name = &self.script.tables[table].name;
            let what = format!(
                "{name}__changes, version {version} ({}), through {}: {what}",
                seen.operation,
                shown_or(&through)
            );
            self.fault(what);
        }
        if let Some(progress) = progress {
            self.held.logged(table, progress);
        }
    }

    /// What is wrong with the change log of a table that holds nothing.
    fn unlike_whole_log(
        &self,
        table: usize,
        through: &Position,
        sure: &[Skipped],
        found: &[&Stored],
    ) -> Option<String> {
        let wanted = self.wanted(table, through, sure);
        let as_recorded = self.as_recorded(table, sure, found);
        let wanted = if wanted.len() == found.len() { wanted } else { self.wanted(table, through, &as_recorded) };
        if found.len() == wanted.len() {
            let odd = found.iter().zip(&wanted).find(|(row, change)| !self.is_logged(row, change));
            return odd.map(|(row, change)| {
                format!("{} {:?}\n  must be {change:?}", shown(&Position::from_bytes(&row.position)), row)
            });
        }
        let has: Vec<Vec<u8>> = found.iter().map(|row| row.position.clone()).collect();
        let must: Vec<Vec<u8>> =
            wanted.iter().map(|change| position(change.lsn, change.ordinal).as_bytes().to_vec()).collect();
        let odd = has
            .iter()
            .zip(&must)
            .find(|(has, must)| has != must)
            .map(|(has, must)| (shown(&Position::from_bytes(has)), shown(&Position::from_bytes(must))));
        Some(format!("{} changes, and {} must be there; the first difference: {odd:?}", has.len(), must.len()))
    }

    /// What may not be in the stream: `sure`, and of what two processes may have skipped beside each other all that may have begun (a copy from
    /// there on, or from later, has recorded it, or none has yet) and that skips nothing which is there. A smaller choice that fits leaves out
    /// only what skips nothing more, so this one fits as well.
    fn as_recorded(&self, table: usize, sure: &[Skipped], found: &[&Stored]) -> Vec<Skipped> {
        let there: Vec<Position> = found.iter().map(|row| Position::from_bytes(&row.position)).collect();
        let had_its_way = |skipped: &&Skipped| {
            skipped.maybe
                && self.lows[table].last().is_none_or(|recorded| *recorded >= skipped.low)
                && !there.iter().any(|at| skipped.covers(parts(at).0, at))
        };
        sure.iter().chain(self.skipped[table].iter().filter(had_its_way)).cloned().collect()
    }

    fn wanted(&self, table: usize, through: &Position, skipped: &[Skipped]) -> Vec<&Change> {
        let passed = |change: &Change, at: &Position| skipped.iter().any(|skipped| skipped.covers(change.lsn, at));
        let wanted = self.history[table].iter().filter(|change| {
            let at = position(change.lsn, change.ordinal);
            at <= *through && !passed(change, &at)
        });
        wanted.collect()
    }

    fn is_logged(&self, row: &Stored, change: &Change) -> bool {
        let same = row.position == position(change.lsn, change.ordinal).as_bytes()
            && (row.txid, row.ordinal) == (change.txid as i64, change.ordinal as i64);
        match &change.what {
            What::Truncate => same && row.op == "t",
            What::Row { op, row: wanted, unsent } => {
                let letter = if *op == Op::MoveOut { "d" } else { op.letter() };
                let wanted = self.padded(change.table, &as_logged(wanted, *unsent));
                // What the log left out may have been read from the database, and be newer.
                let alike = |at: usize| (*unsent && at == BIG) || row.cells[at] == wanted[at];
                same && row.op == letter && (0..wanted.len()).all(alike)
            }
        }
    }

    /// The end: every table has everything.
    pub(crate) fn finish(&mut self) {
        self.look();
        if !self.faults.is_empty() {
            return;
        }
        let end = self.script.log.last().map_or(0, |last| last.end);
        let mut faults = Vec::new();
        for table in 0..self.script.tables.len() {
            let name = self.script.tables[table].name.to_string();
            for (layer, log) in [("current", &self.current[table]), ("changes", &self.changes[table])] {
                let last = self.history[table].last().map(|change| position(change.lsn, change.ordinal));
                let low = log.checkpoint.copy.as_ref().map(|copy| parts(&copy.low).0);
                let whole = log.checkpoint.copy.as_ref().is_some_and(|copy| copy.finished.is_some());
                let through = log.through();
                let all = last.is_none_or(|last| last <= through || low.is_some_and(|low| parts(&last).0 < low));
                if !whole || !all {
                    let what = format!("{name} ({layer}) ended at {} of {end}, copied: {whole}", shown_or(&through));
                    faults.push(what);
                }
            }
            self.judge_end(table);
            self.judge_copied(table);
        }
        faults.into_iter().for_each(|what| self.fault(what));
    }

    /// Whatever the checkpoint says: the rows are those of the database.
    fn judge_end(&mut self, table: usize) {
        let mut wanted: Vec<Row> =
            self.script.rows_at(&position(u64::MAX, 0), table).iter().map(|row| self.padded(table, row)).collect();
        let mut cells: Vec<Row> = self.current[table].rows().map(|row| row.cells.clone()).collect();
        let given_up = self.given_up(table);
        for rows in [&mut wanted, &mut cells] {
            rows.retain(|row| !given_up.contains(&row[0]));
            rows.sort();
        }
        if cells != wanted {
            let name = &self.script.tables[table].name;
            let what = format!("{name} at the end: rows {}\n  must be {}", rows_shown(&cells), rows_shown(&wanted));
            self.fault(what);
        }
    }

    /// The copied rows in the change log are one reading of every chunk of the last plan.
    fn judge_copied(&mut self, table: usize) {
        let log = &self.changes[table];
        let Some(copy) = log.checkpoint.copy.clone() else { return };
        let mut left: HashMap<Row, usize> = HashMap::new();
        for row in log.rows().filter(|row| row.op == "r" && row.position == copy.low.as_bytes()) {
            *left.entry(row.cells.clone()).or_default() += 1;
        }
        let found = left.values().sum::<usize>();
        let optional = |row: &Row| self.held.may_lack(table, &row[0]);
        // Two plans may begin at one LOW.
        let fits = |rows: &Vec<Row>, left: &HashMap<Row, usize>| {
            let mut wanted: HashMap<Row, usize> = HashMap::new();
            rows.iter()
                .filter(|row| !optional(row))
                .for_each(|row| *wanted.entry(self.padded(table, row)).or_default() += 1);
            wanted.iter().all(|(row, times)| left.get(row).is_some_and(|has| has >= times))
        };
        let none = Vec::new();
        for chunk in 0..copy.chunks {
            let readings = self.deliveries.get(&(table, copy.plan.clone(), chunk)).unwrap_or(&none);
            let Some(reading) = readings.iter().rev().find(|rows| fits(rows, &left)) else {
                let name = &self.script.tables[table].name;
                let what =
                    format!("{name}__changes: chunk {chunk} of {} is not among its {found} copied rows", copy.plan);
                return self.fault(what);
            };
            for row in
                reading.iter().filter(|row| !optional(row)).map(|row| self.padded(table, row)).collect::<Vec<_>>()
            {
                *left.entry(row).or_default() -= 1;
            }
        }
    }
}

/// The rows of a table by their keys; what is wrong when a key is there twice.
fn by_key<'a>(found: &[&'a Stored]) -> Result<BTreeMap<&'a Cell, &'a Stored>, String> {
    let mut rows = BTreeMap::new();
    for row in found {
        if rows.insert(&row.cells[0], *row).is_some() {
            return Err(format!("the key {:?} is there twice", row.cells[0]));
        }
    }
    Ok(rows)
}

fn shown_or(position: &Position) -> String {
    if position.as_bytes().is_empty() { "nothing".into() } else { shown(position) }
}

fn rows_shown(rows: &[Row]) -> String {
    let cell = |cell: &Cell| match cell {
        Cell::Null => "-".to_owned(),
        Cell::Int(number) => number.to_string(),
        Cell::Text(text) => text.trim_start_matches('0').to_owned(),
    };
    let row = |row: &Row| row.iter().map(cell).collect::<Vec<_>>().join(",");
    format!("[{}] {}", rows.len(), rows.iter().map(row).collect::<Vec<_>>().join(" "))
}
