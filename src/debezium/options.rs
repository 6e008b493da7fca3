//! What an operator may choose about the form of events. Names and values are Debezium's, with `_` for `.`.

use crate::event::Op;
use crate::schema::TableName;
use regex::Regex;
use std::time::Duration;

/// Which connector's events are written: consumers switch on `source.connector`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Connector {
    /// `postgresql`.
    #[default]
    Postgresql,
    /// `mysql`.
    Mysql,
    /// `mariadb`.
    Mariadb,
}

impl Connector {
    /// As in `source.connector` and in schema names.
    pub fn as_str(self) -> &'static str {
        match self {
            Connector::Postgresql => "postgresql",
            Connector::Mysql => "mysql",
            Connector::Mariadb => "mariadb",
        }
    }
}

/// An enum whose values are spelled as in Debezium's documentation.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All values, the default first.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// As in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value of that name.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

choices! {
    /// The form of a record's value.
    Style {
        /// Debezium's envelope: before, after, source, op.
        #[default]
        Debezium = "debezium",
        /// The row alone, as Debezium's `ExtractNewRecordState` writes it.
        Flat = "flat",
        /// Envelope and values for people: plain decimals, ISO times, ISO text.
        Native = "native",
    }
}

choices! {
    /// `decimal.handling.mode`.
    DecimalMode {
        /// Connect's `Decimal`: bytes of an unscaled number.
        #[default]
        Precise = "precise",
        /// The nearest double.
        Double = "double",
        /// Plain text.
        String = "string",
    }
}

choices! {
    /// How Connect's `Decimal` stands in JSON (the converter's `decimal.format`).
    DecimalFormat {
        /// Base64 of the unscaled number's bytes.
        #[default]
        Base64 = "base64",
        /// A JSON number.
        Numeric = "numeric",
    }
}

choices! {
    /// `time.precision.mode`.
    TimeMode {
        /// Milliseconds or microseconds, by the column's precision.
        #[default]
        Adaptive = "adaptive",
        /// The same, with times of day in microseconds.
        AdaptiveTimeMicroseconds = "adaptive_time_microseconds",
        /// Connect's own types: milliseconds.
        Connect = "connect",
        /// ISO 8601 text.
        IsoString = "isostring",
        /// Microseconds.
        Microseconds = "microseconds",
        /// Nanoseconds.
        Nanoseconds = "nanoseconds",
    }
}

choices! {
    /// `binary.handling.mode`.
    BinaryMode {
        /// Bytes.
        #[default]
        Bytes = "bytes",
        /// Base64 text.
        Base64 = "base64",
        /// Base64 text of the alphabet for addresses.
        Base64UrlSafe = "base64-url-safe",
        /// Hexadecimal digits.
        Hex = "hex",
    }
}

choices! {
    /// `interval.handling.mode`.
    IntervalMode {
        /// Microseconds, a month being a twelfth of 365.25 days.
        #[default]
        Numeric = "numeric",
        /// `P1Y2M3DT4H5M6.78S`.
        String = "string",
    }
}

choices! {
    /// `hstore.handling.mode`.
    HstoreMode {
        /// JSON text.
        #[default]
        Json = "json",
        /// A map.
        Map = "map",
    }
}

choices! {
    /// `schema.name.adjustment.mode` and `field.name.adjustment.mode`.
    Adjustment {
        /// Names as they are.
        #[default]
        None = "none",
        /// Other characters than Avro's become `_`.
        Avro = "avro",
        /// Other characters than Avro's become `_uXXXX`.
        AvroUnicode = "avro_unicode",
    }
}

choices! {
    /// `bigint.unsigned.handling.mode`.
    BigintUnsignedMode {
        /// A signed number, which may wrap.
        #[default]
        Long = "long",
        /// Connect's `Decimal`.
        Precise = "precise",
    }
}

choices! {
    /// `delete.tombstone.handling.mode` of the row alone.
    FlatDeletes {
        /// A delete becomes its tombstone.
        #[default]
        Tombstone = "tombstone",
        /// No record at all.
        Drop = "drop",
        /// The old row, with `__deleted`.
        Rewrite = "rewrite",
        /// The old row, with `__deleted`, and a tombstone.
        RewriteWithTombstone = "rewrite-with-tombstone",
        /// The tombstone only, not the delete.
        DeleteToTombstone = "delete-to-tombstone",
    }
}

/// How bytes are made of keys and values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// JSON; `schemas`: with Connect's schema around the payload.
    #[default]
    Json,
    /// JSON with Connect's schema around the payload.
    JsonWithSchema,
    /// Avro, framed for a Confluent-compatible Schema Registry.
    Avro,
}

/// A rule that gives topics other names, as Kafka Connect's `RegexRouter`: the whole name must match.
#[derive(Clone, Debug)]
pub struct Route {
    /// What a topic's whole name must match.
    pub regex: Regex,
    /// The new name; `$1` and `${name}` stand for groups.
    pub replacement: String,
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.replacement == other.replacement
    }
}

impl Eq for Route {}

impl Route {
    /// Compiles a rule.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(regex: &str, replacement: &str) -> Result<Self, String> {
        let regex = Regex::new(&format!("^(?:{regex})$")).map_err(|error| error.to_string())?;
        // `$3-cdc`: a group's number ends at the first character that is no digit, as in Java.
        let numbers = Regex::new(r"\$(\d+)").map_err(|error| error.to_string())?;
        let replacement = numbers.replace_all(replacement, "$${$1}").into_owned();
        Ok(Route { regex, replacement })
    }
}

/// Key columns that replace a table's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyColumns {
    /// The table.
    pub table: TableName,
    /// Its columns.
    pub columns: Vec<String>,
}

/// What becomes of a table's columns in its events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnRules {
    /// The table.
    pub table: TableName,
    /// These alone; `None`: all.
    pub include: Option<Vec<String>>,
    /// Without these.
    pub exclude: Vec<String>,
    /// Text that is shown as something else.
    pub disguises: Vec<(String, Disguise)>,
}

/// What stands for a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disguise {
    /// So many asterisks, also for null: `column.mask.with.N.chars`.
    Stars(usize),
    /// Its first characters: `column.truncate.to.N.chars`.
    Cut(usize),
    /// Its SHA-256, in hexadecimal digits.
    Hash,
    /// The SHA-256 of this salt and the text, as many digits as the column has room for: `column.mask.hash.v2.SHA-256.with.salt.SALT`.
    Salted(String, usize),
}

/// Everything that may be chosen. The default is Debezium's, but for `replace_null_with_default`, which would make a
/// default of every null, and `include_schema_changes`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The form of values.
    pub style: Style,
    /// How bytes are made of them.
    pub encoding: Encoding,
    /// Whose events.
    pub connector: Connector,
    /// `source.version`.
    pub version: String,
    /// `topic.prefix`.
    pub topic_prefix: String,
    /// The source's database, for `source.db`.
    pub database: String,
    /// `topic.delimiter`.
    pub topic_delimiter: String,
    /// New names of topics; the first that matches.
    pub routes: Vec<Route>,
    /// `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// The converter's `decimal.format`.
    pub decimal_format: DecimalFormat,
    /// `time.precision.mode`.
    pub time: TimeMode,
    /// `binary.handling.mode`.
    pub binary: BinaryMode,
    /// `interval.handling.mode`.
    pub interval: IntervalMode,
    /// `hstore.handling.mode`.
    pub hstore: HstoreMode,
    /// `bigint.unsigned.handling.mode`.
    pub bigint_unsigned: BigintUnsignedMode,
    /// `money.fraction.digits`.
    pub money_fraction_digits: u8,
    /// `include.unknown.datatypes`: columns that Debezium does not know come as bytes of their text.
    pub include_unknown_datatypes: bool,
    /// `unavailable.value.placeholder`.
    pub unavailable_value_placeholder: String,
    /// The converter's `replace.null.with.default`: a null in a column that has a default becomes that default.
    pub replace_null_with_default: bool,
    /// `schema.name.adjustment.mode`.
    pub schema_name_adjustment: Adjustment,
    /// `field.name.adjustment.mode`.
    pub field_name_adjustment: Adjustment,
    /// `tombstones.on.delete`.
    pub tombstones_on_delete: bool,
    /// `skipped.operations`.
    pub skipped_operations: Vec<Op>,
    /// `message.key.columns`.
    pub message_key_columns: Vec<KeyColumns>,
    /// `column.include.list` and its kin.
    pub columns: Vec<ColumnRules>,
    /// `skip.messages.without.change`: updates of nothing that events show, where the log has the old row.
    pub skip_unchanged: bool,
    /// `provide.transaction.metadata`.
    pub provide_transaction_metadata: bool,
    /// `topic.transaction`.
    pub transaction_topic: String,
    /// `heartbeat.interval.ms`; zero: no heartbeats.
    pub heartbeat_interval: Duration,
    /// `topic.heartbeat.prefix`.
    pub heartbeat_topic_prefix: String,
    /// `include.query`, of MySQL and MariaDB.
    pub include_query: bool,
    /// The converter `TinyIntOneToBooleanConverter`: `tinyint(1)` is a boolean.
    pub tinyint_one_as_boolean: bool,
    /// `notification.sink.topic.name`; `None`: the sink channel is off.
    pub notification_topic: Option<String>,
    /// The log channel is on.
    pub log_notifications: bool,
    /// `include.schema.changes`, of MySQL and MariaDB. Off unless asked for.
    pub include_schema_changes: bool,
    /// `extended.headers.enabled`.
    pub extended_headers: bool,
    /// The run, for the headers: a UUID of the process.
    pub run_id: String,
    /// `delete.tombstone.handling.mode` of the row alone.
    pub flat_deletes: FlatDeletes,
    /// `add.fields` of the row alone: `op`, `table`, `source.ts_ms` …
    pub flat_fields: Vec<String>,
    /// `add.headers` of the row alone.
    pub flat_headers: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            style: Style::Debezium,
            encoding: Encoding::Json,
            connector: Connector::Postgresql,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            topic_prefix: "app".to_owned(),
            database: String::new(),
            topic_delimiter: ".".to_owned(),
            routes: Vec::new(),
            decimal: DecimalMode::Precise,
            decimal_format: DecimalFormat::Base64,
            time: TimeMode::Adaptive,
            binary: BinaryMode::Bytes,
            interval: IntervalMode::Numeric,
            hstore: HstoreMode::Json,
            bigint_unsigned: BigintUnsignedMode::Long,
            money_fraction_digits: 2,
            include_unknown_datatypes: false,
            unavailable_value_placeholder: "__debezium_unavailable_value".to_owned(),
            replace_null_with_default: false,
            schema_name_adjustment: Adjustment::None,
            field_name_adjustment: Adjustment::None,
            tombstones_on_delete: true,
            skipped_operations: vec![Op::Truncate],
            message_key_columns: Vec::new(),
            columns: Vec::new(),
            skip_unchanged: false,
            provide_transaction_metadata: false,
            transaction_topic: "transaction".to_owned(),
            heartbeat_interval: Duration::ZERO,
            include_query: false,
            tinyint_one_as_boolean: false,
            notification_topic: None,
            log_notifications: false,
            heartbeat_topic_prefix: "__debezium-heartbeat".to_owned(),
            include_schema_changes: false,
            extended_headers: true,
            run_id: String::new(),
            flat_deletes: FlatDeletes::Tombstone,
            flat_fields: Vec::new(),
            flat_headers: Vec::new(),
        }
    }
}
