//! `lockgate query`: the lake in SQL.

use std::io::BufWriter;
use std::path::Path;

use change::{Error, Kind, Result};
use chrono::DateTime;
use lake::TableVersion;
use serve::{Format, Session, write_answer};

use crate::assemble;
use crate::cli::{Query, QueryFormat};
use crate::outcome::{Outcome, refused};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(dir: &Path, options: &Query) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let at = options.at.as_deref().map(parse_at).transpose()?;
    let session = Session::open(assemble::lake(&project).await?, at, policy.k_gated()).await?;
    let answer = session.query(&options.sql).await?;
    let format = match options.format {
        QueryFormat::Table => Format::Table,
        QueryFormat::Csv => Format::Csv,
        QueryFormat::Json => Format::Json,
        QueryFormat::Parquet => Format::Parquet,
    };
    let out = Output::default();
    out.ended(write_answer(answer, format, BufWriter::new(out.clone())).await)
}

/// A version number, or a time in RFC 3339.
fn parse_at(text: &str) -> Result<TableVersion> {
    if let Ok(version) = text.parse::<u64>() {
        return Ok(TableVersion::Version(version));
    }
    DateTime::parse_from_rfc3339(text).map(|time| TableVersion::Time(time.timestamp_micros())).map_err(|_| {
        Error::new(Kind::Config, "--at is neither a version nor a time")
            .fix("Write a version number (17) or a time with its zone (2026-01-31T12:00:00Z).")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_times_are_told_apart() {
        assert!(matches!(parse_at("17"), Ok(TableVersion::Version(17))));
        assert!(matches!(parse_at("1970-01-01T00:00:01Z"), Ok(TableVersion::Time(1_000_000))));
        for wrong in ["yesterday", "", "2026-01-31", "-1"] {
            assert!(parse_at(wrong).unwrap_err().how_to_fix().is_some());
        }
    }
}
