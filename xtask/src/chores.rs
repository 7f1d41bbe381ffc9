//! What each chore does.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, has_cargo, heading, python, root, step, step_read, tools};
use crate::skips;

/// Prints a text for its own sake.
#[allow(clippy::print_stdout)]
pub(crate) fn say(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}

/// Formats everything.
pub(crate) fn fmt() -> Result<()> {
    step("format", &mut cargo(&["fmt", "--all"]))
}

/// What can be said of the sources without running them.
pub(crate) fn check() -> Result<()> {
    step("formatting", &mut cargo(&["fmt", "--all", "--check"]))?;
    step("house rules", &mut cargo(&["test", "--quiet", "--package", "xtask"]))?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    step("clippy", &mut cargo(&clippy))?;
    deny()
}

/// Everything that CI runs.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let all = arguments.len();
    arguments.retain(|argument| *argument != "--no-check");
    if arguments.len() == all {
        check()?;
    }
    if !arguments.iter().any(|argument| matches!(*argument, "-p" | "--package")) {
        arguments.extend(["--workspace", "--exclude", "xtask"]);
    }
    let skipped = run_tests(&arguments)?;
    // The doc tests hold what must not compile: a cleared batch from outside the gate, a raw value in a log.
    step("doc tests", &mut cargo(&["test", "--quiet", "--doc", "--package", "change", "--package", "gate"]))?;
    for reason in &skipped {
        heading(reason);
    }
    heading(&format!("all tests passed; {} reasons to skip a test", skipped.len()));
    Ok(())
}

/// Runs the tests and returns why some did not run.
fn run_tests(arguments: &[&str]) -> Result<BTreeSet<String>> {
    let mut skipped = BTreeSet::new();
    if python().is_none() {
        skipped.insert("skipped: foreign readers and cloud emulators; scripts/setup.sh test installs them".to_owned());
    }
    if has_cargo("nextest") {
        // The runner's own folder, wherever cargo's target folder is.
        let report = root().join("target/nextest/default/junit.xml");
        step("tests", cargo(&["nextest", "run"]).args(arguments))?;
        skipped.extend(skips::from_report(&report));
    } else {
        let mut command = cargo(&["test", "--lib", "--bins", "--tests"]);
        command.args(arguments).args(["--", "--show-output"]);
        step_read("tests", &mut command, |line| skipped.extend(skips::from_line(line)))?;
    }
    Ok(skipped)
}

/// Licences, bans and advisories, where cargo-deny is installed.
fn deny() -> Result<()> {
    if has_cargo("deny") {
        return step(
            "licences and advisories",
            &mut cargo(&["deny", "--all-features", "--log-level", "error", "check"]),
        );
    }
    heading("skipped: licences and advisories; `cargo install cargo-deny` makes them checked");
    Ok(())
}

/// The demo, with the profile of the tests, so that one build serves both.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    step("build", &mut cargo(&["build", "--package", "app", "--bin", "lockgate"]))?;
    step("demo", Command::new(target()?.join("debug/lockgate")).arg("demo").args(arguments))
}

/// The simulation: one seed exactly, or many with figures.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    let variables = [("--seed", "LOCKGATE_SEED"), ("--seeds", "LOCKGATE_SEEDS"), ("--first", "LOCKGATE_SEED_FIRST")];
    let usage = "`cargo x sim --seed N`, or `cargo x sim --seeds N --first N`";
    let mut command = one_test("sim", "nothing_is_lost_doubled_or_out_of_order")?;
    step("simulation", asked(&mut command, arguments, &variables, usage)?)
}

/// The search for planted values, with people of many seeds.
pub(crate) fn leaks(arguments: &[String]) -> Result<()> {
    let variables = [("--seeds", "LOCKGATE_LEAK_SEEDS"), ("--first", "LOCKGATE_LEAK_SEED_FIRST")];
    let mut command = one_test("main", "e2e::leaks::no_planted_identifier_leaves_the_gate")?;
    step("search for leaks", asked(&mut command, arguments, &variables, "`cargo x leaks --seeds N --first N`")?)
}

/// What runs a model, with the feature that the other builds leave out.
pub(crate) fn ner() -> Result<()> {
    let clippy =
        ["clippy", "--quiet", "--workspace", "--all-targets", "--features", "app/ner", "--", "--deny", "warnings"];
    step("clippy with models", &mut cargo(&clippy))?;
    let tests = [
        "test",
        "--workspace",
        "--exclude",
        "xtask",
        "--features",
        "app/ner",
        "--test",
        "models",
        "--test",
        "main",
        "model",
    ];
    step("tests with a model", &mut cargo(&tests))
}

/// What is done by the FIPS module, with the feature that the other builds leave out.
pub(crate) fn fips() -> Result<()> {
    let needs = [("go", "version", "golang-go"), ("cmake", "--version", "cmake"), ("perl", "--version", "perl")];
    let lacking = needs.into_iter().filter(|(program, asks, _)| {
        let asked = Command::new(program).arg(asks).stdout(Stdio::null()).stderr(Stdio::null()).status();
        !asked.is_ok_and(|status| status.success())
    });
    let packages: Vec<&str> = lacking.map(|(_, _, package)| package).collect();
    if !packages.is_empty() {
        let packages = packages.join(" ");
        bail!("AWS-LC's FIPS module cannot be built, some of its tools are missing: apt-get install {packages}");
    }
    let clippy =
        ["clippy", "--quiet", "--workspace", "--all-targets", "--features", "app/fips", "--", "--deny", "warnings"];
    step("clippy with the FIPS module", &mut cargo(&clippy))?;
    let tests =
        ["test", "--workspace", "--exclude", "xtask", "--features", "app/fips", "--lib", "--test", "main", "--"];
    // What makes TLS connections, signs, or opens keys that are wrapped.
    let names = ["fips", "tls", "certificate", "connect", "key_", "keys::", "clouds", "audit", "writing", "tampering"];
    step("tests with the FIPS module", cargo(&tests).args(names))
}

/// Kills and restarts for as long as it is told to, and prints figures.
pub(crate) fn soak(arguments: &[String]) -> Result<()> {
    let variables = [("--cycles", "LOCKGATE_SOAK_CYCLES"), ("--minutes", "LOCKGATE_SOAK_MINUTES")];
    let usage = "`cargo x soak --cycles N --minutes M`; it ends with whichever is reached first";
    let mut command = one_test("main", "e2e::failure_modes::soak::kill_9_again_and_again_loses_and_doubles_nothing")?;
    step("soak", asked(&mut command, arguments, &variables, usage)?)
}

/// Tells a test by its variables what the arguments ask for.
fn asked<'a>(
    command: &'a mut Command,
    arguments: &[String],
    variables: &[(&str, &str)],
    usage: &str,
) -> Result<&'a mut Command> {
    for pair in arguments.chunks(2) {
        let [option, value] = pair else { bail!("{usage}") };
        let Some((_, variable)) = variables.iter().find(|(name, _)| name == option) else { bail!("{usage}") };
        command.env(variable, value);
    }
    Ok(command)
}

/// Runs one test with its output shown, ignored or not. Cargo takes it for a success when there is none of the name, so that is looked at first.
fn one_test(binary: &str, test: &str) -> Result<Command> {
    let command = |options: &[&str]| {
        let mut command = cargo(&["test", "--quiet", "--workspace", "--exclude", "xtask", "--test", binary, "--"]);
        command.args(options).args(["--exact", test]);
        command
    };
    let listed = command(&["--list"]).stderr(Stdio::inherit()).output().context("the tests cannot be listed")?;
    if !String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == format!("{test}: test")) {
        bail!("`{binary}` has no test {test}");
    }
    Ok(command(&["--include-ignored", "--nocapture"]))
}

/// The optimised binary; `arguments` go to cargo.
pub(crate) fn build(arguments: &[String]) -> Result<()> {
    let mut build = cargo(&["build", "--release", "--package", "app", "--bin", "lockgate"]);
    step("optimised build", build.args(arguments))?;
    let built = target()?.join("release/lockgate");
    let wanted = root().join("bin/lockgate");
    fs::create_dir_all(root().join("bin"))?;
    fs::copy(&built, &wanted).with_context(|| format!("{} cannot be copied to bin/lockgate", built.display()))?;
    heading("bin/lockgate");
    Ok(())
}

/// The raises that the version ranges allow. What runs models, and the FIPS module with what asks it for TLS, is tested at once when it is
/// raised, because no other chore builds it.
pub(crate) fn up() -> Result<()> {
    let locked = |names: &[&str]| -> Result<Vec<String>> {
        let locked = fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock cannot be read")?;
        let is_named = |package: &&str| names.iter().any(|name| package.contains(&format!("name = \"{name}")));
        Ok(locked.split("[[package]]").filter(is_named).map(str::to_owned).collect())
    };
    let (models, module) = (&["tract"], &["aws-lc-", "rustls\""]);
    let before = (locked(models)?, locked(module)?);
    step("update", &mut cargo(&["update"]))?;
    deny()?;
    if locked(models)? != before.0 {
        ner()?;
    }
    if locked(module)? == before.1 { Ok(()) } else { fips() }
}

/// Every figure, in one table; the kernels' own benches first, because the table reads what they leave.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let named = |option: &str| arguments.iter().any(|argument| argument.split('=').next() == Some(option));
    if !named("--lockgate") && !named("--limits-only") && !named("--help") {
        build(&[])?;
    }
    let figures: Vec<&String> = arguments.iter().take_while(|argument| !argument.starts_with('-')).collect();
    if !named("--limits-only") && !named("--help") && (figures.is_empty() || figures.contains(&&"kernels".to_owned())) {
        step("gate kernels", &mut cargo(&["bench", "--quiet", "--package", "gate"]))?;
        step("vault codes", &mut cargo(&["bench", "--quiet", "--package", "app", "--bench", "vault"]))?;
    }
    let mut compare = cargo(&["run", "--quiet", "--release", "--package", "compare", "--"]);
    compare.args(arguments);
    let paths = [
        ("--criterion", target()?.join("criterion")),
        ("--python", tools().join("venv/bin/python")),
        ("--peers-python", tools().join("peers/bin/python")),
    ];
    for (option, path) in paths {
        if !named(option) {
            compare.arg(option).arg(path);
        }
    }
    step("figures", &mut compare)
}

/// Shapes that are larger than usual.
pub(crate) fn scale(arguments: &[String]) -> Result<()> {
    let named = |option: &str| arguments.iter().any(|argument| argument.split('=').next() == Some(option));
    if !named("--lockgate") && !named("--help") {
        build(&[])?;
    }
    let mut scale = cargo(&["run", "--quiet", "--release", "--package", "compare", "--", "scale"]);
    scale.args(arguments);
    if !named("--python") {
        scale.arg("--python").arg(tools().join("venv/bin/python"));
    }
    step("extreme shapes", &mut scale)
}

/// What the foreign readers see.
pub(crate) fn readers(arguments: &[String]) -> Result<()> {
    if arguments.is_empty() {
        bail!("which tables? `cargo x readers lake/claims_db/public/members`");
    }
    let script = root().join("tests/readers/read.py");
    step("foreign readers", Command::new(venv()?).arg(script).arg("compare").args(arguments))
}

/// An emulator in the foreground.
pub(crate) fn servers(arguments: &[String]) -> Result<()> {
    let script = root().join("tests/servers/emulator.py");
    step("emulator", Command::new(venv()?).arg(script).args(arguments).env("LOCKGATE_TOOLS", tools()))
}

fn venv() -> Result<PathBuf> {
    python().context("the foreign readers and emulators are not installed; run `scripts/setup.sh test`")
}

/// Cargo's target folder.
fn target() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata cannot be read")?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?))
}
