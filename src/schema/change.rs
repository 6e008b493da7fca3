//! What became of a table's columns, and what may follow from it.
//!
//! Columns are told apart by attribute number, which a rename keeps and a column that is dropped and added
//! again under its name does not. The catalogue proves what happened; where it cannot (values rewritten in
//! place), the table is copied again and nothing is guessed.

use super::TableSchema;
use std::fmt;

/// A table's columns and key, as far as a change of them is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outline {
    /// The columns in order.
    pub columns: Vec<OutlineColumn>,
    /// Names of the key columns, in key order.
    pub key: Vec<String>,
    /// Numbers up to here were given then, to columns that did not travel, too ([`super::TableForm::columns_to`]).
    pub columns_to: i16,
}

/// A column of a [`Outline`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutlineColumn {
    /// The identity that a rename keeps.
    pub attnum: i16,
    /// Name.
    pub name: String,
    /// The source's name of the type.
    pub source_type: String,
    /// Rows that were there when the column was added have a value in it (`ADD COLUMN … DEFAULT`).
    pub filled: bool,
}

impl Outline {
    /// Of a schema.
    pub fn of(schema: &TableSchema) -> Self {
        let columns = schema.columns.iter().map(|c| OutlineColumn {
            attnum: c.attnum,
            name: c.name.clone(),
            source_type: c.source_type(),
            filled: schema.filled.contains(&c.attnum),
        });
        let key = schema.key.iter().filter_map(|&i| schema.columns.get(i)).map(|c| c.name.clone());
        Outline { columns: columns.collect(), key: key.collect(), columns_to: schema.form.columns_to }
    }

    /// Whether the table had a column of this number, that it travelled or not.
    fn had(&self, attnum: i16) -> bool {
        let known = self.columns.iter().map(|c| c.attnum).filter(|number| *number < FIRST_OF_NAMES).max();
        attnum < FIRST_OF_NAMES && attnum <= known.unwrap_or(0).max(self.columns_to)
    }

    fn by_attnum(&self, attnum: i16) -> Option<&OutlineColumn> {
        self.columns.iter().find(|c| c.attnum == attnum)
    }

    fn by_name(&self, name: &str) -> Option<&OutlineColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// One change of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A column was added.
    Added {
        /// Name.
        column: String,
        /// Rows that were there before have a value in it.
        filled: bool,
    },
    /// A column was dropped.
    Dropped {
        /// Name.
        column: String,
    },
    /// A column has another name.
    Renamed {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
    },
    /// A column has a type that holds every value of the old one, in the same form.
    Widened {
        /// Name.
        column: String,
        /// The old type.
        from: String,
        /// The new one.
        to: String,
    },
    /// A column has another type.
    Retyped {
        /// Name.
        column: String,
        /// The old type.
        from: String,
        /// The new one.
        to: String,
    },
    /// A column was dropped, and another one was added under its name.
    Replaced {
        /// Name.
        column: String,
    },
    /// The key has other columns.
    Key,
    /// A column was altered and the rows were rewritten, of which the log does not tell.
    Rewritten,
    /// Partitions with rows came, some went or were truncated by their own names, of which the log does not tell.
    Partitions,
}

impl Change {
    /// What kind of change it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Added { .. } => "added",
            Change::Dropped { .. } => "dropped",
            Change::Renamed { .. } => "renamed",
            Change::Widened { .. } => "widened",
            Change::Retyped { .. } => "retyped",
            Change::Replaced { .. } => "replaced",
            Change::Key => "key",
            Change::Rewritten => "rewritten",
            Change::Partitions => "partitions",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Added { column, filled: false } => write!(f, "column \"{column}\" was added"),
            Change::Added { column, filled: true } => {
                write!(f, "column \"{column}\" was added with a value for every row")
            }
            Change::Dropped { column } => write!(f, "column \"{column}\" was dropped"),
            Change::Renamed { from, to } => write!(f, "column \"{from}\" was renamed to \"{to}\""),
            Change::Widened { column, from, to } | Change::Retyped { column, from, to } => {
                write!(f, "column \"{column}\" was {from} and is {to}")
            }
            Change::Replaced { column } => write!(f, "column \"{column}\" was dropped and added again"),
            Change::Key => f.write_str("its key has other columns"),
            Change::Rewritten => f.write_str("a column was altered and its rows were rewritten"),
            Change::Partitions => {
                f.write_str("partitions were attached, detached, dropped, truncated or written anew")
            }
        }
    }
}

/// Numbers from here on are made from columns' names, in sources that know columns by nothing else: beyond those that
/// PostgreSQL gives, which allows 1600 columns.
pub const FIRST_OF_NAMES: i16 = 2000;

/// What changed between two outlines; empty when nothing did. `rewritten`: [`super::TableForm`] says that the
/// values may be others.
pub fn changes(then: &Outline, now: &Outline, rewritten: bool) -> Vec<Change> {
    let mut found = Vec::new();
    let mut may_be_cut = false;
    for column in &then.columns {
        match now.by_attnum(column.attnum) {
            None if now.by_name(&column.name).is_some() => {
                found.push(Change::Replaced { column: column.name.clone() });
            }
            None => found.push(Change::Dropped { column: column.name.clone() }),
            Some(new) => {
                if new.name != column.name {
                    found.push(Change::Renamed { from: column.name.clone(), to: new.name.clone() });
                }
                if new.source_type != column.source_type {
                    found.push(retyped(column, new));
                    may_be_cut |= is_shorter(column, new);
                }
            }
        }
    }
    for column in &now.columns {
        // One that took the name of a column that is gone is told already.
        let gone = then.by_name(&column.name).filter(|old| now.by_attnum(old.attnum).is_none());
        if then.by_attnum(column.attnum).is_none() && gone.is_none() {
            // One that was there and did not travel (a generated one) has values in the rows that are there.
            let filled = column.filled || then.had(column.attnum);
            found.push(Change::Added { column: column.name.clone(), filled });
        }
    }
    if key_columns(then) != key_columns(now) {
        found.push(Change::Key);
    }
    // Where columns have no identity but their names, one that went and one that came may be the same, renamed.
    let by_name = |name: &str, of: &Outline| of.by_name(name).is_some_and(|c| c.attnum >= FIRST_OF_NAMES);
    let went = found.iter().any(|c| matches!(c, Change::Dropped { column } if by_name(column, then)));
    let came = found.iter().any(|c| matches!(c, Change::Added { column, .. } if by_name(column, now)));
    if rewritten || went && came || may_be_cut {
        found.push(Change::Rewritten);
    }
    found
}

fn key_columns(outline: &Outline) -> Vec<Option<i16>> {
    outline.key.iter().map(|name| outline.by_name(name).map(|c| c.attnum)).collect()
}

fn retyped(then: &OutlineColumn, now: &OutlineColumn) -> Change {
    let (column, from, to) = (now.name.clone(), then.source_type.clone(), now.source_type.clone());
    if is_wider(&from, &to) {
        Change::Widened { column, from, to }
    } else {
        Change::Retyped { column, from, to }
    }
}

/// Whether every value of `from` is a value of `to`, in the same form in the target.
fn is_wider(from: &str, to: &str) -> bool {
    const LADDERS: [&[&str]; 2] = [&["int2", "int4", "int8"], &["float4", "float8"]];
    let on_ladder = LADDERS.iter().any(|ladder| {
        let at = |name| ladder.iter().position(|step| *step == name);
        matches!((at(from), at(to)), (Some(from), Some(to)) if from < to)
    });
    on_ladder
        || both_text(from, to)
        || match (split_type(from), split_type(to)) {
            (("numeric", from), ("numeric", to)) => {
                matches!((&from[..], &to[..]), ([p1, s1], [p2, s2]) if s2 >= s1 && p2 - s2 >= p1 - s1)
            }
            _ => false,
        }
}

/// Texts of any length: what is there stays what it is (where it does not, the rows are rewritten).
fn both_text(from: &str, to: &str) -> bool {
    let is_text = |name: &str| ["varchar", "text"].contains(&split_type(name).0);
    is_text(from) && is_text(to)
}

/// Whether texts may have been cut, of which nothing tells where columns have no identity but their names.
fn is_shorter(then: &OutlineColumn, now: &OutlineColumn) -> bool {
    let most = |text: &str| split_type(text).1.first().copied().unwrap_or(i64::MAX);
    now.attnum >= FIRST_OF_NAMES
        && both_text(&then.source_type, &now.source_type)
        && most(&now.source_type) < most(&then.source_type)
}

/// `numeric(12,2)` as its name and its numbers.
fn split_type(text: &str) -> (&str, Vec<i64>) {
    let Some((name, rest)) = text.split_once('(') else { return (text, Vec::new()) };
    let args = rest.trim_end_matches(')').split(',').filter_map(|n| n.trim().parse().ok());
    (name.trim(), args.collect())
}

/// What to do with a kind of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Follow it.
    Apply,
    /// The table stops.
    Quarantine,
}

/// The operator's choices about changes of a table's columns (`sink.schema_changes`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangePolicy {
    /// Columns that are added.
    pub add_column: Choice,
    /// Columns that are dropped: kept in the target, null from then on.
    pub drop_column: Choice,
    /// Columns that are renamed.
    pub rename_column: Choice,
    /// Types that hold every value of the old one.
    pub widen: Choice,
    /// Everything else that the catalogue tells: other types, another key.
    /// `Apply` is a new copy of the table.
    pub other: Choice,
    /// Partitions that came with rows, or went: `None` leaves the target as it is, `Apply` is a new copy.
    pub partitions: Option<Choice>,
}

impl Default for ChangePolicy {
    fn default() -> Self {
        ChangePolicy {
            add_column: Choice::Apply,
            drop_column: Choice::Apply,
            rename_column: Choice::Apply,
            widen: Choice::Apply,
            other: Choice::Quarantine,
            partitions: Some(Choice::Apply),
        }
    }
}

/// How a table follows what changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Remedy {
    /// Columns are added to the target, or no longer filled: nothing is read again.
    InPlace,
    /// The table is copied again, and replaced in one commit.
    Copy,
    /// It stops: the operator wants to decide.
    Stop,
}

impl ChangePolicy {
    /// What is done where nothing is said, for a target that is a log of events: they go on with other types and keys,
    /// and a copy tells nobody of the rows that went before it, so that none is made for partitions.
    pub fn of_log() -> ChangePolicy {
        ChangePolicy { other: Choice::Apply, partitions: None, ..ChangePolicy::default() }
    }

    /// The remedy for all of these changes together; [`Remedy::InPlace`] for none.
    pub fn remedy(&self, changes: &[Change]) -> Remedy {
        self.remedy_where(changes, false)
    }

    /// The same for a target that is a log of events: what was told stays told, and what comes is told as it is then; a
    /// copy would leave out what its rows were before, and those that went. So nothing is read again for columns, unless one that went may be one that came: rows that
    /// are still to be read have its values under a name that nothing leads on.
    pub fn remedy_of_log(&self, changes: &[Change]) -> Remedy {
        let went = changes.iter().any(|change| matches!(change, Change::Dropped { .. }));
        let came = changes.iter().any(|change| matches!(change, Change::Added { .. }));
        let remedy = |change: &Change| match (change, self.remedy_of(change, false)) {
            (Change::Partitions, remedy) => remedy,
            (Change::Rewritten, remedy) if went && came => remedy,
            (_, Remedy::Copy) => Remedy::InPlace,
            (_, remedy) => remedy,
        };
        changes.iter().map(remedy).max().unwrap_or(Remedy::InPlace)
    }

    /// The same where the target may follow a rename in place. It does when each name says which column is meant,
    /// whether rows were announced before the rename or after it.
    pub fn remedy_where(&self, changes: &[Change], renames_in_place: bool) -> Remedy {
        let in_place = renames_in_place && are_told_apart(changes);
        changes.iter().map(|change| self.remedy_of(change, in_place)).max().unwrap_or(Remedy::InPlace)
    }

    fn remedy_of(&self, change: &Change, renames_in_place: bool) -> Remedy {
        let (choice, remedy) = match change {
            Change::Added { filled: false, .. } => (self.add_column, Remedy::InPlace),
            Change::Added { filled: true, .. } => (self.add_column, Remedy::Copy),
            Change::Dropped { .. } => (self.drop_column, Remedy::InPlace),
            Change::Renamed { .. } if renames_in_place => (self.rename_column, Remedy::InPlace),
            Change::Renamed { .. } => (self.rename_column, Remedy::Copy),
            Change::Widened { from, to, .. } if both_text(from, to) => (self.widen, Remedy::InPlace),
            Change::Widened { .. } => (self.widen, Remedy::Copy),
            Change::Replaced { .. } if self.drop_column == Choice::Apply => (self.add_column, Remedy::Copy),
            Change::Retyped { .. } | Change::Replaced { .. } | Change::Key => (self.other, Remedy::Copy),
            Change::Partitions => match self.partitions {
                Some(choice) => (choice, Remedy::Copy),
                None => return Remedy::InPlace,
            },
            // No choice: the columns are those that were wanted, only the values are unknown.
            Change::Rewritten => return Remedy::Copy,
        };
        if choice == Choice::Apply { remedy } else { Remedy::Stop }
    }
}

/// Whether no column that was renamed had or has a name that another one has or had.
fn are_told_apart(changes: &[Change]) -> bool {
    let mut names: Vec<&str> = Vec::new();
    for change in changes {
        match change {
            Change::Renamed { from, to } => names.extend([from.as_str(), to.as_str()]),
            Change::Added { column, .. } | Change::Dropped { column } | Change::Replaced { column } => {
                names.push(column);
            }
            _ => {}
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    names.len() == count
}

/// What changed, in one sentence.
pub fn told(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::Past;
    use super::*;

    fn outline(columns: &[(i16, &str, &str)], key: &[&str]) -> Outline {
        let column = |&(attnum, name, kind): &(i16, &str, &str)| OutlineColumn {
            attnum,
            name: name.into(),
            source_type: kind.trim_end_matches('!').into(),
            filled: kind.ends_with('!'),
        };
        Outline {
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|&k| k.into()).collect(),
            columns_to: 0,
        }
    }

    #[test]
    fn a_column_that_begins_to_travel_has_values_already() {
        let then = outline(&[(1, "id", "int4"), (3, "a", "int4")], &["id"]);
        let filled = |then: &Outline, attnum| {
            let now = outline(&[(1, "id", "int4"), (3, "a", "int4"), (attnum, "g", "int4")], &["id"]);
            changes(then, &now, false) == [Change::Added { column: "g".into(), filled: true }]
        };
        assert!(filled(&then, 2), "it was between them");
        assert!(!filled(&then, 4), "it may be new");
        let then = Outline { columns_to: 4, ..then };
        assert!(filled(&then, 4) && !filled(&then, 5));
        // Numbers that are made from names say nothing.
        let then = outline(&[(2009, "id", "int")], &["id"]);
        let now = outline(&[(2009, "id", "int"), (2003, "b", "int")], &["id"]);
        assert_eq!(changes(&then, &now, false), [Change::Added { column: "b".into(), filled: false }]);
    }

    #[test]
    fn a_log_of_events_follows_what_a_table_cannot() {
        let policy = ChangePolicy::of_log();
        let filled = Change::Added { column: "a".into(), filled: true };
        let all = [filled.clone(), Change::Key, Change::Rewritten];
        assert_eq!((policy.remedy(&all), policy.remedy_of_log(&all)), (Remedy::Copy, Remedy::InPlace));
        let copied = ChangePolicy { partitions: Some(Choice::Apply), ..policy };
        assert_eq!(policy.remedy_of_log(&[filled.clone(), Change::Partitions]), Remedy::InPlace);
        assert_eq!(copied.remedy_of_log(&[filled, Change::Partitions]), Remedy::Copy);
        assert_eq!(ChangePolicy::default().remedy_of_log(&[Change::Key]), Remedy::Stop);
        // Renamed, where columns have no identity but their names.
        let then = outline(&[(2001, "id", "int"), (2002, "a", "int")], &["id"]);
        let now = outline(&[(2001, "id", "int"), (2003, "b", "int")], &["id"]);
        assert_eq!(policy.remedy_of_log(&changes(&then, &now, false)), Remedy::Copy);
        let came = outline(&[(2001, "id", "int"), (2002, "a", "int"), (2003, "b", "int")], &["id"]);
        assert_eq!(policy.remedy_of_log(&changes(&then, &came, false)), Remedy::InPlace);
        assert_eq!(policy.remedy_of_log(&changes(&came, &then, false)), Remedy::InPlace);
    }

    #[test]
    fn each_change_is_told_by_attribute_number() {
        let then = outline(&[(1, "id", "int4"), (2, "a", "int4"), (3, "b", "text")], &["id"]);
        let tell = |columns: &[(i16, &str, &str)], key: &[&str]| {
            told(&changes(&then, &outline(columns, key), false))
        };
        let id = (1, "id", "int4");
        assert_eq!(tell(&[id, (2, "a", "int4"), (3, "b", "text")], &["id"]), "");
        assert_eq!(
            tell(&[id, (2, "a", "int4"), (3, "b", "text"), (4, "c", "text")], &["id"]),
            "column \"c\" was added"
        );
        assert_eq!(tell(&[id, (3, "b", "text")], &["id"]), "column \"a\" was dropped");
        assert_eq!(
            tell(&[id, (2, "b", "int4"), (3, "a", "text")], &["id"]),
            "column \"a\" was renamed to \"b\"; column \"b\" was renamed to \"a\""
        );
        assert_eq!(
            tell(&[id, (3, "b", "text"), (4, "a", "int4")], &["id"]),
            "column \"a\" was dropped and added again"
        );
        assert_eq!(
            tell(&[id, (2, "a", "int8"), (3, "b", "text")], &["id"]),
            "column \"a\" was int4 and is int8"
        );
        assert_eq!(tell(&[id, (2, "a", "int4"), (3, "b", "text")], &["a"]), "its key has other columns");
    }

    #[test]
    fn a_rename_is_followed_in_place_where_names_tell_columns_apart() {
        let then = outline(&[(1, "id", "int4"), (2, "a", "int4"), (3, "b", "int4")], &["id"]);
        let remedy = |columns: &[(i16, &str, &str)]| {
            let found = changes(&then, &outline(columns, &["id"]), false);
            assert_ne!(ChangePolicy::default().remedy(&found), Remedy::InPlace);
            ChangePolicy::default().remedy_where(&found, true)
        };
        let (id, b) = ((1, "id", "int4"), (3, "b", "int4"));
        assert_eq!(remedy(&[id, (2, "c", "int4"), b]), Remedy::InPlace);
        assert_eq!(remedy(&[id, (2, "c", "int4"), b, (4, "d", "int4")]), Remedy::InPlace);
        assert_eq!(remedy(&[id, (2, "b", "int4"), (3, "a", "int4")]), Remedy::Copy, "swapped");
        assert_eq!(remedy(&[id, (2, "b", "int4")]), Remedy::Copy, "the name of one that was dropped");
        assert_eq!(remedy(&[id, (2, "c", "int4"), b, (4, "a", "int4")]), Remedy::Copy, "its name was taken");
        assert_eq!(remedy(&[id, (2, "c", "int4"), b, (4, "a", "int4!")]), Remedy::Copy);
    }

    #[test]
    fn the_past_leads_old_names_to_new_ones() {
        let renamed = |from: &str, to: &str| Change::Renamed { from: from.into(), to: to.into() };
        let past = Past { added: vec!["a".into()], ..Past::default() };
        let past = past.after(&[renamed("a", "b")]).after(&[renamed("b", "c")]);
        assert_eq!((past.now("a"), past.now("b"), past.now("c")), (Some("c"), Some("c"), None));
        assert_eq!(past.added, ["c"]);
        assert!(past.knows("a") && past.knows("b") && !past.knows("c"));
        let past = past.after(&[Change::Dropped { column: "c".into() }]);
        assert_eq!((past.added.len(), past.now("a")), (0, None));
        assert_eq!(past.dropped, ["a", "b", "c"]);
    }

    #[test]
    fn a_name_that_went_and_one_that_came_may_be_the_same_column() {
        let then = outline(&[(2001, "id", "int"), (2002, "a", "int")], &["id"]);
        let now = outline(&[(2001, "id", "int"), (2003, "b", "int")], &["id"]);
        assert_eq!(ChangePolicy::default().remedy(&changes(&then, &now, false)), Remedy::Copy);
        let now = outline(&[(2001, "id", "int"), (2002, "a", "int"), (2003, "b", "int")], &["id"]);
        assert_eq!(ChangePolicy::default().remedy(&changes(&then, &now, false)), Remedy::InPlace);
    }

    #[test]
    fn the_gravest_change_decides() {
        let policy = ChangePolicy::default();
        let remedy = |now: &Outline, rewritten| {
            let then = outline(&[(1, "id", "int4"), (2, "a", "int4")], &["id"]);
            policy.remedy(&changes(&then, now, rewritten))
        };
        let id = (1, "id", "int4");
        let a = (2, "a", "int4");
        assert_eq!(remedy(&outline(&[id, a, (3, "c", "text")], &["id"]), false), Remedy::InPlace);
        assert_eq!(remedy(&outline(&[id], &["id"]), false), Remedy::InPlace);
        assert_eq!(remedy(&outline(&[id, a, (3, "c", "text!")], &["id"]), false), Remedy::Copy);
        assert_eq!(remedy(&outline(&[id, (2, "a", "int8")], &["id"]), true), Remedy::Copy);
        assert_eq!(remedy(&outline(&[id, a], &["id"]), true), Remedy::Copy);
        assert_eq!(remedy(&outline(&[id, (2, "a", "text"), (3, "c", "text")], &["id"]), true), Remedy::Stop);
        assert_eq!(remedy(&outline(&[id, a], &["a"]), false), Remedy::Stop);
        let strict = ChangePolicy { add_column: Choice::Quarantine, ..policy };
        let then = outline(&[id], &["id"]);
        let now = outline(&[id, (3, "c", "text")], &["id"]);
        assert_eq!(strict.remedy(&changes(&then, &now, false)), Remedy::Stop);
    }

    #[test]
    fn wider_means_every_value_fits() {
        for (from, to) in [
            ("int2", "int8"),
            ("float4", "float8"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric(14,4)"),
        ] {
            assert!(is_wider(from, to), "{from} {to}");
            assert!(!is_wider(to, from), "{to} {from}");
        }
        for (from, to) in [
            ("numeric(10,2)", "numeric(10,4)"),
            ("numeric(10,2)", "numeric"),
            ("int4", "text"),
            ("int4", "float4"),
        ] {
            assert!(!is_wider(from, to), "{from} {to}");
        }
        assert!(is_wider("varchar(10)", "text") && is_wider("varchar(20)", "varchar(10)"));
    }
}
