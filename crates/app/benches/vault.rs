//! Codes per second and core of `vault_code`, from the vault's file, through the same door as in a run: a table of one column is cleared.
#![allow(clippy::expect_used)]

#[path = "../../flow/gate/benches/one_column/mod.rs"]
mod one_column;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::VaultFile;
use change::{ChangeBatch, TableSchema};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gate::TableGate;
use one_column::{ROWS, keys, meta, schema, texts};

/// A folder for a vault, with nothing in it.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lockgate-bench-vault-{name}-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old folder can go");
    }
    folder
}

/// The gate of a table whose codes lie in the folder.
fn gate(schema: &Arc<TableSchema>, transform: &str, folder: &Path) -> TableGate {
    let vault = Arc::new(VaultFile::open(folder, Some(keys())).expect("a vault"));
    one_column::gate(schema, transform, Some(vault))
}

fn vault(criterion: &mut Criterion) {
    let column = texts(|number| format!("M{:010}", number % 10_000_000_000));
    let (schema, meta) = (schema(column.data_type()), meta());
    let batch = || one_column::batch(&schema, &column, &meta);
    let clear = |gate: &TableGate, batch: ChangeBatch| black_box(gate.clear(batch).expect("every value can be read"));
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
