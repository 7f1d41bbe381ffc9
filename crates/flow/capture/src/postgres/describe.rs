use std::collections::BTreeMap;
use std::sync::Arc;

use change::{Error, Kind, Result, StreamLag, TableName, TableSchema};

use super::catalog::{self, CatalogTable};
use super::client::{Address, Session};
use super::config::PostgresConfig;
use super::failure;
use super::measure::{end_of_log, lag_of};
use super::publication;
use super::server::Server;
use super::slot;
use super::table::quoted;
use super::types::{Form, TextForm};

/// A table as the catalog shows it, with what its values look like.
#[derive(Clone, Debug)]
pub struct Described<S> {
    /// Columns, types and identity.
    pub schema: Arc<TableSchema>,
    /// For each column, what a sample of its values was reduced to; no value is kept.
    pub shapes: Vec<S>,
}

/// Values that are looked at for a shape.
const SAMPLE: usize = 200;

/// Characters of a value that are looked at: enough for every class, and nobody's document is read whole.
const SAMPLE_CHARACTERS: usize = 200;

/// The tables of a database that a configuration names.
#[derive(Debug, Default)]
pub struct Tables {
    /// Those that can be followed, in order of their names.
    pub followable: Vec<Arc<TableSchema>>,
    /// Those that cannot, with what mends it.
    pub refused: Vec<(TableName, Error)>,
    /// By table, the columns that the publication's column list leaves out: they are in the structure, and never come.
    pub withheld: BTreeMap<TableName, Vec<String>>,
}

/// The tables that `tables` names. Connects, reads the catalog, and lets go.
pub async fn tables(config: &PostgresConfig) -> Result<Tables> {
    let address = Address::of(config)?;
    let session = address.connect("tables").await?;
    let server = Server::read(&address, &session).await?;
    let published = publication::read(&address, &session, config.publication(), server.version).await?;
    let mut tables = Tables::default();
    for found in named(&address, &session, config).await? {
        let published = found.as_published(published.as_ref());
        let refused = found.refused.as_ref().map(|refusal| Error::new(Kind::Contract, &refusal.what).fix(&refusal.fix));
        match refused.or_else(|| published.unreadable(address.user())).map_or_else(|| found.table.schema(), Err) {
            Ok(schema) => {
                let withheld = published.withheld_of(&found);
                if !withheld.is_empty() {
                    tables.withheld.insert(schema.table.clone(), withheld);
                }
                tables.followable.push(schema);
            }
            Err(error) => tables.refused.push((found.table.table, error)),
        }
    }
    Ok(tables)
}

/// The tables that `tables` names, with the shapes of their values: `shape_of` is handed a sample of each column's values, none where the type
/// says enough or the table cannot be read, and what it returns must tell none of them. Connects, reads, and lets go.
pub async fn describe<S>(config: &PostgresConfig, shape_of: impl Fn(&[&str]) -> S) -> Result<Vec<Described<S>>> {
    let address = Address::of(config)?;
    let session = address.connect("describe").await?;
    let mut described = Vec::new();
    for table in named(&address, &session, config).await? {
        let Ok(schema) = table.table.schema() else { continue };
        let shapes = if table.is_readable() {
            sampled(&address, &session, &table, &shape_of).await?
        } else {
            schema.columns.iter().map(|_| shape_of(&[])).collect()
        };
        described.push(Described { schema, shapes });
    }
    Ok(described)
}

/// What `tables` names and cannot be followed because it is no table with rows of its own in the log, each with what it is instead.
pub async fn others(config: &PostgresConfig) -> Result<Vec<(TableName, String)>> {
    let address = Address::of(config)?;
    let session = address.connect("describe").await?;
    let sql = "select n.nspname, c.relname,
            case when c.relkind = 'v' then 'a view' when c.relkind = 'm' then 'a materialized view'
                 when c.relkind = 'f' then 'a foreign table' when c.relispartition then 'a partition'
                 else 'a table that is not in the log (UNLOGGED or TEMPORARY)' end
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where (c.relkind in ('v', 'm', 'f') or c.relkind in ('r', 'p') and (c.relispartition or c.relpersistence <> 'p'))
          and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%' order by 1, 2";
    let rows = session.client.query(sql, &[]).await;
    let rows = rows.map_err(|e| failure::asking(&address, "reading the catalog", e))?;
    let named = rows.iter().filter(|row| catalog::is_wanted(&config.tables, row.get(0), row.get(1)));
    let other = |row: &tokio_postgres::Row| {
        (TableName::new(&config.source, row.get::<_, String>(0), row.get::<_, String>(1)), row.get(2))
    };
    Ok(named.map(other).collect())
}

/// How far the source's slot is behind, measured once; `None` when there is no slot.
pub async fn lag(config: &PostgresConfig) -> Result<Option<StreamLag>> {
    let address = Address::of(config)?;
    let session = address.connect("status").await?;
    let end = end_of_log(&address, &session).await?;
    let state = slot::read(&address, &session, &config.slot).await?;
    Ok(state.map(|state| lag_of(&state, end)))
}

pub(crate) async fn named(address: &Address, session: &Session, config: &PostgresConfig) -> Result<Vec<CatalogTable>> {
    let wanted = |schema: &str, table: &str| catalog::is_wanted(&config.tables, schema, table);
    catalog::tables(address, session, &config.source, wanted).await
}

async fn sampled<S>(
    address: &Address,
    session: &Session,
    table: &CatalogTable,
    shape_of: impl Fn(&[&str]) -> S,
) -> Result<Vec<S>> {
    let columns = &table.table.columns;
    let list: Vec<String> = columns
        .iter()
        .map(|column| match column.pg_type.form() {
            Ok(Form::Text(TextForm::Same | TextForm::Printed | TextForm::Numeric) | Form::Int4 | Form::Int8) => {
                format!("left({}::text, {SAMPLE_CHARACTERS})", quoted(&column.name))
            }
            // A number that identifies has no decimals, whatever its type could hold.
            Ok(Form::Decimal { .. } | Form::Float4 | Form::Float8) => {
                format!("left(trim_scale({}::numeric)::text, {SAMPLE_CHARACTERS})", quoted(&column.name))
            }
            // The type itself says what these are.
            _ => "null::text".to_string(),
        })
        .collect();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    // The first rows in place of random ones: a scan of a large table costs its owner more than a proposal is worth.
    let sql = format!("select {} from {} limit {SAMPLE}", list.join(", "), table.quoted());
    let rows = match session.client.query(&sql, &[]).await {
        // A value that is no text in any encoding says nothing of the others: names and types have to do.
        Err(error) if error.code().is_some_and(|code| code.code() == failure::NO_TEXT) => {
            tracing::warn!(table = %table.table.table, "some values are not text in the database's encoding: proposed by names and types alone");
            Vec::new()
        }
        rows => {
            rows.map_err(|e| failure::asking(address, &format!("{}: sampling its values", table.table.table), e))?
        }
    };
    Ok((0..columns.len())
        .map(|at| {
            let values: Vec<&str> = rows.iter().filter_map(|row| row.get::<_, Option<&str>>(at)).collect();
            shape_of(&values)
        })
        .collect())
}
