//! `lockgate repair`: behind a gap in the source's log, write what differs.

use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Program};
use capture::postgres::{self, Reread, Resume};
use change::{Error, FreshStart, Kind, RepairMark, Result, TableCheckpoint, TableName};
use gate::TableStamp;
use lake::Layer;

use super::run::{Company, gather_to_write};
use crate::alone::{Alone, alone};
use crate::assemble::{self, Cast, Means, Parts};
use crate::audit::Auditor;
use crate::cli::Repair;
use crate::clock::SystemClock;
use crate::held::HeldStore;
use crate::outcome::{Outcome, refused};
use crate::records;
use crate::repair::{self, Ground, Limits, Mended, Progress, Sides, Teller};
use crate::turn::Work;

pub(crate) async fn run(dir: &Path, options: &Repair) -> Result<Outcome> {
    // The tables, and the index on the local disk, are a run's while it goes on.
    let Alone { project, turn: _turn, .. } = match alone(dir, Work::Repair).await? {
        Ok(alone) => alone,
        Err(problems) => return refused(&problems),
    };
    let auditor = Auditor::open(&project, Arc::new(SystemClock::new()), Program::Repair).await?;
    let repaired = match gather_to_write(project, &options.tables, &auditor).await {
        Ok(Ok((parts, company))) => sources(&parts, &auditor, &company, options).await,
        Ok(Err(outcome)) => Ok(outcome),
        Err(error) => Err(error),
    };
    auditor.close().await?;
    repaired
}

async fn sources(parts: &Parts, auditor: &Auditor, company: &Company, options: &Repair) -> Result<Outcome> {
    let mut done = Outcome::Done;
    let sources: Vec<(&String, &Cast)> = company.sources.iter().filter(|(_, cast)| !cast.followed.is_empty()).collect();
    for (name, cast) in sources {
        if !source(parts, auditor, name, cast, options).await.map_err(|error| error.context(name))? {
            done = Outcome::ToFix;
        }
    }
    Ok(done)
}

/// Repairs one source; whether it is finished.
async fn source(parts: &Parts, auditor: &Auditor, name: &str, cast: &Cast, options: &Repair) -> Result<bool> {
    let mut reader = postgres::reread(assemble::source_config(parts, name, cast)?, parts.clock.clone()).await?;
    let recorded = records::recorded(&parts.lake, name).await?.common;
    let Some(start) = begin(parts, name, &mut reader, &recorded, (options.force, !cast.left.is_empty())).await? else {
        return forget_seen(parts, cast).map(|()| true);
    };
    forget_held(parts, cast, &recorded, &start)?;
    let mut left = Vec::new();
    for table in &cast.followed {
        match recorded.tables.get(table) {
            Some(before) if records::stands_at(before, &start) => say(table, "was repaired before"),
            Some(before) => match cannot_be_compared(&reader, table, before) {
                Some(why) => say(table, &format!("{why}: the next run copies it anew")),
                None => match one(parts, &reader, table, &start, before, options).await {
                    Ok(Repaired::ToCopy(why)) => say(table, &format!("{why}: the next run copies it anew")),
                    Ok(Repaired::Mended(mended)) => {
                        let Mended { inserted, updated, deleted, .. } = mended;
                        let table_name = Name::new(table.to_string());
                        auditor.record(Event::Repaired { table: table_name, inserted, updated, deleted })?;
                        say_mended(table, &mended);
                    }
                    Err(error) if matches!(error.kind(), Kind::Contract | Kind::Privacy | Kind::Data) => {
                        say(
                            table,
                            &format!("{error}\n  or take both of its folders out of the lake: it is then copied anew"),
                        );
                        left.push(table.to_string());
                    }
                    Err(error) => return Err(error.context(table)),
                },
            },
            None => say(table, "is not in the lake: the next run copies it"),
        }
    }
    for (table, why) in &cast.refused {
        say(table, &format!("cannot be followed, so a later run copies it anew: {why}"));
    }
    if !cast.left.is_empty() {
        let policy = parts.gate.policy();
        let others = policy.tables().filter(|table| table.source == name && !cast.followed.contains(table));
        let behind = |table: &&TableName| recorded.tables.get(*table).is_some_and(|at| !records::stands_at(at, &start));
        left.extend(others.filter(behind).map(ToString::to_string));
    }
    if !left.is_empty() {
        print_line(&format!("not repaired yet, and no run goes on before: {}", left.join(", ")));
        return Ok(false);
    }
    // Before the mark: behind it no repair would come by again.
    forget_seen(parts, cast)?;
    // The stream's place first: without it the new slot would look like a stranger's.
    parts.lake.put_stream_checkpoint(&start.stream).await?;
    parts.lake.put_repair_mark(name, &RepairMark { start: Some(start), finished: true }).await?;
    print_line(&format!("{name}: repaired; next: lockgate run"));
    Ok(true)
}

/// Where the new stream begins: a slot that an interrupted repair has made, or a new one. `None` when there is nothing to repair.
async fn begin(
    parts: &Parts,
    name: &str,
    reader: &mut Reread,
    recorded: &Resume,
    (force, only_some): (bool, bool),
) -> Result<Option<FreshStart>> {
    let mark = parts.lake.repair_mark(name).await?;
    match mark {
        Some(RepairMark { start: Some(start), finished: false }) if reader.is_still(&start).await? => {
            return Ok(Some(start));
        }
        Some(RepairMark { finished: false, .. }) => {}
        _ => match reader.trouble(&records::resume(&parts.lake, name).await?.common).await? {
            Some(trouble) => print_line(&format!("{name}: {}", trouble.what())),
            None if !force => {
                return Err(Error::new(Kind::Config, "nothing is wrong: a run can go on from what the lake has").fix(
                    "Run: lockgate run. To compare, run: lockgate verify. If somebody else wrote the lake's tables, add --force.",
                ));
            }
            None => {}
        },
    }
    if recorded.tables.is_empty() {
        print_line(&format!("{name}: the lake has nothing of it; next: lockgate run"));
        return Ok(None);
    }
    if only_some && !reader.is_published().await? {
        return Err(Error::new(Kind::Config, "the publication is gone, and it has to be made for all tables together")
            .fix("Run the repair without --table."));
    }
    reader.may_start_anew(recorded, force).await?;
    // Before the slot is made: from here on no run may take the new slot for the old one.
    parts.lake.put_repair_mark(name, &RepairMark::default()).await?;
    let start = reader.start_anew(recorded).await?;
    parts.lake.put_repair_mark(name, &RepairMark { start: Some(start.clone()), finished: false }).await?;
    Ok(Some(start))
}

/// What was seen of the source's tables is not needed when each is done, left to a copy, or gone from the lake.
fn forget_seen(parts: &Parts, cast: &Cast) -> Result<()> {
    let any = cast.followed.first();
    any.map_or(Ok(()), |table| repair::forget_source_of(&parts.project.state_dir(), table))
}

/// What was held back of the tables is in what their source has now.
fn forget_held(parts: &Parts, cast: &Cast, recorded: &Resume, start: &FreshStart) -> Result<()> {
    let Some(store) = HeldStore::existing(&parts.project.state_dir())? else { return Ok(()) };
    for table in cast.followed.iter().chain(cast.refused.keys()) {
        if recorded.tables.get(table).is_none_or(|at| records::stands_at(at, start)) {
            continue;
        }
        let rows = store.superseded(table, &start.stream.through)?;
        if rows > 0 {
            say(table, &format!("{rows} held rows are given up for what the source has of them now"));
        }
    }
    Ok(())
}

/// What became of a table.
enum Repaired {
    Mended(Mended),
    /// Why the next run has to copy it.
    ToCopy(&'static str),
}

/// Why the next run has to copy a table.
fn cannot_be_compared(reader: &Reread, table: &TableName, before: &TableCheckpoint) -> Option<&'static str> {
    let Some(schema) = reader.schema(table) else { return Some("cannot be read") };
    if !matches!(schema.identity, change::Identity::Key(_)) {
        return Some("has no key by which a row could be found again");
    }
    let copied = before.copy.as_ref().is_some_and(|copy| copy.finished.is_some());
    (!copied).then_some("was not copied whole")
}

async fn one(
    parts: &Parts,
    reader: &Reread,
    table: &TableName,
    start: &FreshStart,
    before: &TableCheckpoint,
    options: &Repair,
) -> Result<Repaired> {
    let schema = reader.schema(table).ok_or_else(|| Error::new(Kind::Bug, "it was not looked up"))?;
    let gate = parts.gate.table(schema)?;
    let mut workers = Means::of(parts)?.mending_workers();
    let writers = workers.writers(&gate).await?;
    let [log, current] = workers.enter(writers).released;
    if log != current {
        workers.close().await;
        return Ok(Repaired::ToCopy("one of its two lake tables lacks rows that were released"));
    }
    let number = repair::level(&parts.lake, &mut workers, table, start).await?;
    let stored = parts.lake.stored(table, Layer::Current).await?;
    let stored = stored.ok_or_else(|| Error::new(Kind::Bug, "it is not in the lake"))?;
    let asked = (options.limits.rate, options.limits.memory);
    let limits = Limits::new(asked, parts.gate.asks_model(table), parts.clock.clone());
    let stamp = TableStamp::of(parts.gate.stamp(), &gate);
    let ground = Ground::of(start, stamp, &gate, &stored);
    let mut progress = Progress::open(&parts.project.state_dir(), ground, (reader, table), &limits).await?;
    let sides = Sides::begun((reader, &gate), stored, &limits, &progress)?;
    let tell = |what: &str| say(table, what);
    let (looks, teller) = ((&sides, &mut progress, limits.rows_max()), Teller::new(parts.clock.as_ref(), &tell));
    let mended = Box::pin(repair::mend(looks, reader, &mut workers, (start, before, number), teller)).await;
    workers.close().await;
    let mended = mended?;
    progress.end()?;
    Ok(mended.map_or(Repaired::ToCopy("the source has rows of it that are to be held back"), Repaired::Mended))
}

fn say_mended(table: &TableName, mended: &Mended) {
    let Mended { inserted, updated, deleted, compared } = mended;
    say(table, &format!("{compared} rows compared; {inserted} inserted, {updated} updated, {deleted} deleted"));
}

fn say(table: &TableName, what: &str) {
    print_line(&format!("{table}: {what}"));
}

#[allow(clippy::print_stdout)]
fn print_line(line: &str) {
    println!("{line}");
}
