//! Bytes per second and core of `scrub_text`, over notes with little and with much to find, with and without known values.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gate::{KnownValues, Scratch, Scrubber, Tier};

/// 2026-11-21.
const TODAY: i32 = 20_778;

const HEAD: &str = "Patient: Ildiko Szabo  MRN: 25637781  DOB: 03/14/1984\nSSN 078-05-1120. Address: 738 Greenholt Rapid, Olathe, KS 66018\n\
                    Phone (212) 555-0100. Seen on March 3, 2024 by Dr. Ratke at Phillips County Hospital.\n";

const BODY: &str = "Patient has a history of chronic kidney disease stage 3, hypertension and type 2 diabetes, and reports worsening shortness \
                    of breath with exertion. Denies chest pain, palpitations or syncope. BP 132/84, HR 78, SpO2 97% on room air, weight 81 kg. \
                    Lungs clear to auscultation bilaterally, no wheezes. Continue lisinopril 10 mg PO daily and metformin 500 mg twice daily. \
                    HbA1c 7.2 %, creatinine 1.4 mg/dL. ICD-10 E11.9, CPT 99213. Follow up in 3 months or sooner if symptoms recur.\n";

fn free_text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("free text");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut known = KnownValues::default();
    for (column, value) in
        [("first_name", "Ildiko"), ("last_name", "Szabo"), ("birth_date", "1984-03-14"), ("mrn", "25637781")]
    {
        known.add(column, value);
    }
    let none = KnownValues::default();
    let cases = [
        ("body, nothing to find", BODY.repeat(4), &none),
        ("head and body", format!("{HEAD}{}", BODY.repeat(3)), &none),
        ("head only", HEAD.repeat(4), &none),
        ("head and body, four known values", format!("{HEAD}{}", BODY.repeat(3)), &known),
    ];
    for tier in [Tier::Detect, Tier::Allowlist] {
        let scrubber = Scrubber::new(tier, TODAY);
        for (name, text, known) in &cases {
            group.throughput(Throughput::Bytes(text.len() as u64));
            let mut scratch = Scratch::default();
            group.bench_function(format!("{tier:?}, {name}"), |bencher| {
                bencher.iter(|| black_box(scrubber.scrub(black_box(text), known, &mut scratch)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, free_text);
criterion_main!(benches);
