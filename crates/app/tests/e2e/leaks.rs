//! I3: planted identifiers are nowhere below the project folder, in no form of the list, and in nothing that the program prints.

use super::project::{Project, files};

/// Planted values, one for each column that the policy does not let through in clear.
const CANARIES: [&str; 6] =
    ["517938264", "Zebulonova", "1931-02-17", "zebulonova@example.org", "MRN-4471-QX", "60629-1234"];

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_identifier_leaves_the_gate() {
    let setup = "CREATE TABLE person (mrn text PRIMARY KEY, ssn text, name text, dob date, email text, zip text, note text, plan text);
        INSERT INTO person SELECT 'MRN-' || i, '1', 'n', '1980-01-01', 'e', '10001', 'x', 'p' FROM generate_series(1, 500) i;
        INSERT INTO person VALUES ('MRN-4471-QX', '517938264', 'Zebulonova', '1931-02-17', 'zebulonova@example.org', '60629-1234',
            'seen: Zebulonova, SSN 517938264, born 1931-02-17', 'gold');";
    let policy = "  db.public.person: { mrn: hmac_token(member), ssn: drop, dob: dob_generalise, email: hmac_token(email), zip: zip3, note: redact(NOTE), plan: keep }\n";
    let project = Project::new("leaks", setup, &["public.person"], policy).await;
    let first = project.lockgate(&["--log", "trace", "run", "--once"]);
    project
        .database
        .batch_execute(
            "UPDATE person SET plan = 'silver' WHERE mrn = 'MRN-4471-QX';
             UPDATE person SET mrn = 'MRN-4471-QX2' WHERE mrn = 'MRN-4471-QX';
             ALTER TABLE person ADD COLUMN phone text DEFAULT '517938264';
             UPDATE person SET phone = 'Zebulonova';
             DELETE FROM person WHERE mrn = 'MRN-4471-QX2';",
        )
        .await
        .unwrap();
    let second = project.lockgate(&["--log", "trace", "run", "--once"]);
    let mut places: Vec<(String, Vec<u8>)> = vec![
        ("the first run's output".into(), [first.stdout, first.stderr].concat()),
        ("the second run's output".into(), [second.stdout, second.stderr].concat()),
    ];
    for table in ["person", "person__changes"] {
        let rows = project.lockgate(&["query", &format!("SELECT * FROM db.public.{table}"), "--format", "csv"]);
        places.push((format!("the rows of {table}"), rows.stdout));
    }
    for file in files(&project.dir) {
        places.push((file.display().to_string(), std::fs::read(file).unwrap()));
    }
    for (place, bytes) in &places {
        for (number, canary) in CANARIES.iter().enumerate() {
            for (form, searched) in forms(canary).iter().enumerate() {
                assert!(!contains(bytes, searched), "planted value {number} is in {place} (form {form})");
            }
        }
    }
    // The test of the test: what is let through is found.
    assert!(places.iter().any(|(_, bytes)| contains(bytes, b"silver")));
    project.end().await;
}

/// A value as it is, case-folded, without separators, as UTF-16, hexadecimal, base-64 and reversed.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let bare: String = value.chars().filter(|c| c.is_alphanumeric()).collect();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let utf16 = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let reversed: String = value.chars().rev().collect();
    let lower = value.to_lowercase();
    let mut forms = vec![value.as_bytes().to_vec(), lower.into_bytes(), hex.into_bytes(), utf16, reversed.into_bytes()];
    // Bare digits of a date are too short to tell from chance.
    if bare.len() > 8 {
        forms.push(bare.into_bytes());
    }
    forms
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}
