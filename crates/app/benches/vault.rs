//! Codes per second and core of `vault_code`, from the vault's file, through the same door as in a run: a table of one column is cleared.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::VaultFile;
use arrow::array::{ArrayRef, StringArray};
use change::{
    ChangeBatch, Clock, Column, Identity, Op, Origin, RowMeta, RowMetaBuilder, TableName, TableSchema, Timestamp,
    Unsent,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gate::{KeyRing, Policy, TableGate};

const ROWS: usize = 65_536;

/// 2026-11-21T00:00:00Z, for ever.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        1_795_219_200_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Different values without an order, the same in every run.
fn values() -> ArrayRef {
    let number = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("M{:010}", number(row) % 10_000_000_000))))
}

fn keys() -> KeyRing {
    let text = KeyRing::generate("bench", std::array::from_fn::<u8, 32, _>(|index| index as u8).into());
    KeyRing::parse(&text.expect("a right tenant")).expect("a right key file")
}

/// A folder for a vault, with nothing in it.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lockgate-bench-vault-{name}-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old folder can go");
    }
    folder
}

/// The gate of a table of one column, whose codes lie in the folder.
fn gate(schema: &Arc<TableSchema>, transform: &str, folder: &Path) -> TableGate {
    let text = format!("profile: none\nkeys: none\ntables:\n  bench.public.values:\n    value: {transform}\n");
    let policy = Policy::parse(&text, "policy.yaml").expect("a right policy");
    let vault = Arc::new(VaultFile::open(folder, Some(keys())).expect("a vault"));
    let gate = policy.compile(std::slice::from_ref(schema), Some(keys()), Some(vault), Arc::new(StoppedClock));
    gate.expect("a policy that fits").table(schema).expect("a table that fits")
}

fn meta() -> RowMeta {
    let mut meta = RowMetaBuilder::default();
    for row in 0..ROWS {
        meta.push(Op::Insert, &(row as u64).to_be_bytes(), 0, 1, row as u64 + 1);
    }
    meta.finish()
}

fn vault(criterion: &mut Criterion) {
    let column = values();
    let schema = Arc::new(TableSchema {
        table: TableName::new("bench", "public", "values"),
        columns: vec![Column {
            name: "value".into(),
            data_type: column.data_type().clone(),
            nullable: true,
            source_type: String::new(),
            number: None,
        }],
        identity: Identity::InsertOnly,
    });
    let meta = meta();
    let batch = || {
        ChangeBatch::try_new(schema.clone(), Origin::Stream, vec![column.clone()], meta.clone(), Unsent::none(1))
            .expect("a right batch")
    };
    let clear = |gate: &TableGate, batch| black_box(gate.clear(batch).expect("every value can be read"));
    let mut group = criterion.benchmark_group("gate");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (name, transform) in [
        ("vault_code known", "vault_code(member)"),
        ("vault_code binary known", "vault_code(member,binary)"),
        ("vault_code int64 known", "vault_code(member,int64)"),
    ] {
        let folder = folder("known");
        let gate = gate(&schema, transform, &folder);
        clear(&gate, batch());
        group.bench_function(name, |bencher| {
            bencher.iter_batched(batch, |batch| clear(&gate, batch), BatchSize::LargeInput);
        });
        std::fs::remove_dir_all(&folder).expect("the folder can go");
    }
    group.measurement_time(Duration::from_secs(5)).sample_size(10);
    let known = folder("file");
    clear(&gate(&schema, "vault_code(member)", &known), batch());
    group.bench_function("vault_code known to the file", |bencher| {
        let fresh = || (gate(&schema, "vault_code(member)", &known), batch());
        bencher.iter_batched(fresh, |(gate, batch)| clear(&gate, batch), BatchSize::PerIteration);
    });
    std::fs::remove_dir_all(&known).expect("the folder can go");
    for (name, transform) in
        [("vault_code new", "vault_code(member)"), ("vault_code int64 new", "vault_code(member,int64)")]
    {
        let folder = std::cell::RefCell::new(PathBuf::new());
        group.bench_function(name, |bencher| {
            let empty = || {
                *folder.borrow_mut() = self::folder("new");
                (gate(&schema, transform, &folder.borrow()), batch())
            };
            bencher.iter_batched(empty, |(gate, batch)| clear(&gate, batch), BatchSize::PerIteration);
        });
        std::fs::remove_dir_all(folder.into_inner()).expect("the folder can go");
    }
    group.finish();
}

criterion_group!(benches, vault);
criterion_main!(benches);
