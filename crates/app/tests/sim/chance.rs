//! Which fault comes when: decided by the seed, the request and how often it was made, so that no thread's timing has a say.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::randomness::mix;
use crate::store::millis;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It takes long.
    Slow(Duration),
    /// It fails and nothing was done.
    Before,
    /// It was done and the answer is lost; a read breaks off.
    After,
    /// It fails, and is done later all the same.
    Late(Duration),
}

/// The seed's answers.
pub(crate) struct Chance {
    seed: u64,
    /// Requests in a thousand that fail.
    permille: u64,
    asked: Mutex<HashMap<(&'static str, String), u64>>,
}

impl Chance {
    pub(crate) fn new(seed: u64, permille: u64) -> Self {
        Self { seed, permille, asked: Mutex::default() }
    }

    fn draw(&self, question: &'static str, of: &str) -> u64 {
        let mut asked = self.asked.lock().unwrap();
        let times = asked.entry((question, of.to_owned())).or_default();
        *times += 1;
        let name = question.bytes().chain(of.bytes()).fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        mix(name ^ mix(*times))
    }

    /// What becomes of this request.
    pub(crate) fn fault(&self, operation: &'static str, path: &str) -> Fault {
        let draw = self.draw(operation, path);
        if draw % 1000 >= self.permille {
            return Fault::None;
        }
        let (kind, draw) = (mix(draw) % 8, mix(draw ^ 7));
        match (kind, operation) {
            (0..=2, _) => Fault::Before,
            (3, _) => Fault::Slow(millis(100..20_000, draw)),
            (4, "put" | "create") => Fault::Late(millis(1..3_000, draw)),
            _ => Fault::After,
        }
    }

    /// How long this request is under way.
    pub(crate) fn latency(&self, operation: &'static str, path: &str) -> Duration {
        millis(1..30, self.draw("latency", path) ^ operation.len() as u64)
    }

    /// Heads or tails.
    pub(crate) fn coin(&self, question: &'static str, of: &str) -> bool {
        self.draw(question, of) & 1 == 0
    }
}
