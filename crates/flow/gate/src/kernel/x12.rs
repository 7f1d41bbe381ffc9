//! `x12_map`: of an X12 document, only the elements that a map names, each by its own transform, in an envelope that is made anew.
//!
//! A document is walked twice by the same code: once to collect the values of each rule, so that each is transformed in one go, and once to
//! write what came back.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringArrayType};
use arrow::datatypes::{DataType, Date32Type, Int16Type};
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::nested::Values;
use super::subject::Beside;
use super::{Kernel, Setup, Stored};
use crate::Transform;
use crate::calendar::Date;
use crate::policy::Rule;
use crate::x12::{self, Delimiters, Interchange, Segment, Set};
use crate::x12_map::{Places, ReadyMap, X12Map, opens_loop, wanted};

/// A map with all that it needs to run.
pub(crate) struct X12 {
    ready: ReadyMap,
    places: Places,
    /// By the map's rules; `None` for one that drops.
    kernels: Vec<Option<Element>>,
    /// It reads what this map has written.
    stored: bool,
}

/// How the values of one rule are treated.
struct Element {
    kernel: Kernel,
    /// Whether it reads dates, which X12 writes as `20240229` and `20240229-20240331`.
    dated: bool,
}

/// What becomes of a value in one walk.
trait Sink {
    /// The value in the output; empty when nothing of it passes.
    fn value(&mut self, rule: usize, value: &str) -> Result<String>;
    /// A value that nobody can read.
    fn unreadable(&mut self);
}

impl X12 {
    pub(crate) fn new(map: &X12Map, setup: &Setup<'_>) -> Result<Self> {
        Self::of(map, false, |rule| Kernel::new(rule, &DataType::Utf8, setup))
    }

    /// For documents that this map has written, see [`Kernel::moved`]. `None` when keys made something of them.
    pub(crate) fn moved(map: &X12Map, stored: &Stored<'_>) -> Result<Option<Self>> {
        for (_, rule) in &map.rules {
            if stored.epochs(rule)?.is_some() {
                return Ok(None);
            }
        }
        let kernel = |rule: &Rule| match rule.transform.output(&DataType::Utf8) {
            Ok(Some(_)) => Kernel::moved(rule, stored),
            _ => Ok(None),
        };
        Self::of(map, true, kernel).map(Some)
    }

    fn of(map: &X12Map, stored: bool, kernel: impl Fn(&Rule) -> Result<Option<Kernel>>) -> Result<Self> {
        let mut kernels = Vec::new();
        let mut paths = Vec::new();
        for (number, (path, rule)) in map.rules.iter().enumerate() {
            let kernel = kernel(rule)?;
            paths.push((path, kernel.as_ref().map(|_| number)));
            use Transform as T;
            let dated =
                matches!(rule.transform, T::DateYear | T::DateTrunc { .. } | T::DateShift { .. } | T::DobGeneralise);
            kernels.push(kernel.map(|kernel| Element { kernel, dated }));
        }
        Ok(Self { ready: map.ready, places: Places::of(paths.into_iter()), kernels, stored })
    }

    /// Whether it writes years that depend on the day of processing.
    pub(super) fn shows_years(&self) -> bool {
        self.kernels.iter().flatten().any(|element| matches!(element.kernel, Kernel::DateYear | Kernel::DobGeneralise))
    }

    /// What is no such document, or has an envelope that contradicts itself, cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        match array.data_type() {
            DataType::Utf8 => self.documents(array.as_string::<i32>(), beside),
            DataType::LargeUtf8 => self.documents(array.as_string::<i64>(), beside),
            other => Err(unlike(other)),
        }
    }

    /// The values of every rule as they are in the documents, and the row of each; none for rules that drop.
    pub(crate) fn values(&self, array: &dyn Array) -> Result<Vec<(StringArray, Vec<u32>)>> {
        let (collected, _) = match array.data_type() {
            DataType::Utf8 => self.collect(array.as_string::<i32>())?,
            DataType::LargeUtf8 => self.collect(array.as_string::<i64>())?,
            other => return Err(unlike(other)),
        };
        collected.values.into_iter().map(Values::into_parts).collect()
    }

    fn collect<'a>(&self, array: impl StringArrayType<'a>) -> Result<(Collected, Vec<Option<bool>>)> {
        let mut collected =
            Collected { values: (0..self.kernels.len()).map(|_| Values::default()).collect(), row: 0, unreadable: 0 };
        let mut read = Vec::with_capacity(array.len());
        for (row, text) in (0..).zip(array.iter()) {
            collected.row = row;
            let reads = |text: &str| -> Result<bool> {
                Ok(self.gives_back(text)? && self.document(text, &mut collected)?.is_some())
            };
            read.push(text.map(reads).transpose()?);
        }
        Ok((collected, read))
    }

    /// Whether a stored document comes out as it is when no value changes: else something of it would be lost.
    fn gives_back(&self, text: &str) -> Result<bool> {
        Ok(!self.stored || self.document(text, &mut AsItIs)?.is_some_and(|out| out == text))
    }

    fn documents<'a>(&self, array: impl StringArrayType<'a> + Copy, beside: Beside<'_>) -> Result<Passed> {
        let (collected, read) = self.collect(array)?;
        let mut invalid = collected.unreadable;
        let mut passed = Vec::with_capacity(self.kernels.len());
        for (element, values) in self.kernels.iter().zip(collected.values) {
            let one = element.as_ref().map(|element| values.pass(&element.kernel, beside)).transpose()?;
            invalid += one.as_ref().map_or(0, |one| one.invalid);
            passed.push(one.map(|one| one.values));
        }
        let mut written = Written { x12: self, next: vec![0; passed.len()], passed };
        let mut column = TextColumn::with_capacity(array.len(), 512);
        for (text, read) in array.iter().zip(read) {
            match (text, read) {
                (Some(text), Some(true)) => match self.document(text, &mut written)? {
                    Some(document) => column.push(document.as_bytes(), b""),
                    None => return Err(Error::new(Kind::Bug, "a document was read once and not twice")),
                },
                (Some(_), _) => column.push_invalid(),
                (None, _) => column.push_null(),
            }
        }
        let mut column = column.finish()?;
        column.invalid += invalid;
        Ok(column)
    }

    /// The document as it passes; `None` when it is none of this map.
    fn document(&self, text: &str, sink: &mut impl Sink) -> Result<Option<String>> {
        let Some(interchanges) = x12::read(text) else { return Ok(None) };
        if !interchanges.iter().all(|interchange| self.is_ours(interchange)) {
            return Ok(None);
        }
        let mut out = String::with_capacity(text.len());
        for (number, interchange) in (1..).zip(&interchanges) {
            let mut page = Page { out: &mut out, delimiters: interchange.delimiters, line_end: interchange.line_end };
            self.interchange(interchange, number, &mut page, sink)?;
        }
        Ok(Some(out))
    }

    fn is_ours(&self, interchange: &Interchange<'_>) -> bool {
        interchange.groups.iter().all(|group| {
            let of_group = group.gs.as_ref().map_or("", |gs| gs.element(8));
            group.sets.iter().all(|set| {
                let guide = if set.st.element(3).is_empty() { of_group } else { set.st.element(3) };
                self.ready.is_for(set.st.element(1), guide)
            })
        })
    }

    /// Sender, receiver, control numbers and times are those of the way that the document came; they are filled in anew.
    fn interchange(
        &self,
        interchange: &Interchange<'_>,
        number: usize,
        page: &mut Page<'_>,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let control = format!("{number:09}");
        if let Some(isa) = &interchange.isa {
            page.segment("ISA", &isa_elements(isa, &control, interchange.delimiters));
        }
        for (group_number, group) in (1..).zip(&interchange.groups) {
            let group_control = group_number.to_string();
            if let Some(gs) = &group.gs {
                page.segment("GS", &gs_elements(gs, self.ready, &group_control));
            }
            for (set_number, set) in (1..).zip(&group.sets) {
                self.set(set, set_number, page, sink)?;
            }
            if group.gs.is_some() {
                page.segment("GE", &[group.sets.len().to_string(), group_control]);
            }
        }
        if interchange.isa.is_some() {
            page.segment("IEA", &[interchange.groups.len().to_string(), control]);
        }
        Ok(())
    }

    fn set(&self, set: &Set<'_>, number: usize, page: &mut Page<'_>, sink: &mut impl Sink) -> Result<()> {
        let control = format!("{number:04}");
        let mut st = vec![set.st.element(1).to_owned(), control.clone()];
        st.extend(guide(set.st.element(3)));
        page.segment("ST", &st);
        let (mut count, mut parent) = (2, String::new());
        for segment in &set.body {
            let qualifier = qualifier(segment, page.delimiters);
            let elements = self.segment(segment, &parent, qualifier, page.delimiters, sink)?;
            if let Some(elements) = elements {
                page.segment(segment.id, &elements);
                count += 1;
            }
            if opens_loop(segment.id) {
                parent = match segment.id {
                    "HL" | "NM1" | "N1" => format!("{}*{qualifier}", segment.id),
                    id => id.to_owned(),
                };
            }
        }
        page.segment("SE", &[count.to_string(), control]);
        Ok(())
    }

    /// What passes of a segment; `None` when nothing does, or not what the standard wants of it.
    fn segment(
        &self,
        segment: &Segment<'_>,
        parent: &str,
        qualifier: &str,
        delimiters: Delimiters,
        sink: &mut impl Sink,
    ) -> Result<Option<Vec<String>>> {
        let places = self.places.of_segment(parent, segment.id, qualifier);
        if places.is_empty() {
            return Ok(None);
        }
        let mut elements = Vec::with_capacity(segment.elements.len());
        for (number, element) in (1..).zip(&segment.elements) {
            let mut repeats = Vec::new();
            for repeat in element.split(delimiters.repetition.unwrap_or(delimiters.segment)) {
                let whole = |component| places.rule(number, component);
                repeats.push(self.element(repeat, whole, delimiters, sink)?);
            }
            while repeats.last().is_some_and(String::is_empty) {
                repeats.pop();
            }
            elements.push(repeats.join(&delimiters.repetition.map(String::from).unwrap_or_default()));
        }
        Ok(complete(segment.id, elements, delimiters))
    }

    fn element(
        &self,
        text: &str,
        rule: impl Fn(u8) -> Option<usize>,
        delimiters: Delimiters,
        sink: &mut impl Sink,
    ) -> Result<String> {
        let simple = rule(0).filter(|_| !text.contains(delimiters.component));
        if text.is_empty() {
            return Ok(String::new());
        }
        if let Some(rule) = simple {
            return self.value(rule, text, sink);
        }
        let mut components = Vec::new();
        for (number, component) in (1..).zip(text.split(delimiters.component)) {
            components.push(match rule(number).filter(|_| !component.is_empty()) {
                Some(rule) => self.value(rule, component, sink)?,
                None => String::new(),
            });
        }
        while components.last().is_some_and(String::is_empty) {
            components.pop();
        }
        Ok(components.join(&delimiters.component.to_string()))
    }

    fn value(&self, rule: usize, text: &str, sink: &mut impl Sink) -> Result<String> {
        let Some(element) = &self.kernels[rule] else { return Ok(String::new()) };
        if !self.stored && matches!(element.kernel, Kernel::Keep) && !text.chars().all(is_plain) {
            // Perhaps another document's delimiters, and so more than one value.
            sink.unreadable();
            return Ok(String::new());
        }
        if !element.dated {
            return sink.value(rule, text);
        }
        let digits = |text: &str| text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut dates = Vec::new();
        for part in text.split('-') {
            // The time of day does not pass; where a place for it is wanted, it is midnight.
            let (day, time) = part.split_at_checked(8).unwrap_or((part, ""));
            if !digits(part) || text.split('-').count() > 2 {
                sink.unreadable();
                return Ok(String::new());
            }
            let day = sink.value(rule, day)?;
            dates.push(if day.is_empty() { day } else { day + &"0".repeat(time.len()) });
        }
        Ok(if dates.iter().any(String::is_empty) { String::new() } else { dates.join("-") })
    }
}

/// What a value may hold that is kept as it is: nothing that any document uses as a delimiter.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, ' ' | '.' | ',' | '-' | '/' | '(' | ')' | '\'' | '&' | '#')
}

/// The first walk.
struct Collected {
    values: Vec<Values>,
    row: u32,
    unreadable: u64,
}

impl Sink for Collected {
    fn value(&mut self, rule: usize, value: &str) -> Result<String> {
        self.values[rule].push(value, self.row);
        Ok(String::new())
    }

    fn unreadable(&mut self) {
        self.unreadable += 1;
    }
}

/// A walk that changes nothing.
struct AsItIs;

impl Sink for AsItIs {
    fn value(&mut self, _: usize, value: &str) -> Result<String> {
        Ok(value.to_owned())
    }

    fn unreadable(&mut self) {}
}

/// The second walk.
struct Written<'a> {
    x12: &'a X12,
    next: Vec<usize>,
    passed: Vec<Option<ArrayRef>>,
}

impl Sink for Written<'_> {
    fn value(&mut self, rule: usize, _: &str) -> Result<String> {
        let slot = self.next[rule];
        self.next[rule] += 1;
        let (Some(passed), Some(element)) = (&self.passed[rule], &self.x12.kernels[rule]) else {
            return Err(Error::new(Kind::Bug, "a value of an X12 document has no rule"));
        };
        let text = spelt(passed, slot, element.dated)?;
        // A delimiter in a value would move all behind it. Nothing that our transforms write holds one, but for brackets of markers.
        let fits = text.chars().all(|one| is_plain(one) || matches!(one, '[' | ']' | '_' | '<' | '>' | '=' | '+'));
        Ok(if fits { text } else { String::new() })
    }

    fn unreadable(&mut self) {}
}

fn spelt(values: &ArrayRef, slot: usize, dated: bool) -> Result<String> {
    if values.is_null(slot) {
        return Ok(String::new());
    }
    Ok(match values.data_type() {
        DataType::Utf8 if dated => values.as_string::<i32>().value(slot).replace('-', ""),
        DataType::Utf8 => values.as_string::<i32>().value(slot).to_owned(),
        // The standard's dates have no form for a year alone.
        DataType::Int16 if dated => format!("{:04}0101", values.as_primitive::<Int16Type>().value(slot)),
        DataType::Int16 => values.as_primitive::<Int16Type>().value(slot).to_string(),
        DataType::Date32 => {
            Date::from_days(values.as_primitive::<Date32Type>().value(slot)).to_string().replace('-', "")
        }
        other => return Err(Error::new(Kind::Bug, format!("a value of type {other} has no place in a document"))),
    })
}

/// Where a document is written.
struct Page<'a> {
    out: &'a mut String,
    delimiters: Delimiters,
    line_end: &'a str,
}

impl Page<'_> {
    fn segment(&mut self, id: &str, elements: &[String]) {
        self.out.push_str(id);
        let end = match id {
            "ISA" => elements.len(),
            _ => elements.iter().rposition(|element| !element.is_empty()).map_or(0, |last| last + 1),
        };
        for element in &elements[..end] {
            self.out.push(self.delimiters.element);
            self.out.push_str(element);
        }
        self.out.push(self.delimiters.segment);
        self.out.push_str(self.line_end);
    }
}

fn isa_elements(isa: &Segment<'_>, control: &str, delimiters: Delimiters) -> [String; 16] {
    let blank = " ".repeat(10);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let version =
        Some(isa.element(12)).filter(|version| is_digits(version) && version.starts_with("00")).unwrap_or("00501");
    let year = isa.element(9).get(..2).filter(|year| is_digits(year)).unwrap_or("00");
    let usage = Some(isa.element(15)).filter(|usage| matches!(*usage, "P" | "T")).unwrap_or("P");
    [
        "00".into(),
        blank.clone(),
        "00".into(),
        blank,
        "ZZ".into(),
        format!("{:<15}", "SENDER"),
        "ZZ".into(),
        format!("{:<15}", "RECEIVER"),
        format!("{year}0101"),
        "0000".into(),
        delimiters.repetition.unwrap_or('U').into(),
        version.into(),
        control.into(),
        "0".into(),
        usage.into(),
        delimiters.component.into(),
    ]
}

fn gs_elements(gs: &Segment<'_>, ready: ReadyMap, control: &str) -> [String; 8] {
    let year = gs.element(4).get(..4).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or("0000");
    [
        ready.functional_group().into(),
        "SENDER".into(),
        "RECEIVER".into(),
        format!("{year}0101"),
        "0000".into(),
        control.into(),
        "X".into(),
        guide(gs.element(8)).unwrap_or_default(),
    ]
}

/// The name of an implementation guide: `005010X222A1`, and nothing that is not formed so.
fn guide(text: &str) -> Option<String> {
    let digits = |text: &str, counts: std::ops::RangeInclusive<usize>| {
        counts.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (version, guide) = text.split_once('X')?;
    let (guide, addendum) = guide.split_once('A').unwrap_or((guide, "1"));
    let legal = digits(version, 6..=6) && version.starts_with("00") && digits(guide, 3..=3) && digits(addendum, 1..=2);
    legal.then(|| text.to_owned())
}

/// What tells segments of one kind apart: the first element, for levels the third.
fn qualifier<'a>(segment: &Segment<'a>, delimiters: Delimiters) -> &'a str {
    let element = segment.element(if segment.id == "HL" { 3 } else { 1 });
    element.split(delimiters.component).next().unwrap_or_default()
}

/// Leaves out what means nothing alone.
fn complete(id: &str, mut elements: Vec<String>, delimiters: Delimiters) -> Option<Vec<String>> {
    if id == "HI" {
        // A code without its qualifier, or the other way round.
        let whole = |element: &String| {
            let mut parts = element.split(delimiters.component);
            [parts.next(), parts.next()].iter().all(|part| part.is_some_and(|part| !part.is_empty()))
        };
        elements.retain(whole);
    }
    let (present, pairs) = wanted(id);
    let is_there = |elements: &[String], number: usize| elements.get(number - 1).is_some_and(|one| !one.is_empty());
    for (first, second) in pairs {
        if is_there(&elements, *first) != is_there(&elements, *second) {
            for number in [*first, *second] {
                if let Some(element) = elements.get_mut(number - 1) {
                    element.clear();
                }
            }
        }
    }
    let whole = present.iter().all(|number| is_there(&elements, *number));
    (whole && elements.iter().any(|element| !element.is_empty())).then_some(elements)
}

fn unlike(data_type: &DataType) -> Error {
    Error::new(Kind::Bug, format!("an X12 document was asked of a column of type {data_type}"))
}

#[cfg(test)]
mod tests;
