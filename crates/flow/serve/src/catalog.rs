use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use change::{Error, Kind, TableName};
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use lake::{Lake, LakeTable, TableVersion};

/// The schemas of one source.
#[derive(Debug)]
pub(crate) struct SourceCatalog {
    schemas: BTreeMap<String, Arc<LakeSchema>>,
}

/// The tables of one schema; each is opened when it is asked for.
pub(crate) struct LakeSchema {
    lake: Arc<Lake>,
    source: String,
    schema: String,
    tables: BTreeSet<LakeTable>,
    at: Option<TableVersion>,
    closed: Arc<BTreeSet<TableName>>,
}

/// One catalog for each source in the lake.
pub(crate) fn catalogs(
    lake: &Arc<Lake>,
    tables: Vec<LakeTable>,
    at: Option<&TableVersion>,
    closed: &Arc<BTreeSet<TableName>>,
) -> BTreeMap<String, Arc<SourceCatalog>> {
    let mut sources: BTreeMap<String, BTreeMap<String, BTreeSet<LakeTable>>> = BTreeMap::new();
    for table in tables {
        let TableName { source, schema, .. } = table.name.clone();
        sources.entry(source).or_default().entry(schema).or_default().insert(table);
    }
    let catalog = |(source, schemas): (String, BTreeMap<String, BTreeSet<LakeTable>>)| {
        let open = |(schema, tables): (String, BTreeSet<LakeTable>)| {
            let (lake, source, at, closed) = (lake.clone(), source.clone(), at.cloned(), closed.clone());
            (schema.clone(), Arc::new(LakeSchema { lake, source, schema, tables, at, closed }))
        };
        (source.clone(), Arc::new(SourceCatalog { schemas: schemas.into_iter().map(open).collect() }))
    };
    sources.into_iter().map(catalog).collect()
}

impl CatalogProvider for SourceCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).map(|schema| schema.clone() as Arc<dyn SchemaProvider>)
    }
}

impl fmt::Debug for LakeSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeSchema({}.{})", self.source, self.schema)
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().filter(|table| !self.closed.contains(&table.name)).map(LakeTable::last_level).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.tables.iter().find(|table| table.last_level() == name) else { return Ok(None) };
        if self.closed.contains(&table.name) {
            let what = format!("{} has a k_gate, and no question about it is answered", table.name);
            let fix = format!("Run: lockgate release {} --to FOLDER", table.name);
            return Err(DataFusionError::External(Box::new(Error::new(Kind::Privacy, what).fix(fix))));
        }
        let provider = self.lake.table_provider(&table.name, table.layer, self.at.clone()).await;
        provider.map(Some).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// Without opening the table: at another time it may not have been there, and its name is known all the same.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.last_level() == name)
    }
}
