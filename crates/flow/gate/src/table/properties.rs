//! What holds for any batch, over seeded random tables: every column type, nulls with bytes behind them, sliced parents, unsent cells.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int64Type};
use change::{ChangeBatch, Column, Identity, Op, Origin, RowMetaBuilder, TableName, TableSchema, Unsent};

use crate::policy::tests::compile;
use crate::{Cleared, Policy, TableGate};

/// SplitMix64, so that a failure is repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Rows that lie before the slice in the parent's buffers.
const HIDDEN_ROWS: usize = 3;

/// A raw table, and the bytes of everything in it that must not come out.
struct Planted {
    schema: Arc<TableSchema>,
    columns: Vec<ArrayRef>,
    rules: Vec<String>,
    canaries: Vec<Vec<u8>>,
}

const MASKED_TEXT: [&str; 27] = [
    "scrub_text(allowlist)",
    "scrub_text(detect)",
    "scrub_text(drop)",
    "siv_token(sealed)",
    "fpe_ff1(account,digits,9)",
    "dict_surrogate(last_name,person)",
    "{ transform: dict_surrogate(city person), subject: id }",
    "{ transform: date_shift(person 90), subject: id }",
    "hierarchy(icd10,category)",
    "{ transform: json_paths, paths: { a.b: keep } }",
    "hmac_token(member)",
    "vault_code(person)",
    "hmac_token(raw,binary)",
    "vault_code(bare,binary)",
    "vault_code(number,int64)",
    "age_cap(text)",
    "drop",
    "null_out",
    "redact(TEXT)",
    "mask_chars(2)",
    "zip3",
    "geo_state",
    "date_year",
    "date_trunc(week)",
    "dob_generalise",
    "age_cap",
    "bucket(0,10)",
];
const MASKED_NUMBER: [&str; 14] = [
    "hmac_token(member)",
    "siv_token(sealed)",
    "vault_code(person)",
    "hmac_token(raw,binary)",
    "vault_code(bare,binary)",
    "vault_code(number,int64)",
    "age_cap(text)",
    "drop",
    "null_out",
    "redact(N)",
    "bucket(0,10)",
    "age_cap",
    "top_code(0)",
    "round(1000000)",
];
const MASKED_DATE: [&str; 8] = [
    "hmac_token(member)",
    "vault_code(person)",
    "drop",
    "null_out",
    "redact(D)",
    "date_year",
    "dob_generalise",
    "date_trunc(month)",
];
const MASKED_FLOAT: [&str; 5] = ["drop", "null_out", "redact(F)", "bucket(0,1)", "top_code(0)"];
const MASKED_BINARY: [&str; 8] = [
    "hmac_token(member)",
    "hmac_token(raw,binary)",
    "siv_token(sealed)",
    "vault_code(person)",
    "vault_code(bare,binary)",
    "drop",
    "null_out",
    "redact(B)",
];

impl Planted {
    fn new(random: &mut Random) -> Self {
        let rows = 1 + random.below(60);
        let schema = TableSchema {
            table: TableName::new("db", "public", "planted"),
            columns: Vec::new(),
            identity: Identity::Key(vec![0]),
        };
        let mut planted =
            Self { schema: Arc::new(schema), columns: Vec::new(), rules: Vec::new(), canaries: Vec::new() };
        let id = Int64Array::from_iter_values((0..rows).map(|row| 0x5ca1_ab1e_0000_0000 + row as i64));
        planted.canaries.extend(id.values().iter().map(|id| id.to_le_bytes().to_vec()));
        planted.add("id", Arc::new(id), "hmac_token(member)");
        for index in 0..7 {
            planted.plant(index, rows, random);
        }
        planted
    }

    fn plant(&mut self, index: usize, rows: usize, random: &mut Random) {
        let all = rows + HIDDEN_ROWS;
        let numbers: Vec<i64> = (0..all).map(|_| (random.next() >> 2) as i64).collect();
        // Neither the first of a month nor a Monday: a date that a transform gives back is not a canary.
        let days: Vec<i32> = (0..all).map(|_| 14_612 + 7 * random.below(4) as i32).collect();
        let valid = NullBuffer::from((0..all).map(|_| random.below(4) > 0).collect::<Vec<_>>());
        let pick = random.next() as usize;
        let of = |choices: &[&'static str]| choices[pick % choices.len()];
        let micros: Vec<i64> = numbers.iter().map(|number| number % 1_000_000_000_000_000).collect();
        let (array, rule, canaries): (ArrayRef, &str, Vec<Vec<u8>>) = match index {
            0 => (texts(&numbers, "CANARY", valid), of(&MASKED_TEXT), vec![b"CANARY".to_vec()]),
            1 => (
                Arc::new(Int64Array::new(numbers.clone().into(), Some(valid))),
                of(&MASKED_NUMBER),
                bytes(&numbers, i64::to_le_bytes),
            ),
            2 => (
                Arc::new(Date32Array::new(days.clone().into(), Some(valid))),
                of(&MASKED_DATE),
                bytes(&days, i32::to_le_bytes),
            ),
            3 => (
                Arc::new(TimestampMicrosecondArray::new(micros.clone().into(), Some(valid))),
                of(&MASKED_DATE),
                bytes(&micros, i64::to_le_bytes),
            ),
            4 => {
                let wide: Vec<i128> = numbers.iter().map(|number| i128::from(*number)).collect();
                let array =
                    Decimal128Array::new(wide.clone().into(), Some(valid)).with_precision_and_scale(20, 2).unwrap();
                (Arc::new(array), of(&MASKED_NUMBER), bytes(&wide, i128::to_le_bytes))
            }
            5 => {
                let floats: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
                (
                    Arc::new(Float64Array::new(floats.clone().into(), Some(valid))),
                    of(&MASKED_FLOAT),
                    bytes(&floats, f64::to_le_bytes),
                )
            }
            _ => {
                let values: Vec<Vec<u8>> = bytes(&numbers, i64::to_be_bytes);
                let array = BinaryArray::from_iter_values(&values);
                let (offsets, values_buffer, _) = array.into_parts();
                (Arc::new(BinaryArray::new(offsets, values_buffer, Some(valid))), of(&MASKED_BINARY), values)
            }
        };
        self.canaries.extend(canaries);
        self.add(&format!("c{index}"), array.slice(HIDDEN_ROWS, rows), rule);
        // A kept column beside it: its values may pass, what lies behind its nulls and before its slice may not.
        let hides = NullBuffer::from((0..all).map(|row| row >= HIDDEN_ROWS && row % 3 > 0).collect::<Vec<_>>());
        let kept = texts_where(&numbers, &hides);
        self.add(&format!("k{index}"), kept.slice(HIDDEN_ROWS, rows), "keep");
    }

    fn add(&mut self, name: &str, array: ArrayRef, rule: &str) {
        Arc::make_mut(&mut self.schema).columns.push(Column {
            name: name.into(),
            data_type: array.data_type().clone(),
            nullable: true,
            source_type: array.data_type().to_string(),
            number: None,
        });
        self.columns.push(array);
        self.rules.push(format!("    {name}: {rule}\n"));
    }

    fn gate(&self) -> TableGate {
        let rules = self.rules.concat();
        let text = format!("profile: none\nkeys: k\nmax_invalid_percent: 100\ntables:\n  db.public.planted:\n{rules}");
        let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
        let gate =
            compile(&policy, std::slice::from_ref(&self.schema)).unwrap_or_else(|problems| panic!("{problems:?}"));
        gate.table(&self.schema).unwrap()
    }

    fn batch(&self, from: usize, rows: usize) -> ChangeBatch {
        let mut meta = RowMetaBuilder::default();
        for row in from..from + rows {
            meta.push(Op::Update, &(row as u32).to_be_bytes(), row as i64, 1, row as u64 + 1);
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| column.slice(from, rows)).collect();
        let unsent = columns.iter().enumerate().map(|(index, column)| {
            (index > 0).then(|| BooleanBuffer::collect_bool(rows, |row| column.is_null(row) && (row + index) % 2 == 0))
        });
        let unsent = Unsent(unsent.collect());
        ChangeBatch::try_new(self.schema.clone(), Origin::Stream, columns, meta.finish(), unsent).unwrap()
    }

    fn rows(&self) -> usize {
        self.columns[0].len()
    }
}

fn texts(numbers: &[i64], canary: &str, valid: NullBuffer) -> ArrayRef {
    let array = StringArray::from_iter_values(numbers.iter().map(|number| format!("{canary}{number:016x}")));
    let (offsets, values, _) = array.into_parts();
    Arc::new(StringArray::new(offsets, values, Some(valid)))
}

/// Harmless text where `valid`, canaries behind the nulls.
fn texts_where(numbers: &[i64], valid: &NullBuffer) -> ArrayRef {
    let text = |row: usize| if valid.is_valid(row) { format!("code{row}") } else { format!("CANARY{}", numbers[row]) };
    let texts: Vec<String> = (0..numbers.len()).map(text).collect();
    let offsets = OffsetBuffer::from_lengths(texts.iter().map(String::len));
    Arc::new(StringArray::new(offsets, Buffer::from_vec(texts.concat().into_bytes()), Some(valid.clone())))
}

fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<Vec<u8>> {
    values.iter().map(|value| of(*value).to_vec()).collect()
}

/// Every buffer that a batch's columns refer to: where its memory lies, and what can be read of it.
fn buffers(columns: &[ArrayRef]) -> Vec<Buffer> {
    let mut found = Vec::new();
    for column in columns {
        let data = column.to_data();
        found.extend(data.buffers().iter().cloned());
        found.extend(data.nulls().map(|nulls| nulls.buffer().clone()));
    }
    found
}

fn memory(buffer: &Buffer) -> std::ops::Range<usize> {
    let start = buffer.data_ptr().as_ptr() as usize;
    start..start + buffer.capacity()
}

fn holds(buffer: &Buffer, canary: &[u8]) -> bool {
    buffer.windows(canary.len()).any(|window| window == canary)
}

fn same(left: &RecordBatch, right: &RecordBatch) -> bool {
    left.schema() == right.schema() && left.columns() == right.columns()
}

#[test]
fn no_planted_value_survives_and_no_raw_memory_is_shared() {
    for seed in 0..150 {
        let planted = Planted::new(&mut Random(seed));
        let Cleared { batch, .. } = planted.gate().clear(planted.batch(0, planted.rows())).unwrap();
        let planted_buffers = buffers(&planted.columns);
        let seen = |canary: &Vec<u8>| planted_buffers.iter().any(|buffer| holds(buffer, canary));
        // All keys, and something of the other columns: the rows before the slice cannot be reached through it.
        let found = planted.canaries.iter().filter(|canary| seen(canary)).count();
        assert!(found > planted.rows(), "seed {seed}: the search does not even find the raw values");
        let raw: Vec<_> = planted_buffers.iter().map(memory).collect();
        for buffer in buffers(batch.rows().columns()) {
            let own = memory(&buffer);
            assert!(raw.iter().all(|raw| own.end <= raw.start || raw.end <= own.start), "seed {seed}: shared memory");
            for canary in &planted.canaries {
                assert!(!holds(&buffer, canary), "seed {seed}: a canary of {} bytes came out", canary.len());
            }
        }
        assert!(!format!("{batch:?}").contains("CANARY"));
    }
}

#[test]
fn every_row_comes_out_in_its_place() {
    for seed in 0..50 {
        let planted = Planted::new(&mut Random(seed));
        let rows = planted.rows();
        let Cleared { batch, .. } = planted.gate().clear(planted.batch(0, rows)).unwrap();
        assert_eq!((batch.len(), batch.rows().num_rows()), (rows, rows));
        let meta = planted.batch(0, rows).into_parts().3;
        assert_eq!(batch.meta().positions, meta.positions);
        assert_eq!(batch.meta().ordinals, meta.ordinals);
        for (index, column) in batch.schema().columns.iter().enumerate() {
            let from = planted.schema.index_of(&column.name).unwrap();
            let before = &planted.columns[from];
            assert_eq!(batch.unsent().0[index], planted.batch(0, rows).unsent().0[from], "{}", column.name);
            let after = batch.rows().column(index);
            assert_eq!(after.data_type(), &column.data_type);
            assert!(
                (0..rows).all(|row| after.is_null(row) || before.is_valid(row)),
                "seed {seed}: a null became a value"
            );
        }
    }
}

#[test]
fn the_same_rows_come_out_the_same_in_any_batches_and_threads() {
    for seed in 0..40 {
        let planted = Planted::new(&mut Random(seed));
        let (rows, gate) = (planted.rows(), planted.gate());
        let whole = gate.clear(planted.batch(0, rows)).unwrap().batch;
        let cut = rows / 2;
        let parts = std::thread::scope(|scope| {
            let (gate, planted) = (&gate, &planted);
            let clear = move |from, rows| gate.clear(planted.batch(from, rows)).unwrap().batch;
            let late = scope.spawn(move || clear(cut, rows - cut));
            let early = scope.spawn(move || clear(0, cut));
            [early.join().unwrap(), late.join().unwrap()]
        });
        assert!(same(parts[0].rows(), &whole.rows().slice(0, cut)), "seed {seed}");
        assert!(same(parts[1].rows(), &whole.rows().slice(cut, rows - cut)), "seed {seed}");
    }
}

/// Texts of a few persons, some of them null, beside the names that are searched in them.
fn notes(random: &mut Random) -> Planted {
    const NAMES: [&str; 4] = ["Whitaker", "Oyelaran", "Ruiz", "Nakagawa"];
    let rows = 1 + random.below(20);
    let (mut names, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let here = NAMES[random.below(NAMES.len())];
        names.push((random.below(6) > 0).then_some(here));
        let named = NAMES[random.below(NAMES.len())].to_lowercase();
        notes.push((random.below(3) > 0).then(|| format!("{named} feels well")));
    }
    let schema = TableSchema {
        table: TableName::new("db", "public", "planted"),
        columns: Vec::new(),
        identity: Identity::InsertOnly,
    };
    let mut planted =
        Planted { schema: Arc::new(schema), columns: Vec::new(), rules: Vec::new(), canaries: Vec::new() };
    planted.add("last_name", Arc::new(StringArray::from(names)), "drop");
    planted.add("note", Arc::new(StringArray::from(notes)), "scrub_text(detect,last_name)");
    planted
}

#[test]
fn a_row_is_scrubbed_alone_as_among_others() {
    for seed in 0..200 {
        let planted = notes(&mut Random(seed));
        let (rows, gate) = (planted.rows(), planted.gate());
        let whole = gate.clear(planted.batch(0, rows)).unwrap().batch;
        for row in 0..rows {
            let alone = gate.clear(planted.batch(row, 1)).unwrap().batch;
            assert!(same(alone.rows(), &whole.rows().slice(row, 1)), "seed {seed}, row {row}");
        }
    }
}

#[test]
fn tokens_are_equal_exactly_where_values_are() {
    let column = |name: &str, data_type| Column {
        name: name.into(),
        data_type,
        nullable: true,
        source_type: String::new(),
        number: None,
    };
    let rules = [
        "hmac_token(n)",
        "siv_token(n)",
        "vault_code(n)",
        "fpe_ff1(n,digits,6)",
        "hmac_token(n,binary)",
        "vault_code(n,binary)",
        "vault_code(n,int64)",
    ];
    for (seed, rule) in (0..42).zip(rules.iter().cycle()) {
        let mut random = Random(seed);
        let least = if rule.starts_with("fpe_ff1") { 100_000 } else { -20 };
        let values: Vec<i64> = (0..200).map(|_| random.below(40) as i64 + least).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(values.clone())),
            Arc::new(StringArray::from_iter_values(values.iter().map(i64::to_string))),
        ];
        let planted = Planted {
            schema: Arc::new(TableSchema {
                table: TableName::new("db", "public", "planted"),
                columns: vec![column("a", columns[0].data_type().clone()), column("b", columns[1].data_type().clone())],
                identity: Identity::InsertOnly,
            }),
            columns,
            rules: vec![format!("    a: {rule}\n    b: {rule}\n")],
            canaries: Vec::new(),
        };
        let batch = planted.gate().clear(planted.batch(0, values.len())).unwrap().batch;
        let tokens = [0, 1].map(|index| texts_of(batch.rows().column(index)));
        assert_eq!(tokens[0], tokens[1], "the same number in another type is another token");
        for left in 0..values.len() {
            for right in 0..left {
                assert_eq!(values[left] == values[right], tokens[0][left] == tokens[0][right], "{rule}");
            }
        }
    }
}

/// A column of text, of bytes or of integers, spelt out.
fn texts_of(column: &ArrayRef) -> Vec<String> {
    match column.data_type() {
        DataType::Int64 => {
            column.as_primitive::<Int64Type>().iter().map(|value| format!("{:06}", value.unwrap())).collect()
        }
        DataType::Binary => column.as_binary::<i32>().iter().map(|value| format!("{:?}", value.unwrap())).collect(),
        _ => column.as_string::<i32>().iter().map(|value| value.unwrap().to_owned()).collect(),
    }
}
