//! Extreme shapes: does the program carry them, and what do they cost?
//!
//! Each shape is run on a private server and ends with a comparison of every row by a reader that is not ours.

mod columns;
mod erasing;
mod growing;
mod judge;
mod peaks;
mod tables;
mod transaction;
mod value;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::machine;
use crate::options::Options;
use crate::report::say;
use crate::stage::Stage;

/// Runs shapes that are larger than usual, compares in full, and prints what they cost.
#[derive(Parser, Debug, Clone)]
#[command(name = "scale", max_term_width = 100)]
pub(crate) struct Sizes {
    /// The shapes to run; all of them when none is named
    #[arg(value_enum)]
    shapes: Vec<Shape>,
    /// The optimised program under test
    #[arg(long, default_value = "bin/lockgate", value_name = "PROGRAM")]
    lockgate: PathBuf,
    /// The Python that has `duckdb` with its Delta extension
    #[arg(long, default_value = ".tools/venv/bin/python", value_name = "PROGRAM")]
    python: PathBuf,
    /// Folder for lakes; removed again
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    scratch: PathBuf,
    /// a: rows of one transaction
    #[arg(long, default_value_t = 10_000_000, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// b: size of one value
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=480))]
    value_mib: u64,
    /// c: tables of one source; every twentieth changes
    #[arg(long, default_value_t = 1_000, value_name = "TABLES", value_parser = clap::value_parser!(u64).range(1..))]
    tables: u64,
    /// d: columns of one table; Postgres has no more than 1600
    #[arg(long, default_value_t = 1_600, value_name = "COLUMNS", value_parser = clap::value_parser!(u64).range(2..=1600))]
    columns: u64,
    /// e: a column is added in each of so many seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seconds: u64,
    /// f: rows of all tables together
    #[arg(long, default_value_t = 1_000_000, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(10_000..))]
    lake_rows: u64,
}

/// A shape, by the letter that `cargo x scale` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One transaction that inserts, and one that updates, many rows
    A,
    /// One large value as text and as bytea, copied and streamed
    B,
    /// Many tables in one source
    C,
    /// A table of as many columns as Postgres has
    D,
    /// A table that gets a column every second
    E,
    /// Persons who are erased from a lake of several tables
    F,
}

/// What a shape has shown: what was measured, and the figure.
type Figures = Vec<(String, String)>;

/// Runs the shapes that the command line names. Fails when one of them does, after the others.
#[allow(clippy::print_stdout)]
pub(crate) async fn run(sizes: &Sizes) -> Result<()> {
    let shapes = if sizes.shapes.is_empty() { Shape::value_variants() } else { &sizes.shapes };
    let load = machine::load();
    let stage = Stage::set(&Options::for_scale(&sizes.lockgate, &sizes.python, &sizes.scratch)).await?;
    let version = machine::version(&sizes.lockgate).await?;
    println!("{}; {version}; load average before: {load}", machine::describe());
    println!("Postgres {}, fsync off, on the same machine\n", stage.server().installed().version);
    let mut failed = Vec::new();
    for shape in shapes {
        let figures = match shape {
            Shape::A => transaction::run(&stage, sizes.rows).await,
            Shape::B => value::run(&stage, sizes.value_mib).await,
            Shape::C => tables::run(&stage, sizes.tables).await,
            Shape::D => columns::run(&stage, sizes.columns).await,
            Shape::E => growing::run(&stage, sizes.seconds).await,
            Shape::F => erasing::run(&stage, sizes.lake_rows).await,
        };
        match figures {
            Ok(figures) => figures.iter().for_each(|(what, figure)| println!("| {what} | {figure} |")),
            Err(error) => {
                say(&format!("{shape:?} failed: {error:#}"));
                failed.push(format!("{shape:?}"));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not carried: {}", failed.join(", ")) }
}
