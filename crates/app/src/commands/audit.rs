//! `lockgate audit`: the proof of the audit log, and what is in it. Neither needs the project's configuration.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use ::audit::{Entry, Evidence, HEADS_FILE, LOG_FILE, PUBLIC_KEY_FILE, PublicKey, Report};
use change::{Clock, Error, Kind, Result};

use crate::audit::{Anchor, folder};
use crate::cli;
use crate::clock::SystemClock;
use crate::outcome::Outcome;
use crate::project::Project;

pub(crate) async fn run(dir: &Path, command: &cli::Audit) -> Result<Outcome> {
    match command {
        cli::Audit::Verify { file, anchor, key } => {
            verify(dir, file.as_deref(), anchor.as_deref(), key.as_deref()).await
        }
        cli::Audit::List { file, last, json } => list(&log_file(dir, file.as_deref()), *last, *json),
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

async fn verify(dir: &Path, log: Option<&Path>, anchor: Option<&str>, key: Option<&str>) -> Result<Outcome> {
    let path = log_file(dir, log);
    let beside = |name: &str| path.with_file_name(name);
    let (public, own_key) = match key {
        Some(named) => (public_key(named)?, false),
        None => (public_key(&beside(PUBLIC_KEY_FILE).to_string_lossy())?, true),
    };
    let anchor = match anchor {
        Some(place) => Some(Anchor::at(place, Vec::new()).await?),
        // A log that was named may be a copy of another project's.
        None if log.is_none() => match Project::read(dir) {
            Ok(project) => Anchor::of(&project).await?,
            Err(_) => None,
        },
        None => None,
    };
    let anchored = match &anchor {
        Some(anchor) => anchor.heads().await?,
        None => Vec::new(),
    };
    let entries = open(&path)?;
    let heads = match std::fs::read_to_string(beside(HEADS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        // What is not text was changed: as no head at all, it proves nothing.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => "not text\n".into(),
        Err(error) => {
            return Err(Error::new(Kind::Unavailable, "the heads of the audit log cannot be read").source(error));
        }
    };
    let evidence = Evidence { log: entries, heads: &heads, anchored, key: public, now: SystemClock::new().now() };
    let report = ::audit::verify(evidence)?;
    print_report(&report, &public, own_key, anchor.is_some());
    Ok(if report.findings.is_empty() { Outcome::Done } else { Outcome::ToFix })
}

fn public_key(named: &str) -> Result<PublicKey> {
    if let Ok(key) = PublicKey::parse(named) {
        return Ok(key);
    }
    let text = std::fs::read_to_string(named).map_err(|error| {
        Error::new(Kind::Config, format!("the public key {named} cannot be read"))
            .source(error)
            .fix("Give its 64 digits or the file audit.pub: --key PATH.")
    })?;
    PublicKey::parse(&text)
}

fn time(at: change::Timestamp) -> String {
    chrono::DateTime::from_timestamp_micros(at)
        .map_or_else(|| at.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[allow(clippy::print_stdout)]
fn print_report(report: &Report, key: &PublicKey, own_key: bool, has_anchor: bool) {
    if let Some((first, last)) = report.span {
        println!("{} entries from {} to {}, {} heads", report.entries, time(first), time(last), report.heads);
    }
    println!("key {} ({})", key.fingerprint().as_str(), key);
    if own_key {
        println!(
            "note: the key is the log's own copy: give the one that you keep (--key), or a forger who exchanged both is not seen"
        );
    }
    match (has_anchor, report.anchored) {
        (true, heads) => println!("{heads} heads of this log lie at the anchor"),
        (false, _) => println!(
            "note: no anchor: a log that was set back as a whole to an earlier end is not seen (audit: {{ anchor: ... }})"
        ),
    }
    if report.killed > 0 {
        println!("{} processes ended without closing the log, as a kill does", report.killed);
    }
    for finding in &report.findings {
        println!("FOUND: {finding}");
    }
    match (report.findings.len(), report.entries - report.proven) {
        (0, 0) => println!("proven: all {} entries", report.entries),
        (0, young) => println!("proven: {} entries; the {young} youngest wait for their signature", report.proven),
        (found, _) => println!("NOT PROVEN: {found} findings"),
    }
}

#[allow(clippy::print_stdout)]
fn list(path: &Path, last: usize, json: bool) -> Result<Outcome> {
    let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
    let mut lines = std::collections::VecDeque::with_capacity(last.min(10_000));
    for line in open(path)?.lines() {
        if lines.len() == last {
            lines.pop_front();
        }
        lines.push_back(line.map_err(unreadable)?);
    }
    for line in &lines {
        match ::audit::read_line(line) {
            Some(entry) => println!("{}", if json { line.clone() } else { in_words(&entry) }),
            None => println!("(no entry: run lockgate audit verify)"),
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
    format!("{} {:>6} {} {event} {}", time(entry.at), entry.seq, entry.writer.as_str(), rest.join(" "))
}
