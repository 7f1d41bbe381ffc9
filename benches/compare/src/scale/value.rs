use anyhow::{Result, ensure};
use tokio_postgres::Client;

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::{cost, watched};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::report::say;
use crate::slot::drop_slot;
use crate::stage::Stage;

const SLOT: &str = "scale_b";
const MANY_SLOT: &str = "scale_b_many";
/// Rows with a value of a sixteenth of the size: more of them than may be in memory at a time.
const MANY: u64 = 100;
const SMALLER: u64 = 16;

/// A large text and a large bytea, each in a row of its own with a small one behind: before the copy, after it, and changed. Then many
/// that are smaller.
pub(crate) async fn run(stage: &Stage, value_mib: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_b").await?;
    client
        .batch_execute(
            "CREATE TABLE large (id bigint PRIMARY KEY, v text, b bytea, n int);
             ALTER TABLE large ALTER v SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;",
        )
        .await?;
    let url = stage.server().url_socket("postgres", "scale_b");
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let policy = "profile: none\nkeys: file:./keys/dev.key\ntables:\n  claims_db.public.large: { id: keep, v: keep, b: keep, n: keep }\n";
    let project = Project::make(stage, "scale_b", &lockgate_yaml(&url, SLOT, &["large"], commit), policy)?;
    let times = value_mib * 1024 * 1024 / 8;
    let insert = |first: u64| {
        format!(
            "INSERT INTO large VALUES ({first}, repeat('abcdefgh', {times}), NULL, 1);
             INSERT INTO large VALUES ({first} + 1, NULL, decode(repeat('0123456789abcdef', {times}), 'hex'), 2);
             INSERT INTO large VALUES ({first} + 2, 'next', '\\x00ff', 3);"
        )
    };
    let steps = [
        ("copied", insert(1), 3),
        ("streamed", insert(11), 6),
        ("small column beside it updated (the value is not sent)", "UPDATE large SET n = n + 10".to_owned(), 6),
        (
            "made longer",
            "UPDATE large SET v = v || 'z', b = b || '\\x01'; DELETE FROM large WHERE id IN (3, 13)".into(),
            4,
        ),
    ];
    let mut figures = Figures::new();
    for (what, sql, rows) in steps {
        client.batch_execute(&sql).await?;
        say(&format!("values of {value_mib} MiB, {what}: committed at the source"));
        let (finished, peaks) = watched(stage, project.start_once()?).await?;
        let columns = ["id", "md5(v)", "md5(b)", "length(v)", "n"].map(str::to_owned);
        let found = same(stage, &client, &project, &[Compared::of("large", &columns)]).await?;
        ensure!(found == rows, "{found} rows where {rows} were expected");
        figures.push((format!("a text and a bytea of {value_mib} MiB, {what}"), cost(&finished, &peaks)));
    }
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    figures.extend(many(stage, &client, value_mib.div_ceil(SMALLER)).await?);
    drop(client);
    stage.server().execute("DROP DATABASE scale_b WITH (FORCE)").await?;
    Ok(figures)
}

/// Rows with a large value each, half of them text and half bytea: copied, and as many streamed in one transaction.
async fn many(stage: &Stage, client: &Client, value_mib: u64) -> Result<Figures> {
    client
        .batch_execute(
            "CREATE TABLE many (id bigint PRIMARY KEY, v text, b bytea);
             ALTER TABLE many ALTER v SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;",
        )
        .await?;
    let url = stage.server().url_socket("postgres", "scale_b");
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let policy =
        "profile: none\nkeys: file:./keys/dev.key\ntables:\n  claims_db.public.many: { id: keep, v: keep, b: keep }\n";
    let project = Project::make(stage, "scale_b_many", &lockgate_yaml(&url, MANY_SLOT, &["many"], commit), policy)?;
    let times = value_mib * 1024 * 1024 / 8;
    let mut figures = Figures::new();
    for (what, first) in [("copied", 1), ("streamed in one transaction", MANY + 1)] {
        let sql = format!(
            "INSERT INTO many SELECT g, CASE g % 2 WHEN 0 THEN repeat('abcdefgh', {times}) END,
               CASE g % 2 WHEN 1 THEN decode(repeat('0123456789abcdef', {times}), 'hex') END
             FROM generate_series({first}, {}) g",
            first + MANY - 1
        );
        client.batch_execute(&sql).await?;
        let (finished, peaks) = watched(stage, project.start_once()?).await?;
        let columns = ["id", "md5(v)", "md5(b)"].map(str::to_owned);
        let found = same(stage, client, &project, &[Compared::of("many", &columns)]).await?;
        ensure!(found == first + MANY - 1, "{found} rows where {} were expected", first + MANY - 1);
        figures.push((format!("{MANY} rows with a value of {value_mib} MiB, {what}"), cost(&finished, &peaks)));
    }
    drop_slot(client, MANY_SLOT).await?;
    project.clear()?;
    Ok(figures)
}
