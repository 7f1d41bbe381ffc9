use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use futures::{TryStreamExt, pin_mut};
use sandbox::claims::{Table, rules};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::claims::TABLE;
use crate::contest::contender::Outcome;
use crate::contest::history::{History, KEY};
use crate::peers::{self, Script};
use crate::stage::Stage;

/// How what a contender left behind differs from the source, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parity {
    /// Rows, or events, that only the source has.
    missing: u64,
    /// Rows, or events, that only the contender has, doubled ones included.
    extra: u64,
    /// Rows that both have with other values.
    different: u64,
}

impl Parity {
    /// Whether nothing differs.
    pub(super) fn is_full(self) -> bool {
        self == Self::default()
    }

    fn and(self, other: Self) -> Self {
        Self {
            missing: self.missing + other.missing,
            extra: self.extra + other.extra,
            different: self.different + other.different,
        }
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_full() {
            return f.write_str("same");
        }
        let parts = [(self.missing, "missing"), (self.extra, "too many"), (self.different, "different")];
        let parts: Vec<String> =
            parts.iter().filter(|(rows, _)| *rows > 0).map(|(rows, what)| format!("{rows} {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Compares what a contender left behind with the source as it is now. `None` when it leaves nothing.
pub(super) async fn compare(stage: &Stage, history: &History, result: &Outcome) -> Result<Option<Parity>> {
    let all: Vec<&str> = history.columns.iter().map(|(name, _)| name.as_str()).collect();
    Ok(match result {
        Outcome::Nothing => None,
        Outcome::Rows(table) => Some(rows(stage, history, table, &KEY, &all).await?),
        Outcome::Events(table) => {
            Some(events(stage, history, table, "claim_id, line_number, __op, __source_lsn", "__op <> 'r'").await?)
        }
        Outcome::Kept(table, log) => {
            Some(rows(stage, history, table, &KEY, &all).await?.and(changes(stage, history, log).await?))
        }
        Outcome::Masked(table, log) => {
            let kept: Vec<&str> = rules(Table::ClaimLines)
                .into_iter()
                .filter(|(_, rule)| *rule == "keep")
                .map(|(name, _)| name)
                .collect();
            // The key is a token there, so a row is known by all its kept columns.
            Some(rows(stage, history, table, &kept, &kept).await?.and(changes(stage, history, log).await?))
        }
    })
}

/// Lockgate's own change log.
async fn changes(stage: &Stage, history: &History, log: &Path) -> Result<Parity> {
    events(stage, history, log, "_lg_position, _lg_ordinal", "_lg_op <> 'r'").await
}

async fn events(stage: &Stage, history: &History, table: &Path, identity: &str, counting: &str) -> Result<Parity> {
    let arguments = [identity.to_owned(), counting.to_owned()];
    let found = peers::run(stage, Script::Events, &[table], &arguments).await?;
    let (rows, distinct) = (whole(&found, "rows")?, whole(&found, "distinct")?);
    Ok(Parity {
        missing: history.changes.saturating_sub(distinct),
        extra: rows - distinct + distinct.saturating_sub(history.changes),
        different: 0,
    })
}

async fn rows(stage: &Stage, history: &History, table: &Path, key: &[&str], columns: &[&str]) -> Result<Parity> {
    let file = stage.path("source.csv");
    export(history, &file, key, columns).await?;
    let settings = json!({
        "table": table, "source": file, "key": in_lake(history, key), "row": in_lake(history, columns),
    });
    let found = peers::run(stage, Script::Parity, &[], &[settings.to_string()]).await?;
    tokio::fs::remove_file(&file).await?;
    Ok(Parity {
        missing: whole(&found, "missing")?,
        extra: whole(&found, "extra")?,
        different: whole(&found, "different")?,
    })
}

/// Key and MD5 of each row of the source.
async fn export(history: &History, file: &Path, key: &[&str], columns: &[&str]) -> Result<()> {
    let (key, row) = (in_source(key), in_source(columns));
    let sql = format!("COPY (SELECT {key}, md5({row}) FROM {TABLE}) TO STDOUT (FORMAT csv)");
    let parts = history.source.client.copy_out(&sql).await?;
    pin_mut!(parts);
    let mut out = File::create(file).await.with_context(|| format!("{} cannot be written", file.display()))?;
    while let Some(part) = parts.try_next().await? {
        out.write_all(&part).await?;
    }
    Ok(out.flush().await?)
}

/// Columns as one text, in Postgres' SQL.
fn in_source(columns: &[&str]) -> String {
    let texts: Vec<String> = columns.iter().map(|column| format!("coalesce({column}::text, '~')")).collect();
    format!("concat_ws('|', {})", texts.join(", "))
}

/// The same of DuckDB. A table that has made another type of a number or date is judged by its value and not by its type.
fn in_lake(history: &History, columns: &[&str]) -> String {
    let kind = |column: &str| history.columns.iter().find(|(name, _)| name == column).map_or("text", |(_, kind)| kind);
    let text = |column: &&str| match kind(column) {
        kind if kind.starts_with("numeric") || kind == "date" => format!("coalesce({column}::{kind}::text, '~')"),
        _ => format!("coalesce({column}::text, '~')"),
    };
    format!("concat_ws('|', {})", columns.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn whole(value: &Value, name: &str) -> Result<u64> {
    value[name].as_u64().with_context(|| format!("the script printed no `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_is_said_in_words() {
        assert_eq!(Parity::default().to_string(), "same");
        let worse = Parity { missing: 0, extra: 30_000, different: 2 };
        assert_eq!(
            worse.and(Parity { missing: 1, ..Parity::default() }).to_string(),
            "1 missing, 30000 too many, 2 different"
        );
    }
}
