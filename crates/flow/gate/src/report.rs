//! Collects problems, so that all of them are reported at once.

use change::{Problem, Severity};

pub(crate) struct Report {
    file: String,
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.into(), problems: Vec::new() }
    }

    pub(crate) fn error(&mut self, line: impl Into<Option<u64>>, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Error, line.into(), what.into(), fix.into());
    }

    pub(crate) fn warning(&mut self, line: impl Into<Option<u64>>, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Warning, line.into(), what.into(), fix.into());
    }

    pub(crate) fn note(&mut self, line: impl Into<Option<u64>>, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Note, line.into(), what.into(), fix.into());
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn push(&mut self, severity: Severity, line: Option<u64>, what: String, fix: String) {
        self.problems.push(Problem { severity, file: self.file.clone(), line, what, fix });
    }
}

/// Names with fewer letters are near to too many others.
const TELLING_LETTERS: usize = 4;

/// The name in `known` that `wrong` was probably meant to be.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    if wrong.chars().count() < TELLING_LETTERS {
        return None;
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
