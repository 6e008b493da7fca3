//! Tests of the codecs, on bytes of real servers (`tests/golden/binlog`) and on damaged ones.

mod events;
mod golden;
mod malformed;
mod snapshots;
mod types;

use super::*;
use crate::event::ChangeBatch;
use crate::schema::{TableId, TableSchema};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file of a server, without the four bytes that begin it.
pub(super) fn capture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/binlog/{name}.binlog.zst", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let whole = zstd::decode_all(packed.as_slice()).unwrap();
    whole.strip_prefix(b"\xFEbin").unwrap().to_vec()
}

/// The events of a file, each with its bytes.
pub(super) fn split(file: &[u8]) -> Vec<&[u8]> {
    let (mut events, mut rest) = (Vec::new(), file);
    while !rest.is_empty() {
        let size = EventHeader::parse(rest).unwrap().size as usize;
        let (event, after) = rest.split_at(size);
        events.push(event);
        rest = after;
    }
    events
}

pub(super) fn flavor(name: &str) -> Flavor {
    if name.starts_with("maria") { Flavor::MariaDb } else { Flavor::MySql }
}

/// Follows a file to its tables' rows.
pub(super) struct Replay {
    pub(super) decoder: EventDecoder,
    pub(super) policies: Policies,
    pub(super) catalog: BTreeMap<String, Vec<CatalogColumn>>,
    pub(super) full_before: bool,
    maps: BTreeMap<u64, TableMap>,
    pub(super) builders: BTreeMap<String, (RowDecoder, BatchBuilder)>,
    pub(super) seen: Vec<String>,
}

impl Replay {
    pub(super) fn new(flavor: Flavor) -> Self {
        Replay {
            decoder: EventDecoder::new(flavor),
            policies: Policies::default(),
            catalog: BTreeMap::new(),
            full_before: false,
            maps: BTreeMap::new(),
            builders: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    pub(super) fn file(&mut self, file: &[u8]) -> Result<(), String> {
        for bytes in split(file) {
            let (_, event) = self.decoder.decode_bytes(bytes).map_err(|error| error.to_string())?;
            self.event(event)?;
        }
        Ok(())
    }

    pub(super) fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        let name = format!("{event:?}");
        self.seen.push(name.split([' ', '(']).next().unwrap().to_owned());
        match event {
            Event::TableMap(map) => {
                self.maps.insert(map.table_id, *map);
            }
            Event::Rows(rows) => self.rows(&rows)?,
            Event::TransactionPayload(payload) => {
                for bytes in payload.events().map_err(|error| error.to_string())? {
                    let raw = RawEvent::parse(&bytes, Checksum::None).map_err(|error| error.to_string())?;
                    let mut inner = self.decoder.clone();
                    let event = inner.decode(raw).map_err(|error| error.to_string())?;
                    self.event(event)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rows(&mut self, rows: &Rows<'_>) -> Result<(), String> {
        let map = self.maps.get(&rows.table_id).ok_or("rows of an unknown table")?;
        let catalog = self.catalog.get(&map.table).cloned().unwrap_or_default();
        let schema = schema_of_map(map, TableId(1), &catalog, &self.policies, self.full_before)
            .map_err(|error| format!("{error:?}"))?;
        let entry = self.builders.entry(map.table.clone());
        let (decoder, builder) = match entry {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let schema = Arc::new(schema);
                let decoder = RowDecoder::new(map, &schema, &catalog, self.policies, Missing::Refuse)
                    .map_err(|error| format!("{}: {error:?}", map.table))?;
                vacant.insert((decoder, BatchBuilder::new(schema)))
            }
        };
        let first = builder.rows() as u64;
        let schema = Arc::clone(decoder.schema());
        decoder.decode(rows, first, builder).map_err(|error| error.into_error(&schema).to_string())?;
        Ok(())
    }

    pub(super) fn batch(&mut self, table: &str) -> ChangeBatch {
        let (_, builder) = self.builders.get_mut(table).unwrap_or_else(|| panic!("no rows of {table}"));
        builder.take(None).unwrap_or_else(|error| panic!("{table}: {error:?}"))
    }

    pub(super) fn schema(&self, table: &str) -> &Arc<TableSchema> {
        self.builders[table].0.schema()
    }
}
