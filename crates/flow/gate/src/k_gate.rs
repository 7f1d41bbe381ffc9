//! `k_gate`: a table is released only in groups of at least k that look alike in its quasi-identifiers.
//!
//! Groups too small are made coarser one level at a time, and what is too small at the end is left out. Decided over the whole table, when it
//! is released: what a stream brings in one batch says nothing of who is alike. Only rows that are still too few go on to the next level, so
//! that every group of the release has k persons of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use change::{Clock, Error, Kind, Result, TableName};

use crate::calendar::Date;
use crate::canonical::{self, Cell, Form};
use crate::gate::Means;
use crate::kernel::subject::Beside;
use crate::kernel::{Kernel, Setup};
use crate::keys::hex;
use crate::policy::{OnInvalid, Rule};
use crate::{Effect, Transform};

/// The smallest group of a release where the policy says nothing else: what PCORnet and CMS publish.
pub(crate) const K_DEFAULT: u32 = 11;
pub(crate) const K_MAX: u32 = 100_000;

/// Kinds of rows that a table may have before it is refused: each is kept in memory while it is counted.
const KINDS_MAX: usize = 20_000_000;

/// What the policy says of a table's release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KGate {
    pub(crate) k: u32,
    /// The column whose different values are counted; rows are where there is none.
    pub(crate) person: Option<String>,
    /// The quasi-identifiers, in the order in which they are made coarser.
    pub(crate) columns: Vec<(String, Vec<Level>)>,
}

/// One level of a ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The first characters, and an asterisk.
    Prefix(usize),
    /// What a transform makes of the stored value.
    By(Transform),
}

impl Level {
    /// Whether a transform makes values coarser and needs no key.
    pub(crate) fn is_coarse(transform: &Transform) -> bool {
        use Transform as T;
        matches!(
            transform,
            T::DateYear
                | T::DateTrunc { .. }
                | T::DobGeneralise
                | T::AgeCap { .. }
                | T::Zip3
                | T::GeoState
                | T::Bucket { .. }
                | T::Round { .. }
                | T::TopCode { .. }
                | T::Hierarchy { .. }
                | T::Redact { .. }
                | T::NullOut
        )
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Prefix(characters) => write!(f, "prefix({characters})"),
            Level::By(transform) => transform.fmt(f),
        }
    }
}

impl fmt::Display for KGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k {}", self.k)?;
        if let Some(person) = &self.person {
            write!(f, " by {person}")?;
        }
        for (column, ladder) in &self.columns {
            let ladder: Vec<String> = ladder.iter().map(ToString::to_string).collect();
            write!(f, "; {column}: {}", ladder.join(" > "))?;
        }
        Ok(())
    }
}

impl KGate {
    /// What it means that `new` comes in place of this one.
    pub(crate) fn compared(&self, new: &Self) -> (Effect, &'static str) {
        if (&self.person, &self.columns) != (&new.person, &new.columns) {
            return (Effect::Alters, "groups are made by other columns or levels: a person must judge");
        }
        match new.k > self.k {
            true => (Effect::Tightens, "groups are larger"),
            false => (Effect::Loosens, "groups are smaller"),
        }
    }

    /// How coarse each column is, step by step: one level more of one column each time, in turn.
    fn steps(&self) -> Vec<Vec<usize>> {
        let mut steps = vec![vec![0; self.columns.len()]];
        let highest = self.columns.iter().map(|(_, ladder)| ladder.len()).max().unwrap_or(0);
        for level in 1..=highest {
            for (at, (_, ladder)) in self.columns.iter().enumerate() {
                if level <= ladder.len() {
                    let mut next = steps.last().cloned().unwrap_or_default();
                    next[at] = level;
                    steps.push(next);
                }
            }
        }
        steps
    }

    /// Begins to count a table with these columns; `clock` tells the day on which ages depend.
    ///
    /// # Errors
    /// [`Kind::Contract`] when the table lacks a column or a level cannot read one.
    pub fn counting(&self, table: &TableName, columns: &Schema, clock: Arc<dyn Clock>) -> Result<Counting> {
        let today = Date::from_timestamp(clock.now());
        let means = Means { clock, ..Means::none() };
        let setup = Setup { profile: crate::Profile::None, means: &means, table: Some(table) };
        let index = |column: &str| {
            columns.index_of(column).map_err(|_| {
                Error::new(Kind::Contract, format!("{table}: the lake has no column `{column}` for its k_gate"))
                    .fix("Name columns that the lake stores; run `lockgate run` first when the column is new.")
            })
        };
        let mut ladders = Vec::new();
        for (column, ladder) in &self.columns {
            let at = index(column)?;
            let data_type = columns.field(at).data_type();
            let unlike = |what: String| {
                Error::new(Kind::Contract, format!("{table}.{column} is {data_type} in the lake, {what}"))
                    .fix("Choose levels that fit the stored type, not the source's.")
            };
            if !canonical::can_read(data_type) {
                return Err(unlike("and rows cannot be grouped by it".into()));
            }
            let levels = ladder.iter().map(|level| {
                Coarser::new(level, data_type, &setup).map_err(|reads| unlike(format!("and `{level}` reads {reads}")))
            });
            ladders.push(Ladder { column: at, levels: levels.collect::<Result<_>>()? });
        }
        let person = self.person.as_deref().map(index).transpose()?;
        if let Some(at) = person.filter(|at| !canonical::can_read(columns.field(*at).data_type())) {
            let name = columns.field(at).name();
            return Err(Error::new(Kind::Contract, format!("{table}.{name} cannot tell persons apart in the lake"))
                .fix("Name a column that is a token, a code or kept."));
        }
        Ok(Counting {
            gate: self.clone(),
            table: table.clone(),
            ladders,
            person,
            today,
            kinds: HashMap::new(),
            held: 0,
        })
    }
}

/// A quasi-identifier and how it is made coarser.
struct Ladder {
    column: usize,
    levels: Vec<Coarser>,
}

enum Coarser {
    Prefix(usize),
    By(Box<Kernel>),
}

impl Coarser {
    fn new(level: &Level, input: &DataType, setup: &Setup<'_>) -> std::result::Result<Self, &'static str> {
        let transform = match level {
            Level::Prefix(characters) => {
                let text = matches!(input, DataType::Utf8 | DataType::LargeUtf8);
                return if text { Ok(Coarser::Prefix(*characters)) } else { Err("text") };
            }
            Level::By(transform) => transform,
        };
        transform.output(input)?;
        let rule = Rule {
            column: String::new(),
            within: None,
            line: 0,
            transform: transform.clone(),
            on_invalid: OnInvalid::Null,
            form: Form::Exact,
            subject: None,
            pin: None,
            dual: None,
            null_as: None,
            class: None,
            reason: None,
            reviewer: None,
        };
        Kernel::new(&rule, input, setup)
            .ok()
            .flatten()
            .map(|kernel| Coarser::By(Box::new(kernel)))
            .ok_or("another kind of column")
    }
}

impl Ladder {
    /// The column at each of its levels, as text.
    fn texts(&self, rows: &RecordBatch, today: Date) -> Result<Vec<StringArray>> {
        let stored = rows.column(self.column);
        let mut texts = vec![text(stored)?];
        for level in &self.levels {
            texts.push(match level {
                Coarser::Prefix(characters) => {
                    let cut = |value: &str| value.chars().take(*characters).chain(['*']).collect::<String>();
                    texts[0].iter().map(|value| value.map(cut)).collect()
                }
                Coarser::By(kernel) => {
                    text(&kernel.apply(stored, Beside { today, subject: None, known: &[] })?.values)?
                }
            });
        }
        Ok(texts)
    }
}

/// Values as text, in the one spelling that all types share; bytes that are no text in hexadecimal digits.
fn text(array: &ArrayRef) -> Result<StringArray> {
    let is_text = !matches!(array.data_type(), DataType::Binary | DataType::LargeBinary);
    let mut texts: Vec<Option<String>> = Vec::with_capacity(array.len());
    canonical::for_each(array, Form::Exact, |cell| {
        texts.push(match cell {
            Cell::Bytes(bytes) if !is_text => Some(hex(bytes)),
            Cell::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Cell::Null | Cell::Invalid => None,
        });
    })?;
    Ok(texts.into())
}

/// A row's quasi-identifiers as they are stored.
type Stored = Vec<Option<String>>;

/// Rows that are alike as they are stored.
struct Alike {
    /// By level and column.
    levels: Vec<Vec<Option<String>>>,
    rows: u64,
    /// The persons; none where rows are counted.
    persons: HashSet<Option<String>>,
}

/// Counts the rows of a table: [`KGate::counting`].
pub struct Counting {
    gate: KGate,
    table: TableName,
    ladders: Vec<Ladder>,
    person: Option<usize>,
    today: Date,
    kinds: HashMap<Stored, Alike>,
    held: usize,
}

impl Counting {
    /// Takes in rows of the table.
    ///
    /// # Errors
    /// [`Kind::Full`] when there are too many kinds of rows and persons to keep them in memory.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = self.ladders.iter().map(|ladder| ladder.texts(rows, self.today)).collect::<Result<Vec<_>>>()?;
        let persons = self.person.map(|at| text(rows.column(at))).transpose()?;
        for row in 0..rows.num_rows() {
            let at = |texts: &StringArray| texts.is_valid(row).then(|| texts.value(row).to_owned());
            let stored: Stored = columns.iter().map(|levels| at(&levels[0])).collect();
            let alike = self.kinds.entry(stored).or_insert_with(|| {
                self.held += 1;
                let levels = columns.iter().map(|levels| levels.iter().map(at).collect()).collect();
                Alike { levels, rows: 0, persons: HashSet::new() }
            });
            alike.rows += 1;
            if let Some(persons) = &persons {
                self.held += usize::from(alike.persons.insert(at(persons)));
            }
        }
        if self.held > KINDS_MAX {
            let what = format!("{}: more than {KINDS_MAX} kinds of rows cannot be counted in memory", self.table);
            return Err(Error::new(Kind::Full, what).fix("Make the quasi-identifiers coarser in the policy itself."));
        }
        Ok(())
    }

    /// Decides how coarse each kind of row has to be.
    pub fn decide(self) -> Decided {
        let steps = self.gate.steps();
        let mut outcomes: HashMap<Stored, Outcome> = HashMap::with_capacity(self.kinds.len());
        let mut left: Vec<(&Stored, &Alike)> = self.kinds.iter().collect();
        let mut tally: BTreeMap<usize, Tally> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            let mut groups: BTreeMap<Stored, Vec<(&Stored, &Alike)>> = BTreeMap::new();
            for (stored, alike) in std::mem::take(&mut left) {
                let shown = alike.levels.iter().zip(step).map(|(levels, level)| levels[*level].clone()).collect();
                groups.entry(shown).or_default().push((stored, alike));
            }
            for (shown, members) in groups {
                if self.people(&members) < u64::from(self.gate.k) {
                    left.extend(members);
                    continue;
                }
                let group = tally.entry(number).or_default();
                group.groups += 1;
                group.rows += members.iter().map(|(_, alike)| alike.rows).sum::<u64>();
                let shown = Arc::new(shown);
                outcomes.extend(members.into_iter().map(|(stored, _)| (stored.clone(), shown.clone())));
            }
        }
        let suppressed =
            Suppressed { rows: left.iter().map(|(_, alike)| alike.rows).sum(), people: self.people(&left) };
        let released = steps.iter().enumerate().filter_map(|(number, step)| {
            let levels = self.gate.columns.iter().zip(step).map(|((column, ladder), level)| {
                let shown = level.checked_sub(1).map_or_else(|| "as stored".to_owned(), |at| ladder[at].to_string());
                (column.clone(), shown)
            });
            tally.get(&number).map(|tally| ReleasedLevel {
                levels: levels.collect(),
                groups: tally.groups,
                rows: tally.rows,
            })
        });
        let report = KReport {
            k: self.gate.k,
            counted_by: self.gate.person.clone(),
            released: released.collect(),
            // A number of few people is itself about few people.
            suppressed_rows: Counted::of(suppressed.rows, suppressed.people, self.gate.k),
        };
        let columns = self.ladders.iter().map(|ladder| ladder.column).collect();
        Decided { table: self.table, columns, outcomes, report }
    }

    fn people(&self, members: &[(&Stored, &Alike)]) -> u64 {
        match self.person {
            None => members.iter().map(|(_, alike)| alike.rows).sum(),
            Some(_) => {
                // Rows without a person are nobody's: they make no group larger.
                let persons: BTreeSet<&String> =
                    members.iter().flat_map(|(_, alike)| alike.persons.iter().flatten()).collect();
                persons.len() as u64
            }
        }
    }
}

/// What a kind of row shows.
type Outcome = Arc<Stored>;

#[derive(Default)]
struct Tally {
    groups: u64,
    rows: u64,
}

struct Suppressed {
    rows: u64,
    people: u64,
}

/// What was released and what was not; no number is of fewer than k.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KReport {
    /// The least persons or rows of a group.
    pub k: u32,
    /// The column whose values were counted; rows were where there is none.
    pub counted_by: Option<String>,
    /// By how coarse they are, the finest first.
    pub released: Vec<ReleasedLevel>,
    /// Rows that are not in the release.
    pub suppressed_rows: Counted,
}

/// The groups of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedLevel {
    /// By column, how it is shown.
    pub levels: Vec<(String, String)>,
    /// How many groups.
    pub groups: u64,
    /// How many rows.
    pub rows: u64,
}

/// A number that may be told, or that it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// None, or of at least k.
    Exactly(u64),
    /// Of at least one person and fewer than k.
    Few,
}

impl Counted {
    fn of(rows: u64, people: u64, k: u32) -> Self {
        if rows == 0 || people >= u64::from(k) { Self::Exactly(rows) } else { Self::Few }
    }
}

/// How coarse each kind of row is in the release.
pub struct Decided {
    table: TableName,
    columns: Vec<usize>,
    outcomes: HashMap<Stored, Outcome>,
    report: KReport,
}

impl Decided {
    /// What is released and what is not.
    pub fn report(&self) -> &KReport {
        &self.report
    }

    /// The structure of the release: quasi-identifiers are text, because their levels have types of their own.
    pub fn schema(&self, columns: &Schema) -> SchemaRef {
        let field = |(at, field): (usize, &Arc<Field>)| match self.columns.contains(&at) {
            true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
            false => field.clone(),
        };
        Arc::new(Schema::new(columns.fields().iter().enumerate().map(field).collect::<Vec<_>>()))
    }

    /// Rows that were counted, as they are released.
    ///
    /// # Errors
    /// [`Kind::Bug`] when a row was not counted.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let bug = |what: &str| Error::new(Kind::Bug, format!("{}: {what}", self.table));
        let stored = self.columns.iter().map(|at| text(rows.column(*at))).collect::<Result<Vec<_>>>()?;
        let shown: Vec<Option<&Outcome>> = (0..rows.num_rows())
            .map(|row| {
                let at = |texts: &StringArray| texts.is_valid(row).then(|| texts.value(row).to_owned());
                self.outcomes.get(&stored.iter().map(at).collect::<Stored>())
            })
            .collect();
        let mut columns = rows.columns().to_vec();
        for (number, at) in self.columns.iter().enumerate() {
            let values = shown.iter().map(|shown| shown.and_then(|shown| shown[number].as_deref()));
            columns[*at] = Arc::new(values.collect::<StringArray>());
        }
        let released = RecordBatch::try_new(self.schema(&rows.schema()), columns)
            .map_err(|_| bug("a release has another structure"))?;
        let passes: BooleanArray = shown.iter().map(|shown| Some(shown.is_some())).collect();
        filter_record_batch(&released, &passes).map_err(|_| bug("rows of a release could not be left out"))
    }
}

#[cfg(test)]
mod tests;
