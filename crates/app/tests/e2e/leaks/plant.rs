//! Tables with a planted value in every column of every kind, and every way in which one reaches the log.

use super::super::project::Project;
use super::canary::{Canary, Person, Planted};

/// How a row comes into the log. Each way plants people of its own.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Copied,
    CopiedLarge,
    Inserted,
    Updated,
    Deleted,
    Moved,
    Truncated,
    RolledBack,
    Replayed,
    Unreadable,
    Catalog,
    Added,
    Held,
    Spooled,
}

const WAYS: [Way; 14] = [
    Way::Copied,
    Way::CopiedLarge,
    Way::Inserted,
    Way::Updated,
    Way::Deleted,
    Way::Moved,
    Way::Truncated,
    Way::RolledBack,
    Way::Replayed,
    Way::Unreadable,
    Way::Catalog,
    Way::Added,
    Way::Held,
    Way::Spooled,
];

/// A table with a primary key, one without, one whose unreadable rows are held back, and one for each error that a value can provoke.
pub(crate) const TABLES: [&str; 9] = [
    "public.person",
    "public.visit",
    "public.kept",
    "public.odd_year",
    "public.odd_age",
    "public.odd_shape",
    "public.odd_document",
    "public.odd_range",
    "public.odd_day",
];

/// The columns that [`Person::values`] fills.
const COLUMNS: &str = "mrn, number, ssn, name, email, phone, born, zip, seen, account, salary, ratio, scan, guid, doc, names, home, note, plan";

/// Large enough to be stored out of line.
const LARGE: usize = 20_000;

/// What the policy lets through in one form or another; what it does not name is dropped.
pub(crate) const POLICY: &str = "  db.public.person:
    mrn: hmac_token(member)
    number: siv_token(number)
    ssn: { transform: encrypt_cell(person), subject: mrn }
    name: redact(NAME)
    email: { transform: hmac_token(email), canonical: nfkc }
    phone: null_out
    born: dob_generalise
    zip: zip3
    seen: { transform: date_shift(person 90), subject: mrn }
    account: vault_code(account)
    salary: bucket(0,1000)
    scan: hmac_token(scan)
    guid: siv_token(guid)
    doc: { transform: json_paths, paths: { plan: keep, patient.name: hmac_token(name) } }
    note: redact(NOTE)
    plan: keep
  db.public.visit: { who: hmac_token(member), seen: date_trunc(month), zip: zip3, plan: keep }
  db.public.kept: { id: keep, age: { transform: age_cap, on_invalid: hold }, name: redact(NAME) }
  db.public.odd_year: { id: keep, v: { transform: date_year, on_invalid: halt } }
  db.public.odd_age: { id: keep, v: { transform: age_cap, on_invalid: halt } }
  db.public.odd_shape: { id: keep, v: { transform: fpe_ff1(shape digits 12), on_invalid: halt } }
  db.public.odd_document: { id: keep, v: { transform: json_paths, paths: { a: keep }, on_invalid: halt } }
  db.public.odd_range: { id: keep, v: { transform: bucket(0 1), on_invalid: halt } }
  db.public.odd_day: { id: keep, v: keep }
max_invalid_percent: 100
";

/// The people of one seed.
pub(crate) struct Plan {
    pub(crate) seed: u64,
}

impl Plan {
    /// Two people for each way: what is too short to be sure of counts only in company.
    pub(crate) fn people(&self, way: Way) -> [Person; 2] {
        let number = way as u64 * 10;
        [Person::new(self.seed, number), Person::new(self.seed, number + 1)]
    }

    pub(crate) fn canaries(&self) -> Vec<Canary> {
        let mut canaries: Vec<Canary> =
            WAYS.into_iter().flat_map(|way| self.people(way)).flat_map(|person| person.canaries()).collect();
        for day in self.days_out_of_range() {
            canaries.push(Canary { column: "odd_day.v", planted: Planted::Text(day) });
        }
        canaries
    }

    /// Days that no lake type holds.
    fn days_out_of_range(&self) -> [String; 2] {
        self.people(Way::Unreadable).map(|person| format!("{}-02-17", 11_000 + person.number % 60_000))
    }

    /// Types, tables, comments and the rows that the first copy reads.
    pub(crate) fn setup(&self) -> String {
        let [first, second] = self.people(Way::Catalog);
        let mut sql = format!(
            "CREATE TYPE mood AS ENUM ('{}', '{}');
             CREATE DOMAIN ssn AS text CHECK (length(VALUE) = 11);
             CREATE TYPE address AS (street text, house int);
             CREATE TABLE person (mrn text, number int, ssn ssn, name text, email text, phone text, born date, zip text, seen timestamptz,
                 account bigint, salary numeric(14,2), ratio float8, scan bytea, guid uuid, doc jsonb, names text[], home address, note text, plan text,
                 feeling mood DEFAULT '{}', extra text DEFAULT '{}', PRIMARY KEY (mrn, number));
             COMMENT ON TABLE person IS 'as of {}';
             COMMENT ON COLUMN person.name IS 'such as {}';
             CREATE TABLE visit (who text, seen timestamptz, zip text, word text, plan text);
             ALTER TABLE visit REPLICA IDENTITY FULL;
             CREATE TABLE kept (id int PRIMARY KEY, age text, name text);
             CREATE TABLE beside (filler text);",
            first.name, second.name, first.name, first.word, second.item, second.street
        );
        for odd in TABLES.into_iter().filter_map(|table| table.strip_prefix("public.odd_")) {
            let kind = if odd == "day" { "date" } else { "text" };
            sql.push_str(&format!("CREATE TABLE odd_{odd} (id int PRIMARY KEY, v {kind});"));
        }
        for (way, filler) in [(Way::Copied, 0), (Way::CopiedLarge, LARGE)] {
            self.people(way).iter().for_each(|person| sql.push_str(&insert(person, filler)));
        }
        sql
    }

    /// An update that leaves out a large value, of rows that the first copy has not read yet.
    pub(crate) fn before_the_copy(&self) -> String {
        self.people(Way::CopiedLarge)
            .iter()
            .map(|person| format!("UPDATE person SET plan = 'silver' WHERE {};", key(person)))
            .collect()
    }

    /// Every kind of change, each in its own transaction.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        for person in self.people(Way::Truncated) {
            changes.push(visit(&person));
        }
        changes.push("TRUNCATE visit".into());
        for person in self.people(Way::Inserted) {
            changes.extend([insert(&person, 0), visit(&person)]);
        }
        for (before, after) in self.people(Way::Copied).iter().zip(self.people(Way::Updated)) {
            // Every column but the key.
            changes.push(format!("UPDATE person SET ({COLUMNS}) = ROW({}) WHERE {}", after.values(0), key(before)));
            changes.push(format!("UPDATE visit SET word = '{}' WHERE plan = 'gold'", after.word));
        }
        for person in self.people(Way::Deleted) {
            changes.push(insert(&person, LARGE));
            changes.push(format!("DELETE FROM person WHERE {}", key(&person)));
            changes.push(visit(&person));
            changes.push(format!("DELETE FROM visit WHERE who = '{}'", person.mrn));
        }
        for person in self.people(Way::Moved) {
            changes.push(insert(&person, LARGE));
            changes.push(format!("UPDATE person SET mrn = reverse(mrn) WHERE {}", key(&person)));
        }
        for person in self.people(Way::RolledBack) {
            changes.push(format!("BEGIN; {} ROLLBACK", insert(&person, LARGE)));
        }
        let [default, added] = self.people(Way::Added);
        changes.push(format!("ALTER TABLE person ADD COLUMN late text DEFAULT '{}'", default.name));
        changes.push(format!("UPDATE person SET late = '{}'", added.name));
        changes.push("ALTER TABLE person RENAME COLUMN late TO later".into());
        changes.push("ALTER TABLE person DROP COLUMN later".into());
        changes
    }

    /// Rows with an age that is none, which wait for somebody's decision.
    pub(crate) fn held(&self) -> String {
        let held = self.people(Way::Held).into_iter().enumerate();
        held.map(|(id, person)| format!("INSERT INTO kept VALUES ({id}, '{}', '{}');", person.word, person.name))
            .collect()
    }

    /// Rows that come while the lake is away.
    pub(crate) fn spooled(&self) -> String {
        self.people(Way::Spooled).iter().map(|person| insert(person, LARGE) + &visit(person)).collect()
    }

    /// A change of one row of a file that holds others, which makes a deletion vector.
    pub(crate) fn last_change(&self) -> String {
        format!("UPDATE person SET plan = 'bronze' WHERE {}", key(&self.people(Way::Inserted)[0]))
    }

    /// Rows for a run that is killed before they are durable.
    pub(crate) fn replayed(&self) -> String {
        self.people(Way::Replayed).iter().map(|person| insert(person, LARGE) + &visit(person)).collect()
    }

    /// Values that the policy's transforms cannot read, and a day that no lake type holds: each stops its table.
    pub(crate) fn unreadable(&self) -> String {
        let mut sql = String::new();
        for (id, person) in self.people(Way::Unreadable).iter().enumerate() {
            for odd in ["year", "age", "shape", "range"] {
                sql.push_str(&format!("INSERT INTO odd_{odd} VALUES ({id}, '{}');", person.name));
            }
            sql.push_str(&format!("INSERT INTO odd_document VALUES ({id}, '{{\"{}');", person.leaf));
            sql.push_str(&format!("INSERT INTO odd_day VALUES ({id}, '{}');", self.days_out_of_range()[id]));
        }
        sql
    }
}

/// As [`Project::new`], with a server that logs every statement and whose it is.
pub(crate) async fn project(name: &str, setup: &str, tables: &[&str], policy: &str) -> Project {
    let postgres = sandbox::PrivatePostgres::with()
        .setting("log_statement", "all")
        .setting("log_replication_commands", "on")
        .setting("log_line_prefix", "%a|")
        .setting("log_parameter_max_length", "0")
        .setting("log_parameter_max_length_on_error", "0")
        .start()
        .await
        .unwrap();
    let project = Project::on(postgres, name, setup, tables, policy).await;
    project.write_lockgate_yaml("{ max_seconds: 0.05, max_rows: 1 }");
    project
}

/// What the sessions of the program have asked the server, and the names that it has given things there.
pub(crate) async fn asked(project: &Project) -> String {
    let log = project.postgres.log().unwrap();
    let (mut ours, mut asked) = (false, String::new());
    for line in log.lines() {
        // A statement of several lines goes on behind a tab.
        if !line.starts_with('\t') {
            ours = line.starts_with("lockgate");
        }
        if ours {
            asked.push_str(line);
            asked.push('\n');
        }
    }
    let names = "SELECT concat_ws(' ', slot_name, plugin, slot_type) FROM pg_replication_slots
        UNION ALL SELECT concat_ws(' ', pubname, obj_description(oid)) FROM pg_publication
        UNION ALL SELECT concat_ws(' ', application_name, query) FROM pg_stat_activity WHERE application_name LIKE 'lockgate%'";
    for name in project.database.query(names, &[]).await.unwrap() {
        asked.push_str(name.get(0));
        asked.push('\n');
    }
    asked
}

fn insert(person: &Person, filler: usize) -> String {
    format!("INSERT INTO person ({COLUMNS}) VALUES ({});", person.values(filler))
}

fn visit(person: &Person) -> String {
    let seen = super::canary::moment_text(person.seen);
    format!("INSERT INTO visit VALUES ('{}', '{seen}+00', '{}', '{}', 'gold');", person.mrn, person.zip, person.word)
}

fn key(person: &Person) -> String {
    format!("mrn = '{}' AND number = {}", person.mrn, person.number)
}
