//! Logging in: what the server asks for, answered without giving the password away.
//!
//! SCRAM-SHA-256, with channel binding where the connection is TLS and the certificate allows it, and
//! MD5. A password in clear is sent only inside TLS: a server, or somebody in its place, that asks for
//! one without is refused. Kerberos, SSPI and other methods are refused by name.

use super::fault::protocol;
use super::options::PgOptions;
use crate::error::{Error, Result, codes};
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;

/// What is known of the connection.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// TLS is on.
    pub encrypted: bool,
    /// The `tls-server-end-point` binding, if it can be made.
    pub binding: Option<Vec<u8>>,
}

/// The client's side of one login.
pub struct Login<'a> {
    options: &'a PgOptions,
    channel: Channel,
    scram: Option<ScramSha256>,
    scram_done: bool,
}

/// What to do after an authentication message.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes.
    Send(BytesMut),
    /// Wait for the next message.
    Wait,
    /// Logged in.
    Done,
}

impl<'a> Login<'a> {
    /// A login over this channel.
    pub fn new(options: &'a PgOptions, channel: Channel) -> Self {
        Login { options, channel, scram: None, scram_done: false }
    }

    /// Answers one `Authentication…` message (tag `R`), given its body.
    ///
    /// Errors: PG001 when the method is refused or the server's proof is wrong.
    pub fn answer(&mut self, body: &[u8]) -> Result<Step> {
        let (kind, rest) = body.split_first_chunk::<4>().ok_or_else(|| protocol("a short login message"))?;
        match u32::from_be_bytes(*kind) {
            // A server that never proved that it knows the password is not the one we began to talk to.
            0 if self.scram.is_some() && !self.scram_done => {
                Err(protocol("login accepted before the server proved that it knows the password"))
            }
            0 => Ok(Step::Done),
            3 => self.cleartext(),
            5 => self.md5(rest),
            10 => self.scram_start(rest),
            11 => self.scram_continue(rest),
            12 => self.scram_finish(rest),
            other => {
                Err(refused(format!("the server asks for login method {other}, which is not supported"))
                    .with_try("use scram-sha-256 for this user in pg_hba.conf"))
            }
        }
    }

    fn password(&self) -> Result<&[u8]> {
        self.options.password.as_ref().map(|p| p.expose().as_bytes()).ok_or_else(|| {
            refused(format!(
                "the server asks for a password of user \"{}\" and none is set",
                self.options.user
            ))
            .with_try("set source.password (file, env or command)")
        })
    }

    fn cleartext(&self) -> Result<Step> {
        if !self.channel.encrypted {
            return Err(refused("the server asks for the password in clear over a connection without TLS")
                .with_try("use scram-sha-256 in pg_hba.conf, or sslmode=verify-full"));
        }
        let mut out = BytesMut::new();
        frontend::password_message(self.password()?, &mut out).map_err(protocol)?;
        Ok(Step::Send(out))
    }

    fn md5(&self, rest: &[u8]) -> Result<Step> {
        let salt = rest.first_chunk::<4>().ok_or_else(|| protocol("a short md5 salt"))?;
        let hash = md5_hash(self.options.user.as_bytes(), self.password()?, *salt);
        let mut out = BytesMut::new();
        frontend::password_message(hash.as_bytes(), &mut out).map_err(protocol)?;
        Ok(Step::Send(out))
    }

    fn scram_start(&mut self, rest: &[u8]) -> Result<Step> {
        let offered = |name: &str| rest.split(|&b| b == 0).any(|m| m == name.as_bytes());
        let (mechanism, binding) = match (&self.channel.binding, offered(sasl::SCRAM_SHA_256_PLUS)) {
            (Some(hash), true) => {
                (sasl::SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash.clone()))
            }
            // "We could bind but you did not offer it": the server detects a downgrade.
            (Some(_), false) => (sasl::SCRAM_SHA_256, ChannelBinding::unrequested()),
            (None, _) => (sasl::SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if mechanism == sasl::SCRAM_SHA_256 && !offered(sasl::SCRAM_SHA_256) {
            return Err(refused("the server offers no SASL mechanism that is supported"));
        }
        if self.scram.is_some() {
            return Err(protocol("a second SASL exchange"));
        }
        let scram = ScramSha256::new(self.password()?, binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(protocol)?;
        self.scram = Some(scram);
        Ok(Step::Send(out))
    }

    fn scram_continue(&mut self, rest: &[u8]) -> Result<Step> {
        let scram = self.scram.as_mut().ok_or_else(|| protocol("SASL data before SASL began"))?;
        scram.update(rest).map_err(|e| refused("SCRAM login failed").with_source(e))?;
        let mut out = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut out).map_err(protocol)?;
        Ok(Step::Send(out))
    }

    fn scram_finish(&mut self, rest: &[u8]) -> Result<Step> {
        let scram = self.scram.as_mut().ok_or_else(|| protocol("SASL data before SASL began"))?;
        scram.finish(rest).map_err(|e| {
            refused("the server does not know the password that it asked for: it is not the right server")
                .with_source(e)
        })?;
        self.scram_done = true;
        Ok(Step::Wait)
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(codes::PG001, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(password: Option<&str>) -> PgOptions {
        let mut o = PgOptions::from_url("postgres://me@db/x", "p").unwrap_or_else(|e| panic!("{e}"));
        o.password = password.map(super::super::options::Secret::new);
        o
    }

    fn refusal(login: &mut Login<'_>, body: &[u8]) -> String {
        match login.answer(body) {
            Err(error) => error.report(),
            Ok(step) => panic!("{step:?}"),
        }
    }

    #[test]
    fn cleartext_is_refused_without_tls_and_sent_within() {
        let o = options(Some("hunter2"));
        let mut plain = Login::new(&o, Channel::default());
        let text = refusal(&mut plain, &[0, 0, 0, 3]);
        assert!(text.contains("PG001") && !text.contains("hunter2"), "{text}");
        let mut tls = Login::new(&o, Channel { encrypted: true, binding: None });
        assert_eq!(
            tls.answer(&[0, 0, 0, 3]).ok(),
            Some(Step::Send(BytesMut::from(&b"p\0\0\0\x0chunter2\0"[..])))
        );
    }

    #[test]
    fn an_unproven_server_is_not_believed() {
        let o = options(Some("x"));
        let mut login = Login::new(&o, Channel::default());
        assert!(matches!(login.answer(b"\0\0\0\x0aSCRAM-SHA-256\0\0"), Ok(Step::Send(_))));
        assert!(refusal(&mut login, &[0, 0, 0, 0]).contains("before the server proved"));
        // No exchange out of order, nothing short, no unknown method.
        let mut login = Login::new(&o, Channel::default());
        for body in
            [&b"\0\0\0\x0bx"[..], b"\0\0\0\x0cx", b"\0\0\0\x05ab", b"\0\0", b"\0\0\0\x07", b"\0\0\0\x0aX\0"]
        {
            refusal(&mut login, body);
        }
    }

    #[test]
    fn a_missing_password_is_named() {
        let o = options(None);
        let mut login = Login::new(&o, Channel::default());
        assert!(refusal(&mut login, b"\0\0\0\x05abcd").contains("none is set"));
    }

    #[test]
    fn plus_is_chosen_only_with_a_binding() {
        let o = options(Some("x"));
        let both = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let chosen = |binding: Option<Vec<u8>>| {
            let mut login = Login::new(&o, Channel { encrypted: true, binding });
            match login.answer(both) {
                Ok(Step::Send(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert!(chosen(Some(vec![1; 32])).contains("SCRAM-SHA-256-PLUS\0"));
        assert!(chosen(None).contains("SCRAM-SHA-256\0"));
        assert!(chosen(None).contains("n,,"));
    }
}
