//! Codes that were asked for lately: looked up in memory, where the file takes a hundred times as long.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use change::{Error, Kind, Result};

/// Codes of one generation; two generations take some 25 MiB.
const GENERATION: usize = 229_376;

type Index = [u8; 32];

/// Codes of a domain by the index of their values.
type Known<const N: usize> = HashMap<Index, [u8; N], BuildHasherDefault<AsItIs>>;

/// Codes of every domain: those of the generation that grows, and those of the one before. What is asked for in neither for long is let go.
#[derive(Default)]
pub(super) struct Recent<const N: usize> {
    young: HashMap<String, Known<N>>,
    old: HashMap<String, Known<N>>,
    size: usize,
}

impl<const N: usize> Recent<N> {
    /// The codes of a domain in the order of `index`; `given` gets those that are not remembered, and gives theirs.
    pub(super) fn of(
        &mut self,
        domain: &str,
        index: &[Index],
        given: impl FnOnce(&[Index]) -> Result<Vec<[u8; N]>>,
    ) -> Result<Vec<[u8; N]>> {
        let found = self.found(domain, index);
        let missing: Vec<Index> =
            index.iter().zip(&found).filter(|(_, code)| code.is_none()).map(|(index, _)| *index).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let codes = given(&missing)?;
        if codes.len() != missing.len() {
            return Err(Error::new(Kind::Bug, "there are fewer codes than values"));
        }
        for (index, code) in missing.iter().zip(&codes) {
            self.add(domain, *index, *code);
        }
        let mut codes = codes.into_iter();
        Ok(found.into_iter().filter_map(|code| code.or_else(|| codes.next())).collect())
    }

    fn found(&mut self, domain: &str, index: &[Index]) -> Vec<Option<[u8; N]>> {
        let young = self.young.get(domain);
        let found: Vec<_> = index.iter().map(|index| young.and_then(|young| young.get(index)).copied()).collect();
        let Some(old) = self.old.get(domain) else { return found };
        // What is asked for again stays.
        let again: Vec<Option<[u8; N]>> = index
            .iter()
            .zip(&found)
            .map(|(index, code)| if code.is_none() { old.get(index).copied() } else { None })
            .collect();
        for (index, code) in index.iter().zip(&again) {
            if let Some(code) = code {
                self.add(domain, *index, *code);
            }
        }
        found.into_iter().zip(again).map(|(found, again)| found.or(again)).collect()
    }

    fn add(&mut self, domain: &str, index: Index, code: [u8; N]) {
        if self.size == GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
        let known = match self.young.get_mut(domain) {
            Some(known) => known,
            None => self.young.entry(domain.to_owned()).or_default(),
        };
        self.size += usize::from(known.insert(index, code).is_none());
    }
}

/// An index is a keyed hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        let mut index = [0; 32];
        index[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        index
    }

    fn code(index: &Index) -> [u8; 8] {
        std::array::from_fn(|at| index[at] ^ 0xff)
    }

    #[test]
    fn codes_come_in_order_and_only_those_are_asked_for_that_are_not_remembered() {
        let mut recent = Recent::<8>::default();
        let mut asked = Vec::new();
        let mut of = |recent: &mut Recent<8>, domain: &str, numbers: &[u64]| {
            let all: Vec<Index> = numbers.iter().map(|number| index(*number)).collect();
            let codes = recent.of(domain, &all, |missing| {
                asked.push(missing.len());
                Ok(missing.iter().map(code).collect())
            });
            assert_eq!(codes.unwrap(), all.iter().map(code).collect::<Vec<_>>());
        };
        of(&mut recent, "a", &[1, 2, 3]);
        of(&mut recent, "a", &[3, 4, 1, 5]);
        of(&mut recent, "a", &[5, 1]);
        of(&mut recent, "b", &[1]);
        assert_eq!(asked, [3, 2, 1]);
    }

    #[test]
    fn what_is_asked_for_stays_and_memory_is_bounded() {
        let mut recent = Recent::<8>::default();
        let mut ask = |number: u64| {
            let mut was_there = true;
            let made = recent.of("a", &[index(number)], |missing| {
                was_there = false;
                Ok(missing.iter().map(code).collect())
            });
            assert_eq!(made.unwrap(), [code(&index(number))]);
            was_there
        };
        assert!(!ask(0));
        for number in 1..3 * GENERATION as u64 {
            ask(number);
            assert!(!number.is_multiple_of(1000) || ask(0), "{number}");
        }
        assert!(!ask(1), "what nobody asked for is still there");
        let held = [&recent.young, &recent.old].map(|known| known.values().map(HashMap::len).sum::<usize>());
        assert!(held.iter().all(|held| *held <= GENERATION), "{held:?}");
    }

    #[test]
    fn a_failure_is_not_remembered() {
        let mut recent = Recent::<8>::default();
        let failed = recent.of("a", &[index(1)], |_| Err(Error::new(Kind::Unavailable, "away")));
        assert_eq!(failed.unwrap_err().kind(), Kind::Unavailable);
        assert!(recent.of("a", &[index(1)], |_| Ok(Vec::new())).is_err());
        assert_eq!(recent.of("a", &[index(1)], |missing| Ok(missing.iter().map(code).collect())).unwrap().len(), 1);
    }
}
