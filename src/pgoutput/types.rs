//! From a source type to the kind that its values travel as: the types that Delta has too.
//!
//! Built-in types are known by oid: their names can be shadowed, their oids cannot. `None` means that the type
//! is not of this kind: [`super::TypeCatalog`] knows the others.

use crate::schema::ColumnKind;

/// What `pg_type` says of a type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypeInfo {
    /// `typname`.
    pub name: String,
    /// `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `p` pseudo, `r` range, `m` multirange.
    ///
    /// A domain's values travel as its base type's, in both forms: give [`resolve`] the base type's oid,
    /// modifier and info (`typbasetype`, `typtypmod`, followed to the end). A domain itself is refused.
    pub typtype: char,
    /// `typcategory`: `S` string, `N` number, `A` array, …
    pub category: char,
}

/// What to do with a `numeric` column that has no precision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NumericUnbounded {
    /// Text in the source's spelling: nothing is lost.
    #[default]
    Text,
    /// A decimal; a value that does not fit exactly stops the table.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// A double, the nearest; a value beyond its range stops the table.
    Double,
    /// Text, and so is every `numeric` that has a precision: for formats that have `NaN`.
    AllText,
}

/// What to do with `infinity` and `-infinity` in dates and timestamps, which Delta cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Infinity {
    /// Stop the table.
    #[default]
    Stop,
    /// Write null.
    Null,
    /// Keep the type's greatest or least value in its place: for formats that have infinities of their own.
    Keep,
}

/// What to do with a column of a type that we do not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnknownTypes {
    /// Refuse its table.
    #[default]
    Stop,
    /// Take the server's text form.
    Text,
}

/// Choices of the operator about values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policies {
    /// For `numeric` without precision.
    pub numeric_unbounded: NumericUnbounded,
    /// For infinite dates and timestamps.
    pub infinity: Infinity,
    /// For types that we do not know.
    pub unknown_types: UnknownTypes,
}

/// Oids of the built-in types that we know (`src/include/catalog/pg_type.dat`; they never change).
pub mod oid {
    #![expect(missing_docs, reason = "each constant is named like its type")]
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT2VECTOR: u32 = 22;
    pub const INT4: u32 = 23;
    pub const REGPROC: u32 = 24;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const TID: u32 = 27;
    pub const XID: u32 = 28;
    pub const CID: u32 = 29;
    pub const OIDVECTOR: u32 = 30;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const POINT: u32 = 600;
    pub const LSEG: u32 = 601;
    pub const PATH: u32 = 602;
    pub const BOX: u32 = 603;
    pub const POLYGON: u32 = 604;
    pub const LINE: u32 = 628;
    pub const CIDR: u32 = 650;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const CIRCLE: u32 = 718;
    pub const MACADDR8: u32 = 774;
    pub const MONEY: u32 = 790;
    pub const MACADDR: u32 = 829;
    pub const INET: u32 = 869;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const TIMETZ: u32 = 1266;
    pub const BIT: u32 = 1560;
    pub const VARBIT: u32 = 1562;
    pub const NUMERIC: u32 = 1700;
    pub const REFCURSOR: u32 = 1790;
    pub const REGPROCEDURE: u32 = 2202;
    pub const REGOPER: u32 = 2203;
    pub const REGOPERATOR: u32 = 2204;
    pub const REGCLASS: u32 = 2205;
    pub const REGTYPE: u32 = 2206;
    pub const UUID: u32 = 2950;
    pub const TXID_SNAPSHOT: u32 = 2970;
    pub const PG_LSN: u32 = 3220;
    pub const TSVECTOR: u32 = 3614;
    pub const TSQUERY: u32 = 3615;
    pub const REGCONFIG: u32 = 3734;
    pub const REGDICTIONARY: u32 = 3769;
    pub const JSONB: u32 = 3802;
    pub const JSONPATH: u32 = 4072;
    pub const REGNAMESPACE: u32 = 4089;
    pub const REGROLE: u32 = 4096;
    pub const REGCOLLATION: u32 = 4191;
    pub const PG_SNAPSHOT: u32 = 5038;
    pub const XID8: u32 = 5069;
}

/// Bytes that every type modifier with a length counts too (`VARHDRSZ`).
const HEADER: i32 = 4;

/// The kind of a column, `None` when Delta has no such type.
pub fn resolve(type_oid: u32, typmod: i32, info: &TypeInfo, policies: &Policies) -> Option<ColumnKind> {
    let kind = match type_oid {
        oid::BOOL => ColumnKind::Bool,
        oid::BYTEA => ColumnKind::Bytea,
        oid::INT2 => ColumnKind::Int2,
        oid::INT4 => ColumnKind::Int4,
        oid::INT8 => ColumnKind::Int8,
        oid::FLOAT4 => ColumnKind::Float4,
        oid::FLOAT8 => ColumnKind::Float8,
        oid::TEXT | oid::VARCHAR | oid::NAME => ColumnKind::Text,
        oid::BPCHAR => ColumnKind::Bpchar,
        oid::JSON => ColumnKind::Json,
        oid::JSONB => ColumnKind::Jsonb,
        oid::UUID => ColumnKind::Uuid,
        oid::DATE => ColumnKind::Date,
        oid::TIME => ColumnKind::Time,
        oid::TIMESTAMP => ColumnKind::Timestamp,
        oid::TIMESTAMPTZ => ColumnKind::TimestampTz,
        oid::NUMERIC => numeric_kind(typmod, policies),
        _ if info.typtype == 'e' => ColumnKind::Text,
        _ => return None,
    };
    Some(kind)
}

/// Precision and scale of a `numeric`'s type modifier. `None`: it has none. The scale has eleven bits and a
/// sign since PostgreSQL 15; before that it is 0 to 1000, which reads the same.
fn numeric_typmod(typmod: i32) -> Option<(i32, i32)> {
    if typmod < HEADER {
        return None;
    }
    let packed = typmod - HEADER;
    Some(((packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024))
}

fn numeric_kind(typmod: i32, policies: &Policies) -> ColumnKind {
    if policies.numeric_unbounded == NumericUnbounded::AllText {
        return ColumnKind::NumericText;
    }
    let Some((precision, scale)) = numeric_typmod(typmod) else {
        return match policies.numeric_unbounded {
            NumericUnbounded::Text | NumericUnbounded::AllText => ColumnKind::NumericText,
            NumericUnbounded::Double => ColumnKind::NumericDouble,
            NumericUnbounded::Decimal { precision, scale } => decimal(precision.into(), scale.into()),
        };
    };
    // A negative scale rounds to the left of the point: numeric(2,-3) holds 99000. A scale beyond the
    // precision leaves zeros after the point: numeric(3,5) holds 0.00999. Delta has neither.
    if scale < 0 { decimal(precision - scale, 0) } else { decimal(precision.max(scale), scale) }
}

/// A decimal if Delta can hold it, else text.
fn decimal(precision: i32, scale: i32) -> ColumnKind {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale @ 0..)) if scale.cast_unsigned() <= precision => {
            ColumnKind::Decimal { precision, scale }
        }
        _ => ColumnKind::NumericText,
    }
}

/// The type for people: `numeric(12,2)`, `varchar(20)`, `timestamptz(3)`.
pub fn type_name(type_oid: u32, typmod: i32, info: &TypeInfo) -> String {
    let modifier = match type_oid {
        oid::NUMERIC => numeric_typmod(typmod).map(|(precision, scale)| format!("{precision},{scale}")),
        oid::VARCHAR | oid::BPCHAR if typmod >= HEADER => Some((typmod - HEADER).to_string()),
        oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ if typmod >= 0 => Some(typmod.to_string()),
        _ => None,
    };
    match modifier {
        Some(modifier) => format!("{}({modifier})", info.name),
        None => info.name.clone(),
    }
}
