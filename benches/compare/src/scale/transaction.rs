use anyhow::Result;

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::{bytes_below, cost, watched};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::report::{count, memory, say};
use crate::slot::drop_slot;
use crate::stage::Stage;

const SLOT: &str = "scale_a";

/// Two transactions: one inserts every row, one updates every row.
pub(crate) async fn run(stage: &Stage, rows: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_a").await?;
    client.batch_execute("CREATE TABLE big (id bigint PRIMARY KEY, v text, n int)").await?;
    let url = stage.server().url_socket("postgres", "scale_a");
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let policy =
        "profile: none\nkeys: file:./keys/dev.key\ntables:\n  claims_db.public.big: { id: keep, v: keep, n: keep }\n";
    let project = Project::make(stage, "scale_a", &lockgate_yaml(&url, SLOT, &["big"], commit), policy)?;
    project.run_once().await?;
    let steps = [
        ("insert", format!("INSERT INTO big SELECT g, 'value ' || g, g % 1000 FROM generate_series(1, {rows}) g")),
        ("update", "UPDATE big SET n = n + 1, v = v || 'u'".to_owned()),
    ];
    let mut figures = Figures::new();
    for (what, sql) in steps {
        client.batch_execute(&sql).await?;
        say(&format!("one transaction, {what} of {} rows: committed at the source", count(rows)));
        let (finished, peaks) = watched(stage, project.start_once()?).await?;
        let columns = ["id", "v", "n"].map(str::to_owned);
        same(stage, &client, &project, &[Compared::of("big", &columns)]).await?;
        let lake = memory(bytes_below(&project.table("big")) + bytes_below(&project.table("big__changes")));
        figures.push((
            format!("one transaction, {what} of {} rows", count(rows)),
            format!("{}; lake {lake}", cost(&finished, &peaks)),
        ));
    }
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE scale_a WITH (FORCE)").await?;
    Ok(figures)
}
