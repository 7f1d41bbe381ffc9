use std::collections::BTreeSet;
use std::sync::Arc;

use change::{Result, TableName};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use lake::{Lake, TableVersion};

use crate::catalog::catalogs;
use crate::refusal::refused;

/// A read-only SQL session over a lake.
pub struct Session {
    context: SessionContext,
}

/// The rows of one answer, as they come.
pub struct Answer(SendableRecordBatchStream);

impl Session {
    /// Lists the lake's tables; `at` shows each as it was at a version or a time. Nothing is answered about `closed` tables, nor about their
    /// change logs.
    ///
    /// # Errors
    /// Those of the lake.
    pub async fn open(lake: Arc<Lake>, at: Option<TableVersion>, closed: BTreeSet<TableName>) -> Result<Self> {
        let tables = lake.tables().await?;
        let closed = Arc::new(closed);
        let config = SessionConfig::new().with_information_schema(true);
        let context = SessionContext::new_with_config(config);
        for (source, catalog) in catalogs(&lake, tables, at.as_ref(), &closed) {
            context.register_catalog(source, catalog);
        }
        Ok(Self { context })
    }

    /// Plans and starts one `SELECT`.
    ///
    /// # Errors
    /// `Config` when the statement is not valid, not read-only, or names a table that is not there; the lake's own otherwise.
    pub async fn query(&self, sql: &str) -> Result<Answer> {
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(sql, read_only).await.map_err(refused)?;
        frame.execute_stream().await.map(Answer).map_err(refused)
    }
}

impl Answer {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// Those of the lake when a file of it cannot be read; `Config` when an expression fails on a value.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.0.try_next().await.map_err(refused)
    }
}
