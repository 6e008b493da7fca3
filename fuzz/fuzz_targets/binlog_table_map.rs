//! Arbitrary table maps of either product, and what is made of them: columns, and what reads their rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use strandline_fuzz::binlog::{Flavor, Missing, Policies, RowDecoder, TableMap, schema_of_map};
use strandline_fuzz::schema::TableId;

fuzz_target!(|data: &[u8]| {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let Ok(map) = TableMap::parse(data, flavor) else { continue };
        let policies = Policies::default();
        for full_before in [false, true] {
            let Ok(schema) = schema_of_map(&map, TableId(1), &[], &policies, full_before) else { continue };
            let schema = Arc::new(schema);
            assert!(schema.columns.len() <= map.columns.len());
            for missing in [Missing::Refuse, Missing::Null] {
                let _ = RowDecoder::new(&map, &schema, &[], policies, missing);
            }
        }
    }
});
