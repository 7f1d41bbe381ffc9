//! Runs of the fuzz targets under libFuzzer, with the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, heading, root, step};

/// What makes the compiler count the ways through the code, as `cargo fuzz` asks for it. No address sanitizer: the code has no `unsafe`,
/// and the stable compiler has none.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// `cargo x fuzz [TARGET...] [--minutes N]`. What a run finds worth keeping lies in its `found` folder, what breaks a target in `broken`,
/// both in cargo's target folder; the corpus in git is only read.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut minutes, mut names) = (1.0, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => minutes = rest.next().and_then(|number| number.parse().ok()).context("--minutes N")?,
            name if name.starts_with('-') => bail!("`cargo x fuzz [TARGET...] [--minutes N]`"),
            name => names.push(name.to_owned()),
        }
    }
    let known = targets()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", known.join(", "));
    }
    let names = if names.is_empty() { known } else { names };
    let built = build(&names)?;
    for name in names {
        feed(&built, &name, minutes)?;
    }
    Ok(())
}

/// The targets: each has a corpus.
fn targets() -> Result<Vec<String>> {
    let folders = fs::read_dir(root().join("fuzz/corpus"))?;
    let mut names = folders
        .map(|folder| Ok(folder?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Builds the targets and gives the folder of the programs. The platform is named so that build scripts and macros are not instrumented.
fn build(names: &[String]) -> Result<PathBuf> {
    let said = cargo(&["--version", "--verbose"]).output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("cargo does not name its host")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz");
    let mut command = cargo(&["build", "--release", "--locked", "--features", "libfuzzer", "--target", host]);
    command.current_dir(root().join("fuzz")).arg("--target-dir").arg(&target);
    for name in names {
        command.args(["--bin", name]);
    }
    step("instrumented build", command.env("RUSTFLAGS", INSTRUMENTED))?;
    Ok(target.join(host).join("release"))
}

fn feed(built: &Path, name: &str, minutes: f64) -> Result<()> {
    let (found, broken) = (built.join("found").join(name), built.join("broken").join(name));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&broken)?;
    let mut command = Command::new(built.join(name));
    command.arg(&found).arg(root().join("fuzz/corpus").join(name));
    command
        .arg(format!("-max_total_time={:.0}", minutes * 60.0))
        .arg(format!("-artifact_prefix={}/", broken.display()));
    // An input of some kilobytes that takes ten seconds or half a gigabyte is a defect.
    command.args([
        "-timeout=10",
        "-malloc_limit_mb=512",
        "-rss_limit_mb=2048",
        "-max_len=20000",
        "-print_final_stats=1",
    ]);
    heading(&format!("found inputs: {}; broken: {}", found.display(), broken.display()));
    step(&format!("fuzz {name}"), &mut command)
}
