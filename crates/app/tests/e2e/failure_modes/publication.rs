//! The publication: what it leaves out is nowhere in the stream.

use super::super::project::Project;
use super::ledger::ledger;
use super::process::Process;

fn assert_hard_stop(code: Option<i32>, said: &str) {
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the publication lockgate_e2e") && said.contains("lockgate repair"), "{said}");
}

fn assert_no_start(project: &Project) {
    let refused = project.lockgate(&["run", "--once"]);
    assert_hard_stop(refused.status.code(), &String::from_utf8_lossy(&refused.stderr));
}

async fn publishes(project: &Project, settings: &str) {
    let alter = format!("ALTER PUBLICATION lockgate_e2e SET ({settings})");
    project.database.batch_execute(&alter).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_09_operations_that_a_publication_leaves_out_for_a_while_are_a_hard_stop_until_a_repair() {
    let project = ledger("narrowed", 10).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    publishes(&project, "publish = 'insert'").await;
    project.database.batch_execute("UPDATE account SET balance = 7; DELETE FROM account WHERE id = 1").await.unwrap();
    publishes(&project, "publish = 'insert, update, delete, truncate'").await;
    let (code, said) = running.end(30).await;
    assert_hard_stop(code, &said);
    // It looks whole again, and so it does to the next start.
    assert_no_start(&project);
    project.lockgate_ok(&["repair"]);
    project.assert_ledger().await;

    // While nothing runs: the statement alone does not mend it.
    publishes(&project, "publish = 'insert, update'").await;
    project.database.batch_execute("DELETE FROM account WHERE id = 2").await.unwrap();
    assert_no_start(&project);
    publishes(&project, "publish = 'insert, update, delete, truncate'").await;
    assert_no_start(&project);
    project.lockgate_ok(&["repair"]);
    project.assert_ledger().await;
    project.end().await;
}
