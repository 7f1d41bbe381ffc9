//! The door that every command goes through: who has not the role that it needs is refused before it begins.

use std::path::Path;
use std::sync::Arc;

use audit::{Event, Name, Program};
use change::{Error, Kind, Result};

use crate::audit::{Auditor, has_begun};
use crate::cli::{Audit, Command, Held, Keys};
use crate::clock::SystemClock;
use crate::project::Project;
use crate::roles::{Role, Roles, word};
use crate::user;

/// Whether a role is this user's. Where nobody is named, nobody opens stored values or approves, and everything else is everybody's.
pub(crate) fn may(roles: &Roles, role: Role, by: &Name, number: u32) -> bool {
    match roles.of(role) {
        Some(users) => is_among(users, by, number),
        None => !matches!(role, Role::Reveal | Role::Approve),
    }
}

/// Whether the list has this user, by name or number.
pub(crate) fn is_among(users: &[String], by: &Name, number: u32) -> bool {
    users.iter().any(|user| Name::new(user) == *by || *user == number.to_string())
}

/// The role that a command needs before it begins, also as the audit log has it, and the program that it is there. `reveal` and `policy approve`
/// ask for theirs themselves: what is refused there is written down with what it was about.
fn needed(command: &Command) -> Option<(Role, audit::Role, Program)> {
    Some(match command {
        Command::Run(_) => (Role::Operate, audit::Role::Operate, Program::Run),
        Command::Repair(_) => (Role::Operate, audit::Role::Operate, Program::Repair),
        Command::Remask(_) => (Role::Operate, audit::Role::Operate, Program::Remask),
        Command::Release(_) => (Role::Operate, audit::Role::Operate, Program::Release),
        Command::Erase(_) => (Role::Erase, audit::Role::Erase, Program::Erase),
        Command::Keys { command: Keys::Rotate { .. } | Keys::Retire { .. } | Keys::Wrap(_) } => {
            (Role::Keys, audit::Role::Keys, Program::Keys)
        }
        Command::Held { command: Held::Show { .. } | Held::Release(_) | Held::Drop(_) } => {
            (Role::Held, audit::Role::Held, Program::Held)
        }
        Command::Audit { command: Audit::Renew { .. } } => (Role::Audit, audit::Role::Audit, Program::Audit),
        _ => return None,
    })
}

/// Refuses a command whose role this user has not, and writes that down.
///
/// # Errors
/// `Privacy` for who has not the role, also when it cannot be written down.
pub(crate) async fn admit(dir: &Path, command: &Command) -> Result<()> {
    let Some((role, recorded, program)) = needed(command) else { return Ok(()) };
    // What is wrong with the folder is for the command to say. Without one there are no roles.
    let Ok(project) = Project::read(dir) else { return Ok(()) };
    let by = Name::new(user::name());
    if may(&project.file.roles, role, &by, user::number()) {
        return Ok(());
    }
    let denied = record(&project, Event::Denied { by: by.clone(), role: recorded }, program).await;
    let noted = if denied.is_ok() { "the attempt is in the audit log" } else { "the attempt could not be recorded" };
    let (by, role) = (by.as_str(), word(role));
    let error = Error::new(Kind::Privacy, format!("{by} may not do this: `roles.{role}` names others; {noted}"))
        .fix(format!("Whoever answers for the data names the user in lockgate.yaml: roles: {{ {role}: [USER] }}."));
    Err(match denied {
        Ok(()) => error,
        Err(unrecorded) => error.source(unrecorded),
    })
}

/// Whoever begins a log makes its key: not who is refused.
async fn record(project: &Project, event: Event, program: Program) -> Result<()> {
    if !has_begun(project)? {
        return Err(Error::new(Kind::Privacy, "no run has begun the audit log yet"));
    }
    let auditor = Auditor::open(project, Arc::new(SystemClock::new()), program).await?;
    auditor.record(event)?;
    auditor.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::ProjectFile;

    #[test]
    fn a_role_is_of_those_who_are_named_and_without_names_everybodys_but_for_two() {
        let text = "lake: ./lake\nsources:\n  db:\n    postgres: { url: 'postgresql://u@db/x?sslmode=verify-full' }\n    tables: [public.t]\n";
        let read = |roles: &str| ProjectFile::parse(&format!("{text}{roles}")).unwrap().roles;
        let (alice, bob) = (Name::new("alice"), Name::new("bob"));
        let roles = read("roles: { keys: [alice, 1002], reveal: [bob] }\n");
        for (role, by, number, expected) in [
            (Role::Keys, &alice, 1001, true),
            (Role::Keys, &bob, 1002, true),
            (Role::Keys, &bob, 1003, false),
            (Role::Keys, &Name::new("alic"), 10021, false),
            (Role::Reveal, &alice, 1001, false),
            (Role::Reveal, &bob, 1002, true),
            (Role::Approve, &bob, 1002, false),
            (Role::Erase, &bob, 1002, true),
        ] {
            assert_eq!(may(&roles, role, by, number), expected, "{role:?} {number}");
        }
        let everybody = [Role::Operate, Role::Keys, Role::Held, Role::Erase, Role::Audit];
        assert!(everybody.into_iter().all(|role| may(&read(""), role, &alice, 1001)));
        assert!(![Role::Reveal, Role::Approve].into_iter().any(|role| may(&read(""), role, &alice, 1001)));
    }
}
