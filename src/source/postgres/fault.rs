//! From what a server or a socket reports to a coded error.
//!
//! SQLSTATE decides where it can; the text only where PostgreSQL gives several conditions one state.
//! DETAIL is shown for no statement, because it may hold a row's values.

use super::options::PgOptions;
use crate::error::{Code, Error, codes};
use crate::schema::TableName;
use std::fmt;

/// An `ErrorResponse`, as far as we use it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`.
    pub severity: String,
    /// Five letters.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// The server's hint.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse` or `NoticeResponse` body. Never fails: a malformed one is
    /// an error of the server all the same.
    pub fn parse(mut body: &[u8]) -> Self {
        let mut error = ServerError::default();
        while let Some((&kind, rest)) = body.split_first() {
            let Some(end) = rest.iter().position(|&b| b == 0) else { break };
            let (value, after) = rest.split_at(end);
            let text = String::from_utf8_lossy(value).into_owned();
            match kind {
                b'V' => error.severity = text,
                b'S' if error.severity.is_empty() => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'H' => error.hint = Some(text),
                // Positions, source lines, DETAIL (it may hold values), and fields to come, which the
                // protocol tells clients to ignore.
                _ => {}
            }
            body = after.get(1..).unwrap_or(&[]);
        }
        error
    }

    /// The code that this condition has.
    pub fn code(&self) -> Code {
        let says = |what: &str| self.message.contains(what);
        match self.sqlstate.as_str() {
            "28P01" | "28000" | "3D000" => codes::PG001,
            "42501" if ["replication", "REPLICATION", "WAL sender", "walsender"].iter().any(|w| says(w)) => {
                codes::PG003
            }
            "42501" => codes::PG010,
            "53400" if says("replication slots") => codes::PG004,
            "53300" if says("max_wal_senders") || says("walsender") => codes::PG005,
            "53300" => codes::PG006,
            "55006" => codes::PG011,
            "58P01" if says("WAL segment") => codes::PG046,
            "55000" if says("can no longer get changes") || says("invalidated") => codes::PG046,
            "55000" if says("wal_level") => codes::PG002,
            "55000" if says("cannot use") || says("replication slot") => codes::PG013,
            // Also "publication … does not exist … in the change callback": decoding reads the catalogue
            // of the past, so a publication that was dropped and made again bricks the slot.
            "42704" if says("publication") => codes::PG007,
            "42704" if says("replication slot") => codes::PG040,
            // The session that holds an exported snapshot is gone, in the words of 16 and newer, of older ones, and
            // of all where it went just now: a lost connection like any other.
            "42704" if says("snapshot \"") => codes::PG006,
            "22023" if says("invalid snapshot identifier") => codes::PG006,
            "55000" if says("could not import the requested snapshot") => codes::PG006,
            // Shutdown, crash of a neighbour, starting up, lost connection, too busy, lock or deadlock.
            "57P01" | "57P02" | "57P03" | "57P05" | "55P03" | "40001" | "40P01" | "57014" => codes::PG006,
            s if s.starts_with("08") || s.starts_with("53") || s.starts_with("58") => codes::PG006,
            _ => codes::PG014,
        }
    }

    /// A message has no more room for a row's values (54000, program limit exceeded; 53200 where the size overflows).
    fn is_too_large(&self) -> bool {
        let says = |what: &str| self.message.contains(what);
        (self.sqlstate == "54000" && (says("string buffer") || says("out of memory")))
            || says("invalid memory alloc request size")
    }

    /// As an error: what was being done, and what the server said.
    pub fn into_error(self, doing: &str) -> Error {
        let code = self.code();
        let error = Error::new(code, format!("{doing}: {self}"));
        if self.is_too_large() {
            error.with_try(
                "a row is larger than the server can send (1 GB in all). Make it smaller in the source, or leave its table out. \
                 Where the stream met it, the log holds it still; to go on behind it: strandline slot drop --yes, \
                 then strandline resync --all --yes",
            )
        } else if let Some(hint) = self.hint {
            error.with_try(hint)
        } else if code == codes::PG003 {
            error
                .with_try("ALTER ROLE <role> WITH REPLICATION;   -- on RDS: GRANT rds_replication TO <role>;")
        } else if code == codes::PG002 {
            error.with_try("ALTER SYSTEM SET wal_level = 'logical';   on the primary, then restart it")
        } else if code == codes::PG007 {
            error.with_try(
                "if the publication was dropped and made again, the slot cannot read past that point: drop the \
                 slot and resync all tables",
            )
        } else {
            error
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity.is_empty() { "ERROR" } else { &self.severity };
        write!(f, "{severity} {} {}", self.sqlstate, self.message)
    }
}

/// A failure of the connection itself: worth another try.
pub fn connection(
    options: &PgOptions,
    doing: &str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(codes::PG006, format!("{doing} at \"{}\"", options.target())).with_source(cause)
}

/// A fact about one table.
pub fn table_error(name: &TableName, code: Code, what: impl fmt::Display) -> Error {
    Error::new(code, format!("table \"{name}\": {what}"))
}

/// The server sent what the protocol does not allow.
pub fn protocol(what: impl fmt::Display) -> Error {
    Error::new(codes::PG006, format!("the server broke the protocol: {what}"))
        .with_try("is there a proxy or pooler between? Replication needs a direct connection to PostgreSQL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(sqlstate: &str, message: &str) -> Code {
        ServerError { sqlstate: sqlstate.into(), message: message.into(), ..Default::default() }.code()
    }

    #[test]
    fn states_have_their_codes() {
        for (state, message, expected) in [
            ("28P01", "password authentication failed for user \"x\"", codes::PG001),
            ("28000", "no pg_hba.conf entry for host", codes::PG001),
            ("42501", "permission denied to start WAL sender", codes::PG003),
            ("42501", "must be superuser or replication role to use replication slots", codes::PG003),
            ("42501", "permission denied for table t", codes::PG010),
            ("53400", "all replication slots are in use", codes::PG004),
            ("53300", "number of requested standby connections exceeds max_wal_senders", codes::PG005),
            ("53300", "sorry, too many clients already", codes::PG006),
            ("55006", "replication slot \"s\" is active for PID 7", codes::PG011),
            ("58P01", "requested WAL segment 00000001 has already been removed", codes::PG046),
            ("55000", "can no longer get changes from replication slot \"s\"", codes::PG046),
            ("42704", "replication slot \"s\" does not exist", codes::PG040),
            ("42704", "publication \"p\" does not exist", codes::PG007),
            ("42704", "snapshot \"00000089-00000004-1\" does not exist", codes::PG006),
            ("22023", "invalid snapshot identifier: \"00000089-00000004-1\"", codes::PG006),
            ("55000", "could not import the requested snapshot", codes::PG006),
            ("57P03", "the database system is starting up", codes::PG006),
            ("22012", "division by zero", codes::PG014),
        ] {
            assert_eq!(code(state, message), expected, "{state} {message}");
        }
    }

    #[test]
    fn fields_are_read_and_detail_is_not() {
        let body = b"SERROR\0VERROR\0C23505\0Mduplicate key\0DKey (id)=(4711) already exists.\0Htry\0\0";
        let error = ServerError::parse(body);
        assert_eq!(error.to_string(), "ERROR 23505 duplicate key");
        assert_eq!(error.hint.as_deref(), Some("try"));
        assert!(!error.into_error("inserting").report().contains("4711"));
        // Cut short and empty bodies are survived.
        assert_eq!(ServerError::parse(b"Cabc").sqlstate, "");
        assert_eq!(ServerError::parse(b""), ServerError::default());
    }
}
