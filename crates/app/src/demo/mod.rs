//! `lockgate demo`: the whole way on a private Postgres, with a kill in the middle and a proof at the end.

mod proof;
mod runner;
mod screen;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use change::{Clock, Error, Kind, Result, Timestamp};
use sandbox::claims::Live;

use crate::cli::Demo;
use crate::clock::SystemClock;
use crate::outcome::Outcome;
use runner::Runner;
use screen::Screen;
use stage::Stage;

/// How long Lockgate stays dead after the kill, while changes go on.
const DEAD_FOR: Duration = Duration::from_secs(2);
/// One slice of live changes; between slices the screen is drawn and the script is followed.
const SLICE: Duration = Duration::from_millis(250);
/// Longest wait for the first copy, and for the end of the log.
const PATIENCE: Duration = Duration::from_secs(600);

/// What happened when, for the proof; times are microseconds since the Unix epoch.
pub(crate) struct Story {
    pub(crate) live: Live,
    pub(crate) live_since: Timestamp,
    pub(crate) killed_at: Timestamp,
    pub(crate) back_at: Timestamp,
}

pub(crate) async fn run(dir: &Path, options: &Demo) -> Result<Outcome> {
    let dir = if dir == Path::new(".") { PathBuf::from("lockgate-demo") } else { dir.to_owned() };
    let mut screen = Screen::new();
    let stage = Stage::set(&dir, options, &mut screen).await?;

    screen.step("Starting `lockgate run`: the first copy of all tables.");
    let mut runner = Runner::start(&stage.dir, &[])?;
    runner.until("the first copy", PATIENCE, |seen| seen.copied(), &mut screen).await?;

    screen.step(&format!(
        "Live changes for {} s: claims, re-pricing, deletes, key changes, truncates; a migration; and one `kill -9` of Lockgate.",
        options.seconds
    ));
    let story = live(&stage, &mut runner, options, &mut screen).await?;

    screen.step("Changes have ended. Waiting until Lockgate has confirmed the end of the log.");
    stage.caught_up(&mut runner, PATIENCE, &mut screen).await?;
    runner.stop().await?;

    screen
        .step("Proof: a second, fresh copy of the source to compare with, and a search for every planted identifier.");
    let proof = proof::collect(&stage, &story).await?;
    screen.finish();
    proof.print(&stage);
    if proof.holds() {
        return Ok(Outcome::Done);
    }
    Err(Error::new(Kind::Bug, "the demo's proof does not hold: see the lines marked FAILED above")
        .fix(format!("Keep the folder {} and report it.", stage.dir.display())))
}

/// Changes at the asked rate; a migration after a third of the time, a kill in the middle.
async fn live(stage: &Stage, runner: &mut Runner, options: &Demo, screen: &mut Screen) -> Result<Story> {
    let clock = SystemClock::new();
    let whole = Duration::from_secs(options.seconds.max(6));
    let rate = u32::try_from(options.rate).unwrap_or(u32::MAX);
    let mut story = Story { live: Live::new(stage.data), live_since: clock.now(), killed_at: 0, back_at: 0 };
    let begin = clock.monotonic();
    let (mut migrated, mut dead_since) = (false, None);
    loop {
        let passed = clock.monotonic().saturating_sub(begin);
        if passed >= whole && story.back_at > 0 {
            return Ok(story);
        }
        if !migrated && passed >= whole / 3 {
            migrated = true;
            story.live.migrate(&stage.client).await.map_err(stage::failed)?;
            screen.step("Migration: a column was added that no rule names, another was widened.");
        }
        if story.killed_at == 0 && passed >= whole / 2 {
            runner.kill_9().await?;
            story.killed_at = clock.now();
            dead_since = Some(clock.monotonic());
            screen.step("`kill -9` of Lockgate. Changes go on without it.");
        }
        if dead_since.is_some_and(|since| clock.monotonic().saturating_sub(since) >= DEAD_FOR) {
            dead_since = None;
            runner.start_again()?;
            screen.step("Lockgate was started again; it resumes from what the lake says.");
        }
        if story.killed_at > 0 && dead_since.is_none() && story.back_at == 0 && runner.has_committed() {
            story.back_at = clock.now();
        }
        if dead_since.is_none() {
            runner.check()?;
        }
        story.live.run(&stage.client, rate, SLICE).await.map_err(stage::failed)?;
        screen.live(passed, whole, story.live.tally(), &runner.progress());
    }
}
