//! Logical messages: a table that the source does not have, which is never copied. It begins where its stream does.

use super::copying::Copying;
use super::session::{Goal, LiveTable, Opened, Session};
use crate::error::{Disposition, Result};
use crate::event::Chunks;
use crate::replication::recovery::TableStart;
use crate::schema::{TableName, TableSchema};
use crate::sink::{OpenFor, PipelineRecord, Sink, WriterLease};
use crate::source::{Source, SourceTable};
use std::sync::Arc;

/// Whether this pipeline passes messages on.
pub(super) fn passes<S: Source, K: Sink>(sink: &K) -> bool {
    S::HAS_MESSAGES && sink.takes_messages()
}

/// The table of messages.
pub(super) fn table() -> SourceTable {
    SourceTable { schema: Arc::new(TableSchema::messages()), estimated_rows: None }
}

impl<S: Source, K: Sink> Session<S, K> {
    /// Opens the table of messages, where there is one. `replaced`: the history is given up.
    pub(super) async fn open_messages(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        replaced: bool,
        goal: &Goal,
        opened: &mut Opened<K::Table>,
    ) -> Result<()> {
        if !passes::<S, K>(&self.sink) {
            return Ok(());
        }
        let source = table();
        let schema = Arc::clone(&source.schema);
        let replace = replaced || self.wants_copy(&schema, record, goal);
        if let Some(stopped) = record.stopped.get(&schema.id).filter(|_| !replace) {
            self.board.update_table(&schema.name, |t| t.stop(stopped.code, stopped.message.clone()));
            return Ok(());
        }
        let purpose = if replace { OpenFor::Replace } else { OpenFor::Continue(self.options.changes) };
        match self.open_one(lease, record, &source, purpose).await {
            Ok((table, found, TableStart::Live(progress))) => {
                opened.live.insert(schema.id, LiveTable { schema, table, progress, marks: found.marks });
            }
            Ok((table, record, TableStart::Copy | TableStart::Stop(_))) => {
                let chunks = Chunks::default();
                opened.to_copy.push(Copying { schema, table, record, estimate: None, chunks });
            }
            Err(error) if error.code().disposition == Disposition::HaltTable => {
                opened.stop.push(self.stopped(schema.id, &schema.name, record, &error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whether this is the name of the messages' table.
pub(super) fn is_messages(name: &TableName) -> bool {
    *name == TableName::messages()
}
