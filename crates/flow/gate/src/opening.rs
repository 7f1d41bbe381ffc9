//! Values that come back out of the lake: tokens and shaped identifiers that a key turns back, and encrypted cells.

use std::sync::Arc;

use arrow::array::BinaryArray;
use change::{Error, Kind, Raw, Result, TableName};
use zeroize::Zeroizing;

use crate::kernel::cells::CellSealer;
use crate::kernel::shape::ShapeKeeper;
use crate::kernel::siv;
use crate::{CellKeys, KeyRing, Policy, Transform};

/// What an encrypted cell holds. There is no way to print it.
pub enum OpenedCell {
    /// Nothing: the value was null.
    Null,
    /// Text, or a value of another type as text.
    Text(Zeroizing<Vec<u8>>),
    /// Binary.
    Bytes(Zeroizing<Vec<u8>>),
    /// Its key was destroyed, or is not in this store.
    NoKey,
    /// It is no cell of this column, or was changed or moved.
    Foreign,
}

/// What came of one stored value.
enum Opening {
    Text(Zeroizing<String>),
    Bytes(Zeroizing<Vec<u8>>),
    NoKey,
    Foreign,
}

/// What came of all values that were asked for.
pub struct Answer {
    text: Zeroizing<String>,
    /// How many were asked for.
    pub asked: u64,
    /// How many were opened.
    pub opened: u64,
    /// How many have a person whose key was destroyed, or is not in this store.
    pub without_key: u64,
    /// How many were not made by this column's rule and keys.
    pub foreign: u64,
}

impl Answer {
    /// The values, one line for each that was asked for: the source's own spelling, with a backslash before backslashes and in place of line
    /// ends, as COPY writes text; `\x` and hexadecimal digits for binary; nothing for what was not opened.
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }
}

/// Opens the stored values of one column.
pub struct Opener(Kept);

enum Kept {
    Token { keys: KeyRing, domain: String, form: crate::canonical::Form },
    Shape(Box<ShapeKeeper>),
    Cell(Box<CellSealer>),
}

impl Policy {
    /// What opens the values of a column again. `epoch` is the one that values of `fpe_ff1` were made under, which they do not tell themselves:
    /// without it there may be only one.
    ///
    /// # Errors
    /// [`Kind::Config`] when the policy has no such column, its rule cannot be turned back, or the epoch is missing, unknown or of no use;
    /// [`Kind::Privacy`] without the store of data keys.
    pub fn opener(
        &self,
        table: &TableName,
        column: &str,
        (keys, epoch): (&KeyRing, Option<u32>),
        store: Option<Arc<dyn CellKeys>>,
    ) -> Result<Opener> {
        let rule = self.rules().find(|(of, rule)| *of == table && rule.place() == column).map(|(_, rule)| rule);
        let rule = rule.ok_or_else(|| {
            Error::new(Kind::Config, format!("the policy has no rule for {table}.{column}"))
                .fix("Write it as in policy.yaml: source.schema.table.column.")
        })?;
        if let Some(epoch) = epoch
            && !matches!(rule.transform, Transform::FpeFf1 { .. })
        {
            let what = format!("{table}.{column} is `{}`, and epoch {epoch} says nothing there", rule.transform);
            return Err(Error::new(Kind::Config, what).fix("Leave --epoch out: tokens and cells tell their epoch."));
        }
        Ok(Opener(match &rule.transform {
            Transform::SivToken { domain } => {
                Kept::Token { keys: keys.copy(), domain: domain.clone(), form: rule.form }
            }
            Transform::FpeFf1 { domain, format } => {
                let epoch = only_epoch(keys, epoch)?;
                Kept::Shape(Box::new(ShapeKeeper::new(keys, domain, *format, epoch)?))
            }
            Transform::EncryptCell { domain } => {
                let missing =
                    || Error::new(Kind::Privacy, "the store of data keys .lockgate/cells.sqlite is not there");
                let store = store.ok_or_else(missing)?;
                Kept::Cell(Box::new(CellSealer::new(keys, store, domain, rule.form, (table, column))?))
            }
            Transform::VaultCode { .. } => {
                let what = format!("{table}.{column}: a vault code is random, and the vault keeps no value beside it");
                return Err(Error::new(Kind::Config, what).fix("Look the person up at the source."));
            }
            other => {
                let what = format!("{table}.{column} is `{other}`, which cannot be turned back here");
                return Err(Error::new(Kind::Config, what).fix("Name a column of siv_token, fpe_ff1 or encrypt_cell."));
            }
        }))
    }
}

/// The epoch of values that do not tell it.
fn only_epoch(keys: &KeyRing, said: Option<u32>) -> Result<u32> {
    let there: Vec<u32> = keys.epochs()?.into_iter().filter(|key| key.retired.is_none()).map(|key| key.epoch).collect();
    let listed = || there.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let (what, fix) = match (said, there.as_slice()) {
        (Some(said), _) if there.contains(&said) => return Ok(said),
        (None, [only]) => return Ok(*only),
        (Some(said), _) => (
            format!("the key file has no key of epoch {said}; it has {}", listed()),
            "Name one of these, or take the key file that has it.",
        ),
        (None, _) => (
            format!("values of fpe_ff1 do not tell their epoch, and the key file has the keys of {}", listed()),
            "Name it: --epoch N. What is in the lake after `lockgate remask` is of the current one; a wrong one gives wrong values.",
        ),
    };
    Err(Error::new(Kind::Config, what).fix(fix))
}

impl Opener {
    /// Opens stored values: tokens and shaped identifiers as they are, cells as hexadecimal digits, with or without `\x` or `0x` before them.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key of a cell's epoch is missing; what the store says.
    pub fn open(&self, stored: &Raw<Vec<String>>) -> Result<Answer> {
        let stored = stored.expose();
        let openings: Vec<Opening> = match &self.0 {
            Kept::Token { keys, domain, form } => {
                let open = |token: &String| siv::opened(keys, domain, *form, token).and_then(text);
                stored.iter().map(|token| open(token).map_or(Opening::Foreign, Opening::Text)).collect()
            }
            Kept::Shape(keeper) => {
                stored.iter().map(|value| keeper.opened(value).map_or(Opening::Foreign, Opening::Text)).collect()
            }
            Kept::Cell(sealer) => {
                let cells: BinaryArray = stored.iter().map(|cell| Some(bytes(cell).unwrap_or_default())).collect();
                let opening = |cell: OpenedCell| match cell {
                    OpenedCell::Text(value) => text(value).map_or(Opening::Foreign, Opening::Text),
                    OpenedCell::Bytes(value) => Opening::Bytes(value),
                    OpenedCell::NoKey => Opening::NoKey,
                    OpenedCell::Null | OpenedCell::Foreign => Opening::Foreign,
                };
                sealer.open(&cells)?.into_iter().map(opening).collect()
            }
        };
        Ok(answer(&openings))
    }
}

fn answer(openings: &[Opening]) -> Answer {
    let asked = openings.len() as u64;
    let mut answer = Answer { text: Zeroizing::default(), asked, opened: 0, without_key: 0, foreign: 0 };
    for opening in openings {
        let count = match opening {
            Opening::Text(value) => {
                value.chars().for_each(|character| push_escaped(&mut answer.text, character));
                &mut answer.opened
            }
            Opening::Bytes(value) => {
                answer.text.push_str("\\x");
                answer.text.push_str(&Zeroizing::new(crate::keys::hex(value)));
                &mut answer.opened
            }
            Opening::NoKey => &mut answer.without_key,
            Opening::Foreign => &mut answer.foreign,
        };
        *count += 1;
        answer.text.push('\n');
    }
    answer
}

fn push_escaped(out: &mut String, character: char) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        other => out.push(other),
    }
}

fn text(mut value: Zeroizing<Vec<u8>>) -> Option<Zeroizing<String>> {
    String::from_utf8(std::mem::take(&mut *value)).ok().map(Zeroizing::new)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.strip_prefix("\\x").or_else(|| hex.strip_prefix("0x")).unwrap_or(hex);
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| digits.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cells::tests::CountingStore;
    use crate::policy::tests::{keys, rotated};

    const POLICY: &str = "profile: none\nkeys: k\ntables:\n  db.public.t:\n    id: siv_token(member)\n    code: vault_code(code)\n    \
         plan: hmac_token(plan)\n    \
         ssn: fpe_ff1(ssn ssn)\n    note: { transform: encrypt_cell(person), subject: id }\n";

    fn opener(column: &str) -> Result<Opener> {
        opener_of(column, &keys(0).unwrap(), None)
    }

    fn opener_of(column: &str, keys: &KeyRing, epoch: Option<u32>) -> Result<Opener> {
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let store: Arc<dyn CellKeys> = Arc::new(CountingStore::default());
        policy.opener(&TableName::new("db", "public", "t"), column, (keys, epoch), Some(store))
    }

    fn said(column: &str, stored: &str) -> String {
        let answer = opener(column).unwrap().open(&Raw::new(vec![stored.to_owned()])).unwrap();
        match (answer.opened, answer.without_key, answer.foreign) {
            (1, 0, 0) => answer.into_text().trim_end().to_owned(),
            (0, 1, 0) => "no key".into(),
            (0, 0, 1) => "foreign".into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_stays_on_its_line() {
        let values = ["a\nb", "c\\x", "\r"].map(|value| Opening::Text(Zeroizing::new(value.to_owned())));
        let openings: Vec<Opening> =
            values.into_iter().chain([Opening::NoKey, Opening::Bytes(Zeroizing::new(vec![0, 255]))]).collect();
        assert_eq!(&**answer(&openings).into_text(), "a\\nb\nc\\\\x\n\\r\n\n\\x00ff\n");
    }

    /// Python's cryptography has made the tokens, see `kernel/siv.rs`.
    #[test]
    fn tokens_are_turned_back_and_others_are_not() {
        assert_eq!(said("id", "member.1.hqkvwelmatmz5rzvfixu5yetl3swi"), "42");
        assert_eq!(said("id", "member.1.tdl5dsjzlukaulrc3lkdz5pkdwulblowxk2l3ypdahhq"), "078-05-1120");
        let strange = [
            "",
            "42",
            "member.1.",
            "member.2.hqkvwelmatmz5rzvfixu5yetl3swi",
            "other.1.hqkvwelmatmz5rzvfixu5yetl3swi",
            "member.1.iqkvwelmatmz5rzvfixu5yetl3swi",
            "member.1.HQKVWELMATMZ5RZVFIXU5YETL3SWI",
            "member.1.hqkvwelmatmz5rzvfixu5yetl3swi.x",
        ];
        for token in strange {
            assert_eq!(said("id", token), "foreign", "{token}");
        }
        for cell in ["", "zz", "0x00", "abc", &"00".repeat(80)] {
            assert_eq!(said("note", cell), "foreign");
        }
    }

    #[test]
    fn shaped_identifiers_are_turned_back_under_the_epoch_that_is_named() {
        let one = ShapeKeeper::new(&keys(0).unwrap(), "ssn", crate::format::Format::Ssn, 1).unwrap();
        let two = rotated(2);
        let opened = |keys: &KeyRing, epoch, shaped: &str| {
            let answer = opener_of("ssn", keys, epoch)?.open(&Raw::new(vec![shaped.to_owned(), "000".into()]))?;
            assert_eq!((answer.opened, answer.foreign), (1, 1));
            Ok::<_, Error>(answer.into_text().lines().next().unwrap().to_owned())
        };
        let shaped = one.shaped("078-05-1120");
        assert_eq!(opened(&keys(0).unwrap(), None, &shaped).unwrap(), "078-05-1120");
        assert_eq!(opened(&two, Some(1), &shaped).unwrap(), "078-05-1120");
        // Nothing tells a wrong epoch: that is why it must be named.
        assert_ne!(opened(&two, Some(2), &shaped).unwrap(), "078-05-1120");
        for (epoch, part) in [(None, "do not tell their epoch"), (Some(7), "no key of epoch 7; it has 1, 2")] {
            assert!(opener_of("ssn", &two, epoch).err().unwrap().what().contains(part));
        }
        for column in ["id", "note"] {
            assert!(opener_of(column, &two, Some(1)).err().unwrap().what().contains("says nothing there"));
        }
    }

    #[test]
    fn what_cannot_be_turned_back_says_why() {
        for (column, part) in
            [("code", "keeps no value"), ("plan", "cannot be turned back"), ("nothing", "no rule for")]
        {
            assert!(opener(column).err().unwrap().what().contains(part), "{column}");
        }
    }
}
