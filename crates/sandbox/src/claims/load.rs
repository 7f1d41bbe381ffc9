use std::io::Cursor;

use anyhow::{Context, Result};
use futures::{SinkExt, pin_mut};
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::rows::Claims;
use super::schema::Table;

const PART_BYTES: usize = 128 * 1024;
const PARTS_WAITING: usize = 16;

/// Copies the first load of these tables into empty tables of `client`'s database, and returns the rows of each. Rows are made on another
/// thread while the server takes them in; memory stays at a few MB whatever the scale.
pub async fn load(client: &Client, data: &Claims, tables: &[Table]) -> Result<Vec<(Table, u64)>> {
    let mut loaded = Vec::new();
    for table in tables {
        let rows = load_table(client, *data, *table).await.with_context(|| format!("loading {}", table.name()))?;
        loaded.push((*table, rows));
    }
    client.batch_execute("ANALYZE").await?;
    Ok(loaded)
}

async fn load_table(client: &Client, data: Claims, table: Table) -> Result<u64> {
    let (sender, mut parts) = mpsc::channel::<Vec<u8>>(PARTS_WAITING);
    let maker = tokio::task::spawn_blocking(move || {
        let mut part = Vec::with_capacity(PART_BYTES + 32 * 1024);
        data.for_each(table, |row| {
            row.copy_text(&mut part);
            match part.len() < PART_BYTES {
                true => Ok(()),
                false => sender.blocking_send(std::mem::replace(&mut part, Vec::with_capacity(PART_BYTES + 32 * 1024))),
            }
        })
        // The receiver is gone only when the copy has failed, and then that is the error.
        .and_then(|()| sender.blocking_send(part))
        .is_ok()
    });
    let sink = client.copy_in(&format!("COPY {} FROM STDIN", table.name())).await?;
    pin_mut!(sink);
    while let Some(part) = parts.recv().await {
        sink.feed(Cursor::new(part)).await?;
    }
    anyhow::ensure!(maker.await.context("the rows could not be made")?, "the rows were not all taken");
    Ok(sink.finish().await?)
}
