//! What tells one project folder from another. It stands in every commit of the folder's runs, so that a commit that arrives late, of a process that
//! is gone, is not taken for another Lockgate's.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::Path;

use change::Result;
use uuid::Uuid;

use crate::turn::unusable;

const FILE: &str = "folder.id";

/// The id of the folder with this state; made when there is none.
///
/// # Errors
/// `Full` when it cannot be written.
pub(crate) fn folder_id(state_dir: &Path) -> Result<String> {
    read_or_make(state_dir).map_err(|error| unusable(state_dir, error))
}

fn read_or_make(state_dir: &Path) -> std::io::Result<String> {
    std::fs::create_dir_all(state_dir)?;
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(state_dir.join(FILE))?;
    // Two that begin at once get the same. What a kill has cut off is made again.
    file.lock()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if let Some(id) = std::str::from_utf8(&bytes).ok().and_then(|text| Uuid::parse_str(text.trim()).ok()) {
        return Ok(id.to_string());
    }
    let id = Uuid::new_v4().to_string();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_id_and_another_folder_another() {
        let folder = std::env::temp_dir().join(format!("lockgate-folder-id-{}", std::process::id()));
        let [one, other] = ["one", "other"].map(|name| folder.join(name));
        let id = folder_id(&one).unwrap();
        assert_eq!(folder_id(&one).unwrap(), id);
        assert_ne!(folder_id(&other).unwrap(), id);
        std::fs::write(one.join(FILE), &id[..20]).unwrap();
        let anew = folder_id(&one).unwrap();
        assert_ne!(anew, id);
        assert_eq!(folder_id(&one).unwrap(), anew);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
