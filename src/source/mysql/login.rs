//! A connection of our own, logged in: for the log, which the driver gives with compressed transactions unpacked whole.
//!
//! What is said and checked is what the driver says and checks, from the same options; its types write the packets.
//!
//! | the server asks for | we answer |
//! |---|---|
//! | `caching_sha2_password` | the scramble; when it does not know the password's sum yet: the password, over TLS or a socket as it is, else under its public key |
//! | `mysql_native_password`, `client_ed25519` | the scramble |
//! | `mysql_clear_password` | the password, over TLS or a socket only |
//! | another one | `MY030`, by name |

use super::fault::fault;
use super::options::{MyOptions, TlsMode};
use super::packets::{Io, Packets};
use super::tls;
use crate::error::{Error, Result, codes};
use futures_util::FutureExt as _;
use mysql_async::{DriverError, IoError};
use mysql_common::collations::CollationId;
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use std::panic::AssertUnwindSafe;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

type Attempt<T> = mysql_async::Result<T>;

/// What we say that we can take.
const MAX_PACKET: u32 = 1 << 30;
const COM_QUERY: u8 = 3;
/// Of `caching_sha2_password`.
const FAST: &[u8] = &[1, 3];
const FULL: &[u8] = &[1, 4];
const ASK_FOR_KEY: &[u8] = &[2];

/// Connects and logs in.
///
/// # Errors
/// `MY030`, `MY032`, `MY034`.
pub(super) async fn connect(options: &MyOptions) -> Result<Packets> {
    options.passwords.log_in(|password| attempt(options, password).boxed()).await
}

async fn attempt(options: &MyOptions, password: Option<String>) -> Result<Packets> {
    let doing = format!("cannot connect to \"{}\" for its log", options.address());
    tokio::time::timeout(options.connect_timeout, log_in(options, password.as_deref()))
        .await
        .map_err(|_| Error::new(codes::MY032, format!("{doing}: no answer in time")))?
        .map_err(|error| fault(&doing, error))
}

/// Runs a statement that has no rows.
///
/// # Errors
/// Those of the server.
pub(super) async fn exec(packets: &mut Packets, sql: &str) -> Attempt<()> {
    packets.restart();
    packets.send(&[&[COM_QUERY], sql.as_bytes()].concat()).await?;
    let answer = packets.answer().await?;
    // Anything else is rows, or the request for a file of ours.
    if answer.first() == Some(&0) { Ok(()) } else { Err(unexpected(&answer)) }
}

fn io(error: std::io::Error) -> mysql_async::Error {
    mysql_async::Error::Io(IoError::Io(error))
}

fn unexpected(packet: &[u8]) -> mysql_async::Error {
    mysql_async::Error::Driver(DriverError::UnexpectedPacket { payload: packet.to_vec() })
}

/// The random bytes that come with a question. The parser takes a zero at their end for a terminator; that of this
/// plug-in has none, so it was one of the random bytes.
fn asked_with(request: &AuthSwitchRequest<'_>) -> Vec<u8> {
    let mut nonce = request.plugin_data().to_vec();
    if request.auth_plugin() == AuthPlugin::Ed25519 {
        nonce.resize(32, 0);
    }
    nonce
}

/// A connection while it logs in.
struct Login<'a> {
    packets: Packets,
    password: Option<&'a str>,
    /// Nobody reads along.
    is_private: bool,
}

async fn log_in(options: &MyOptions, password: Option<&str>) -> Attempt<Packets> {
    let is_socket = options.host.starts_with('/');
    let stream: Box<dyn Io> = if is_socket {
        Box::new(UnixStream::connect(&options.host).await.map_err(io)?)
    } else {
        let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        Box::new(stream)
    };
    let mut packets = Packets::new(stream);
    let greeting = packets.answer().await?;
    let greeting = ParseBuf(&greeting).parse::<HandshakePacket<'_>>(()).map_err(io)?.into_owned();
    let mut capabilities = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_DEPRECATE_EOF
        | CapabilityFlags::CLIENT_PLUGIN_AUTH;
    let wants_tls = options.tls != TlsMode::Disable && !is_socket;
    let has_tls = greeting.capabilities().contains(CapabilityFlags::CLIENT_SSL);
    if wants_tls && !has_tls && options.tls != TlsMode::Prefer {
        return Err(DriverError::NoClientSslFlagFromServer.into());
    }
    let is_tls = wants_tls && has_tls;
    if is_tls {
        capabilities |= CapabilityFlags::CLIENT_SSL;
    }
    let capabilities = capabilities & greeting.capabilities();
    if is_tls {
        packets = encrypt(options, packets, capabilities).await?;
    }
    let mut nonce = greeting.scramble_1_ref().to_vec();
    nonce.extend_from_slice(greeting.scramble_2_ref().unwrap_or_default());
    // Without the zero at its end.
    nonce.resize(20, 0);
    let plugin = match greeting.auth_plugin() {
        Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
        _ => AuthPlugin::MysqlNativePassword,
    };
    let data = plugin.gen_data(password, &nonce);
    let mut packet = Vec::new();
    HandshakeResponse::new(
        data.as_deref(),
        (8, 0, 0),
        Some(options.user.as_bytes()),
        None::<&[u8]>,
        Some(plugin.borrow()),
        capabilities,
        None,
        MAX_PACKET,
    )
    .serialize(&mut packet);
    packets.send(&packet).await?;
    let mut login = Login { packets, password, is_private: is_tls || is_socket };
    login.finish(nonce).await?;
    Ok(login.packets)
}

async fn encrypt(
    options: &MyOptions,
    mut packets: Packets,
    capabilities: CapabilityFlags,
) -> Attempt<Packets> {
    let mut packet = Vec::new();
    let collation = CollationId::UTF8MB4_GENERAL_CI as u8;
    SslRequest::new(capabilities, MAX_PACKET, collation).serialize(&mut packet);
    packets.send(&packet).await?;
    let (stream, sequence) = packets.into_io();
    let config = tls::client_config(options).map_err(io)?;
    let name = tls::server_name(&options.host).map_err(io)?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(io)?;
    Ok(Packets::resume(Box::new(stream), sequence))
}

impl Login<'_> {
    /// Answers what the server asks until it is content.
    async fn finish(&mut self, mut nonce: Vec<u8>) -> Attempt<()> {
        let mut may_switch = true;
        loop {
            let packet = self.packets.answer().await?;
            match packet.first() {
                Some(0) => return Ok(()),
                _ if *packet == *FAST => {}
                _ if *packet == *FULL => self.tell_password(&nonce).await?,
                Some(0xFE) if packet.len() == 1 => {
                    return Err(DriverError::MysqlOldPasswordDisabled.into());
                }
                Some(0xFE) if may_switch => {
                    may_switch = false;
                    let request = ParseBuf(&packet).parse::<AuthSwitchRequest<'_>>(()).map_err(io)?;
                    nonce = asked_with(&request);
                    self.switch(&request.auth_plugin(), &nonce).await?;
                }
                _ => return Err(unexpected(&packet)),
            }
        }
    }

    /// The server wants another plug-in than the one that it named first.
    async fn switch(&mut self, plugin: &AuthPlugin<'_>, nonce: &[u8]) -> Attempt<()> {
        match plugin {
            AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519 => {}
            AuthPlugin::MysqlClearPassword if self.is_private => {}
            AuthPlugin::MysqlClearPassword => return Err(DriverError::CleartextPluginDisabled.into()),
            AuthPlugin::MysqlOldPassword => return Err(DriverError::MysqlOldPasswordDisabled.into()),
            AuthPlugin::MariadbParsec { .. } | AuthPlugin::Other(_) => {
                let name = String::from_utf8_lossy(plugin.as_bytes()).into_owned();
                return Err(DriverError::UnknownAuthPlugin { name }.into());
            }
        }
        let mut answer = Vec::new();
        if let Some(data) = plugin.gen_data(self.password, nonce) {
            data.serialize(&mut answer);
        }
        self.packets.send(&answer).await
    }

    /// The password itself: the server knows no sum of it yet.
    async fn tell_password(&mut self, nonce: &[u8]) -> Attempt<()> {
        let mut password = self.password.unwrap_or_default().as_bytes().to_vec();
        password.push(0);
        if self.is_private {
            return self.packets.send(&password).await;
        }
        self.packets.send(ASK_FOR_KEY).await?;
        let packet = self.packets.answer().await?;
        let [1, key @ ..] = &*packet else { return Err(unexpected(&packet)) };
        password.iter_mut().zip(nonce.iter().cycle()).for_each(|(byte, nonce)| *byte ^= nonce);
        // What is no key makes it panic.
        let sealed =
            std::panic::catch_unwind(AssertUnwindSafe(|| mysql_common::crypto::encrypt(&password, key)));
        let sealed = sealed.map_err(|_| unexpected(&packet))?;
        self.packets.send(&sealed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_at_the_end_is_random_or_a_terminator() {
        let asked = |plugin: &str, data: &[u8]| {
            let packet = [&[0xFE], plugin.as_bytes(), &[0], data].concat();
            asked_with(&ParseBuf(&packet).parse::<AuthSwitchRequest<'_>>(()).unwrap())
        };
        let random: Vec<u8> = (1..=32).collect();
        assert_eq!(asked("client_ed25519", &random), random);
        let zero = [&random[..31], &[0]].concat();
        assert_eq!(asked("client_ed25519", &zero), zero);
        let ended = [&random[..20], &[0]].concat();
        assert_eq!(asked("mysql_native_password", &ended), random[..20]);
        assert_eq!(asked("caching_sha2_password", &ended), random[..20]);
    }
}
