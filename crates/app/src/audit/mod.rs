//! The project's audit log: which file, which key, what a run writes into it, and the anchor that gets copies of its heads.

mod anchor;
mod copies;
mod hold;
mod key;
mod news;
mod renewal;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::audit::{
    AnchorSeen, Event, Former, Hash, HeldAction, Hex, InForce, Log, Moment, Name, Opener, Program, PublicKey, Remains,
    Standing,
};
use change::{Clock, Error, Kind, Result};
use gate::PolicyStamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio_util::sync::CancellationToken;

pub(crate) use self::anchor::Anchor;
use self::copies::Copies;
use self::hold::Hold;
pub(crate) use self::key::existing_key;
pub(crate) use self::renewal::{renew, set_aside};
use crate::held::Witness;
use crate::project::Project;
use crate::user;
use crate::watch::{Seen, Watch};

/// How long a log that begins waits for its anchor.
const ANCHOR_PATIENCE: Duration = Duration::from_secs(10);
/// How often a run writes down what it has made durable.
const OBSERVE_EVERY: Duration = Duration::from_secs(10);
/// How often a process says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);
/// How often it looks whether that is due, and copies heads.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The folder of a project's audit log.
pub(crate) fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}

/// Whether the project has an audit log.
///
/// # Errors
/// `Full` when its folder cannot be looked at.
pub(crate) fn has_begun(project: &Project) -> Result<bool> {
    let folder = folder(&project.state_dir());
    Remains::of(&folder).have_begun().map_err(|error| unreadable(&folder, error))
}

/// The audit log, open for this process.
pub(crate) struct Auditor {
    log: Mutex<Log>,
    clock: Arc<dyn Clock>,
    copies: Option<Copies>,
    /// No renewal goes on while it is there: until the log is closed.
    hold: Mutex<Option<Hold>>,
    /// Cancelled at the end: nothing is written behind it.
    closed: CancellationToken,
    /// Cancelled once the log is found to be changed by something else.
    refused: CancellationToken,
}

/// Who opens a log: this process, for its user, by this `lockgate.yaml`.
fn opener(project: &Project, program: Program) -> Result<Opener> {
    let (writer, by) = (Hex::of(&random::<8>()?), Some(Name::new(user::name())));
    let (config, fips_module) = (Some(Hash::of(&[project.file_text.as_bytes()])), crate::fips::module());
    let (anchor, former, because, in_force) = (AnchorSeen::None, None, None, None);
    Ok(Opener { writer, program, by, config, fips_module, anchor, former, because, in_force })
}

impl Auditor {
    /// Opens the project's audit log, with a key that is made the first time.
    ///
    /// # Errors
    /// `Full` when it cannot be written, `Privacy` when it is not what its heads say or its key is open to others: what cannot be recorded is
    /// not done.
    pub(crate) async fn open(project: &Project, clock: Arc<dyn Clock>, program: Program) -> Result<Arc<Self>> {
        let folder = folder(&project.state_dir());
        let hold = Mutex::new(Some(Hold::beside_others(&project.state_dir()).await?));
        renewal::must_be_finished(project)?;
        let key = key::signing_key(project)?;
        let anchor = Anchor::of(project).await?;
        let (anchor_seen, former) = match has_begun(project)? {
            true => (AnchorSeen::None, None),
            false => look(anchor.as_ref(), &key.public()).await,
        };
        let copies = anchor.map(|anchor| Copies::of(&folder, anchor, key.public())).transpose()?;
        let opener = Opener { anchor: anchor_seen, former, ..opener(project, program)? };
        let log = Log::open(&folder, key, Moment::of(&*clock), opener)?;
        let (closed, refused) = (CancellationToken::new(), CancellationToken::new());
        let auditor = Arc::new(Self { log: Mutex::new(log), clock, copies, hold, closed, refused });
        let (beat, copy) = (beat(Arc::downgrade(&auditor)), copy(Arc::downgrade(&auditor)));
        // Beside each other: an anchor that takes long to answer must not look like a process that does not live.
        // Detached: it ends with the log. A heartbeat that is missing is a finding of the proof, and a copy that is missing fails `close`.
        tokio::spawn(async { tokio::join!(beat, copy) });
        Ok(auditor)
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
        self.log().standing()
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
        let written = self.log().append_all(Moment::of(&*self.clock), events);
        self.judged(written).map(|_| ())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| {
            if error.kind() == Kind::Privacy {
                self.refused.cancel();
            }
        })
    }

    /// Waits until the log is found to be changed by something else: nothing can be recorded any more.
    pub(crate) async fn refused(&self) {
        self.refused.cancelled().await;
    }

    /// Records a run's start, and what is another than at the last one, as the log has it.
    ///
    /// # Errors
    /// As [`Auditor::record`] and [`Auditor::standing`].
    pub(crate) fn run_started(&self, project: &Project, stamp: &PolicyStamp, tables: usize) -> Result<()> {
        let now = InForce {
            config: Hash::of(&[project.file_text.as_bytes()]),
            policy: Hex::new(&*stamp.policy_hash)?,
            key_epoch: stamp.key_epoch,
            key_fingerprint: stamp.key_fingerprint.as_deref().map(Hex::new).transpose()?,
        };
        let before = self.log().in_force();
        let before = self.judged(before)?;
        let mut events = before.as_ref().map(|before| changes(before, &now)).unwrap_or_default();
        let InForce { config, policy, key_epoch, key_fingerprint } = now;
        let tables = u32::try_from(tables).unwrap_or(u32::MAX);
        events.push(Event::RunStarted { config, policy, key_epoch, key_fingerprint, tables });
        self.record_all(events)
    }

    /// Writes down what a run does until `done`: what became durable, what was stopped or changed.
    pub(crate) async fn observe(self: Arc<Self>, watch: Arc<Watch>, stamp: PolicyStamp, done: CancellationToken) {
        let Ok(policy) = Hex::new(stamp.policy_hash) else { return };
        let mut recorded = Seen::default();
        loop {
            let last = tokio::select! {
                () = done.cancelled() => true,
                () = tokio::time::sleep(OBSERVE_EVERY) => false,
            };
            let seen = watch.seen(self.clock.now());
            let events = news::between(&recorded, &seen, &policy);
            if !events.is_empty() {
                match self.record_all(events) {
                    Ok(()) => recorded = seen,
                    // Nothing is forgotten: the next entry tells of everything since the last that was written.
                    Err(error) => tracing::error!(%error, "the audit log was not written"),
                }
            }
            if last {
                return;
            }
        }
    }

    /// Says that the process lives. The end of the log is looked at under its lock: nothing comes behind it.
    fn beat(&self) -> Result<()> {
        let mut log = self.log();
        if self.closed.is_cancelled() {
            return Ok(());
        }
        let written = log.append(Moment::of(&*self.clock), Event::Heartbeat {});
        self.judged(written).map(|_| ())
    }

    /// Copies heads to the anchor, once it was asked for heads that the log lacks.
    async fn copy_heads(&self) -> Result<bool> {
        let Some(copies) = &self.copies else { return Ok(true) };
        let log = self.log().id();
        let note = |head| {
            tracing::error!(head, "the anchor has heads of the audit log that the log lacks: it was set back");
            let mut log = self.log();
            if self.closed.is_cancelled() {
                return Ok(false);
            }
            self.judged(log.lacks(Moment::of(&*self.clock), head)).map(|()| true)
        };
        copies.ask(log, note).await?;
        copies.send().await
    }

    /// Ends the log of this process: signed, and its last head at the anchor.
    ///
    /// # Errors
    /// As [`Auditor::record`]; and `Unavailable` when the anchor lacks the last head.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = self.end().await;
        // Whoever still has this writes nothing with it.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).take();
        closed
    }

    async fn end(&self) -> Result<()> {
        // While it can still be written down that the anchor has others.
        let copied = self.copy_heads().await;
        {
            let mut log = self.log();
            let ended = log.end(Moment::of(&*self.clock));
            self.closed.cancel();
            self.judged(ended)?;
        }
        let copied = match copied {
            Ok(_) => self.copy_heads().await,
            Err(error) => Err(error),
        };
        copied.map(|_| ()).map_err(|error| {
            Error::new(Kind::Unavailable, "the last head of the audit log did not reach its anchor").source(error).fix(
                "Look at `audit.anchor` in lockgate.yaml; heads lie in .lockgate/audit, and the next command copies those that are missing.",
            )
        })
    }
}

/// Writes heartbeats until the log is closed.
async fn beat(auditor: Weak<Auditor>) {
    let Some(closed) = auditor.upgrade().map(|auditor| auditor.closed.clone()) else { return };
    let mut last = auditor.upgrade().map_or(Duration::ZERO, |auditor| auditor.clock.monotonic());
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(auditor) = auditor.upgrade() else { return };
        let now = auditor.clock.monotonic();
        if now.saturating_sub(last) >= HEARTBEAT_EVERY {
            match auditor.beat() {
                Ok(()) => last = now,
                Err(error) => tracing::error!(%error, "the audit log was not written"),
            }
        }
    }
}

/// Copies heads until the log is closed.
async fn copy(auditor: Weak<Auditor>) {
    let Some(closed) = auditor.upgrade().map(|auditor| auditor.closed.clone()) else { return };
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(auditor) = auditor.upgrade() else { return };
        if let Err(error) = auditor.copy_heads().await {
            tracing::warn!(%error, "a head of the audit log did not reach its anchor and will be sent again");
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

fn unreadable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("the audit log in {} cannot be read", folder.display()))
        .source(error)
        .fix("Give this user its files: what cannot be recorded is not done.")
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

#[cfg(test)]
mod tests;
