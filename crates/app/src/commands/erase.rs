//! `lockgate erase`: persons go, everywhere, and do not come back.

use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Purge};
use change::Result;
use gate::Suppressed;

use crate::alone::alone;
use crate::cli::{self, Erase};
use crate::clock::SystemClock;
use crate::erase::{Identifiers, Progress, Request, Worksite, check_spelling, in_words, lift, place, read_identifiers};
use crate::outcome::{Outcome, refused};
use crate::turn::Work;

pub(crate) async fn run(dir: &Path, options: &Erase) -> Result<Outcome> {
    // Somebody may be typing them: nobody is kept waiting meanwhile.
    let ids = match &options.subject {
        Some(subject) => {
            let ids = read_identifiers(options.ids.as_deref())?;
            check_spelling(dir, subject, &ids).await?;
            Some(ids)
        }
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

#[allow(clippy::print_stdout)]
async fn hold(site: &Worksite, options: &Erase, subject: &str, ids: &Identifiers) -> Result<Outcome> {
    let (name, subject) = (Name::new(subject), site.subject(subject)?);
    let persons = site.persons(&subject, &ids.values)?;
    let count = persons.first().map_or(0, Suppressed::len) as u64;
    if options.hold {
        site.auditor.record(Event::HoldPlaced { subject: name, persons: count })?;
        place(&site.lake, &site.keys, persons).await?;
        println!("{count} persons are on legal hold: nobody erases them until it is lifted");
    } else {
        site.auditor.record(Event::HoldLifted { subject: name, persons: count })?;
        lift(&site.lake, &site.keys, &subject, &ids.values).await?;
        println!("{count} persons are not on legal hold");
    }
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn erase(site: &Worksite, options: &Erase, subject: &str, ids: &Identifiers) -> Result<Outcome> {
    let subject = site.subject(subject)?;
    let purge = match options.purge {
        cli::PurgeWhen::Now => Purge::Now,
        cli::PurgeWhen::After => Purge::After,
    };
    let left = site.unfinished().await?;
    let (request, on_hold) = site.accept(&subject, ids, purge).await?;
    if !on_hold.is_empty() {
        eprintln!("on legal hold, and left as they are: lines {} of the identifiers", in_words(&on_hold));
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
                say_unmatched(&receipt.unmatched_lines);
            }
            Ok(Progress::Waiting(request, due)) => {
                let due = chrono::DateTime::from_timestamp_micros(due).map(|due| due.format("%Y-%m-%d").to_string());
                println!(
                    "request {}: {} rows are gone from the newest versions; older ones show them until {}: then run lockgate erase --due",
                    request.id,
                    request.rows(),
                    due.unwrap_or_default(),
                );
                say_unmatched(request.unmatched());
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A misspelled identifier looks like one of a person who is not there.
#[allow(clippy::print_stderr)]
fn say_unmatched(lines: &[u64]) {
    if !lines.is_empty() {
        eprintln!(
            "lines {} of the identifiers match nothing: nobody was erased for them, and whoever comes under them is kept out\n  fix: Compare them with the source; ask again for those that are misspelled.",
            in_words(lines)
        );
    }
}
