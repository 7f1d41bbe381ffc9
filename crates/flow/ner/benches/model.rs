//! Bytes per second and core of a model over notes of several lengths. `LOCKGATE_NER_MODEL` names its folder; without it, the small one of
//! the tests, whose speed says something of the rest of the work only.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gate::EntityFinder;
use ner::{Files, Finder};

const NOTE: &str = "Zebulon Quillip was seen by Dr. Ardwin at Mercygate Halls in Oxbow, and with no pain in the morning; the plan is rest. ";

fn model(criterion: &mut Criterion) {
    let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/model");
    let folder = std::env::var_os("LOCKGATE_NER_MODEL").map_or(usual, PathBuf::from);
    let files = Files::read(|name| Ok(std::fs::read(folder.join(name)).ok())).unwrap();
    let finder = Finder::load(&files).unwrap();
    let mut group = criterion.benchmark_group("model");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for notes in [1, 8, 16] {
        let text = NOTE.repeat(notes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{} bytes", text.len()), |bencher| bencher.iter(|| finder.find(&text).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, model);
criterion_main!(benches);
