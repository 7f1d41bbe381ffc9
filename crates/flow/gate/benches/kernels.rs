//! Values per second and core of each transform, through the same door as in a run: a table of one column is cleared.
#![allow(clippy::expect_used)]

mod one_column;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int64Array};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use one_column::{ROWS, batch, gate, meta, number, schema, texts};

fn numbers() -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| (number(row) % 1_000_000_000) as i64)))
}

fn ages() -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| (number(row) % 100) as i64)))
}

fn dates() -> ArrayRef {
    Arc::new(Date32Array::from_iter_values((0..ROWS).map(|row| (number(row) % 20_000) as i32)))
}

fn amounts() -> ArrayRef {
    let values = Decimal128Array::from_iter_values((0..ROWS).map(|row| i128::from(number(row) % 10_000_000)));
    Arc::new(values.with_precision_and_scale(12, 2).expect("12 digits hold 10 million"))
}

fn kernels(criterion: &mut Criterion) {
    let zips = || texts(|number| format!("{:05}", number % 100_000));
    let member = || texts(|number| format!("M{:010}", number % 10_000_000_000));
    let states = || texts(|number| ["CA", "NY", "tx", "WY"][number as usize % 4].into());
    let ssns = || texts(|number| format!("{:03}-{:02}-{:04}", 1 + number % 600, 1 + number % 99, 1 + number % 9999));
    let codes =
        || texts(|number| format!("{}{:02}.{}", ["E", "I", "J", "Z"][number as usize % 4], number % 90, number % 10));
    let documents = || {
        texts(|number| {
            format!(
                r#"{{"patient": {{"id": {number}, "name": "Ann"}}, "lines": [{{"code": "E11.9", "paid": 12.50}}], "note": "x"}}"#
            )
        })
    };
    let shift = "{ transform: date_shift(person 365), subject: value }";
    let paths = "\n      transform: json_paths\n      paths:\n        patient.id: hmac_token(member)\n        lines[].code: hierarchy(icd10,category)\n        lines[].paid: keep";
    let columns: [(&str, &str, ArrayRef); 27] = [
        ("keep int8", "keep", numbers()),
        ("keep text", "keep", member()),
        ("redact", "redact(NAME)", member()),
        ("mask_chars", "mask_chars(4)", member()),
        ("hmac_token int8", "hmac_token(member)", numbers()),
        ("hmac_token text", "hmac_token(member)", member()),
        ("hmac_token alphanumeric", "{ transform: hmac_token(member), canonical: alphanumeric }", member()),
        ("hmac_token nfkc", "{ transform: hmac_token(member), canonical: nfkc }", member()),
        ("siv_token text", "siv_token(member)", member()),
        ("fpe_ff1 digits int8", "fpe_ff1(account,digits,9)", numbers()),
        ("fpe_ff1 ssn", "fpe_ff1(ssn,ssn)", ssns()),
        ("fpe_ff1 alphanumeric", "fpe_ff1(member,alphanumeric,11)", member()),
        ("dict_surrogate", "dict_surrogate(last_name,person)", member()),
        ("date_shift", shift, dates()),
        ("hierarchy", "hierarchy(icd10,category)", codes()),
        ("round numeric", "round(10)", amounts()),
        ("top_code numeric", "top_code(50000)", amounts()),
        ("json_paths", paths, documents()),
        ("date_year", "date_year", dates()),
        ("date_trunc month", "date_trunc(month)", dates()),
        ("dob_generalise", "dob_generalise", dates()),
        ("dob_generalise text", "dob_generalise", texts(|number| format!("{}-01-02", 1940 + number % 80))),
        ("age_cap", "age_cap", ages()),
        ("zip3", "zip3", zips()),
        ("geo_state", "geo_state", states()),
        ("bucket numeric", "bucket(0,100,1000,10000)", amounts()),
        ("null_out", "null_out", numbers()),
    ];
    let meta = meta();
    let mut group = criterion.benchmark_group("gate");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, transform, column) in columns {
        let schema = schema(column.data_type());
        let gate = gate(&schema, transform, None);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || batch(&schema, &column, &meta),
                |batch| black_box(gate.clear(batch).expect("every value can be read")),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
