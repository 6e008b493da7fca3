//! Kafka Connect schemas, as the JSON converter shows them.

use super::json;

/// A schema.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Schema {
    pub(super) ty: Type,
    pub(super) optional: bool,
    pub(super) name: Option<String>,
    pub(super) version: Option<u32>,
    pub(super) doc: Option<&'static str>,
    pub(super) parameters: Vec<(String, String)>,
    /// The default's JSON.
    pub(super) default: Option<Vec<u8>>,
}

/// What a schema is made of.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Type {
    Int16,
    Int32,
    Int64,
    Float,
    Double,
    Boolean,
    String,
    Bytes,
    Array(Box<Schema>),
    Map(Box<Schema>, Box<Schema>),
    Struct(Vec<(String, Schema)>),
}

impl Type {
    fn name(&self) -> &'static str {
        match self {
            Type::Int16 => "int16",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Float => "float",
            Type::Double => "double",
            Type::Boolean => "boolean",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Array(_) => "array",
            Type::Map(..) => "map",
            Type::Struct(_) => "struct",
        }
    }
}

impl Schema {
    /// Required, without a name.
    pub(super) fn of(ty: Type) -> Self {
        Schema {
            ty,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
        }
    }

    pub(super) fn structure(fields: Vec<(&str, Schema)>) -> Self {
        Schema::of(Type::Struct(fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()))
    }

    pub(super) fn array(items: Schema) -> Self {
        Schema::of(Type::Array(Box::new(items)))
    }

    #[must_use]
    pub(super) fn optional(self) -> Self {
        Schema { optional: true, ..self }
    }

    #[must_use]
    pub(super) fn nullable(self, optional: bool) -> Self {
        Schema { optional, ..self }
    }

    /// A name and version 1.
    #[must_use]
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Schema { name: Some(name.into()), version: Some(1), ..self }
    }

    /// A name without a version.
    #[must_use]
    pub(super) fn unversioned(self, name: impl Into<String>) -> Self {
        Schema { name: Some(name.into()), version: None, ..self }
    }

    #[must_use]
    pub(super) fn version(self, version: u32) -> Self {
        Schema { version: Some(version), ..self }
    }

    #[must_use]
    pub(super) fn doc(self, doc: &'static str) -> Self {
        Schema { doc: Some(doc), ..self }
    }

    #[must_use]
    pub(super) fn parameter(mut self, name: &str, value: impl Into<String>) -> Self {
        self.parameters.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub(super) fn default(self, json: Vec<u8>) -> Self {
        Schema { default: Some(json), ..self }
    }

    /// As the converter prints it; `field`: its name within a struct.
    pub(super) fn write(&self, field: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":");
        json::string(self.ty.name(), out);
        match &self.ty {
            Type::Array(items) => {
                out.extend_from_slice(b",\"items\":");
                items.write(None, out);
            }
            Type::Map(keys, values) => {
                out.extend_from_slice(b",\"keys\":");
                keys.write(None, out);
                out.extend_from_slice(b",\"values\":");
                values.write(None, out);
            }
            Type::Struct(fields) => {
                out.extend_from_slice(b",\"fields\":[");
                for (at, (name, schema)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    schema.write(Some(name), out);
                }
                out.push(b']');
            }
            _ => {}
        }
        out.extend_from_slice(if self.optional { b",\"optional\":true" } else { b",\"optional\":false" });
        self.write_attributes(out);
        if let Some(field) = field {
            out.extend_from_slice(b",\"field\":");
            json::string(field, out);
        }
        out.push(b'}');
    }

    fn write_attributes(&self, out: &mut Vec<u8>) {
        if let Some(name) = &self.name {
            out.extend_from_slice(b",\"name\":");
            json::string(name, out);
        }
        if let Some(version) = self.version {
            out.extend_from_slice(b",\"version\":");
            json::integer(version.into(), out);
        }
        if let Some(doc) = self.doc {
            out.extend_from_slice(b",\"doc\":");
            json::string(doc, out);
        }
        if !self.parameters.is_empty() {
            out.extend_from_slice(b",\"parameters\":{");
            for (at, (name, value)) in self.parameters.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json::string(name, out);
                out.push(b':');
                json::string(value, out);
            }
            out.push(b'}');
        }
        if let Some(default) = &self.default {
            out.extend_from_slice(b",\"default\":");
            out.extend_from_slice(default);
        }
    }
}

/// Names of logical types.
pub(super) mod names {
    pub(in crate::debezium) const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
    pub(in crate::debezium) const CONNECT_DATE: &str = "org.apache.kafka.connect.data.Date";
    pub(in crate::debezium) const CONNECT_TIME: &str = "org.apache.kafka.connect.data.Time";
    pub(in crate::debezium) const CONNECT_TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";
    pub(in crate::debezium) const ENUM: &str = "io.debezium.data.Enum";
}
