use change::Result;
use gate::{KeyRing, Sealed};
use lake::Lake;

use crate::audit::random;
use crate::cells::CellStore;
use crate::erase::{Request, seal_holds_anew};
use crate::held::HeldStore;
use crate::project::Project;
use crate::vault::VaultFile;

/// Seals everything that a project keeps sealed under the current epoch of the key: codes of the vault, data keys of cells, held rows, the records of erased
/// persons and of legal holds. Returns how many records moved. May be done again.
///
/// # Errors
/// `Privacy` when a record does not open: its epoch's key is gone, or it is damaged.
pub(crate) async fn seal_anew(project: &Project, lake: &Lake, keys: &KeyRing, vault: &VaultFile) -> Result<u64> {
    let mut moved = vault.seal_anew()?;
    if let Some(cells) = CellStore::existing(&project.state_dir(), keys)? {
        moved += cells.seal_anew()?;
    }
    if let Some(store) = HeldStore::existing(&project.state_dir())? {
        let mut records = Vec::new();
        for line in store.lines()? {
            let Some(record) = store.record(line.id)? else { continue };
            let sealed = Sealed { table: &line.table, position: &line.position, keys: &line.keys, record: &record };
            records.extend(sealed.sealed_anew(keys, random()?)?.map(|record| (line.id, record)));
        }
        store.put_records(&records)?;
        moved += records.len() as u64;
    }
    moved += Request::seal_anew(lake, keys).await?;
    moved += u64::from(seal_holds_anew(lake, keys).await?);
    Ok(moved)
}
