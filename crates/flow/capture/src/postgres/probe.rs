use std::collections::BTreeMap;
use std::sync::Arc;

use change::{Problem, Result, Severity, TableName, TableSchema};

use super::catalog::CatalogTable;
use super::client::{Address, Session};
use super::config::{PostgresConfig, problem};
use super::describe::named;
use super::failure;
use super::publication::{self, Publication, Step};
use super::server::Server;
use super::slot::{self, SlotState};
use super::table::quoted;

/// What a look at the database found.
#[derive(Debug, Default)]
pub struct ProbeReport {
    /// Everything that stands in the way, each with the statement that mends it, and what is worth knowing.
    pub problems: Vec<Problem>,
    /// The structure of the tables that can be followed, and of those that are not to be.
    pub tables: Vec<Arc<TableSchema>>,
    /// Tables that cannot be followed as they are; `problems` says why.
    pub refused: Vec<TableName>,
    /// By table, the columns that the publication's column list leaves out: they are in the structure, and never come.
    pub withheld: BTreeMap<TableName, Vec<String>>,
}

/// Connects, looks at everything that `open` needs, changes nothing, and lets go. Only the tables for which `ruled` holds will be followed:
/// nothing has to be done for the others.
///
/// Errors only when the look itself fails: host, port, TLS, password, database.
pub async fn probe(config: &PostgresConfig, ruled: impl Fn(&TableName) -> bool) -> Result<ProbeReport> {
    let address = Address::of(config)?;
    let session = address.connect("probe").await?;
    let server = Server::read(&address, &session).await?;
    let mut report = ProbeReport::default();
    for (what, fix) in server.obstacles() {
        let fix = fix.replace("ALTER ROLE ...", &format!("ALTER ROLE {}", quoted(address.user())));
        report.problems.push(problem(&what, &fix));
    }
    let tables = named(&address, &session, config).await?;
    missing_tables(config, &tables, &mut report);
    let (tables, others): (Vec<CatalogTable>, Vec<CatalogTable>) =
        tables.into_iter().partition(|table| ruled(&table.table.table));
    let published = publication::read(&address, &session, config.publication(), server.version).await?;
    for table in &tables {
        look_at(table, &table.as_published(published.as_ref()), &address, &mut report);
    }
    // What is wrong with them matters to nobody.
    report.tables.extend(others.iter().filter_map(|table| table.table.schema().ok()));
    let slot = slot::read(&address, &session, &config.slot).await?;
    look_at_slot(config, &address, &server, slot.as_ref(), &mut report);
    let seen = Seen { config, address: &address, session: &session, server: &server, has_slot: slot.is_some() };
    look_at_publication(&seen, published.as_ref(), &tables, &mut report).await?;
    if slot.is_none() && server.slots_used >= i64::from(server.slots_max) {
        report.problems.push(problem(
            &format!("all {} replication slots of the server are taken", server.slots_max),
            failure::FREE_A_SLOT,
        ));
    }
    if slot.as_ref().is_none_or(|slot| !slot.active) && server.senders_used >= i64::from(server.senders_max) {
        report.problems.push(problem(
            &format!("all {} replication connections of the server are taken", server.senders_max),
            "Raise max_wal_senders and restart the server.",
        ));
    }
    Ok(report)
}

fn note(severity: Severity, what: String, fix: &str) -> Problem {
    Problem { severity, file: String::new(), line: None, what, fix: fix.into() }
}

fn missing_tables(config: &PostgresConfig, tables: &[CatalogTable], report: &mut ProbeReport) {
    for pattern in &config.tables {
        let own = std::slice::from_ref(pattern);
        let found = tables.iter().any(|t| super::catalog::is_wanted(own, &t.table.table.schema, &t.table.table.table));
        if !found {
            let what = format!("`{pattern}` names no table of the database");
            report.problems.push(problem(
                &what,
                "Correct the name under `tables`, or take it out. Views and partitions cannot be followed.",
            ));
        }
    }
}

fn look_at(table: &CatalogTable, published: &CatalogTable, address: &Address, report: &mut ProbeReport) {
    let name = &table.table.table;
    let mut fit = true;
    if let Some(refusal) = &table.refused {
        report.problems.push(problem(&refusal.what, &refusal.fix));
        fit = false;
    }
    if let Some(error) = published.unreadable(address.user()) {
        report.problems.push(problem(error.what(), error.how_to_fix().unwrap_or_default()));
        fit = false;
    }
    if !table.generated.is_empty() {
        let what = format!("{name}: the stream does not carry the generated columns {}", table.generated.join(", "));
        report.problems.push(note(Severity::Note, what, "Compute them again in a model."));
    }
    match table.table.schema() {
        Ok(schema) if fit => {
            let withheld = published.withheld_of(table);
            if !withheld.is_empty() {
                report.withheld.insert(name.clone(), withheld);
            }
            report.tables.push(schema);
        }
        Ok(_) => report.refused.push(name.clone()),
        Err(error) => {
            report.problems.push(problem(error.what(), error.how_to_fix().unwrap_or_default()));
            report.refused.push(name.clone());
        }
    }
}

fn look_at_slot(
    config: &PostgresConfig,
    address: &Address,
    server: &Server,
    slot: Option<&SlotState>,
    report: &mut ProbeReport,
) {
    match slot {
        Some(slot) => {
            if let Err(error) = slot::judge(&config.slot, address.database(), Some(slot), None) {
                report.problems.push(problem(error.what(), error.how_to_fix().unwrap_or_default()));
            }
            if slot.active {
                let what = format!(
                    "the replication slot {} is in use (process {})",
                    config.slot,
                    slot.active_pid.unwrap_or(0)
                );
                report.problems.push(note(
                    Severity::Note,
                    what,
                    "Only one process can read a slot: stop the other before you run this one.",
                ));
            }
        }
        None => {
            let what = format!("the replication slot {} will be made", config.slot);
            report.problems.push(note(Severity::Note, what, ""));
        }
    }
    if server.slot_keep_mb < 0 {
        let what = "max_slot_wal_keep_size is -1: a slot that nobody reads can fill the server's disk".to_string();
        report.problems.push(note(
            Severity::Warning,
            what,
            "Set it on the server above `wal_budget.critical`, as the last guard of its disk.",
        ));
    }
}

/// What was looked at before the publication.
struct Seen<'a> {
    config: &'a PostgresConfig,
    address: &'a Address,
    session: &'a Session,
    server: &'a Server,
    has_slot: bool,
}

async fn look_at_publication(
    seen: &Seen<'_>,
    found: Option<&Publication>,
    tables: &[CatalogTable],
    report: &mut ProbeReport,
) -> Result<()> {
    let Seen { config, address, session, server, has_slot } = *seen;
    let name = config.publication();
    let lost = match found {
        None if has_slot => {
            Some(publication::gone(name).context(format!("the replication slot {} is there, but", config.slot)))
        }
        // From PostgreSQL 18 on the server passes over what it cannot read; then only the lake's records tell, at the start.
        Some(_)
            if has_slot
                && server.version < 180_000
                && !publication::reads_from(address, session, &config.slot, name).await? =>
        {
            Some(publication::made_again(name))
        }
        _ => None,
    };
    if let Some(error) = lost {
        report.problems.push(problem(error.what(), error.how_to_fix().unwrap_or_default()));
        return Ok(());
    }
    let fit: Vec<CatalogTable> = tables.iter().filter(|table| table.refused.is_none()).cloned().collect();
    if fit.is_empty() {
        return Ok(());
    }
    for step in publication::steps(name, found, &fit) {
        match step {
            Step::Refuse(refusal) => {
                let error = refusal.error(has_slot);
                report.problems.push(problem(error.what(), error.how_to_fix().unwrap_or_default()));
            }
            Step::Run { sql } => {
                let allowed = publication::allowed(address, session, &fit).await?;
                let (severity, fix) = if allowed {
                    (Severity::Note, String::new())
                } else {
                    (Severity::Error, format!("Run this as the owner of the tables: {sql};"))
                };
                let what = if found.is_none() { "has to be made" } else { "lacks some of the tables" };
                report.problems.push(note(severity, format!("the publication {name} {what}"), &fix));
            }
        }
    }
    Ok(())
}
