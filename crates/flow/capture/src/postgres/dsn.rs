use std::net::IpAddr;

use change::{Error, Kind, Result};

/// The parts of a `postgresql://` URL that this connector uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dsn {
    /// A host name, an IP address, or the folder of a Unix socket (starts with `/`).
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) sslmode: Option<String>,
    pub(crate) sslrootcert: Option<String>,
    pub(crate) sslcert: Option<String>,
    pub(crate) sslkey: Option<String>,
    /// Whether the URL itself carries a password, which is refused: it would end up in files and process lists.
    pub(crate) has_password: bool,
}

impl Dsn {
    /// Reads a connection URL as libpq does, one host only.
    ///
    /// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| wrong("it does not begin with postgresql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, !password.is_empty()),
            None => (login, false),
        };
        let (host, port) = split_port(address)?;
        let mut dsn = Self {
            host: percent_decoded(host)?,
            port,
            user: percent_decoded(user)?,
            database: percent_decoded(database)?,
            sslmode: None,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            has_password: password,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("a parameter has no value"))?;
            dsn.set(key, percent_decoded(value)?)?;
        }
        dsn.completed()
    }

    fn set(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "host" => self.host = value,
            "port" => self.port = parse_port(&value)?,
            "user" => self.user = value,
            "dbname" => self.database = value,
            "password" => self.has_password = true,
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            "sslcert" => self.sslcert = Some(value),
            "sslkey" => self.sslkey = Some(value),
            "application_name" | "connect_timeout" => {}
            _ => return Err(wrong(&format!("the parameter `{key}` is not supported"))),
        }
        Ok(())
    }

    fn completed(mut self) -> Result<Self> {
        if self.host.is_empty() {
            return Err(wrong("it names no host"));
        }
        if self.host.contains(',') {
            return Err(wrong("it names several hosts; a slot lives on one"));
        }
        if self.user.is_empty() {
            return Err(wrong("it names no user"));
        }
        if self.database.is_empty() {
            self.database = self.user.clone();
        }
        Ok(self)
    }

    /// Whether the host is the folder of a Unix socket.
    pub(crate) fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Whether nothing leaves the machine: a Unix socket or a loopback address.
    pub(crate) fn is_local(&self) -> bool {
        self.is_unix_socket()
            || self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn wrong(what: &str) -> Error {
    // The URL itself is not repeated: it may hold a password.
    Error::new(Kind::Config, format!("the source's `url` cannot be read: {what}"))
        .fix("Write it as postgresql://user@host:5432/database?sslmode=verify-full and give the password separately.")
}

fn split_port(address: &str) -> Result<(&str, u16)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| wrong("the IPv6 address has no closing bracket"))?;
        return Ok((host, port.strip_prefix(':').map_or(Ok(5432), parse_port)?));
    }
    match address.rsplit_once(':') {
        Some((host, port)) => Ok((host, parse_port(port)?)),
        None => Ok((address, 5432)),
    }
}

fn parse_port(port: &str) -> Result<u16> {
    port.parse().map_err(|_| wrong("the port is not a number from 1 to 65535"))
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(wrong("a % is not followed by two hexadecimal digits"));
        };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_sockets_and_parameters() {
        let dsn =
            Dsn::parse("postgresql://lock%40gate@db.internal:5433/claims?sslmode=verify-full&sslrootcert=/ca.pem")
                .unwrap();
        assert_eq!((dsn.host.as_str(), dsn.port, dsn.user.as_str()), ("db.internal", 5433, "lock@gate"));
        assert_eq!((dsn.database.as_str(), dsn.sslmode.as_deref()), ("claims", Some("verify-full")));
        assert_eq!(dsn.sslrootcert.as_deref(), Some("/ca.pem"));
        for socket in ["postgresql://u@%2Fvar%2Frun/d", "postgresql://u@/d?host=/var/run"] {
            let dsn = Dsn::parse(socket).unwrap();
            assert!(dsn.is_unix_socket() && dsn.is_local());
            assert_eq!(dsn.host, "/var/run");
        }
        assert_eq!(Dsn::parse("postgres://u@[::1]:6000/d").unwrap().port, 6000);
        assert!(Dsn::parse("postgres://u@[::1]/d").unwrap().is_local());
        assert!(!Dsn::parse("postgres://u@10.0.0.1/d").unwrap().is_local());
    }

    #[test]
    fn sees_a_password_wherever_it_stands_and_never_repeats_it() {
        for url in ["postgresql://u:hunter2@h/d", "postgresql://u@h/d?password=hunter2"] {
            assert!(Dsn::parse(url).unwrap().has_password);
        }
        let error = Dsn::parse("postgresql://u:hunter2@h:x/d").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, what) in [
            ("mysql://h/d", "postgresql://"),
            ("postgresql://u@/d", "no host"),
            ("postgresql://h/d", "no user"),
            ("postgresql://u@h:99999/d", "65535"),
            ("postgresql://u@a,b/d", "several hosts"),
            ("postgresql://u@h/d?target_session_attrs=any", "target_session_attrs"),
            ("postgresql://u@h/%4", "hexadecimal"),
        ] {
            let error = Dsn::parse(url).unwrap_err().to_string();
            assert!(error.contains(what), "{url}: {error}");
        }
    }
}
