//! Notifications: what a tool hears of copies, as Debezium's sink channel and log channel tell it.

use super::connect::{Schema, Type};
use super::image::WriteWith;
use super::out::{Nullness, Out};

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Its id; of an incremental snapshot, the signal's.
    pub id: String,
    /// What it is about: `Initial Snapshot`.
    pub aggregate: &'static str,
    /// What happened: `STARTED`.
    pub kind: &'static str,
    /// The rest, as names and values.
    pub data: Vec<(&'static str, String)>,
    /// Milliseconds since 1970.
    pub time_ms: i64,
}

impl Notification {
    /// In the order of Debezium's map, whose keys are in the order of Java's hashes.
    fn in_order(&self, connector: &str) -> Vec<(&'static str, String)> {
        let mut all = vec![("connector_name", connector.to_owned())];
        all.extend(self.data.iter().cloned());
        all.sort_by_key(|(name, _)| bucket(name));
        all
    }

    /// As the log channel shows it.
    pub fn line(&self, connector: &str) -> String {
        let data = self.in_order(connector).into_iter().map(|(name, value)| format!("{name}={value}"));
        format!(
            "[Notification Service] Notification{{id='{}', aggregateType='{}', type='{}', additionalData={{{}}}, timestamp={}}}",
            self.id,
            self.aggregate,
            self.kind,
            data.collect::<Vec<_>>().join(", "),
            self.time_ms
        )
    }
}

/// Where a key stands in a small `HashMap` of Java's.
fn bucket(name: &str) -> u32 {
    let hash = name.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    (hash ^ (hash >> 16)) & 15
}

/// The value of one.
pub(super) struct Told<'a>(pub(super) &'a Notification, pub(super) &'a str);

impl WriteWith<()> for Told<'_> {
    fn call<O: Out>(self, out: &mut O) {
        let Told(told, connector) = self;
        out.begin_struct();
        for (at, (label, text)) in
            [("id", told.id.as_str()), ("type", told.kind), ("aggregate_type", told.aggregate)]
                .iter()
                .enumerate()
        {
            out.field(&super::out::label(label), at);
            out.text(text);
        }
        out.field(b"\"additional_data\":", 3);
        out.some(Nullness::Optional);
        let data = told.in_order(connector);
        out.begin_map(data.len());
        for (at, (name, value)) in data.iter().enumerate() {
            out.map_key(name, at);
            out.text(value);
        }
        out.end_map(data.len());
        out.field(b"\"timestamp\":", 4);
        out.integer(told.time_ms);
        out.end_struct();
    }
}

/// Schemas of key and value.
pub(super) fn schemas(common: &str) -> (Schema, Schema) {
    let text = || Schema::of(Type::String);
    let data = Schema::of(Type::Map(Box::new(text()), Box::new(text())));
    let value = vec![
        ("id", text()),
        ("type", text()),
        ("aggregate_type", text()),
        ("additional_data", data.optional()),
        ("timestamp", Schema::of(Type::Int64)),
    ];
    (
        Schema::structure(vec![("id", text())]).named(format!("{common}.NotificationKey")),
        Schema::structure(value).named(format!("{common}.Notification")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_java() {
        let told = Notification {
            id: "1".into(),
            aggregate: "Initial Snapshot",
            kind: "TABLE_SCAN_COMPLETED",
            data: ["total_rows_scanned", "status", "data_collections", "scanned_collection"]
                .map(|name| (name, "x".to_owned()))
                .into(),
            time_ms: 7,
        };
        let names: Vec<_> = told.in_order("app").into_iter().map(|(name, _)| name).collect();
        let theirs =
            ["scanned_collection", "connector_name", "total_rows_scanned", "status", "data_collections"];
        assert_eq!(names, theirs);
        assert!(told.line("app").contains("additionalData={scanned_collection=x, connector_name=app, "));
    }
}
