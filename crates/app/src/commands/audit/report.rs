//! `lockgate audit report`: a span of time of the audit log in words, signed, and the proof of such a file.

use std::fs::OpenOptions;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use ::audit::{Digest, Report, Review, SigningKey, utc};
use change::{Clock, Error, Kind, Result, Timestamp};
use chrono::{DateTime, NaiveDate, NaiveTime};

use super::evidence::{Gathered, open_left};
use super::told;
use crate::audit::existing_key;
use crate::cli;
use crate::clock::SystemClock;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

const WEEK_MICROS: i64 = 7 * 86_400_000_000;

/// The span that was asked for: a week up to now when nothing was said.
///
/// # Errors
/// `Config` for what is no time, and for a span that ends before it begins.
pub(super) fn span(since: Option<&str>, until: Option<&str>) -> Result<(Timestamp, Timestamp)> {
    let until = until.map(moment).transpose()?.unwrap_or_else(|| SystemClock::new().now());
    let since = since.map(moment).transpose()?.unwrap_or_else(|| until.saturating_sub(WEEK_MICROS));
    match since < until {
        true => Ok((since, until)),
        false => Err(Error::new(Kind::Config, format!("{} is not before {}", utc(since), utc(until)))
            .fix("Give an earlier --since, or a later --until.")),
    }
}

fn moment(text: &str) -> Result<Timestamp> {
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()).or_else(day);
    time.map(|time| time.timestamp_micros()).ok_or_else(|| {
        Error::new(Kind::Config, format!("{text} is no time")).fix("Write 2026-11-15, or 2026-11-15T12:00:00Z.")
    })
}

#[allow(clippy::print_stdout)]
pub(super) async fn run(
    dir: &Path,
    given: &cli::AuditEvidence,
    span: (Timestamp, Timestamp),
    out: Option<&Path>,
) -> Result<Outcome> {
    let mut gathered = Gathered::of(dir, given).await?;
    if out.is_some() && gathered.key.signing.is_none() {
        let key = match Project::read(dir) {
            Ok(project) => existing_key(&project)?,
            Err(problems) => return refused(&problems),
        };
        if key.public() != gathered.key.public {
            return Err(Error::new(Kind::Config, "the project's key is not the one that the log is proven with")
                .fix("Give the file of the signing key: --key PATH."));
        }
        gathered.key.signing = Some(key);
    }
    let now = SystemClock::new().now();
    let proven = gathered.prove()?;
    let text = text(&gathered, &proven, span, now)?;
    print!("{text}");
    if let (Some(path), Some(key)) = (out, &gathered.key.signing) {
        write(path, &text, &proven, now, key)?;
    }
    Ok(if proven.is_proven() { Outcome::Done } else { Outcome::ToFix })
}

fn text(
    gathered: &Gathered,
    proven: &Report,
    (since, until): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<String> {
    let mut digest = Digest::new(since, until);
    // What came before first.
    let reports = std::iter::once(proven).chain(&proven.before);
    for (path, report) in gathered.logs.iter().zip(reports).collect::<Vec<_>>().into_iter().rev() {
        if let Some(file) = open_left(path)? {
            digest.add(BufReader::new(file), report.entries)?;
        }
    }
    let head = format!("Audit report, {} to {}, made {}", utc(since), utc(until), utc(now));
    let proof = told(proven, gathered).join("\n");
    Ok(format!("{head}\n\n{proof}\n\n{} entries in this time\n{digest}", digest.entries))
}

fn write(path: &Path, text: &str, proven: &Report, now: Timestamp, key: &SigningKey) -> Result<()> {
    let line = Review::sign(text.as_bytes(), proven, now, key)? + "\n";
    for (path, content) in [(path.to_owned(), text), (signature_of(path), &line)] {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        file.and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all())).map_err(
            |error| {
                Error::new(Kind::Config, format!("the report {} cannot be written", path.display()))
                    .source(error)
                    .fix("Name a file that is not there yet: --out FILE.")
            },
        )?;
    }
    Ok(())
}

fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Proves a written report: that the key signed it, and that it is about one of these logs.
///
/// # Errors
/// `Config` when it or its signature cannot be read.
#[allow(clippy::print_stdout)]
pub(super) fn verify(path: &Path, gathered: &Gathered) -> Result<bool> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            Error::new(Kind::Config, format!("{} cannot be read", path.display()))
                .source(error)
                .fix("A report lies beside its signature, FILE and FILE.sig.")
        })
    };
    let (text, line) = (read(path)?, read(&signature_of(path))?);
    let name = path.display();
    let line = String::from_utf8_lossy(&line);
    let Some(review) = gathered.publics().find_map(|key| Review::read(&text, &line, key)) else {
        println!("FOUND: report {name}: the key did not sign it, or another text");
        return Ok(false);
    };
    for log in &gathered.logs {
        let Some(file) = open_left(log)? else { continue };
        if review.is_of(BufReader::new(file))? {
            let (at, entries, log) = (utc(review.at), review.entries, review.log.short());
            println!("report {name}: signed {at}, over the first {entries} entries of log {log}");
            return Ok(true);
        }
    }
    println!("FOUND: report {name}: no log here begins with the entries that it was made from");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_a_week_when_nothing_is_said() {
        let (since, until) = span(Some("2026-11-15"), Some("2026-11-22T06:30:00+01:00")).unwrap();
        assert_eq!((utc(since).as_str(), utc(until).as_str()), ("2026-11-15T00:00:00Z", "2026-11-22T05:30:00Z"));
        let (since, until) = span(None, Some("2026-11-22")).unwrap();
        assert_eq!((utc(since).as_str(), utc(until).as_str()), ("2026-11-15T00:00:00Z", "2026-11-22T00:00:00Z"));
        for wrong in ["yesterday", "2026-13-01", "2026-11-15 12:00"] {
            assert!(span(Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(span(Some("2026-11-22"), Some("2026-11-22")).is_err());
    }
}
