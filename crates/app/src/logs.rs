//! Structured logs on standard error.

use std::io::IsTerminal;

use change::{Error, Kind, Result};
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Global, LogFormat};

/// The only targets that are ever logged. Libraries print what they are given: statements with their parameters, requests with their
/// headers; whatever `--log` says, none of that comes out. What matters of theirs is in our own errors.
const OURS: [&str; 8] = ["app", "lockgate", "capture", "change", "gate", "lake", "sandbox", "serve"];

fn is_ours(target: &str) -> bool {
    OURS.contains(&target.split("::").next().unwrap_or_default())
}

/// Starts logging as the command line asks for.
pub(crate) fn start(global: &Global) -> Result<()> {
    let filter = EnvFilter::try_new(&global.log).map_err(|error| {
        Error::new(Kind::Config, "--log is not a filter")
            .source(error)
            .fix("Write a level (info) or targets (capture=debug,info).")
    })?;
    let filter = filter.and(FilterFn::new(|metadata| is_ours(metadata.target())));
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let layer = match global.log_format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_never_logged() {
        assert!(is_ours(module_path!()) && is_ours("lockgate") && is_ours("capture"));
        for library in ["tokio_postgres::query", "log", "pgwire_replication", "h2::codec", "lake_of_another"] {
            assert!(!is_ours(library));
        }
    }
}
