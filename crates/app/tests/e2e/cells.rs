//! Encrypted cells: they are compared by what they hold, one destroyed key makes them unreadable everywhere, and nobody gets it back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::project::{Project, files};

const SETUP: &str = "
    CREATE TABLE members (member_id int PRIMARY KEY, ssn text, born date, card bytea);
    CREATE TABLE letters (id int PRIMARY KEY, member int, body text);
    INSERT INTO members SELECT i, '900-11-' || (1000 + i), date '1950-01-01' + i, decode('cafe', 'hex') FROM generate_series(1, 40) i;
    INSERT INTO letters SELECT i, i, 'letter-to-person-' || i || repeat('.', i * 100) FROM generate_series(1, 40) i;
    INSERT INTO letters VALUES (90, NULL, 'letter-to-nobody');";
/// The letters know their person by a column that is not stored.
const POLICY: &str = "  db.public.members:
    member_id: hmac_token(member)
    ssn: { transform: encrypt_cell(person), subject: member_id }
    born: { transform: encrypt_cell(person), subject: member_id }
    card: { transform: encrypt_cell(person), subject: member_id }
  db.public.letters:
    id: keep
    body: { transform: encrypt_cell(person), subject: member }
max_invalid_percent: 50
";
const SUBJECT: [&str; 2] = ["--subject", "db.public.members.member_id"];

fn store(project: &Project) -> PathBuf {
    project.dir.join(".lockgate/cells.sqlite")
}

fn connection(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

/// Sealed keys and their names.
fn keys(project: &Project) -> Vec<Vec<u8>> {
    let file = connection(&store(project));
    let mut find = file.prepare("SELECT id, record FROM data_key WHERE id IS NOT NULL").unwrap();
    let rows = find.query_map([], |row| Ok([row.get::<_, Vec<u8>>(0)?, row.get(1)?])).unwrap();
    rows.flat_map(Result::unwrap).collect()
}

/// How many of these byte strings are in a file of the state folder.
fn left(project: &Project, parts: &[Vec<u8>]) -> usize {
    let state: Vec<Vec<u8>> =
        files(&project.dir.join(".lockgate")).iter().map(|path| std::fs::read(path).unwrap()).collect();
    let holds =
        |part: &&Vec<u8>| state.iter().any(|file| file.windows(part.len()).any(|window| window == part.as_slice()));
    parts.iter().filter(holds).count()
}

fn revealed(project: &Project, column: &str, lines: &str) -> std::process::Output {
    project.fed(&["reveal", "--column", column, "--purpose", "access"], lines)
}

pub(super) fn allow_to_reveal(project: &Project) {
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    let yaml = project.dir.join("lockgate.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, format!("{text}roles: {{ reveal: [{user}] }}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_old_and_new_cells_open_and_the_keys_of_both_are_needed() {
    let project = Project::new("cells-rotated", SETUP, &["public.members", "public.letters"], POLICY).await;
    allow_to_reveal(&project);
    project.lockgate_ok(&["run", "--once"]);
    let before = keys(&project);
    project.lockgate_ok(&["keys", "rotate"]);
    project.lockgate_ok(&["remask"]);
    // Each data key keeps its name and is sealed anew.
    let after = keys(&project);
    let kept = after.iter().filter(|part| before.contains(part)).count();
    assert_eq!((before.len(), after.len(), kept), (80, 80, 40));
    let change =
        "UPDATE members SET ssn = 'of the new epoch' WHERE member_id = 3; INSERT INTO letters VALUES (77, 3, 'new')";
    project.database.batch_execute(change).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(keys(&project).len(), 80, "a person got a second key");
    project.lockgate_ok(&["verify"]);
    let cells = project.query("SELECT ssn FROM db.public.members").join("\n");
    let opened = revealed(&project, "db.public.members.ssn", &cells);
    let mut values: Vec<String> = String::from_utf8(opened.stdout).unwrap().lines().map(str::to_owned).collect();
    let mut source = project.source("SELECT ssn FROM members").await;
    values.sort();
    source.sort();
    assert_eq!(values, source);
    let retired = project.lockgate(&["keys", "retire", "1"]);
    let said = String::from_utf8_lossy(&retired.stderr).into_owned();
    assert!(retired.status.code() == Some(1) && said.contains("db.public.letters: body"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_are_compared_by_what_they_hold_and_one_destroyed_key_ends_them() {
    let project = Project::new("cells", SETUP, &["public.members", "public.letters"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let cells = "SELECT count(*), count(DISTINCT card), count(ssn) FROM db.public.members";
    assert_eq!(project.query(cells), ["40,40,40"]);
    assert_eq!(project.query("SELECT count(body) FROM db.public.letters"), ["40"]);
    let equal = project.lockgate_ok(&["verify"]);
    assert!(!equal.contains("differs"), "{equal}");
    // What is in the source and not in the lake is found, although no two cells are alike.
    project.database.batch_execute("UPDATE members SET ssn = 'other' WHERE member_id = 3").await.unwrap();
    let differs = project.lockgate(&["verify"]);
    assert_eq!(differs.status.code(), Some(1));
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);

    let cells = project.query("SELECT ssn FROM db.public.members ORDER BY ssn");
    let bytes = project.query("SELECT card FROM db.public.members LIMIT 1");
    let reveal = |column: &str, lines: &str| revealed(&project, column, lines);
    let refused = reveal("db.public.members.ssn", &cells[0]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0));
    allow_to_reveal(&project);
    let opened = reveal("db.public.members.ssn", &cells.join("\n"));
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let mut values: Vec<String> = String::from_utf8(opened.stdout).unwrap().lines().map(str::to_owned).collect();
    let mut source = project.source("SELECT ssn FROM members").await;
    values.sort();
    source.sort();
    assert_eq!(values, source);
    assert_eq!(reveal("db.public.members.card", &bytes[0]).stdout, b"\\xcafe\n");
    // A cell of another column, and what is none.
    let strange = reveal("db.public.members.born", &format!("{}\nnothing", cells[0]));
    assert_eq!((strange.status.code(), strange.stdout.as_slice()), (Some(1), &b"\n\n"[..]));
    for (column, part) in [
        ("db.public.members.member_id", "cannot be turned back"),
        ("db.public.members.x", "no rule"),
        ("members", "names no column"),
    ] {
        let refused = reveal(column, "x");
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(part), "{column}");
    }
    let log = project.lockgate_ok(&["audit", "list", "--json"]);
    assert!(log.contains("\"revealed\"") && log.contains("\"opened\":40") && log.contains("\"opened\":0"), "{log}");
    assert!(!log.contains("900-11"));

    // A legal hold keeps the key.
    let before = keys(&project);
    assert_eq!((before.len(), left(&project, &before)), (80, 80));
    project.erase_ok(&[&SUBJECT[..], &["--hold"]].concat(), "7\n");
    assert_eq!(project.erase(&SUBJECT, "7\n").status.code(), Some(3));
    assert_eq!(keys(&project), before);
    project.erase_ok(&[&SUBJECT[..], &["--lift"]].concat(), "7\n");

    let said = project.erase_ok(&SUBJECT, "7\n");
    assert!(said.contains("1 data keys destroyed"), "{said}");
    let after = keys(&project);
    let gone: Vec<Vec<u8>> = before.into_iter().filter(|part| !after.contains(part)).collect();
    assert_eq!((after.len(), gone.len(), left(&project, &gone)), (78, 2, 0));
    let receipts = files(&project.dir.join(".lockgate/receipts"));
    assert!(std::fs::read_to_string(&receipts[0]).unwrap().contains("\"data_keys_destroyed\": 1"));
    let log = project.lockgate_ok(&["audit", "list", "--json"]);
    assert!(log.contains("data_keys_destroyed"), "{log}");

    let ended = reveal("db.public.members.ssn", &cells.join("\n"));
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).starts_with("1 do not open: the key"));

    // The letters were not found by person; what they hold is unreadable, and a late one is not readable either.
    assert_eq!(project.query("SELECT count(body) FROM db.public.letters WHERE id = 7"), ["1"]);
    let late = "INSERT INTO letters VALUES (91, 7, 'late'); UPDATE letters SET body = 'later' WHERE id = 7;
        UPDATE letters SET body = 'later' WHERE id = 8; UPDATE members SET ssn = 'late' WHERE member_id = 7";
    project.database.batch_execute(late).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(body) FROM db.public.letters WHERE id IN (7, 91)"), ["0"]);
    assert_eq!(project.query("SELECT count(body) FROM db.public.letters WHERE id = 8"), ["1"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members"), ["39"]);
    assert_eq!(keys(&project).len(), 78);

    // Another store would make keys that open nothing: no run goes on.
    std::fs::rename(store(&project), project.dir.join("cells.bak")).unwrap();
    project.database.batch_execute("UPDATE members SET ssn = 'x' WHERE member_id = 9").await.unwrap();
    let refused = project.lockgate(&["run", "--once"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another store than .lockgate/cells.sqlite"));
    std::fs::rename(project.dir.join("cells.bak"), store(&project)).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify", "--table", "public.members"]);
    project.end().await;
}
