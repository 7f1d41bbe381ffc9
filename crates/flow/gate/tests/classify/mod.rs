//! How many columns of public layouts with personal data a proposal finds, with their names and without. `cargo nextest run --workspace
//! --exclude xtask --no-capture -E 'package(gate) and test(classify)'` prints the table of `docs/privacy/measured.md`.

mod layouts;

use gate::{Candidate, Class, Shape, Transform, propose};

use self::layouts::Column;
use crate::free_text::shared::folder;

/// A column of a layout and what it holds, by hand.
struct Label {
    set: String,
    table: String,
    column: String,
    /// Where X12 has it.
    place: String,
    class: String,
}

fn labels() -> Vec<Label> {
    let lines = include_str!("labels.csv").lines().filter(|line| !line.starts_with('#')).skip(1);
    let label = |line: &str| {
        let cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        let [set, table, column, class] = cells.try_into().unwrap();
        let (column, place) = column.split_once('=').unwrap_or((&column, ""));
        Label { set, table, column: column.to_owned(), place: place.to_owned(), class }
    };
    lines.map(label).collect()
}

/// Runs of digits as `#`.
fn numberless(name: &str) -> String {
    let mut short = String::new();
    for character in name.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
        if character != '#' || !short.ends_with('#') {
            short.push(character);
        }
    }
    short
}

fn class_of<'a>(labels: &'a [Label], column: &Column) -> &'a str {
    let name = numberless(&column.name);
    let is_its = |label: &&Label| {
        label.set == column.set
            && (label.table == "*" || label.table == column.table)
            && (label.column == name || label.column == column.name)
    };
    let found = labels.iter().find(is_its);
    &found.unwrap_or_else(|| panic!("no label for {} {} {name}", column.set, column.table)).class
}

#[derive(Default)]
struct Tally {
    personal: usize,
    found: usize,
    right: usize,
    kept: usize,
    harmless: usize,
    harmless_kept: usize,
    /// Of which the proposal says that they seem to be of a class.
    harmless_suspected: usize,
    missed: Vec<String>,
    passed: Vec<String>,
}

impl Tally {
    fn of<'a>(columns: impl Iterator<Item = &'a Column>, labels: &[Label], is_named: bool) -> Self {
        let mut tally = Self::default();
        for (at, column) in columns.enumerate() {
            let hidden = format!("c{at}");
            let candidate = Candidate {
                table: if is_named { &column.table } else { "t" },
                column: if is_named { &column.name } else { &hidden },
                source_type: column.source_type(),
                is_key: column.is_key,
                shape: Shape::of(&column.sample()),
            };
            let proposal = propose(&candidate);
            let is_kept = proposal.transform == Transform::Keep;
            let seen = proposal.class.and_then(|class| match class {
                Class::FreeText => Some("text".to_owned()),
                class => class.letter(candidate.column).map(String::from),
            });
            let label = class_of(labels, column);
            if label == "none" {
                tally.harmless += 1;
                tally.harmless_kept += usize::from(is_kept);
                tally.harmless_suspected += usize::from(seen.is_some());
                continue;
            }
            let is_found = seen.is_some() && !is_kept;
            let place = format!("{}.{} ({label})", column.table, column.name);
            tally.personal += 1;
            tally.found += usize::from(is_found);
            tally.right += usize::from(is_found && seen.as_deref() == Some(label));
            tally.kept += usize::from(is_kept);
            if is_kept {
                tally.passed.push(place);
            } else if !is_found {
                tally.missed.push(place);
            }
        }
        tally
    }

    fn found_percent(&self) -> f64 {
        100.0 * self.found as f64 / self.personal.max(1) as f64
    }
}

#[test]
fn columns_with_personal_data_are_found_and_never_kept() {
    if !folder().exists() {
        println!("skipped: the shared data is not there");
        return;
    }
    let labels = labels();
    let places = labels.iter().filter(|label| !label.place.is_empty());
    let places: Vec<_> = places.map(|label| (label.table.clone(), label.column.clone(), label.place.clone())).collect();
    // The least shares that are found, in percent: with names, and without.
    let looked_at = [
        (layouts::separated("cms_idr", &["load1", "load2"], ',', false), [99.5, 99.5]),
        (layouts::separated("cms_members", &["."], ',', false), [100.0, 100.0]),
        (layouts::separated("cms_rif", &["static", "synthea"], '|', true), [100.0, 98.7]),
        (layouts::separated("de_synpuf", &["."], ',', true), [100.0, 100.0]),
        (layouts::separated("synthea_csv", &["."], ',', false), [100.0, 98.7]),
        (layouts::resources("synthea_fhir"), [100.0, 100.0]),
        (layouts::transactions("x12", &places), [100.0, 100.0]),
    ];
    // No rule was written or mended with these in sight, and what is missed in them is not printed, so that none will be.
    let held_out = [
        (layouts::resources("cms_rda"), [85.7, 90.4]),
        (layouts::separated("er_febrl", &["."], ',', true), [90.0, 60.0]),
        (layouts::separated("er_splink", &["."], ',', true), [100.0, 88.8]),
        (layouts::separated("fraud_transactions", &["."], ',', true), [100.0, 100.0]),
    ];
    let sets = looked_at.iter().map(|set| (set, true)).chain(held_out.iter().map(|set| (set, false)));
    println!("| set | names | personal | found | % | class right | kept | harmless | of them kept | suspected |");
    let mut fails = Vec::new();
    for ((columns, floors), is_told) in sets {
        for (is_named, floor) in [(true, floors[0]), (false, floors[1])] {
            // Without a name an empty column says nothing, and holds nothing.
            let speak = columns.iter().filter(|column| is_named || !column.is_empty());
            let tally = Tally::of(speak, &labels, is_named);
            let (set, names) = (columns[0].set, if is_named { "shown" } else { "hidden" });
            let Tally { personal, found, right, kept, harmless, harmless_kept, harmless_suspected, .. } = tally;
            let percent = tally.found_percent();
            println!(
                "| {set} | {names} | {personal} | {found} | {percent:.1} | {right} | {kept} | {harmless} | {harmless_kept} | {harmless_suspected} |"
            );
            tally.missed.iter().filter(|_| is_told).for_each(|place| println!("  not found: {place}"));
            if kept > 0 {
                fails.push(format!("{set}, names {names}: proposed to keep {}", tally.passed.join(", ")));
            }
            if percent < floor {
                fails.push(format!("{set}, names {names}: {percent:.1} % found, expected {floor}"));
            }
        }
    }
    assert!(fails.is_empty(), "{}", fails.join("\n"));
}
