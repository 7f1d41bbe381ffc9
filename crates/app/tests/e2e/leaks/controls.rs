//! The test of the test: a leak of every surface, in every form, is found by the same search.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

use super::super::project::{Project, files};
use super::canary::{Canary, Person};
use super::forms::{SURE_BITS, bits, needles};
use super::scanner::Scanner;
use super::surface::Surface;
use super::watched::Watch;
use super::{Searched, plant};

fn people() -> Vec<Person> {
    (0..4).map(|number| Person::new(77, number)).collect()
}

fn canaries() -> Vec<Canary> {
    people().iter().flat_map(Person::canaries).collect()
}

/// Every form of every value is found in bytes that hold it: a sure one alone, another in company.
#[test]
fn every_form_is_found() {
    let canaries = canaries();
    let mut scanner = Scanner::new(canaries.clone());
    let mut forms = BTreeSet::new();
    for (number, canary) in canaries.iter().enumerate() {
        for needle in needles(&canary.planted) {
            forms.insert(needle.form);
            let mut bytes = b"\x01\x02noise\x03".to_vec();
            if bits(&needle) < SURE_BITS {
                let other = canaries
                    .iter()
                    .enumerate()
                    .find(|(at, other)| {
                        *at != number
                            && other.column == canary.column
                            && std::mem::discriminant(&other.planted) == std::mem::discriminant(&canary.planted)
                    })
                    .unwrap()
                    .1;
                let company: Vec<u8> = needles(&other.planted)
                    .into_iter()
                    .filter(|other| other.form == needle.form)
                    .flat_map(|other| [other.bytes, vec![2]].concat())
                    .collect();
                bytes.extend(company);
            }
            let shown = if needle.folded { needle.bytes.to_ascii_uppercase() } else { needle.bytes };
            bytes.extend(shown);
            bytes.extend(b"\x01more");
            let place = format!("{number} {}", needle.form);
            scanner.look(Surface::Data, &place, &bytes);
            assert!(
                scanner
                    .hits()
                    .iter()
                    .any(|hit| hit.place == place && hit.form == needle.form && hit.column == canary.column),
                "{} of {} is not found",
                needle.form,
                canary.column
            );
        }
    }
    assert!(forms.len() > 30, "{forms:?}");
}

/// Chance finds nothing: people who were never planted are not found in what others left.
#[test]
fn other_people_are_not_found() {
    let mut scanner = Scanner::new(canaries());
    let strangers: String = (0..50).map(|number| Person::new(78, number).values(500)).collect();
    scanner.look(Surface::Data, "strangers", strangers.as_bytes());
    let random: Vec<u8> =
        (0..1_u32 << 19).flat_map(|number| super::sha1::sha1(&number.to_le_bytes())[..2].to_vec()).collect();
    scanner.look(Surface::Data, "chance", &random);
    assert!(scanner.hits().is_empty(), "{:#?}", scanner.hits());
}

/// Values in a Parquet file are found however they are encoded, compressed, or told by its metadata.
#[test]
fn what_a_parquet_file_hides_is_found() {
    let folder = std::env::temp_dir().join(format!("lockgate-control-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let zstd = || Compression::ZSTD(ZstdLevel::default());
    let off =
        || WriterProperties::builder().set_dictionary_enabled(false).set_statistics_enabled(EnabledStatistics::None);
    let delta = |builder: WriterPropertiesBuilder| {
        let text = ["mrn", "name", "email", "zip", "ssn"];
        let builder = text
            .iter()
            .fold(builder, |builder, name| builder.set_column_encoding((*name).into(), Encoding::DELTA_BYTE_ARRAY));
        ["number", "account"]
            .iter()
            .fold(builder, |builder, name| builder.set_column_encoding((*name).into(), Encoding::DELTA_BINARY_PACKED))
    };
    let cases: [(&str, WriterProperties, &[&str]); 6] = [
        ("plain", off().build(), &["text", "int64"]),
        ("compressed", off().set_compression(zstd()).build(), &["text", "int64", "days", "instant", "float64"]),
        ("dictionary", WriterProperties::builder().set_compression(zstd()).build(), &["text", "int64"]),
        (
            "delta",
            delta(off()).set_compression(Compression::SNAPPY).build(),
            &["text", "int32", "int64", "part in a cell"],
        ),
        (
            "statistics",
            WriterProperties::builder().set_compression(zstd()).set_statistics_enabled(EnabledStatistics::Page).build(),
            &["text"],
        ),
        ("bloom filter", off().set_compression(zstd()).set_bloom_filter_enabled(true).build(), &["bloom filter"]),
    ];
    for (name, properties, forms) in cases {
        let path = folder.join(format!("{}.parquet", name.replace(' ', "_")));
        write(&path, properties);
        let mut scanner = Scanner::new(canaries());
        scanner.file(Surface::Data, &path, &folder);
        for form in forms {
            assert!(scanner.hits().iter().any(|hit| hit.form == *form), "{name}: {form} is not found");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn write(path: &Path, properties: WriterProperties) {
    let people = people();
    let text = |value: fn(&Person) -> &String| {
        Arc::new(people.iter().map(|person| Some(value(person))).collect::<StringArray>()) as ArrayRef
    };
    let columns: [(&str, ArrayRef); 12] = [
        ("mrn", text(|person| &person.mrn)),
        ("ssn", text(|person| &person.ssn)),
        ("name", text(|person| &person.name)),
        ("email", text(|person| &person.email)),
        ("zip", text(|person| &person.zip)),
        ("note", text(|person| &person.word)),
        ("number", Arc::new(people.iter().map(|person| person.number).collect::<Int32Array>())),
        ("account", Arc::new(people.iter().map(|person| person.account).collect::<Int64Array>())),
        ("born", Arc::new(Date32Array::from_iter_values(people.iter().map(|person| person.born)))),
        ("seen", Arc::new(TimestampMicrosecondArray::from_iter_values(people.iter().map(|person| person.seen)))),
        ("ratio", Arc::new(people.iter().map(|person| person.ratio).collect::<Float64Array>())),
        (
            "salary",
            Arc::new(
                people
                    .iter()
                    .map(|person| i128::from(person.salary))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(14, 2)
                    .unwrap(),
            ),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A policy that keeps everything, and a copy of each other surface with a value in it.
#[tokio::test(flavor = "multi_thread")]
async fn every_surface_has_a_control_that_is_caught() {
    let plan = plant::Plan { seed: 2 };
    let policy = "  db.public.person: { mrn: keep, number: keep, ssn: keep, name: keep, email: keep, phone: keep, born: keep, zip: keep, seen: keep,
      account: keep, salary: keep, ratio: keep, scan: keep, guid: keep, doc: keep, names: keep, home: keep, note: keep, plan: keep }\n";
    let project = plant::project("controls", &plan.setup(), &["public.person"], policy).await;
    let mut searched = Searched { project, scanner: Scanner::new(plan.canaries()), written: Vec::new() };
    leaky_run(&mut searched).await;
    let mut caught: BTreeSet<Surface> = searched.scanner.hits().iter().map(|hit| hit.surface).collect();
    let columns: BTreeSet<&str> =
        searched.scanner.hits().iter().filter(|hit| hit.surface == Surface::Data).map(|hit| hit.column).collect();
    let planted: BTreeSet<&str> =
        plan.canaries().iter().map(|canary| canary.column).filter(|column| !column.contains('.')).collect();
    assert_eq!(columns, planted, "kept columns in data files");
    for surface in [Surface::Data, Surface::DeltaLog, Surface::LogCheckpoints, Surface::Answers] {
        assert!(caught.contains(&surface), "a policy that keeps everything does not show in {surface:?}");
    }
    caught.extend(leaky_copies(&mut searched, &plan).await);
    let missed: Vec<_> = Surface::ALL.into_iter().filter(|surface| !caught.contains(surface)).collect();
    assert!(missed.is_empty(), "a leak would not be noticed in {missed:?}");
    searched.project.end().await;
}

/// Copies with everything kept, and makes commits until the log has a checkpoint.
async fn leaky_run(searched: &mut Searched) {
    let watched = searched.run(Surface::TextLog, &["run", "--once"]).await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    let running = searched.project.start();
    let log = searched.project.lake_table("person").join("_delta_log");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !files(&log).iter().any(|file| file.to_string_lossy().contains(".checkpoint")) {
        assert!(tokio::time::Instant::now() < deadline, "no checkpoint of the Delta log within a minute");
        searched.sql("UPDATE person SET plan = plan WHERE mrn = (SELECT min(mrn) FROM person)").await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(running.terminate(), Some(0));
    searched.folder();
    searched.run(Surface::Answers, &["query", "SELECT * FROM db.public.person", "--format", "csv"]).await;
}

/// Each surface that a policy cannot make leak gets a leak made by hand; gives those where it was found.
async fn leaky_copies(searched: &mut Searched, plan: &plant::Plan) -> BTreeSet<Surface> {
    let [person, _] = plan.people(plant::Way::Copied);
    let copies = searched.project.dir.join("copies");
    let mut scanner = Scanner::new(plan.canaries());
    for surface in [Surface::DeletionVectors, Surface::LakeState, Surface::KeyIndex, Surface::ProjectState] {
        let original =
            files(&searched.project.dir).into_iter().find(|file| Surface::of(file, &searched.project.dir) == surface);
        let original = original.unwrap_or_else(|| panic!("there is no file of {surface:?}"));
        let mut bytes = std::fs::read(&original).unwrap();
        let middle = bytes.len() / 2;
        bytes.splice(middle..middle, person.email.bytes());
        let copy = copies.join(original.strip_prefix(&searched.project.dir).unwrap());
        write_file(&copy, &bytes);
        scanner.file(Surface::of(&copy, &copies), &copy, &copies);
    }
    let vault = copies.join("vault.sqlite");
    let connection = rusqlite::Connection::open(&vault).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (v); INSERT INTO t VALUES ('{}')",
            person.name
        ))
        .unwrap();
    scanner.file(Surface::Vault, &copies.join("vault.sqlite-wal"), &copies);
    let held = copies.join("held.sqlite");
    std::fs::copy(copies.join("vault.sqlite-wal"), held.with_extension("sqlite-wal")).unwrap();
    scanner.file(Surface::of(&held, &copies), &held.with_extension("sqlite-wal"), &copies);
    let spool = copies.join("spool/db/00000001.spool");
    write_file(&spool, format!("\x00\x00\x00\x19{}", person.email).as_bytes());
    scanner.file(Surface::of(&spool, &copies), &spool, &copies);
    // A value in the statistics of a staged file, in the names of a mark's columns, behind the name of who waits, in a receipt.
    let journal = serde_json::json!({ "files": { "a.parquet": { "add": { "stats": serde_json::json!({ "minValues": { "email": person.email } }).to_string() } } } });
    for (place, text) in [
        ("lake/_lockgate/staged/db.public.person.json", journal.to_string()),
        ("lake/_lockgate/remasking/db.public.person", serde_json::json!(["zip", person.name]).to_string()),
        (".lockgate/repair/db/public/person/updates", format!("a frame of {}", person.email)),
        (".lockgate/wish.lock", format!("lockgate erase {}", person.mrn)),
        (".lockgate/receipts/remask-1.json", serde_json::json!({ "columns": [person.street] }).to_string()),
    ] {
        let path = copies.join(place);
        write_file(&path, text.as_bytes());
        scanner.file(Surface::of(&path, &copies), &path, &copies);
    }
    let named = copies.join(format!("name={}/part.bin", person.name));
    write_file(&named, b"");
    scanner.file(Surface::Data, &named, &copies);

    let script = format!(
        "exec 3>\"$TMPDIR/x\"; rm \"$TMPDIR/x\"; printf %s '{}' >&3; sleep 0.3; echo '{}'",
        person.word, person.phone
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let watched = Watch::start(shell, &searched.project.dir).end().await;
    std::mem::swap(&mut searched.scanner, &mut scanner);
    searched.search(Surface::Printed, "a script", &watched);
    std::mem::swap(&mut searched.scanner, &mut scanner);

    let line = format!("2026-11-21T10:00:00Z WARN gate: a value cannot be read value={}", person.leaf);
    scanner.look(Surface::TextLog, "a line", line.as_bytes());
    let line = serde_json::json!({ "level": "WARN", "fields": { "zip": &person.zip[..5], "last": &person.ssn[7..], "name": person.item } });
    scanner.look(Surface::JsonLog, "a line", line.to_string().as_bytes());
    ask_with_a_value(&searched.project, &person).await;
    scanner.look(Surface::Statements, "what the server was asked", plant::asked(&searched.project).await.as_bytes());
    scanner.hits().iter().map(|hit| hit.surface).collect()
}

/// A session with a name like ours and a value in its statement.
async fn ask_with_a_value(project: &Project, person: &Person) {
    // Each by itself: the log names the session as it was when the text came in.
    let asked = format!("SELECT '{}'", person.street);
    for statement in ["SET application_name = 'lockgate control'", asked.as_str(), "RESET application_name"] {
        project.database.batch_execute(statement).await.unwrap();
    }
}

fn write_file(path: &PathBuf, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
