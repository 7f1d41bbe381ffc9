//! Who is meant by a request to erase: from identifiers as the source has them to what the lake and the gate know them by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use change::{Error, Kind, Raw, Result, TableName};

use crate::canonical::Form;
use crate::epoch::Rotation;
use crate::gate::Means;
use crate::kernel::{Kernel, Setup, cells, token};
use crate::keys::hex;
use crate::policy::Rule;
use crate::suppress::{Mark, Scope, Suppressed, marker};
use crate::transform::CodeType;
use crate::{KeyRing, Policy, TableStamp, Transform, Vault};

/// A column by which persons are named, and every place where the policy lets their tokens through.
pub struct Subject {
    rule: Rule,
    scope: Scope,
    /// The places of a domain, each for itself.
    places_alone: BTreeSet<Scope>,
    name: String,
    cells: Vec<(String, Form)>,
    places: BTreeMap<TableName, Vec<SubjectPlace>>,
}

/// Where tokens of a subject stand in a lake table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPlace {
    /// The column.
    pub column: String,
    /// Whether the column holds documents with the token somewhere within.
    pub nested: bool,
}

/// What persons are known by.
pub struct KnownAs {
    /// By the gate: hashes, one for each person, first of the subject as a whole, then of each of its places.
    pub suppressed: Vec<Suppressed>,
    /// By the lake: what may stand in the columns, for each person. Nothing for one whom no row can have, and a token of every epoch of the key
    /// that the lake may still carry.
    pub tokens: Vec<Vec<String>>,
    /// By the vault: what to forget; empty when the rule makes no codes.
    pub vault: Vec<[u8; 32]>,
    /// By the store of data keys: whose keys to destroy, by domain, one for each person.
    pub cells: Vec<(String, Vec<[u8; 32]>)>,
}

impl Policy {
    /// The subject behind a column.
    ///
    /// # Errors
    /// [`Kind::Config`] when the policy has no such column or its rule leaves nothing by which a row can be found again.
    pub fn subject(&self, table: &TableName, column: &str) -> Result<Subject> {
        let rule = self.rules().find(|(of, rule)| *of == table && rule.within.is_none() && rule.column == column);
        let (_, rule) = rule.ok_or_else(|| {
            Error::new(Kind::Config, format!("the policy has no rule for {table}.{column}"))
                .fix("Write it as in policy.yaml: source.schema.table.column.")
        })?;
        if !rule.transform.is_injective() {
            let what =
                format!("{table}.{column} is `{}` in the lake, and by that no person can be found", rule.transform);
            return Err(Error::new(Kind::Config, what).fix("Name a column that is a token, a code or kept."));
        }
        if rule.null_as.is_some() {
            let what = format!("{table}.{column} has `null_as`, and rows of nobody would be taken for a person's");
            return Err(Error::new(Kind::Config, what).fix("Name another column, or take `null_as` out of the rule."));
        }
        let scope = Scope::of(table, rule);
        let in_scope = self.rules().filter(|(of, other)| Scope::of(of, other) == scope);
        let mut places_alone: BTreeSet<Scope> = in_scope.map(|(of, place)| Scope::at(of, &place.place())).collect();
        places_alone.remove(&scope);
        let mut places: BTreeMap<TableName, Vec<SubjectPlace>> = BTreeMap::new();
        for (of, place) in
            self.rules().filter(|(of, other)| Scope::of(of, other) == scope && other.transform == rule.transform)
        {
            let found = match &place.within {
                Some(within) => SubjectPlace { column: within.clone(), nested: true },
                None => SubjectPlace { column: place.column.clone(), nested: false },
            };
            let beside = place.beside().map(|beside| SubjectPlace { column: beside.column, nested: false });
            let known = places.entry(of.clone()).or_default();
            for found in std::iter::once(found).chain(beside) {
                if !known.contains(&found) {
                    known.push(found);
                }
            }
        }
        let cells = self.cells_of(&scope);
        Ok(Subject { rule: rule.clone(), scope, places_alone, name: format!("{table}.{column}"), cells, places })
    }
}

impl Policy {
    /// The domains of cells whose persons are those of a scope.
    fn cells_of(&self, scope: &Scope) -> Vec<(String, Form)> {
        let mut cells = Vec::new();
        for (table, rule, domain) in self.cell_rules() {
            let columns = self.tables.get(table).into_iter().flat_map(|rules| &rules.columns);
            let mut subjects = columns.filter(|column| Some(&column.column) == rule.subject.as_ref());
            let cell = (domain.to_owned(), rule.form);
            if subjects.any(|subject| Scope::of(table, subject) == *scope) && !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

impl Subject {
    /// The column's full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether every token is long and random enough to be told wherever it stands.
    pub fn is_unmistakable(&self) -> bool {
        use Transform as T;
        !matches!(self.rule.transform, T::Keep | T::FpeFf1 { .. } | T::VaultCode { code: CodeType::Int64, .. })
    }

    /// The domain of the vault that has the persons' codes, if any.
    pub fn vault_domain(&self) -> Option<&str> {
        match &self.rule.transform {
            Transform::VaultCode { domain, .. } => Some(domain),
            _ => None,
        }
    }

    /// Where the tokens stand, by table.
    pub fn places(&self) -> &BTreeMap<TableName, Vec<SubjectPlace>> {
        &self.places
    }

    /// What persons are known by. Identifiers are spelled as the source's own text: `42`, `2024-02-29`.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the vault is missing; [`Kind::Data`] when an identifier (said by its number, from 1) cannot be read; what the
    /// vault says.
    pub fn known_as(&self, ids: &Raw<Vec<String>>, keys: &KeyRing, vault: Option<&Arc<dyn Vault>>) -> Result<KnownAs> {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids.expose()));
        let form = self.rule.form;
        let unreadable = |number: usize| {
            Error::new(Kind::Data, format!("identifier {} of the request cannot be read", number + 1))
                .fix("Spell it as the source does.")
        };
        let suppressed = |scope: &Scope| {
            let marks = hashes(&marker(keys, scope, form)?, form, &ids)?;
            let marks = marks.into_iter().enumerate().map(|(number, mark)| mark.ok_or_else(|| unreadable(number)));
            let marks = marks.collect::<Result<Vec<Mark>>>()?;
            Ok(Suppressed { scope: scope.clone(), form: form.versioned().into(), marks })
        };
        let mut known = KnownAs {
            suppressed: self.scopes().map(suppressed).collect::<Result<_>>()?,
            tokens: Vec::new(),
            vault: Vec::new(),
            cells: Vec::new(),
        };
        for (domain, form) in &self.cells {
            let index = hashes(&cells::person_index(keys, domain, *form)?, *form, &ids)?;
            let index = index.into_iter().enumerate().map(|(number, index)| index.ok_or_else(|| unreadable(number)));
            known.cells.push((domain.clone(), index.collect::<Result<_>>()?));
        }
        known.tokens = vec![Vec::new(); ids.len()];
        let mut add = |array: &ArrayRef| {
            known.tokens.iter_mut().zip(spelled(array)).for_each(|(tokens, text)| tokens.extend(text));
        };
        match &self.rule.transform {
            Transform::Keep => add(&ids),
            Transform::VaultCode { domain, code } => {
                let vault =
                    vault.ok_or_else(|| Error::new(Kind::Privacy, "the policy's vault of codes is not there"))?;
                let index = hashes(&token::vault_index(keys, domain, form)?, form, &ids)?;
                known.vault = index.into_iter().flatten().collect();
                let codes = codes_of(vault.as_ref(), domain, *code, &known.vault)?;
                known.tokens = codes.into_iter().map(|code| code.into_iter().collect()).collect();
            }
            _ => {
                for epoch in self.epochs(keys) {
                    add(&self.kernel(keys, epoch)?.apply_alone(ids.as_ref())?);
                }
            }
        }
        Ok(known)
    }

    /// The identifiers, by number, that a column of this type cannot hold as they are spelled. None for a type whose text says little: any text,
    /// and times, which have many spellings.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the type was misjudged.
    pub fn misspelled(&self, ids: &Raw<Vec<String>>, data_type: &DataType) -> Result<Vec<usize>> {
        let is_strict = data_type.is_integer()
            || matches!(data_type, DataType::Date32)
            || matches!(data_type, DataType::Decimal128(_, scale) if *scale >= 0);
        if !is_strict {
            return Ok(Vec::new());
        }
        let spelled: ArrayRef = Arc::new(StringArray::from_iter_values(ids.expose()));
        let read = cast(&spelled, data_type)
            .map_err(|_| Error::new(Kind::Bug, format!("text cannot be read as {data_type}")))?;
        let (spelled, read) = (bytes(&spelled, self.rule.form)?, bytes(&read, self.rule.form)?);
        let differ = |number: &usize| read[*number].is_none() || read[*number] != spelled[*number];
        Ok((0..spelled.len()).filter(differ).collect())
    }

    fn scopes(&self) -> impl Iterator<Item = &Scope> {
        std::iter::once(&self.scope).chain(&self.places_alone)
    }

    /// Which persons are in a record, by their number there; nobody for a record of other columns. The rules may have changed since it was made.
    ///
    /// # Errors
    /// As [`Subject::known_as`]; [`Kind::Privacy`] for a record of a later version.
    pub fn found_in(&self, record: &Suppressed, ids: &Raw<Vec<String>>, keys: &KeyRing) -> Result<Vec<Option<usize>>> {
        if !self.scopes().any(|scope| *scope == record.scope) {
            return Ok(vec![None; ids.expose().len()]);
        }
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids.expose()));
        let form = record.form()?;
        let marks = hashes(&marker(keys, &record.scope, form)?, form, &ids)?;
        Ok(marks.iter().map(|mark| record.marks.iter().position(|known| Some(known) == mark.as_ref())).collect())
    }

    /// The epochs whose tokens are looked for. A token that does not tell its epoch is looked for under one: that of another could be another
    /// person's.
    fn epochs(&self, keys: &KeyRing) -> Vec<u32> {
        match &self.rule.transform {
            Transform::HmacToken { .. } => keys.present().filter(|epoch| keys.broken_at(*epoch).is_none()).collect(),
            _ if self.is_unmistakable() => keys.present().collect(),
            _ => self.rule.epoch(keys).into_iter().collect(),
        }
    }

    /// Whether the tokens that stand in a table are among those that are looked for; `stored` is the stamp of the table.
    pub fn is_found_in(&self, table: &TableName, stored: &TableStamp, keys: &KeyRing) -> bool {
        if self.rule.transform.rotation() == Rotation::Free {
            return true;
        }
        let looked_for = self.epochs(keys);
        let places = self.places.get(table).into_iter().flatten();
        places.into_iter().filter(|_| !self.is_unmistakable()).all(|place| {
            let epochs = stored.epochs_within(&place.column);
            epochs.into_iter().all(|epoch| looked_for.contains(&epoch))
        })
    }

    /// The kernel of a rule that needs nothing but the key.
    fn kernel(&self, keys: &KeyRing, epoch: u32) -> Result<Kernel> {
        let means = Means::for_keys(keys.copy());
        let setup = Setup { profile: crate::Profile::None, means: &means, table: None };
        Kernel::new(&Rule { pin: Some(epoch), ..self.rule.clone() }, &DataType::Utf8, &setup)?
            .ok_or_else(|| Error::new(Kind::Bug, "a rule that drops has no persons"))
    }
}

/// Tokens as they are written down: see [`StoredToken`].
fn spelled(tokens: &ArrayRef) -> Vec<Option<String>> {
    match tokens.as_binary_opt::<i32>() {
        Some(bytes) => bytes.iter().map(|bytes| bytes.map(StoredToken::spell)).collect(),
        None => tokens.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect(),
    }
}

/// The codes of values that have one, as they are written down.
fn codes_of(vault: &dyn Vault, domain: &str, code: CodeType, index: &[[u8; 32]]) -> Result<Vec<Option<String>>> {
    Ok(match code {
        CodeType::Int64 => {
            let numbers = vault.find_numbers(domain, index)?.into_iter();
            numbers.map(|number| number.map(|number| number.to_string())).collect()
        }
        CodeType::Text => {
            let codes = vault.find(domain, index)?.into_iter();
            codes.map(|code| code.map(|code| token::spelled(domain, &code))).collect()
        }
        CodeType::Binary => {
            let codes = vault.find(domain, index)?.into_iter();
            codes.map(|code| code.map(|code| StoredToken::spell(&code))).collect()
        }
    })
}

/// A token as requests write it down: text and numbers as they are, bytes as `bytes:` and hexadecimal digits, which no text of a token is.
pub struct StoredToken;

const BYTES: &str = "bytes:";

impl StoredToken {
    /// How bytes are written down.
    pub fn spell(bytes: &[u8]) -> String {
        format!("{BYTES}{}", hex(bytes))
    }

    /// What stands in the lake for a token that was written down.
    pub fn bytes(token: &str) -> Vec<u8> {
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let digits = token.strip_prefix(BYTES).map(str::as_bytes);
        let bytes = digits.and_then(|digits| digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>());
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }
}

/// The canonical bytes of values, where there are any.
fn bytes(values: &ArrayRef, form: Form) -> Result<Vec<Option<Vec<u8>>>> {
    let mut found = Vec::with_capacity(values.len());
    crate::canonical::for_each(values.as_ref(), form, |cell| {
        found.push(match cell {
            crate::canonical::Cell::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        });
    })?;
    Ok(found)
}

fn hashes(hash: &crate::kernel::keyed_hash::KeyedHash, form: Form, ids: &ArrayRef) -> Result<Vec<Option<[u8; 32]>>> {
    let mut found = Vec::with_capacity(ids.len());
    crate::canonical::for_each(ids.as_ref(), form, |cell| {
        found.push(match cell {
            crate::canonical::Cell::Bytes(bytes) => Some(hash.of(bytes)),
            _ => None,
        });
    })?;
    Ok(found)
}
