//! Which policy may come into force: what it changes, how many people must have approved that, who has, and the text that is in force.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use audit::{Approval, Event, Hash, Hex, Name, Program, Standing};
use change::{Error, Kind, Result};
use gate::{Difference, Effect, Policy};

use crate::audit::Auditor;
use crate::clock::SystemClock;
use crate::door::is_among;
use crate::project::Project;
use crate::roles::Role;

/// The text of the policy in force, in the state folder.
const FILE: &str = "policy-in-force.yaml";
/// A text that is to take its place; a kill may leave it.
const UNNAMED: &str = "policy-in-force.yaml.new";
/// Digits of a hash by which somebody names a policy.
pub(crate) const DIGITS: usize = 12;
/// Differences that an error lists.
const LISTED_MAX: usize = 20;

/// What a policy changes of the one in force.
pub(crate) struct Change {
    /// None when there is no policy in force to compare with, or when only their compiled forms differ.
    pub(crate) differences: Vec<Difference>,
    /// So many different people must have approved it.
    pub(crate) approvals: usize,
}

/// The project's policy, beside the one in force.
pub(crate) struct Candidate {
    /// SHA-256 of its text.
    pub(crate) file: Hash,
    policy: Hex,
    /// The hash and text of the policy in force; `None` when it is not known.
    before: Option<(Hash, String)>,
    /// Whether [`FILE`] has that text.
    kept: bool,
    /// `None` when it does what the policy in force does.
    pub(crate) change: Option<Change>,
    /// Who may approve it; nobody when no approval is asked for.
    pub(crate) may: Vec<String>,
    /// Who has: each person once, the first one first.
    pub(crate) approved: Vec<Approval>,
}

/// Whether a policy needs nobody's approval (`None`), or how many: one when it only tightens what is in force; else two.
fn judge(before: Option<&Policy>, now: &Policy) -> Option<Change> {
    let Some(before) = before else { return Some(Change { differences: Vec::new(), approvals: 2 }) };
    let differences = before.changes_to(now);
    if differences.is_empty() && before.explain().policy_hash == now.explain().policy_hash {
        return None;
    }
    let tightens = !differences.is_empty() && differences.iter().all(|found| found.effect == Effect::Tightens);
    Some(Change { differences, approvals: if tightens { 1 } else { 2 } })
}

/// Refuses a policy that may not come into force, before anything is done under it.
///
/// # Errors
/// As [`Candidate::allowed`]; those of the audit log.
pub(crate) async fn check(project: &Project, policy: &Policy, program: Program) -> Result<()> {
    if project.file.roles.of(Role::Approve).is_none() {
        return Ok(());
    }
    let auditor = Auditor::open(project, Arc::new(SystemClock::new()), program).await?;
    let allowed = Candidate::allowed(project, policy, &auditor);
    auditor.close().await?;
    allowed.map(|_| ())
}

impl Candidate {
    /// Compares the project's policy with the one in force. Where approvals are asked for, that is the one that the audit log says, whatever
    /// lies in the state folder.
    ///
    /// # Errors
    /// `Privacy` when the audit log was changed; `Full` when the state folder cannot be read.
    pub(crate) fn of(project: &Project, policy: &Policy, auditor: &Auditor) -> Result<Self> {
        let may = project.file.roles.of(Role::Approve).unwrap_or_default().to_vec();
        let standing = if may.is_empty() { None } else { Some(auditor.standing()?) };
        let (text, kept) = text_in_force(project, standing.as_ref())?;
        let parsed = text.as_ref().and_then(|text| Policy::parse(text, FILE).ok());
        let file = Hash::of(&[project.policy_text.as_bytes()]);
        let mut counted = BTreeSet::new();
        let mut approved = standing.map(|standing| standing.approvals).unwrap_or_default();
        approved.reverse();
        approved.retain(|approval| {
            approval.file == file && is_among(&may, &approval.by, approval.number) && counted.insert(approval.number)
        });
        Ok(Self {
            file,
            policy: Hex::new(policy.explain().policy_hash)?,
            before: text.map(|text| (Hash::of(&[text.as_bytes()]), text)),
            kept,
            change: judge(parsed.as_ref(), policy),
            may,
            approved,
        })
    }

    /// As [`Candidate::of`], of a policy that may come into force. One that may not is written down as refused.
    ///
    /// # Errors
    /// `Config` when approvals are missing; else as [`Candidate::of`].
    pub(crate) fn allowed(project: &Project, policy: &Policy, auditor: &Auditor) -> Result<Self> {
        let candidate = Self::of(project, policy, auditor)?;
        match &candidate.change {
            Some(change) if candidate.missing() > 0 => {
                let (approvals, needed) = (candidate.approved.len() as u32, change.approvals as u32);
                auditor.record(Event::PolicyRefused { file: candidate.file, approvals, needed })?;
                Err(candidate.refusal(change))
            }
            _ => Ok(candidate),
        }
    }

    /// So many more people must approve it.
    pub(crate) fn missing(&self) -> usize {
        match &self.change {
            Some(change) if !self.may.is_empty() => change.approvals.saturating_sub(self.approved.len()),
            _ => 0,
        }
    }

    /// The digits by which it is approved.
    pub(crate) fn digits(&self) -> String {
        self.file.to_string()[..DIGITS].to_owned()
    }

    fn refusal(&self, change: &Change) -> Error {
        let (has, needs) = (self.approved.len(), change.approvals);
        let why = match &self.before {
            Some(_) => "policy.yaml is not the policy in force",
            None => "it is not known which policy is in force",
        };
        let mut lines = vec![format!("{why}, and policy.yaml has {has} of the {needs} approvals that it needs")];
        lines.extend(change.differences.iter().take(LISTED_MAX).map(|found| {
            let Difference { place, before, after, why, .. } = found;
            format!("  {} {place}: {before} becomes {after}: {why}", word(found.effect))
        }));
        if let Some(more @ 1..) = change.differences.len().checked_sub(LISTED_MAX) {
            lines.push(format!("  and {more} more"));
        }
        let fix = format!(
            "{} may approve it: `lockgate policy approve` shows it, `lockgate policy approve --hash {}` approves it. Or put the policy in force back: .lockgate/{FILE}.",
            self.may.join(", "),
            self.digits()
        );
        Error::new(Kind::Config, lines.join("\n")).fix(fix)
    }

    /// Puts the policy in force: nothing is written under it before the audit log says so. One that does what the policy in force does leaves
    /// that as it is, and the approvals of a next one with it.
    ///
    /// # Errors
    /// `Full` when the state folder or the audit log cannot be written.
    pub(crate) fn put_in_force(&self, project: &Project, auditor: &Auditor) -> Result<()> {
        let text = match (&self.change, &self.before) {
            (None, _) if self.kept => return Ok(()),
            (None, Some((_, before))) => before,
            _ => &project.policy_text,
        };
        let folder = project.state_dir();
        let failed = |error| unusable(&folder, error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        // One at a time: runs may start beside each other.
        let locked = File::open(&folder).map_err(failed)?;
        locked.lock().map_err(failed)?;
        write(&folder, text).map_err(failed)?;
        if let Some(change) = &self.change {
            auditor.record(self.event(change))?;
        }
        std::fs::rename(folder.join(UNNAMED), folder.join(FILE)).and_then(|()| locked.sync_all()).map_err(failed)
    }

    fn event(&self, change: &Change) -> Event {
        let many = |effect| change.differences.iter().filter(|found| found.effect == effect).count() as u32;
        Event::PolicyInForce {
            from: self.before.as_ref().map(|(hash, _)| *hash),
            file: self.file,
            policy: self.policy.clone(),
            loosens: many(Effect::Loosens),
            alters: many(Effect::Alters),
            tightens: many(Effect::Tightens),
            approvers: self.approved.iter().map(|approval| approval.by.clone()).collect(),
        }
    }

    /// Records that this user approves it.
    ///
    /// # Errors
    /// `Full` when the audit log cannot be written: the approval is then none.
    pub(crate) fn approve(&mut self, auditor: &Auditor, by: &Name, number: u32) -> Result<()> {
        let (file, policy) = (self.file, self.policy.clone());
        auditor.record(Event::PolicyApproved { by: by.clone(), number, file, policy })?;
        self.approved.push(Approval { by: by.clone(), number, file });
        Ok(())
    }
}

/// The text of the policy in force, and whether [`FILE`] has it. With the audit log's word for it, only a text with that hash: one that a kill
/// has left unnamed, or the project's own, too.
fn text_in_force(project: &Project, standing: Option<&Standing>) -> Result<(Option<String>, bool)> {
    let folder = project.state_dir();
    let read = |name: &str| match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&folder, error)),
    };
    let kept = read(FILE)?;
    let Some(standing) = standing else {
        let is_kept = kept.is_some();
        return Ok((kept, is_kept));
    };
    let is_in_force = |text: &String| standing.in_force == Some(Hash::of(&[text.as_bytes()]));
    if kept.as_ref().is_some_and(is_in_force) {
        return Ok((kept, true));
    }
    let others = [read(UNNAMED)?, Some(project.policy_text.clone())];
    Ok((others.into_iter().flatten().find(is_in_force), false))
}

/// Writes a text that is to take the place of [`FILE`], with the permissions that the file has.
fn write(folder: &Path, text: &str) -> std::io::Result<()> {
    let mode = match std::fs::metadata(folder.join(FILE)) {
        Ok(file) => file.permissions().mode() & 0o777,
        Err(error) if error.kind() == ErrorKind::NotFound => 0o600,
        Err(error) => return Err(error),
    };
    let path = folder.join(UNNAMED);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Loosens => "LOOSENS",
        Effect::Alters => "alters",
        Effect::Tightens => "tightens",
    }
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("the policy in force cannot be read or kept in {}", folder.display()))
        .source(error)
        .fix("Free space there, and give this user its files.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Policy {
        let text = format!("profile: none\nkeys: file:./k\ntables:\n  db.public.t:\n    id: keep\n{rules}");
        Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    #[test]
    fn what_only_tightens_needs_one_and_everything_else_two() {
        let cases = [
            ("    v: keep\n", "    v: keep\n", None),
            ("    v: keep\n", "    # why\n    v: { transform: keep, reason: x }\n", None),
            ("    v: keep\n", "    v: drop\n", Some(1)),
            ("    v: keep\n    w: keep\n", "    v: zip3\n", Some(1)),
            ("    v: drop\n", "    v: keep\n", Some(2)),
            ("", "    v: zip3\n", Some(2)),
            ("    v: hmac_token(a)\n", "    v: hmac_token(b)\n", Some(2)),
            ("    v: keep\n    w: drop\n", "    v: drop\n    w: keep\n", Some(2)),
            ("    v: keep\n    w: zip3\n", "    v: drop\n    w: geo_state\n", Some(2)),
            ("", "max_invalid_percent: 5\n", Some(2)),
            ("max_invalid_percent: 5\n", "", Some(1)),
            ("", "held_days: 30\n", Some(2)),
            ("    \"*\": { new_columns: halt }\n", "", Some(2)),
            ("", "    \"*\": { new_columns: halt }\n", Some(1)),
        ];
        for (before, now, expected) in cases {
            let found = judge(Some(&policy(before)), &policy(now)).map(|change| change.approvals);
            assert_eq!(found, expected, "{before:?} to {now:?}");
        }
        assert_eq!(judge(None, &policy("")).map(|change| change.approvals), Some(2));
    }
}
