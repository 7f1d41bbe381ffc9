use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

use super::account::{Account, run};
use super::binaries::{self, Installed};
use super::guard::Guard;
use super::options::Options;
use super::tls::Authority;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A Postgres server that is ours alone: its data, socket and log lie in one private folder, it listens on a free port of the
/// loopback interface, its superuser is `postgres`, and it is stopped and removed when the value is dropped or this process ends in any way.
#[derive(Debug)]
pub struct PrivatePostgres {
    installed: Installed,
    account: Account,
    folder: PathBuf,
    port: u16,
    authority: Option<Authority>,
    child: Option<Child>,
    // Last: it removes the folder, after the server is gone.
    _guard: Guard,
}

impl PrivatePostgres {
    /// The newest server that is installed, with default options.
    pub async fn start() -> Result<Self> {
        Options::new().start().await
    }

    /// Says how the server is to be, before it starts.
    pub fn with() -> Options {
        Options::new()
    }

    pub(super) async fn make(options: Options) -> Result<Self> {
        let installed = binaries::choose(options.bin.as_deref(), options.major)?;
        let account = Account::choose()?;
        let folder = make_folder(&options.folder.clone().unwrap_or_else(std::env::temp_dir))?;
        account.own(&folder)?;
        let guard = Guard::start(account, &installed.bin, &folder)?;
        let mut server = Self { installed, account, folder, port: 0, authority: None, child: None, _guard: guard };
        server.make_data(&options)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Which server it is.
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private folder, which is also where the Unix socket lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection string over TCP: without a password, and with full verification when the server has TLS.
    pub fn url(&self, user: &str, database: &str) -> String {
        let tls = match &self.authority {
            Some(authority) => format!("verify-full&sslrootcert={}", authority.certificate().display()),
            None => "disable".to_owned(),
        };
        format!("postgresql://{user}@localhost:{}/{database}?sslmode={tls}", self.port)
    }

    /// A connection string over the Unix socket, which needs no password.
    pub fn url_socket(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@/{database}?host={}&port={}", self.folder.display(), self.port)
    }

    /// The certificate of the authority that signed the server's, when it has TLS.
    pub fn ca_certificate(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(Authority::certificate)
    }

    /// Certificate and key for a client with this role's name, signed by the authority that the server trusts.
    pub fn client_certificate(&self, role: &str) -> Result<(PathBuf, PathBuf)> {
        self.authority.as_ref().context("the server was started without TLS")?.sign(role)
    }

    /// Connects as the superuser to the database `postgres`.
    pub async fn client(&self) -> Result<Client> {
        self.client_to("postgres", "postgres").await
    }

    /// Connects over the Unix socket.
    pub async fn client_to(&self, user: &str, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(&self.folder).port(self.port).user(user).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        // Its error reaches whoever uses the client; it ends when the client is dropped.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements as the superuser in the database `postgres`, in one implicit transaction.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.client().await?.batch_execute(sql).await.context("a statement failed")
    }

    /// Makes a database and returns a connection to it as the superuser.
    pub async fn create_database(&self, name: &str) -> Result<Client> {
        self.execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        self.client_to("postgres", name).await
    }

    /// The folder in which the server keeps the rows of all databases, in clear.
    pub fn data_folder(&self) -> PathBuf {
        self.data().join("base")
    }

    /// What the server has logged so far. It may quote statements with their values: show it only when the data is made up.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.log_path()).context("the server's log cannot be read")
    }

    /// Stops the server in order (open transactions are rolled back); its data stays. Does nothing when it is stopped.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        if tokio::time::timeout(STOP_LIMIT, self.wait_for_exit()).await.is_err() {
            // A client of the replication protocol that does not answer holds up an orderly stop.
            self.signal(Signal::QUIT)?;
            self.wait_for_exit().await?;
        }
        Ok(())
    }

    /// Tells the server to shut down in order (`pg_ctl stop -m fast`); whether it did within `limit`. If not it goes on waiting.
    pub async fn stops_within(&mut self, limit: Duration) -> Result<bool> {
        self.signal(Signal::INT)?;
        Ok(tokio::time::timeout(limit, self.wait_for_exit()).await.is_ok())
    }

    /// Kills the server as a crash would (`kill -9` of the postmaster); its data stays. Does nothing when it is stopped.
    pub async fn kill_9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_for_exit().await
    }

    /// Stops the server in order and starts it again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Starts a stopped server on the same port; returns once it answers. Does nothing when it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        match tokio::time::timeout(START_LIMIT, self.start_and_wait()).await {
            Ok(result) => result,
            Err(_) => bail!("Postgres did not answer within {} s: {}", START_LIMIT.as_secs(), self.log_end()),
        }
    }

    async fn start_and_wait(&mut self) -> Result<()> {
        loop {
            if self.child.is_none() {
                self.spawn()?;
            }
            if self.client().await.is_ok() {
                return Ok(());
            }
            if self.has_exited()? {
                self.child = None;
                // After a crash the kernel keeps the shared memory until the last backend has noticed.
                if !self.log_end().contains("shared memory block") {
                    bail!("Postgres ended while it was starting: {}", self.log_end());
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A standby: a second server with a copy of this one's data that follows it until it is told to promote itself
    /// (`SELECT pg_promote()`). As with Postgres' own tool for such copies, replication slots do not come along. This server is stopped and
    /// started again for it.
    pub async fn standby(&mut self) -> Result<Self> {
        let parent = self.folder.parent().context("the private folder lies in none")?;
        let folder = make_folder(parent)?;
        self.account.own(&folder)?;
        let guard = Guard::start(self.account, &self.installed.bin, &folder)?;
        let (installed, account, port) = (self.installed.clone(), self.account, free_port()?);
        let mut standby = Self { installed, account, folder, port, authority: None, child: None, _guard: guard };
        self.stop().await?;
        let mut copy = self.account.command("cp", &standby.folder);
        run(copy.arg("-a").arg(self.data()).arg(standby.data()))?;
        for slot in fs::read_dir(standby.data().join("pg_replslot"))? {
            fs::remove_dir_all(slot?.path())?;
        }
        let primary = format!("host={} port={} user=postgres", self.folder.display(), self.port);
        let own = [
            ("port", standby.port.to_string()),
            ("unix_socket_directories", standby.folder.display().to_string()),
            ("primary_conninfo", primary),
        ];
        append(&standby.data().join("postgresql.conf"), &settings(own))?;
        File::create(standby.data().join("standby.signal"))?;
        self.account.own(&standby.data().join("standby.signal"))?;
        self.start_again().await?;
        standby.start_again().await?;
        Ok(standby)
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::create(self.log_path())?;
        self.account.own(&self.log_path())?;
        let child = self
            .account
            .command(self.installed.bin.join("postgres"), &self.folder)
            .arg("-D")
            .arg(self.data())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres cannot be started")?;
        self.child = Some(child);
        Ok(())
    }

    fn make_data(&mut self, options: &Options) -> Result<()> {
        self.port = free_port()?;
        let mut initdb = self.account.command(self.installed.bin.join("initdb"), &self.folder);
        initdb.arg("-D").arg(self.data()).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        if let Some(password) = &options.password {
            let file = self.folder.join("password");
            fs::write(&file, password)?;
            self.account.own(&file)?;
            initdb.arg("--pwfile").arg(&file);
        }
        run(&mut initdb).with_context(|| format!("initdb must be able to write to {}", self.folder.display()))?;
        if options.tls {
            self.make_certificates()?;
        }
        append(&self.data().join("postgresql.conf"), &self.configuration(options))?;
        let scram = if options.password.is_some() { "scram-sha-256" } else { "trust" };
        let mut hba = options.hba.join("\n");
        for kind in ["all", "replication"] {
            hba.push_str(&format!("\nlocal {kind} all trust\nhost {kind} all 127.0.0.1/32 {scram}\n"));
        }
        fs::write(self.data().join("pg_hba.conf"), hba)?;
        Ok(())
    }

    fn configuration(&self, options: &Options) -> String {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.folder.display().to_string()),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "16".to_owned()),
            ("max_replication_slots", "16".to_owned()),
            ("max_connections", "60".to_owned()),
            ("shared_buffers", "64MB".to_owned()),
            ("min_wal_size", "32MB".to_owned()),
            ("fsync", on_off(options.durable)),
            ("full_page_writes", on_off(options.durable)),
            ("password_encryption", "scram-sha-256".to_owned()),
        ];
        if let Some(authority) = &self.authority {
            settings.extend([
                ("ssl", "on".to_owned()),
                ("ssl_cert_file", self.folder.join("server.pem").display().to_string()),
                ("ssl_key_file", self.folder.join("server.key").display().to_string()),
                ("ssl_ca_file", authority.certificate().display().to_string()),
            ]);
        }
        let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        self::settings(settings.into_iter().chain(given))
    }

    /// The authority, and a certificate for `localhost` and 127.0.0.1. The folder itself keeps other accounts out.
    fn make_certificates(&mut self) -> Result<()> {
        let authority = Authority::make(&self.folder)?;
        let (certificate, key) = authority.sign("server")?;
        for file in [&certificate, &key, &authority.certificate()] {
            self.account.own(file)?;
        }
        self.authority = Some(authority);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_end(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("; ")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        // The child is not reaped before `wait_for_exit`, so the number is still its own.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process number out of range")?;
        match kill_process(pid, signal) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.context("the server cannot be signalled"),
        }
    }

    fn has_exited(&mut self) -> Result<bool> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        })
    }

    async fn wait_for_exit(&mut self) -> Result<()> {
        while !self.has_exited()? {
            tokio::time::sleep(POLL).await;
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // What fails here is left to the guard, which runs next and stops whatever still holds the folder.
        let _signalled = self.signal(Signal::QUIT);
        if let Some(child) = &mut self.child {
            let _gone = child.wait();
        }
    }
}

/// A new folder for one server. Postgres allows a socket path of about 100 bytes.
fn make_folder(inside: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let inside = fs::canonicalize(inside).with_context(|| format!("{}: no such folder", inside.display()))?;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = inside.join(format!("lockgate-pg-{}-{number}", std::process::id()));
        if folder.as_os_str().len() > 80 {
            bail!("{}: too long a path for a Unix socket; choose a shorter folder", folder.display());
        }
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be made", folder.display())),
        }
    }
}

/// Lines of `postgresql.conf`.
fn settings<'a>(settings: impl IntoIterator<Item = (&'a str, String)>) -> String {
    settings.into_iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).context("no free port")?.port())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut whole = fs::read_to_string(path)?;
    whole.push_str(text);
    fs::write(path, whole)?;
    Ok(())
}
