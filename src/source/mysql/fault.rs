//! From errors of the driver and the server to ours.

use crate::error::{Code, Error, codes};
use crate::schema::TableName;
use mysql_async::{DriverError, Error as MyError, IoError};

/// The server's number of an error, if the server answered.
pub(super) fn number(error: &MyError) -> Option<u16> {
    match error {
        MyError::Server(server) => Some(server.code),
        _ => None,
    }
}

/// An error while `doing` something.
pub(super) fn fault(doing: &str, error: MyError) -> Error {
    let code = code_of(&error);
    let text = match &error {
        MyError::Server(server) => {
            return Error::new(
                code,
                format!("{doing}: {} ({} {})", server.message, server.code, server.state),
            );
        }
        _ => doing.to_owned(),
    };
    let found = Error::new(code, text).with_source(error);
    if code == codes::MY034 {
        return found
            .with_try("give the authority's certificate by source.tls.ca, or another source.tls.mode");
    }
    found
}

fn code_of(error: &MyError) -> Code {
    match error {
        MyError::Server(server) => match server.code {
            // Access denied, unknown database, no such plug-in, host not allowed, account locked, password expired.
            1044 | 1045 | 1049 | 1130 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 => codes::MY030,
            1142 | 1143 | 1227 => codes::MY007,
            // Too many connections, shutdown, killed, gone, lock wait, deadlock, read only for a moment.
            1040
            | 1053
            | 1077
            | 1152
            | 1158..=1161
            | 1184
            | 1205
            | 1213
            | 1317
            | 1927
            | 2006
            | 2013
            | 3032
            | 4031 => codes::MY032,
            _ => codes::MY033,
        },
        MyError::Io(IoError::Tls(_)) => codes::MY034,
        MyError::Io(IoError::Io(io)) if is_tls(io) => codes::MY034,
        MyError::Io(_) => codes::MY032,
        MyError::Driver(DriverError::NoClientSslFlagFromServer) => codes::MY034,
        MyError::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::CleartextPluginDisabled
            | DriverError::MysqlOldPasswordDisabled,
        ) => codes::MY030,
        MyError::Driver(DriverError::ConnectionClosed | DriverError::PoolDisconnected) => codes::MY032,
        _ => codes::MY033,
    }
}

/// A certificate that was not believed comes as an error of the socket.
fn is_tls(io: &std::io::Error) -> bool {
    io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The table is gone, or has other columns than were asked for.
pub(super) fn changed_since(name: &TableName, doing: &str, error: MyError) -> Error {
    let what = match number(&error) {
        Some(1146 | 1051 | 1109) => (codes::MY037, "it was dropped or renamed"),
        Some(1054 | 1412 | 1615) => {
            (codes::MY022, "its columns changed, or it was truncated, after the snapshot was taken")
        }
        Some(1142 | 1143) => (codes::MY037, "it may not be read"),
        _ => return fault(doing, error),
    };
    table_error(name, what.0, what.1)
        .with_source(error)
        .with_try(format!("strandline resync \"{name}\" --yes"))
}

/// An error about a table, its name in front.
pub(super) fn table_error(name: &TableName, code: Code, what: impl std::fmt::Display) -> Error {
    Error::new(code, format!("table \"{name}\": {what}"))
}

/// An event that cannot be taken.
pub(super) fn event_error(at: impl std::fmt::Display, error: crate::binlog::DecodeError) -> Error {
    let error = Error::from(error);
    let text = format!("at {at}: {}", error.cause_line());
    match error.advice() {
        Some(advice) => Error::new(error.code(), text).with_try(advice),
        None => Error::new(error.code(), text),
    }
}
