//! Which persons of a request are there at all: an identifier that matches nothing, a misspelled one for instance, is kept out and must not pass
//! for a person who was erased.

use std::collections::HashSet;

use change::Result;

use super::held_rows::Finder;
use super::request::Request;
use super::work::{Worksite, doomed};
use crate::held::HeldStore;

impl Worksite {
    /// The lines of a request of whose person nothing is in the lake's tables, among the held rows or in the vault.
    ///
    /// # Errors
    /// Those of the lake and of the held rows.
    pub(super) async fn unmatched(&self, request: &Request) -> Result<Vec<u64>> {
        let mut found = HashSet::new();
        for (table, columns) in &request.places {
            found.extend(self.lake.found(table, &doomed(request, columns.clone())).await?);
        }
        // A person who has a code is known to the vault.
        let is_known = |tokens: &[String]| match request.vault {
            Some(_) => !tokens.is_empty(),
            None => tokens.iter().any(|token| found.contains(token)),
        };
        let unknown = request.asked.iter().enumerate().filter(|(_, asked)| !is_known(&asked.tokens));
        let mut unknown: Vec<usize> = unknown.map(|(person, _)| person).collect();
        if !unknown.is_empty()
            && let Some(store) = HeldStore::existing(&self.state_dir)?
        {
            let Self { project, policy, keys, clock, .. } = self;
            let finder = Finder { project, policy, keys, clock, persons: &request.suppressed };
            let held = finder.of_whom(&store, &unknown)?;
            unknown.retain(|person| !held.contains(person));
        }
        Ok(unknown.into_iter().map(|person| request.asked[person].line).collect())
    }
}

/// Numbers of lines in few words: `2-4, 9`.
pub(crate) fn in_words(lines: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for line in lines {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => spans.push((*line, *line)),
        }
    }
    let span = |(first, last): (u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    spans.into_iter().map(span).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_in_spans() {
        assert_eq!(in_words(&[2, 3, 4, 9, 11, 12]), "2-4, 9, 11-12");
        assert_eq!((in_words(&[1]), in_words(&[])), ("1".to_owned(), String::new()));
    }
}
