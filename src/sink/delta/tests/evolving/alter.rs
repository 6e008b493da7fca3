//! Changes of the source's table.

use super::{Col, Random, Rows, Shape, Type, World};

/// What a change of the table does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alter {
    Add,
    AddFilled,
    Drop,
    Rename,
    Swap,
    Widen,
    Lengthen,
    Retype,
    Replace,
    AddAgain,
    Key,
    Rewrite,
    Store,
    Identity,
    Nullable,
}

pub(super) const ALTERS: [Alter; 20] = [
    Alter::Add,
    Alter::Add,
    Alter::Add,
    Alter::AddFilled,
    Alter::Drop,
    Alter::Drop,
    Alter::Rename,
    Alter::Rename,
    Alter::Swap,
    Alter::Widen,
    Alter::Lengthen,
    Alter::Retype,
    Alter::Replace,
    Alter::AddAgain,
    Alter::Key,
    Alter::Rewrite,
    Alter::Store,
    Alter::Identity,
    Alter::Nullable,
    Alter::Add,
];

impl World {
    /// Another form of the source's table, with its rows. `None`: it cannot be altered so.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of change")]
    pub(super) fn altered(&mut self, alter: Alter) -> Option<(Shape, Rows)> {
        let (mut shape, mut rows) = (self.shape.clone(), self.rows.clone());
        rows.values_mut().for_each(|row| *row = self.shape.only(row));
        shape.filled.clear();
        shape.form.columns += 1;
        let by = self.form.layout.partition_by.clone();
        let is_free = |c: &&Col| !shape.key.contains(&c.attnum) && !by.contains(&c.name);
        let free: Vec<i16> = shape.columns.iter().filter(is_free).map(|c| c.attnum).collect();
        let one = |random: &mut Random, of: &[i16]| {
            (!of.is_empty()).then(|| of[random.below(of.len() as u64) as usize])
        };
        let kind =
            [Type::Int4, Type::Int8, Type::Varchar, Type::Text, Type::Stamp][self.p.random.below(5) as usize];
        let new = shape.next;
        let plain = Col { attnum: new, name: format!("c{new}"), kind };
        match alter {
            Alter::Add => shape.columns.push(plain),
            Alter::AddFilled => {
                let value = kind.value(&mut self.p.random, 100);
                rows.values_mut().for_each(|row| drop(row.insert(new, Some(value.clone()))));
                shape.filled.push(new);
                shape.columns.push(plain);
            }
            Alter::Drop => {
                let gone = one(&mut self.p.random, &free)?;
                shape.columns.retain(|c| c.attnum != gone);
            }
            Alter::Rename => {
                let named: Vec<_> = shape.columns.iter().filter(|c| !by.contains(&c.name)).collect();
                let which = named[self.p.random.below(named.len() as u64) as usize].attnum;
                let col = shape.columns.iter_mut().find(|c| c.attnum == which)?;
                col.name = format!("r{}", self.p.random.below(10_000));
            }
            Alter::Swap => {
                let named: Vec<usize> =
                    (0..shape.columns.len()).filter(|&i| !by.contains(&shape.columns[i].name)).collect();
                let (first, second) = (*named.first()?, *named.last()?);
                let name = shape.columns[first].name.clone();
                shape.columns[first].name = std::mem::replace(&mut shape.columns[second].name, name);
            }
            Alter::Widen => {
                let col = shape.columns.iter_mut().find(|c| c.kind == Type::Int4)?;
                col.kind = Type::Int8;
                shape.form.files += 1;
            }
            Alter::Lengthen => {
                let col = shape.columns.iter_mut().find(|c| c.kind.is_text())?;
                col.kind = if col.kind == Type::Text { Type::Varchar } else { Type::Text };
            }
            Alter::Retype => {
                let col = shape
                    .columns
                    .iter_mut()
                    .find(|c| matches!(c.kind, Type::Int4 | Type::Int8 | Type::Stamp))?;
                col.kind = Type::Text;
                shape.form.files += 1;
            }
            Alter::Replace => {
                let gone = one(&mut self.p.random, &free)?;
                let name = shape.col(gone).name.clone();
                shape.columns.retain(|c| c.attnum != gone);
                shape.columns.push(Col { name, ..plain });
            }
            Alter::AddAgain => {
                let is_gone = |attnum: &&i16| shape.columns.iter().all(|c| c.attnum != **attnum);
                let gone = self.held.iter().find(|(attnum, _)| is_gone(attnum)).map(|(_, name)| name);
                let other_case = gone.is_some() && self.p.random.below(2) == 0;
                let name = gone.or_else(|| self.former.first())?;
                let name = if other_case { name.to_uppercase() } else { name.clone() };
                if shape.columns.iter().any(|c| c.name.to_lowercase() == name.to_lowercase()) {
                    return None;
                }
                shape.columns.push(Col { name, ..plain });
            }
            Alter::Key => {
                let mut key = shape.key.clone();
                if key.len() > 1 && self.p.random.below(2) == 0 {
                    key.pop();
                } else {
                    key.push(one(&mut self.p.random, &free)?);
                }
                let whole =
                    rows.values().all(|row| key.iter().all(|a| row.get(a).is_some_and(Option::is_some)));
                shape.key = key;
                if !whole || shape.by_key(&rows).len() != rows.len() {
                    return None;
                }
            }
            Alter::Rewrite => {
                let texts: Vec<i16> = free.into_iter().filter(|a| shape.col(*a).kind.is_text()).collect();
                let which = one(&mut self.p.random, &texts)?;
                for value in rows.values_mut().filter_map(|row| row.get_mut(&which)?.as_mut()) {
                    value.push('!');
                }
                shape.form.files += 1;
            }
            Alter::Store => {
                (shape.form.columns, shape.form.files) = (self.shape.form.columns, shape.form.files + 1)
            }
            // SET or DROP NOT NULL: the catalogue says so, and every column of the target may be null.
            Alter::Nullable => {}
            Alter::Identity => {
                shape.form.columns = self.shape.form.columns;
                shape.full_before = !shape.full_before;
            }
        }
        if shape.columns.iter().any(|c| c.attnum == new) {
            shape.next += 1;
        }
        let rows = shape.by_key(&rows);
        Some((shape, rows))
    }
}
