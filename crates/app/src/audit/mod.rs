//! The project's audit log: which file, which key, what a run writes into it, and the anchor that gets copies of its heads.

mod anchor;
mod news;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::audit::{
    AnchorSeen, Event, Former, Hash, Head, HeldAction, Hex, LOG_FILE, Log, Moment, Name, Opener, Program, PublicKey,
    SigningKey, Standing,
};
use change::{Clock, Error, Kind, Result};
use gate::PolicyStamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub(crate) use self::anchor::Anchor;
use crate::held::Witness;
use crate::project::Project;
use crate::secrets;
use crate::user::user;
use crate::watch::{Seen, Watch};

/// The key that signs heads, when `audit.key` names no other.
const KEY_FILE: &str = "keys/audit.key";
/// How long a log that begins waits for its anchor.
const ANCHOR_PATIENCE: Duration = Duration::from_secs(10);
/// How often a run writes down what it has made durable.
const OBSERVE_EVERY: Duration = Duration::from_secs(10);
/// How often a run says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);

/// The folder of a project's audit log.
pub(crate) fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}

/// The audit log, open for this process.
pub(crate) struct Auditor {
    log: Mutex<Log>,
    clock: Arc<dyn Clock>,
    anchor: Option<Anchor>,
    /// Lines of heads that the anchor does not have yet.
    unanchored: Mutex<Vec<(Head, String)>>,
    last: PathBuf,
}

/// What was in force at the last start, to tell what changed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct InForce {
    config: Hash,
    policy: Hex,
    key_epoch: Option<u32>,
    key_fingerprint: Option<Hex>,
}

impl Auditor {
    /// Opens the project's audit log, with a key that is made the first time.
    ///
    /// # Errors
    /// `Full` when it cannot be written, `Privacy` when it is not what its heads say or its key is open to others: what cannot be recorded is
    /// not done.
    pub(crate) async fn open(project: &Project, clock: Arc<dyn Clock>, program: Program) -> Result<Arc<Self>> {
        let key = signing_key(project)?;
        let folder = folder(&project.state_dir());
        let anchor = Anchor::of(project).await?;
        let (seen, former) = match Log::is_begun(&folder) {
            true => (AnchorSeen::None, None),
            false => look(anchor.as_ref(), &key.public()).await,
        };
        let by = Some(Name::new(user().0));
        let opener = Opener { writer: Hex::of(&random::<8>()?), program, by, anchor: seen, former };
        let log = Log::open(&folder, key, Moment::of(&*clock), opener)?;
        let last = folder.join("in-force.json");
        Ok(Arc::new(Self { log: Mutex::new(log), clock, anchor, unanchored: Mutex::default(), last }))
    }

    /// Writes an entry; it is durable when this returns.
    ///
    /// # Errors
    /// `Full` when it cannot be: the act must then not be done.
    pub(crate) fn record(&self, event: Event) -> Result<()> {
        self.record_all([event])
    }

    /// What the log has of the policy in force, and of approvals since.
    ///
    /// # Errors
    /// `Privacy` when the log was changed, `Unavailable` when it cannot be read.
    pub(crate) fn standing(&self) -> Result<Standing> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).standing()
    }

    /// Writes down that held rows are too old.
    pub(crate) fn witness(self: &Arc<Self>) -> Witness {
        let auditor = self.clone();
        Arc::new(move |table, rows| {
            let table = Name::new(table.to_string());
            auditor.record(Event::HeldDecided { action: HeldAction::Expired, table, rows })
        })
    }

    fn record_all(&self, events: impl IntoIterator<Item = Event>) -> Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let head = log.append_all(Moment::of(&*self.clock), events)?;
        self.keep(&log, head);
        Ok(())
    }

    fn keep(&self, log: &Log, head: Option<Head>) {
        if let (Some(_), Some(head), Some(line)) = (&self.anchor, head, log.head_line()) {
            self.unanchored.lock().unwrap_or_else(PoisonError::into_inner).push((head, line));
        }
    }

    /// Records a run's start, and what is another than at the last one.
    ///
    /// # Errors
    /// As [`Auditor::record`].
    pub(crate) fn run_started(&self, project: &Project, stamp: &PolicyStamp, tables: usize) -> Result<()> {
        let now = InForce {
            config: Hash::of(&[project.file_text.as_bytes()]),
            policy: Hex::new(&*stamp.policy_hash)?,
            key_epoch: stamp.key_epoch,
            key_fingerprint: stamp.key_fingerprint.as_deref().map(Hex::new).transpose()?,
        };
        let before: Option<InForce> =
            std::fs::read(&self.last).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut events = before.as_ref().map(|before| changes(before, &now)).unwrap_or_default();
        events.push(Event::RunStarted {
            config: now.config,
            policy: now.policy.clone(),
            key_epoch: now.key_epoch,
            key_fingerprint: now.key_fingerprint.clone(),
            tables: u32::try_from(tables).unwrap_or(u32::MAX),
        });
        self.record_all(events)?;
        let text = serde_json::to_vec(&now).map_err(|error| Error::new(Kind::Bug, "the audit log").source(error))?;
        std::fs::write(&self.last, text).map_err(|error| {
            Error::new(Kind::Full, format!("cannot write {}", self.last.display()))
                .source(error)
                .fix("Free space there.")
        })
    }

    /// Writes down what a run does until `done`: what became durable, what was stopped or changed, and that it lives.
    pub(crate) async fn observe(self: Arc<Self>, watch: Arc<Watch>, stamp: PolicyStamp, done: CancellationToken) {
        let Ok(policy) = Hex::new(stamp.policy_hash) else { return };
        let (mut recorded, mut beat_at) = (Seen::default(), self.clock.monotonic());
        loop {
            let last = tokio::select! {
                () = done.cancelled() => true,
                () = tokio::time::sleep(OBSERVE_EVERY) => false,
            };
            let seen = watch.seen(self.clock.now());
            let mut events = news::between(&recorded, &seen, &policy);
            if self.clock.monotonic().saturating_sub(beat_at) >= HEARTBEAT_EVERY {
                events.push(Event::Heartbeat {});
            }
            let beats = events.last() == Some(&Event::Heartbeat {});
            if !events.is_empty() {
                match self.record_all(events) {
                    Ok(()) => {
                        recorded = seen;
                        beat_at = if beats { self.clock.monotonic() } else { beat_at };
                    }
                    // Nothing is forgotten: the next entry tells of everything since the last that was written.
                    Err(error) => tracing::error!(%error, "the audit log was not written"),
                }
            }
            self.copy_heads().await;
            if last {
                return;
            }
        }
    }

    /// Copies heads to the anchor; what does not arrive is tried again at the next call.
    async fn copy_heads(&self) {
        let Some(anchor) = &self.anchor else { return };
        let mut waiting = std::mem::take(&mut *self.unanchored.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some((head, line)) = waiting.first() {
            if let Err(error) = anchor.keep(head, line).await {
                tracing::warn!(%error, "a head of the audit log did not reach its anchor and will be sent again");
                break;
            }
            waiting.remove(0);
        }
        self.unanchored.lock().unwrap_or_else(PoisonError::into_inner).splice(0..0, waiting);
    }

    /// Ends the log of this process: signed, and its last head at the anchor.
    ///
    /// # Errors
    /// As [`Auditor::record`]; and `Unavailable` when the anchor lacks heads.
    pub(crate) async fn close(&self) -> Result<()> {
        {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Moment::of(&*self.clock);
            let head = log.append(now, Event::Closed {})?;
            self.keep(&log, head);
            let head = log.sign_now(now)?;
            self.keep(&log, head);
        }
        self.copy_heads().await;
        match self.unanchored.lock().unwrap_or_else(PoisonError::into_inner).len() {
            0 => Ok(()),
            missing => Err(Error::new(
                Kind::Unavailable,
                format!("{missing} heads of the audit log did not reach their anchor"),
            )
            .fix("Look at `audit.anchor` in lockgate.yaml; the next run's heads cover these entries, too.")),
        }
    }
}

/// What the anchor has while a log begins. One that does not answer keeps nobody from starting: its heads contradict the new log all the same.
async fn look(anchor: Option<&Anchor>, key: &PublicKey) -> (AnchorSeen, Option<Former>) {
    let Some(anchor) = anchor else { return (AnchorSeen::None, None) };
    match tokio::time::timeout(ANCHOR_PATIENCE, anchor.newest(key)).await {
        Ok(Ok(Some(former))) => (AnchorSeen::Head, Some(former)),
        Ok(Ok(None)) => (AnchorSeen::Empty, None),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the anchor of the audit log cannot be asked for a log before this one");
            (AnchorSeen::Away, None)
        }
        Err(_) => {
            tracing::warn!("the anchor of the audit log does not answer; it was asked for a log before this one");
            (AnchorSeen::Away, None)
        }
    }
}

fn changes(before: &InForce, now: &InForce) -> Vec<Event> {
    let mut changed = Vec::new();
    if before.config != now.config {
        changed.push(Event::ConfigChanged { from: before.config, to: now.config });
    }
    if before.policy != now.policy {
        changed.push(Event::PolicyChanged { from: before.policy.clone(), to: now.policy.clone() });
    }
    if (before.key_epoch, &before.key_fingerprint) != (now.key_epoch, &now.key_fingerprint) {
        changed.push(Event::KeyChanged {
            from: before.key_fingerprint.clone(),
            to: now.key_fingerprint.clone(),
            epoch: now.key_epoch,
        });
    }
    changed
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::new(Kind::Unavailable, "the system gave no random numbers").source(error))?;
    Ok(bytes)
}

/// The key that `audit.key` refers to, else the project's own, which is made when there is neither key nor log.
fn signing_key(project: &Project) -> Result<SigningKey> {
    let path = project.dir.join(KEY_FILE);
    let failed = |error| unusable(&path, error);
    if project.file.audit.key.is_none() && !path.exists() {
        let log = folder(&project.state_dir()).join(LOG_FILE);
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            let what = format!("{} is missing, which signs the audit log {}", path.display(), log.display());
            return Err(Error::new(Kind::Privacy, what).fix(
                "Restore the key from its backup. Without one: keep the folder of the log elsewhere, so that a new log begins; `lockgate audit verify --before FOLDER` proves both.",
            ));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = SigningKey::generate(&Zeroizing::new(random()?));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    existing_key(project)
}

/// As [`signing_key`], and none is made.
///
/// # Errors
/// `Privacy` when it cannot be read or is open to others.
pub(crate) fn existing_key(project: &Project) -> Result<SigningKey> {
    if let Some(reference) = &project.file.audit.key {
        let secret = reference.resolve(&project.dir).map_err(|error| error.context("audit.key"))?;
        return SigningKey::parse(secret.reveal()).map_err(|error| error.context("audit.key"));
    }
    let path = project.dir.join(KEY_FILE);
    let failed = |error| unusable(&path, error);
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let what =
            format!("the key of the audit log {} is open to other users (mode {:o})", path.display(), mode & 0o777);
        return Err(Error::new(Kind::Privacy, what).fix(format!("Run: chmod 600 {}", path.display())));
    }
    let text = secrets::read(&path).map_err(failed)?;
    SigningKey::parse(&text).map_err(|error| error.context(path.display()))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Privacy, format!("the key of the audit log {} cannot be read or made", path.display()))
        .source(error)
        .fix("Make the folder writable, or name another place: audit: { key: ${file:PATH} }.")
}
