//! Which tables a connector captures.
//!
//! The connector's lists hold together: a table must pass the list of schemas (of databases, on MySQL) *and* that of
//! tables. Our patterns are alternatives. So the schemas' list stands in the file only where there is none of tables; of
//! the tables' list, what the schemas' list keeps out is left out.

use super::Work;

impl Work {
    pub(super) fn tables(&mut self) {
        let mut schemas = Vec::new();
        let mut is_whole = true;
        for word in ["schema", "database"] {
            let of = |new: &str, old: &str| (format!("{word}.{new}.list"), format!("{word}.{old}"));
            let (new, old) = of("exclude", "blacklist");
            if let Some((from, list)) = self.take_either(&new, &old) {
                let patterns = self.patterns(&from, &list, schema_pattern);
                self.sections.exclude.extend(patterns.iter().map(|schema| format!("{schema}.*")));
                self.mapped(&from, "tables.exclude");
            }
            let (new, old) = of("include", "whitelist");
            if let Some((from, list)) = self.take_either(&new, &old) {
                let patterns = self.patterns(&from, &list, schema_pattern);
                is_whole &= patterns.len() == entries(&list).count();
                schemas.extend(patterns);
                self.sections.is_chosen = true;
                self.mapped(&from, "tables.include");
            }
        }
        if let Some((from, list)) = self.take_either("table.exclude.list", "table.blacklist") {
            let patterns = self.patterns(&from, &list, pattern);
            self.sections.exclude.extend(patterns);
            self.mapped(&from, "tables.exclude");
        }
        let Some((from, list)) = self.take_either("table.include.list", "table.whitelist") else {
            self.sections.include.extend(schemas.iter().map(|schema| format!("{schema}.*")));
            return;
        };
        self.sections.is_chosen = true;
        for pattern in self.patterns(&from, &list, pattern) {
            // Where a schema's entry could not be read nobody knows what it lets through.
            if schemas.is_empty() || !is_whole || schemas.iter().any(|schema| is_within(&pattern, schema)) {
                self.sections.include.push(pattern);
            } else {
                let note = format!(
                    "{pattern} is left out: the connector's list of schemas does not name its schema"
                );
                self.done.notes.push(note);
            }
        }
        self.mapped(&from, "tables.include");
    }

    fn patterns(&mut self, from: &str, list: &str, read: fn(&str) -> Option<String>) -> Vec<String> {
        let mut patterns = Vec::new();
        for entry in entries(list) {
            match read(entry) {
                Some(pattern) => patterns.push(pattern),
                None => self.unsupported(from, format!("the regular expression {entry}: name the tables")),
            }
        }
        patterns
    }
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// `pattern`: a schema's name and a pattern of tables. `schema`: a name, or its beginning and `*`.
fn is_within(pattern: &str, schema: &str) -> bool {
    let name = pattern.split_once('.').map_or(pattern, |(name, _)| name);
    schema.strip_suffix('*').map_or(name == schema, |start| name.starts_with(start))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// A regular expression of a schema that is a name, or the beginning of one with `.*`, as a pattern of ours.
fn schema_pattern(regex: &str) -> Option<String> {
    let plain = regex.trim_start_matches('^').trim_end_matches('$');
    match plain.strip_suffix(".*") {
        Some(start) => (start.is_empty() || is_name(start)).then(|| format!("{start}*")),
        None => is_name(plain).then(|| plain.to_owned()),
    }
}

/// A regular expression that is a name, or a name with `.*`, as a pattern of ours.
fn pattern(regex: &str) -> Option<String> {
    let plain = regex.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
    let (schema, table) = plain.split_once('.')?;
    let table_ok = match table.strip_suffix(".*") {
        Some(start) => start.is_empty() || is_name(start),
        None => table == "*" || is_name(table),
    };
    if !is_name(schema) || !table_ok {
        return None;
    }
    Some(format!("{schema}.{}", table.replace(".*", "*")))
}

#[cfg(test)]
mod tests {
    use super::super::import;
    use super::*;

    fn lists(class: &str, lists: &str) -> String {
        let plugin = if class.starts_with("postgres") { "plugin.name=pgoutput\n" } else { "" };
        format!(
            "connector.class=io.debezium.connector.{class}\n{plugin}topic.prefix=app\n\
             value.converter.schemas.enable=false\n{lists}"
        )
    }

    #[test]
    fn lists_of_schemas_and_of_tables_hold_together() {
        for (class, word) in
            [("postgresql.PostgresConnector", "schema"), ("mysql.MySqlConnector", "database")]
        {
            let both = lists(
                class,
                &format!(
                    "{word}.include.list=public\ntable.include.list=public.orders, other\\.t,public\\.i.*"
                ),
            );
            let done = import(&both, None).unwrap();
            assert!(done.yaml.contains("  include: [\"public.orders\", \"public.i*\"]\n"), "{}", done.yaml);
            assert!(
                done.notes.iter().any(|note| note.starts_with("other.t is left out")),
                "{:?}",
                done.notes
            );
            assert_eq!(done.unsupported, []);
            let schemas =
                lists(class, &format!("{word}.include.list=^public$,app_.*\n{word}.exclude.list=old"));
            let done = import(&schemas, None).unwrap();
            assert!(done.yaml.contains("  include: [\"public.*\", \"app_*.*\"]\n"), "{}", done.yaml);
            assert!(done.yaml.contains("  exclude: [\"old.*\"]\n"), "{}", done.yaml);
            let wild = lists(class, &format!("{word}.include.list=(a|b)"));
            let done = import(&wild, None).unwrap();
            assert_eq!(done.unsupported.len(), 1);
            assert!(!done.yaml.contains("*.*"), "everything instead of some:\n{}", done.yaml);
        }
    }

    #[test]
    fn expressions_that_are_names() {
        assert_eq!(pattern("public.orders").as_deref(), Some("public.orders"));
        assert_eq!(pattern("public\\..*").as_deref(), Some("public.*"));
        assert_eq!(pattern("^public\\.order_.*$").as_deref(), Some("public.order_*"));
        assert_eq!(pattern("public.(a|b)"), None);
        assert_eq!(schema_pattern("public").as_deref(), Some("public"));
        assert_eq!(schema_pattern(".*").as_deref(), Some("*"));
        assert_eq!(schema_pattern("a.b"), None);
    }
}
