//! What the catalogue says of a database's types, and what each becomes.
//!
//! Built-in types are known by oid. A type of an extension is known by the extension and its name: its oid is
//! another in every database, and after every restore. Everything else is known by what it is made of. What
//! remains is *unknown*: its table is refused, or its values travel as the server's text, as the operator
//! chooses ([`UnknownTypes`]).

use super::types::{Policies, TypeInfo, UnknownTypes, oid, resolve};
use crate::schema::{ColumnKind, DeclaredType, Scalar, Shape, ShapeField};
use std::collections::HashMap;
use std::sync::Arc;

/// Types nest finitely; the bound is against a damaged catalogue.
const MAX_DEPTH: usize = 32;
/// Digits of fraction in the text form of `money`, as we have it written.
const MONEY_TEXT_SCALE: u8 = 2;
/// From this version on the extreme intervals are infinities.
const INFINITE_INTERVALS: u32 = 17;

/// One type, as `pg_type` and its companions have it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CatalogType {
    /// Name and kind.
    pub info: TypeInfo,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// Of a domain: the type below, or zero.
    pub base: u32,
    /// Of a domain: the modifier of the type below.
    pub modifier: i32,
    /// Of an array: its elements' type, or zero.
    pub element: u32,
    /// What separates it from its neighbours in an array.
    pub delimiter: u8,
    /// Of a range: what it ranges over. Of a multirange: its range. Or zero.
    pub subtype: u32,
    /// Of a composite type: its fields' types, dropped fields left out.
    pub fields: Vec<u32>,
    /// Of an enumeration: its labels in their order.
    pub labels: Vec<String>,
    /// It has a binary form.
    pub has_send: bool,
}

/// The types that columns have, and those that they are made of.
#[derive(Clone, Debug, Default)]
pub struct TypeCatalog {
    types: HashMap<u32, CatalogType>,
    /// The server's major version.
    major: u32,
    /// Digits of fraction of the database's currency; unknown until somebody asked.
    money_scale: Option<u8>,
}

impl TypeCatalog {
    /// Of a server of this major version.
    pub fn new(major: u32) -> Self {
        TypeCatalog { major, ..TypeCatalog::default() }
    }

    /// Adds a type.
    pub fn insert(&mut self, oid: u32, found: CatalogType) {
        self.types.insert(oid, found);
    }

    /// What is known of a type.
    pub fn get(&self, oid: u32) -> Option<&CatalogType> {
        self.types.get(&oid)
    }

    /// Whether [`TypeCatalog::set_money_scale`] is of use.
    pub fn has_money(&self) -> bool {
        self.types.contains_key(&oid::MONEY)
    }

    /// Digits of fraction of the database's currency. Without it `money` is not supported.
    pub fn set_money_scale(&mut self, digits: u8) {
        self.money_scale = Some(digits);
    }

    /// What a column becomes; `None` when its type is unknown and the operator has not chosen text.
    pub fn kind(&self, type_oid: u32, modifier: i32, policies: &Policies) -> Option<ColumnKind> {
        let known = self
            .base(type_oid, modifier)
            .and_then(|(oid, modifier, found)| self.known(oid, modifier, found, policies));
        match policies.unknown_types {
            // Its text would show another amount.
            UnknownTypes::Text
                if known.is_none() && self.any_part(type_oid, 0, &|part, _| part == oid::MONEY) =>
            {
                None
            }
            UnknownTypes::Text => Some(known.unwrap_or(ColumnKind::Unknown)),
            UnknownTypes::Stop => known,
        }
    }

    /// The type below all domains, for formats that show it.
    pub fn declared(&self, type_oid: u32, modifier: i32) -> DeclaredType {
        self.declared_at(type_oid, modifier, 0)
    }

    fn declared_at(&self, type_oid: u32, modifier: i32, depth: usize) -> DeclaredType {
        let Some((oid, modifier, found)) = self.base(type_oid, modifier).filter(|_| depth < MAX_DEPTH) else {
            return DeclaredType { oid: type_oid, modifier, ..DeclaredType::default() };
        };
        let is_enum = found.info.typtype == 'e';
        let has_element = found.element != 0 && found.info.typtype == 'b';
        DeclaredType {
            oid,
            modifier,
            name: found.info.name.clone(),
            extension: found.extension.clone(),
            labels: is_enum.then(|| found.labels.clone().into()),
            element: has_element.then(|| Box::new(self.declared_at(found.element, modifier, depth + 1))),
        }
    }

    fn known(
        &self,
        type_oid: u32,
        modifier: i32,
        found: &CatalogType,
        policies: &Policies,
    ) -> Option<ColumnKind> {
        if let Some(kind) = resolve(type_oid, modifier, &found.info, policies) {
            return Some(kind);
        }
        if is_name_of_object(type_oid) {
            // Its binary form is a number, its text form a name that may be another tomorrow.
            let by_number = policies.unknown_types == UnknownTypes::Stop;
            return by_number.then_some(ColumnKind::Unsigned4);
        }
        match type_oid {
            oid::OID | oid::XID | oid::CID => return Some(ColumnKind::Unsigned4),
            oid::XID8 => return Some(ColumnKind::Unsigned8),
            oid::MONEY => return self.money_scale.map(|scale| ColumnKind::Money { scale }),
            _ => {}
        }
        match self.shape(type_oid, 0)? {
            Shape::Scalar(Scalar::Ewkb) => Some(ColumnKind::Ewkb),
            Shape::Scalar(Scalar::Text) => Some(ColumnKind::Text),
            shape => Some(ColumnKind::Rendered(shape)),
        }
    }

    /// Follows domains to the type that their values have on the wire.
    fn base(&self, mut oid: u32, mut modifier: i32) -> Option<(u32, i32, &CatalogType)> {
        for _ in 0..MAX_DEPTH {
            let found = self.types.get(&oid)?;
            if found.info.typtype != 'd' {
                return Some((oid, modifier, found));
            }
            (oid, modifier) = (found.base, found.modifier);
        }
        None
    }

    /// How a value is built.
    fn shape(&self, type_oid: u32, depth: usize) -> Option<Shape> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (type_oid, _, found) = self.base(type_oid, -1)?;
        if let Some(scalar) = self.builtin(type_oid).or_else(|| of_extension(found)) {
            return Some(Shape::Scalar(scalar));
        }
        let part = |oid: u32| self.shape(oid, depth + 1);
        match (type_oid, found.info.typtype) {
            (oid::INT2VECTOR, _) => Some(Shape::Blanks(Scalar::Int2)),
            (oid::OIDVECTOR, _) => Some(Shape::Blanks(Scalar::Unsigned4)),
            (_, 'e') => Some(Shape::Scalar(Scalar::Text)),
            (_, 'r') => Some(Shape::Range(Arc::new(part(found.subtype)?))),
            (_, 'm') => {
                let range = self.types.get(&found.subtype)?;
                Some(Shape::Multirange(Arc::new(part(range.subtype)?)))
            }
            (_, 'c') => {
                let field = |&oid| Some(ShapeField { oid, shape: part(oid)? });
                Some(Shape::Composite(found.fields.iter().map(field).collect::<Option<_>>()?))
            }
            _ if found.element != 0 => {
                let delimiter = self.types.get(&found.element)?.delimiter;
                Some(Shape::Array { oid: found.element, of: Arc::new(part(found.element)?), delimiter })
            }
            _ => None,
        }
    }

    fn builtin(&self, type_oid: u32) -> Option<Scalar> {
        Some(match type_oid {
            oid::BOOL => Scalar::Bool,
            oid::BYTEA => Scalar::Bytea,
            oid::CHAR => Scalar::Char,
            oid::INT8 => Scalar::Int8,
            oid::INT2 => Scalar::Int2,
            oid::INT4 => Scalar::Int4,
            oid::OID | oid::XID | oid::CID => Scalar::Unsigned4,
            oid::XID8 => Scalar::Unsigned8,
            oid::NAME | oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::JSON | oid::XML | oid::REFCURSOR => {
                Scalar::Text
            }
            oid::JSONB | oid::JSONPATH => Scalar::Versioned,
            oid::TID => Scalar::Tid,
            oid::FLOAT4 => Scalar::Float4,
            oid::FLOAT8 => Scalar::Float8,
            oid::NUMERIC => Scalar::Numeric,
            // Under `lc_monetary = C` a text has two digits of fraction, whatever the amount means.
            oid::MONEY if self.money_scale == Some(MONEY_TEXT_SCALE) => Scalar::Money,
            oid::UUID => Scalar::Uuid,
            oid::DATE => Scalar::Date,
            oid::TIME => Scalar::Time,
            oid::TIMETZ => Scalar::TimeTz,
            oid::TIMESTAMP => Scalar::Timestamp,
            oid::TIMESTAMPTZ => Scalar::TimestampTz,
            oid::INTERVAL => Scalar::Interval { infinities: self.major >= INFINITE_INTERVALS },
            oid::BIT | oid::VARBIT => Scalar::Bits,
            oid::INET | oid::CIDR => Scalar::Inet,
            oid::MACADDR => Scalar::Macaddr,
            oid::MACADDR8 => Scalar::Macaddr8,
            oid::POINT => Scalar::Point,
            oid::LINE => Scalar::Line,
            oid::LSEG => Scalar::Lseg,
            oid::BOX => Scalar::Box,
            oid::PATH => Scalar::Path,
            oid::POLYGON => Scalar::Polygon,
            oid::CIRCLE => Scalar::Circle,
            oid::TSVECTOR => Scalar::TsVector,
            oid::TSQUERY => Scalar::TsQuery,
            oid::PG_LSN => Scalar::Lsn,
            oid::PG_SNAPSHOT | oid::TXID_SNAPSHOT => Scalar::Snapshot,
            _ => return None,
        })
    }

    /// Whether the stream must be asked for in text for a column of this type: its kind reads the text form and
    /// the server would send the binary one, or the server would try to send a binary form that a part of the
    /// type has not, fail, and end the stream of *all* tables.
    pub fn needs_text_stream(&self, type_oid: u32, kind: Option<&ColumnKind>) -> bool {
        let has_send = self.types.get(&type_oid).is_some_and(|found| found.has_send);
        let lacks_send = |_, found: &CatalogType| !found.has_send;
        has_send && (kind == Some(&ColumnKind::Unknown) || self.any_part(type_oid, 0, &lacks_send))
    }

    /// Whether something holds for a type or a part of it.
    fn any_part(&self, type_oid: u32, depth: usize, holds: &impl Fn(u32, &CatalogType) -> bool) -> bool {
        let Some(found) = self.types.get(&type_oid) else { return false };
        if holds(type_oid, found) {
            return true;
        }
        let parts = [found.base, found.element, found.subtype];
        let mut parts = parts.iter().chain(&found.fields).filter(|&&part| part != 0);
        depth < MAX_DEPTH && parts.any(|&part| self.any_part(part, depth + 1, holds))
    }
}

/// `regclass` and its kin.
fn is_name_of_object(type_oid: u32) -> bool {
    matches!(
        type_oid,
        oid::REGPROC
            | oid::REGPROCEDURE
            | oid::REGOPER
            | oid::REGOPERATOR
            | oid::REGCLASS
            | oid::REGCOLLATION
            | oid::REGTYPE
            | oid::REGROLE
            | oid::REGNAMESPACE
            | oid::REGCONFIG
            | oid::REGDICTIONARY
    )
}

/// A type of an extension that we know, whatever its oid and schema.
fn of_extension(found: &CatalogType) -> Option<Scalar> {
    Some(match (found.extension.as_deref()?, found.info.name.as_str()) {
        ("citext", "citext") => Scalar::Text,
        ("hstore", "hstore") => Scalar::Hstore,
        ("ltree", "ltree" | "lquery" | "ltxtquery") => Scalar::Versioned,
        ("vector", "vector") => Scalar::Vector,
        ("vector", "halfvec") => Scalar::Halfvec,
        ("vector", "sparsevec") => Scalar::Sparsevec,
        ("postgis", "geometry" | "geography") => Scalar::Ewkb,
        _ => return None,
    })
}
