//! The policy of a simulated run, and what its tokens stand for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use change::Clock;
use gate::{EntityFinder, Gate, KeyRing, Label, NotSearched, Policy};
use zeroize::Zeroizing;

use crate::clock::SimClock;
use crate::delta::Reading;
use crate::script::{Cell, EXTRA_MAX, FIRST_COLUMNS, NAMES, Row, Script, Table, WIDE, column_name};

/// The rule of a column.
fn rule(table: &Table, column: &str, holds: bool) -> String {
    let on_invalid = if holds { "hold" } else { "null" };
    match column {
        "name" if table.holds => format!("{{ transform: age_cap, on_invalid: {on_invalid} }}"),
        "name" if table.asks => {
            "{ transform: scrub_text(detect+ner), reason: names of rows, reviewer: sim }".to_owned()
        }
        "id" | "name" if table.masks => format!("hmac_token({column})"),
        _ => "keep".to_owned(),
    }
}

/// The gate of a life; `holds` says what it does with rows whose values cannot be read.
pub(crate) fn gate(script: &Script, holds: bool, clock: Arc<SimClock>) -> Gate {
    let columns: Vec<String> = (0..FIRST_COLUMNS.len() + EXTRA_MAX).map(column_name).collect();
    let rules = |table: &Table| -> String {
        columns.iter().map(|column| format!("    {column}: {}\n", rule(table, column, holds))).collect()
    };
    let tables: String = script.tables.iter().map(|table| format!("  {}:\n{}", table.name, rules(table))).collect();
    let held = if script.holds { "max_invalid_percent: 100\nheld_days: 365\n" } else { "" };
    let keyed = script.holds || script.spools || script.masks;
    let keys = if keyed { "keys: k\n" } else { "" };
    let model = if script.asks() { format!("ner: {{ model: ./model, sha256: {MODEL} }}\n") } else { String::new() };
    let policy = Policy::parse(&format!("profile: none\n{keys}{held}{model}tables:\n{tables}"), "policy.yaml").unwrap();
    let keys = keyed.then(|| {
        let text = KeyRing::generate("test", Zeroizing::new(std::array::from_fn(|at| at as u8 * 7 + 1))).unwrap();
        KeyRing::parse(&text).unwrap()
    });
    let schemas: Vec<_> = script.tables.iter().map(|table| table.schema(script.widest())).collect();
    let gate = policy.compile(&schemas, keys, None, clock).map_err(|problems| format!("{problems:?}")).unwrap();
    if script.asks() { gate.with_entities(Arc::new(Model)).unwrap() } else { gate }
}

/// The SHA-256 that the policy names.
const MODEL: &str = "5151515151515151515151515151515151515151515151515151515151515151";

/// A model that finds nobody.
struct Model;

impl EntityFinder for Model {
    fn model(&self) -> &str {
        MODEL
    }

    fn find(&self, _: &str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        Ok(Vec::new())
    }
}

/// How the columns of a table's lake tables are read.
pub(crate) fn readings(script: &Script, table: usize) -> Vec<Reading> {
    let of = &script.tables[table];
    let mut readings: Vec<Reading> = (0..FIRST_COLUMNS.len() + EXTRA_MAX)
        .map(|column| Reading { name: script.column(table, column), tokens: None })
        .collect();
    if of.masks {
        readings[0].tokens = Some(Arc::new(tokens(script, table, 0, &ids())));
        if !of.holds {
            let names: Vec<Cell> = (0..NAMES).map(|number| Cell::Text(format!("n{number}"))).collect();
            readings[1].tokens = Some(Arc::new(tokens(script, table, 1, &names)));
        }
    }
    readings
}

/// Every number that a key can be.
fn ids() -> Vec<Cell> {
    (0..crate::script::IDS_MAX).flat_map(|id| [id, id + WIDE]).map(Cell::Int).collect()
}

/// What the gate makes of values, from there back to them. That a token is what it must be is a matter of the gate's own tests; here
/// it has to be the same each time, and of one value.
fn tokens(script: &Script, table: usize, column: usize, values: &[Cell]) -> HashMap<String, Cell> {
    let clock: Arc<SimClock> = Arc::default();
    clock.live(std::time::Duration::ZERO);
    let of = &script.tables[table];
    let gate = gate(script, false, clock.clone()).table(&of.schema(script.widest())).unwrap();
    let rows: Vec<Row> = values
        .iter()
        .map(|value| {
            let mut row = vec![Cell::Int(0), Cell::Text("n0".into()), Cell::Null];
            row[column] = value.clone();
            row
        })
        .collect();
    let batch = crate::batches::copied(of, script.widest(), 0, 1, clock.now(), 0, &rows);
    let cleared = gate.clear(batch).unwrap().batch;
    let found = cleared.rows().column_by_name(&column_name(column)).unwrap().as_string::<i32>().clone();
    let tokens: HashMap<String, Cell> =
        found.iter().map(|token| token.unwrap().to_owned()).zip(values.iter().cloned()).collect();
    assert_eq!(tokens.len(), values.len(), "two values have one token");
    tokens
}
