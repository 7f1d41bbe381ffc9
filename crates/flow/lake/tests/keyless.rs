//! Tables without key: rows form a multiset, and deletes may come before the rows that they take.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use change::{Identity, Op, Origin};
use lake::{Layer, Outcome, TableWriter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::table::{Cell, Door, Row, TestLake, commit_copy, commit_stream, done, position, progress, row};

const COLUMNS: [(&str, DataType); 3] = [("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Utf8)];
const CHUNKS: u32 = 3;

type Bag = BTreeMap<Vec<Cell>, i64>;

async fn bag(lake: &TestLake) -> BTreeMap<Vec<String>, i64> {
    let mut bag = BTreeMap::new();
    for row in lake.read(Layer::Current).await {
        let cells = ["a", "b", "c"].map(|column| row.get(column).cloned().unwrap_or("-".into())).to_vec();
        *bag.entry(cells).or_default() += 1;
    }
    bag
}

fn printed(bag: &Bag) -> BTreeMap<Vec<String>, i64> {
    let cells = |cells: &Vec<Cell>| (0..3).map(|index| cells.get(index).map_or("-".into(), Cell::text)).collect();
    bag.iter().filter(|(_, count)| **count > 0).map(|(row, count)| (cells(row), *count)).collect()
}

/// A change of the source's table that is possible.
fn change(rng: &mut StdRng, source: &mut Bag, lsn: u64, ordinal: u64, width: usize) -> Row {
    let there: Vec<Vec<Cell>> = source.iter().filter(|(_, count)| **count > 0).map(|(row, _)| row.clone()).collect();
    if !there.is_empty() && rng.random_ratio(2, 5) {
        let cells = there[rng.random_range(0..there.len())].clone();
        *source.entry(cells.clone()).or_default() -= 1;
        return row(Op::Delete, lsn, ordinal, &cells);
    }
    let mut cells = vec![Cell::Int(rng.random_range(0..3))];
    cells.extend((1..width).map(|_| if rng.random() { Cell::Null } else { Cell::Text("x".into()) }));
    cells.resize(3, Cell::Null);
    *source.entry(cells.clone()).or_default() += 1;
    row(Op::Insert, lsn, ordinal, &cells)
}

struct Run {
    rng: StdRng,
    lake: TestLake,
    writer: Option<TableWriter>,
    doors: [Door; 2],
    wide: usize,
    source: Bag,
    lsn: u64,
}

impl Run {
    fn writer(&mut self) -> &mut TableWriter {
        self.writer.as_mut().unwrap()
    }

    async fn stream(&mut self, rows: u64) -> Vec<Row> {
        self.lsn += 10;
        let (lsn, width) = (self.lsn, self.doors[self.wide].width());
        let rows: Vec<Row> =
            (1..=rows).map(|ordinal| change(&mut self.rng, &mut self.source, lsn, ordinal, width)).collect();
        for part in rows.chunks(4) {
            let batch = self.doors[self.wide].batch(Origin::Stream, part);
            self.writer().write(&batch).await.unwrap();
        }
        rows
    }

    async fn commit(&mut self) {
        let lsn = self.lsn + 1;
        done(commit_stream(self.writer(), lsn).await);
    }

    /// The first copy, of the table as it was when it began, with changes between its chunks.
    async fn copy(&mut self) {
        let snapshot: Vec<Vec<Cell>> =
            self.source.iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count as usize)).collect();
        let mut finished = Vec::new();
        for chunk in 0..CHUNKS {
            let own = snapshot.iter().enumerate().filter(|(number, _)| *number as u32 % CHUNKS == chunk);
            let rows: Vec<Row> = own.map(|(_, cells)| row(Op::Copy, 1, 0, cells)).collect();
            if self.rng.random() {
                let rows = self.rng.random_range(1..6);
                self.stream(rows).await;
                self.commit().await;
            }
            let batch = self.doors[0].batch(Origin::Copy { chunk }, &rows);
            self.writer().write(&batch).await.unwrap();
            finished.push(chunk);
            let copy = progress(position(1, 0), CHUNKS, &finished, None);
            done(commit_copy(self.writer(), copy).await);
        }
        let end = position(self.lsn + 1, 0);
        done(commit_copy(self.writer(), progress(position(1, 0), CHUNKS, &finished, Some(end))).await);
        assert_eq!(bag(&self.lake).await, printed(&self.source));
    }

    async fn run(mut self) {
        for _ in 0..self.rng.random_range(0..12) {
            let cells = [Cell::Int(self.rng.random_range(0..3)), Cell::Null, Cell::Null];
            *self.source.entry(cells.to_vec()).or_default() += 1;
        }
        self.copy().await;
        for _ in 0..self.rng.random_range(3..12) {
            let rows = self.rng.random_range(1..9);
            let before = (self.source.clone(), self.lsn);
            self.stream(rows).await;
            match self.rng.random_range(0..6) {
                0 => {
                    // A crash with staged rows: the source hands other ones over afterwards, for the model's sake.
                    self.writer = None;
                    (self.source, self.lsn) = before;
                    if self.rng.random() {
                        std::fs::remove_dir_all(self.lake.index()).unwrap();
                    }
                    self.writer = Some(self.lake.writer(&self.doors[self.wide], Layer::Current).await);
                }
                1 if self.wide == 0 => {
                    self.wide = 1;
                    let schema = self.doors[1].schema();
                    self.writer().evolve(&schema).await.unwrap();
                }
                2 => {
                    self.lsn += 10;
                    let lsn = self.lsn;
                    self.writer().truncate(&position(lsn, 1), lsn, 1, 0).await.unwrap();
                    self.source.clear();
                    self.stream(3).await;
                }
                _ => {}
            }
            if self
                .writer
                .as_ref()
                .unwrap()
                .checkpoint()
                .stream
                .as_ref()
                .is_none_or(|at| at.through < position(self.lsn + 1, 0))
            {
                self.commit().await;
            }
            self.writer().maintain().await.unwrap();
            assert_eq!(bag(&self.lake).await, printed(&self.source));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_rows_are_counted_whatever_happens() {
    crate::for_seeds(25, |seed| async move {
        let lake = TestLake::new().await;
        let doors = [2, 3].map(|width| Door::new(&COLUMNS[..width], Identity::WholeRow));
        let writer = Some(lake.writer(&doors[0], Layer::Current).await);
        let rng = StdRng::seed_from_u64(seed);
        Run { rng, lake, writer, doors, wide: 0, source: Bag::new(), lsn: 10 }.run().await;
    })
    .await;
}

#[tokio::test]
async fn a_column_that_is_dropped_leaves_rows_that_can_be_deleted() {
    let (lake, wide, narrow) =
        (TestLake::new().await, Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    let mut writer = lake.writer(&wide, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    let text = |text: &str| Cell::Text(text.into());
    writer
        .write(&wide.batch(Origin::Stream, &[row(Op::Insert, 10, 1, &[Cell::Int(1), text("x"), text("y")])]))
        .await
        .unwrap();
    done(commit_stream(&mut writer, 11).await);
    writer.evolve(&narrow.schema()).await.unwrap();
    writer.write(&narrow.batch(Origin::Stream, &[row(Op::Delete, 20, 1, &[Cell::Int(1), text("x")])])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert!(bag(&lake).await.is_empty());
}

/// A table of three columns with two rows that differ in the last, and its writer opened again.
async fn alike_but_for_the_last(wide: &Door) -> (TestLake, TableWriter) {
    let lake = TestLake::new().await;
    let mut writer = lake.writer(wide, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    let rows = [inserted(10, 1, "first"), inserted(10, 2, "second")];
    writer.write(&wide.batch(Origin::Stream, &rows)).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    drop(writer);
    let writer = lake.writer(wide, Layer::Current).await;
    (lake, writer)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

fn inserted(lsn: u64, ordinal: u64, last: &str) -> Row {
    row(Op::Insert, lsn, ordinal, &[Cell::Int(1), text("x"), text(last)])
}

async fn deletes(writer: &mut TableWriter, door: &Door, lsn: u64, cells: &[Cell]) {
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, lsn, 1, cells)])).await.unwrap();
}

#[tokio::test]
async fn an_older_structure_that_is_sent_again_takes_no_other_row() {
    let (wide, narrow) = (Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    for (gone, left) in [("first", "second"), ("second", "first")] {
        let (lake, mut writer) = alike_but_for_the_last(&wide).await;
        writer.evolve(&narrow.schema()).await.unwrap();
        deletes(&mut writer, &narrow, 5, &[Cell::Int(1), text("x")]).await;
        writer.evolve(&wide.schema()).await.unwrap();
        deletes(&mut writer, &wide, 20, &[Cell::Int(1), text("x"), text(gone)]).await;
        done(commit_stream(&mut writer, 21).await);
        assert_eq!(bag(&lake).await.into_keys().collect::<Vec<_>>(), [["1", "x", left].map(str::to_owned).to_vec()]);
    }
}

#[tokio::test]
async fn a_column_that_is_dropped_while_rows_wait_is_left_out_after_their_commit() {
    let (wide, narrow) = (Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    let (lake, mut writer) = alike_but_for_the_last(&wide).await;
    writer.write(&wide.batch(Origin::Stream, &[inserted(20, 1, "third")])).await.unwrap();
    writer.evolve(&narrow.schema()).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    for lsn in [30, 40, 50] {
        deletes(&mut writer, &narrow, lsn, &[Cell::Int(1), text("x")]).await;
        done(commit_stream(&mut writer, lsn + 1).await);
    }
    assert!(bag(&lake).await.is_empty());
}

#[tokio::test]
async fn a_column_that_is_dropped_in_mid_transaction_leaves_rows_that_can_be_deleted() {
    let (wide, narrow) = (Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    let (lake, mut writer) = alike_but_for_the_last(&wide).await;
    writer.write(&wide.batch(Origin::Stream, &[inserted(12, 1, "third"), inserted(12, 2, "fourth")])).await.unwrap();
    done(commit_stream(&mut writer, 13).await);
    let rows = [row(Op::Delete, 20, 1, &[Cell::Int(1), text("x"), text("first")]), inserted(20, 2, "fifth")];
    writer.write(&wide.batch(Origin::Stream, &rows)).await.unwrap();
    writer.evolve(&narrow.schema()).await.unwrap();
    // One takes the row that waits, the others those of the table that the first delete has left.
    for ordinal in 3..=5 {
        let narrowed = row(Op::Delete, 20, ordinal, &[Cell::Int(1), text("x")]);
        writer.write(&narrow.batch(Origin::Stream, &[narrowed])).await.unwrap();
    }
    done(commit_stream(&mut writer, 21).await);
    let left = bag(&lake).await;
    assert_eq!(left.values().sum::<i64>(), 1, "{left:?}");
    deletes(&mut writer, &narrow, 30, &[Cell::Int(1), text("x")]).await;
    done(commit_stream(&mut writer, 31).await);
    assert!(bag(&lake).await.is_empty());
}

#[tokio::test]
async fn columns_that_go_and_types_that_grow_in_one_transaction_lose_no_delete() {
    let doors = [
        vec![("a", DataType::Int32), ("b", DataType::Utf8), ("c", DataType::Utf8), ("d", DataType::Utf8)],
        vec![("a", DataType::Int32), ("b", DataType::Utf8), ("c", DataType::Utf8)],
        vec![("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Utf8)],
        vec![("a", DataType::Int64), ("b", DataType::Utf8)],
    ];
    let doors = doors.map(|columns| Door::new(&columns, Identity::WholeRow));
    let lake = TestLake::new().await;
    let mut writer = lake.writer(&doors[0], Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    let whole = |number: u64| [Cell::Int(1), text("x"), text("y"), text(&number.to_string())];
    let rows: Vec<Row> = (1..=5).map(|number| row(Op::Insert, 10, number, &whole(number))).collect();
    writer.write(&doors[0].batch(Origin::Stream, &rows)).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    for (at, door) in doors.iter().enumerate() {
        writer.evolve(&door.schema()).await.unwrap();
        let gone = row(Op::Delete, 20, at as u64 + 1, &whole(1)[..door.width()]);
        writer.write(&door.batch(Origin::Stream, &[gone])).await.unwrap();
    }
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 1);
    drop(writer);
    std::fs::remove_dir_all(lake.index()).unwrap();
    let mut writer = lake.writer(&doors[3], Layer::Current).await;
    deletes(&mut writer, &doors[3], 30, &[Cell::Int(1), text("x")]).await;
    done(commit_stream(&mut writer, 31).await);
    assert!(lake.read(Layer::Current).await.is_empty());
}

#[tokio::test]
async fn a_truncate_before_a_column_goes_leaves_what_came_after_it() {
    let (wide, narrow) = (Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    let (lake, mut writer) = alike_but_for_the_last(&wide).await;
    deletes(&mut writer, &wide, 20, &[Cell::Int(1), text("x"), text("first")]).await;
    writer.truncate(&position(20, 2), 20, 2, 0).await.unwrap();
    writer.write(&wide.batch(Origin::Stream, &[inserted(20, 3, "third"), inserted(20, 4, "fourth")])).await.unwrap();
    writer.evolve(&narrow.schema()).await.unwrap();
    writer.write(&narrow.batch(Origin::Stream, &[row(Op::Delete, 20, 5, &[Cell::Int(1), text("x")])])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(bag(&lake).await.values().sum::<i64>(), 1);
    deletes(&mut writer, &narrow, 30, &[Cell::Int(1), text("x")]).await;
    done(commit_stream(&mut writer, 31).await);
    assert!(bag(&lake).await.is_empty());
}

#[tokio::test]
async fn a_column_that_was_dropped_before_the_stream_sent_it_is_known_after_another_start() {
    let (wide, narrow) = (Door::new(&COLUMNS, Identity::WholeRow), Door::new(&COLUMNS[..2], Identity::WholeRow));
    let (lake, mut writer) = alike_but_for_the_last(&wide).await;
    writer.evolve(&narrow.schema()).await.unwrap();
    deletes(&mut writer, &narrow, 20, &[Cell::Int(1), text("x")]).await;
    let refused = commit_stream(&mut writer, 21).await;
    assert!(matches!(refused, Outcome::Retryable(_)), "{refused:?}");
    drop(writer);
    let mut writer = lake.writer(&narrow, Layer::Current).await;
    deletes(&mut writer, &narrow, 20, &[Cell::Int(1), text("x")]).await;
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(bag(&lake).await.values().sum::<i64>(), 1);
}

#[tokio::test]
async fn a_column_that_comes_with_a_type_that_grows_identifies_rows_at_once() {
    let lake = TestLake::new().await;
    let narrow = Door::new(&[("a", DataType::Int32), ("b", DataType::Utf8)], Identity::WholeRow);
    lake.writer(&narrow, Layer::Current).await.close().unwrap();
    let wide = Door::new(&COLUMNS, Identity::WholeRow);
    let mut writer = lake.writer(&wide, Layer::Current).await;
    let cells = |c: &str| [Cell::Int(1), Cell::Text("x".into()), Cell::Text(c.into())];
    let copied = ["y", "z"].map(|c| row(Op::Copy, 10, 0, &cells(c)));
    writer.write(&wide.batch(Origin::Copy { chunk: 0 }, &copied)).await.unwrap();
    // Waits over the end of the copy, until which nothing about the identity is changed.
    writer.write(&wide.batch(Origin::Stream, &[row(Op::Delete, 20, 1, &cells("y"))])).await.unwrap();
    let low = position(10, 0);
    done(commit_copy(&mut writer, progress(low.clone(), 1, &[0], None)).await);
    done(commit_copy(&mut writer, progress(low, 1, &[0], Some(position(15, 0)))).await);
    done(commit_stream(&mut writer, 20).await);
    let rows: Vec<String> = lake.read(Layer::Current).await.iter().map(|row| row["c"].clone()).collect();
    assert_eq!(rows, ["z"]);
}
