//! Stored rows under the policy of now, table by table: staged beside a run, switched alone, and the past removed beside it again.

mod marker;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use audit::{Event, Hash, Hex, Name};
use change::{Clock, Error, Kind, Result, TableName, Timestamp};
use gate::{KeyRing, Policy, Remasker, Vault};
use lake::{Lake, LakeTable, Layer, Past, Strict};
use serde::Serialize;

use self::marker::Marker;
use crate::audit::{Auditor, random};
use crate::clock::SystemClock;
use crate::error_policy::{self, Action};
use crate::project::Project;
use crate::vault::VaultFile;
use crate::{assemble, entities, keys, turn};

const LOCK_FILE: &str = "remask.lock";

/// What one table's remasking has done.
#[derive(Serialize)]
pub(crate) struct Receipt {
    pub(crate) table: String,
    policy: String,
    key_epoch: Option<u32>,
    pub(crate) columns: Vec<String>,
    versions: Vec<(String, u64)>,
    /// The place in the source up to which the rows were there at the switch, hexadecimal; null after a kill between switch and receipt.
    position: Option<String>,
    pub(crate) files: usize,
    pub(crate) files_staged: usize,
    pub(crate) objects_removed: u64,
    done_at: Timestamp,
    lockgate: &'static str,
}

/// A project whose stored rows are brought under its policy.
pub(crate) struct Remasking {
    pub(crate) project: Project,
    pub(crate) lake: Arc<Lake>,
    pub(crate) keys: Option<KeyRing>,
    pub(crate) vault: Arc<VaultFile>,
    pub(crate) clock: Arc<dyn Clock>,
    remasker: Remasker,
}

/// A table whose newest version is as the policy wants it; what was before is still there.
pub(crate) struct Switched {
    receipt: Receipt,
    past: Vec<Past>,
}

/// Whether this is the trouble of one table, which keeps no other from being remasked.
pub(crate) fn is_of_one_table(error: &Error) -> bool {
    error_policy::table_action(error.kind()) == Action::StopTable
}

/// The right to remask in a project folder: one at a time, so that none stages what another has staged.
///
/// # Errors
/// `Unavailable` while another one goes on.
pub(crate) fn only_one(state_dir: &Path) -> Result<File> {
    let unusable = |error| turn::unusable(state_dir, error);
    std::fs::create_dir_all(state_dir).map_err(unusable)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(state_dir.join(LOCK_FILE));
    let file = file.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Unavailable, "another `lockgate remask` goes on in this project folder")
                .fix("Wait for it to end."))
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

impl Remasking {
    /// # Errors
    /// Those of keys, vault and lake.
    pub(crate) async fn open(project: Project, policy: &Policy) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let keys = keys::load(policy.keys(), &project.dir)?;
        let vault = Arc::new(VaultFile::open(&project.state_dir(), keys.clone())?);
        let remasker = policy.remasker(keys.clone(), Some(vault.clone() as Arc<dyn Vault>), clock.clone());
        let remasker = match entities::load(policy, &project.dir)? {
            Some(model) => remasker.with_entities(model)?,
            None => remasker,
        };
        let lake = assemble::lake(&project).await?;
        Ok(Self { project, lake, keys, vault, clock, remasker })
    }

    /// The layers of a table that the policy wants otherwise; none of a table that cannot be remasked, which the switch says.
    pub(crate) async fn strict(&self, table: &TableName) -> Result<[Option<Strict>; 2]> {
        let mut found = [None, None];
        for (found, layer) in found.iter_mut().zip(layers(table)?) {
            *found = match self.lake.stricter(&layer, &self.remasker).await {
                Err(error) if is_of_one_table(&error) => None,
                strict => strict?,
            };
        }
        Ok(found)
    }

    /// Switches both layers of a table and ends their history; `None` when there is nothing to do.
    ///
    /// # Errors
    /// `Privacy`, `Contract` or `Data` when the policy cannot be computed from what is stored; `Conflict` when another program has changed
    /// rows; those of the lake.
    pub(crate) async fn switch(&self, table: &TableName) -> Result<Option<Switched>> {
        let layers = layers(table)?;
        let left = Marker::read(&self.lake, table).await?;
        let mut strict = Vec::new();
        for layer in &layers {
            match self.lake.stricter(layer, &self.remasker).await? {
                Some(found) => strict.push((layer, found)),
                // Staged under a policy that is not that of now.
                None => self.lake.discard_staged(layer).await?,
            }
        }
        // A kill may have come between: the columns that were to change are in the marker. What a failure left says nothing.
        let begun = self.has_begun(&layers, left.as_ref()).await?;
        if strict.is_empty() && !begun {
            if left.is_some() {
                Marker::remove(&self.lake, &table.to_string()).await?;
            }
            return Ok(None);
        }
        let mut marker = left.filter(|_| begun).unwrap_or_default();
        for (layer, found) in &strict {
            marker.add(&layer.to_string(), found.columns(), found.stored());
        }
        marker.put(&self.lake, table).await?;
        let stamp = self.remasker.stamp()?;
        let mut receipt = Receipt {
            table: table.to_string(),
            policy: stamp.policy_hash,
            key_epoch: stamp.key_epoch,
            columns: marker.columns,
            versions: Vec::new(),
            position: None,
            files: 0,
            files_staged: 0,
            objects_removed: 0,
            done_at: 0,
            lockgate: env!("CARGO_PKG_VERSION"),
        };
        let index_dir = self.project.state_dir().join("index");
        let mut switched = Vec::new();
        for (layer, found) in strict {
            let done = self.lake.remask(found, &index_dir, self.clock.now()).await?;
            receipt.versions.push((layer.to_string(), done.version));
            receipt.position = done.at.as_ref().map(|at| at.to_hex());
            receipt.files += done.files;
            receipt.files_staged += done.staged;
            switched.push((layer, done));
        }
        let mut past = Vec::new();
        for layer in &layers {
            past.extend(self.lake.end_history(layer, self.clock.now()).await?);
        }
        for (layer, done) in &switched {
            self.lake.keep_index(layer, done, &index_dir).await?;
        }
        Ok(Some(Switched { receipt, past }))
    }

    /// Whether the remasking that has left a marker has changed a layer: else there is nothing to end, whatever it was going to do.
    async fn has_begun(&self, layers: &[LakeTable], left: Option<&Marker>) -> Result<bool> {
        let Some(marker) = left else { return Ok(false) };
        for layer in layers {
            if self.lake.stamp(layer).await?.is_some_and(|stamp| marker.has_begun(&layer.to_string(), &stamp)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what a switched table was, and writes down that it is done. Others may work on the table.
    ///
    /// # Errors
    /// Those of the lake, of the folder of receipts and of the audit log. Remasking again goes on.
    pub(crate) async fn finish(&self, Switched { mut receipt, past }: Switched, auditor: &Auditor) -> Result<Receipt> {
        for past in past {
            receipt.objects_removed += past.remove().await?;
        }
        receipt.done_at = self.clock.now();
        self.record(&receipt, auditor)?;
        Marker::remove(&self.lake, &receipt.table).await?;
        Ok(receipt)
    }

    fn record(&self, receipt: &Receipt, auditor: &Auditor) -> Result<()> {
        let text = serde_json::to_vec_pretty(receipt).map_err(|_| Error::new(Kind::Bug, "a receipt is not JSON"))?;
        let folder = self.project.state_dir().join("receipts");
        let path = folder.join(format!("remask-{}.json", Hex::of(&random::<8>()?).as_str()));
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &text)).map_err(|error| {
            Error::new(Kind::Full, format!("cannot write the receipt {}", path.display()))
                .source(error)
                .fix("Free space there; then do this again.")
        })?;
        auditor.record(Event::Remasked {
            table: Name::new(&receipt.table),
            policy: Hex::new(&*receipt.policy)?,
            columns: receipt.columns.iter().map(Name::new).collect(),
            position: receipt.position.as_deref().map(Hex::new).transpose()?,
            receipt: Hash::of(&[&text]),
        })
    }
}

fn layers(table: &TableName) -> Result<[LakeTable; 2]> {
    Ok([LakeTable::new(table.clone(), Layer::Changes)?, LakeTable::new(table.clone(), Layer::Current)?])
}
