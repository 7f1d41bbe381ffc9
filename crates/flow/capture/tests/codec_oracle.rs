//! Postgres as the judge: what is copied and what is streamed, decoded and printed again, must be what Postgres prints itself.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::DataType;
use capture::postgres::copy_binary::CopyReader;
use capture::postgres::pgoutput::{self, Message, Relation};
use capture::postgres::rows::{RowAt, TableDecoder};
use capture::postgres::table::{PgTable, ReplicaIdentity};
use capture::postgres::types::{OnUnfit, arrow_type};
use change::{ChangeBatch, Position, TableName};
use futures::StreamExt;
use sandbox::postgres::{Installed, PrivatePostgres, available};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::printed::{printed, same, unfit};
use crate::recording::{shared_data, tsv};
use crate::type_catalog::TypeCatalog;

const USER_TYPES: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION isn;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'très content');
    CREATE TYPE addr AS (street text, zip varchar(10), place point);
    CREATE TYPE addr2 AS (home addr, tags text[]);
    CREATE DOMAIN posint AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN npi AS char(10);
    CREATE DOMAIN ssn AS text;
    CREATE DOMAIN price AS numeric(12,2);
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE FUNCTION shout(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a cast of the user' $$;
    CREATE CAST (mood AS text) WITH FUNCTION shout(mood);";

/// Values of many sizes and shapes, the same in every run.
const RANDOM_ROWS: &str = "
    CREATE TABLE random_rows (id int4 PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, o oid, f4 float4, f8 float8, n numeric,
        d numeric(12,2), w numeric(38,10), p price, dt date, ts timestamp, tz timestamptz, raw bytea, u uuid, j jsonb, c char(9), t text);
    SELECT setseed(0.42);
    INSERT INTO random_rows SELECT id, r < 0.5, (r * 65535 - 32768)::int2, (s * 4294967295 - 2147483648)::int4,
        (s * 1.8e19 - 9e18)::int8, (r * 4294967295)::int8::oid, ((r - 0.5) * 10 ^ (id % 60 - 30))::float4,
        (r - 0.5) * 10 ^ (s * 500 - 250)::int, round((r - 0.5)::numeric * 10::numeric ^ (id % 41 - 20), id % 25),
        ((r - 0.5) * 1e10)::numeric, (r - 0.5)::numeric * 10::numeric ^ (id % 28), ((s - 0.5) * 10 ^ (id % 10))::numeric,
        date '0001-01-01' + (r * 3652058)::int, timestamp '0001-01-01' + s * interval '3652058 days',
        timestamptz '0001-01-02+00' + r * interval '3652057 days', decode(md5(s::text), 'hex'), md5(r::text)::uuid,
        jsonb_build_object('a', r, 'b', jsonb_build_array(s, NULL, 'é')), left(md5(s::text), id % 9), repeat('ü', id % 50)
    FROM (SELECT id, random() AS r, random() AS s FROM generate_series(1, 3000) AS id) AS drawn;
    UPDATE random_rows SET n = NULL, d = NULL, dt = NULL, tz = NULL, raw = NULL, u = NULL, t = NULL WHERE id % 7 = 0;
    DELETE FROM random_rows WHERE id % 11 = 0;";

struct Oracle {
    // Stops the server when it is dropped.
    _server: PrivatePostgres,
    client: Client,
    types: TypeCatalog,
}

impl Oracle {
    /// A server with the user types and a slot that has seen nothing yet.
    async fn start(installed: &Installed) -> Self {
        let server = PrivatePostgres::with().bin(&installed.bin).start().await.unwrap();
        let client = server.client().await.unwrap();
        client.batch_execute("SET TimeZone = 'UTC'; SET lc_monetary = 'C'").await.unwrap();
        client.batch_execute(USER_TYPES).await.unwrap();
        client.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
        client.execute("SELECT pg_create_logical_replication_slot('oracle', 'pgoutput')", &[]).await.unwrap();
        let mut types = TypeCatalog::default();
        let sql = "SELECT oid, format_type(oid, NULL), typtype::text, typbasetype, typtypmod,
                          CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END FROM pg_type WHERE typtype <> 'p'";
        for row in client.query(sql, &[]).await.unwrap() {
            types.insert(row.get(0), row.get(1), row.get(2), (row.get(3), row.get(4)), row.get(5));
        }
        Self { _server: server, client, types }
    }

    /// Each table that the slot announces, with all of its changes.
    async fn streamed(&self) -> BTreeMap<String, (PgTable, Vec<ChangeBatch>)> {
        let sql = "SELECT data FROM pg_logical_slot_peek_binary_changes('oracle', NULL, NULL,
                       'proto_version', '1', 'publication_names', 'everything')";
        let mut at = RowAt { epoch: 0, lsn: 0, ordinal: 1, committed_at: 0, txid: 0 };
        let mut streamed: BTreeMap<String, (PgTable, Vec<ChangeBatch>)> = BTreeMap::new();
        let mut decoders: BTreeMap<u32, TableDecoder> = BTreeMap::new();
        let mut keep = |mut decoder: TableDecoder, table: PgTable| {
            let batches = &mut streamed.entry(table.table.table.clone()).or_insert_with(|| (table, Vec::new())).1;
            batches.extend(decoder.finish().unwrap());
        };
        let mut tables: BTreeMap<u32, PgTable> = BTreeMap::new();
        for row in self.client.query(sql, &[]).await.unwrap() {
            match pgoutput::parse(row.get(0), false).unwrap() {
                Message::Begin { final_lsn, .. } => at.lsn = final_lsn,
                Message::Relation(relation) => {
                    let table = self.table(&relation);
                    let decoder = TableDecoder::for_stream(&table, &relation, OnUnfit::Null).unwrap();
                    // A server announces a table again whenever its cache was cleared.
                    if let Some(before) = decoders.insert(relation.oid, decoder) {
                        keep(before, table.clone());
                    }
                    tables.insert(relation.oid, table);
                }
                Message::Insert { relation, new, .. } => {
                    decoders.get_mut(&relation).unwrap().insert(&new, &at).unwrap()
                }
                Message::Update { relation, old, new, .. } => {
                    decoders.get_mut(&relation).unwrap().update(old.as_ref(), &new, &at).map(drop).unwrap();
                }
                Message::Delete { relation, old, .. } => {
                    decoders.get_mut(&relation).unwrap().delete(&old, &at).unwrap()
                }
                _ => {}
            }
        }
        decoders.into_values().zip(tables.into_values()).for_each(|(decoder, table)| keep(decoder, table));
        streamed
    }

    fn table(&self, relation: &Relation) -> PgTable {
        assert_eq!(relation.replica_identity, ReplicaIdentity::Default);
        let name = TableName::new("db", &relation.schema, &relation.name);
        PgTable::from_relation(name, relation, |oid, typmod| self.types.resolve(oid, typmod)).unwrap()
    }

    async fn copied(&self, table: &PgTable) -> Vec<ChangeBatch> {
        let columns: Vec<String> = table.columns.iter().map(|column| column.copy_expression().unwrap()).collect();
        let name = &table.table.table;
        let sql = format!("COPY (SELECT {} FROM {name}) TO STDOUT (FORMAT binary)", columns.join(", "));
        let mut frames = std::pin::pin!(self.client.copy_out(&sql).await.unwrap());
        let mut decoder = TableDecoder::for_copy(table, 0, OnUnfit::Null).unwrap();
        let mut reader = CopyReader::new(Position::from_bytes(&[0; 20]), 0);
        while let Some(frame) = frames.next().await {
            reader.push(&frame.unwrap(), &mut decoder).unwrap();
        }
        assert_eq!(usize::try_from(reader.end(&decoder).unwrap()), Ok(decoder.rows()));
        Vec::from_iter(decoder.finish().unwrap())
    }

    /// Every row of a table by its id, as Postgres prints it.
    async fn printed(&self, table: &str) -> Printed {
        let mut rows = Printed::new();
        for message in self.client.simple_query(&format!("SELECT * FROM {table}")).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                let cells: Vec<Option<String>> = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
                rows.insert(cells[0].clone().unwrap(), cells);
            }
        }
        rows
    }
}

/// Rows by id.
type Printed = BTreeMap<String, Vec<Option<String>>>;

/// The rows that batches leave, by their first column.
fn left_by(batches: &[ChangeBatch]) -> Printed {
    let mut rows = Printed::new();
    for batch in batches {
        assert!(batch.unsent().is_none());
        let columns = batch.rows().expose().columns();
        for (row, op) in batch.meta().ops.iter().enumerate() {
            let cells: Vec<Option<String>> = columns.iter().map(|array| printed(array, row)).collect();
            let id = cells[0].clone().unwrap();
            if op.removes() {
                rows.remove(&id)
            } else {
                rows.insert(id, cells)
            };
        }
    }
    rows
}

/// Compares decoded rows with what Postgres prints, and gives the number of values that were unfit.
fn compare(way: &str, table: &PgTable, decoded: &Printed, wanted: &Printed) -> usize {
    let types: Vec<DataType> = table.columns.iter().map(|column| arrow_type(&column.pg_type).unwrap()).collect();
    assert!(decoded.keys().eq(wanted.keys()), "{way} {}: other rows", table.table);
    let mut unfit_values = 0;
    for (id, cells) in wanted {
        for (at, cell) in cells.iter().enumerate() {
            let (column, is) = (&table.columns[at], decoded[id][at].as_deref());
            let place = format!("{way} {} ({}) row {id}", column.name, column.pg_type.name);
            if cell.as_deref().is_some_and(|cell| unfit(cell, &types[at])) {
                assert_eq!(is, None, "{place}");
                unfit_values += 1;
            } else {
                // The values are made up, so a failing test may show them.
                assert!(same(is, cell.as_deref(), &types[at]), "{place}: {is:?} is not {cell:?}");
            }
        }
    }
    unfit_values
}

/// A column of a type that versions before 15 do not know: scales outside of 0 to the precision.
fn is_new_in_15(type_name: &str) -> bool {
    matches!(type_name, "numeric(5,-2)" | "numeric(3,5)")
}

/// Makes a table per type of the cases with its values, and gives the number of tables.
async fn insert_cases(oracle: &Oracle, major: u32, cases: &Path) -> usize {
    let mut names: Vec<String> = Vec::new();
    for line in tsv(cases) {
        let [id, type_name, input, copy_text, ..] = line.as_slice() else { panic!("a case has four columns") };
        if major < 15 && is_new_in_15(type_name) {
            continue;
        }
        let number = names.iter().position(|name| name == type_name).unwrap_or(names.len());
        if number == names.len() {
            names.push(type_name.clone());
            let sql = format!(
                "CREATE TABLE edge{number} (id int4 PRIMARY KEY, v {type_name}); INSERT INTO edge{number} VALUES (0, NULL)"
            );
            oracle.client.batch_execute(&sql).await.unwrap();
        }
        let input = input.replace("\\\\", "\u{0}").replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r");
        let input = input.replace('\u{0}', "\\").replace('\'', "''");
        let sql = format!("INSERT INTO edge{number} VALUES ({id}, '{input}'::{type_name})");
        let inserted = oracle.client.batch_execute(&sql).await;
        assert!(inserted.is_ok() || copy_text.starts_with("ERROR"), "case {id}");
    }
    names.len()
}

#[tokio::test]
async fn edge_values_are_what_postgres_prints() {
    let Some(cases) = shared_data("pg_types") else { return };
    for installed in available() {
        let oracle = Oracle::start(&installed).await;
        let tables = insert_cases(&oracle, installed.major, &cases.join("cases.tsv")).await;
        let streamed = oracle.streamed().await;
        assert_eq!(streamed.len(), tables);
        let mut unfit_values = 0;
        for (name, (table, batches)) in &streamed {
            let wanted = oracle.printed(name).await;
            unfit_values += compare("streamed", table, &left_by(batches), &wanted);
            unfit_values += compare("copied", table, &left_by(&oracle.copied(table).await), &wanted);
        }
        assert!(unfit_values > 20);
    }
}

#[tokio::test]
async fn random_values_are_what_postgres_prints() {
    for installed in available() {
        let oracle = Oracle::start(&installed).await;
        oracle.client.batch_execute(RANDOM_ROWS).await.unwrap();
        let streamed = oracle.streamed().await;
        let (table, batches) = &streamed["random_rows"];
        let wanted = oracle.printed("random_rows").await;
        assert_eq!(wanted.len(), 3000 - 3000 / 11);
        assert_eq!(compare("streamed", table, &left_by(batches), &wanted), 0);
        assert_eq!(compare("copied", table, &left_by(&oracle.copied(table).await), &wanted), 0);
    }
}
