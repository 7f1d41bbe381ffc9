//! How many files the system lets this process have open, and how many a run needs.

use change::{Error, Kind, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A table's key index: its lock, its blocks, its list of files, and the lock of its scratch folder.
const FILES_PER_TABLE: u64 = 4;
/// Connections, logs, and the data files that are read and written at a time.
const FILES_BESIDE: u64 = 100;

/// Raises the soft limit on open files to the hard one: systems set the soft one low for the sake of programs that use `select`.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit on open files stays as it was");
    }
}

/// Whether a run over so many tables can have its files open.
///
/// # Errors
/// `Config` with the limit that is needed.
pub(crate) fn check_open_files(tables: usize) -> Result<()> {
    fits(tables as u64, getrlimit(Resource::Nofile).current)
}

fn fits(tables: u64, limit: Option<u64>) -> Result<()> {
    let needed = tables * FILES_PER_TABLE + FILES_BESIDE;
    match limit {
        Some(limit) if limit < needed => {
            let what = format!("{tables} tables need about {needed} open files, and the system allows {limit}");
            Err(Error::new(Kind::Config, what).fix(format!(
                "Raise the hard limit: `LimitNOFILE={needed}` in the service's unit, `ulimit -Hn {needed}` as root in a shell; or split the tables over several projects."
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_the_one_that_is_needed() {
        assert!(fits(1000, Some(4100)).is_ok() && fits(1_000_000, None).is_ok());
        let error = fits(1000, Some(4099)).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("LimitNOFILE=4100"), "{error}");
    }
}
