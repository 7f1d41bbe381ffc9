//! Kill -9 and restart, again and again, on a live workload: `cargo x soak --cycles N --minutes M`.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::ledger::{Writer, ledger};
use super::process::Process;

const ACCOUNTS: u32 = 20_000;
const SEED: u64 = 500;

fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "lasts as long as it is told to, 40 minutes unless told: `cargo x soak --cycles 500 --minutes 40`"]
#[allow(clippy::disallowed_methods, reason = "how long people are made to wait is measured by their clock")]
async fn kill_9_again_and_again_loses_and_doubles_nothing() {
    let (cycles, minutes) = (asked("LOCKGATE_SOAK_CYCLES", 500), asked("LOCKGATE_SOAK_MINUTES", 40));
    let project = ledger("soak", ACCOUNTS).await;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut random = StdRng::seed_from_u64(SEED);
    let (started, limit) = (Instant::now(), Duration::from_secs(60 * minutes));
    let (mut killed, mut ended, mut memory_mib) = (0, 0, 0);
    while killed < cycles && started.elapsed() < limit {
        let mut running = Process::start(&project);
        tokio::time::sleep(Duration::from_millis(random.random_range(50..4000))).await;
        if running.has_ended() {
            ended += 1;
            println!("a run ended by itself:\n{}", running.said());
        } else {
            memory_mib = memory_mib.max(running.memory_mib_max());
        }
        running.kill_9();
        killed += 1;
    }
    let transactions = writer.stop().await;
    let soaked = started.elapsed();
    project.assert_ledger().await;
    let changes = project.query("SELECT count(*) FROM db.public.entry__changes").remove(0);
    println!(
        "{killed} kills in {:.1} min under {transactions} transactions; {changes} changes of `entry` in its log, nothing lost, nothing twice; most memory {memory_mib} MiB",
        soaked.as_secs_f64() / 60.0
    );
    assert_eq!(ended, 0, "runs ended by themselves");
    project.end().await;
}
