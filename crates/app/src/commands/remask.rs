//! `lockgate remask`: what is stored already, under a policy that has become stricter; from the lake alone.

use std::path::Path;
use std::sync::Arc;

use audit::{Event, Hash, Hex, Name, Program};
use change::{Clock, Error, Kind, Result, TableName};
use gate::{Remasker, Vault};
use lake::{Lake, LakeTable, Layer};
use serde::Serialize;

use crate::alone::{Alone, alone};
use crate::assemble;
use crate::audit::{Auditor, random};
use crate::cli::Remask;
use crate::clock::SystemClock;
use crate::keys;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::rotation::seal_anew;
use crate::turn::Work;
use crate::vault::VaultFile;

/// Marks tables of which older versions still show what the policy hides now: a kill between the two steps must not leave them.
const FOLDER: [&str; 2] = ["_lockgate", "remasking"];

#[derive(Serialize)]
struct Receipt {
    table: String,
    policy: String,
    key_epoch: Option<u32>,
    columns: Vec<String>,
    versions: Vec<(String, u64)>,
    objects_removed: u64,
    done_at: change::Timestamp,
    lockgate: &'static str,
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
pub(crate) async fn run(dir: &Path, options: &Remask) -> Result<Outcome> {
    let Alone { project, policy, turn: _turn } = match alone(dir, Work::Remask).await? {
        Ok(alone) => alone,
        Err(problems) => return refused(&problems),
    };
    let tables: Vec<TableName> = policy.tables().filter(|table| options.names(table)).cloned().collect();
    if tables.is_empty() {
        return Err(Error::new(Kind::Config, "the policy has no such table").fix("Write it as source.schema.table."));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let keys = keys::load(policy.keys(), &project.dir)?;
    let vault = Arc::new(VaultFile::open(&project.state_dir(), keys.clone())?);
    let remasker = policy.remasker(keys.clone(), Some(vault.clone() as Arc<dyn Vault>), clock.clone());
    let lake = assemble::lake(&project).await?;
    let auditor = Auditor::open(&project, clock.clone(), Program::Remask).await?;
    let site = Site { project, lake, remasker, clock, auditor };
    let mut refusals = 0;
    for table in &tables {
        match site.table(table).await {
            Ok(Some(receipt)) => println!(
                "{table}: {} as the policy wants it now; {} objects of older versions removed",
                receipt.columns.join(", "),
                receipt.objects_removed
            ),
            Ok(None) => println!("{table}: nothing to do"),
            Err(error) if matches!(error.kind(), Kind::Privacy | Kind::Contract | Kind::Data) => {
                refusals += 1;
                eprintln!("{table}: {error}");
            }
            Err(error) => {
                site.auditor.close().await?;
                return Err(error.context(table));
            }
        }
    }
    if let Some(keys) = &keys {
        let records = seal_anew(&site.project, &site.lake, keys, &vault).await?;
        if records > 0 {
            site.auditor.record(Event::SealedAnew { epoch: keys.current_epoch(), records })?;
            println!("{records} sealed records moved to key epoch {}", keys.current_epoch());
        }
    }
    site.auditor.close().await?;
    Ok(if refusals == 0 { Outcome::Done } else { Outcome::Held })
}

struct Site {
    project: Project,
    lake: Arc<Lake>,
    remasker: Remasker,
    clock: Arc<dyn Clock>,
    auditor: Arc<Auditor>,
}

impl Site {
    /// Both layers of a table, then its history.
    async fn table(&self, table: &TableName) -> Result<Option<Receipt>> {
        let layers = [Layer::Changes, Layer::Current].map(|layer| LakeTable::new(table.clone(), layer));
        let [changes, current] = layers;
        let layers = [changes?, current?];
        let marker = table.to_string();
        let marker = [FOLDER[0], FOLDER[1], &marker];
        let mut columns = match self.lake.object_at(&marker.join("/")).await? {
            // A kill came between: the columns that were to change are in the marker.
            Some(text) => serde_json::from_slice(&text).unwrap_or_default(),
            None => Vec::new(),
        };
        let mut strict = Vec::new();
        for layer in &layers {
            strict.extend(self.lake.stricter(layer, &self.remasker).await?.map(|found| (layer, found)));
        }
        for column in strict.iter().flat_map(|(_, found)| found.columns()) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let names = serde_json::to_vec(&columns).map_err(|_| Error::new(Kind::Bug, "names of columns are not JSON"))?;
        self.lake.put_object(&marker, names).await?;
        let index_dir = self.project.state_dir().join("index");
        let mut versions = Vec::new();
        for (layer, found) in strict {
            let version = self.lake.remask(found, &index_dir, self.clock.now()).await?;
            versions.push((layer.to_string(), version));
        }
        let mut objects_removed = 0;
        for layer in &layers {
            objects_removed += self.lake.purge_history(layer, self.clock.now()).await?;
        }
        let stamp = self.remasker.stamp()?;
        let receipt = Receipt {
            table: table.to_string(),
            policy: stamp.policy_hash,
            key_epoch: stamp.key_epoch,
            columns,
            versions,
            objects_removed,
            done_at: self.clock.now(),
            lockgate: env!("CARGO_PKG_VERSION"),
        };
        self.record(table, &receipt)?;
        self.lake.remove_object(&marker).await?;
        Ok(Some(receipt))
    }

    fn record(&self, table: &TableName, receipt: &Receipt) -> Result<()> {
        let text = serde_json::to_vec_pretty(receipt).map_err(|_| Error::new(Kind::Bug, "a receipt is not JSON"))?;
        let folder = self.project.state_dir().join("receipts");
        let path = folder.join(format!("remask-{}.json", Hex::of(&random::<8>()?).as_str()));
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &text)).map_err(|error| {
            Error::new(Kind::Full, format!("cannot write the receipt {}", path.display()))
                .source(error)
                .fix("Free space there; then do this again.")
        })?;
        self.auditor.record(Event::Remasked {
            table: Name::new(table),
            policy: Hex::new(&*receipt.policy)?,
            columns: receipt.columns.iter().map(Name::new).collect(),
            receipt: Hash::of(&[&text]),
        })
    }
}
