//! Connect schemas as Avro schemas, as Confluent's `AvroData` writes them.

use super::connect::{Schema, Type};
use super::json;

/// Names that were written once: a second time the name alone stands for the type.
type Known = Vec<String>;

/// The schema's text, to be registered.
pub(super) fn render(schema: &Schema) -> String {
    let mut out = Vec::new();
    write(schema, None, &mut Known::new(), &mut out);
    // Built of valid text only.
    String::from_utf8_lossy(&out).into_owned()
}

/// A type that may be null is a union. The default's type comes first.
fn write(schema: &Schema, path: Option<&str>, known: &mut Known, out: &mut Vec<u8>) {
    if !schema.optional {
        return bare(schema, path, known, out);
    }
    out.push(b'[');
    if schema.default.is_none() {
        out.extend_from_slice(b"\"null\",");
    }
    bare(schema, path, known, out);
    if schema.default.is_some() {
        out.extend_from_slice(b",\"null\"");
    }
    out.push(b']');
}

fn bare(schema: &Schema, path: Option<&str>, known: &mut Known, out: &mut Vec<u8>) {
    match &schema.ty {
        Type::Struct(fields) => record(schema, fields, path, known, out),
        Type::Array(items) => {
            out.extend_from_slice(b"{\"type\":\"array\",\"items\":");
            write(items, path, known, out);
            attributes(schema, out);
            out.push(b'}');
        }
        Type::Map(keys, values) if keys.ty == Type::String => {
            out.extend_from_slice(b"{\"type\":\"map\",\"values\":");
            write(values, path, known, out);
            attributes(schema, out);
            out.push(b'}');
        }
        Type::Map(keys, values) => {
            out.extend_from_slice(b"{\"type\":\"array\",\"items\":");
            let entry = vec![("key".to_owned(), (**keys).clone()), ("value".to_owned(), (**values).clone())];
            let entry = Schema::of(Type::Struct(entry)).unversioned("io.confluent.connect.avro.MapEntry");
            write(&entry, path, known, out);
            attributes(schema, out);
            out.push(b'}');
        }
        simple => {
            let (name, connect) = primitive(simple);
            if schema.name.is_none() && connect.is_none() && schema.default.is_none() {
                return json::string(name, out);
            }
            out.extend_from_slice(b"{\"type\":");
            json::string(name, out);
            if let Some(connect) = connect {
                out.extend_from_slice(b",\"connect.type\":");
                json::string(connect, out);
            }
            attributes(schema, out);
            out.push(b'}');
        }
    }
}

/// Avro's name, and Connect's where Avro has no such width.
fn primitive(ty: &Type) -> (&'static str, Option<&'static str>) {
    match ty {
        Type::Int16 => ("int", Some("int16")),
        Type::Int32 => ("int", None),
        Type::Int64 => ("long", None),
        Type::Float => ("float", None),
        Type::Double => ("double", None),
        Type::Boolean => ("boolean", None),
        Type::Bytes => ("bytes", None),
        _ => ("string", None),
    }
}

fn record(
    schema: &Schema,
    fields: &[(String, Schema)],
    path: Option<&str>,
    known: &mut Known,
    out: &mut Vec<u8>,
) {
    let fallback = path.unwrap_or("io.confluent.connect.avro.ConnectDefault");
    let full = schema.name.as_deref().unwrap_or(fallback);
    if known.iter().any(|name| name == full) {
        return json::string(full, out);
    }
    known.push(full.to_owned());
    out.extend_from_slice(b"{\"type\":\"record\",\"name\":");
    match full.rsplit_once('.') {
        Some((namespace, name)) => {
            json::string(name, out);
            out.extend_from_slice(b",\"namespace\":");
            json::string(namespace, out);
        }
        None => json::string(full, out),
    }
    if let Some(doc) = schema.doc {
        out.extend_from_slice(b",\"doc\":");
        json::string(doc, out);
    }
    out.extend_from_slice(b",\"fields\":[");
    for (at, (name, field)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        json::string(name, out);
        out.extend_from_slice(b",\"type\":");
        write(field, Some(&format!("{full}.{name}")), known, out);
        match &field.default {
            Some(default) => {
                out.extend_from_slice(b",\"default\":");
                avro_default(field, default, out);
            }
            None if field.optional => out.extend_from_slice(b",\"default\":null"),
            None => {}
        }
        out.push(b'}');
    }
    out.push(b']');
    attributes(schema, out);
    out.push(b'}');
}

/// Avro writes the bytes of a default as characters, not in base64.
fn avro_default(field: &Schema, default: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    if field.ty != Type::Bytes {
        return out.extend_from_slice(default);
    }
    let coded = default.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded).unwrap_or_default();
    out.push(b'"');
    for byte in bytes {
        out.extend_from_slice(format!("\\u{byte:04X}").as_bytes());
    }
    out.push(b'"');
}

/// What Connect knows and Avro does not.
fn attributes(schema: &Schema, out: &mut Vec<u8>) {
    if let Some(version) = schema.version {
        out.extend_from_slice(b",\"connect.version\":");
        json::integer(version.into(), out);
    }
    if !schema.parameters.is_empty() {
        out.extend_from_slice(b",\"connect.parameters\":{");
        for (at, (name, value)) in schema.parameters.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::string(name, out);
            out.push(b':');
            json::string(value, out);
        }
        out.push(b'}');
    }
    if let Some(default) = &schema.default {
        out.extend_from_slice(b",\"connect.default\":");
        avro_default(schema, default, out);
    }
    if let Some(name) = &schema.name {
        out.extend_from_slice(b",\"connect.name\":");
        json::string(name, out);
    }
    logical(schema, out);
}

/// Avro's own logical types, where Connect's are the same.
fn logical(schema: &Schema, out: &mut Vec<u8>) {
    use super::connect::names;
    let parameter = |wanted: &str| {
        schema.parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let name = match schema.name.as_deref() {
        Some(names::DECIMAL) => {
            let precision = parameter("connect.decimal.precision").unwrap_or("64");
            let scale = parameter("scale").unwrap_or("0");
            let text = format!(",\"scale\":{scale},\"precision\":{precision},\"logicalType\":\"decimal\"");
            return out.extend_from_slice(text.as_bytes());
        }
        Some(names::CONNECT_DATE) => "date",
        Some(names::CONNECT_TIME) => "time-millis",
        Some(names::CONNECT_TIMESTAMP) => "timestamp-millis",
        _ => return,
    };
    out.extend_from_slice(b",\"logicalType\":");
    json::string(name, out);
}
