use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// Drops a slot once nobody reads from it; does nothing when there is none.
pub(crate) async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    wait_for_no_reader(client, slot).await?;
    client
        .execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", &[&slot])
        .await?;
    Ok(())
}

/// Makes `to` a copy of the slot `from`, at the same position.
pub(crate) async fn copy_slot(client: &Client, from: &str, to: &str) -> Result<()> {
    drop_slot(client, to).await?;
    client.execute("SELECT pg_copy_logical_replication_slot($1::text, $2::text)", &[&from, &to]).await?;
    Ok(())
}

/// Waits until somebody reads from the slot.
pub(crate) async fn wait_for_reader(client: &Client, slot: &str) -> Result<()> {
    wait_until(client, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active)", slot)
        .await
        .with_context(|| format!("nobody reads from the slot {slot}"))
}

/// Waits until nobody reads from the slot: after a kill the server needs a moment to notice.
pub(crate) async fn wait_for_no_reader(client: &Client, slot: &str) -> Result<()> {
    wait_until(client, "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active)", slot)
        .await
        .with_context(|| format!("somebody still reads from the slot {slot}"))
}

/// How far the server has written its log out, as text.
pub(crate) async fn log_end(client: &Client) -> Result<String> {
    Ok(client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?.get(0))
}

/// Fails unless the slot's reader has confirmed everything up to `position`: without that, it was not durable and its time says nothing.
pub(crate) async fn ensure_confirmed(client: &Client, slot: &str, position: &str) -> Result<()> {
    let sql = "SELECT confirmed_flush_lsn::text, confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(sql, &[&slot, &position]).await?.with_context(|| format!("the slot {slot} is gone"))?;
    let (confirmed, reached): (String, bool) = (row.get(0), row.get(1));
    ensure!(reached, "the slot {slot} is confirmed up to {confirmed} only; {position} was the end");
    Ok(())
}

/// Waits until the slot's reader has confirmed everything up to `position`.
pub(crate) async fn wait_for_confirmed(client: &Client, slot: &str, position: &str, patience: Duration) -> Result<()> {
    let sql = "SELECT coalesce(bool_or(confirmed_flush_lsn >= $2::text::pg_lsn), false) FROM pg_replication_slots WHERE slot_name = $1";
    let deadline = Instant::now() + patience;
    while !client.query_one(sql, &[&slot, &position]).await?.get::<_, bool>(0) {
        ensure!(Instant::now() < deadline, "{slot} has not confirmed {position} within {} s", patience.as_secs());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn wait_until(client: &Client, condition: &str, slot: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !client.query_one(condition, &[&slot]).await?.get::<_, bool>(0) {
        ensure!(Instant::now() < deadline, "not within {} s", PATIENCE.as_secs());
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
