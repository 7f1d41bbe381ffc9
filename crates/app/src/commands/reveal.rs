//! `lockgate reveal`: stored tokens and cells become values again, for whoever has the role, and never unrecorded.

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Program, Purpose};
use change::{Error, Kind, Result};
use gate::{Answer, CellKeys, Policy};

use crate::audit::Auditor;
use crate::cells::CellStore;
use crate::cli::{PurposeOf, Reveal};
use crate::clock::SystemClock;
use crate::door::may;
use crate::erase::{column_of, keys_of, read_identifiers};
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::roles::Role;
use crate::user;

pub(crate) async fn run(dir: &Path, options: &Reveal) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let by = Name::new(user::name());
    let auditor = Auditor::open(&project, Arc::new(SystemClock::new()), Program::Reveal).await?;
    let event = |asked: u64, opened: u64| Event::Revealed {
        by: by.clone(),
        purpose: purpose(options.purpose),
        column: Name::new(&options.column),
        asked,
        opened,
    };
    if !may(&project.file.roles, Role::Reveal, &by, user::number()) {
        let purpose = purpose(options.purpose);
        auditor.record(Event::RevealRefused { by: by.clone(), purpose, column: Name::new(&options.column) })?;
        auditor.close().await?;
        let what = format!("{} may not open stored values; the attempt is in the audit log", by.as_str());
        return Err(Error::new(Kind::Privacy, what)
            .fix("Whoever answers for the data names the user in lockgate.yaml: roles: { reveal: [USER] }."));
    }
    // First the log, then the values: what cannot be recorded is not shown.
    let done = open(&project, &policy, options).and_then(|answer| {
        auditor.record(event(answer.asked, answer.opened))?;
        show(answer)
    });
    auditor.close().await?;
    done
}

fn open(project: &Project, policy: &Policy, options: &Reveal) -> Result<Answer> {
    let stored = read_identifiers(options.values.as_deref())?.values;
    let keys = keys_of(project, policy)?;
    let store: Option<Arc<dyn CellKeys>> = match policy.encrypts_cells() {
        true => Some(Arc::new(CellStore::open(&project.state_dir(), Some(keys.clone()))?)),
        false => None,
    };
    let (table, column) = column_of(policy, &options.column)?;
    policy.opener(&table, column, (&keys, options.epoch), store)?.open(&stored)
}

/// In one write, and nothing of it in a log line.
#[allow(clippy::print_stderr)]
fn show(answer: Answer) -> Result<Outcome> {
    let Answer { without_key, foreign, .. } = answer;
    let mut out = stdout().lock();
    out.write_all(answer.into_text().as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Error::new(Kind::Full, "the values could not be written")
            .source(error)
            .fix("Ask again; the audit log counts it.")
    })?;
    if without_key > 0 {
        eprintln!("{without_key} do not open: the key of their person was destroyed, or is in another store");
    }
    if foreign > 0 {
        eprintln!("{foreign} are no values of this column");
    }
    Ok(if without_key + foreign == 0 { Outcome::Done } else { Outcome::ToFix })
}

fn purpose(purpose: PurposeOf) -> Purpose {
    match purpose {
        PurposeOf::Treatment => Purpose::Treatment,
        PurposeOf::Payment => Purpose::Payment,
        PurposeOf::Operations => Purpose::Operations,
        PurposeOf::Access => Purpose::Access,
        PurposeOf::Legal => Purpose::Legal,
        PurposeOf::Incident => Purpose::Incident,
    }
}
