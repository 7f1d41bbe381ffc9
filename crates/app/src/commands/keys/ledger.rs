//! `lockgate keys show`, `rotate`, `retire`: the epochs of the key, a new one, and the end of one that nothing needs. No key is ever printed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use audit::{Event, Hex, Name, Program};
use change::{Clock, Error, Kind, Result, TableName};
use comfy_table::{ContentArrangement, Table, presets};
use gate::{KeyEpoch, KeyRing, Policy};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::alone::{Alone, alone};
use crate::audit::{Auditor, random};
use crate::clock::SystemClock;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::rotation::{Need, Needs};
use crate::turn::Work;
use crate::{assemble, keys};

/// What is done with the epochs.
pub(super) enum Act<'a> {
    Show { json: bool },
    Rotate { compromised: bool, out: Option<&'a Path> },
    Retire { epoch: u32, out: Option<&'a Path> },
}

pub(super) async fn run(dir: &Path, act: Act<'_>) -> Result<Outcome> {
    let read = match act {
        Act::Show { .. } => Project::with_policy(dir).map(|(project, policy)| (project, policy, None)),
        Act::Rotate { .. } | Act::Retire { .. } => {
            alone(dir, Work::Keys).await?.map(|Alone { project, policy, turn }| (project, policy, Some(turn)))
        }
    };
    let (project, policy, _turn) = match read {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let reference = policy.keys().map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::Config, "policy.yaml names no keys")
            .fix("Add `keys: file:./keys/dev.key`; `lockgate init` makes such a file.")
    })?;
    let text = keys::text(&reference, &project.dir)?;
    let ring = KeyRing::parse(&text).map_err(|error| error.context(&reference))?;
    let lake = assemble::lake(&project).await?;
    let needs = Needs::of(&project, &policy, &lake, &ring).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let auditor = Auditor::open(&project, clock.clone(), Program::Keys).await?;
    let office = Office { project, policy, reference, text, ring, needs, clock, auditor };
    let done = match act {
        Act::Show { json } => office.show(json),
        Act::Rotate { compromised, out } => office.rotate(compromised, out).await,
        Act::Retire { epoch, out } => office.retire(epoch, out),
    };
    office.auditor.close().await?;
    done
}

/// All that is needed to decide about keys.
struct Office {
    project: Project,
    policy: Policy,
    reference: String,
    text: Zeroizing<String>,
    ring: KeyRing,
    needs: Needs,
    clock: Arc<dyn Clock>,
    auditor: Arc<Auditor>,
}

/// An epoch, as `--json` prints it.
#[derive(Serialize)]
struct Printed {
    epoch: u32,
    state: &'static str,
    wraps: Option<u32>,
    created: Option<String>,
    compromised: Option<String>,
    retired: Option<String>,
    fingerprint: String,
    needed_by: Vec<String>,
}

impl Office {
    #[allow(clippy::print_stdout)]
    fn show(&self, json: bool) -> Result<Outcome> {
        self.auditor.record(Event::KeysShown {})?;
        let printed: Vec<Printed> = self.ring.epochs()?.into_iter().map(|epoch| self.printed(epoch)).collect();
        if json {
            let text = serde_json::to_string_pretty(&printed)
                .map_err(|error| Error::new(Kind::Bug, "the epochs are not JSON").source(error))?;
            println!("{text}");
            return Ok(Outcome::Done);
        }
        println!("keys: {}", self.reference);
        let mut lines = Table::new();
        lines.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        lines.set_header(["epoch", "state", "wraps", "created", "retired", "fingerprint", "needed by"]);
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        for epoch in printed {
            lines.add_row([
                epoch.epoch.to_string(),
                epoch.state.to_owned(),
                or_unknown(epoch.wraps.map(|wraps| wraps.to_string())),
                or_unknown(epoch.created),
                or_unknown(epoch.retired),
                epoch.fingerprint,
                epoch.needed_by.join("\n"),
            ]);
        }
        println!("{lines}");
        Ok(Outcome::Done)
    }

    fn printed(&self, epoch: KeyEpoch) -> Printed {
        let state = match &epoch {
            KeyEpoch { retired: Some(_), .. } => "retired",
            KeyEpoch { current: true, .. } => "current",
            KeyEpoch { compromised: Some(_), .. } => "compromised",
            _ => "older",
        };
        Printed {
            epoch: epoch.epoch,
            state,
            wraps: epoch.wraps,
            created: epoch.created,
            compromised: epoch.compromised,
            retired: epoch.retired,
            fingerprint: epoch.fingerprint,
            needed_by: self.needs.of_epoch(epoch.epoch).map(ToString::to_string).collect(),
        }
    }

    #[allow(clippy::print_stdout)]
    async fn rotate(&self, compromised: bool, out: Option<&Path>) -> Result<Outcome> {
        self.check_out(out)?;
        let random = Zeroizing::new(random()?);
        let text = KeyRing::rotated(&self.text, &random, self.clock.now(), compromised)?;
        let ring = KeyRing::parse(&text)?;
        let (from, to) = (self.ring.current_epoch(), ring.current_epoch());
        // Who has the file has every key in it.
        let exposed =
            self.ring.epochs()?.into_iter().map(|epoch| epoch.epoch).filter(|epoch| compromised || *epoch == from);
        let tables: BTreeSet<TableName> = exposed.flat_map(|epoch| self.needs.tables(epoch)).collect();
        let domains = self.policy.key_domains();
        self.auditor.record(Event::KeyRotated {
            from,
            to,
            fingerprint: Hex::new(ring.fingerprint()?)?,
            compromised,
            domains: domains.iter().map(Name::new).collect(),
            tables: tables.iter().map(Name::new).collect(),
        })?;
        self.write(&text, out)?;
        println!("epoch {to} is the current one from here on; it wraps epoch {from}");
        if compromised {
            let named = |names: Vec<String>| if names.is_empty() { "none".into() } else { names.join(", ") };
            println!("exposed: domains {}", named(domains.into_iter().map(str::to_owned).collect()));
            println!("exposed: tables {}", named(tables.iter().map(ToString::to_string).collect()));
            println!("no run starts before these tables are remasked");
        }
        self.say_next(out, "lockgate remask");
        Ok(Outcome::Done)
    }

    #[allow(clippy::print_stdout)]
    fn retire(&self, epoch: u32, out: Option<&Path>) -> Result<Outcome> {
        self.check_out(out)?;
        let text = KeyRing::retired(&self.text, epoch, self.clock.now())?;
        let needed: Vec<&Need> = self.needs.of_epoch(epoch).collect();
        if !needed.is_empty() {
            let needed: Vec<String> = needed.into_iter().map(ToString::to_string).collect();
            let what = format!("epoch {epoch} is still needed by {}", needed.join("; "));
            return Err(Error::new(Kind::Config, what).fix(
                "`lockgate remask` moves tables and sealed records; held rows go by `lockgate held`. What is made through older epochs, and what never rotates, needs them as long as it is stored.",
            ));
        }
        self.auditor.record(Event::KeyRetired { epoch, fingerprint: Hex::new(self.ring.fingerprint_of(epoch)?)? })?;
        self.write(&text, out)?;
        println!("the key of epoch {epoch} is out of the file; destroy its copies elsewhere, too");
        self.say_next(out, "lockgate keys show");
        Ok(Outcome::Done)
    }

    /// The new text must have a place before a key is made.
    fn check_out(&self, out: Option<&Path>) -> Result<()> {
        match (keys::is_file(&self.reference), out) {
            (false, None) => Err(Error::new(
                Kind::Config,
                format!("the keys are at {}, where this program does not write", self.reference),
            )
            .fix("Name a file for the new text of the keys: --out FILE. It says what to do with it.")),
            _ => Ok(()),
        }
    }

    fn write(&self, text: &str, out: Option<&Path>) -> Result<()> {
        match out {
            Some(path) => keys::write_out(path, text),
            None if keys::put(&self.reference, &self.project.dir, text)? => Ok(()),
            None => Err(Error::new(Kind::Bug, "a new text of the keys has no place")),
        }
    }

    #[allow(clippy::print_stdout)]
    fn say_next(&self, out: Option<&Path>, next: &str) {
        if let Some(out) = out {
            let out = out.display();
            let put = match self.reference.split_once(':') {
                Some(("env", name)) => format!("set {name} to the text of {out}, wherever this program is started"),
                Some(("vault", place)) if place.starts_with("kv/") => {
                    format!(
                        "put the text of {out} into {place} as a new version (vault kv patch MOUNT/PATH FIELD=@{out})"
                    )
                }
                Some(("vault", place)) => format!(
                    "encrypt {out} by the transit key and put the answer into the file of {place} (vault write -field=ciphertext MOUNT/encrypt/KEY plaintext=$(base64 -w0 {out}))"
                ),
                Some(("file", path)) => format!("put {out} in place of {path}"),
                _ => format!("lockgate keys wrap {} --from file:{out}", self.reference),
            };
            println!("1. {put}\n2. keep a safe copy, and destroy {out}\n3. {next}");
        } else {
            println!("keep a safe copy of the key file\nnext: {next}");
        }
    }
}
