//! `roles:` of `lockgate.yaml`: which users of the machine may do what.

use std::collections::{BTreeMap, BTreeSet};

use change::{Problem, Severity};

use crate::project::PROJECT_FILE;
use crate::project_reader::Reader;

/// What a user of the machine may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Open stored values.
    Reveal,
    /// Approve policies.
    Approve,
    /// Run, repair, remask, release.
    Operate,
    /// Make, retire and wrap keys.
    Keys,
    /// See held rows and decide about them.
    Held,
    /// Erase persons, place and lift legal holds.
    Erase,
    /// Set the audit log aside.
    Audit,
}

/// Every role, in the order in which it is told of.
const ALL: [Role; 7] = [Role::Reveal, Role::Approve, Role::Operate, Role::Keys, Role::Held, Role::Erase, Role::Audit];

/// `roles:`, by role the users of the machine that have it, by name or number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles {
    named: BTreeMap<Role, Vec<String>>,
    line: u64,
}

impl Roles {
    pub(crate) fn read(roles: &mut Reader<'_>) -> Self {
        let written = roles.keys();
        let line = roles.line();
        let mut named = BTreeMap::new();
        for role in ALL {
            let users = roles.list(word(role));
            if users.iter().any(|user| user.trim().is_empty()) {
                roles.wrong(
                    Some(line),
                    &format!("roles.{} names nobody", word(role)),
                    "Name users of the machine, or leave the role out.",
                );
            }
            if written.iter().any(|key| key == word(role)) {
                named.insert(role, users);
            }
        }
        // One alone could never let a looser policy in.
        if named.get(&Role::Approve).is_some_and(|users| users.iter().collect::<BTreeSet<_>>().len() == 1) {
            roles.wrong(
                Some(line),
                "roles.approve names one user, and a policy that loosens needs two",
                "Name at least two users of the machine, or leave `approve` out: then no approval is asked for.",
            );
        }
        roles.end();
        Self { named, line }
    }

    /// The users who have a role; `None` where nobody is named.
    pub(crate) fn of(&self, role: Role) -> Option<&[String]> {
        self.named.get(&role).map(Vec::as_slice)
    }

    /// A note for each user who has several roles: apart, one hides nothing that the other does.
    pub(crate) fn notes(&self) -> Vec<Problem> {
        let mut by_user: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
        for (role, users) in &self.named {
            for user in users.iter().collect::<BTreeSet<_>>() {
                by_user.entry(user).or_default().push(word(*role));
            }
        }
        let shared = by_user.into_iter().filter(|(_, roles)| roles.len() > 1);
        shared
            .map(|(user, roles)| Problem {
                severity: Severity::Note,
                file: PROJECT_FILE.into(),
                line: Some(self.line),
                what: format!("{user} has more than one role: {}", roles.join(", ")),
                fix: "Give each role to somebody else, where there are enough of you.".into(),
            })
            .collect()
    }
}

/// As `lockgate.yaml` spells it.
pub(crate) fn word(role: Role) -> &'static str {
    match role {
        Role::Reveal => "reveal",
        Role::Approve => "approve",
        Role::Operate => "operate",
        Role::Keys => "keys",
        Role::Held => "held",
        Role::Erase => "erase",
        Role::Audit => "audit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::ProjectFile;

    const GOOD: &str = "lake: ./lake\nsources:\n  db:\n    postgres: { url: 'postgresql://u@db/x?sslmode=verify-full' }\n    tables: [public.t]\n";

    fn read(roles: &str) -> Result<Roles, Vec<Problem>> {
        ProjectFile::parse(&format!("{GOOD}roles: {{ {roles} }}\n")).map(|file| file.roles)
    }

    #[test]
    fn policies_are_approved_by_nobody_or_by_at_least_two() {
        assert!(read("reveal: [alice]").unwrap().of(Role::Approve).is_none());
        assert_eq!(read("approve: [alice, 1001]").unwrap().of(Role::Approve).unwrap(), ["alice", "1001"]);
        for wrong in ["approve: []", "approve: alice", "approve: [alice]", "approve: [alice, alice]"] {
            let problems = read(wrong).unwrap_err();
            assert!(problems.iter().any(|problem| problem.what.contains("approve")), "{wrong}: {problems:?}");
        }
    }

    #[test]
    fn a_role_that_is_not_known_or_names_nobody_is_refused() {
        for wrong in ["operator: [alice]", "keys: []", "keys: { alice: yes }", "held:", "held: [alice, '']"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_has_two_roles_is_said() {
        let roles = read("keys: [alice, alice], erase: [bob], held: [alice]").unwrap();
        let notes: Vec<String> = roles.notes().iter().map(|note| note.what.clone()).collect();
        assert_eq!(notes, ["alice has more than one role: keys, held"]);
        assert!(read("keys: [alice], erase: [bob]").unwrap().notes().is_empty());
    }
}
