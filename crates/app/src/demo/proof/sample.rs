use std::collections::BTreeMap;

use change::Result;
use sandbox::claims::Table;
use serve::Session;

use super::ask::{current, texts};
use crate::demo::stage::{Stage, refused};

/// One row of invented people before and after the gate.
pub(super) struct Sample {
    pub(super) table: Table,
    /// Column, value in the source, value in the lake (`None` when the column is not stored).
    pub(super) values: Vec<(String, String, Option<String>)>,
}

/// A member and a claim line. The row is found again through a kept value that occurs once: nothing else leads back.
pub(super) async fn take(stage: &Stage, lake: &Session) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (table, column, sql_type, order) in [
        (Table::Members, "risk_score", "DOUBLE", "birth_date"),
        (Table::ClaimLines, "ndc", "VARCHAR", "patient_birth_date"),
    ] {
        let name = table.name();
        let found: String = stage
            .ask(&format!(
                "SELECT {column}::text FROM {name} WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) = 1 ORDER BY min({order}) LIMIT 1"
            ))
            .await?;
        let raw = format!(
            "SELECT key, coalesce(value, '') FROM {name} t, json_each_text(to_json(t)) WHERE t.{column}::text = $1"
        );
        let raw = stage.client.query(&raw, &[&found]).await.map_err(refused)?;
        let names = lake.query(&format!("SELECT * FROM {} LIMIT 0", current(table))).await?.schema();
        let row =
            texts(lake, &format!("SELECT * FROM {} WHERE {column} = CAST('{found}' AS {sql_type})", current(table)))
                .await?;
        let row = row.into_iter().next().unwrap_or_default();
        let cleared: BTreeMap<&str, String> =
            names.fields().iter().map(|field| field.name().as_str()).zip(row).collect();
        let mut values = Vec::new();
        for raw in raw {
            let (column, value): (String, String) =
                (raw.try_get(0).map_err(refused)?, raw.try_get(1).map_err(refused)?);
            let after = cleared.get(column.as_str()).cloned();
            values.push((column, value, after));
        }
        samples.push(Sample { table, values });
    }
    Ok(samples)
}
