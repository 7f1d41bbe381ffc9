//! The `lockgate` program: the loop, its parts, its commands. The binary only calls [`main`]; the simulation drives [`Pipeline`] itself.

mod alone;
mod approvals;
mod assemble;
mod audit;
mod batching;
mod cells;
mod cli;
mod clock;
mod commands;
mod demo;
mod door;
mod entities;
mod erase;
mod error_policy;
mod feed;
mod fips;
mod folder_id;
mod held;
mod key_wait;
mod keys;
mod limits;
mod logs;
mod long_work;
mod named;
mod outcome;
mod output;
mod pipeline;
mod project;
mod project_reader;
mod records;
mod remasking;
mod repair;
mod resent;
mod roles;
mod rotation;
mod secrets;
mod spool;
mod status_file;
mod turn;
mod user;
mod vault;
mod view;
mod watch;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use crate::assemble::Means;
pub use crate::batching::Batching;
use crate::cli::{Cli, Command};
pub use crate::error_policy::{Action, table_action};
pub use crate::held::{Choice, HeldLine, HeldStore, Witness};
use crate::outcome::Outcome;
use crate::output::Output;
pub use crate::pipeline::{Ended, Pipeline};
pub use crate::spool::{Known, SpoolFolder};
pub use crate::vault::VaultFile;
pub use crate::watch::Watch;

/// Reads the command line, starts logging, hands over to a command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    outcome::quiet_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = change::Error::new(change::Kind::Unavailable, "the system gave no threads").source(error);
            return outcome::finish(Err(what));
        }
    };
    let ready = outcome::no_core_dumps().and_then(|()| fips::ready()).and_then(|()| logs::start(&cli.global));
    limits::raise_open_files();
    let done = ready.map_or_else(Err, |()| runtime.block_on(Box::pin(dispatch(cli))));
    // Blocking reads that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    outcome::finish(done)
}

async fn dispatch(cli: Cli) -> change::Result<Outcome> {
    let dir = cli.global.dir.clone();
    door::admit(&dir, &cli.command).await?;
    match cli.command {
        Command::Demo(options) => demo::run(&dir, &options).await,
        Command::Init(options) => commands::init::run(&dir, &options).await,
        Command::Check(options) => commands::check::run(&dir, &options).await,
        Command::Run(options) => commands::shifts::run(&dir, &options).await,
        Command::Status(options) => commands::status::run(&dir, &options).await,
        Command::Query(options) => commands::query::run(&dir, &options).await,
        Command::Verify(options) => commands::verify::run(&dir, &options).await,
        Command::Repair(options) => commands::repair::run(&dir, &options).await,
        Command::Remask(options) => Box::pin(commands::remask::run(&dir, &options)).await,
        Command::Audit { command } => commands::audit::run(&dir, &command).await,
        Command::Release(options) => commands::release::run(&dir, &options).await,
        Command::Reveal(options) => commands::reveal::run(&dir, &options).await,
        Command::Erase(options) => commands::erase::run(&dir, &options).await,
        Command::Policy { command } => commands::policy::run(&dir, &command).await,
        Command::Keys { command } => commands::keys::run(&dir, &command).await,
        Command::Held { command } => commands::held::run(&dir, &command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lockgate", &mut script);
            Output::default().print(&script)
        }
    }
}
