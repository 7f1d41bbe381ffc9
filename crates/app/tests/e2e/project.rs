//! A project folder, the program run on it, and the comparison of the lake with the database.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sandbox::PrivatePostgres;
use tokio_postgres::Client;

/// A private Postgres and a project folder that reads it.
pub(crate) struct Project {
    pub(crate) postgres: PrivatePostgres,
    pub(crate) database: Client,
    pub(crate) dir: PathBuf,
    tables: Vec<String>,
}

impl Project {
    /// Starts a server, runs `setup` in it, and writes a folder with `policy` (the `tables:` part) for it.
    pub(crate) async fn new(name: &str, setup: &str, tables: &[&str], policy: &str) -> Self {
        Self::on(PrivatePostgres::start().await.unwrap(), name, setup, tables, policy).await
    }

    /// As [`Project::new`], on a server that is there.
    pub(crate) async fn on(postgres: PrivatePostgres, name: &str, setup: &str, tables: &[&str], policy: &str) -> Self {
        let database = postgres.client().await.unwrap();
        database.batch_execute(setup).await.unwrap();
        let dir = std::env::temp_dir().join(format!("lockgate-e2e-{name}-{}", std::process::id()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir_all(dir.join("keys")).unwrap();
        let project = Self { postgres, database, dir, tables: tables.iter().map(|&table| table.to_owned()).collect() };
        project.write_lockgate_yaml("{ max_seconds: 0.3, max_rows: 20000 }");
        project.write_policy(policy);
        project.write_key();
        project
    }

    pub(crate) fn write_lockgate_yaml(&self, commit: &str) {
        let url = self.postgres.url("postgres", "postgres");
        let text = format!(
            "lake: ./lake\nsources:\n  db:\n    postgres:\n      url: {url}\n      slot: lockgate_e2e\n    tables: [{}]\ncommit: {commit}\n",
            self.tables.join(", ")
        );
        std::fs::write(self.dir.join("lockgate.yaml"), text).unwrap();
    }

    pub(crate) fn write_policy(&self, tables: &str) {
        let text = format!("profile: none\nkeys: file:./keys/test.key\ntables:\n{tables}");
        std::fs::write(self.dir.join("policy.yaml"), text).unwrap();
    }

    fn write_key(&self) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join("keys/test.key");
        let text = gate::KeyRing::generate("test", zeroize::Zeroizing::new(std::array::from_fn(|at| at as u8 * 7 + 1)))
            .unwrap();
        std::fs::write(&path, text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.arg("--dir").arg(&self.dir).args(arguments);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn lockgate(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program to its end, which must be a good one; returns what it printed.
    pub(crate) fn lockgate_ok(&self, arguments: &[&str]) -> String {
        let output = self.lockgate(arguments);
        assert!(output.status.success(), "lockgate {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts `lockgate run` and leaves it running.
    pub(crate) fn start(&self) -> Running {
        self.spawn(self.command(&["run"]).stderr(Stdio::null()))
    }

    /// As [`Project::start`], by a command that says where its messages go.
    pub(crate) fn spawn(&self, command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// The lake's answer, one line a row, without the header.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        let text = self.lockgate_ok(&["query", sql, "--format", "csv"]);
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// The database's answer as CSV lines.
    pub(crate) async fn source(&self, sql: &str) -> Vec<String> {
        use futures::TryStreamExt;
        let copy = self.database.copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT csv)")).await.unwrap();
        let bytes: Vec<_> = copy.try_collect().await.unwrap();
        String::from_utf8(bytes.concat()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Asserts that a table of the lake holds exactly the rows of the source. `columns` are compared as text on both sides.
    pub(crate) async fn assert_same(&self, table: &str, columns: &[&str]) {
        let text = |cast: &str| {
            let column = |(at, column): (usize, &&str)| format!("coalesce(cast({column} as {cast}), '~') AS c{at}");
            columns.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
        };
        let mut lake = self.query(&format!("SELECT {} FROM db.public.{table}", text("varchar")));
        let mut source = self.source(&format!("SELECT {} FROM {table}", text("text"))).await;
        lake.sort_unstable();
        source.sort_unstable();
        let different = lake.iter().zip(&source).filter(|(lake, source)| lake != source).count();
        assert!(
            lake.len() == source.len() && different == 0,
            "{table}: {} rows in the lake, {} in the source, {different} differ",
            lake.len(),
            source.len()
        );
    }

    pub(crate) fn lake_table(&self, table: &str) -> PathBuf {
        self.dir.join("lake/db/public").join(table)
    }

    /// Ends the test: the folder goes, the server stops.
    pub(crate) async fn end(mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
        self.postgres.stop().await.unwrap();
    }
}

/// A `lockgate run` that goes on until it is killed or told to stop.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn kill_9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing may outlive a failed test; a process that has ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every file below a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

impl Project {
    /// Waits until a query of the lake has this one-line answer.
    pub(crate) async fn wait_for(&self, sql: &str, answer: &str) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let output = self.lockgate(&["query", sql, "--format", "csv"]);
            let text = String::from_utf8_lossy(&output.stdout);
            if output.status.success() && text.lines().nth(1) == Some(answer) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql}: not {answer} within a minute");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
