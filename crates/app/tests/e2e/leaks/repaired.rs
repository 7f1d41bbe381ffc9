//! A repair that is killed while it looks a second time at what differs: what it has seen of the source lies in the project folder then.

use std::time::Duration;

use super::surface::Surface;
use super::watched::Watch;
use super::{Searched, until_slot_is};

/// A lost slot, changed rows, and a repair in two tries.
pub(super) async fn repair(searched: &mut Searched) {
    let dir = searched.project.dir.clone();
    until_slot_is(&searched.project, false).await;
    searched
        .sql("SELECT pg_drop_replication_slot('lockgate_e2e'); UPDATE person SET plan = 'other than in the lake'")
        .await;
    let slowly = ["--log", "trace", "repair", "--rate", "10"];
    let mut watch = Watch::start(searched.project.command(&slowly), &dir);
    let found = dir.join(".lockgate/repair/db/public/person/updates");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while !found.metadata().is_ok_and(|file| file.len() > 0) {
        assert!(tokio::time::Instant::now() < deadline, "nothing that differs is found within a minute and a half");
        watch.look();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    watch.kill_9();
    let watched = watch.end().await;
    searched.search(Surface::TextLog, "a repair that is killed", &watched);
    searched.folder();
    let watched = searched.run(Surface::TextLog, &["--log", "trace", "repair"]).await;
    // Tables with values that stop them are left.
    assert_eq!(watched.code, Some(1), "{}", String::from_utf8_lossy(&watched.stdout));
    assert_eq!(searched.project.query("SELECT count(DISTINCT plan) FROM db.public.person"), ["1"]);
    searched.folder();
}
