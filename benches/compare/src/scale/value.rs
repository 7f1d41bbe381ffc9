use anyhow::{Result, ensure};

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::{cost, watched};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::report::say;
use crate::slot::drop_slot;
use crate::stage::Stage;

const SLOT: &str = "scale_b";

/// A large text and a large bytea, each in a row of its own with a small one behind: before the copy, after it, and changed.
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
    drop(client);
    stage.server().execute("DROP DATABASE scale_b WITH (FORCE)").await?;
    Ok(figures)
}
