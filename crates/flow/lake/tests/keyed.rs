//! A table with a key under everything that may happen to it, against a plain model: any seed, any crash.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use change::{Identity, Op, Origin, Result};
use lake::{Layer, TableWriter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::table::{
    Cell, Door, Row, TestLake, done, flip_a_byte, position, progress, try_commit_copy, try_commit_stream,
};

const IDS: i64 = 14;
const CHUNKS: u32 = 3;
/// LOW and the first boundary.
const LOW: u64 = 1;

type Table = BTreeMap<i64, Vec<Cell>>;

enum Step {
    Row(Row),
    Truncate(u64),
}

enum Entry {
    /// A transaction: its position and its steps.
    Transaction(u64, Vec<Step>),
    AddColumn,
}

/// What happens at the source.
struct Script {
    entries: Vec<Entry>,
    /// The source's table before each entry, and after the last.
    states: Vec<Table>,
    /// Keys that an entry before this one touched.
    touched: Vec<BTreeSet<i64>>,
}

impl Script {
    fn new(rng: &mut StdRng, length: usize) -> Self {
        let mut table: Table = (0..IDS / 2).map(|id| (id * 2, image(rng, id * 2, 3))).collect();
        let (mut entries, mut states, mut touched) = (Vec::new(), vec![table.clone()], vec![BTreeSet::new()]);
        let (mut width, mut seen) = (3, BTreeSet::new());
        for number in 0..length as u64 {
            if width == 3 && rng.random_ratio(1, 20) {
                width = 4;
                entries.push(Entry::AddColumn);
            } else {
                let lsn = (number + 1) * 10;
                let mut steps = Vec::new();
                for ordinal in 1..=rng.random_range(1..8) {
                    step(rng, &mut table, &mut seen, (lsn, ordinal * 2, width), &mut steps);
                }
                entries.push(Entry::Transaction(lsn, steps));
            }
            states.push(table.clone());
            touched.push(seen.clone());
        }
        Self { entries, states, touched }
    }
}

fn image(rng: &mut StdRng, id: i64, width: usize) -> Vec<Cell> {
    let mut cells = vec![Cell::Int(id)];
    cells
        .extend((1..width).map(|_| {
            if rng.random_ratio(1, 5) { Cell::Null } else { Cell::Text(format!("v{}", rng.random::<u16>())) }
        }));
    cells
}

/// One change of the source. Cells that did not change may be left out by the log: those are marked afterwards, from the images.
fn step(
    rng: &mut StdRng,
    table: &mut Table,
    seen: &mut BTreeSet<i64>,
    (lsn, ordinal, width): (u64, u64, usize),
    steps: &mut Vec<Step>,
) {
    let id = rng.random_range(0..IDS);
    let mut push = |op, ordinal, cells| steps.push(Step::Row(Row { op, lsn, ordinal, cells }));
    let Some(old) = table.get(&id).cloned() else {
        let cells = image(rng, id, width);
        table.insert(id, cells.clone());
        seen.insert(id);
        return push(Op::Insert, ordinal, cells);
    };
    let mut new = image(rng, id, width);
    if rng.random_ratio(1, 2) {
        new[2] = Cell::Unsent;
    }
    let whole = |new: &[Cell]| {
        let mut whole = new.to_vec();
        if whole[2] == Cell::Unsent {
            whole[2] = old[2].clone();
        }
        whole
    };
    match rng.random_range(0..40) {
        0 => {
            table.clear();
            seen.extend(0..IDS);
            steps.push(Step::Truncate(ordinal));
        }
        1..10 => {
            table.remove(&id);
            seen.insert(id);
            push(Op::Delete, ordinal, vec![Cell::Int(id)]);
        }
        10..16 => {
            let to = rng.random_range(0..IDS);
            if table.contains_key(&to) {
                return;
            }
            seen.extend([id, to]);
            new[0] = Cell::Int(to);
            table.remove(&id);
            table.insert(to, whole(&new));
            push(Op::MoveOut, ordinal, vec![Cell::Int(id)]);
            push(Op::Insert, ordinal + 1, new);
        }
        _ => {
            table.insert(id, whole(&new));
            seen.insert(id);
            push(Op::Update, ordinal, new);
        }
    }
}

fn id_of(cells: &[Cell]) -> i64 {
    match cells[0] {
        Cell::Int(id) => id,
        _ => panic!("a row without key"),
    }
}

/// What the lake's tables must hold.
#[derive(Default)]
struct Model {
    /// The current rows with their positions.
    rows: BTreeMap<i64, (Vec<Cell>, String)>,
    /// Keys that the stream has touched.
    streamed: BTreeSet<i64>,
    /// A truncate was handed over; and one is in the table's record.
    cut: bool,
    cut_durable: bool,
    /// Position and letter of every change.
    log: BTreeMap<(String, i64), &'static str>,
    copied_log: Vec<i64>,
}

impl Model {
    fn apply(&mut self, row: &Row, base: Option<Vec<Cell>>) {
        let id = id_of(&row.cells);
        self.streamed.insert(id);
        if row.op.removes() {
            self.rows.remove(&id);
            return;
        }
        let mut cells = row.cells.clone();
        if cells.contains(&Cell::Unsent) {
            // The row was deleted later, before its chunk was read; that delete follows.
            let Some(base) = base else { return };
            for (cell, old) in cells.iter_mut().zip(base) {
                if *cell == Cell::Unsent {
                    *cell = old;
                }
            }
        }
        self.rows.insert(id, (cells, row.position().to_hex()));
    }

    fn transaction(&mut self, steps: &[Step], whole: Option<&Table>) {
        let mut moved = None;
        for step in steps {
            let Step::Row(row) = step else {
                self.rows.clear();
                self.streamed.clear();
                moved = None;
                continue;
            };
            let base = match row.op {
                Op::Insert => moved.take(),
                _ => self.rows.get(&id_of(&row.cells)).map(|(cells, _)| cells.clone()),
            };
            if row.op == Op::MoveOut {
                moved = base.clone();
            }
            self.apply(&sent(row, whole), base);
        }
    }

    fn logged(&mut self, lsn: u64, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Row(row) => drop(self.log.insert((row.position().to_hex(), id_of(&row.cells)), row.op.letter())),
                Step::Truncate(ordinal) => drop(self.log.insert((position(lsn, *ordinal).to_hex(), -1), "t")),
            }
        }
    }
}

/// The row as the source hands it over: whole while the copy is unfinished.
fn sent(row: &Row, whole: Option<&Table>) -> Row {
    let mut row = row.clone();
    if let (Some(table), true) = (whole, row.cells.contains(&Cell::Unsent)) {
        let now = table.get(&id_of(&row.cells)).and_then(|cells| cells.get(2)).cloned();
        row.cells[2] = now.unwrap_or(Cell::Null);
    }
    row
}

struct World {
    rng: StdRng,
    lake: TestLake,
    script: Script,
    doors: [Door; 2],
    wide: usize,
    writers: Option<[TableWriter; 2]>,
    models: [Model; 2],
    /// The next entry to hand over; what each layer has durable; entries that were handed over whole, with the table they were read from.
    at: usize,
    durable: [usize; 2],
    whole: BTreeMap<usize, usize>,
    /// Chunks that each layer has, and the end of its copy.
    chunks: [BTreeSet<u32>; 2],
    finished: [Option<u64>; 2],
    copy_end: u64,
    /// The index was damaged since it was opened.
    damaged: bool,
}

const LAYERS: [Layer; 2] = [Layer::Current, Layer::Changes];

fn boundary(entry: usize) -> u64 {
    entry as u64 * 10 + LOW
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let length = rng.random_range(4..30);
        let script = Script::new(&mut rng, length);
        let columns =
            [("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8), ("extra", DataType::Utf8)];
        let doors = [3, 4].map(|width| Door::new(&columns[..width], Identity::Key(vec![0])));
        let lake = TestLake::new().await;
        let mut world = Self {
            rng,
            lake,
            script,
            doors,
            wide: 0,
            writers: None,
            models: Default::default(),
            at: 0,
            durable: [0; 2],
            whole: BTreeMap::new(),
            chunks: Default::default(),
            finished: [None; 2],
            copy_end: LOW,
            damaged: false,
        };
        world.open().await;
        world
    }

    fn writers(&mut self) -> &mut [TableWriter; 2] {
        self.writers.as_mut().unwrap()
    }

    async fn open(&mut self) {
        let door = &self.doors[self.wide];
        self.writers =
            Some([self.lake.writer(door, Layer::Current).await, self.lake.writer(door, Layer::Changes).await]);
        for (layer, name) in LAYERS.iter().enumerate() {
            let (durable, chunks) = (self.durable[layer], self.chunks[layer].clone());
            let checkpoint = self.writers()[layer].checkpoint().clone();
            let through = checkpoint.stream.map(|stream| stream.through);
            assert!(through == Some(position(boundary(durable), 0)) || durable == 0, "{name} has another checkpoint");
            let copied: BTreeSet<u32> = (0..CHUNKS)
                .filter(|chunk| checkpoint.copy.as_ref().is_some_and(|copy| copy.done.contains(*chunk)))
                .collect();
            assert_eq!(copied, chunks);
        }
    }

    fn copying(&self) -> bool {
        self.finished.contains(&None)
    }

    /// Hands one entry over to both layers.
    async fn deliver(&mut self) -> Result<()> {
        let Some(entry) = self.script.entries.get(self.at) else { return Ok(()) };
        let Entry::Transaction(lsn, steps) = entry else {
            self.wide = 1;
            let schema = self.doors[1].schema();
            for writer in self.writers.as_mut().unwrap() {
                writer.evolve(&schema).await?;
            }
            self.at += 1;
            return Ok(());
        };
        // The source fills unsent cells itself as long as a chunk may not have seen the row.
        let copying = self.copying() || boundary(self.at + 1) <= self.copy_end;
        let read_at = *self.whole.entry(self.at).or_insert(if copying { self.at + 1 } else { usize::MAX });
        let whole = self.script.states.get(read_at);
        let mut rows: Vec<Row> = Vec::new();
        for step in steps {
            match step {
                Step::Row(row) => {
                    // The halves of a key change stay in one batch.
                    let split = rows.last().is_some_and(|last| last.op != Op::MoveOut);
                    if split && self.rng.random_ratio(1, 3) {
                        stage(
                            self.writers.as_mut().unwrap(),
                            &self.doors[self.wide],
                            Origin::Stream,
                            &std::mem::take(&mut rows),
                        )
                        .await?;
                    }
                    rows.push(sent(row, whole));
                }
                Step::Truncate(ordinal) => {
                    stage(
                        self.writers.as_mut().unwrap(),
                        &self.doors[self.wide],
                        Origin::Stream,
                        &std::mem::take(&mut rows),
                    )
                    .await?;
                    for (layer, writer) in self.writers.as_mut().unwrap().iter_mut().enumerate() {
                        writer.truncate(&position(*lsn, *ordinal), *lsn, *ordinal, crate::table::START).await?;
                        self.models[layer].cut |= self.at >= self.durable[layer];
                    }
                }
            }
        }
        stage(self.writers.as_mut().unwrap(), &self.doors[self.wide], Origin::Stream, &rows).await?;
        self.at += 1;
        Ok(())
    }

    /// Commits what was handed over, in both layers or, before a crash, in one.
    async fn commit(&mut self, layers: &[usize]) -> Result<()> {
        for layer in layers.iter().copied() {
            let at = self.at;
            if at <= self.durable[layer] {
                continue;
            }
            done(try_commit_stream(&mut self.writers()[layer], boundary(at)).await?);
            let model = &mut self.models[layer];
            for index in self.durable[layer]..at {
                if let Entry::Transaction(lsn, steps) = &self.script.entries[index] {
                    let whole = self.script.states.get(self.whole[&index]);
                    if layer == 0 { model.transaction(steps, whole) } else { model.logged(*lsn, steps) }
                }
            }
            model.cut_durable |= model.cut;
            self.durable[layer] = at;
            self.check(layer).await;
        }
        Ok(())
    }

    /// Reads one chunk as the source is at some time, and commits it.
    async fn copy(&mut self, crash: Option<usize>) -> Result<()> {
        let missing: Vec<u32> =
            (0..CHUNKS).filter(|chunk| self.chunks.iter().any(|done| !done.contains(chunk))).collect();
        let Some(chunk) = missing.first().copied() else { return self.finish_copy().await };
        let read_at = self.rng.random_range(0..self.script.states.len());
        self.copy_end = self.copy_end.max(boundary(read_at));
        let (state, touched) = (&self.script.states[read_at], &self.script.touched[read_at]);
        let mut rows = Vec::new();
        for (id, cells) in state {
            // A row that changed since LOW may have moved from a chunk that is read to one that is not, or back.
            let own = *id as u32 % CHUNKS == chunk;
            if if touched.contains(id) { self.rng.random_ratio(1, 2) } else { own } {
                // A column that the stream has not brought yet is not asked for.
                let cells = cells.iter().take(self.doors[self.wide].width()).cloned().collect();
                rows.push(Row { op: Op::Copy, lsn: LOW, ordinal: 0, cells });
            }
        }
        let cut = rows.len() / 2;
        let later = rows.split_off(cut);
        for part in [rows.clone(), later.clone()] {
            stage(self.writers.as_mut().unwrap(), &self.doors[self.wide], Origin::Copy { chunk }, &part).await?;
            if self.rng.random_ratio(1, 3) {
                self.deliver().await?;
            }
        }
        rows.extend(later);
        for layer in 0..2 {
            if self.chunks[layer].contains(&chunk) {
                continue;
            }
            if crash == Some(layer) {
                return Ok(());
            }
            let durable: Vec<u32> = self.chunks[layer].iter().copied().chain([chunk]).collect();
            let copy = progress(position(LOW, 0), CHUNKS, &durable, None);
            done(try_commit_copy(&mut self.writers()[layer], copy).await?);
            self.chunks[layer].insert(chunk);
            self.copied(layer, &rows);
            self.check(layer).await;
        }
        Ok(())
    }

    fn copied(&mut self, layer: usize, rows: &[Row]) {
        let model = &mut self.models[layer];
        model.cut_durable |= model.cut;
        for row in rows {
            let id = id_of(&row.cells);
            if layer == 1 {
                model.copied_log.push(id);
            } else if !model.cut && !model.streamed.contains(&id) {
                model.rows.insert(id, (row.cells.clone(), row.position().to_hex()));
            }
        }
    }

    async fn finish_copy(&mut self) -> Result<()> {
        for layer in 0..2 {
            if self.finished[layer].is_none() {
                let copy = progress(position(LOW, 0), CHUNKS, &[0, 1, 2], Some(position(self.copy_end, 0)));
                done(try_commit_copy(&mut self.writers()[layer], copy).await?);
                self.finished[layer] = Some(self.copy_end);
                self.models[layer].cut_durable |= self.models[layer].cut;
                self.check(layer).await;
            }
        }
        Ok(())
    }

    /// The process ends at any moment and starts again; sometimes the index is lost or damaged meanwhile.
    async fn restart(&mut self, harm: bool) {
        let [current, changes] = self.writers.take().unwrap();
        self.damaged &= harm;
        match if harm { self.rng.random_range(0..4) } else { 4 } {
            0 => current.close().unwrap(),
            1 => {
                drop(current);
                std::fs::remove_dir_all(self.lake.index()).unwrap();
            }
            2 => {
                drop(current);
                let at = self.rng.random_range(0..1 << 14);
                self.damaged = true;
                flip_a_byte(&self.lake.index().join("blocks"), at);
            }
            _ => drop(current),
        }
        drop(changes);
        for layer in 0..2 {
            self.models[layer].cut = self.models[layer].cut_durable;
        }
        let resume = self.durable[0].min(self.durable[1]);
        self.at = self.rng.random_range(resume.saturating_sub(3)..=resume);
        self.open().await;
    }

    async fn act(&mut self) -> Result<()> {
        let all = self.at == self.script.entries.len();
        match self.rng.random_range(0..12) {
            0..5 if !all => self.deliver().await,
            0..7 => self.commit(&[0, 1]).await,
            7 => {
                let only = self.rng.random_range(0..2);
                self.commit(&[only]).await?;
                self.restart(true).await;
                Ok(())
            }
            8..10 => self.copy(None).await,
            10 if self.rng.random_ratio(1, 3) => {
                let crash = self.rng.random_range(0..2);
                self.copy(Some(crash)).await?;
                self.restart(true).await;
                Ok(())
            }
            _ => {
                for writer in self.writers() {
                    writer.maintain().await?;
                }
                Ok(())
            }
        }
    }

    /// Now and then, and at the end.
    async fn check(&mut self, layer: usize) {
        if self.rng.random_ratio(1, 3) {
            self.compare(layer).await;
        }
    }

    async fn compare(&mut self, layer: usize) {
        let rows = self.lake.read(LAYERS[layer]).await;
        if layer == 1 {
            let (mut log, mut copied) = (BTreeMap::new(), Vec::new());
            for row in &rows {
                let id = row["id"].parse().unwrap_or(-1);
                if row["_lg_op"] == "r" {
                    copied.push(id);
                } else {
                    assert_eq!(
                        log.insert((row["_lg_position"].clone(), id), row["_lg_op"].as_str()),
                        None,
                        "a change twice"
                    );
                }
            }
            copied.sort_unstable();
            self.models[1].copied_log.sort_unstable();
            assert_eq!(log, self.models[1].log);
            assert_eq!(copied, self.models[1].copied_log);
            return;
        }
        let mut found = BTreeMap::new();
        for row in &rows {
            let cells: Vec<String> =
                ["name", "note", "extra"].map(|column| row.get(column).cloned().unwrap_or("-".into())).to_vec();
            let before = found.insert(row["id"].parse::<i64>().unwrap(), (cells, row["_lg_position"].clone()));
            assert_eq!(before, None, "a key twice");
        }
        let expected: BTreeMap<i64, (Vec<String>, String)> = self.models[0]
            .rows
            .iter()
            .map(|(id, (cells, position))| {
                let cells = (1..4).map(|index| cells.get(index).map_or("-".into(), Cell::text)).collect();
                (*id, (cells, position.clone()))
            })
            .collect();
        assert_eq!(found, expected);
    }

    async fn run(&mut self) {
        while self.at < self.script.entries.len() || self.copying() || self.durable != [self.at; 2] {
            match self.act().await {
                Ok(()) => {}
                // A damaged index is noticed when it is read, and built anew at the next start.
                Err(error) if self.damaged && error.kind() == change::Kind::Unavailable => self.restart(false).await,
                Err(error) => panic!("{error}"),
            }
        }
        self.compare(0).await;
        self.compare(1).await;
        let held: Table = self.models[0].rows.iter().map(|(id, (cells, _))| (*id, cells.clone())).collect();
        let pad = |table: &Table| -> Vec<Vec<String>> {
            table
                .values()
                .map(|cells| (0..4).map(|index| cells.get(index).map_or("-".into(), Cell::text)).collect())
                .collect()
        };
        assert_eq!(pad(&held), pad(self.script.states.last().unwrap()), "the lake is not what the source is");
    }
}

async fn stage(writers: &mut [TableWriter; 2], door: &Door, origin: Origin, rows: &[Row]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let width = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
    assert!(width <= door.width());
    let batch = door.batch(origin, rows);
    for writer in writers {
        writer.write(&batch).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_with_any_crash_gives_the_rows_of_the_source() {
    crate::for_seeds(40, |seed| async move { World::new(seed).await.run().await }).await;
}
