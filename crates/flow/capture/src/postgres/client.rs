use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use change::{Error, Kind, Result};
use pgwire_replication::{Lsn, ReplicationConfig, SslMode, TlsConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{PostgresConfig, Secret, TlsFiles};
use super::dsn::Dsn;
use super::failure;

/// Settings that fix the text form of every value, the same on ordinary and replication connections. Without `row_security` the server refuses
/// to read a table whose policies would hide rows from us, in place of hiding them.
const SETTINGS: &str = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1 \
                        -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c row_security=off -c lock_timeout=60000";

/// How long a connection attempt may take, to the server's host and up to its first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that may be thinking answers probes of its kernel: silence is noticed after the first time and three of the second.
const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Everything that is needed to connect, read from the configuration once.
#[derive(Clone)]
pub(crate) struct Address {
    dsn: Dsn,
    password: Option<Secret>,
    tls: Option<Arc<rustls::ClientConfig>>,
    tls_paths: Arc<TlsFiles>,
}

/// An ordinary connection; closed when it is dropped.
pub(crate) struct Session {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Address {
    /// Reads the URL and the TLS files. Fails with the first of [`PostgresConfig::problems`], or when a TLS file cannot be read.
    pub(crate) fn of(config: &PostgresConfig) -> Result<Self> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(Error::new(Kind::Config, problem.what).fix(problem.fix));
        }
        let dsn = Dsn::parse(&config.url)?;
        let files = TlsFiles::of(config, &dsn);
        let plain = dsn.is_unix_socket() || dsn.sslmode.as_deref() == Some("disable");
        let tls = if plain { None } else { Some(Arc::new(approved(tls_config(&files)?)?)) };
        Ok(Self { dsn, password: config.password.clone(), tls, tls_paths: Arc::new(files) })
    }

    /// Host, port and database, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}/{}", self.dsn.host, self.dsn.port, self.dsn.database)
    }

    pub(crate) fn user(&self) -> &str {
        &self.dsn.user
    }

    pub(crate) fn database(&self) -> &str {
        &self.dsn.database
    }

    /// Opens an ordinary connection whose application name ends in `purpose`. `Unavailable` when the server does not greet us in time.
    pub(crate) async fn connect(&self, purpose: &str) -> Result<Session> {
        // The driver bounds only the connection to the host, not the greeting.
        match tokio::time::timeout(2 * CONNECT_TIMEOUT, self.greeted(purpose)).await {
            Ok(session) => session,
            Err(_) => Err(failure::silent(self)),
        }
    }

    async fn greeted(&self, purpose: &str) -> Result<Session> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.dsn.user)
            .dbname(&self.dsn.database)
            .port(self.dsn.port)
            .application_name(format!("lockgate {purpose}"))
            .options(SETTINGS)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(PROBE_AFTER.0)
            .keepalives_interval(PROBE_AFTER.1)
            .keepalives_retries(3);
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        if self.dsn.is_unix_socket() {
            config.host_path(&self.dsn.host);
        } else {
            self.resolve().await?;
            config.host(&self.dsn.host);
        }
        match &self.tls {
            None => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, connection) = config.connect(NoTls).await.map_err(|e| failure::connecting(self, e))?;
                Ok(Session { client, driver: tokio::spawn(drive(connection)) })
            }
            Some(tls) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                let connector = MakeRustlsConnect::new(tls.as_ref().clone());
                let (client, connection) = config.connect(connector).await.map_err(|e| failure::connecting(self, e))?;
                Ok(Session { client, driver: tokio::spawn(drive(connection)) })
            }
        }
    }

    /// Looks the host up first, because the driver's own error does not tell an unknown host from one that refuses.
    async fn resolve(&self) -> Result<()> {
        tokio::net::lookup_host((self.dsn.host.as_str(), self.dsn.port)).await.map(drop).map_err(|_| {
            Error::new(Kind::Unavailable, format!("the host {} cannot be found", self.dsn.host))
                .fix("Check the host in the source's `url`, and that this machine can resolve it.")
        })
    }

    /// The settings of a replication connection on `slot`.
    ///
    /// `start`: read from here on; zero for the slot's confirmed position. `durable`: what the server may forget at once.
    pub(crate) fn replication(&self, slot: &str, publication: &str, start: Lsn, durable: Lsn) -> ReplicationConfig {
        let password = self.password.as_ref().map_or("", Secret::reveal);
        let mut config =
            ReplicationConfig::new(&self.dsn.host, &self.dsn.user, password, &self.dsn.database, slot, publication)
                .with_port(self.dsn.port)
                .with_start_lsn(start)
                .with_ack_lsn(durable)
                // Making a slot waits for every open transaction that writes, as long as that takes.
                .with_options(format!("{SETTINGS} -c lock_timeout=0"))
                .with_buffer_size(EVENTS_READ_AHEAD)
                .with_status_interval(Duration::from_millis(100))
                .with_wakeup_interval(Duration::from_secs(5));
        config.application_name = Some(format!("lockgate {slot}"));
        if self.tls.is_some() {
            config = config.with_tls(TlsConfig {
                mode: SslMode::VerifyFull,
                ca_pem_path: self.tls_paths.roots.clone(),
                // Named although it is the host: without it the library refuses IP addresses, which certificates can name.
                sni_hostname: Some(self.dsn.host.clone()),
                client_cert_pem_path: self.tls_paths.certificate.clone(),
                client_key_pem_path: self.tls_paths.key.clone(),
            });
        }
        config
    }
}

/// Log messages that are read ahead of the decoder. Few, because each may hold a large value, and nothing else bounds them; with half as
/// many, a backlog of small ones costs a quarter more CPU.
const EVENTS_READ_AHEAD: usize = 16;

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // The error reaches whoever waits for an answer on the client; here it would only be told twice.
    if connection.await.is_err() {
        tracing::debug!("a connection to the source ended");
    }
}

fn tls_config(files: &TlsFiles) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    match &files.roots {
        Some(path) => {
            let (added, _) = roots.add_parsable_certificates(certificates(path)?);
            if added == 0 {
                return Err(unreadable(path, "it holds no certificate"));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Bug, "the TLS library offers no protocol version").source(e))?
        .with_root_certificates(roots);
    match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|_| unreadable(key, "it holds no private key"))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|_| unreadable(key, "certificate and key do not belong together"))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// In a build with the feature `fips`, refuses what is not TLS of the FIPS module: our own settings, and those of the process, which the
/// replication library takes (and would set to another library's where nobody has set them).
fn approved(config: rustls::ClientConfig) -> Result<rustls::ClientConfig> {
    let of_process = rustls::crypto::CryptoProvider::get_default().is_some_and(|provider| provider.fips());
    if !cfg!(feature = "fips") || (config.fips() && of_process) {
        return Ok(config);
    }
    Err(Error::new(Kind::Privacy, "TLS to the source would not be that of the FIPS module; no connection is made")
        .fix("Build Lockgate anew with `--features fips`, and report it if that does not help."))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| match error {
        rustls::pki_types::pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            unreadable(path, "there is no such file")
        }
        _ => unreadable(path, "it is not a readable PEM file"),
    })
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::new(Kind::Config, format!("the TLS file {} cannot be used: {why}", path.display()))
        .fix("Check `sslrootcert`, `sslcert` and `sslkey` of the source.")
}

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;
    use rustls::crypto::CryptoProvider;
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};

    use super::*;

    fn config(provider: CryptoProvider) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    }

    #[test]
    fn a_fips_build_refuses_settings_that_are_not_its_modules() {
        if cfg!(feature = "fips") {
            default_provider().install_default().unwrap();
        }
        assert!(approved(config(default_provider())).is_ok());
        let mut loose = default_provider();
        loose.cipher_suites.push(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
        let mut lax = config(default_provider());
        lax.require_ems = false;
        for config in [config(loose), lax] {
            let refused = approved(config).err().map(|error| error.kind());
            assert_eq!(refused, cfg!(feature = "fips").then_some(Kind::Privacy));
        }
    }
}
