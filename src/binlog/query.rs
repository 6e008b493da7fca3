//! `QUERY_EVENT`: a statement, and the session's settings that it was run with.

use super::wire::{DecodeError, Problem, Reader};
use std::borrow::Cow;

/// Bytes of the fixed part.
const FIXED: u8 = 13;

/// A statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The connection that ran it.
    pub thread_id: u32,
    /// Seconds that it took.
    pub duration: u32,
    /// Zero: no error. Others only for statements that changed something before they failed.
    pub error_code: u16,
    /// The default database, empty when there was none.
    pub database: &'a str,
    /// Settings.
    pub status: StatusVars<'a>,
    /// The text, in the character set of [`StatusVars::client_collation`].
    pub text: Cow<'a, [u8]>,
}

/// Settings of the session that a [`Query`] was run with, as far as they matter to a reader.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusVars<'a> {
    /// `sql_mode`.
    pub sql_mode: Option<u64>,
    /// Collation of `character_set_client`: what the text is written in.
    pub client_collation: Option<u16>,
    /// `collation_server`: what a new database gets.
    pub server_collation: Option<u16>,
    /// `collation_database`.
    pub database_collation: Option<u16>,
    /// `default_collation_for_utf8mb4`.
    pub utf8mb4_collation: Option<u16>,
    /// `time_zone`.
    pub time_zone: Option<&'a [u8]>,
    /// Number of the DDL's own transaction, since 8.0.
    pub ddl_xid: Option<u64>,
    /// A setting that is not known; those after it were not read.
    pub unknown: Option<u8>,
}

pub(super) fn read<'a>(reader: &mut Reader<'a>, fixed: Option<u8>) -> Result<Query<'a>, DecodeError> {
    let thread_id = reader.u32("thread id")?;
    let duration = reader.u32("duration")?;
    let database_length = reader.u8("length of the database")?;
    let error_code = reader.u16("error code")?;
    let status_length = reader.u16("length of the settings")?;
    if let Some(more) = fixed.and_then(|fixed| fixed.checked_sub(FIXED)) {
        reader.bytes("more fixed fields", more.into())?;
    }
    let status = reader.bytes("settings", status_length.into())?;
    let status = read_status(&mut Reader::new("QUERY_EVENT's settings", status))?;
    let database = reader.bytes("database", database_length.into())?;
    let database = reader.name("database", database)?;
    reader.zero("end of the database")?;
    let text = Cow::Borrowed(reader.take_rest());
    Ok(Query { thread_id, duration, error_code, database, status, text })
}

fn read_status<'a>(reader: &mut Reader<'a>) -> Result<StatusVars<'a>, DecodeError> {
    let mut status = StatusVars::default();
    while !reader.is_empty() {
        match reader.u8("setting")? {
            // flags2, auto_increment_*, master_data_written
            0 | 3 | 10 => {
                reader.u32("setting")?;
            }
            1 => status.sql_mode = Some(reader.u64("sql_mode")?),
            // catalog, with a zero in the old form
            2 => {
                short_text(reader)?;
                reader.zero("end of the catalog")?;
            }
            4 => {
                status.client_collation = Some(reader.u16("character_set_client")?);
                reader.u16("collation_connection")?;
                status.server_collation = Some(reader.u16("collation_server")?);
            }
            5 => status.time_zone = Some(short_text(reader)?),
            6 => {
                short_text(reader)?;
            }
            // lc_time_names
            7 => {
                reader.u16("setting")?;
            }
            8 => status.database_collation = Some(reader.u16("collation_database")?),
            // table_map_for_update; commit timestamps
            9 | 14 | 15 => {
                reader.u64("setting")?;
            }
            // invoker
            11 => {
                short_text(reader)?;
                short_text(reader)?;
            }
            12 => updated_databases(reader)?,
            // microseconds
            13 | 128 => {
                reader.uint("setting", 3)?;
            }
            // explicit_defaults_for_timestamp, sql_require_primary_key, default_table_encryption; and what MySQL 9
            // writes with DML
            16 | 19..=21 => {
                reader.u8("setting")?;
            }
            17 | 129 => status.ddl_xid = Some(reader.u64("xid of the DDL")?),
            18 => status.utf8mb4_collation = Some(reader.u16("default_collation_for_utf8mb4")?),
            // MariaDB: flags of the GTID
            130 => {
                reader.u16("setting")?;
            }
            // MariaDB: character_set_collations
            131 => {
                let count = reader.u8("count")?;
                reader.bytes("collations", usize::from(count) * 4)?;
            }
            // Its length is not said. Nothing after it changes what a statement is.
            unknown => {
                status.unknown = Some(unknown);
                reader.take_rest();
            }
        }
    }
    Ok(status)
}

fn short_text<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = reader.u8("length of a setting")?;
    reader.bytes("setting", length.into())
}

fn updated_databases(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    // 254: more than are named.
    let count = reader.u8("number of databases")?;
    if count == 254 {
        return Ok(());
    }
    for _ in 0..count {
        let rest = reader.rest();
        let Some(end) = rest.iter().position(|&byte| byte == 0) else {
            let problem = Problem::Short { need: rest.len() as u64 + 1, have: rest.len() };
            return Err(reader.error("database", reader.at(), problem));
        };
        reader.bytes("database", end + 1)?;
    }
    Ok(())
}
