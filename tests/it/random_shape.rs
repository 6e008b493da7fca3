//! What a random table is like, for the workloads of `random_postgres` and `random_mysql`, and the pieces of statements
//! that both servers read alike.

use crate::harness::random::Random;

/// How a server writes values.
pub(crate) struct Dialect {
    /// A key column's type and the row's number, or the SQL that gives it, to the value's SQL.
    pub(crate) key: fn(&str, &str) -> String,
    /// A type to any value of it, in SQL.
    pub(crate) literal: fn(&str, &mut Random) -> String,
}

/// What a table is like in this moment.
pub(crate) struct Shape {
    pub(crate) table: String,
    /// Quoted names and types of the key's columns.
    pub(crate) keys: Vec<(String, String)>,
    /// The others.
    pub(crate) columns: Vec<Column>,
    pub(crate) dialect: &'static Dialect,
}

pub(crate) struct Column {
    /// Quoted.
    pub(crate) name: String,
    /// As in the file's `TYPES`; some spellings of a server are longer.
    pub(crate) kind: String,
    pub(crate) may_be_null: bool,
}

impl Shape {
    /// All names, the key's first.
    pub(crate) fn names(&self) -> String {
        let names = self.keys.iter().map(|(name, _)| name.as_str());
        names.chain(self.columns.iter().map(|c| c.name.as_str())).collect::<Vec<_>>().join(", ")
    }

    /// Values in the order of `names`, of the row with this number.
    pub(crate) fn row(&self, random: &mut Random, number: &str) -> String {
        let keys = self.keys.iter().map(|(_, kind)| (self.dialect.key)(kind, number));
        keys.chain(self.columns.iter().map(|c| self.value(c, random))).collect::<Vec<_>>().join(", ")
    }

    /// `name = value` of one column at least.
    pub(crate) fn assignments(&self, random: &mut Random) -> String {
        let sure = random.below(self.columns.len());
        let mut all = Vec::new();
        for (i, column) in self.columns.iter().enumerate() {
            if i == sure || random.one_in(3) {
                all.push(format!("{} = {}", column.name, self.value(column, random)));
            }
        }
        all.join(", ")
    }

    /// `name = value` of each key column of the row with this number.
    pub(crate) fn key_values(&self, number: u64) -> Vec<String> {
        let number = number.to_string();
        self.keys
            .iter()
            .map(|(name, kind)| format!("{name} = {}", (self.dialect.key)(kind, &number)))
            .collect()
    }

    /// The condition that is true for the row with this number.
    pub(crate) fn is_key(&self, number: u64) -> String {
        self.key_values(number).join(" and ")
    }

    /// One of the columns that are not of the key, if there is one.
    pub(crate) fn any_column(&self, random: &mut Random) -> Option<&Column> {
        (!self.columns.is_empty()).then(|| &self.columns[random.below(self.columns.len())])
    }

    fn value(&self, column: &Column, random: &mut Random) -> String {
        if column.may_be_null && random.one_in(7) {
            return "null".to_owned();
        }
        (self.dialect.literal)(&column.kind, random)
    }
}
