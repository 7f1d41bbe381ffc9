//! Running other programs, and where things lie.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the workspace: that of this run, because checkouts may share a target folder and with it the compiled program.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where `scripts/setup.sh` puts what is not an apt package.
pub(crate) fn tools() -> PathBuf {
    env::var_os("LOCKGATE_TOOLS").map_or_else(|| root().join(".tools"), PathBuf::from)
}

/// The Python that has the foreign readers and emulators, if set-up has made it.
pub(crate) fn python() -> Option<PathBuf> {
    Some(tools().join("venv/bin/python")).filter(|python| python.is_file())
}

/// A `cargo` command in the workspace, which tells the tests where the extra servers lie.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // `cargo run` tells this program which package it is; build scripts that look at that would be run again, and with them everything
    // that hangs on them, whenever somebody goes from `cargo x` to plain `cargo` and back.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(of_this_package) {
            command.env_remove(name);
        }
    }
    command.env("LOCKGATE_TOOLS", tools());
    // Resolved, because set-up may have moved the servers to where other accounts can reach them and left a link.
    if let (None, Ok(servers)) = (env::var_os("LOCKGATE_POSTGRES"), tools().join("postgres").canonicalize()) {
        command.env("LOCKGATE_POSTGRES", servers);
    }
    command
}

/// Whether `cargo <name>` exists.
pub(crate) fn has_cargo(name: &str) -> bool {
    let mut command = cargo(&[name, "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a step with its output shown, under a heading; fails when the step does.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    timed(name, command, Command::status)
}

/// As [`step`]; `each` sees the lines of standard output as well.
pub(crate) fn step_read(name: &str, command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    timed(name, command, |command| {
        let mut running = command.stdout(Stdio::piped()).spawn()?;
        for line in running.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(io::stdout(), "{line}")?;
            each(&line);
        }
        running.wait()
    })
}

fn timed(name: &str, command: &mut Command, run: impl FnOnce(&mut Command) -> io::Result<ExitStatus>) -> Result<()> {
    // How long a step of the build took is of interest to the person who waits: the wall clock is right here.
    #[allow(clippy::disallowed_methods)]
    let started = Instant::now();
    heading(name);
    let status = run(command).with_context(|| format!("{name}: {:?} cannot be run", command.get_program()))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    heading(&format!("{name}: ok, {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// A line that stands out from a tool's own output.
#[allow(clippy::print_stderr)]
pub(crate) fn heading(text: &str) {
    eprintln!("== {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_step_are_seen_and_its_failure_too() {
        let mut lines = Vec::new();
        let mut shell = |script: &str| {
            step_read("a step", Command::new("sh").args(["-c", script]), |line| lines.push(line.to_owned()))
        };
        assert!(shell("echo skipped: one; printf two").is_ok());
        assert!(shell("echo three; exit 1").is_err());
        assert_eq!(lines, ["skipped: one", "two", "three"]);
    }
}
