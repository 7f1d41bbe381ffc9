//! The lake against plain models, in a folder and in emulated object stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod cloud;
mod copied;
mod defects;
mod erase;
mod foreign;
mod keyed;
mod keyless;
mod late;
mod remask;
mod staging;
mod table;
mod tricks;
mod upkeep;

/// Runs a random test for so many seeds, two at a time: those from 0 on, from `LOCKGATE_SEED` on, or `LOCKGATE_SEEDS` many. Names the seed
/// that fails.
async fn for_seeds<F: Future<Output = ()> + Send + 'static>(
    count: u64,
    run: impl Fn(u64) -> F + Copy + Send + 'static,
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first = number("LOCKGATE_SEED");
    let count = number("LOCKGATE_SEEDS").unwrap_or(if first.is_some() { 1 } else { count });
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count;
    let work = seeds.map(|seed| async move {
        if let Err(failed) = tokio::spawn(run(seed)).await {
            panic!("seed {seed} fails; run it alone with LOCKGATE_SEED={seed}: {failed}");
        }
    });
    futures::StreamExt::collect::<Vec<()>>(futures::StreamExt::buffer_unordered(futures::stream::iter(work), 2)).await;
}
