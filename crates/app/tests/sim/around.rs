//! What people and machines do around the process under test: they release held rows, give some up, and set the clock.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use app::Choice;
use rand::Rng;
use rand::rngs::StdRng;

use crate::judge::Judge;
use crate::script::Script;
use crate::world::World;

const HOUR: i64 = 3_600_000_000;

/// Beside a life: decisions about held rows, and a clock that jumps.
pub(crate) async fn go_on(mut random: StdRng, script: &Script, world: &World, judge: &Mutex<Judge>) -> Infallible {
    if !script.holds && !script.jumps {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..3_000))).await;
        if world.is_dead() {
            return std::future::pending().await;
        }
        if script.holds && random.random_bool(0.5) {
            release(&mut random, world, judge);
        }
        if script.discards && random.random_bool(0.1) {
            discard(&mut random, world, judge);
        }
        if script.jumps && random.random_bool(0.05) {
            jump(&mut random, world);
        }
    }
}

/// Marks some of the held rows, or all.
pub(crate) fn release(random: &mut StdRng, world: &World, judge: &Mutex<Judge>) {
    if random.random_bool(0.4) {
        return mark(&Choice::All, world, judge);
    }
    let Some(store) = judge.lock().unwrap().held.store() else { return };
    let share = random.random_range(0.05..0.6);
    let some = store.lines().unwrap().into_iter().map(|line| line.id).filter(|_| random.random_bool(share)).collect();
    mark(&Choice::These(some), world, judge);
}

/// Gives some of the held rows up.
pub(crate) fn discard(random: &mut StdRng, world: &World, judge: &Mutex<Judge>) {
    let Some(store) = judge.lock().unwrap().held.store() else { return };
    let share = random.random_range(0.02..0.3);
    let before = store.lines().unwrap();
    let some = before.iter().map(|line| line.id).filter(|_| random.random_bool(share)).collect();
    // Refused when a row that stays needs one of them.
    let Ok((gone, _)) = store.discard(&Choice::These(some)) else { return };
    let left: Vec<i64> = store.lines().unwrap().iter().map(|line| line.id).collect();
    let dropped: Vec<_> = before.into_iter().filter(|line| !left.contains(&line.id)).collect();
    assert_eq!(dropped.len(), gone);
    judge.lock().unwrap().discarded(&dropped);
    world.trace("dropped", &gone.to_string());
    world.add("held: rows dropped", gone as u64);
}

/// Marks held rows for release.
pub(crate) fn mark(choice: &Choice, world: &World, judge: &Mutex<Judge>) {
    let Some(store) = judge.lock().unwrap().held.store() else { return };
    let rows = store.mark(choice).unwrap();
    if rows > 0 {
        world.trace("released", &rows.to_string());
        world.count("held: times that rows were marked");
        world.add("held: rows marked", rows);
    }
}

/// Sets the wall clock forward by days or back by hours.
pub(crate) fn jump(random: &mut StdRng, world: &World) {
    let hours = if random.random_bool(0.5) { random.random_range(24..24 * 20) } else { -random.random_range(1..30) };
    world.clock.jump(hours * HOUR);
    world.trace("clock", &hours.to_string());
    world.count(if hours > 0 { "clock: set forward" } else { "clock: set back" });
}
