use arrow::row::{RowConverter, SortField};
use change::Result;
use sandbox::claims::{Table, rules};
use serve::Session;
use xxhash_rust::xxh3::xxh3_128;

use super::ask::{current, texts, unreadable};
use crate::demo::stage::{Stage, refused};

/// Whether the lake's current table is the source's table.
pub(super) struct RowsProof {
    pub(super) source_rows: i64,
    pub(super) lake_rows: u64,
    /// Sum of the hashes of all rows: of the lake, and of the fresh copy.
    pub(super) contents: (u128, u128),
    /// Figures that Postgres counted over raw columns and the lake over cleared ones.
    pub(super) figures: usize,
    /// The figures that differ.
    pub(super) wrong: Vec<String>,
}

impl RowsProof {
    pub(super) fn holds(&self) -> bool {
        u64::try_from(self.source_rows).is_ok_and(|rows| rows == self.lake_rows)
            && self.contents.0 == self.contents.1
            && self.wrong.is_empty()
    }
}

/// Compares by three routes: the number of rows; the cleared content against a fresh copy through the same gate; and figures that survive
/// masking (sums of kept columns, numbers of different tokens), counted by Postgres over the raw rows without any code of ours.
pub(super) async fn compare(table: Table, stage: &Stage, lake: &Session, fresh: &Session) -> Result<RowsProof> {
    let columns = columns(table, lake).await?;
    let (lake_rows, ours) = contents(table, lake, &columns).await?;
    let (_, theirs) = contents(table, fresh, &columns).await?;
    let figures = figures(table, stage).await?;
    let raw: Vec<&str> = figures.iter().map(|figure| figure.raw.as_str()).collect();
    let counted = stage
        .client
        .query_one(&format!("SELECT {} FROM {}", raw.join(", "), table.name()), &[])
        .await
        .map_err(refused)?;
    let cleared: Vec<&str> = figures.iter().map(|figure| figure.cleared.as_str()).collect();
    let found = texts(lake, &format!("SELECT {} FROM {}", cleared.join(", "), current(table))).await?;
    let found = found.into_iter().next().unwrap_or_default();
    let mut wrong = Vec::new();
    for (i, figure) in figures.iter().enumerate() {
        let expected: Option<String> = counted.try_get(i).map_err(refused)?;
        if found.get(i) != Some(&expected.unwrap_or_default()) {
            wrong.push(figure.name.clone());
        }
    }
    Ok(RowsProof {
        source_rows: stage.ask(&format!("SELECT count(*) FROM {}", table.name())).await?,
        lake_rows,
        contents: (ours, theirs),
        figures: figures.len(),
        wrong,
    })
}

/// The cleared columns, without Lockgate's own.
async fn columns(table: Table, lake: &Session) -> Result<Vec<String>> {
    let schema = lake.query(&format!("SELECT * FROM {} LIMIT 0", current(table))).await?.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    Ok(names.filter(|name| !name.starts_with("_lg_")).collect())
}

/// The number of rows and the sum of their hashes: the same for the same rows in any order, another one for a doubled row.
async fn contents(table: Table, lake: &Session, columns: &[String]) -> Result<(u64, u128)> {
    let list: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let mut answer = lake.query(&format!("SELECT {} FROM {}", list.join(", "), current(table))).await?;
    let fields = answer.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(unreadable)?;
    let (mut rows, mut sum) = (0, 0_u128);
    while let Some(batch) = answer.next().await? {
        rows += batch.num_rows() as u64;
        for row in &converter.convert_columns(batch.columns()).map_err(unreadable)? {
            sum = sum.wrapping_add(xxh3_128(row.as_ref()));
        }
    }
    Ok((rows, sum))
}

/// A number that masking leaves as it is.
struct Figure {
    name: String,
    raw: String,
    cleared: String,
}

/// What can be counted on both sides of the gate.
async fn figures(table: Table, stage: &Stage) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (column, transform) in rules(table) {
        let sql_type: String = stage
            .ask(&format!(
                "SELECT data_type::text FROM information_schema.columns WHERE table_name = '{}' AND column_name = '{column}'",
                table.name()
            ))
            .await?;
        let (name, raw, cleared) = match (transform, sql_type.as_str()) {
            (token, _) if token.starts_with("hmac_token") => {
                ("different values of", format!("count(DISTINCT {column})"), format!("count(DISTINCT {column})"))
            }
            ("keep", "smallint" | "integer" | "bigint" | "numeric") => {
                ("sum of", format!("sum({column})"), format!("sum({column})"))
            }
            ("keep", "text" | "character varying" | "character" | "jsonb") => {
                ("length of", format!("sum(length({column}::text))"), format!("sum(character_length({column}))"))
            }
            ("keep", _) => ("values of", format!("count({column})"), format!("count({column})")),
            _ => continue,
        };
        figures.push(Figure {
            name: format!("{name} {column}"),
            raw: format!("({raw})::text"),
            cleared: format!("CAST({cleared} AS VARCHAR)"),
        });
    }
    Ok(figures)
}
