use anyhow::{Result, ensure};
use sandbox::claims::SOURCE;

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::bytes_below;
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::process::Finished;
use crate::report::{count, memory, time};
use crate::slot::drop_slot;
use crate::stage::Stage;

const SLOT: &str = "scale_f";
/// Persons, and rows of theirs in the other tables, for each million rows in all.
const MEMBERS: u64 = 50_000;
/// The tables, and how many rows of the million are in each.
const TABLES: [(&str, u64); 4] = [("members", 1), ("claims", 9), ("lines", 6), ("visits", 4)];
/// Persons of one batch.
const BATCH: u64 = 100;

/// Persons are erased, one and then many in one pass, from the current rows first and from every older version then.
pub(crate) async fn run(stage: &Stage, rows: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_f").await?;
    let members = (rows * MEMBERS / 1_000_000).max(2 * BATCH + 1);
    let names = TABLES.map(|(table, _)| table);
    let mut policy = "profile: none\nkeys: file:./keys/dev.key\ntables:\n".to_owned();
    for (table, share) in TABLES {
        let sql = format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, member_id bigint, service date, amount numeric(10,2), note text);
             INSERT INTO {table} SELECT g, g % {members} + 1, date '2020-01-01' + (g % 2000)::int, g % 9999 / 100.0, md5(g::text)
               FROM generate_series(1, {}) g",
            members * share
        );
        client.batch_execute(&sql).await?;
        policy += &format!(
            "  {SOURCE}.public.{table}: {{ id: keep, member_id: hmac_token(member), service: keep, amount: keep, note: keep }}\n"
        );
    }
    let url = stage.server().url_socket("postgres", "scale_f");
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let project = Project::make(stage, "scale_f", &lockgate_yaml(&url, SLOT, &names, commit), &policy)?;
    project.run_once().await?;
    let columns = ["id", "service", "amount", "note"].map(str::to_owned);
    let compared = TABLES.map(|(table, _)| Compared::of(table, &columns));
    let before = same(stage, &client, &project, &compared).await?;
    let size: u64 = names.iter().map(|table| bytes_below(&project.table(table))).sum();
    let lake = format!("{} rows in {} tables ({})", count(before), names.len(), memory(size));

    let mut figures = Figures::new();
    let mut next = 1;
    for (persons, purge, what) in [
        (1, "after", "one person out of the current rows and the change log"),
        (BATCH, "after", "a batch of 100 out of the same, in one pass"),
        (1, "now", "one person, with purge of all that was due and a scan of every object"),
    ] {
        let ids: Vec<u64> = (next..next + persons).collect();
        next += persons;
        let finished = project.erase(&format!("{SOURCE}.public.members.member_id"), &ids, purge).await?;
        let list = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        for table in names {
            client.batch_execute(&format!("DELETE FROM {table} WHERE member_id IN ({list})")).await?;
        }
        figures.push((format!("{what}: {lake}"), cost(&finished)));
    }
    // What is left is what the source has left, and nobody comes back.
    let after = same(stage, &client, &project, &compared).await?;
    ensure!(after < before, "nobody was erased");
    project.run_once().await?;
    same(stage, &client, &project, &compared).await?;
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE scale_f WITH (FORCE)").await?;
    Ok(figures)
}

fn cost(finished: &Finished) -> String {
    format!("{} (CPU {}), peak {}", time(finished.wall), time(finished.cpu), memory(finished.peak_bytes))
}
