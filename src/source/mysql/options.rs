//! How to reach a server.

use crate::error::{Result, codes};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Asking = BoxFuture<'static, Result<Option<String>>>;

/// Where the password comes from. It is asked again when the server refuses the one that is known: so a rotated password,
/// or a token that expired, needs no restart. Clones share what was learnt.
#[derive(Clone)]
pub struct Passwords {
    ask: Arc<dyn Fn() -> Asking + Send + Sync>,
    known: Arc<Mutex<Option<String>>>,
}

impl Passwords {
    /// Asks `ask`.
    pub fn new(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self {
        Passwords { ask: Arc::new(ask), known: Arc::default() }
    }

    /// Logs in with the password; when it is refused, and is another one by now, with that.
    ///
    /// # Errors
    /// Those of the attempt; no password can be had.
    pub(super) async fn log_in<'a, T>(
        &self,
        attempt: impl Fn(Option<String>) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        let known = self.known().await?;
        match attempt(known.clone()).await {
            Err(refused) if refused.code() == codes::MY030 => match self.ask_again().await? {
                Some(now) if known.as_ref() != Some(&now) => attempt(Some(now)).await,
                _ => Err(refused),
            },
            other => other,
        }
    }

    /// The one that was learnt last; asked for when there is none.
    async fn known(&self) -> Result<Option<String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(Some(known)),
            None => self.ask_again().await,
        }
    }

    /// What it is now.
    async fn ask_again(&self) -> Result<Option<String>> {
        let found = (self.ask)().await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        Ok(found)
    }
}

/// How strict encryption is; as in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsMode {
    /// Plain text only.
    Disable,
    /// Encrypted when the server can; nothing is verified.
    Prefer,
    /// Encrypted; nothing is verified.
    Require,
    /// Encrypted, and the certificate must be from a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must name the host.
    VerifyFull,
}

/// How long a server may be silent. A connection may be dead without an end: a firewall that forgot it, a proxy that
/// hangs.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before it answers a statement about itself or its catalogue; a catalogue of many tables takes minutes.
    pub answer: Duration,
    /// Before the next row of a table, and before the answer to what walks through one: as long as the server waits
    /// for us.
    pub row: Duration,
    /// So often the connection that holds the pipeline's lock is tried …
    pub ping: Duration,
    /// … and when the server has heard nothing on it for so long, it frees the lock. Whole seconds.
    pub lock: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            answer: Duration::from_secs(300),
            row: Duration::from_secs(600),
            ping: Duration::from_secs(5),
            lock: Duration::from_secs(60),
        }
    }
}

/// A server, a user, and who we are there.
#[derive(Clone)]
pub struct MyOptions {
    /// Name or address; a path that begins with `/` is a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub passwords: Passwords,
    /// Encryption.
    pub tls: TlsMode,
    /// Certificate authorities (PEM); `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key (PEM), for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The pipeline's name.
    pub pipeline: String,
    /// A connection must be there by then.
    pub connect_timeout: Duration,
    /// How long it may be silent.
    pub patience: Patience,
    /// Statements that made rows are wanted, where the log has them.
    pub queries: bool,
}

impl MyOptions {
    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The id that we read as. Servers cut off a reader when another one comes with its id, which is right for our
    /// own dead connection and wrong for everybody else: so it is made from the pipeline's name, in a range that
    /// people do not use.
    pub fn server_id(&self) -> u32 {
        const FIRST: u32 = 0x5300_0000;
        FIRST | crc32fast::hash(self.pipeline.as_bytes()) & 0x00FF_FFFF
    }

    /// The id of a second reader beside the first.
    pub fn second_server_id(&self) -> u32 {
        const SECOND: u32 = 0x5400_0000;
        SECOND | self.server_id() & 0x00FF_FFFF
    }
}
