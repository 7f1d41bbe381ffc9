//! How a command ends: what is printed last, and the exit code.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use change::{Error, Problem, Result, Severity};

use crate::error_policy::exit_code;

/// A command that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// The user must fix something that was printed: exit code 1.
    ToFix,
    /// It was told to stop before its end; starting again goes on: exit code 4.
    Unfinished,
    /// Quality or privacy stopped at least one table: exit code 3.
    Held,
}

/// Prints the error, if any, and makes the exit code.
#[allow(clippy::print_stderr)]
pub(crate) fn finish(done: Result<Outcome>) -> ExitCode {
    match done {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::ToFix) => ExitCode::from(1),
        Ok(Outcome::Held) => ExitCode::from(3),
        Ok(Outcome::Unfinished) => ExitCode::from(4),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

/// A panic prints where it happened and never what with: its message could hold a row value.
#[allow(clippy::print_stderr)]
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        // `println!` panics when its reader has gone (`lockgate status | head`) or the disk behind it is full; neither is a defect.
        if let Some(why) = message.strip_prefix("failed printing to stdout: ") {
            if !why.starts_with("Broken pipe") {
                eprintln!("error: standard output cannot be written: {why}");
            }
            std::process::exit(i32::from(!why.starts_with("Broken pipe")));
        }
        if !crate::entities::is_asking() {
            eprintln!("{}", told(panic));
        }
    }));
}

fn told(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map(ToString::to_string).unwrap_or_else(|| "an unknown place".into());
    format!(
        "error: Lockgate has a defect at {place}; nothing that was confirmed is lost\n  fix: Start it again, and report this line."
    )
}

/// Raw rows and keys are in this process's memory: no image of it is written to a disk, whatever the system does with crashes.
///
/// A limit of one byte: no file is as small, and it is the one limit that Linux keeps where a crash is handed to a program
/// (`core_pattern` with a pipe; `do_coredump` in its fs/coredump.c).
pub(crate) fn no_core_dumps() -> Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) }).map_err(|error| {
        Error::new(change::Kind::Privacy, "core dumps, which would hold raw rows, cannot be switched off").source(error)
    })
}

/// Prints problems, worst last so that it stays on the screen, and says whether any is an error.
#[allow(clippy::print_stderr)]
pub(crate) fn print_problems(problems: &[Problem]) -> bool {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| problem.severity);
    for problem in &sorted {
        eprintln!("{problem}");
    }
    sorted.iter().any(|problem| problem.severity == Severity::Error)
}

/// Problems as one error, for a command that cannot go on.
pub(crate) fn refused(problems: &[Problem]) -> Result<Outcome> {
    print_problems(problems);
    Ok(Outcome::ToFix)
}

/// The end of a task that should not have ended.
pub(crate) fn lost_task(_: tokio::task::JoinError) -> Error {
    // The message of a panic could hold a row value: only its place is printed, by the panic hook.
    Error::new(change::Kind::Bug, "a task of the run broke down; what it printed says where")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_without_its_message() {
        let said = Arc::new(Mutex::new(String::new()));
        let hears = said.clone();
        std::panic::set_hook(Box::new(move |panic| *hears.lock().unwrap() = told(panic)));
        let name = String::from("Zebulonova");
        let panicked = std::panic::catch_unwind(|| panic!("the value {name} is odd"));
        drop(std::panic::take_hook());
        assert!(panicked.is_err());
        let said = said.lock().unwrap();
        assert!(said.contains("outcome.rs") && !said.contains("Zebulonova"), "{said}");
    }
}
