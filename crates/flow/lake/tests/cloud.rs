//! Lakes in object stores, emulated: what exactly-once rests on there is the conditional put.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use change::{Kind, Op, Origin};
use lake::{Lake, LakeOptions, Layer, Outcome, WriterOptions};

use crate::table::{Cell, TestLake, commit_stream, done, keyed, name, read, row, text};

struct Emulator {
    child: Child,
    url: String,
    options: LakeOptions,
}

impl Emulator {
    /// `None`, with the reason printed, when the tools are not installed.
    fn start(store: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3)?;
        let tools = std::env::var_os("LOCKGATE_TOOLS").map_or(root.join(".tools"), PathBuf::from);
        let python = tools.join("venv/bin/python");
        if !python.exists() {
            println!("skipped: the emulator of {store} is not installed ({} is missing)", python.display());
            return None;
        }
        let mut child = Command::new(python)
            .arg(root.join("tests/servers/emulator.py"))
            .arg(store)
            .env("LOCKGATE_TOOLS", &tools)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the emulator of {store} did not start"));
        let mut options = LakeOptions::default();
        for (name, value) in said["options"].as_object().unwrap() {
            options.store.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        Some(Self { child, url: said["url"].as_str().unwrap().into(), options })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Make, write, commit, open again; then two writers, of which one is fenced.
async fn exactly_once_on(store: &str) {
    let Some(emulator) = Emulator::start(store) else { return };
    let (local, door) = (TestLake::new().await, keyed());
    let lake = Arc::new(Lake::open(&format!("{}/lake", emulator.url), emulator.options.clone()).await.unwrap());
    lake.probe().await.unwrap();
    let options = |index: &str| WriterOptions::new(local.clock.clone(), local.dir.join(index), None);
    let image = |op, lsn, id, note: &str| row(op, lsn, 1, &[Cell::Int(id), text("a"), text(note)]);
    let mut writer = lake.writer(&door.schema(), Layer::Current, options("one")).await.unwrap();
    for lsn in 1..4_u64 {
        writer.write(&door.batch(Origin::Stream, &[image(Op::Update, lsn * 10, (lsn % 2) as i64, "b")])).await.unwrap();
        done(commit_stream(&mut writer, lsn * 10 + 1).await);
    }
    drop(writer);
    let mut first = lake.writer(&door.schema(), Layer::Current, options("one")).await.unwrap();
    assert_eq!(first.checkpoint().stream, crate::table::through(31));
    let mut second = lake.writer(&door.schema(), Layer::Current, options("two")).await.unwrap();
    first.write(&door.batch(Origin::Stream, &[image(Op::Update, 40, 1, "first")])).await.unwrap();
    second.write(&door.batch(Origin::Stream, &[image(Op::Update, 40, 1, "second")])).await.unwrap();
    done(commit_stream(&mut first, 41).await);
    match commit_stream(&mut second, 41).await {
        Outcome::Conflicted(error) => assert_eq!(error.kind(), Kind::Conflict),
        other => panic!("{other:?}"),
    }
    let mut notes: Vec<String> = read(&lake, Layer::Current).await.into_iter().map(|row| row["note"].clone()).collect();
    notes.sort_unstable();
    assert_eq!(notes, ["b", "first"]);
    assert_eq!(lake.tables().await.unwrap().iter().map(|table| table.name.clone()).collect::<Vec<_>>(), [name()]);
}

#[tokio::test]
async fn exactly_once_on_s3() {
    exactly_once_on("s3").await;
}

#[tokio::test]
async fn exactly_once_on_azure() {
    exactly_once_on("azure").await;
}

#[tokio::test]
async fn exactly_once_on_gcs() {
    exactly_once_on("gcs").await;
}
