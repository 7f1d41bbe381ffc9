//! The identifiers of a request, and whether their column can have them as they are spelled.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use capture::postgres;
use change::{Column, Error, Kind, Raw, Result, TableName};
use zeroize::Zeroizing;

use super::matching::in_words;
use super::work::column_of;
use crate::assemble;
use crate::project::Project;

/// How long the source may take to say what type a column has.
const SOURCE_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Identifiers and the lines of the input that they stood in.
pub(crate) struct Identifiers {
    pub(crate) values: Raw<Vec<String>>,
    pub(crate) lines: Vec<u64>,
}

/// One identifier a line, from a file or from standard input: never from the command line, which every user of the machine can read and
/// which shells write down.
pub(crate) fn read(file: Option<&Path>) -> Result<Identifiers> {
    let mut text = Zeroizing::new(String::new());
    let unreadable = |place: &dyn std::fmt::Display, error: std::io::Error| {
        Error::new(Kind::Config, format!("the identifiers in {place} cannot be read"))
            .source(error)
            .fix("One identifier a line, in UTF-8.")
    };
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => *text = std::fs::read_to_string(path).map_err(|error| unreadable(&path.display(), error))?,
        None if std::io::stdin().is_terminal() => {
            return Err(Error::new(Kind::Config, "no identifiers: standard input is a terminal")
                .fix("Give them by --ids FILE, or by a pipe: one identifier a line."));
        }
        None => drop(std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable(&"standard input", error))?),
    }
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    let named = (1..).zip(lines).filter(|(_, line)| !line.is_empty());
    let (lines, values): (Vec<u64>, Vec<String>) = named.map(|(number, line)| (number, line.to_owned())).unzip();
    if values.is_empty() {
        return Err(Error::new(Kind::Config, "no identifiers were given")
            .fix("One identifier a line, as the source spells it."));
    }
    Ok(Identifiers { values: Raw::new(values), lines })
}

/// Refuses identifiers that the column cannot have as they are spelled: nobody is found by them. Where the source does not say the column's
/// type, they are taken as they are. What is wrong with the project's files is left to who goes on.
///
/// # Errors
/// `Config` with the lines.
#[allow(clippy::print_stderr)]
pub(crate) async fn check_spelling(dir: &Path, subject: &str, ids: &Identifiers) -> Result<()> {
    let Ok((project, policy)) = Project::with_policy(dir) else { return Ok(()) };
    let (table, name) = column_of(&policy, subject)?;
    let subject = policy.subject(&table, name)?;
    let asked = tokio::time::timeout(SOURCE_ANSWERS_WITHIN, column(&project, &table, name)).await;
    let Ok(Ok(Some(column))) = asked else {
        eprintln!(
            "the source does not say what {table}.{name} can hold: the identifiers are taken as they are spelled"
        );
        return Ok(());
    };
    let wrong = subject.misspelled(&ids.values, &column.data_type)?;
    let lines: Vec<u64> = wrong.into_iter().map(|number| ids.lines[number]).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!(
        "lines {} of the identifiers are nothing that {table}.{name} ({}) can hold",
        in_words(&lines),
        column.source_type
    );
    Err(Error::new(Kind::Config, what).fix("Nothing was done. Spell them as the source does: 42, and not 042 or 42.0."))
}

/// A column as the source has it; `None` when the table cannot be followed, or has no such column.
async fn column(project: &Project, table: &TableName, name: &str) -> Result<Option<Column>> {
    let Some(entry) = project.file.sources.get(&table.source) else { return Ok(None) };
    let config = assemble::postgres_config(project, &table.source, entry)?;
    let found = postgres::tables(&config).await?;
    let schema = found.followable.iter().find(|schema| schema.table == *table);
    Ok(schema.and_then(|schema| schema.columns.iter().find(|column| column.name == name)).cloned())
}
