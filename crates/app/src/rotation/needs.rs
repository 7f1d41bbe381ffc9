use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use change::{Error, Kind, Result, TableName};
use gate::{KeyRing, Policy, sealed_epoch};
use lake::{Lake, LakeTable};

use crate::cells::CellStore;
use crate::erase::{Request, holds_sealed_under};
use crate::held::HeldStore;
use crate::project::Project;
use crate::vault::VaultFile;

/// What cannot be used without the key of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Columns of a lake table carry what it made.
    Table(LakeTable, Vec<String>),
    /// A rule of the policy makes values with it, through the epochs that wrap it too.
    Rule(String),
    /// Codes are sealed under it, or known values are found by it.
    Vault,
    /// Data keys of encrypted cells are sealed under it, or their persons are found by it.
    Cells,
    /// Rows are sealed under it, or their keys are known by it.
    HeldRows,
    /// Erased persons are known by it, or their records are sealed under it.
    ErasedPersons,
    /// Persons on legal hold are known by it, or their record is sealed under it.
    LegalHolds,
}

/// What needs each epoch.
pub(crate) struct Needs(BTreeMap<u32, BTreeSet<Need>>);

impl Needs {
    /// Looks at every table of the lake, the policy, and all that is kept sealed.
    ///
    /// # Errors
    /// Those of the lake, the vault and the store of held rows.
    pub(crate) async fn of(project: &Project, policy: &Policy, lake: &Lake, keys: &KeyRing) -> Result<Self> {
        let mut needs = Self(BTreeMap::new());
        for table in lake.tables().await? {
            let Some(stamp) = lake.stamp(&table).await? else { continue };
            for (epoch, columns) in stamp.epochs_stored() {
                let columns = columns.into_iter().map(str::to_owned).collect();
                needs.add(epoch, Need::Table(table.clone(), columns));
            }
            // Each cell says its own epoch, and no commit says which there are.
            let cells: Vec<String> = stamp.cells_stored().map(str::to_owned).collect();
            if !cells.is_empty() {
                let present = keys.epochs()?.into_iter().filter(|epoch| epoch.retired.is_none());
                present.for_each(|epoch| needs.add(epoch.epoch, Need::Table(table.clone(), cells.clone())));
            }
        }
        for (epoch, places) in policy.epochs_needed(keys) {
            places.into_iter().for_each(|place| needs.add(epoch, Need::Rule(place)));
        }
        // Values and persons are found by keyed hashes that cannot be made again without them: those stay under the oldest epoch.
        let oldest = keys.oldest_epoch();
        let vault = VaultFile::open(&project.state_dir(), Some(keys.clone()))?.epochs()?;
        needs.add_all(&vault, oldest, &Need::Vault);
        if let Some(cells) = CellStore::existing(&project.state_dir(), keys)? {
            needs.add_all(&cells.epochs()?, oldest, &Need::Cells);
        }
        if let Some(store) = HeldStore::existing(&project.state_dir())? {
            let mut sealed = BTreeSet::new();
            for line in store.lines()? {
                sealed.extend(store.record(line.id)?.and_then(|record| sealed_epoch(&record)));
            }
            if store.knows_keys()? {
                sealed.insert(oldest);
            }
            needs.add_all(&sealed, oldest, &Need::HeldRows);
        }
        let erased = Request::sealed_under(lake).await?.into_iter().map(|(_, epoch)| epoch).collect();
        needs.add_all(&erased, oldest, &Need::ErasedPersons);
        needs.add_all(&holds_sealed_under(lake).await?.into_iter().collect(), oldest, &Need::LegalHolds);
        Ok(needs)
    }

    fn add(&mut self, epoch: u32, need: Need) {
        self.0.entry(epoch).or_default().insert(need);
    }

    fn add_all(&mut self, sealed: &BTreeSet<u32>, oldest: u32, need: &Need) {
        let found_by = (!sealed.is_empty()).then_some(oldest);
        sealed.iter().copied().chain(found_by).for_each(|epoch| self.add(epoch, need.clone()));
    }

    /// What needs an epoch.
    pub(crate) fn of_epoch(&self, epoch: u32) -> impl Iterator<Item = &Need> {
        self.0.get(&epoch).into_iter().flatten()
    }

    /// The source tables that carry what an epoch made.
    pub(crate) fn tables(&self, epoch: u32) -> BTreeSet<TableName> {
        let table = |need: &Need| match need {
            Need::Table(table, _) => Some(table.name.clone()),
            _ => None,
        };
        self.of_epoch(epoch).filter_map(table).collect()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Table(table, columns) => write!(f, "{table}: {}", columns.join(", ")),
            Need::Rule(place) => write!(f, "the rule of {place}"),
            Need::Vault => f.write_str("codes of the vault"),
            Need::Cells => f.write_str("data keys of encrypted cells"),
            Need::HeldRows => f.write_str("held rows"),
            Need::ErasedPersons => f.write_str("records of erased persons"),
            Need::LegalHolds => f.write_str("the record of legal holds"),
        }
    }
}

/// Refuses to go on while a table carries what a compromised key made: more of it would be exposed with every row.
///
/// # Errors
/// `Privacy` with the tables and the way on; those of the lake.
pub(crate) async fn check_exposed(lake: &Lake, keys: &KeyRing) -> Result<()> {
    let compromised: Vec<u32> =
        keys.epochs()?.into_iter().filter(|epoch| epoch.compromised.is_some()).map(|epoch| epoch.epoch).collect();
    if compromised.is_empty() {
        return Ok(());
    }
    let mut exposed = BTreeSet::new();
    for table in lake.tables().await? {
        let stamp = lake.stamp(&table).await?;
        if stamp.is_some_and(|stamp| compromised.iter().any(|epoch| stamp.epochs_stored().contains_key(epoch))) {
            exposed.insert(table.name.to_string());
        }
    }
    if exposed.is_empty() {
        return Ok(());
    }
    let exposed: Vec<String> = exposed.into_iter().collect();
    let what = format!("tables carry what a compromised key made: {}", exposed.join(", "));
    Err(Error::new(Kind::Privacy, what).fix(
        "Run `lockgate remask`: it brings them to the new key and removes their history. Nothing passes until then.",
    ))
}
