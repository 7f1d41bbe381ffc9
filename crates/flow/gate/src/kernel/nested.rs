//! `json_paths`: of a JSON document, only the places that the rule names, each by its own transform.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringArrayType, UInt32Array};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Date32Type, Int16Type};
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::scrub::KnownCells;
use super::subject::{Beside, SubjectCells};
use super::{Kernel, Setup, Stored};
use crate::calendar::Date;
use crate::json::{JsonReader, Next, push_text};
use crate::json_path::{Branch, JsonPaths};

/// The paths as a tree, and the transform of each.
pub(crate) struct Nested {
    tree: Branch,
    kernels: Vec<Kernel>,
}

/// All values of one path in a batch, in the order of the rows.
#[derive(Default)]
pub(super) struct Values {
    text: String,
    ends: Vec<usize>,
    /// Whether the value was a number or a boolean, and so stands without quotes when it is kept.
    bare: Vec<bool>,
    rows: Vec<u32>,
}

/// What of a batch's documents is written: texts between values, and where the values stand.
#[derive(Default)]
struct Tape {
    between: Vec<u8>,
    /// The end of a text in `between`, the path whose next value follows it.
    stops: Vec<(usize, usize)>,
    /// The ends in `between` and `stops`, row by row; the same as before for a row without document.
    rows: Vec<(usize, usize)>,
}

impl Nested {
    pub(crate) fn new(paths: &JsonPaths, setup: &Setup<'_>) -> Result<Self> {
        let tree = Branch::of(paths.0.iter().map(|(path, _)| path))
            .map_err(|path| Error::new(Kind::Bug, format!("the path {path} contradicts another")))?;
        let kernels = paths.0.iter().map(|(path, rule)| {
            Kernel::new(rule, &DataType::Utf8, setup)?
                .ok_or_else(|| Error::new(Kind::Bug, format!("the path {path} is dropped by a rule of its own")))
        });
        Ok(Self { tree, kernels: kernels.collect::<Result<_>>()? })
    }

    /// For documents that this rule has written, see [`Kernel::moved`]: what does not change stays as it is.
    pub(crate) fn moved(paths: &JsonPaths, stored: &Stored<'_>) -> Result<Option<Self>> {
        let tree = Branch::of(paths.0.iter().map(|(path, _)| path))
            .map_err(|path| Error::new(Kind::Bug, format!("the path {path} contradicts another")))?;
        let kernels = paths.0.iter().map(|(_, rule)| Kernel::moved(rule, stored));
        let kernels = kernels.collect::<Result<Option<Vec<_>>>>()?;
        Ok(kernels.map(|kernels| Self { tree, kernels }))
    }

    /// For documents that this rule has written on an earlier day, see [`Kernel::aged`].
    pub(super) fn aged(&self) -> Option<Self> {
        let kernels: Vec<Option<Kernel>> = self.kernels.iter().map(Kernel::aged).collect();
        kernels.iter().any(Option::is_some).then(|| Self {
            tree: self.tree.clone(),
            kernels: kernels.into_iter().map(|kernel| kernel.unwrap_or(Kernel::Keep)).collect(),
        })
    }

    /// What is not JSON cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        match array.data_type() {
            DataType::Utf8 => self.documents(array.as_string::<i32>(), beside),
            DataType::LargeUtf8 => self.documents(array.as_string::<i64>(), beside),
            other => Err(Error::new(Kind::Bug, format!("a document was asked of a column of type {other}"))),
        }
    }

    /// The values of every path as they are in the documents, and the row of each.
    pub(crate) fn values(&self, array: &dyn Array) -> Result<Vec<(StringArray, Vec<u32>)>> {
        match array.data_type() {
            DataType::Utf8 => self.walk(array.as_string::<i32>()).0.into_values(),
            DataType::LargeUtf8 => self.walk(array.as_string::<i64>()).0.into_values(),
            other => Err(Error::new(Kind::Bug, format!("a document was asked of a column of type {other}"))),
        }
    }

    /// Reads all documents, and tells which of them are JSON.
    fn walk<'a>(&self, array: impl StringArrayType<'a>) -> (Walk, Vec<Option<bool>>) {
        let mut walk =
            Walk { values: (0..self.kernels.len()).map(|_| Values::default()).collect(), tape: Tape::default() };
        let read = (0..)
            .zip(array.iter())
            .map(|(row, text)| {
                let read = text.map(|text| walk.document(&self.tree, text, row));
                walk.tape.rows.push((walk.tape.between.len(), walk.tape.stops.len()));
                read
            })
            .collect();
        (walk, read)
    }

    fn documents<'a>(&self, array: impl StringArrayType<'a>, beside: Beside<'_>) -> Result<Passed> {
        let rows = array.len();
        let (walk, read) = self.walk(array);
        let Walk { values, tape } = walk;
        let (mut passed, mut bare) = (Vec::new(), Vec::new());
        for (kernel, values) in self.kernels.iter().zip(values) {
            passed.push(values.pass(kernel, beside)?);
            bare.push(values.bare);
        }
        let mut column = TextColumn::with_capacity(rows, tape.between.len() / rows.max(1) + 64);
        let mut next = vec![0; self.kernels.len()];
        let (mut at, mut stop) = (0, 0);
        let mut document = Vec::new();
        for (read, (between_end, stops_end)) in read.into_iter().zip(&tape.rows) {
            document.clear();
            for (text_end, path) in &tape.stops[stop..*stops_end] {
                document.extend_from_slice(&tape.between[at..*text_end]);
                at = *text_end;
                let slot = next[*path];
                next[*path] += 1;
                let as_it_was = matches!(self.kernels[*path], Kernel::Keep) && bare[*path][slot];
                push_value(&mut document, &passed[*path].values, slot, as_it_was)?;
            }
            document.extend_from_slice(&tape.between[at..*between_end]);
            (at, stop) = (*between_end, *stops_end);
            match read {
                None => column.push_null(),
                Some(true) => column.push(&document, b""),
                Some(false) => column.push_invalid(),
            }
        }
        let mut written = column.finish()?;
        written.invalid += passed.iter().map(|passed| passed.invalid).sum::<u64>();
        Ok(written)
    }
}

/// Appends one value as JSON.
fn push_value(out: &mut Vec<u8>, values: &ArrayRef, slot: usize, as_it_was: bool) -> Result<()> {
    if values.is_null(slot) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match values.data_type() {
        DataType::Utf8 if as_it_was => out.extend_from_slice(values.as_string::<i32>().value(slot).as_bytes()),
        DataType::Utf8 => push_text(out, values.as_string::<i32>().value(slot)),
        DataType::Int16 => out.extend_from_slice(values.as_primitive::<Int16Type>().value(slot).to_string().as_bytes()),
        DataType::Date32 => {
            push_text(out, &Date::from_days(values.as_primitive::<Date32Type>().value(slot)).to_string());
        }
        other => return Err(Error::new(Kind::Bug, format!("a value of type {other} has no place in a document"))),
    }
    Ok(())
}

struct Walk {
    values: Vec<Values>,
    tape: Tape,
}

impl Walk {
    /// Reads one document; when it is not JSON, nothing of it is left.
    fn document(&mut self, tree: &Branch, text: &str, row: u32) -> bool {
        let before = (self.tape.between.len(), self.tape.stops.len());
        let counts: Vec<usize> = self.values.iter().map(|values| values.rows.len()).collect();
        let mut reader = JsonReader::new(text);
        let read = self.branch(tree, &mut reader, row).and_then(|()| reader.end()).is_some();
        if !read {
            self.tape.between.truncate(before.0);
            self.tape.stops.truncate(before.1);
            self.values.iter_mut().zip(counts).for_each(|(values, count)| values.truncate(count));
        }
        read
    }

    fn into_values(self) -> Result<Vec<(StringArray, Vec<u32>)>> {
        self.values.into_iter().map(Values::into_parts).collect()
    }

    fn branch(&mut self, branch: &Branch, reader: &mut JsonReader<'_>, row: u32) -> Option<()> {
        match (branch, reader.next()?) {
            (Branch::Object(keys), Next::Object) => {
                let mut first = true;
                self.tape.between.push(b'{');
                reader.object(|reader, key| match keys.iter().find(|(known, _)| known == key) {
                    None => reader.skip(),
                    Some((key, branch)) => {
                        if !std::mem::take(&mut first) {
                            self.tape.between.push(b',');
                        }
                        push_text(&mut self.tape.between, key);
                        self.tape.between.push(b':');
                        self.branch(branch, reader, row)
                    }
                })?;
                self.tape.between.push(b'}');
            }
            (Branch::Items(item), Next::List) => {
                let mut first = true;
                self.tape.between.push(b'[');
                reader.list(|reader| {
                    if !std::mem::take(&mut first) {
                        self.tape.between.push(b',');
                    }
                    self.branch(item, reader, row)
                })?;
                self.tape.between.push(b']');
            }
            (Branch::Leaf(path), Next::Text | Next::Bare) => self.value(*path, reader, row)?,
            // Another kind of value than the path says, or none.
            _ => {
                reader.skip()?;
                self.tape.between.extend_from_slice(b"null");
            }
        }
        Some(())
    }

    fn value(&mut self, path: usize, reader: &mut JsonReader<'_>, row: u32) -> Option<()> {
        let values = &mut self.values[path];
        let bare = reader.next()? == Next::Bare;
        match bare {
            true => values.text.push_str(reader.bare()?),
            false => reader.text(&mut values.text)?,
        }
        values.ends.push(values.text.len());
        values.bare.push(bare);
        values.rows.push(row);
        self.tape.stops.push((self.tape.between.len(), path));
        Some(())
    }
}

impl Values {
    /// Appends a value of a row.
    pub(super) fn push(&mut self, value: &str, row: u32) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
        self.bare.push(false);
        self.rows.push(row);
    }

    pub(super) fn into_parts(self) -> Result<(StringArray, Vec<u32>)> {
        Ok((self.array()?, self.rows))
    }

    fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bare.truncate(count);
        self.rows.truncate(count);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn array(&self) -> Result<StringArray> {
        let lengths = self.ends.iter().scan(0, |start, end| Some(end - std::mem::replace(start, *end)));
        StringArray::try_new(OffsetBuffer::from_lengths(lengths), self.text.as_bytes().into(), None)
            .map_err(|_| Error::new(Kind::Bug, "a value of a document is not text"))
    }

    /// Transforms all of them at once.
    pub(super) fn pass(&self, kernel: &Kernel, beside: Beside<'_>) -> Result<Passed> {
        let array = self.array()?;
        if beside.subject.is_none() && beside.known.is_empty() {
            return kernel.apply(&array, beside);
        }
        let rows = UInt32Array::from(self.rows.clone());
        let here = |values: &dyn Array, unsent: Option<&BooleanBuffer>| {
            let values = take(values, &rows, None)
                .map_err(|_| Error::new(Kind::Bug, "what stands beside a document's values could not be found"))?;
            let unsent = unsent.map(|unsent| {
                BooleanBuffer::collect_bool(self.rows.len(), |slot| unsent.value(self.rows[slot] as usize))
            });
            Ok((values, unsent))
        };
        let persons = beside.subject.map(|subject| here(subject.values, subject.unsent)).transpose()?;
        let subject = persons.as_ref().map(|(values, unsent)| SubjectCells { values, unsent: unsent.as_ref() });
        let known = beside.known.iter().map(|known| Ok((known.column, here(known.values, known.unsent)?)));
        let known = known.collect::<Result<Vec<_>>>()?;
        let known: Vec<KnownCells<'_>> = known
            .iter()
            .map(|(column, (values, unsent))| KnownCells { column, values, unsent: unsent.as_ref() })
            .collect();
        kernel.apply(&array, Beside { subject, known: &known, ..beside })
    }
}
