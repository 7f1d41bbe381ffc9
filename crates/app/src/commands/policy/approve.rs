//! `lockgate policy approve`: what the policy changes of the one in force, and that somebody has approved it.

use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Program};
use change::{Error, Kind, Result};

use super::print_differences;
use crate::approvals::{Candidate, DIGITS};
use crate::audit::Auditor;
use crate::clock::SystemClock;
use crate::door::is_among;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::user;

pub(super) async fn run(dir: &Path, hash: Option<&str>) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let auditor = Auditor::open(&project, Arc::new(SystemClock::new()), Program::Policy).await?;
    let done = Candidate::of(&project, &policy, &auditor).and_then(|candidate| match hash {
        None => show(&candidate),
        Some(digits) => approve(candidate, digits, &auditor),
    });
    auditor.close().await?;
    done
}

#[allow(clippy::print_stdout)]
fn show(candidate: &Candidate) -> Result<Outcome> {
    let Some(change) = &candidate.change else {
        println!("policy.yaml does what the policy in force does: nothing to approve");
        return Ok(Outcome::Done);
    };
    match change.differences.as_slice() {
        [] => println!("there is no policy in force to compare it with: read all of it (lockgate policy explain)"),
        differences => print_differences(differences),
    }
    println!("hash {}", candidate.file);
    if candidate.may.is_empty() {
        println!("no approval is asked for: lockgate.yaml has no roles: {{ approve: [...] }}");
        return Ok(Outcome::Done);
    }
    say_approved(candidate, change.approvals);
    if candidate.missing() > 0 {
        println!("{} may approve it: lockgate policy approve --hash {}", candidate.may.join(", "), candidate.digits());
    }
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout)]
fn say_approved(candidate: &Candidate, needed: usize) {
    let approved: Vec<&str> = candidate.approved.iter().map(|approval| approval.by.as_str()).collect();
    match approved.as_slice() {
        [] => println!("it has 0 of the {needed} approvals that it needs"),
        by => println!("it has {} of the {needed} approvals that it needs: {}", by.len(), by.join(", ")),
    }
}

#[allow(clippy::print_stdout)]
fn approve(mut candidate: Candidate, digits: &str, auditor: &Auditor) -> Result<Outcome> {
    let (by, number) = (Name::new(user::name()), user::number());
    if !is_among(&candidate.may, &by, number) {
        auditor.record(Event::ApprovalRefused { by: by.clone(), file: candidate.file })?;
        let what = format!("{} may not approve policies; the attempt is in the audit log", by.as_str());
        return Err(Error::new(Kind::Privacy, what)
            .fix("Whoever answers for the data names the users in lockgate.yaml: roles: { approve: [USER, USER] }."));
    }
    if digits.len() < DIGITS || !candidate.file.to_string().starts_with(digits) {
        let what = format!("policy.yaml has another hash than the one that you approve: {}", candidate.digits());
        return Err(Error::new(Kind::Config, what)
            .fix("Look at it as it is now: lockgate policy approve; then give 12 or more digits of its hash."));
    }
    let Some(needed) = candidate.change.as_ref().map(|change| change.approvals) else {
        println!("policy.yaml does what the policy in force does: nothing to approve");
        return Ok(Outcome::Done);
    };
    match candidate.approved.iter().any(|approval| approval.number == number) {
        true => println!("{} has approved it before, and counts once", by.as_str()),
        false => candidate.approve(auditor, &by, number)?,
    }
    say_approved(&candidate, needed);
    Ok(Outcome::Done)
}
