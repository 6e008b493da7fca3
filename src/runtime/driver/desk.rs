//! Wishes of an operator, done between two bursts.

use super::super::desk::{Wish, stopped};
use super::super::recorder::Entry;
use super::Driver;
use crate::error::Result;
use crate::event::ChangeBatch;
use crate::schema::{TableId, TableName};
use crate::sink::Sink;
use crate::source::Source;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Who looks at which table's changes.
#[derive(Debug, Default)]
pub(super) struct Taps(BTreeMap<TableName, Vec<mpsc::Sender<ChangeBatch>>>);

impl Taps {
    fn add(&mut self, table: TableName, to: mpsc::Sender<ChangeBatch>) {
        self.0.entry(table).or_default().push(to);
    }

    /// Shows a batch to those who look, without waiting for them.
    pub(super) fn show(&mut self, batch: &ChangeBatch) {
        if self.0.is_empty() {
            return;
        }
        let name = &batch.schema.name;
        let Some(readers) = self.0.get_mut(name) else { return };
        readers.retain(|reader| !matches!(reader.try_send(batch.clone()), Err(TrySendError::Closed(_))));
        if readers.is_empty() {
            self.0.remove(name);
        }
    }
}

impl<S: Source, K: Sink> Driver<S, K> {
    pub(super) async fn grant(&mut self, wish: Wish) -> Result<()> {
        match wish {
            Wish::Tap(table, to) => {
                self.taps.add(table, to);
                Ok(())
            }
            Wish::Copy(table) => {
                self.copied.remove(&table);
                self.want_copy(&table, "an operator asked for it".to_owned());
                self.begin_wanted().await
            }
            Wish::Meet(request, reply) => {
                self.amends.ask(&request.id, reply);
                self.tell(Entry::Asked(Box::new(request)))
            }
            Wish::Leave(table) => {
                self.wanted.remove(&table);
                if self.copying.contains(&table) {
                    // Its copy ends with the code that says so.
                    self.options.desk.gate.cancel(&table);
                    return Ok(());
                }
                let error = stopped(&table, "an operator paused it");
                let live = |id: &&TableId| self.workers.contains_key(id);
                let ids: Vec<TableId> = self
                    .names
                    .iter()
                    .filter(|(_, name)| **name == table)
                    .map(|(id, _)| id)
                    .filter(live)
                    .copied()
                    .collect();
                for id in ids {
                    self.stop_table(id, &error).await?;
                }
                Ok(())
            }
        }
    }
}
