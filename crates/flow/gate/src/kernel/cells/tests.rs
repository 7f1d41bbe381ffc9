use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use arrow::array::{Date32Array, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;
use zeroize::Zeroizing;

use super::*;
use crate::calendar::Date;
use crate::policy::tests::keys;

type Person = (String, [u8; 32]);

/// Numbers its keys and its random bytes, so that a test can foresee them.
#[derive(Default)]
pub(crate) struct CountingStore {
    /// By domain and index; `None` once destroyed.
    keys: Mutex<BTreeMap<Person, Option<Arc<CellKey>>>>,
    drawn: Mutex<u64>,
}

impl CountingStore {
    fn destroy_all(&self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(|key| *key = None);
    }

    fn len(&self) -> usize {
        self.keys.lock().unwrap().len()
    }
}

impl CellKeys for CountingStore {
    fn id(&self) -> Result<String> {
        Ok("CountingStore".into())
    }

    fn of_persons(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let mut keys = self.keys.lock().unwrap();
        let mut key = |index: &[u8; 32]| {
            let number = keys.len() as u8 + 1;
            let fresh = || Some(Arc::new(CellKey::new([number; 16], *index, Zeroizing::new([number; 32]))));
            keys.entry((domain.to_owned(), *index)).or_insert_with(fresh).clone()
        };
        Ok(index.iter().map(&mut key).collect())
    }

    fn find(&self, domain: &str, ids: &[[u8; 16]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let keys = self.keys.lock().unwrap();
        let of = |id: &[u8; 16]| {
            let mut all = keys.iter().filter(|((of, _), _)| of == domain).filter_map(|(_, key)| key.clone());
            all.find(|key| key.id() == id)
        };
        Ok(ids.iter().map(of).collect())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<()> {
        let mut drawn = self.drawn.lock().unwrap();
        for chunk in bytes.chunks_mut(NONCE) {
            *drawn += 1;
            chunk[..8].copy_from_slice(&drawn.to_be_bytes());
        }
        Ok(())
    }
}

fn sealer(store: &Arc<CountingStore>, table: &str, column: &str) -> CellSealer {
    let table = TableName::new("db", "public", table);
    CellSealer::new(&keys(0).unwrap(), store.clone(), "person", Form::Exact, (&table, column)).unwrap()
}

fn encrypted(sealer: &CellSealer, array: &dyn Array, persons: &dyn Array, unsent: Option<&BooleanBuffer>) -> Passed {
    let subject = Some(SubjectCells { values: persons, unsent });
    sealer.apply(array, Beside { today: Date { year: 2026, month: 11, day: 21 }, subject, known: &[] }).unwrap()
}

fn texts(sealer: &CellSealer, cells: &ArrayRef) -> Vec<String> {
    let opened = sealer.open(cells.as_binary::<i32>()).unwrap();
    let text = |opened: OpenedCell| match opened {
        OpenedCell::Null => "null".to_owned(),
        OpenedCell::Text(value) => String::from_utf8(value.to_vec()).unwrap(),
        OpenedCell::Bytes(value) => format!("{:?}", &**value),
        OpenedCell::NoKey => "no key".into(),
        OpenedCell::Foreign => "foreign".into(),
    };
    opened.into_iter().map(text).collect()
}

#[test]
fn values_of_every_type_open_again_and_the_same_value_is_never_the_same_cell() {
    let store = Arc::new(CountingStore::default());
    let sealer = sealer(&store, "members", "note");
    let persons = StringArray::from(vec!["7", "7", "8"]);
    let text = encrypted(&sealer, &StringArray::from(vec![Some("Zo\u{eb}"), Some("Zo\u{eb}"), None]), &persons, None);
    assert_eq!((text.values.data_type(), text.invalid), (&DataType::Binary, 0));
    assert_eq!(texts(&sealer, &text.values), ["Zo\u{eb}", "Zo\u{eb}", "null"]);
    let cells = text.values.as_binary::<i32>();
    assert_ne!(cells.value(0), cells.value(1));
    // A person's number is one person in every type, and nobody gets a key for a null.
    assert_eq!(store.len(), 1);
    let numbers = encrypted(&sealer, &Int64Array::from(vec![-42, 0, 7]), &Int64Array::from(vec![7, 8, 9]), None);
    assert_eq!(texts(&sealer, &numbers.values), ["-42", "0", "7"]);
    assert_eq!(store.len(), 3);
    let dates = encrypted(&sealer, &Date32Array::from(vec![19_782; 3]), &persons, None);
    assert_eq!(texts(&sealer, &dates.values)[0], "2024-02-29");
    let bytes = encrypted(&sealer, &BinaryArray::from_vec(vec![b"\x00\x80", b"", b"\xff"]), &persons, None);
    assert_eq!(texts(&sealer, &bytes.values), ["[0, 128]", "[]", "[255]"]);
    let all: BTreeSet<&[u8]> = bytes.values.as_binary::<i32>().iter().flatten().collect();
    assert_eq!(all.len(), 3);
}

#[test]
fn without_a_person_there_is_no_cell_and_never_a_shared_key() {
    let store = Arc::new(CountingStore::default());
    let sealer = sealer(&store, "members", "note");
    let persons = StringArray::from(vec![None, Some("7"), Some("8"), None]);
    let unsent = BooleanBuffer::from(vec![false, true, false, false]);
    let values = StringArray::from(vec![Some("a"), Some("b"), Some("c"), None]);
    let passed = encrypted(&sealer, &values, &persons, Some(&unsent));
    assert_eq!(texts(&sealer, &passed.values), ["null", "null", "c", "null"]);
    assert_eq!((passed.invalid, store.len()), (2, 1));
}

#[test]
fn a_destroyed_key_makes_cells_unreadable_and_is_not_made_anew() {
    let store = Arc::new(CountingStore::default());
    let sealer = sealer(&store, "members", "note");
    let (values, persons) = (StringArray::from(vec!["a"]), StringArray::from(vec!["7"]));
    let before = encrypted(&sealer, &values, &persons, None).values;
    store.destroy_all();
    assert_eq!(texts(&sealer, &before), ["no key"]);
    let after = encrypted(&sealer, &values, &persons, None);
    assert_eq!((after.values.null_count(), after.invalid), (1, 0));
    let comparable = sealer.comparable(&before).unwrap();
    assert_eq!(comparable.null_count(), 1);
}

#[test]
fn cells_are_compared_by_what_they_hold_and_a_moved_one_differs() {
    let store = Arc::new(CountingStore::default());
    let (note, name) = (sealer(&store, "members", "note"), sealer(&store, "members", "name"));
    let persons = StringArray::from(vec!["7", "7", "8"]);
    let values = StringArray::from(vec![Some("a"), Some("b"), None]);
    let first = encrypted(&note, &values, &persons, None).values;
    let second = encrypted(&note, &values, &persons, None).values;
    assert_ne!(&first, &second);
    assert_eq!(&note.comparable(&first).unwrap(), &note.comparable(&second).unwrap());
    let moved = encrypted(&name, &values, &persons, None).values;
    assert_eq!(texts(&note, &moved), ["foreign", "foreign", "null"]);
    assert_ne!(&note.comparable(&moved).unwrap(), &note.comparable(&first).unwrap());
    let hashed = note.comparable(&first).unwrap();
    assert!(!hashed.as_binary::<i32>().iter().flatten().any(|hash| hash.len() != 32));
}
