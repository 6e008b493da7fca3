//! What an encoder is compiled from: the columns of its key, the headers of its records, the options of its style.

use super::options::{Connector, DecimalMode, HstoreMode, IntervalMode, Options, Style, TimeMode};
use super::record::SharedHeaders;
use crate::error::{Error, Result, codes};
use crate::schema::TableSchema;
use std::sync::Arc;

/// The columns that consumers know rows by: those that were asked for; else those that the log identifies old rows
/// by, so that a delete always has its key; else what the table declares.
pub(super) fn key_columns(schema: &TableSchema, options: &Options) -> Result<Vec<usize>> {
    if let Some(asked) = options.message_key_columns.iter().find(|asked| asked.table == schema.name) {
        let place = |name: &String| {
            schema.columns.iter().position(|column| column.name == *name).ok_or_else(|| {
                let what = format!("message_key_columns: table \"{}\" has no column \"{name}\"", schema.name);
                Error::new(codes::CF003, what)
            })
        };
        let columns: Vec<usize> = asked.columns.iter().map(place).collect::<Result<_>>()?;
        // A delete would go to the key of a row that never was.
        if !schema.full_before
            && let Some(column) = columns.iter().find(|at| !schema.key.contains(at))
        {
            let column = schema.columns.get(*column).map_or("", |column| &column.name);
            let what = format!(
                "message_key_columns: the log does not hold old values of column \"{column}\" of table \"{}\"",
                schema.name
            );
            let advice = format!("ALTER TABLE {} REPLICA IDENTITY FULL", schema.name);
            return Err(Error::new(codes::CF003, what).with_try(advice));
        }
        return Ok(columns);
    }
    Ok(if schema.key.is_empty() { schema.declared.key.clone() } else { schema.key.clone() })
}

pub(super) fn shared_headers(options: &Options) -> SharedHeaders {
    let mut context = Vec::new();
    if options.extended_headers && options.style != Style::Native {
        let mut add = |name: &str, value: &str| {
            context.push((format!("__debezium.context.{name}"), value.to_owned()));
        };
        add("connectorLogicalName", &options.topic_prefix);
        add("taskId", "0");
        add("connectorName", options.connector.as_str());
        add("runId", &options.run_id);
    }
    let own = if options.style == Style::Flat { options.flat_headers.as_slice() } else { &[] };
    let own = own.iter().map(|spec| super::flat::output_name(spec)).collect();
    SharedHeaders { context, own, diverted: None, partition: None }
}

/// The native style is for people: no choice of forms.
pub(super) fn for_style(options: &Arc<Options>) -> Arc<Options> {
    match options.style {
        Style::Debezium | Style::Flat => Arc::clone(options),
        Style::Native => Arc::new(Options {
            decimal: DecimalMode::String,
            time: TimeMode::IsoString,
            interval: IntervalMode::String,
            hstore: HstoreMode::Map,
            include_unknown_datatypes: true,
            connector: Connector::Postgresql,
            ..Options::clone(options)
        }),
    }
}
