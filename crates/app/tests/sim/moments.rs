//! What comes at one exact moment of a run: the end of a claim, another process.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use app::{Batching, Ended, Known, Means, Watch};
use arrow::array::Int64Array;
use arrow::datatypes::DataType;
use change::{
    ChangeBatch, Checkpoint, ChunkSet, Clock, Column, CopyProgress, Event, Identity, Kind, Op, Origin, Position,
    Result, RowMetaBuilder, Source, SourceStatus, StatusReader, TableName, TableSchema, Timestamp, Unsent,
};
use gate::Policy;
use lake::{Lake, LakeTable, Layer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::START;

const DAY: i64 = 86_400_000_000;

/// Stands on a day until it is set.
struct Calendar {
    now: AtomicI64,
    began: Instant,
}

impl Clock for Calendar {
    fn now(&self) -> Timestamp {
        self.now.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A source of which the first boundary is confirmed before `later` comes, on `day`.
struct TwoDays {
    events: VecDeque<Event>,
    later: VecDeque<Event>,
    day: i64,
    clock: Arc<Calendar>,
}

impl Source for TwoDays {
    async fn next(&mut self) -> Result<Event> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => std::future::pending().await,
        }
    }

    async fn confirm(&mut self, _: &Checkpoint) -> Result<()> {
        self.clock.now.store(START + self.day * DAY, Ordering::Relaxed);
        self.events.append(&mut self.later);
        Ok(())
    }

    fn status(&self) -> StatusReader {
        Arc::new(SourceStatus::default)
    }
}

fn table() -> Arc<TableSchema> {
    let id = Column {
        name: "id".into(),
        data_type: DataType::Int64,
        nullable: false,
        source_type: "bigint".into(),
        number: None,
    };
    Arc::new(TableSchema {
        table: TableName::new("db", "public", "t"),
        columns: vec![id],
        identity: Identity::Key(vec![0]),
    })
}

fn row(id: u8, op: Op, origin: Origin) -> Event {
    let mut meta = RowMetaBuilder::default();
    meta.push(op, &[id], START, 1, 1);
    let columns = vec![Arc::new(Int64Array::from(vec![i64::from(id)])) as _];
    Event::Changes(ChangeBatch::try_new(table(), origin, columns, meta.finish(), Unsent::none(1)).unwrap())
}

fn boundary(at: u8) -> Event {
    let through = Position::from_bytes(&[at]);
    Event::Boundary(Checkpoint { stream: "db".into(), through, identity: "i".into() })
}

/// A table with one row, another that is streamed, and one more after the first two are confirmed.
fn source(day: i64, clock: &Arc<Calendar>) -> TwoDays {
    let name = table().table.clone();
    let low = Position::from_bytes(&[1]);
    let begun =
        CopyProgress { low: low.clone(), plan: "p".into(), chunks: 1, done: ChunkSet::default(), finished: None };
    let mut read = begun.clone();
    read.done.insert(0);
    let events = [
        Event::SchemaChanged { schema: table() },
        Event::CopyStarted { table: name.clone(), progress: begun },
        row(1, Op::Copy, Origin::Copy { chunk: 0 }),
        Event::ChunkDone { table: name.clone(), chunk: 0, progress: read.clone() },
        Event::CopyDone { table: name, progress: CopyProgress { finished: Some(low), ..read } },
        row(2, Op::Insert, Origin::Stream),
        boundary(2),
    ];
    let later = [row(3, Op::Insert, Origin::Stream), boundary(3)];
    TwoDays { events: events.into(), later: later.into(), day, clock: clock.clone() }
}

/// A lake that nobody has written yet, and the clock of who writes it.
fn world() -> (Arc<Lake>, Arc<Calendar>) {
    let clock = Arc::new(Calendar { now: AtomicI64::new(START), began: Instant::now() });
    (Arc::new(Lake::in_store(Arc::new(object_store::memory::InMemory::new())).unwrap()), clock)
}

fn index(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lockgate-moments-{name}-{}", std::process::id()))
}

/// What a process works with.
fn means(lake: &Arc<Lake>, clock: &Arc<Calendar>, index_dir: &Path) -> Means {
    let text =
        "profile: expert\nexpert: { name: a, method: b, expires: 2100-01-10 }\ntables:\n  db.public.t: { id: keep }\n";
    let policy = Policy::parse(text, "policy.yaml").unwrap();
    let gate = policy.compile(&[table()], None, None, clock.clone()).map_err(|problems| format!("{problems:?}"));
    Means {
        lake: lake.clone(),
        gate: Arc::new(gate.unwrap()),
        clock: clock.clone(),
        watch: Arc::<Watch>::default(),
        index_dir: index_dir.to_owned(),
        folder_id: "a folder".into(),
        boot: None,
        batching: Batching { max_age: Duration::ZERO, max_rows: 1 },
        known: Known::default(),
        witness: None,
    }
}

/// A run over a source that was opened, until all of it is durable.
async fn run(means: &Means, source: TwoDays) -> Result<Ended> {
    means.pipeline(source, Some(Position::from_bytes(&[3])), CancellationToken::new()).run().await
}

async fn rows(lake: &Lake) -> u64 {
    let layer = LakeTable::new(table().table.clone(), Layer::Changes).unwrap();
    lake.status(&layer.name, layer.layer).await.unwrap().rows
}

#[tokio::test]
async fn nothing_is_committed_under_a_determination_that_expired_while_the_run_went_on() {
    for (day, expected) in [(9, 3), (10, 2)] {
        let ((lake, clock), index) = (world(), index(&format!("day-{day}")));
        let ended = run(&means(&lake, &clock, &index), source(day, &clock)).await;
        match (day, ended) {
            (9, ended) => assert_eq!(ended.unwrap(), Ended::Done, "it holds through its last day"),
            (_, ended) => {
                let error = ended.unwrap_err();
                assert!(error.kind() == Kind::Privacy && error.what().contains("expired on 2100-01-10"), "{error}");
            }
        }
        assert_eq!(rows(&lake).await, expected);
        std::fs::remove_dir_all(index).unwrap();
    }
}

#[tokio::test]
async fn a_table_that_another_process_made_while_a_run_started_is_read_anew() {
    let ((lake, clock), indexes) = (world(), [index("ours"), index("theirs")]);
    let [ours, theirs] = indexes.each_ref().map(|index| means(&lake, &clock, index));
    let open = ours.open("db", None, |_| async {
        // The records have been read.
        assert_eq!(run(&theirs, source(1, &clock)).await.unwrap(), Ended::Done);
        Ok(source(1, &clock))
    });
    let error = run(&ours, open.await.unwrap()).await.unwrap_err();
    assert!(error.kind() == Kind::Unavailable && error.what().contains("another process made it"), "{error}");

    let source = ours.open("db", None, |_| async { Ok(source(1, &clock)) }).await.unwrap();
    assert_eq!(run(&ours, source).await.unwrap(), Ended::Done);
    assert_eq!(rows(&lake).await, 3);
    indexes.iter().for_each(|index| std::fs::remove_dir_all(index).unwrap());
}
