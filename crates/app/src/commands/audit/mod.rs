//! `lockgate audit`: the proof of the audit log, what is in it, and its renewal.

mod evidence;
mod renew;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use ::audit::{Entry, LOG_FILE, PublicKey, Report, utc};
use change::{Error, Kind, Result};

use self::evidence::Gathered;
use crate::audit::folder;
use crate::cli;
use crate::outcome::Outcome;

pub(crate) async fn run(dir: &Path, command: &cli::Audit) -> Result<Outcome> {
    match command {
        cli::Audit::Verify { evidence, report } => verify(dir, evidence, report).await,
        cli::Audit::Report { evidence, since, until, out } => {
            let span = report::span(since.as_deref(), until.as_deref())?;
            report::run(dir, evidence, span, out.as_deref()).await
        }
        cli::Audit::Renew { because } => renew::run(dir, *because).await,
        cli::Audit::List { file, last, json } => list(&log_file(dir, file.as_deref()), *last as usize, *json),
    }
}

/// The file of entries: what was named, or that in the folder that was named, or that of the project.
fn log_file(dir: &Path, named: Option<&Path>) -> PathBuf {
    match named {
        Some(path) if path.is_dir() => path.join(LOG_FILE),
        Some(path) => path.to_owned(),
        None => folder(&dir.join(".lockgate")).join(LOG_FILE),
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).map_err(|error| {
        Error::new(Kind::Config, format!("the audit log {} cannot be read", path.display()))
            .source(error)
            .fix("Name the log's folder or file: --file PATH.")
    })
}

#[allow(clippy::print_stdout)]
async fn verify(dir: &Path, given: &cli::AuditEvidence, written: &[PathBuf]) -> Result<Outcome> {
    let gathered = Gathered::of(dir, given).await?;
    let report = gathered.prove()?;
    for line in told(&report, &gathered) {
        println!("{line}");
    }
    let mut proven = report.is_proven();
    for path in written {
        proven &= report::verify(path, &gathered)?;
    }
    Ok(if proven { Outcome::Done } else { Outcome::ToFix })
}

/// What a proof has shown, line by line.
fn told(report: &Report, gathered: &Gathered) -> Vec<String> {
    let mut lines = vec![extent(report)];
    lines.extend(report.key.map(key));
    if gathered.own_key {
        lines.push(
            "note: the key is the log's own copy: give the one that you keep (--key), or a forger who exchanged both is not seen".into(),
        );
    }
    lines.push(match gathered.has_anchor {
        true => format!("{} heads of this log lie at the anchor", report.anchored),
        false => "note: no anchor: a log that was set back as a whole to an earlier end, or thrown away, is not seen (audit: { anchor: ... })".into(),
    });
    let macs: u64 = all(report).map(|report| report.macs).sum();
    if macs > 0 {
        lines.push(format!("MACs of {macs} entries were looked at"));
    }
    for before in &report.before {
        lines.push(format!("before it: {}", extent(before)));
        if let Some(of_before) = before.key.filter(|of_before| Some(*of_before) != report.key) {
            let whose =
                if before.key_was_named { ", which the log after it names: give the one that you keep" } else { "" };
            lines.push(format!("{}{whose}", key(of_before)));
        }
    }
    lines.extend(notes(report));
    lines.extend(findings(report));
    lines.push(verdict(report));
    lines
}

fn key(key: PublicKey) -> String {
    format!("key {} ({key})", key.fingerprint().as_str())
}

/// What is worth knowing and accuses nobody.
fn notes(report: &Report) -> Vec<String> {
    let sum = |of: fn(&Report) -> u64| all(report).map(of).sum::<u64>();
    let told = |many: u64, what: &str| (many > 0).then(|| format!("{many} {what}"));
    [
        told(sum(|report| report.killed), "processes ended without closing the log, as a kill does"),
        told(
            sum(|report| report.closed_unsigned),
            "times a closed log had no head over its end, as after a kill at that moment",
        ),
        told(
            sum(|report| report.torn_bytes),
            "bytes at the end are no whole entry: a stop of the machine, or a copy made meanwhile",
        ),
        told(
            sum(|report| report.unknown),
            "entries are of kinds that this version does not know: take the version that wrote them",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn all(report: &Report) -> impl Iterator<Item = &Report> {
    std::iter::once(report).chain(&report.before)
}

fn extent(report: &Report) -> String {
    let Some((first, last)) = report.span else { return "no entries".into() };
    let log = report.log.unwrap_or_default().short();
    let (entries, heads) = (report.entries, report.heads);
    format!("{entries} entries from {} to {}, {heads} heads, log {log}", utc(first), utc(last))
}

/// Everything that was found, with the log where it is not the newest.
fn findings(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().map(|finding| format!("FOUND: {finding}")).collect();
    for before in &report.before {
        let log = before.log.unwrap_or_default().short();
        lines.extend(before.findings.iter().map(|finding| format!("FOUND in log {log}: {finding}")));
    }
    lines
}

fn verdict(report: &Report) -> String {
    let sum = |of: fn(&Report) -> u64| all(report).map(of).sum::<u64>();
    let (found, entries) = (sum(|report| report.findings.len() as u64), sum(|report| report.entries));
    match (found, entries.saturating_sub(sum(|report| report.proven))) {
        (0, 0) => format!("proven: all {entries} entries"),
        (0, young) => format!("proven: {} entries; the {young} youngest wait for their signature", entries - young),
        (found, _) => format!("NOT PROVEN: {found} findings"),
    }
}

#[allow(clippy::print_stdout)]
fn list(path: &Path, last: usize, json: bool) -> Result<Outcome> {
    let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
    let mut lines = std::collections::VecDeque::with_capacity(last.min(10_000));
    for line in open(path)?.split(b'\n') {
        if lines.len() == last {
            lines.pop_front();
        }
        // What is not text was changed.
        lines.push_back(String::from_utf8_lossy(&line.map_err(unreadable)?).into_owned());
    }
    for line in &lines {
        match (::audit::read_line(line), ::audit::read_newer_line(line)) {
            (Some(_), _) | (_, Some(_)) if json => println!("{line}"),
            (Some(entry), _) => println!("{}", in_words(&entry)),
            (None, Some((at, event))) => println!("{} {} (of a newer version)", utc(at), event.as_str()),
            (None, None) => println!("(no entry: run lockgate audit verify)"),
        }
    }
    Ok(Outcome::Done)
}

/// An entry in a line: time, number, and the event's fields as they are called in the file.
fn in_words(entry: &Entry) -> String {
    let fields = serde_json::to_value(&entry.what).unwrap_or_default();
    let event = fields["event"].as_str().unwrap_or_default().to_owned();
    let rest = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
    let rest: Vec<String> = rest
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    format!("{} {:>6} {} {event} {}", utc(entry.at), entry.seq, entry.writer.as_str(), rest.join(" "))
}
