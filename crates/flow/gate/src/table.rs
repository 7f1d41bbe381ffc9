use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use change::{ChangeBatch, Clock, Error, Identity, Kind, Op, Origin, Position, Result, RowMeta, TableSchema, Unsent};

use crate::calendar::Date;
use crate::gate::Means;
use crate::held::{HeldRow, RowKey};
use crate::invalid::InvalidWatch;
use crate::kernel::scrub::KnownCells;
use crate::kernel::subject::{Beside, SubjectCells};
use crate::kernel::{Kernel, Setup};
use crate::policy::{OnInvalid, Rule, TableRules};
use crate::stamp::check_renamed;
use crate::suppress::{Keeper, without};
use crate::{ClearedBatch, ClearedColumn, ClearedSchema, Profile, Transform, null_as};

mod holding;

use self::holding::Holder;
pub use self::holding::{Readmitted, Standing};

/// The gate of one table with one structure.
pub struct TableGate {
    raw: Arc<TableSchema>,
    cleared: Arc<ClearedSchema>,
    passages: Vec<Passage>,
    dropped: Vec<DroppedColumn>,
    absent: Vec<String>,
    rules: BTreeMap<String, String>,
    epochs: BTreeMap<String, u32>,
    /// `None` without keys, or when rows have no key to be known by.
    holder: Option<Holder>,
    clock: Arc<dyn Clock>,
    keeper: Keeper,
}

/// How one column passes.
struct Passage {
    /// The raw column's index.
    from: usize,
    kernel: Kernel,
    /// The raw column that says whom a row is about.
    subject: Option<usize>,
    /// The raw columns whose values are searched in its texts.
    known: Vec<usize>,
    /// Not one value may be lost: the column identifies the row, or the rule says halt.
    halts: bool,
    /// A row with an unreadable value here is kept back.
    holds: bool,
    /// What stands for null: a column of one value.
    null_as: Option<ArrayRef>,
    watch: InvalidWatch,
}

/// A column that no rule names: it is not stored, and someone has to classify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedColumn {
    /// The column's name.
    pub name: String,
    /// The source's own type.
    pub source_type: String,
}

/// What [`TableGate::clear`] gives.
#[derive(Debug)]
pub struct Cleared {
    /// The rows, for the lake.
    pub batch: ClearedBatch,
    /// How many values a column's transform could not read (they are null now); only columns with some.
    pub invalid: Vec<(String, u64)>,
    /// Rows that were kept back, to be made durable before anything at or above their position is.
    pub held: Vec<HeldRow>,
    /// Keys of streamed rows that passed beside a first copy, when that was asked for, and where: a row of theirs that was copied with a lower
    /// position is out of date.
    pub passed: Vec<(RowKey, Position)>,
}

/// Raw rows and what is known beside their values.
struct Coming {
    origin: Origin,
    rows: RecordBatch,
    meta: RowMeta,
    unsent: Unsent,
}

/// The columns of a batch after their transforms.
struct Passing {
    columns: Vec<ArrayRef>,
    masks: Vec<Option<BooleanBuffer>>,
    /// How many values could not be read, by passage; only passages with some.
    invalid: Vec<(usize, u64)>,
}

impl Passage {
    /// How a rule lets a raw column through, and the column that comes out; `None` when none does.
    fn new(
        raw: &TableSchema,
        from: usize,
        rule: &Rule,
        setup: &Setup<'_>,
        watch: InvalidWatch,
    ) -> Result<Option<(Self, ClearedColumn)>> {
        let input = &raw.columns[from].data_type;
        let output = rule.transform.output(input).map_err(|reads| {
            let what = format!("{}.{}: `{}` reads {reads}", raw.table, rule.column, rule.transform);
            Error::new(Kind::Contract, what)
        })?;
        let kernel = Kernel::new(rule, input, setup)?;
        let (Some(data_type), Some(kernel)) = (output, kernel) else { return Ok(None) };
        let null_as = null_as::constant(rule, &data_type)
            .map_err(|why| Error::new(Kind::Contract, format!("{}.{}: `null_as` {why}", raw.table, rule.column)))?;
        let identifies = matches!(&raw.identity, Identity::Key(key) if key.contains(&from));
        let column = ClearedColumn {
            name: rule.column.clone(),
            statistics: !identifies && rule.transform.statistics(&data_type),
            data_type,
            transform: rule.transform.to_string(),
        };
        let halts = identifies || rule.on_invalid == OnInvalid::Halt;
        let holds = !halts && rule.on_invalid == OnInvalid::Hold;
        let subject = rule.subject.as_ref().and_then(|subject| raw.index_of(subject));
        let known = rule.transform.known_columns().into_iter().filter_map(|known| raw.index_of(known)).collect();
        Ok(Some((Self { from, kernel, subject, known, halts, holds, null_as, watch }, column)))
    }

    /// Whether what comes out hangs on a raw column.
    fn uses(&self, raw: usize) -> bool {
        self.from == raw || self.subject == Some(raw) || self.known.contains(&raw)
    }
}

impl TableGate {
    pub(crate) fn new(
        raw: &Arc<TableSchema>,
        rules: &TableRules,
        profile: Profile,
        invalid_percent_max: f64,
        means: &Means,
    ) -> Result<Self> {
        let setup = Setup { profile, means, table: Some(&raw.table) };
        let (mut passages, mut columns, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for (from, column) in raw.columns.iter().enumerate() {
            let Some(rule) = rules.columns.iter().find(|rule| rule.column == column.name) else {
                dropped.push(DroppedColumn { name: column.name.clone(), source_type: column.source_type.clone() });
                continue;
            };
            for rule in rule.with_beside() {
                let through = Passage::new(raw, from, &rule, &setup, InvalidWatch::new(invalid_percent_max))?;
                let Some((passage, column)) = through else { continue };
                passages.push(passage);
                columns.push(column);
            }
        }
        let rule_of = |name: &String| match rules.columns.iter().find(|rule| rule.column == *name) {
            Some(rule) => rule.meaning(),
            None => Transform::Drop.to_string(),
        };
        let spelled = raw.columns.iter().map(|column| (column.name.clone(), rule_of(&column.name)));
        let there = rules.columns.iter().filter(|rule| raw.index_of(&rule.column).is_some());
        let beside = there.filter_map(Rule::beside).map(|rule| (rule.column.clone(), rule.meaning()));
        let spelled = spelled.chain(beside).collect();
        let named = rules.columns.iter().filter(|rule| !matches!(rule.transform, Transform::Drop));
        let absent = named.map(|rule| rule.column.clone()).filter(|name| raw.index_of(name).is_none()).collect();
        let all = || rules.columns.iter().flat_map(Rule::with_beside);
        let epochs = means.keys.iter().flat_map(|keys| all().flat_map(|rule| rule.epochs(keys))).collect();
        let of_columns = raw
            .columns
            .iter()
            .enumerate()
            .map(|(from, column)| (from, rules.columns.iter().find(|rule| rule.column == column.name)));
        let keeper = Keeper::new(&means.suppression, raw, of_columns, means.keys.as_deref())?;
        let identity = cleared_identity(raw, &passages);
        let cleared = Arc::new(ClearedSchema { table: raw.table.clone(), columns, identity });
        let holder = Holder::new(means, raw)?;
        let (raw, clock) = (raw.clone(), means.clock.clone());
        Ok(Self { raw, cleared, passages, dropped, absent, rules: spelled, epochs, holder, clock, keeper })
    }

    /// Whether raw rows of this structure may come to this gate.
    pub fn reads(&self, raw: &Arc<TableSchema>) -> bool {
        Arc::ptr_eq(raw, &self.raw) || *raw == self.raw
    }

    /// The table's structure after the gate.
    pub fn schema(&self) -> &Arc<ClearedSchema> {
        &self.cleared
    }

    /// The columns that no rule names. They are dropped.
    pub fn dropped(&self) -> &[DroppedColumn] {
        &self.dropped
    }

    /// Columns that the policy stores and the source does not have (any more).
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The rule of every column of the source: transform and canonical form, `drop` for those that are not stored.
    pub fn rules(&self) -> &BTreeMap<String, String> {
        &self.rules
    }

    /// The epoch of the key that makes what stands in a column, or at a place within its documents; only where one does. Columns that
    /// the source does not have any more are among them.
    pub fn epochs(&self) -> &BTreeMap<String, u32> {
        &self.epochs
    }

    /// What the source knows the columns by; those without a rule are among them.
    pub(crate) fn numbers(&self) -> BTreeMap<String, i64> {
        self.raw.columns.iter().filter_map(|column| Some((column.name.clone(), column.number?))).collect()
    }

    /// Columns of timestamps that a shift moves.
    pub(crate) fn shifted_times(&self) -> BTreeSet<String> {
        let columns = self.passages.iter().zip(&self.cleared.columns);
        let shifted = columns.filter(|(passage, column)| {
            matches!(passage.kernel, Kernel::DateShift(_)) && matches!(column.data_type, DataType::Timestamp(..))
        });
        shifted.map(|(_, column)| column.name.clone()).collect()
    }

    /// Whether every name still stands for the column that it stood for under `before`.
    ///
    /// # Errors
    /// [`Kind::Contract`] when a column of which something is stored has another one's name.
    pub fn check_renamed(&self, before: &TableGate) -> Result<()> {
        check_renamed((&before.numbers(), before.rules()), (&self.numbers(), self.rules()))
    }

    /// The day of processing.
    pub(crate) fn today(&self) -> Date {
        Date::from_timestamp(self.clock.now())
    }

    /// A column of stored rows as values that can be compared: equal for equal raw values. `None` where the stored values are that already;
    /// encrypted cells become keyed hashes of what they hold, and null where their key was destroyed; what depends on the day of processing
    /// becomes what it would be today.
    ///
    /// # Errors
    /// What the store of data keys says.
    pub fn comparable(&self, column: &str, stored: &ArrayRef) -> Result<Option<ArrayRef>> {
        let named = self.cleared.columns.iter().position(|cleared| cleared.name == column);
        let Some(passage) = named.and_then(|at| self.passages.get(at)) else { return Ok(None) };
        if let Kernel::Cells(sealer) = &passage.kernel {
            return sealer.comparable(stored).map(Some);
        }
        let beside = Beside { today: Date::from_timestamp(self.clock.now()), subject: None, known: &[] };
        passage.kernel.aged().map(|aged| Ok(aged.apply(stored, beside)?.values)).transpose()
    }

    /// Clears a batch: every row passes but those of suppressed persons, in order, and each column by its rule. The result shares no memory with the raw rows.
    ///
    /// # Errors
    /// [`Kind::Data`] when a column that identifies rows, or whose rule says halt, holds a value that its transform cannot read, or when
    /// too many values of another column cannot be read; [`Kind::Bug`] when the batch has another structure; and what the vault says.
    pub fn clear(&self, batch: ChangeBatch) -> Result<Cleared> {
        let coming = self.receive(batch)?;
        let passing = self.pass(&coming, true)?;
        self.let_out(coming, passing)
    }

    fn receive(&self, batch: ChangeBatch) -> Result<Coming> {
        let (schema, origin, rows, meta, unsent) = batch.into_parts();
        if !self.reads(&schema) {
            let what = format!("{}: rows of another structure came to the gate", self.raw.table);
            return Err(Error::new(Kind::Bug, what));
        }
        let mut coming = Coming { origin, rows: rows.into_exposed(), meta, unsent };
        self.suppress(&mut coming)?;
        Ok(coming)
    }

    /// Takes out the rows of suppressed persons.
    fn suppress(&self, coming: &mut Coming) -> Result<()> {
        let kernel = |raw| self.passages.iter().find(|passage| passage.from == raw).map(|passage| &passage.kernel);
        let Some(passing) = self.keeper.passing(&coming.rows, &coming.meta, &coming.unsent, kernel)? else {
            return Ok(());
        };
        let (rows, meta, unsent) = (coming.rows.clone(), coming.meta.clone(), coming.unsent.clone());
        (coming.rows, coming.meta, coming.unsent) = without(&passing, rows, meta, unsent)?;
        Ok(())
    }

    /// Every column through its transform. `watched` counts unreadable values towards the share that stops the table.
    fn pass(&self, coming: &Coming, watched: bool) -> Result<Passing> {
        let mut passing = Passing { columns: Vec::new(), masks: Vec::new(), invalid: Vec::new() };
        for (number, (passage, cleared)) in self.passages.iter().zip(&self.cleared.columns).enumerate() {
            let raw = coming.rows.column(passage.from);
            let place = || format!("{}.{}", self.raw.table, cleared.name);
            let known = self.known(passage, coming);
            let passed = passage
                .kernel
                .apply(raw, self.beside(passage, coming, &known))
                .map_err(|error| error.context(place()))?;
            if passed.invalid > 0 {
                if passage.halts {
                    return Err(halted(&place(), &cleared.transform, passed.invalid));
                }
                passing.invalid.push((number, passed.invalid));
            }
            if watched {
                let values = (raw.len() - raw.null_count()) as u64;
                passage.watch.observe(values, passed.invalid).map_err(|error| error.context(place()))?;
            }
            passing.columns.push(self.with_null_as(passage, coming, passed.values)?);
            passing.masks.push(coming.unsent.0[passage.from].clone());
        }
        Ok(passing)
    }

    /// The column with what stands for null. A value that cannot be read stays null, so that the two can be told apart, and so does what the
    /// source did not send: it is no null there.
    fn with_null_as(&self, passage: &Passage, coming: &Coming, values: ArrayRef) -> Result<ArrayRef> {
        let raw = coming.rows.column(passage.from);
        let Some(constant) = passage.null_as.as_ref().filter(|_| raw.null_count() > 0) else { return Ok(values) };
        let key_alone = |row: usize| matches!(coming.meta.ops[row], Op::Delete | Op::MoveOut);
        let is_null = |row| raw.is_null(row) && !coming.unsent.is_unsent(passage.from, row) && !key_alone(row);
        null_as::filled(&values, constant, is_null)
    }

    /// The cells whose values a text is searched for.
    fn known<'a>(&'a self, passage: &Passage, coming: &'a Coming) -> Vec<KnownCells<'a>> {
        let cells = |known: &usize| KnownCells {
            column: &self.raw.columns[*known].name,
            values: coming.rows.column(*known),
            unsent: coming.unsent.0[*known].as_ref(),
        };
        passage.known.iter().map(cells).collect()
    }

    fn beside<'a>(&self, passage: &Passage, coming: &'a Coming, known: &'a [KnownCells<'a>]) -> Beside<'a> {
        let cells = |subject: usize| SubjectCells {
            values: coming.rows.column(subject),
            unsent: coming.unsent.0[subject].as_ref(),
        };
        Beside { today: self.today(), subject: passage.subject.map(cells), known }
    }

    fn let_out(&self, coming: Coming, passing: Passing) -> Result<Cleared> {
        let Passing { columns, masks, invalid } = passing;
        let options = RecordBatchOptions::new().with_row_count(Some(coming.meta.len()));
        let rows = RecordBatch::try_new_with_options(self.cleared.arrow(), columns, &options).map_err(|_| {
            Error::new(Kind::Bug, format!("{}: a transform gave another type or length", self.raw.table))
        })?;
        let batch = ClearedBatch::new(self.cleared.clone(), coming.origin, rows, coming.meta, Unsent(masks));
        let named = |(passage, count): (usize, u64)| (self.cleared.columns[passage].name.clone(), count);
        let invalid = invalid.into_iter().map(named).collect();
        Ok(Cleared { batch, invalid, held: Vec::new(), passed: Vec::new() })
    }
}

fn halted(place: &str, transform: &str, invalid: u64) -> Error {
    Error::new(Kind::Data, format!("{place}: `{transform}` cannot read {invalid} value(s), and none may be lost here"))
        .fix("Mend the values in the source, or choose another transform for the column.")
}

fn cleared_identity(raw: &TableSchema, passages: &[Passage]) -> Identity {
    match &raw.identity {
        Identity::Key(key) => Identity::Key(
            key.iter().filter_map(|index| passages.iter().position(|passage| passage.from == *index)).collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
