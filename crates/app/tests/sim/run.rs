//! One seed from beginning to end: lives of the process under test, deaths, and the judgement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use app::{Action, Batching, Choice, Ended, Known, Means, SpoolFolder, Watch, table_action};
use change::{Error, Kind, TableName};
use lake::Lake;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::clock::SimClock;
use crate::judge::Judge;
use crate::mutation::Mutation;
use crate::randomness::mix;
use crate::rests::Rests;
use crate::script::{SOURCE, Script, position};
use crate::source::{self, Server};
use crate::store::{Contents, FaultyStore};
use crate::world::World;

/// What one seed came to.
pub(crate) struct Verdict {
    pub(crate) faults: Vec<String>,
    pub(crate) trace: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// A seed's world, its database and what has to be true.
struct Simulation {
    seed: u64,
    mutation: Option<Mutation>,
    random: StdRng,
    world: Arc<World>,
    contents: Arc<Contents>,
    server: Arc<Server>,
    judge: Arc<Mutex<Judge>>,
    folder: PathBuf,
    lives: u64,
    /// Rows with unreadable values are held, else these become null.
    holds: bool,
    /// The next life has to let them in.
    must_let_in: bool,
    /// Draws what is done between two lives.
    between: StdRng,
    /// A process of another folder has written, or a request of it may still arrive.
    rivals: bool,
}

/// How a life ended.
enum End {
    /// Everything was durable.
    CaughtUp,
    Died,
    /// A table is stopped, because another process had it.
    Fenced,
    /// A table is stopped until the rule is what it was.
    NeedsTheRuleOfThen,
    /// A table is stopped, because an update leaves out values of a row that was given up.
    LacksWhatWasGivenUp,
    Failed(String),
}

/// Virtual time that a life may take; it is hours more than any life needs.
const LIFE_MAX: Duration = Duration::from_secs(6 * 3600);

/// What the machine calls its boot.
const BOOT: &str = "one boot";

/// Runs one seed. Must be called on a thread of its own.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, verbose: bool) -> Verdict {
    crate::randomness::seed(seed);
    crate::world::simulate_here();
    let script = Arc::new(Script::of(seed));
    if verbose {
        (0..script.log.len()).flat_map(|number| script.changes(number)).for_each(|change| println!("{change:?}"));
    }
    let (contents, folder) = (Arc::new(Contents::default()), folder(seed));
    let mut simulation = Simulation {
        seed,
        mutation,
        random: StdRng::seed_from_u64(mix(seed ^ 2)),
        world: Arc::new(World::new(verbose)),
        judge: Arc::new(Mutex::new(Judge::new(script.clone(), contents.clone(), folder.clone()))),
        contents,
        server: Arc::new(Server::new(script)),
        folder,
        lives: 0,
        holds: true,
        must_let_in: false,
        between: StdRng::seed_from_u64(mix(seed ^ 5)),
        rivals: false,
    };
    let outcome = simulation.live_and_die();
    drop(std::fs::remove_dir_all(&simulation.folder));
    let mut judge = simulation.judge.lock().unwrap();
    if outcome == Ok(true) {
        judge.finish();
    }
    let mut faults = std::mem::take(&mut judge.faults);
    faults.extend(outcome.err());
    simulation.world.add("versions", judge.versions);
    Verdict { faults, trace: simulation.world.trace_hash(), counts: simulation.world.counts() }
}

/// One for each run, also when two tests run a seed at once. In memory where the system has such a folder: the index waits for its disk.
fn folder(seed: u64) -> PathBuf {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("lockgate-sim-{}-{run}-{seed}", std::process::id()))
}

impl Simulation {
    /// Whether it came to the end of the script.
    fn live_and_die(&mut self) -> Result<bool, String> {
        let deaths = self.random.random_range(0..7);
        loop {
            self.lives += 1;
            let undisturbed = self.lives > deaths;
            // What waits in a spool comes out under the rules that it went in by.
            let last = undisturbed && !self.spool_waits();
            if self.lives > deaths + 20 {
                return Err("it does not catch up".into());
            }
            self.between_lives(last);
            let end = self.life(undisturbed);
            self.judge.lock().unwrap().look();
            if !self.judge.lock().unwrap().faults.is_empty() {
                return Ok(false);
            }
            match end {
                // The script may go on after a life that had caught up with all of it.
                End::CaughtUp if last => {
                    let held = self.judge.lock().unwrap().held.lines().len();
                    return if held == 0 { Ok(true) } else { Err(format!("{held} released rows are not in")) };
                }
                End::CaughtUp => self.world.count("lives: caught up"),
                End::Died => self.world.count("lives: killed"),
                End::NeedsTheRuleOfThen => {
                    self.world.count("lives: ended by a rule that had changed");
                    self.must_let_in = true;
                }
                End::LacksWhatWasGivenUp => {
                    self.world.count("seeds that ended with a table that lacked what was given up");
                    return Ok(false);
                }
                End::Fenced => self.world.count("lives: fenced"),
                End::Failed(why) => return Err(why),
            }
            self.spoil_index();
            if self.mutation == Some(Mutation::LosesHeld) {
                crate::mutation::lose_held(&self.folder);
            }
            if self.mutation == Some(Mutation::LosesSpool) {
                drop(std::fs::remove_dir_all(self.folder.join("spool")));
            }
            if self.mutation == Some(Mutation::IndexAhead) {
                crate::mutation::put_ahead(&self.folder.join("index/db/public/keyed"), BOOT);
            }
        }
    }

    /// The clock may jump, and the rules may change; in the end everything is let in.
    fn between_lives(&mut self, last: bool) {
        let script = self.server.script.clone();
        if script.jumps && self.between.random_bool(0.3) {
            crate::around::jump(&mut self.between, &self.world);
        }
        if !script.holds || self.spool_waits() {
            return;
        }
        let may_hold = !last && !std::mem::take(&mut self.must_let_in);
        self.holds = may_hold && (self.lives == 1 || self.between.random_bool(0.5));
        if last {
            crate::around::mark(&Choice::All, &self.world, &self.judge);
        } else if self.between.random_bool(0.4) {
            crate::around::release(&mut self.between, &self.world, &self.judge);
        } else if script.discards && self.between.random_bool(0.3) {
            crate::around::discard(&mut self.between, &self.world, &self.judge);
        }
        self.judge.lock().unwrap().held.lets_in |= !self.holds;
    }

    /// One life in a runtime of its own, which goes with everything in it.
    fn life(&mut self, undisturbed: bool) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let steps = (!undisturbed).then(|| match self.random.random_range(0..3) {
            0 => self.random.random_range(1..40),
            1 => self.random.random_range(1..300),
            _ => self.random.random_range(1..1500),
        });
        self.world.live(steps, self.random.random_bool(0.5));
        let permille = if undisturbed { 0 } else { [0, 5, 20, 60][self.random.random_range(0..4)] };
        let (holds, shares) = (self.server.script.holds, self.server.script.shares);
        // Held rows are on one machine: two processes there have one folder.
        let rivals = !undisturbed && self.random.random_bool(if shares { 0.4 } else { 0.06 }) && (shares || !holds);
        self.rivals |= rivals && !shares;
        let seed = mix(self.seed ^ (self.lives << 32));
        let around = StdRng::seed_from_u64(mix(seed ^ 5));
        let pause = Duration::from_millis(self.random.random_range(100..20_000));
        let end = runtime.block_on(async {
            self.world.clock.live(pause);
            self.world.trace("life", &format!("{} steps {steps:?} faults {permille} rivals {rivals}", self.lives));
            let none = Rests::default();
            let first = async {
                if rivals && shares {
                    self.sharing(seed, permille).await
                } else {
                    self.process((seed, permille), "index", rivals, &none).await
                }
            };
            let second = async {
                if !rivals {
                    return std::future::pending().await;
                }
                self.world.count("lives: with a rival");
                if shares {
                    self.sharing(mix(seed), permille).await
                } else {
                    self.process((mix(seed), permille), "index of the rival", rivals, &none).await
                }
            };
            let end = tokio::select! {
                biased;
                () = self.world.death.notified() => End::Died,
                end = first => end,
                end = second => end,
                never = crate::around::go_on(around, &self.server.script, &self.world, &self.judge) => match never {},
                () = tokio::time::sleep(LIFE_MAX) => End::Failed("it hangs".into()),
            };
            self.world.die();
            end
        });
        self.world.clock.micros();
        drop(runtime);
        self.world.clock.die();
        // What a life that ended by itself left of the note of its death.
        let _ = futures::FutureExt::now_or_never(self.world.death.notified());
        end
    }

    /// What a process of this life works with.
    fn means(&self, (seed, permille): (u64, u64), index: &str, rests: &Rests, random: &mut StdRng) -> Means {
        let store = FaultyStore {
            contents: self.contents.clone(),
            world: self.world.clone(),
            chance: Arc::new(Chance::new(seed, permille)),
            mutation: self.mutation,
            rests: rests.clone(),
        };
        let clock: Arc<SimClock> = self.world.clock.clone();
        Means {
            lake: Arc::new(Lake::in_store(Arc::new(store)).unwrap()),
            gate: Arc::new(crate::policy::gate(&self.server.script, self.holds, clock.clone())),
            clock,
            watch: Arc::<Watch>::default(),
            index_dir: self.folder.join(index),
            folder_id: index.to_owned(),
            boot: random.random_bool(0.9).then(|| BOOT.to_owned()),
            batching: Batching {
                max_age: Duration::from_millis(random.random_range(50..5_000)),
                max_rows: random.random_range(5..500),
            },
            known: Known::default(),
            witness: None,
        }
    }

    /// One of two processes in one folder: it stands still at times, and is started again when the other one has turned it away.
    async fn sharing(&self, seed: u64, permille: u64) -> End {
        let mut random = StdRng::seed_from_u64(mix(seed ^ 12));
        self.world.count("lives: processes that share a folder");
        loop {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..30_000))).await;
            let rests = Rests::drawn(&mut random, self.world.clock.micros());
            match self.process((mix(random.random()), permille), "index", true, &rests).await {
                End::Fenced => self.world.count("processes turned away by another in their folder"),
                end => return end,
            }
        }
    }

    /// A process: starts the pipeline again after what another start may mend, as `lockgate run` does.
    async fn process(&self, (seed, permille): (u64, u64), index: &str, rivals: bool, rests: &Rests) -> End {
        let mut random = StdRng::seed_from_u64(mix(seed ^ 3));
        let means = self.means((seed, permille), index, rests, &mut random);
        self.judge.lock().unwrap().spooling = false;
        let end = self.server.script.log.last().map_or(0, |last| last.end);
        loop {
            let error = match self.once(&means, mix(random.random()), end, (rivals, rests)).await {
                Ok(Ended::Done) => return End::CaughtUp,
                Ok(Ended::Interrupted) => return End::Failed("a run that nobody stopped was interrupted".into()),
                Ok(Ended::TablesStopped(tables)) => return self.stopped(&tables),
                Err(error) => error,
            };
            if rivals && error.kind() == Kind::Conflict {
                return End::Fenced;
            }
            if table_action(error.kind()) != Action::Retry {
                return End::Failed(format!("the run stopped ({:?}): {error}", error.kind()));
            }
            self.world.count("runs that started over");
            self.world.trace("start over", &self.shown(&error));
            tokio::time::sleep(Duration::from_millis(random.random_range(100..5_000))).await;
            if self.server.script.spools
                && !rivals
                && random.random_bool(0.6)
                && let Err(error) = self.spool(&means, &mut random).await
            {
                self.world.trace("spool", &self.shown(&error));
                if error.kind() == Kind::Bug {
                    return End::Failed(format!("the spool: {error}"));
                }
            }
        }
    }

    /// What it means that tables are stopped.
    fn stopped(&self, tables: &BTreeMap<TableName, String>) -> End {
        let says = |phrases: &[&str], why: &str| phrases.iter().any(|phrase| why.contains(phrase));
        let fenced = |why: &String| says(&["another Lockgate"], why);
        let changed = self.holds && self.judge.lock().unwrap().held.lets_in;
        let rule =
            |why: &String| changed && says(&["whose release was interrupted", "under rules that held nothing"], why);
        let lacks = |why: &String| self.server.script.discards && says(&["an update leaves out values of a row"], why);
        let known = |why: &String| fenced(why) || rule(why) || lacks(why);
        if tables.values().all(rule) {
            End::NeedsTheRuleOfThen
        } else if tables.values().all(lacks) {
            End::LacksWhatWasGivenUp
        } else if self.rivals
            && (tables.values().all(fenced)
                || self.server.script.shares && tables.values().any(fenced) && tables.values().all(known))
        {
            End::Fenced
        } else {
            End::Failed(format!("tables are stopped: {tables:?}"))
        }
    }

    /// The lake is away for a while: what the source sends waits on the local disk.
    async fn spool(&self, means: &Means, random: &mut StdRng) -> Result<(), Error> {
        let tables: Vec<_> = self.server.script.tables.iter().map(|table| table.name.clone()).collect();
        let hindrance = means.hindrance(&self.folder, &tables)?;
        let (None, Some(resume)) = (hindrance, means.known.resume()) else { return Ok(()) };
        let folder = SpoolFolder::open(&self.folder, SOURCE, &means.gate)?;
        let seed = mix(random.random());
        let source = source::open(
            &self.server,
            &self.world,
            &self.judge,
            &resume,
            seed,
            self.mutation,
            (false, &Rests::default()),
        )?;
        self.world.count("spools: times filled");
        self.judge.lock().unwrap().spooling = true;
        let enough = CancellationToken::new();
        let limit = [20_000, 400_000, u64::MAX][random.random_range(0..3)];
        let filling = means.fill(folder, limit, source, &self.folder, enough.clone());
        tokio::pin!(filling);
        let filled = tokio::select! {
            filled = &mut filling => filled,
            () = tokio::time::sleep(Duration::from_millis(random.random_range(100..60_000))) => {
                enough.cancel();
                filling.await
            }
        };
        self.judge.lock().unwrap().spooling = false;
        filled
    }

    /// An error for the trace, which is the same in every process: without the folder's name.
    fn shown(&self, error: &Error) -> String {
        error.to_string().replace(&*self.folder.to_string_lossy(), "here")
    }

    fn spool_waits(&self) -> bool {
        files(&self.folder.join("spool")).iter().any(|file| file.extension().is_some_and(|of| of == "spool"))
    }

    async fn once(&self, means: &Means, seed: u64, end: u64, beside: (bool, &Rests)) -> Result<Ended, Error> {
        let open =
            async |resume| source::open(&self.server, &self.world, &self.judge, &resume, seed, self.mutation, beside);
        let waiting = if means.gate.spool_cipher().is_ok() {
            SpoolFolder::waiting(&self.folder, SOURCE, &means.gate)?
        } else {
            None
        };
        if waiting.is_some() {
            self.world.count("spools: times drained from");
        }
        let source = means.open(SOURCE, waiting.as_ref(), open).await?;
        let pipeline = means.pipeline(source, Some(position(end, 0)), CancellationToken::new()).draining(waiting);
        let pipeline = if self.server.script.holds { pipeline.holding(&self.folder, None)? } else { pipeline };
        pipeline.run().await
    }

    /// The local folder is lost, of an older moment, or damaged now and then.
    fn spoil_index(&mut self) {
        let (index, old) = (self.folder.join("index"), self.folder.join("older"));
        match self.random.random_range(0..12) {
            0 => {
                self.world.count("index: lost");
                drop(std::fs::remove_dir_all(&index));
            }
            1 => {
                drop(std::fs::remove_dir_all(&old));
                copy(&index, &old);
            }
            2 | 3 if old.exists() => {
                self.world.count("index: of an older moment");
                drop(std::fs::remove_dir_all(&index));
                copy(&old, &index);
            }
            4 => {
                self.world.count("index: damaged");
                damage(&index, &mut self.random);
            }
            _ => {}
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

/// Flips a bit of one file, or cuts it.
fn damage(folder: &Path, random: &mut StdRng) {
    let files: Vec<PathBuf> =
        files(folder).into_iter().filter(|file| file.metadata().is_ok_and(|meta| meta.len() > 0)).collect();
    if files.is_empty() {
        return;
    }
    let file = &files[random.random_range(0..files.len())];
    let mut bytes = std::fs::read(file).unwrap();
    let at = random.random_range(0..bytes.len());
    if random.random_bool(0.5) {
        bytes[at] ^= 1 << random.random_range(0..8);
    } else {
        bytes.truncate(at);
    }
    std::fs::write(file, bytes).unwrap();
}
