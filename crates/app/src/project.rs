//! The project folder: `lockgate.yaml` as the engineers write it, read with line numbers and without touching a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use change::{Error, Kind, Problem, Result, Severity};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::secrets::Reference;

/// The name of the engineers' file.
pub(crate) const PROJECT_FILE: &str = "lockgate.yaml";
/// The name of the privacy officer's file.
pub(crate) const POLICY_FILE: &str = "policy.yaml";

/// `lockgate.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectFile {
    /// A folder, or a URL: `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`.
    pub(crate) lake: Spanned<String>,
    /// Options of the object store (names as in the `object_store` crate); values may be secret references.
    #[serde(default)]
    pub(crate) lake_options: BTreeMap<String, String>,
    /// The sources by name.
    pub(crate) sources: BTreeMap<String, SourceEntry>,
    /// When a commit is due.
    #[serde(default)]
    pub(crate) commit: CommitEntry,
}

/// One source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceEntry {
    /// The connector's own section.
    pub(crate) postgres: PostgresEntry,
    /// Tables (`public.claims`) or patterns (`public.*`).
    pub(crate) tables: Vec<Spanned<String>>,
}

/// The `postgres:` section of a source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresEntry {
    /// `postgresql://user@host:5432/database?sslmode=verify-full`, without a password.
    pub(crate) url: Spanned<String>,
    /// A secret reference.
    #[serde(default)]
    pub(crate) password: Option<Spanned<String>>,
    /// The replication slot; made if missing.
    #[serde(default)]
    pub(crate) slot: Option<String>,
    /// The publication; made if missing.
    #[serde(default)]
    pub(crate) publication: Option<String>,
    /// Certificates of the authorities that the server's certificate is checked against.
    #[serde(default)]
    pub(crate) sslrootcert: Option<PathBuf>,
    /// The client's certificate.
    #[serde(default)]
    pub(crate) sslcert: Option<PathBuf>,
    /// The key of the client's certificate.
    #[serde(default)]
    pub(crate) sslkey: Option<PathBuf>,
    /// How much log the source may keep for Lockgate.
    #[serde(default)]
    pub(crate) wal_budget: Option<WalBudgetEntry>,
    /// How the first copy reads.
    #[serde(default)]
    pub(crate) copy: CopyEntry,
}

/// `wal_budget:`, sizes as `4GiB`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WalBudgetEntry {
    /// From here on a warning.
    pub(crate) warn: String,
    /// From here on the policy.
    pub(crate) critical: String,
    /// What is done then.
    #[serde(default)]
    pub(crate) policy: Option<String>,
}

/// `copy:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CopyEntry {
    /// Connections that read chunks at the same time.
    pub(crate) parallel: usize,
}

impl Default for CopyEntry {
    fn default() -> Self {
        Self { parallel: 2 }
    }
}

/// `commit:`: a commit is due when any bound is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CommitEntry {
    /// Seconds since the first change that is not committed.
    pub(crate) max_seconds: f64,
    /// Changes that are not committed.
    pub(crate) max_rows: u64,
}

impl Default for CommitEntry {
    fn default() -> Self {
        Self { max_seconds: 5.0, max_rows: 200_000 }
    }
}

/// A project folder that was read.
pub(crate) struct Project {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Its `lockgate.yaml`.
    pub(crate) file: ProjectFile,
    /// The text of its `policy.yaml`.
    pub(crate) policy_text: String,
}

impl Project {
    /// Reads the folder.
    ///
    /// # Errors
    /// All problems at once; each names file and line.
    pub(crate) fn read(dir: &Path) -> Result<Self, Vec<Problem>> {
        let text = read_file(dir, PROJECT_FILE).map_err(|problem| vec![problem])?;
        let file: ProjectFile = serde_saphyr::from_str(&text).map_err(|error| vec![yaml_problem(PROJECT_FILE, &error)])?;
        let mut problems = file.problems();
        match read_file(dir, POLICY_FILE) {
            Ok(policy_text) if problems.is_empty() => Ok(Self { dir: dir.to_owned(), file, policy_text }),
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    /// The lake as a URL or an absolute folder.
    pub(crate) fn lake_url(&self) -> String {
        let lake = &self.file.lake.value;
        if lake.contains("://") { lake.clone() } else { self.dir.join(lake).to_string_lossy().into_owned() }
    }

    /// The object store's options with every secret reference resolved.
    pub(crate) fn lake_options(&self) -> Result<Vec<(String, String)>> {
        let resolve = |(name, value): (&String, &String)| {
            if !value.starts_with("${") {
                return Ok((name.clone(), value.clone()));
            }
            let secret = Reference::parse(value)
                .and_then(|reference| reference.resolve(&self.dir))
                .map_err(|error| error.context(format!("lake_options.{name}")))?;
            Ok((name.clone(), secret.reveal().to_owned()))
        };
        self.file.lake_options.iter().map(resolve).collect()
    }

    /// The folder for state that can be rebuilt: key indexes, status.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join(".lockgate")
    }
}

impl ProjectFile {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut error = |line: Option<u64>, what: String, fix: &str| {
            problems.push(Problem { severity: Severity::Error, file: PROJECT_FILE.into(), line, what, fix: fix.into() });
        };
        if self.sources.is_empty() {
            error(None, "no source is declared".into(), "Add one under `sources:`, or let `lockgate init --from URL` write it.");
        }
        if !(0.05..=3600.0).contains(&self.commit.max_seconds) {
            error(None, "commit.max_seconds is out of range".into(), "Choose between 0.05 and 3600 seconds.");
        }
        if self.commit.max_rows == 0 {
            error(None, "commit.max_rows is 0".into(), "Choose at least 1; 200000 is a good start.");
        }
        for (name, source) in &self.sources {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                error(
                    Some(source.postgres.url.referenced.line()),
                    format!("`{name}` cannot be a source's name: it becomes a folder and a SQL name"),
                    "Use letters, digits and underscores.",
                );
            }
            if source.tables.is_empty() {
                error(
                    Some(source.postgres.url.referenced.line()),
                    format!("source {name} lists no tables"),
                    "Add `tables: [public.*]` or name them.",
                );
            }
            if let Some(password) = &source.postgres.password
                && let Err(wrong) = Reference::parse(&password.value)
            {
                error(
                    Some(password.referenced.line()),
                    format!("source {name}: password: {}", wrong.what()),
                    wrong.how_to_fix().unwrap_or_default(),
                );
            }
        }
        for (name, value) in &self.lake_options {
            let secret = ["secret", "key", "token", "password", "credential"].iter().any(|word| name.to_lowercase().contains(word))
                && !name.to_lowercase().ends_with("key_id");
            if secret && Reference::parse(value).is_err() {
                error(None, format!("lake_options.{name} holds a secret in clear"), "Write ${env:NAME} or ${file:PATH}.");
            }
        }
        problems
    }
}

fn read_file(dir: &Path, name: &str) -> Result<String, Problem> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).map_err(|error| Problem {
        severity: Severity::Error,
        file: path.display().to_string(),
        line: None,
        what: format!("cannot be read: {error}"),
        fix: "Run `lockgate init --from URL` to write a starter folder, or point --dir at one.".into(),
    })
}

fn yaml_problem(file: &str, error: &serde_saphyr::Error) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.into(),
        line: error.location().map(|location| location.line()),
        what: error.without_snippet().to_string(),
        fix: "Correct the entry; `docs/guide/project.md` lists every field.".into(),
    }
}

/// Reads a size such as `4GiB`, `512 MiB` or a number of bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1_u64 << 40,
        _ => 0,
    };
    text[..digits]
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|size| *size > 0)
        .ok_or_else(|| Error::new(Kind::Config, format!("`{text}` is not a size")).fix("Write a number and a unit: 512MiB, 4GiB."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
lake: ./lake
sources:
  claims_db:
    postgres:
      url: postgresql://lockgate@db.internal:5432/claims
      password: ${env:CLAIMS_DB_PASSWORD}
      wal_budget: { warn: 4GiB, critical: 10GiB, policy: pause }
    tables: [public.members, public.claims]
commit: { max_seconds: 5, max_rows: 200000 }
";

    #[test]
    fn the_documented_form_is_read() {
        let file: ProjectFile = serde_saphyr::from_str(GOOD).unwrap();
        assert!(file.problems().is_empty());
        assert_eq!(file.sources["claims_db"].tables.len(), 2);
    }

    #[test]
    fn a_literal_password_is_refused_with_its_line_and_not_repeated() {
        let file: ProjectFile = serde_saphyr::from_str(&GOOD.replace("${env:CLAIMS_DB_PASSWORD}", "hunter2")).unwrap();
        let problems = file.problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, Some(6));
        assert!(!problems[0].to_string().contains("hunter2"));
    }

    #[test]
    fn a_typo_names_its_line() {
        let error = serde_saphyr::from_str::<ProjectFile>(&GOOD.replace("tables:", "tabels:")).map(|_| ()).unwrap_err();
        let problem = yaml_problem(PROJECT_FILE, &error);
        assert_eq!(problem.line, Some(8));
        assert!(problem.what.contains("tabels"), "{}", problem.what);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4GiB").unwrap(), 4 << 30);
        assert_eq!(parse_size("17").unwrap(), 17);
        for wrong in ["", "4 GB!", "-1", "0", "99999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
