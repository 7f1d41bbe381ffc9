use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::lockgate::Project;
use crate::peers::{self, Script};
use crate::stage::Stage;

/// Postgres gives a function no more than a hundred arguments.
const ARGUMENTS: usize = 90;

/// A table and the columns to compare, as SQL that both sides read alike.
pub(crate) struct Compared {
    table: String,
    row: String,
}

impl Compared {
    /// Every named column, as text.
    pub(crate) fn of(table: &str, columns: &[String]) -> Self {
        let texts: Vec<String> = columns.iter().map(|column| format!("coalesce({column}::text, '~')")).collect();
        let parts: Vec<String> =
            texts.chunks(ARGUMENTS).map(|part| format!("concat_ws('|', {})", part.join(", "))).collect();
        Self { table: table.to_owned(), row: format!("concat_ws('|', {})", parts.join(", ")) }
    }
}

/// Fails unless the lake holds exactly the rows of the database; DuckDB reads the lake. Gives the number of rows.
pub(crate) async fn same(stage: &Stage, client: &Client, project: &Project, tables: &[Compared]) -> Result<u64> {
    ensure!(peers::has_python(stage), "the comparison needs --python with duckdb; scripts/setup.sh test installs it");
    let wanted = stage.path("compared");
    let line = |compared: &Compared| format!("{}\t{}\n", project.table(&compared.table).display(), compared.row);
    fs::write(&wanted, tables.iter().map(line).collect::<String>())?;
    let answer = peers::run(stage, Script::Digest, &[Path::new(&wanted)], &[]).await?;
    let lake = answer["tables"].as_array().context("the script printed no tables")?;
    ensure!(lake.len() == tables.len(), "the script read {} of {} tables", lake.len(), tables.len());
    let mut rows = 0;
    for (Compared { table, row }, found) in tables.iter().zip(lake) {
        let sql = format!(
            "SELECT count(*), coalesce(sum(('x' || substr(md5({row}), 1, 8))::bit(32)::bigint), 0)::text FROM {table}"
        );
        let source = client.query_one(&sql, &[]).await?;
        let (count, digest): (i64, String) = (source.get(0), source.get(1));
        let (lake_rows, lake_digest) = (found[0].as_i64(), found[1].as_str());
        ensure!(
            lake_rows == Some(count) && lake_digest == Some(&digest),
            "{table}: the lake has {lake_rows:?} rows with the sum {lake_digest:?}, the database {count} with {digest}"
        );
        rows += u64::try_from(count)?;
    }
    Ok(rows)
}
