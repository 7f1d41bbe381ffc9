//! `cargo x`: the one door for chores. CI, the Makefile and people all come in here.

mod chores;
mod command;
mod fuzz;
mod skips;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo x <chore> [arguments]

  check     formatting, clippy, the house rules (xtask/tests/house), and cargo-deny where it is installed
  fmt       formats everything
  test      check, then every test, the doc tests of the gate and the foreign readers: what CI runs
              --no-check   leaves out the first part
              other arguments go to the test runner: `cargo x test -p gate`
  demo      the demo on a private Postgres; arguments go to `lockgate demo`
  sim       seeded runs of the loop over a faulty world: `cargo x sim --seed 7` repeats one and prints its trace,
              `cargo x sim --seeds 100000 --first 0` runs many and prints figures
  soak      kill -9 and restart on a live workload, compared in full at the end: `cargo x soak --cycles 500 --minutes 40`
  ner       the tests that run a model, with the features that the other builds leave out
  fips      the tests of TLS, signatures and wrapped keys with AWS-LC's FIPS module; needs Go, CMake and Perl, and says so
  leaks     the search for planted values with the people of many seeds: `cargo x leaks --seeds 100`
  fuzz      feeds decoders with bytes that grow out of fuzz/corpus: `cargo x fuzz pgoutput --minutes 15`; all of them without a name
  build     the optimised binary, at bin/lockgate; arguments go to cargo: `cargo x build --features ner`
  bench     every figure, as one table: `cargo x bench` or `cargo x bench copy backlog --rows 500000`
              --help   lists figures and options
  scale     extreme shapes, each compared in full: `cargo x scale a|b|c|d|e|f`, all of them without a letter
              --help   lists shapes and sizes
  readers   what the foreign readers see in Delta tables: `cargo x readers lake/claims_db/public/members`
  servers   runs an emulator until Ctrl-C: `cargo x servers s3|azure|gcs PORT`
  up        raises the dependencies within their ranges, then looks at licences and advisories
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Without the backtrace that a variable may ask for: what failed has just said why, and that would push it off the screen.
        Err(error) => {
            command::heading(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((chore, rest)) = arguments.split_first() else { return chores::say(HELP) };
    match chore.as_str() {
        "check" => chores::check(),
        "fmt" => chores::fmt(),
        "test" => chores::test(rest),
        "demo" => chores::demo(rest),
        "sim" => chores::sim(rest),
        "soak" => chores::soak(rest),
        "ner" => chores::ner(),
        "fips" => chores::fips(),
        "leaks" => chores::leaks(rest),
        "fuzz" => fuzz::run(rest),
        "build" => chores::build(rest),
        "bench" => chores::bench(rest),
        "scale" => chores::scale(rest),
        "readers" => chores::readers(rest),
        "servers" => chores::servers(rest),
        "up" => chores::up(),
        "help" | "--help" | "-h" => chores::say(HELP),
        other => bail!("no chore is called `{other}`; `cargo x help` lists them"),
    }
}
