//! A table that the source does not have: logical messages, which are never copied and begin where their stream does, or
//! definitions, whose copy tells what the tables are and comes before theirs.

use super::copying::Copying;
use super::session::{Goal, LiveTable, Opened, Session};
use crate::error::{Disposition, Result};
use crate::event::Chunks;
use crate::replication::recovery::TableStart;
use crate::sink::{OpenFor, PipelineRecord, Sink, WriterLease};
use crate::source::{Source, SourceTable};
use std::sync::Arc;

/// The table, where this pipeline passes it on.
pub(super) fn table<S: Source, K: Sink>(source: &S, sink: &K) -> Option<SourceTable> {
    let schema = source.beside().filter(|_| sink.takes_beside())?;
    Some(SourceTable { schema: Arc::new(schema), estimated_rows: None })
}

impl<S: Source, K: Sink> Session<S, K> {
    /// Opens it, where there is one. `replaced`: the history is given up.
    pub(super) async fn open_beside(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        replaced: bool,
        goal: &Goal,
        opened: &mut Opened<K::Table>,
    ) -> Result<()> {
        let Some(source) = table(&*self.source, &*self.sink) else { return Ok(()) };
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
                opened.to_copy.insert(0, Copying { schema, table, record, estimate: None, chunks });
            }
            Err(error) if error.code().disposition == Disposition::HaltTable => {
                opened.stop.push(self.stopped(schema.id, &schema.name, record, &error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
