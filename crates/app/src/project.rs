//! The project folder: `lockgate.yaml` as the engineers write it, read with line numbers and without touching a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use change::{Error, Kind, Problem, Result, Severity};
use gate::Policy;

use crate::project_reader::Reader;
use crate::roles::Roles;
use crate::secrets::Reference;

/// The name of the engineers' file.
pub(crate) const PROJECT_FILE: &str = "lockgate.yaml";
/// The name of the privacy officer's file.
pub(crate) const POLICY_FILE: &str = "policy.yaml";

/// `lockgate.yaml`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectFile {
    /// A folder, or a URL: `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`.
    pub(crate) lake: String,
    /// Its line.
    pub(crate) lake_line: u64,
    /// Options of the object store (names as in the `object_store` crate); values may be secret references.
    pub(crate) lake_options: BTreeMap<String, String>,
    /// The sources by name.
    pub(crate) sources: BTreeMap<String, SourceEntry>,
    /// When a commit is due.
    pub(crate) commit: CommitEntry,
    /// The audit log.
    pub(crate) audit: AuditEntry,
    /// Who may do what.
    pub(crate) roles: Roles,
}

/// `audit:`, all of it optional.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditEntry {
    /// A second place for signed heads, written as `lake` is.
    pub(crate) anchor: Option<String>,
    /// Options of the anchor's object store.
    pub(crate) anchor_options: BTreeMap<String, String>,
    /// Where the signing key is, when not in `keys/audit.key`.
    pub(crate) key: Option<Reference>,
}

/// One source.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceEntry {
    /// The line of its name.
    pub(crate) line: u64,
    /// The connector's own section.
    pub(crate) postgres: PostgresEntry,
    /// Tables (`public.claims`) or patterns (`public.*`).
    pub(crate) tables: Vec<String>,
}

/// The `postgres:` section of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostgresEntry {
    /// `postgresql://user@host:5432/database?sslmode=verify-full`, without a password.
    pub(crate) url: String,
    /// The line of the URL.
    pub(crate) url_line: u64,
    /// The lines of the fields, `tables` and `wal_budget.policy` among them.
    pub(crate) lines: BTreeMap<String, u64>,
    /// Where the password is.
    pub(crate) password: Option<Reference>,
    /// The replication slot; made if missing.
    pub(crate) slot: Option<String>,
    /// The publication; made if missing.
    pub(crate) publication: Option<String>,
    /// Certificates of the authorities that the server's certificate is checked against.
    pub(crate) sslrootcert: Option<PathBuf>,
    /// The client's certificate.
    pub(crate) sslcert: Option<PathBuf>,
    /// The key of the client's certificate.
    pub(crate) sslkey: Option<PathBuf>,
    /// How much log the source may keep for Lockgate: warning and critical bytes, and what is done then.
    pub(crate) wal_budget: WalBudgetEntry,
    /// Connections that read chunks of the first copy at the same time.
    pub(crate) copy_parallel: usize,
    /// Whether a value that the lake's type cannot hold becomes null (and is counted) instead of stopping its table.
    pub(crate) unfit_to_null: bool,
}

impl SourceEntry {
    /// The line of a field, or of the source's name where the field is not written.
    pub(crate) fn line_of(&self, field: &str) -> u64 {
        self.postgres.lines.get(field).copied().unwrap_or(self.line)
    }
}

/// `wal_budget:`: how much log the source may keep for us, in bytes; `None` for what is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WalBudgetEntry {
    /// From here on it is said.
    pub(crate) warn: Option<u64>,
    /// From here on the policy applies.
    pub(crate) critical: Option<u64>,
    /// `pause`, `spool` or `drop_and_repair`.
    pub(crate) policy: Option<String>,
    /// The most that a spool may take on the local disk.
    pub(crate) spool_max: Option<u64>,
}

/// `commit:`: a commit is due when any bound is reached.
#[derive(Debug, Clone)]
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
#[derive(Clone)]
pub(crate) struct Project {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Its `lockgate.yaml`.
    pub(crate) file: ProjectFile,
    /// The text of it.
    pub(crate) file_text: String,
    /// The text of its `policy.yaml`.
    pub(crate) policy_text: String,
}

impl Project {
    /// Reads the folder.
    ///
    /// # Errors
    /// All problems at once; each names file and line.
    pub(crate) fn read(dir: &Path) -> Result<Self, Vec<Problem>> {
        let policy_text = read_file(dir, POLICY_FILE);
        let file = read_file(dir, PROJECT_FILE)
            .map_err(|problem| vec![problem])
            .and_then(|text| ProjectFile::parse(&text).map(|file| (file, text)));
        match (file, policy_text) {
            (Ok((file, file_text)), Ok(policy_text)) => Ok(Self { dir: dir.to_owned(), file, file_text, policy_text }),
            (file, policy_text) => Err(file.err().into_iter().flatten().chain(policy_text.err()).collect()),
        }
    }

    /// Reads the folder and its policy.
    ///
    /// # Errors
    /// As [`Project::read`]; those of the policy once the files can be read.
    pub(crate) fn with_policy(dir: &Path) -> Result<(Self, Policy), Vec<Problem>> {
        let project = Self::read(dir)?;
        let policy = project.policy()?;
        Ok((project, policy))
    }

    /// What `policy.yaml` says.
    ///
    /// # Errors
    /// All problems at once; each names its line.
    pub(crate) fn policy(&self) -> Result<Policy, Vec<Problem>> {
        Policy::parse(&self.policy_text, POLICY_FILE)
    }

    /// The lake as a URL or an absolute folder.
    pub(crate) fn lake_url(&self) -> String {
        self.place(&self.file.lake)
    }

    /// A place as it stands in the file, as a URL or an absolute folder.
    pub(crate) fn place(&self, place: &str) -> String {
        if place.contains("://") { place.to_owned() } else { self.dir.join(place).to_string_lossy().into_owned() }
    }

    /// The object store's options with every secret reference resolved.
    pub(crate) fn lake_options(&self) -> Result<Vec<(String, String)>> {
        self.resolved("lake_options", &self.file.lake_options)
    }

    /// Options with every secret reference resolved; `what` is their name in the file.
    pub(crate) fn resolved(&self, what: &str, options: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
        let resolve = |(name, value): (&String, &String)| {
            if !value.starts_with("${") {
                return Ok((name.clone(), value.clone()));
            }
            let secret = Reference::parse(value)
                .and_then(|reference| reference.resolve(&self.dir))
                .map_err(|error| error.context(format!("{what}.{name}")))?;
            Ok((name.clone(), secret.reveal().to_owned()))
        };
        options.iter().map(resolve).collect()
    }

    /// The folder for local state; what of it can be rebuilt stands in `docs/guide/operations.md`.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join(".lockgate")
    }
}

impl ProjectFile {
    /// Reads the text of `lockgate.yaml`.
    ///
    /// # Errors
    /// All problems at once, with their lines.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let root = gate::yaml::parse(text, PROJECT_FILE)?;
        let mut problems = Vec::new();
        let mut reader = Reader::new(PROJECT_FILE, &root, &mut problems);
        let mut file = Self { lake: reader.required("lake"), ..Self::default() };
        file.lake_line = reader.lines().get("lake").copied().unwrap_or(1);
        file.lake_options = reader.texts("lake_options");
        reader.section("sources", |sources| {
            for name in sources.keys() {
                sources.section(&name, |source| {
                    file.sources.insert(name.clone(), SourceEntry::read(&name, source));
                });
            }
        });
        reader.section("commit", |commit| {
            file.commit.max_seconds = commit.number("max_seconds", 0.05, 3600.0).unwrap_or(file.commit.max_seconds);
            file.commit.max_rows = commit.number("max_rows", 1.0, 1e9).map_or(file.commit.max_rows, |rows| rows as u64);
            commit.end();
        });
        reader.section("roles", |roles| file.roles = Roles::read(roles));
        reader.section("audit", |audit| file.audit = AuditEntry::read(audit));
        if file.sources.is_empty() {
            reader.wrong(
                None,
                "no source is declared",
                "Add one under `sources:`, or let `lockgate init --from URL` write it.",
            );
        }
        let lines = reader.lines();
        let options = [("lake_options", &file.lake_options), ("audit.anchor_options", &file.audit.anchor_options)];
        for (of, (name, value)) in
            options.iter().flat_map(|(of, options)| options.iter().map(move |option| (of, option)))
        {
            if names_a_secret(name) && Reference::parse(value).is_err() {
                reader.wrong(
                    lines.get(of.split('.').next().unwrap_or(of)).copied(),
                    &format!("{of}.{name} holds a secret in clear"),
                    "Write ${env:NAME} or ${file:PATH}.",
                );
            }
        }
        reader.end();
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }
}

impl AuditEntry {
    fn read(audit: &mut Reader<'_>) -> Self {
        let mut entry = Self { anchor: audit.text("anchor"), anchor_options: audit.texts("anchor_options"), key: None };
        if let Some((key, line)) = audit.text_with_line("key") {
            match Reference::parse(&key) {
                Ok(reference) => entry.key = Some(reference),
                Err(wrong) => audit.wrong(
                    Some(line),
                    &format!("audit.key: {}", wrong.what()),
                    wrong.how_to_fix().unwrap_or_default(),
                ),
            }
        }
        audit.end();
        entry
    }
}

impl SourceEntry {
    fn read(name: &str, source: &mut Reader<'_>) -> Self {
        let mut entry = Self { line: source.line(), ..Self::default() };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            source.wrong(
                Some(entry.line),
                &format!("`{name}` cannot be a source's name: it becomes a folder and a SQL name"),
                "Use letters, digits and underscores.",
            );
        }
        entry.tables = source.list("tables");
        if entry.tables.is_empty() {
            source.wrong(
                Some(entry.line),
                &format!("source {name} lists no tables"),
                "Add `tables: [public.*]` or name them.",
            );
        }
        source.section("postgres", |postgres| entry.postgres = PostgresEntry::read(postgres));
        entry.postgres.lines.extend(source.lines().into_iter().filter(|(name, _)| name == "tables"));
        if entry.postgres.url.is_empty() {
            source.wrong(
                Some(entry.line),
                &format!("source {name} has no `postgres:` section with a url"),
                "Add `postgres: { url: ... }`.",
            );
        }
        source.end();
        entry
    }
}

impl PostgresEntry {
    fn read(section: &mut Reader<'_>) -> Self {
        let mut entry = Self { copy_parallel: 2, lines: section.lines(), ..Self::default() };
        (entry.url, entry.url_line) = section.text_with_line("url").unwrap_or_default();
        if let Some((password, line)) = section.text_with_line("password") {
            match Reference::parse(&password) {
                Ok(reference) => entry.password = Some(reference),
                Err(wrong) => section.wrong(
                    Some(line),
                    &format!("password: {}", wrong.what()),
                    wrong.how_to_fix().unwrap_or_default(),
                ),
            }
        }
        entry.slot = section.text("slot");
        entry.publication = section.text("publication");
        entry.sslrootcert = section.text("sslrootcert").map(PathBuf::from);
        entry.sslcert = section.text("sslcert").map(PathBuf::from);
        entry.sslkey = section.text("sslkey").map(PathBuf::from);
        section.section("wal_budget", |budget| {
            entry.lines.extend(budget.lines().into_iter().map(|(name, line)| (format!("wal_budget.{name}"), line)));
            let mut size = |name: &str| {
                let (text, line) = budget.text_with_line(name)?;
                let wrong = |error: Error| {
                    budget.wrong(
                        Some(line),
                        &format!("wal_budget.{name}: {}", error.what()),
                        error.how_to_fix().unwrap_or_default(),
                    );
                };
                parse_size(&text).map_err(wrong).ok()
            };
            let (warn, critical, spool_max) = (size("warn"), size("critical"), size("spool_max"));
            entry.wal_budget = WalBudgetEntry { warn, critical, policy: budget.text("policy"), spool_max };
            budget.end();
        });
        section.section("copy", |copy| {
            entry.copy_parallel = copy.number("parallel", 1.0, 64.0).map_or(2, |parallel| parallel as usize);
            copy.end();
        });
        if let Some((choice, line)) = section.text_with_line("on_unfit") {
            entry.unfit_to_null = choice == "null";
            if !["null", "halt"].contains(&choice.as_str()) {
                section.wrong(Some(line), &format!("`on_unfit: {choice}` is not known"), "Write halt or null.");
            }
        }
        section.end();
        entry
    }
}

fn names_a_secret(option: &str) -> bool {
    let option = option.to_lowercase();
    let secret = ["secret", "key", "token", "password", "credential", "sas"].iter().any(|word| option.contains(word));
    secret && !option.ends_with("key_id")
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
    text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|size| *size > 0).ok_or_else(
        || Error::new(Kind::Config, format!("`{text}` is not a size")).fix("Write a number and a unit: 512MiB, 4GiB."),
    )
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
        let file = ProjectFile::parse(GOOD).unwrap();
        assert_eq!(file.sources["claims_db"].tables, ["public.members", "public.claims"]);
        let (warn, critical, policy) = (Some(4 << 30), Some(10 << 30), Some("pause".into()));
        let budget = WalBudgetEntry { warn, critical, policy, spool_max: None };
        assert_eq!(file.sources["claims_db"].postgres.wal_budget, budget);
        assert_eq!(file.commit.max_rows, 200_000);
    }

    #[test]
    fn a_literal_password_is_refused_with_its_line_and_not_repeated() {
        let problems = ProjectFile::parse(&GOOD.replace("${env:CLAIMS_DB_PASSWORD}", "hunter2")).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, Some(6));
        assert!(!problems[0].to_string().contains("hunter2"));
    }

    #[test]
    fn all_problems_are_found_at_once_with_their_lines() {
        let text = GOOD
            .replace("tables:", "tabels:")
            .replace("max_rows: 200000", "max_rows: many")
            .replace("4GiB", "4 apples");
        let problems = ProjectFile::parse(&text).unwrap_err();
        let found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.what.as_str())).collect();
        assert!(found.iter().any(|(line, what)| *line == Some(8) && what.contains("tabels")), "{found:?}");
        assert!(found.iter().any(|(line, what)| *line == Some(9) && what.contains("max_rows")), "{found:?}");
        assert!(found.iter().any(|(line, what)| *line == Some(7) && what.contains("wal_budget.warn")), "{found:?}");
    }

    #[test]
    fn a_secret_of_the_store_must_be_a_reference() {
        let text = format!("{GOOD}lake_options: {{ aws_access_key_id: AKIA, aws_secret_access_key: hunter2 }}\n");
        let problems = ProjectFile::parse(&text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].line, Some(10));
        assert!(problems[0].what.contains("aws_secret_access_key") && !problems[0].to_string().contains("hunter2"));
    }

    #[test]
    fn a_number_out_of_bounds_is_said_to_be_one() {
        for (seconds, part) in
            [("0", "`max_seconds: 0` is too small"), ("1e9", "too large"), ("soon", "must be a number")]
        {
            let problems = ProjectFile::parse(&GOOD.replace("max_seconds: 5", &format!("max_seconds: {seconds}")));
            let problems = problems.unwrap_err();
            assert!(
                problems[0].what.contains(part) && problems[0].fix.contains("between 0.05 and 3600"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn fields_know_their_lines() {
        let file = ProjectFile::parse(GOOD).unwrap();
        let source = &file.sources["claims_db"];
        let lines =
            ["url", "password", "wal_budget", "wal_budget.policy", "tables", "slot"].map(|of| source.line_of(of));
        assert_eq!(lines, [5, 6, 7, 7, 8, 3]);
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
