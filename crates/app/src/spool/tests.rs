use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use change::{
    ChangeBatch, Checkpoint, Column, Identity, Kind, Op, Origin, Position, RowMetaBuilder, TableName, TableSchema,
    Unsent,
};
use gate::{Gate, KeyRing, Policy, TableGate};
use zeroize::Zeroizing;

use super::writer::Writer;
use super::{Entry, Reader, SpoolFolder};
use crate::clock::SystemClock;

struct Spool {
    state_dir: PathBuf,
    gate: Gate,
    table: Arc<TableSchema>,
    cleared: TableGate,
}

impl Drop for Spool {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.state_dir));
    }
}

fn table() -> Arc<TableSchema> {
    let column = Column {
        name: "id".into(),
        data_type: DataType::Int64,
        nullable: false,
        source_type: "bigint".into(),
        number: None,
    };
    let table = TableName::new("db", "public", "t");
    Arc::new(TableSchema { table, columns: vec![column], identity: Identity::Key(vec![0]) })
}

fn gate(rule: &str) -> Gate {
    let text = format!("profile: none\nkeys: k\ntables:\n  db.public.t: {{ id: {rule} }}\n");
    let key = Zeroizing::new(std::array::from_fn(|at| at as u8));
    let keys = KeyRing::parse(&KeyRing::generate("test", key).unwrap()).unwrap();
    let policy = Policy::parse(&text, "policy.yaml").unwrap();
    policy.compile(&[table()], Some(keys), None, Arc::new(SystemClock::new())).map_err(|_| "policy").unwrap()
}

impl Spool {
    fn new(name: &str) -> Self {
        let state_dir = std::env::temp_dir().join(format!("lockgate-spool-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&state_dir));
        let (gate, table) = (gate("keep"), table());
        let cleared = gate.table(&table).unwrap();
        Self { state_dir, gate, table, cleared }
    }

    fn writer(&self, limit: u64) -> Writer {
        let folder = SpoolFolder::open(&self.state_dir, "db", &self.gate).unwrap();
        Writer::new(folder, self.gate.stamp().clone(), limit).unwrap()
    }

    /// A table's structure and transactions of one row each, from `first` on.
    fn fill(&self, writer: &mut Writer, first: u8, last: u8) {
        writer.append(Entry::Structure(self.table.clone())).unwrap();
        for number in first..=last {
            let mut meta = RowMetaBuilder::default();
            meta.push(Op::Insert, &[number, 1], 0, 1, 1);
            let ids: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(number)]));
            let origin = Origin::Stream;
            let batch =
                ChangeBatch::try_new(self.table.clone(), origin, vec![ids], meta.finish(), Unsent::none(1)).unwrap();
            writer.append(Entry::Rows(self.cleared.clear(batch).unwrap().batch)).unwrap();
            writer.sync(boundary(number)).unwrap();
        }
    }

    fn waiting(&self) -> change::Result<Option<Reader>> {
        Ok(SpoolFolder::waiting(&self.state_dir, "db", &self.gate)?.and_then(Reader::new))
    }

    /// The positions of the rows that come out, and the last boundary.
    fn read(&self) -> change::Result<(Vec<u8>, Option<u8>)> {
        let Some(mut reader) = self.waiting()? else { return Ok((Vec::new(), None)) };
        let (mut rows, mut known, mut last) = (Vec::new(), false, None);
        while let Some(entry) = reader.next(|_| known.then(|| self.cleared.schema().clone()))? {
            match entry {
                Entry::Structure(table) => known = table == self.table,
                Entry::Rows(batch) => rows.push(batch.meta().positions.value(0)[0]),
                Entry::Boundary(boundary) => last = Some(boundary.through.as_bytes()[0]),
                Entry::Unread(_, error) => return Err(error),
                Entry::Begin(..) | Entry::Truncated(..) => {}
            }
        }
        assert_eq!(last, Some(reader.through().through.as_bytes()[0]));
        Ok((rows, last))
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.state_dir.join("spool/db")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|of| of == "spool")).collect();
        files.sort();
        files
    }
}

fn boundary(number: u8) -> Checkpoint {
    let through = Position::from_bytes(&[number, 9]);
    Checkpoint { stream: "db".into(), through, identity: "i".into() }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn what_was_synchronised_comes_out_in_order_whatever_a_kill_left_behind_it() {
    let spool = Spool::new("cut");
    let mut writer = spool.writer(u64::MAX);
    let ends: Vec<usize> = (1..=3)
        .map(|number| {
            spool.fill(&mut writer, number, number);
            bytes(&spool.segments()[0]).len()
        })
        .collect();
    drop(writer);
    let path = spool.segments().remove(0);
    let whole = bytes(&path);
    for cut in (0..whole.len()).step_by(53).chain(ends.clone()) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let last = ends.iter().filter(|end| **end <= cut).count() as u8;
        let expected: Vec<u8> = (1..=last).collect();
        assert_eq!(spool.read().unwrap(), (expected.clone(), expected.last().copied()), "cut at {cut}");
        // It can be written on.
        let mut writer = spool.writer(u64::MAX);
        spool.fill(&mut writer, 7, 7);
        drop(writer);
        assert_eq!(spool.read().unwrap(), ([expected, vec![7]].concat(), Some(7)), "cut at {cut}, and gone on");
        spool.segments().iter().skip(usize::from(last > 0)).for_each(|more| std::fs::remove_file(more).unwrap());
    }
}

#[test]
fn a_byte_that_changed_is_noticed() {
    let spool = Spool::new("flip");
    let mut writer = spool.writer(u64::MAX);
    spool.fill(&mut writer, 1, 3);
    drop(writer);
    // A segment with another behind it was whole: nothing of it may be missing.
    let mut writer = spool.writer(u64::MAX);
    spool.fill(&mut writer, 4, 4);
    drop(writer);
    let segments = spool.segments();
    for (path, more) in [(&segments[0], true), (&segments[1], false)] {
        let whole = bytes(path);
        for at in (0..whole.len()).step_by(37) {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            std::fs::write(path, changed).unwrap();
            match spool.read() {
                Ok(read) => assert!(!more && read == (vec![1, 2, 3], Some(3)), "byte {at}: {read:?}"),
                Err(error) => assert!(matches!(error.kind(), Kind::Privacy | Kind::Config), "byte {at}: {error}"),
            }
            std::fs::write(path, &whole).unwrap();
        }
    }
    let whole = bytes(&segments[0]);
    for end in (0..whole.len()).step_by(41) {
        std::fs::write(&segments[0], &whole[..end]).unwrap();
        assert!(spool.read().is_err(), "cut at {end}");
    }
}

#[test]
fn segments_that_are_durable_go_and_the_rest_stands_alone() {
    let spool = Spool::new("segments");
    let mut writer = spool.writer(64 << 10);
    spool.fill(&mut writer, 1, 12);
    drop(writer);
    let all = spool.segments().len();
    assert!(all > 2, "{all} segments");
    let mut reader = spool.waiting().unwrap().unwrap();
    while reader.next(|_| Some(spool.cleared.schema().clone())).unwrap().is_some() {}
    reader.forget(&boundary(8).through).unwrap();
    drop(reader);
    assert!(spool.segments().len() < all);
    let (rows, last) = spool.read().unwrap();
    assert!(rows[0] <= 9 && rows.ends_with(&[9, 10, 11, 12]) && last == Some(12), "{rows:?}");
    spool.waiting().unwrap().unwrap().finish().unwrap();
    assert!(spool.waiting().unwrap().is_none());
}

#[test]
fn one_that_is_about_to_be_filled_turns_others_away() {
    let spool = Spool::new("empty");
    assert!(spool.waiting().unwrap().is_none());
    let writer = spool.writer(u64::MAX);
    let Err(error) = spool.waiting() else { panic!("taken for drained") };
    assert_eq!(error.kind(), Kind::Unavailable);
    drop(writer);
    assert!(spool.waiting().unwrap().is_none());
}

#[test]
fn it_opens_once_at_a_time_under_its_own_policy_and_keeps_to_its_limit() {
    let spool = Spool::new("limits");
    let mut writer = spool.writer(8 << 10);
    spool.fill(&mut writer, 1, 1);
    let Err(error) = SpoolFolder::open(&spool.state_dir, "db", &spool.gate) else { panic!("opened twice") };
    assert_eq!(error.kind(), Kind::Unavailable);
    let full = (0..100).find_map(|_| writer.append(Entry::Structure(spool.table.clone())).err()).unwrap();
    assert_eq!(full.kind(), Kind::Full);
    drop(writer);
    assert!(bytes(&spool.segments()[0]).len() <= 8 << 10);
    let Err(error) = SpoolFolder::waiting(&spool.state_dir, "db", &gate("hmac_token(t)")) else {
        panic!("opened under another policy")
    };
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.how_to_fix().unwrap().contains("run --once"));
    assert_eq!(spool.read().unwrap(), (vec![1], Some(1)));
    assert_eq!(super::must_be_empty(&spool.state_dir, "it").unwrap_err().kind(), Kind::Config);
}
