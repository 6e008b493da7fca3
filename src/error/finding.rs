//! What a look at a source or a target found: shown by `strandline doctor`, and stopping `run` where it must.

use super::{Code, Error};
use crate::schema::TableName;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// It stops one table.
    StopsTable,
    /// It stops everything.
    Stops,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// What was looked at, in a few words: a stable name beside the code.
    pub check: &'static str,
    /// How bad.
    pub verdict: Verdict,
    /// The table, if it is about one.
    pub table: Option<TableName>,
    /// What was found.
    pub found: String,
    /// What to do, for people: statements, or where to click.
    pub advice: Option<String>,
    /// The statements of the advice alone, to be run on the source.
    pub sql: Vec<String>,
}

impl Finding {
    /// Without a table and a remedy.
    pub fn new(code: Code, check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Finding { code, check, verdict, table: None, found: found.into(), advice: None, sql: Vec::new() }
    }

    /// As it should be.
    pub fn good(code: Code, check: &'static str, found: impl Into<String>) -> Self {
        Finding::new(code, check, Verdict::Good, found)
    }

    /// Says what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says which statements to run on the source.
    #[must_use]
    pub fn run_sql(mut self, statements: impl IntoIterator<Item = String>) -> Self {
        self.sql.extend(statements);
        if self.advice.is_none() && !self.sql.is_empty() {
            self.advice = Some(self.sql.join("\n"));
        }
        self
    }

    /// Of a table.
    #[must_use]
    pub fn of_table(mut self, table: &TableName) -> Self {
        self.table = Some(table.clone());
        self
    }

    /// From an error that was met while looking.
    pub fn of_error(error: &Error, check: &'static str, verdict: Verdict) -> Self {
        let finding = Finding::new(error.code(), check, verdict, error.cause_line());
        match error.advice() {
            Some(advice) => finding.advise(advice),
            None => finding,
        }
    }

    /// Whether something cannot work.
    pub fn is_error(&self) -> bool {
        self.verdict >= Verdict::StopsTable
    }

    /// As an error.
    pub fn into_error(self) -> Error {
        let error = Error::new(self.code, self.found);
        match self.advice {
            Some(advice) => error.with_try(advice),
            None => error,
        }
    }
}

/// The error of everything that stops the pipeline, if anything does: the first, with the others named.
pub fn stopping(findings: &[Finding]) -> Option<Error> {
    let mut stops = findings.iter().filter(|f| f.verdict == Verdict::Stops);
    let first = stops.next()?.clone();
    let others: Vec<String> = stops.map(|f| format!("{} {}", f.code, f.found)).collect();
    if others.is_empty() {
        return Some(first.into_error());
    }
    let mut all = first;
    all.found = format!("{}; also: {}", all.found, others.join("; "));
    Some(all.into_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    #[test]
    fn everything_that_stops_is_named_at_once() {
        let findings = [
            Finding::new(codes::PG030, "wal_retention", Verdict::Warning, "no limit"),
            Finding::new(codes::PG002, "wal_level", Verdict::Stops, "wal_level is replica")
                .advise("raise it"),
            Finding::new(codes::PG003, "role", Verdict::Stops, "may not"),
        ];
        let error = stopping(&findings).unwrap();
        assert_eq!(error.code(), codes::PG002);
        assert_eq!(error.message(), "wal_level is replica; also: PG003 may not");
        assert_eq!(error.advice(), Some("raise it"));
        assert!(stopping(&findings[..1]).is_none());
    }
}
