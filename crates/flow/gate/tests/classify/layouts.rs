//! The columns of public layouts with their first values, as a table of a database would have them. No value leaves this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::free_text::shared::folder;

/// What `init` asks a database for.
const ROWS: usize = 200;
const CHARACTERS: usize = 200;

/// A column of a layout.
pub(super) struct Column {
    pub(super) set: &'static str,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) is_key: bool,
    values: Vec<String>,
}

/// Whether one value is of a type.
type Test = fn(&str) -> bool;

impl Column {
    /// The type that a loader would give it by all of its values.
    pub(super) fn source_type(&self) -> &'static str {
        let types: [(&str, Test); 6] = [
            ("boolean", |value| matches!(value, "true" | "false")),
            ("uuid", is_uuid),
            ("bigint", is_whole),
            ("numeric(18,4)", is_decimal),
            ("date", |value| value.len() == 10 && is_day(value)),
            ("timestamp without time zone", |value| value.len() > 18 && is_day(&value[..10])),
        ];
        let fits = |is: &Test| self.values().next().is_some() && self.values().all(is);
        types.iter().find(|(_, is)| fits(is)).map_or("text", |(name, _)| name)
    }

    /// What the source would be asked for: nothing where the type says enough.
    pub(super) fn sample(&self) -> Vec<&str> {
        let says_enough = matches!(self.source_type(), "boolean" | "date" | "timestamp without time zone");
        let short = |value: &'_ String| value.char_indices().nth(CHARACTERS).map_or(value.len(), |(at, _)| at);
        let first = self.values.iter().take(ROWS).map(|value| &value[..short(value)]);
        first.filter(|value| !says_enough && !value.is_empty()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36 && value.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

fn is_whole(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    (1..=18).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

fn is_decimal(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte))
        && value.parse::<f64>().is_ok()
        && !(value.starts_with('0') && !value.starts_with("0.") && value != "0")
}

fn is_day(value: &str) -> bool {
    value.bytes().enumerate().all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
}

/// What identifies the rows of a layout's tables, as the layouts' pages say: the first line of which a table has every column.
const KEYS: [(&str, &[&str]); 8] = [
    ("cms_idr", &["GEO_BENE_SK", "CLM_DT_SGNTR_SK", "CLM_TYPE_CD", "CLM_NUM_SK", "CLM_LINE_NUM"]),
    ("cms_idr", &["GEO_BENE_SK", "CLM_DT_SGNTR_SK", "CLM_TYPE_CD", "CLM_NUM_SK"]),
    ("cms_rif", &["CLM_ID", "CLM_LINE_NUM"]),
    ("cms_rif", &["CLM_ID", "LINE_NUM"]),
    ("de_synpuf", &["CLM_ID", "SEGMENT"]),
    ("synthea_csv", &["Id"]),
    ("synthea_csv", &["ID"]),
    ("synthea_fhir", &["id"]),
];

type Table = Vec<(String, Vec<String>)>;

fn columns(set: &'static str, tables: BTreeMap<String, Table>) -> Vec<Column> {
    let column = |(table, columns): (String, Table)| {
        let has = |key: &[&str]| key.iter().all(|part| columns.iter().any(|(name, _)| name == part));
        let key = KEYS.iter().find(|(of, key)| *of == set && has(key)).map_or(&[][..], |(_, key)| key);
        let of = move |(name, values): (String, Vec<String>)| Column {
            set,
            table: table.clone(),
            is_key: key.contains(&name.as_str()),
            name,
            values,
        };
        columns.into_iter().map(of).collect::<Vec<_>>()
    };
    tables.into_iter().flat_map(column).collect()
}

/// Tables of files with a header. Files of one header, or of one name in several folders, are one table.
pub(super) fn separated(set: &'static str, folders: &[&str], separator: char, is_by_header: bool) -> Vec<Column> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let mut named: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for path in folders.iter().flat_map(|inner| files(&folder().join(set).join(inner))) {
        let stem = path.split('/').next_back().unwrap().split('.').next().unwrap().to_owned();
        let text = read(&path);
        let mut lines = text.trim_start_matches('\u{feff}').lines().map(|line| cells(line, separator));
        let header: Vec<String> = lines.next().unwrap().iter().map(|name| name.trim().to_owned()).collect();
        if stem == "export_summary" {
            continue;
        }
        let table = if is_by_header { named.entry(header.clone()).or_insert(stem).clone() } else { stem };
        let table = tables.entry(table).or_default();
        for name in &header {
            if !table.iter().any(|(known, _)| known == name) {
                table.push((name.clone(), Vec::new()));
            }
        }
        for row in lines {
            for (name, value) in header.iter().zip(row) {
                table.iter_mut().find(|(known, _)| known == name).unwrap().1.push(value);
            }
        }
    }
    columns(set, tables)
}

/// One table for each kind of resource; lists lie in rows of their own.
pub(super) fn resources(set: &'static str) -> Vec<Column> {
    let mut tables = BTreeMap::new();
    for path in files(&folder().join(set)) {
        let mut cells = BTreeMap::new();
        for line in read(&path).lines() {
            leaves(&serde_json::from_str(line).unwrap(), "", &mut cells);
        }
        let table = path.split('/').next_back().unwrap().split('.').next().unwrap();
        tables.insert(table.to_owned(), cells.into_iter().collect());
    }
    columns(set, tables)
}

fn leaves(value: &Value, path: &str, cells: &mut BTreeMap<String, Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                leaves(field, &if path.is_empty() { name.clone() } else { format!("{path}_{name}") }, cells);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, path, cells)),
        leaf => {
            let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
            cells.entry(path.to_owned()).or_default().push(text);
        }
    }
}

/// Columns by their places in a transaction: `IL/NM1/09` is an element of a segment about that entity, `REF.SY/REF/02` one of a segment with
/// that qualifier, `*/CLM/01` one of any.
pub(super) fn transactions(set: &'static str, places: &[(String, String, String)]) -> Vec<Column> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for (table, column, _) in places {
        tables.entry(table.clone()).or_default().push((column.clone(), Vec::new()));
    }
    let kinds = std::fs::read_dir(folder().join(set)).unwrap().map(|kind| kind.unwrap().path());
    for path in kinds.filter(|kind| kind.is_dir()).flat_map(|kind| files(&kind)) {
        let text = read(&path);
        let (element, part, end) = (&text[3..4], &text[104..105], &text[105..106]);
        let mut about = "";
        for segment in text.split(end) {
            let elements: Vec<&str> = segment.trim().split(element).collect();
            let first = elements.get(1).copied().unwrap_or_default();
            match elements[0] {
                "NM1" | "N1" => about = first,
                "CLM" | "LX" | "HL" | "INS" => about = "",
                _ => {}
            }
            for (table, column, place) in places {
                let [whom, segment, at] = place.split('/').collect::<Vec<_>>()[..] else { panic!("{place}") };
                let qualifier = format!("{segment}.{}", first.split(part).next().unwrap_or_default());
                let is_it = segment == elements[0] && (whom == "*" || whom == about || whom == qualifier);
                let value = elements.get(at.parse::<usize>().unwrap()).filter(|value| is_it && !value.is_empty());
                let Some(value) = value else { continue };
                let value = if matches!(segment, "HI" | "SV1" | "SVC") {
                    value.split(part).nth(1).unwrap_or(value)
                } else {
                    value
                };
                let found = tables.get_mut(table).unwrap().iter_mut().find(|(name, _)| name == column);
                found.unwrap().1.push(value.to_owned());
            }
        }
    }
    columns(set, tables)
}

/// Data files of a folder in order, as paths.
fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension != "md"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

fn read(path: &str) -> String {
    if path.ends_with(".gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    } else {
        std::fs::read_to_string(path).unwrap()
    }
}

/// A line's cells; quotes keep separators together.
fn cells(line: &str, separator: char) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(character),
        }
    }
    cells
}
