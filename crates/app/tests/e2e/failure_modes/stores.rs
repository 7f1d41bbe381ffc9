//! The object store fails, stalls, is slow, or takes a request and loses its answer.

use super::super::clouds::{move_lake, start};
use super::super::project::Project;
use super::ledger::{POLICY, TABLES, Writer, edit, setup};
use super::patience::until;
use super::process::Process;
use super::store_proxy::{StoreProxy, Weather};

const ACCOUNTS: u32 = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_an_object_store_that_fails_stalls_and_loses_answers_loses_and_doubles_nothing() {
    let Some((_emulator, place)) = start("s3") else { return };
    let project = Project::new("store", &setup(ACCOUNTS), &TABLES, POLICY).await;
    let endpoint = place["options"]["aws_endpoint"].as_str().unwrap();
    let target = endpoint.rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = StoreProxy::start(target).await;
    let mut through = place.clone();
    through["options"]["aws_endpoint"] = format!("http://127.0.0.1:{}", proxy.port).into();
    through["options"]["timeout"] = "2s".into();
    move_lake(&project, &through);
    // A store that is far away gets fewer and larger commits.
    edit(&project.dir, "lockgate.yaml", |text| text.replace("max_seconds: 0.3", "max_seconds: 1"));

    // The copy begins in the rain.
    proxy.set(Weather::Refusing);
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut running = Process::start(&project);
    until("requests are refused", 60, async || proxy.faults() > 20).await;
    for weather in [Weather::Losing, Weather::Stalling, Weather::Slow, Weather::Away] {
        proxy.set(weather);
        let before = proxy.faults();
        let many = if weather == Weather::Stalling { 3 } else { 8 };
        until(&format!("{weather:?}"), 60, async || proxy.faults() >= before + many).await;
    }
    proxy.set(Weather::Fair);
    writer.stop().await;
    assert!(!running.has_ended(), "{}", running.said());
    let last = project.source("SELECT max(id) FROM entry").await.remove(0);
    project.wait_for("SELECT max(id) FROM db.public.entry", &last).await;
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger().await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_that_the_lake_is_away_and_worth_another_try() {
    let project = Project::new("away", &setup(10), &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let nowhere = serde_json::json!({ "aws_endpoint": "http://127.0.0.1:1", "allow_http": "true", "aws_region": "eu-central-1",
        "aws_access_key_id": "a", "aws_secret_access_key": "b", "allow_unencrypted": "true" });
    move_lake(&project, &serde_json::json!({ "url": "s3://lake/here", "options": nowhere }));
    let status = project.lockgate(&["status", "--json"]);
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert_eq!(status.status.code(), Some(4), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(json["lake_error"].is_string(), "{json}");
    project.end().await;
}
