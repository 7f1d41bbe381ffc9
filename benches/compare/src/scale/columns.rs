use anyhow::{Result, ensure};
use sandbox::claims::SOURCE;

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::{cost, watched};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::report::time;
use crate::slot::drop_slot;
use crate::stage::Stage;

const SLOT: &str = "scale_d";
/// What Postgres allows (`MaxHeapAttributeNumber`).
const COLUMNS_MAX: u64 = 1600;
const ROWS: u64 = 20_000;

/// A table of very many columns: proposed for, copied, and streamed.
pub(crate) async fn run(stage: &Stage, columns: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_d").await?;
    let declared: String = (2..=columns).map(|column| format!(", c{column} {}", kind(column))).collect();
    client.batch_execute(&format!("CREATE TABLE broad (id bigint PRIMARY KEY{declared})")).await?;
    if columns == COLUMNS_MAX {
        let refused = client.batch_execute("ALTER TABLE broad ADD COLUMN one_more int").await;
        ensure!(refused.is_err(), "Postgres took more than {COLUMNS_MAX} columns: try more here");
    }
    let insert = |first: u64, last: u64| {
        let values: String = (2..=columns).map(|column| format!(", {}", value(column))).collect();
        format!("INSERT INTO broad SELECT g{values} FROM generate_series({first}, {last}) g")
    };
    client.batch_execute(&insert(1, ROWS)).await?;
    let url = stage.server().url_socket("postgres", "scale_d");
    let mut names = vec!["id".to_owned()];
    names.extend((2..=columns).map(|column| format!("c{column}")));
    let proposed = Project::proposed(stage, "scale_d_init", &url, "public.broad").await?;
    let lacks = names.iter().filter(|name| !proposed.policy.contains(&format!("    {name}: "))).count();
    ensure!(lacks == 0, "init proposed nothing for {lacks} columns");
    let rules: String = names.iter().map(|name| format!("    {name}: keep\n")).collect();
    let policy = format!("profile: none\nkeys: file:./keys/dev.key\ntables:\n  {SOURCE}.public.broad:\n{rules}");
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let project = Project::make(stage, "scale_d", &lockgate_yaml(&url, SLOT, &["broad"], commit), &policy)?;
    let mut figures = vec![(format!("`init` of {columns} columns"), time(proposed.took))];
    let changes = format!(
        "{}; UPDATE broad SET c2 = c2 + 1 WHERE id % 2 = 0; DELETE FROM broad WHERE id % 10 = 0",
        insert(ROWS + 1, ROWS + ROWS / 2)
    );
    for (what, sql) in [("copied", "SELECT 1"), ("streamed (inserts, updates, deletes)", changes.as_str())] {
        client.batch_execute(sql).await?;
        let (finished, peaks) = watched(stage, project.start_once()?).await?;
        let rows = same(stage, &client, &project, &[Compared::of("broad", &names)]).await?;
        figures.push((format!("{columns} columns, {rows} rows, {what}"), cost(&finished, &peaks)));
    }
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE scale_d WITH (FORCE)").await?;
    Ok(figures)
}

/// Small kinds: all values of a row must fit into one page of the server.
fn kind(column: u64) -> &'static str {
    ["int", "varchar(3)", "smallint", "boolean"][(column % 4) as usize]
}

fn value(column: u64) -> String {
    match column % 4 {
        0 => format!("nullif(g + {column}, 4711)"),
        1 => format!("((g + {column}) % 1000)::text"),
        2 => format!("(g * 7 + {column}) % 30000"),
        _ => format!("(g + {column}) % 3 = 0"),
    }
}
