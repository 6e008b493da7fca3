//! Logical messages as rows of a table that the source does not have.
//!
//! What an application puts into the log with `pg_logical_emit_message` travels like the rows of a table: it has a
//! place in its transaction, waits and goes to disk with it, and is committed with a position. A message that is of no
//! transaction is a transaction of its own, without an id. The address that the server gives of it is the end of its
//! record, so a position like any other. Where the record starts is not told: one byte before its end serves, because no
//! position lies within a record.

use super::{Column, ColumnKind, TableId, TableName, TableSchema};

impl TableId {
    /// Of logical messages: no relation has this oid.
    pub const MESSAGES: TableId = TableId(0);
}

impl TableName {
    /// Of logical messages, as transaction metadata counts them.
    pub fn messages() -> Self {
        TableName::new("", "LOGICAL_DECODING_MESSAGE")
    }
}

impl TableSchema {
    /// Of logical messages: their prefix and their content.
    pub fn messages() -> Self {
        let column = |attnum: i16, name: &str, type_oid: u32, type_name: &str, kind: ColumnKind| Column {
            name: name.into(),
            attnum,
            type_oid,
            type_modifier: -1,
            type_name: type_name.into(),
            kind,
        };
        let columns = vec![
            column(1, "prefix", 25, "text", ColumnKind::Text),
            column(2, "content", 17, "bytea", ColumnKind::Bytea),
        ];
        TableSchema::new(TableId::MESSAGES, TableName::messages(), columns, Vec::new(), false)
    }

    /// Whether its rows are logical messages.
    pub fn is_messages(&self) -> bool {
        self.id == TableId::MESSAGES && self.name == TableName::messages()
    }
}
