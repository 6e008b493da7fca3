//! Connections, and statements whose answers are small.

use super::fault::{fault, number};
use super::options::{MyOptions, Patience, TlsMode};
use crate::error::{Error, Result, codes};
use futures_util::FutureExt as _;
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, IoError, Opts, OptsBuilder, SslOpts, Value};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// The binary log may hold events larger than the server's own `max_allowed_packet`.
const MAX_PACKET: usize = 1 << 30;
/// What every session is pinned to: values must not depend on what an administrator set. `character_set_results`
/// off: text comes as it is stored, and is converted here.
const PINNED: &str = "SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = NULL, \
                      net_write_timeout = 600, transaction_isolation = 'REPEATABLE-READ'";
const PINNED_MARIADB: &str = "SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = NULL, \
                              net_write_timeout = 600, tx_isolation = 'REPEATABLE-READ'";
/// So often a denied login is tried again.
const DENIED_AGAIN: u32 = 2;
/// No such variable.
const UNKNOWN_VARIABLE: u16 = 1193;

/// Idle connections are kept known to whatever is on their way, and dead ones are found out.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A goodbye takes no longer.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session.
pub struct Sql {
    conn: Conn,
    patience: Patience,
}

/// A row as text; `None` is null.
pub type TextRow = Vec<Option<String>>;

impl Sql {
    /// Connects and pins what values depend on.
    ///
    /// # Errors
    /// `MY030`, `MY032`, `MY034`.
    pub async fn connect(options: &MyOptions) -> Result<Sql> {
        let attempt = |password: Option<String>| log_in_surely(options, password).boxed();
        let conn = options.passwords.log_in(attempt).await?;
        let mut sql = Sql { conn, patience: options.patience };
        match sql.conn.query_drop(PINNED).await {
            Err(error) if number(&error) == Some(UNKNOWN_VARIABLE) => sql.exec(PINNED_MARIADB).await?,
            other => other.map_err(|error| fault("cannot prepare the session", error))?,
        }
        Ok(sql)
    }

    /// Runs a statement without rows.
    ///
    /// # Errors
    /// Those of the server; `MY032` when it does not answer.
    pub async fn exec(&mut self, sql: &str) -> Result<()> {
        let run = within(self.patience.answer, self.conn.query_drop(sql));
        run.await.map_err(|error| fault(&doing(sql), error))
    }

    /// Runs a statement that may have to wait or to work for long; the error is for the caller to judge.
    pub(super) async fn try_exec(&mut self, sql: &str) -> mysql_async::Result<()> {
        within(self.patience.row, self.conn.query_drop(sql)).await
    }

    /// Runs a statement; its rows as text.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.try_rows(sql).await.map_err(|error| fault(&doing(sql), error))
    }

    /// The same; the error is for the caller to judge.
    pub(super) async fn try_rows(&mut self, sql: &str) -> mysql_async::Result<Vec<TextRow>> {
        self.rows_within(self.patience.answer, sql).await
    }

    /// The same of a statement that may have to walk through a table.
    pub(super) async fn try_walk(&mut self, sql: &str) -> mysql_async::Result<Vec<TextRow>> {
        self.rows_within(self.patience.row, sql).await
    }

    async fn rows_within(&mut self, limit: Duration, sql: &str) -> mysql_async::Result<Vec<TextRow>> {
        let rows: Vec<mysql_async::Row> = within(limit, self.conn.query(sql)).await?;
        Ok(rows
            .into_iter()
            .map(|row| row.unwrap_raw().into_iter().map(|value| text(value.unwrap_or(Value::NULL))).collect())
            .collect())
    }

    /// The first row.
    ///
    /// # Errors
    /// Those of the server; `MY033` when there is none.
    pub async fn row(&mut self, sql: &str) -> Result<TextRow> {
        let row = self.rows(sql).await?.into_iter().next();
        row.ok_or_else(|| Error::new(codes::MY033, format!("{}: no answer", doing(sql))))
    }

    /// How long the server may be silent.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// The connection.
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// The server's number of this connection.
    pub fn id(&self) -> u32 {
        self.conn.id()
    }

    /// Says goodbye; who does not answer is gone already.
    pub async fn close(self) {
        if let Err(error) = within(GOODBYE, self.conn.disconnect()).await {
            tracing::debug!("a connection was not closed in order: {error}");
        }
    }
}

/// A server that says nothing for so long counts as gone. The connection is of no use after that.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = mysql_async::Result<T>>,
) -> mysql_async::Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let what = format!("the server has said nothing for {} s", limit.as_secs_f64());
        Err(IoError::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)).into())
    })
}

fn doing(sql: &str) -> String {
    let shown: String = sql.chars().take(60).collect();
    format!("the server did not run \"{shown}\"")
}

/// A value of the text protocol. Names and settings are UTF-8; what is not shows as such.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Int(n) => Some(n.to_string()),
        Value::UInt(n) => Some(n.to_string()),
        other => Some(other.as_sql(true)),
    }
}

/// A login that is denied is tried again: of the 32 random bytes with which MariaDB's `client_ed25519` begins, the driver
/// drops a zero at their end, so that one login in 256 is denied though the password is right. What is wrong stays so.
async fn log_in_surely(options: &MyOptions, password: Option<String>) -> Result<Conn> {
    let mut denied = 0;
    loop {
        match log_in(options, password.as_deref()).await {
            Err(error) if error.code() == codes::MY030 && denied < DENIED_AGAIN => denied += 1,
            other => return other,
        }
    }
}

async fn log_in(options: &MyOptions, password: Option<&str>) -> Result<Conn> {
    let doing = format!("cannot connect to \"{}\"", options.address());
    tokio::time::timeout(options.connect_timeout, connect(options, password))
        .await
        .map_err(|_| Error::new(codes::MY032, format!("{doing}: no answer in time")))?
        .map_err(|error| login(options, fault(&doing, error)))
}

fn login(options: &MyOptions, error: Error) -> Error {
    let plugin = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    if error.code() == codes::MY030 && plugin.contains("authentication plugin") {
        let user = &options.user;
        return error.with_try(format!(
            "log in by another plug-in: ALTER USER '{user}'@'%' IDENTIFIED WITH caching_sha2_password BY '…'; \
             (MariaDB: ALTER USER '{user}'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('…'); or VIA mysql_native_password)"
        ));
    }
    if error.code() == codes::MY030 {
        let (user, address) = (&options.user, options.address());
        return error.with_try(format!(
            "check user \"{user}\" and its password on {address}: CREATE USER '{user}'@'%' IDENTIFIED BY '…';"
        ));
    }
    error
}

async fn connect(options: &MyOptions, password: Option<&str>) -> mysql_async::Result<Conn> {
    match open(opts(options, password, options.tls)).await {
        Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
            if options.tls == TlsMode::Prefer =>
        {
            open(opts(options, password, TlsMode::Disable)).await
        }
        other => other,
    }
}

/// The driver knows MariaDB's `parsec` by name, and panics when a server asks for it.
async fn open(opts: Opts) -> mysql_async::Result<Conn> {
    let unknown = |_| DriverError::UnknownAuthPlugin { name: "parsec".to_owned() };
    AssertUnwindSafe(Conn::new(opts)).catch_unwind().await.map_err(unknown)?
}

fn opts(options: &MyOptions, password: Option<&str>, tls: TlsMode) -> Opts {
    let mut builder = OptsBuilder::default()
        .user(Some(&options.user))
        .pass(password)
        .max_allowed_packet(Some(MAX_PACKET))
        .prefer_socket(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .enable_cleartext_plugin(tls != TlsMode::Disable);
    if options.host.starts_with('/') {
        builder = builder.socket(Some(&options.host));
    } else {
        builder = builder.ip_or_hostname(&options.host).tcp_port(options.port);
    }
    let verify = matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let ssl = SslOpts::default()
        .with_danger_accept_invalid_certs(!verify)
        .with_danger_skip_domain_validation(tls != TlsMode::VerifyFull);
    let ssl = match &options.ca {
        Some(ca) => ssl.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true),
        None => ssl,
    };
    let ssl = match &options.identity {
        Some((cert, key)) => {
            ssl.with_client_identity(Some(ClientIdentity::new(cert.clone().into(), key.clone().into())))
        }
        None => ssl,
    };
    let is_tls = tls != TlsMode::Disable && !options.host.starts_with('/');
    Opts::from(builder.ssl_opts(is_tls.then_some(ssl)))
}

/// A name as an identifier: `` `a``b` ``.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Text as a literal: `'it''s'`. With `sql_mode = ''` a backslash escapes.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
