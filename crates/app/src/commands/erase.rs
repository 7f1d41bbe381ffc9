//! `lockgate erase`: persons go, everywhere, and do not come back.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Purge};
use change::{Error, Kind, Raw, Result};
use gate::Suppressed;
use zeroize::Zeroizing;

use crate::alone::alone;
use crate::cli::{self, Erase};
use crate::clock::SystemClock;
use crate::erase::{Progress, Request, Worksite, lift, place};
use crate::outcome::{Outcome, refused};
use crate::turn::Work;

pub(crate) async fn run(dir: &Path, options: &Erase) -> Result<Outcome> {
    // Somebody may be typing them: nobody is kept waiting meanwhile.
    let ids = match &options.subject {
        Some(_) => Some(read_ids(options.ids.as_deref())?),
        None => None,
    };
    let alone = match alone(dir, Work::Erase).await? {
        Ok(alone) => alone,
        Err(problems) => return refused(&problems),
    };
    let site = Worksite::open(alone, Arc::new(SystemClock::new())).await?;
    let done = match (&options.subject, &ids) {
        (Some(subject), Some(ids)) if options.hold || options.lift => hold(&site, options, subject, ids).await,
        (Some(subject), Some(ids)) => erase(&site, options, subject, ids).await,
        _ => finish(&site, site.unfinished().await?).await.map(|()| Outcome::Done),
    };
    site.auditor.close().await?;
    done
}

/// One identifier a line, from a file or from standard input: never from the command line, which every user of the machine can read and
/// which shells write down.
pub(super) fn read_ids(file: Option<&Path>) -> Result<Raw<Vec<String>>> {
    let mut text = Zeroizing::new(String::new());
    let unreadable = |error: std::io::Error| {
        Error::new(Kind::Config, "the identifiers cannot be read").source(error).fix("One identifier a line, in UTF-8.")
    };
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => *text = std::fs::read_to_string(path).map_err(unreadable)?,
        None if std::io::stdin().is_terminal() => {
            return Err(Error::new(Kind::Config, "no identifiers: standard input is a terminal")
                .fix("Give them by --ids FILE, or by a pipe: one identifier a line."));
        }
        None => drop(std::io::stdin().read_to_string(&mut text).map_err(unreadable)?),
    }
    let ids: Vec<String> = text
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if ids.is_empty() {
        return Err(Error::new(Kind::Config, "no identifiers were given")
            .fix("One identifier a line, as the source spells it."));
    }
    Ok(Raw::new(ids))
}

#[allow(clippy::print_stdout)]
async fn hold(site: &Worksite, options: &Erase, subject: &str, ids: &Raw<Vec<String>>) -> Result<Outcome> {
    let (name, subject) = (Name::new(subject), site.subject(subject)?);
    let persons = site.persons(&subject, ids)?;
    let count = persons.first().map_or(0, Suppressed::len) as u64;
    if options.hold {
        site.auditor.record(Event::HoldPlaced { subject: name, persons: count })?;
        place(&site.lake, &site.keys, persons).await?;
        println!("{count} persons are on legal hold: nobody erases them until it is lifted");
    } else {
        site.auditor.record(Event::HoldLifted { subject: name, persons: count })?;
        lift(&site.lake, &site.keys, &subject, ids).await?;
        println!("{count} persons are not on legal hold");
    }
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn erase(site: &Worksite, options: &Erase, subject: &str, ids: &Raw<Vec<String>>) -> Result<Outcome> {
    let subject = site.subject(subject)?;
    let purge = match options.purge {
        cli::PurgeWhen::Now => Purge::Now,
        cli::PurgeWhen::After => Purge::After,
    };
    let left = site.unfinished().await?;
    let (request, on_hold) = site.accept(&subject, ids, purge).await?;
    let numbers: Vec<String> = on_hold.iter().map(ToString::to_string).collect();
    if !numbers.is_empty() {
        eprintln!("on legal hold, and left as they are: identifiers {} of the request", numbers.join(", "));
    }
    finish(site, left.into_iter().chain(request).collect()).await?;
    Ok(if on_hold.is_empty() { Outcome::Done } else { Outcome::Held })
}

/// Goes on with every request. What keeps one from its end keeps no other: the first such error is returned.
#[allow(clippy::print_stdout)]
async fn finish(site: &Worksite, requests: Vec<Request>) -> Result<()> {
    if requests.is_empty() {
        println!("nothing to do");
    }
    let mut failed = None;
    for request in requests {
        let id = request.id.clone();
        match site.go_on(request).await {
            Err(error) => {
                failed.get_or_insert(error.context(format!("request {id}")));
            }
            Ok(Progress::Done(path, receipt)) => {
                println!(
                    "request {}: {} persons, {} rows taken out of {} tables, {} held rows erased, {} data keys destroyed, {} objects removed, {} objects scanned: no trace",
                    receipt.request,
                    receipt.persons,
                    receipt.tables.values().map(|table| table.rows).sum::<u64>(),
                    receipt.tables.values().filter(|table| table.rows > 0).count(),
                    receipt.held_rows_removed,
                    receipt.data_keys_destroyed,
                    receipt.objects_removed,
                    receipt.scanned_objects,
                );
                println!("receipt: {}", path.display());
            }
            Ok(Progress::Waiting(request, due)) => {
                let due = chrono::DateTime::from_timestamp_micros(due).map(|due| due.format("%Y-%m-%d").to_string());
                println!(
                    "request {}: {} rows are gone from the newest versions; older ones show them until {}: then run lockgate erase --due",
                    request.id,
                    request.rows(),
                    due.unwrap_or_default(),
                );
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
