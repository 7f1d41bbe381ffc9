//! What the log has of the policy in force, and of approvals of the next one.

use change::{Error, Kind, Result};

use crate::backwards::Backwards;
use crate::entry::{Entry, Line, chained};
use crate::log::tampered;
use crate::{Event, Hash, Log, MacKey, Name};

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
        let mut lines = Backwards::new(file, bytes);
        let mut line = || {
            let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
            lines.line().map_err(unreadable).map(|line| line.map(|line| line.text))
        };
        let mut standing = Standing::default();
        let (mut text, mut expected) = (line()?, newest);
        while let Some(newer) = text {
            let older = line()?;
            let previous = match older.as_deref().map(Line::read) {
                None => Hash::default(),
                Some(read) => read.ok_or_else(|| tampered("an entry cannot be read"))?.hash,
            };
            let entry = Line::read(&newer).filter(|newer| newer.hash == expected);
            let entry = entry.filter(|newer| chained(&previous, newer.body) == newer.hash);
            let entry = entry.ok_or_else(|| tampered("its chain of hashes is broken"))?;
            if standing.take(&entry, macs)? {
                break;
            }
            (text, expected) = (older, previous);
        }
        Ok(standing)
    }
}

impl Standing {
    /// Takes in an entry; whether it is the one that everything after it counts from.
    fn take(&mut self, line: &Line<'_>, macs: &MacKey) -> Result<bool> {
        if !may_concern(line.body) {
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

/// Whether an entry's bytes can be one of these: a log is long, and has few of them.
fn may_concern(body: &[u8]) -> bool {
    const EVENT: &[u8] = b"\"what\":{\"event\":\"";
    let at = body.windows(EVENT.len()).position(|part| part == EVENT);
    at.is_some_and(|at| body[at + EVENT.len()..].starts_with(b"policy_"))
}
