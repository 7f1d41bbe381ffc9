use std::fmt;

/// What went wrong, sorted by what has to be done about it.
///
/// The policy from kind to action (retry, stop the table, stop the pipeline) stands once, in `app`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The configuration is wrong; the user must change it.
    Config,
    /// Credentials or grants are missing or refused.
    Auth,
    /// A server or store did not answer; trying again may help.
    Unavailable,
    /// The source can no longer give what comes after our checkpoint.
    SourceGone,
    /// The data's structure is not what the table promises.
    Contract,
    /// The policy or its keys do not allow the data to pass.
    Privacy,
    /// Another writer owns the table, or changed it in a way that cannot be merged.
    Conflict,
    /// A value or a message could not be read.
    Data,
    /// A disk, a budget or a quota is exhausted.
    Full,
    /// Lockgate is wrong.
    Bug,
}

/// What happened, where, and what to do about it. Never holds a row value.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    fix: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail in a stage.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `what` says what happened and where, without any row value.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), fix: None, source: None }
    }

    /// Adds what the reader should do next, as a sentence in the imperative.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds the cause. The caller vouches that its text holds no row value.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts the place in front of what happened: `context: what`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.what = format!("{context}: {}", self.what);
        self
    }

    /// The kind, which decides what is done about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened and where.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next, when it is known.
    pub fn how_to_fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_what_cause_and_fix() {
        let cause = std::io::Error::other("connection refused");
        let error =
            Error::new(Kind::Unavailable, "cannot reach db:5432").source(cause).context("claims_db").fix("Start it.");
        assert_eq!(error.to_string(), "claims_db: cannot reach db:5432: connection refused\n  fix: Start it.");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
}
