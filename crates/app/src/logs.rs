//! Structured logs on standard error.

use std::io::IsTerminal;

use change::{Error, Kind, Result};
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat};

/// Libraries that say the same as our own errors, or repeat what a server said (which may quote a row). Naming one in --log turns it on.
const QUIET: [&str; 2] = ["buoyant_kernel", "pgwire_replication"];

/// Starts logging as the command line asks for.
pub(crate) fn start(global: &Global) -> Result<()> {
    let quiet: Vec<String> =
        QUIET.iter().filter(|target| !global.log.contains(**target)).map(|target| format!(",{target}=off")).collect();
    let filter = EnvFilter::try_new(format!("{}{}", global.log, quiet.concat())).map_err(|error| {
        Error::new(Kind::Config, "--log is not a filter")
            .source(error)
            .fix("Write a level (info) or targets (capture=debug,info).")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match global.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
