use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing stops.
    Note,
    /// Probably not what was meant; nothing stops.
    Warning,
    /// Lockgate does not start until it is mended.
    Error,
}

/// Something wrong with what the user declared, found without starting anything. `lockgate check` prints all of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the user wrote it; empty when the problem is not in a file.
    pub file: String,
    /// The line, from 1; `None` when the problem has no line.
    pub line: Option<u64>,
    /// What is wrong. Never holds a secret or a row value.
    pub what: String,
    /// What to do about it, in the imperative.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match (self.file.as_str(), self.line) {
            ("", _) => write!(f, "{severity}: {}", self.what)?,
            (file, None) => write!(f, "{file}: {severity}: {}", self.what)?,
            (file, Some(line)) => write!(f, "{file}:{line}: {severity}: {}", self.what)?,
        }
        if !self.fix.is_empty() {
            write!(f, "\n  fix: {}", self.fix)?;
        }
        Ok(())
    }
}
