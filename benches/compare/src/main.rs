//! The figures of `docs/benchmarks.md`: Lockgate beside the physical limit or a peer, on one private server, in one run.
//!
//! Every figure is a ratio within one run, because the machine differs from run to run. The program under test is a process like any
//! other: it is started, watched from `/proc` and judged by what it leaves in the lake and in its slot.

mod backlog;
mod claims;
mod commit_log;
mod contest;
mod copy;
mod follower;
mod kernels;
mod lockgate;
mod machine;
mod masking;
mod options;
mod peers;
mod process;
mod remask;
mod report;
mod scale;
mod slot;
mod stage;
mod statistics;
mod steady;
mod upsert;
mod wide;
mod workplace;

use anyhow::Result;
use clap::Parser;

use crate::options::{Figure, Options};
use crate::report::{Report, say};
use crate::scale::Sizes;
use crate::stage::Stage;

#[tokio::main]
async fn main() -> Result<()> {
    // Dropping the stage removes servers, slots and folders, so a Ctrl-C ends the measuring and not the process.
    tokio::select! {
        outcome = Box::pin(measure()) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted; nothing is left behind")
        }
    }
}

/// Extreme shapes are another command with other options: `compare scale`.
async fn measure() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("scale") {
        return scale::run(&Sizes::parse_from(std::env::args().skip(1))).await;
    }
    run(&Options::parse()).await
}

async fn run(options: &Options) -> Result<()> {
    let mut report = Report::new(options).await?;
    let stage = Stage::set(options).await?;
    report.server(stage.server());
    for figure in options.figures() {
        say(&format!("{}: {}", figure.name(), figure.title()));
        let lines = match figure {
            Figure::Copy => copy::measure(&stage).await,
            Figure::Masking => masking::measure(&stage).await,
            Figure::Remask => Box::pin(remask::measure(&stage)).await,
            Figure::Backlog => backlog::measure(&stage).await,
            Figure::Upsert => upsert::measure(&stage).await,
            Figure::Steady => steady::measure(&stage).await,
            Figure::Peers => contest::measure(&stage).await.map(|sheet| report.attach(&sheet)),
            Figure::Kernels => kernels::measure(options),
        };
        report.add(figure, lines);
        // After each figure, so that a long run that is cut short leaves what it has found.
        report.save(&options.report)?;
    }
    report.finish(&options.report)
}
