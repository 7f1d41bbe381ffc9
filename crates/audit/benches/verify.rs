//! How fast a log is proven: entries a second on one core.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use audit::{
    AnchorSeen, Anchored, Event, Evidence, Files, Given, HEADS_FILE, Hex, LOG_FILE, Log, Moment, Name, Opener, Program,
    SigningKey, verify,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zeroize::Zeroizing;

const ENTRIES: u64 = 20_000;

fn moment(entry: u64) -> Moment {
    Moment { at: 1_700_000_000_000_000 + entry as i64 * 10_000, monotonic: Duration::from_millis(entry * 10) }
}

fn prove(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("lockgate-audit-bench-{}", std::process::id()));
    let key = || SigningKey::parse(&SigningKey::generate(&Zeroizing::new([1; 32]))).unwrap();
    let writer = Hex::new("aa").unwrap();
    let opener = Opener {
        writer,
        program: Program::Run,
        by: None,
        config: None,
        fips_module: None,
        anchor: AnchorSeen::None,
        former: None,
        because: None,
        in_force: None,
    };
    let mut log = Log::open(&folder, key(), moment(0), opener).unwrap();
    for entry in 1..ENTRIES {
        let policy = Hex::new("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
        let table = Name::new("claims_db.public.members");
        let event = Event::TableCommitted { table, from: Some(entry), version: Some(entry + 1), rows: 5000, policy };
        log.append(moment(entry), event).unwrap();
    }
    log.close(moment(ENTRIES)).unwrap();
    let (entries, heads) =
        (std::fs::read(folder.join(LOG_FILE)).unwrap(), std::fs::read(folder.join(HEADS_FILE)).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
    let mut group = criterion.benchmark_group("audit");
    group.throughput(Throughput::Elements(ENTRIES + 2));
    let key = key();
    for (name, macs) in [("verify", None), ("verify_macs", Some(key.macs()))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let evidence = Evidence {
                    log: Files { entries: entries.as_slice(), heads: heads.as_slice() },
                    before: Vec::new(),
                    anchored: &Anchored::default(),
                    key: Given { public: key.public(), macs },
                    former_keys: Vec::new(),
                    now: moment(ENTRIES).at,
                };
                let report = verify(black_box(evidence)).unwrap();
                assert!(report.findings.is_empty() && report.proven == ENTRIES + 2);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, prove);
criterion_main!(benches);
