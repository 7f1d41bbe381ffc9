//! What the log has of the policy in force, of approvals of the next one, and of what the last run had in force.

use change::Result;

use crate::chain::read_back;
use crate::entry::{Entry, Line};
use crate::log::tampered;
use crate::{Event, Hash, InForce, Log, MacKey, Name};

/// The policy that came into force last, and every approval since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// SHA-256 of its text; `None` when the log knows of none.
    pub in_force: Option<Hash>,
    /// Approvals since then, of whatever text, newest first.
    pub approvals: Vec<Approval>,
}

/// Somebody has approved a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The user of the machine.
    pub by: Name,
    /// The user's number.
    pub number: u32,
    /// SHA-256 of the policy's text.
    pub file: Hash,
}

impl Log {
    /// Reads the log back to where a policy came into force last. Each entry on the way is proven by the chain of hashes up to the newest one,
    /// which a head or a MAC proves; an approval without a MAC of the key does not count.
    ///
    /// # Errors
    /// `Privacy` when the log is not what its writers left; `Unavailable` when it cannot be read.
    pub fn standing(&mut self) -> Result<Standing> {
        let (file, bytes, newest, macs) = self.taken_in()?;
        let mut standing = Standing::default();
        read_back(file, bytes, newest, |line| standing.take(line, macs))?;
        Ok(standing)
    }

    /// What the last run had in force: the log is read back to its start, as [`Log::standing`] does; `None` when there was none.
    ///
    /// # Errors
    /// As [`Log::standing`].
    pub fn in_force(&mut self) -> Result<Option<InForce>> {
        let (file, bytes, newest, _) = self.taken_in()?;
        let mut found = None;
        read_back(file, bytes, newest, |line| in_force_by(line, &mut found))?;
        Ok(found)
    }
}

/// Takes in an entry; whether it says what the last run had in force, or that nobody knows.
pub(crate) fn in_force_by(line: &Line<'_>, found: &mut Option<InForce>) -> Result<bool> {
    if !may_be(line.body, b"run_started") && !may_be(line.body, b"begun") {
        return Ok(false);
    }
    *found = match serde_json::from_slice::<Entry>(line.body).map(|entry| entry.what) {
        Ok(Event::RunStarted { config, policy, key_epoch, key_fingerprint, .. }) => {
            Some(InForce { config, policy, key_epoch, key_fingerprint })
        }
        Ok(Event::Begun { in_force, .. }) => in_force,
        // A newer version wrote it.
        _ => None,
    };
    Ok(true)
}

impl Standing {
    /// Takes in an entry; whether it is the one that everything after it counts from.
    fn take(&mut self, line: &Line<'_>, macs: &MacKey) -> Result<bool> {
        if !may_be(line.body, b"policy_") {
            return Ok(false);
        }
        let proven = line.mac.is_some_and(|mac| macs.proves(&line.hash, &mac));
        let entry: Entry = serde_json::from_slice(line.body).map_err(|_| tampered("an entry cannot be read"))?;
        match entry.what {
            Event::PolicyInForce { file, .. } if proven => self.in_force = Some(file),
            // Without it older approvals would count again.
            Event::PolicyInForce { .. } => return Err(tampered("an entry was written by somebody without its key")),
            Event::PolicyApproved { by, number, file, .. } if proven => {
                self.approvals.push(Approval { by, number, file });
            }
            _ => {}
        }
        Ok(self.in_force.is_some())
    }
}

/// Whether an entry's bytes can be of an event whose word begins so: a log is long, and has few of them.
fn may_be(body: &[u8], word: &[u8]) -> bool {
    const EVENT: &[u8] = b"\"what\":{\"event\":\"";
    let at = body.windows(EVENT.len()).position(|part| part == EVENT);
    at.is_some_and(|at| body[at + EVENT.len()..].starts_with(word))
}
