//! The held rows of one run, beside the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use change::{ChangeBatch, Checkpoint, Clock, CopyProgress, Error, Kind, Position, Result, TableName};
use gate::{Cleared, ClearedBatch, Gate, HeldIndex, TableGate};
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::{HeldStore, Release};
use crate::workers::Opened;

/// Keeps held rows for the tables of one run.
pub(crate) struct Keeper {
    store: Arc<HeldStore>,
    clock: Arc<dyn Clock>,
    policy: String,
    tables: BTreeMap<TableName, HeldIndex>,
    /// How many rows of a table the lake was told to be held.
    told: BTreeMap<TableName, u64>,
    /// Tables of which more or fewer rows may be held since.
    changed: BTreeSet<TableName>,
    /// Releases that one of two tables has, to be sent again at their boundary.
    resumed: BTreeMap<TableName, Release>,
    looked_at: Option<Duration>,
    /// What the store's file was when it was looked at: it changes when a command writes there.
    version: i64,
    /// Rows may come in at a boundary there.
    waiting: Option<Position>,
    /// Something was let in or erased, so that others may be free.
    again: bool,
    days: u32,
    expired_at: Duration,
    witness: Option<Witness>,
}

/// How often the decisions of `lockgate held` are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often rows that have been held for too long are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Writes down, before it is done, that rows of a table are erased because their time is up.
pub type Witness = Arc<dyn Fn(&TableName, u64) -> Result<()> + Send + Sync>;

impl Keeper {
    /// `None` when no rule holds rows and none are held. Erases what has been held for too long, now and every hour, once `witness` has
    /// written it down.
    ///
    /// # Errors
    /// Those of the store and of the witness.
    pub(crate) fn open(
        state_dir: &Path,
        gate: &Gate,
        clock: Arc<dyn Clock>,
        witness: Option<Witness>,
    ) -> Result<Option<Self>> {
        let store = match gate.policy().holds() {
            true => HeldStore::open(state_dir)?,
            false => match HeldStore::existing(state_dir)? {
                Some(store) => store,
                None => return Ok(None),
            },
        };
        expire(&store, gate.policy().held_days(), clock.now(), witness.as_ref())?;
        Ok(Some(Self {
            store: Arc::new(store),
            policy: gate.stamp().policy_hash.clone(),
            tables: BTreeMap::new(),
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
            resumed: BTreeMap::new(),
            looked_at: None,
            version: 0,
            waiting: None,
            again: false,
            days: gate.policy().held_days(),
            expired_at: clock.monotonic(),
            clock,
            witness,
        }))
    }

    /// A table is opened.
    ///
    /// # Errors
    /// `Conflict` when rows of it are held here from before another project folder wrote it; those of the store.
    pub(crate) fn open_table(&mut self, gate: &TableGate, opened: &Opened) -> Result<()> {
        let table = &gate.schema().table;
        if let Some(through) = &opened.elsewhere
            && self.store.is_overtaken(table, through, opened.uncopied)?
        {
            let what = "rows of it are held back here, and another project folder has written the table since";
            return Err(Error::new(Kind::Conflict, what).fix(
                "Give them up (lockgate held drop), or write what the source has of them now: lockgate repair --force.",
            ));
        }
        if opened.elsewhere.is_some() && opened.uncopied {
            self.store.copy_unwatched(table)?;
        }
        match opened.held_back {
            Some(rows) => self.told.insert(table.clone(), rows),
            None => self.told.remove(table),
        };
        let Opened { uncopied, released, .. } = *opened;
        if let Some(begun) = self.store.begun(table)? {
            let has = released.map(|number| number >= begun.number);
            match has {
                [true, true] => self.store.released(table)?,
                [false, false] => self.store.give_back(table)?,
                _ => drop(self.resumed.insert(table.clone(), begun)),
            }
        }
        if !uncopied {
            self.store.copy_ends(table)?;
        }
        let mut index = HeldIndex::default();
        // Under rules that hold nothing as well: they may turn before the copy ends.
        index.set_copying(uncopied);
        index.set_passed(opened.reached.clone());
        self.tables.insert(table.clone(), index);
        if let Some(through) = &opened.through {
            self.durable(table, through)?;
        }
        self.reload(table)
    }

    /// Takes over what is in the store. Rows of a release that was sent do not hold up others any more.
    fn reload(&mut self, table: &TableName) -> Result<()> {
        let mut index = self.store.index(table, self.resumed.contains_key(table))?;
        if let Some(before) = self.tables.get(table) {
            index.go_on_from(before);
        }
        self.tables.insert(table.clone(), index);
        self.changed.insert(table.clone());
        Ok(())
    }

    /// What the lake has to be told: tables of which another number of rows is held now, and that number.
    pub(crate) fn news(&mut self) -> Result<Vec<(TableName, u64)>> {
        let mut news = Vec::new();
        for table in std::mem::take(&mut self.changed) {
            let rows = self.store.rows_of(&table)?;
            if self.told.insert(table.clone(), rows) != Some(rows) {
                news.push((table, rows));
            }
        }
        Ok(news)
    }

    /// Clears a batch; held rows are durable when this returns.
    ///
    /// # Errors
    /// Those of the gate and of the store.
    pub(crate) fn clear(&mut self, gate: &TableGate, batch: ChangeBatch) -> Result<Cleared> {
        let table = gate.schema().table.clone();
        let Some(index) = self.tables.get_mut(&table) else { return gate.clear(batch) };
        let cleared = gate.clear_holding(batch, index, &mut nonce)?;
        if !cleared.passed.is_empty() {
            self.store.note_passed(&table, &cleared.passed)?;
        }
        if !cleared.held.is_empty() {
            self.changed.insert(table.clone());
            let out_of_date = self.store.keep(&table, &cleared.held, self.clock.now(), &self.policy)?;
            for row in out_of_date.iter().map(|place| &cleared.held[*place]) {
                index.let_go(&row.position, &row.keys, true);
            }
            tracing::warn!(%table, rows = cleared.held.len() - out_of_date.len(), "rows are held back; lockgate held list");
        }
        Ok(cleared)
    }

    /// The boundary at which a streamed batch has to be cut, because a release that was begun comes in there.
    pub(crate) fn crossing(&self, batch: &ChangeBatch) -> Option<Position> {
        let through = &self.resumed.get(&batch.schema().table)?.boundary.through;
        let last = batch.meta().positions.iter().flatten().last()?;
        (last > through.as_bytes()).then(|| through.clone())
    }

    /// Tables with a release that was begun and whose boundary has come.
    pub(crate) fn resumable(&self, boundary: &Checkpoint) -> Vec<TableName> {
        let reached = |(_, release): &(&TableName, &Release)| release.boundary.through <= boundary.through;
        self.resumed.iter().filter(reached).map(|(table, _)| table.clone()).collect()
    }

    /// The release that was begun for a table, cleared again.
    ///
    /// # Errors
    /// `Privacy` when a row does not pass any more: one of the two tables has it.
    pub(crate) fn resume(&mut self, gate: &TableGate) -> Result<Option<(Release, ClearedBatch)>> {
        let Some(release) = self.resumed.remove(&gate.schema().table) else { return Ok(None) };
        let readmitted = gate.readmit(&release.sealed())?;
        match (readmitted.refused.into_iter().next(), readmitted.batch) {
            (None, Some(batch)) => Ok(Some((release, batch))),
            (None, None) => Ok(None),
            (Some((_, why)), _) => Err(Error::new(
                Kind::Privacy,
                format!("{}: rows whose release was interrupted do not pass any more: {}", release.table, why.what()),
            )
            .fix("Start once with the policy and the keys of then.")),
        }
    }

    /// Tables with rows that may come in, looked for when something has changed; and erases what has been held for too long.
    pub(crate) fn releasable(&mut self, boundary: &Checkpoint) -> Result<Vec<TableName>> {
        let now = self.clock.monotonic();
        let free = self.is_owed(&boundary.through);
        if !free && self.looked_at.is_some_and(|at| now.saturating_sub(at) < LOOK_EVERY) {
            return Ok(Vec::new());
        }
        self.looked_at = Some(now);
        let mut changed = false;
        if now.saturating_sub(self.expired_at) >= EXPIRE_EVERY {
            self.expired_at = now;
            changed = expire(&self.store, self.days, self.clock.now(), self.witness.as_ref())? > 0;
        }
        let version = self.store.version()?;
        changed |= std::mem::replace(&mut self.version, version) != version;
        if changed {
            for table in self.tables.keys().cloned().collect::<Vec<_>>() {
                self.reload(&table)?;
            }
        }
        if !free && !changed {
            return Ok(Vec::new());
        }
        (self.waiting, self.again) = (None, false);
        let mut tables = Vec::new();
        for table in self.tables.keys() {
            if self.store.may_release(table)? {
                tables.push(table.clone());
            }
        }
        Ok(tables)
    }

    /// Whether rows may come in at a boundary at or below a position.
    pub(crate) fn is_owed(&self, through: &Position) -> bool {
        self.looked_at.is_none() || self.again || self.waiting.as_ref().is_some_and(|position| position <= through)
    }

    /// Begins a release at a boundary. Rows that do not pass are held again, with the reason, and those behind them wait as before.
    ///
    /// # Errors
    /// Those of the store, and of the gate that have nothing to do with the rows.
    pub(crate) fn release(
        &mut self,
        gate: &TableGate,
        boundary: &Checkpoint,
    ) -> Result<Option<(Release, ClearedBatch)>> {
        let table = &gate.schema().table;
        let taken = self.store.take(table, boundary, self.clock.now())?;
        self.waiting = [self.waiting.take(), taken.later].into_iter().flatten().min();
        let Some(mut release) = taken.release else { return Ok(None) };
        let readmitted = gate.readmit(&release.sealed())?;
        let refused: Vec<(i64, String)> =
            readmitted.refused.iter().map(|(place, why)| (release.rows[*place].id, why.what().to_owned())).collect();
        let behind: Vec<i64> = readmitted.behind.iter().map(|place| release.rows[*place].id).collect();
        self.store.refuse(&refused, &behind)?;
        for (_, why) in &readmitted.refused {
            tracing::warn!(%table, error = %why, "a released row is held again");
        }
        release.rows.retain(|row| refused.iter().all(|(id, _)| *id != row.id) && !behind.contains(&row.id));
        Ok(readmitted.batch.map(|batch| (release, batch)))
    }

    /// Both tables have the release: its keys are free.
    pub(crate) fn sent(&mut self, release: &Release) {
        if let Some(index) = self.tables.get_mut(&release.table) {
            release.rows.iter().for_each(|row| index.let_go(&row.position, &row.keys, row.copied));
        }
    }

    /// A release is durable in both tables.
    pub(crate) fn released(&mut self, table: &TableName) -> Result<()> {
        self.again = true;
        self.changed.insert(table.clone());
        self.store.released(table)
    }

    /// Both tables of a source table are durable through a boundary.
    pub(crate) fn durable(&mut self, table: &TableName, through: &Position) -> Result<()> {
        let Some(index) = self.tables.get_mut(table) else { return Ok(()) };
        if index.knows_of(through) {
            self.store.forget(table, through)?;
        }
        index.forget(through);
        Ok(())
    }

    /// Every row of a table was removed.
    pub(crate) fn truncated(&mut self, table: &TableName, at: &Position) -> Result<()> {
        if !self.tables.contains_key(table) {
            return Ok(());
        }
        let rows = self.store.truncated(table, at)?;
        if rows > 0 {
            tracing::warn!(%table, rows, "held rows are forgotten: the source has removed every row of the table");
        }
        self.reload(table)
    }

    /// A first copy begins or goes on. Of one whose chunks are all in the lake, no row can come again.
    pub(crate) fn copy_begins(&mut self, gate: &TableGate, copy: &CopyProgress) -> Result<()> {
        self.copy_of(&gate.schema().table, copy, gate.holds())
    }

    fn copy_of(&mut self, table: &TableName, copy: &CopyProgress, holds: bool) -> Result<()> {
        let only_ends = copy.is_read() && !copy.done.is_empty();
        let Some(index) = self.tables.get(table).filter(|_| !only_ends) else { return Ok(()) };
        self.store.copy_begins(table, copy, holds, index.passed())?;
        // Of a release that one of the two tables has, what the copy reads anew must not come any more.
        if self.resumed.remove(table).is_some()
            && let Some(left) = self.store.begun(table)?
        {
            self.resumed.insert(table.clone(), left);
        }
        self.reload(table)
    }

    /// A first copy is finished in both tables.
    pub(crate) fn copy_ends(&mut self, table: &TableName) -> Result<()> {
        let Some(index) = self.tables.get_mut(table) else { return Ok(()) };
        index.set_copying(false);
        index.forget_copied();
        self.changed.insert(table.clone());
        self.store.copy_ends(table)
    }
}

/// Erases what has been held for too long, and says so. What the witness cannot write down is not done; a stop in between lets it be
/// written twice, and never not at all.
pub(crate) fn expire(store: &HeldStore, days: u32, now: i64, witness: Option<&Witness>) -> Result<u64> {
    let expired = store.expired(held_before(days, now))?;
    if expired.is_empty() {
        return Ok(0);
    }
    let mut rows: BTreeMap<&TableName, u64> = BTreeMap::new();
    for line in &expired {
        *rows.entry(&line.table).or_default() += 1;
    }
    if let Some(witness) = witness {
        rows.iter().try_for_each(|(table, rows)| witness(table, *rows))?;
    }
    tracing::warn!(
        rows = expired.len(),
        days,
        "held rows are erased: they were held for longer than the policy allows"
    );
    store.erase(&expired.iter().map(|line| line.id).collect::<Vec<_>>())?;
    Ok(expired.len() as u64)
}

/// Whether there is something for [`expire`].
pub(crate) fn has_expired(store: &HeldStore, days: u32, now: i64) -> Result<bool> {
    Ok(!store.expired(held_before(days, now))?.is_empty())
}

fn held_before(days: u32, now: i64) -> i64 {
    now - i64::from(days) * MICROS_PER_DAY
}

fn nonce() -> Result<[u8; 16]> {
    let mut nonce = [0; 16];
    OsRng.try_fill_bytes(&mut nonce).map_err(|error| {
        Error::new(Kind::Unavailable, "the system gave no random numbers to seal a held row with").source(error)
    })?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use change::{ChunkSet, Op};
    use gate::{HeldRow, RowKey, Why};

    use super::*;
    use crate::clock::SystemClock;
    use crate::held::Choice;

    fn place(at: u8) -> Position {
        Position::from_bytes(&[at])
    }

    fn held(at: u8) -> HeldRow {
        HeldRow {
            last: place(at),
            position: place(at),
            copied: false,
            keys: vec![RowKey::from_bytes([at; 16])],
            op: Op::Update,
            committed_at: 0,
            whole: true,
            why: Why::Behind,
            sealed: vec![0],
        }
    }

    fn copy(low: u8) -> CopyProgress {
        CopyProgress { low: place(low), plan: String::new(), chunks: 1, done: ChunkSet::default(), finished: None }
    }

    /// A run that opens a table of which one layer has the release of rows at 6 and 30.
    fn opened(name: &str) -> (Keeper, TableName, std::path::PathBuf) {
        let folder = std::env::temp_dir().join(format!("lockgate-keeper-{name}-{}", std::process::id()));
        let (store, table) = (Arc::new(HeldStore::open(&folder).unwrap()), TableName::new("db", "public", "t"));
        store.keep(&table, &[held(6), held(30)], 0, "policy").unwrap();
        store.mark(&Choice::All).unwrap();
        let through = Checkpoint { stream: "db".into(), through: place(40), identity: String::new() };
        let begun = store.take(&table, &through, 1).unwrap().release.unwrap();
        assert_eq!(begun.rows.len(), 2);
        let keeper = Keeper {
            store,
            clock: Arc::new(SystemClock::new()),
            policy: String::new(),
            tables: BTreeMap::from([(table.clone(), HeldIndex::default())]),
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
            resumed: BTreeMap::from([(table.clone(), begun)]),
            looked_at: None,
            version: 0,
            waiting: None,
            again: false,
            days: 30,
            expired_at: Duration::ZERO,
            witness: None,
        };
        (keeper, table, folder)
    }

    #[test]
    fn rows_of_an_interrupted_release_that_a_copy_reads_anew_do_not_come_after_it() {
        let boundary = |at: u8| Checkpoint { stream: "db".into(), through: place(at), identity: String::new() };
        for (low, left) in [(5, vec![6, 30]), (10, vec![30]), (35, vec![])] {
            let (mut keeper, table, folder) = opened(&format!("anew-{low}"));
            keeper.copy_of(&table, &copy(low), true).unwrap();
            let owed: Vec<u8> = keeper
                .resumable(&boundary(90))
                .iter()
                .flat_map(|table| &keeper.resumed[table].rows)
                .map(|row| row.position.as_bytes()[0])
                .collect();
            assert_eq!(owed, left, "LOW {low}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
