//! The door of a run, for the benches: a table of one column, whose rows are cleared.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use change::{
    ChangeBatch, Column, Identity, Op, Origin, RowMeta, RowMetaBuilder, StoppedClock, TableName, TableSchema, Unsent,
};
use gate::{KeyRing, Policy, TableGate, Vault};

/// Rows of a batch.
pub(crate) const ROWS: usize = 65_536;

/// 2026-11-21T00:00:00Z, for ever.
const NOW: StoppedClock = StoppedClock(1_795_219_200_000_000);

/// Different values without an order, the same in every run.
pub(crate) fn number(row: usize) -> u64 {
    (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// A column of text, made of these numbers.
pub(crate) fn texts(of: impl Fn(u64) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| of(number(row)))))
}

/// The same keys in every run.
pub(crate) fn keys() -> KeyRing {
    let text = KeyRing::generate("bench", std::array::from_fn::<u8, 32, _>(|index| index as u8).into());
    KeyRing::parse(&text.expect("a right tenant")).expect("a right key file")
}

/// The table.
pub(crate) fn schema(data_type: &DataType) -> Arc<TableSchema> {
    let column = Column {
        name: "value".into(),
        data_type: data_type.clone(),
        nullable: true,
        source_type: String::new(),
        number: None,
    };
    let table = TableName::new("bench", "public", "values");
    Arc::new(TableSchema { table, columns: vec![column], identity: Identity::InsertOnly })
}

/// Its gate under one rule.
pub(crate) fn gate(schema: &Arc<TableSchema>, transform: &str, vault: Option<Arc<dyn Vault>>) -> TableGate {
    let text = format!("profile: none\nkeys: none\ntables:\n  bench.public.values:\n    value: {transform}\n");
    let policy = Policy::parse(&text, "policy.yaml").expect("a right policy");
    let gate = policy.compile(std::slice::from_ref(schema), Some(keys()), vault, Arc::new(NOW));
    gate.expect("a policy that fits").table(schema).expect("a table that fits")
}

/// What is known of the rows of a batch.
pub(crate) fn meta() -> RowMeta {
    let mut meta = RowMetaBuilder::default();
    for row in 0..ROWS {
        meta.push(Op::Insert, &(row as u64).to_be_bytes(), 0, 1, row as u64 + 1);
    }
    meta.finish()
}

/// A batch of the table.
pub(crate) fn batch(schema: &Arc<TableSchema>, column: &ArrayRef, meta: &RowMeta) -> ChangeBatch {
    ChangeBatch::try_new(schema.clone(), Origin::Stream, vec![column.clone()], meta.clone(), Unsent::none(1))
        .expect("a right batch")
}
