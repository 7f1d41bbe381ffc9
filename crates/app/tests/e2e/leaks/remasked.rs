//! A remasking beside a run that stands still: killed before its switch, then kept from writing its receipt. What lies about then is searched.

use std::fs;
use std::time::Duration;

use super::super::failure_modes::process::Process;
use super::super::project::files;
use super::surface::Surface;
use super::watched::Watch;
use super::{Searched, plant, until_slot_is};

const REMASK: [&str; 5] = ["--log", "trace", "remask", "--table", "db.public.person"];

/// One column less, and one as a token. Leaves the receipt, and searches on the way the journals, the locks and the mark.
pub(super) async fn remask(searched: &mut Searched) {
    let dir = searched.project.dir.clone();
    let run = Process::of(&mut searched.project.command(&["--log", "trace", "run"]), dir.join("followed.log"));
    until_slot_is(&searched.project, true).await;
    run.signal("STOP");
    let stricter =
        plant::POLICY.replace("    zip: zip3\n", "").replace("    plan: keep\n", "    plan: hmac_token(plan)\n");
    searched.project.write_policy(&stricter);
    let mut watch = Watch::start(searched.project.command(&REMASK), &dir);
    let (journals, wish) = (dir.join("lake/_lockgate/staged"), dir.join(".lockgate/wish.lock"));
    let waits =
        || journals.is_dir() && files(&journals).len() == 2 && fs::read(&wish).is_ok_and(|text| !text.is_empty());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while !waits() {
        assert!(tokio::time::Instant::now() < deadline, "nothing is staged within a minute and a half");
        watch.look();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watch.kill_9();
    let watched = watch.end().await;
    searched.search(Surface::TextLog, "a remasking that is killed before its switch", &watched);
    searched.folder();
    run.signal("CONT");
    assert!([Some(0), Some(3)].contains(&run.terminate()), "the run did not go on");

    let receipts = dir.join(".lockgate/receipts");
    fs::write(&receipts, b"not a folder").unwrap();
    let watched = searched.run(Surface::TextLog, &REMASK).await;
    assert_eq!(watched.code, Some(1), "{}", String::from_utf8_lossy(&watched.stderr));
    searched.folder();
    fs::remove_file(receipts).unwrap();
    let watched = searched.run(Surface::TextLog, &REMASK).await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    searched.folder();
}
