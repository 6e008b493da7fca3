//! Errors that reach a person: a code, what was found, what to do next.
//!
//! One type serves every boundary. [`Code`] fixes what a class of error *means*: whether to try again,
//! stop one table or stop the pipeline ([`Disposition`]), and the exit code. The text says what was tried
//! and found, in lower case, with object kinds and quoted names; never a row's values, never a secret.
//! Each code has a page `docs/errors/<code>.md`; `tests/tidy.rs` holds the two together.

#[path = "error/finding.rs"]
pub mod finding;

use std::fmt;

/// What the caller must do. Decided by the code, used in one place (`replication::retry_policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Temporary: try again with back-off, for ever.
    Retry,
    /// A fact about one table: it stops, the others go on.
    HaltTable,
    /// Nothing can go on without a person.
    HaltPipeline,
    /// Contradicts what this program believes: stop before it does harm.
    Bug,
}

/// A stable error code. Two letters for the area, three digits.
#[derive(Clone, Copy)]
pub struct Code {
    /// `PG041`.
    pub id: &'static str,
    /// What it means, in a few words.
    pub title: &'static str,
    /// What must be done about it.
    pub disposition: Disposition,
    /// The process's exit code when it ends the run: 1 runtime, 2 usage or configuration,
    /// 3 prerequisite, 5 already running.
    pub exit: u8,
}

impl Code {
    /// The source's history cannot be joined to what the tables hold.
    pub fn is_loss(self) -> bool {
        self.id.starts_with("PG04") || self.id.starts_with("MY04")
    }

    /// A table's columns are others than those that it was followed with.
    pub fn is_change(self) -> bool {
        self == codes::PG022 || self == codes::MY022
    }

    /// Somebody else reads for this pipeline.
    pub fn is_held_elsewhere(self) -> bool {
        self == codes::PG011 || self == codes::MY031
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Code {}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

macro_rules! codes {
    ($($id:ident $disposition:ident $exit:literal $title:literal)*) => {
        /// Every code that exists.
        pub mod codes {
            use super::{Code, Disposition};
            $(
                #[doc = $title]
                pub const $id: Code =
                    Code { id: stringify!($id), title: $title, disposition: Disposition::$disposition, exit: $exit };
            )*
            /// All of them, in order.
            pub const ALL: &[Code] = &[$($id),*];

            /// Their pages, in the same order.
            const PAGES: &[&str] = &[$(include_str!(concat!("../docs/errors/", stringify!($id), ".md"
            ))),*];

            /// The page of a code, `docs/errors/CODE.md`.
            pub fn page(code: Code) -> &'static str {
                let at = ALL.iter().position(|known| *known == code);
                at.and_then(|at| PAGES.get(at)).copied().unwrap_or_default()
            }

            /// The code of that name.
            pub fn find(id: &str) -> Option<Code> {
                ALL.iter().copied().find(|c| c.id.eq_ignore_ascii_case(id))
            }
        }
    };
}

codes! {
    CF001 HaltPipeline 2 "the configuration cannot be read"
    CF002 HaltPipeline 2 "unknown key in the configuration"
    CF003 HaltPipeline 2 "a value in the configuration is not allowed"
    CF004 HaltPipeline 2 "a configuration key that is not built yet"
    CF005 HaltPipeline 2 "wrong use of the command line"
    CF006 HaltPipeline 2 "the configuration cannot be applied without a restart"
    KF001 Retry 1 "the Kafka brokers cannot be reached"
    KF002 HaltPipeline 3 "the Kafka brokers refuse this client"
    KF003 HaltPipeline 3 "a Kafka topic cannot be made or used"
    KF004 HaltPipeline 2 "the Kafka client does not take a property"
    KF005 HaltTable 1 "an event is too large for Kafka"
    KF006 HaltTable 1 "the table's topic is gone"
    KF007 Retry 1 "a Kafka transaction was lost"
    KF008 HaltPipeline 1 "the checkpoint in Kafka cannot be read"
    KF009 Retry 1 "the schema registry cannot be reached"
    KF010 HaltPipeline 3 "the schema registry refuses this client"
    KF011 HaltTable 1 "the schema registry refuses the table's schema"
    KF012 HaltTable 2 "the configuration names columns that the table no longer has"
    KF013 HaltTable 3 "another table has the same topic"
    KF014 HaltTable 1 "the table's topic cannot be compared with its source"
    MY001 HaltPipeline 3 "the server writes no binary log"
    MY002 HaltPipeline 3 "binlog_format is not ROW"
    MY003 HaltPipeline 3 "binlog_row_image is not FULL"
    MY004 HaltPipeline 3 "changes of JSON are logged in part"
    MY005 HaltPipeline 3 "the log may not hold every change"
    MY006 HaltPipeline 3 "the server keeps its binary logs too short"
    MY007 HaltPipeline 3 "a privilege is missing"
    MY008 HaltPipeline 3 "the server id is in use"
    MY009 HaltPipeline 3 "binlog_row_metadata is not FULL"
    MY010 HaltPipeline 3 "no table matches in MySQL"
    MY020 HaltTable 1 "the table has a column of a type that is not supported"
    MY021 HaltTable 1 "a value cannot be represented"
    MY022 HaltTable 1 "rows do not fit the table's columns"
    MY023 HaltTable 1 "the log does not repeat a value that is needed"
    MY024 HaltPipeline 1 "an event of the binary log is damaged or cannot be understood"
    MY025 HaltPipeline 1 "the binary log holds an event that cannot be applied"
    MY026 HaltTable 1 "the MySQL table cannot be replicated as a whole"
    MY027 HaltPipeline 1 "the binary log lacks events"
    MY028 HaltPipeline 1 "a two-phase transaction cannot be followed"
    MY029 HaltPipeline 1 "a change was logged as a statement"
    MY030 HaltPipeline 3 "cannot log in to MySQL"
    MY031 HaltPipeline 5 "another process reads for this pipeline"
    MY032 Retry 1 "the connection to MySQL failed"
    MY033 HaltPipeline 1 "MySQL refused a statement"
    MY034 HaltPipeline 3 "the TLS connection to MySQL was refused"
    MY035 HaltPipeline 3 "the version of MySQL is not supported"
    MY036 HaltPipeline 1 "no consistent snapshot could be taken"
    MY037 HaltTable 1 "the MySQL table was dropped or renamed"
    MY040 HaltPipeline 1 "the server has deleted binary logs that are needed"
    MY042 HaltPipeline 1 "the server is another one"
    MY043 HaltPipeline 1 "the server lacks transactions that were applied"
    MY044 HaltPipeline 1 "the binary log ends before our position"
    MY045 HaltPipeline 1 "the binary log is not the one that was applied"
    PG001 HaltPipeline 3 "cannot log in to PostgreSQL"
    PG002 HaltPipeline 3 "wal_level is not logical"
    PG003 HaltPipeline 3 "the role may not replicate"
    PG004 HaltPipeline 3 "no free replication slot"
    PG005 HaltPipeline 3 "no free WAL sender"
    PG006 Retry 1 "the connection to PostgreSQL failed"
    PG007 HaltPipeline 3 "the publication is missing or wrong"
    PG008 HaltTable 3 "the table has no usable replica identity"
    PG009 HaltPipeline 3 "no table matches"
    PG010 HaltTable 3 "no permission to read the table"
    PG011 HaltPipeline 5 "the replication slot is in use"
    PG012 HaltPipeline 3 "the server's version is not supported"
    PG013 HaltPipeline 3 "the replication slot cannot be used"
    PG014 HaltPipeline 1 "the server refused a statement"
    PG015 HaltPipeline 3 "the TLS connection was refused"
    PG016 HaltPipeline 3 "the server would wait for strandline at each commit"
    PG020 HaltTable 1 "the table has a column of a type that is not supported"
    PG021 HaltTable 1 "a value cannot be represented"
    PG022 HaltTable 1 "the table's columns changed"
    PG023 HaltTable 1 "an unchanged value's old row is not known"
    PG024 HaltPipeline 1 "a message of the replication stream cannot be understood"
    PG025 HaltTable 1 "the table was dropped, replaced or left the publication"
    PG026 HaltTable 1 "the table cannot be replicated as a whole"
    PG030 HaltPipeline 3 "what the server keeps for an idle slot has no good bound"
    PG031 HaltPipeline 3 "the server is a standby"
    PG032 HaltPipeline 3 "the slot does not survive a failover"
    PG033 HaltPipeline 3 "open transactions hold up a new slot"
    PG034 HaltTable 3 "the table's changes are not in the log"
    PG035 HaltPipeline 3 "the server has little memory for decoding"
    PG036 HaltPipeline 3 "the server's load cannot be seen"
    PG040 HaltPipeline 1 "the replication slot is gone"
    PG041 HaltPipeline 1 "the replication slot was moved by someone else"
    PG042 HaltPipeline 1 "the server is another system"
    PG043 HaltPipeline 1 "the server is on another timeline"
    PG044 HaltPipeline 1 "the server's log ends before our position"
    PG045 HaltPipeline 1 "the server's history is not the one that was applied"
    PG046 HaltPipeline 1 "the server has discarded WAL that the slot needs"
    PG047 HaltPipeline 1 "the budget for retained WAL is used up"
    RT001 Bug 1 "an internal check failed"
    RT002 HaltPipeline 1 "the HTTP address cannot be used"
    RT003 HaltPipeline 1 "large transactions cannot be put on disk"
    RT004 HaltPipeline 1 "no process of the pipeline answers"
    RT010 HaltPipeline 3 "this machine gives less than the configuration wants"
    RT011 HaltPipeline 4 "the target differs from the source"
    RT012 HaltPipeline 4 "the lag is greater than allowed"
    RT013 HaltPipeline 1 "the core loop gives no sign of life"
    RT014 HaltPipeline 1 "nothing becomes durable although something waits"
    RT015 HaltTable 1 "an operator paused the table"
    TG001 Retry 1 "the target cannot be reached"
    TG002 HaltPipeline 1 "the target is full"
    TG003 HaltPipeline 3 "the target cannot be written"
    TG006 HaltPipeline 3 "the object store has no conditional writes"
    TG010 HaltTable 3 "the path holds a table that is not ours"
    TG011 HaltTable 1 "the target table was replaced or set back"
    TG012 HaltTable 1 "someone else changed the target table's data"
    TG013 HaltPipeline 5 "another writer has taken over"
    TG014 HaltTable 1 "the target table needs a feature that is not supported"
    TG015 HaltTable 1 "a change does not fit the target table's rows"
    TG016 HaltTable 1 "the target table holds a key twice"
    TG017 HaltTable 3 "the target table belongs to another pipeline"
    TG018 HaltPipeline 1 "stored state is of a newer format"
    TG019 HaltTable 1 "the table's names cannot be used in the target"
    TG020 HaltTable 1 "the target's log or files are damaged"
    TG021 HaltTable 3 "the target table is written in another way than configured"
    TG022 HaltTable 1 "a TRUNCATE is refused"
    TG023 HaltTable 3 "the target table cannot be partitioned like this"
    TG029 HaltTable 2 "a table cannot be put right where it is"
    TG030 HaltPipeline 3 "the clocks of this machine and of the target disagree"
    TG031 HaltPipeline 3 "not every reader can read the tables"
}

/// An error with its code. Display prints this error only; [`Error::report`] prints the whole chain.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    try_next: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result with a coded error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What was tried and found.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, message: message.into(), try_next: None, source: None }))
    }

    /// What to do next: the statement or command to paste where there is one.
    pub fn with_try(mut self, advice: impl Into<String>) -> Self {
        self.0.try_next = Some(advice.into());
        self
    }

    /// The cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What was tried and found, without the chain.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next.
    pub fn advice(&self) -> Option<&str> {
        self.0.try_next.as_deref()
    }

    /// The same for somebody else to be told: code, the chain of causes as the message, advice.
    pub fn retold(&self) -> Error {
        let copy = Error::new(self.code(), self.cause_line());
        match self.advice() {
            Some(advice) => copy.with_try(advice),
            None => copy,
        }
    }

    /// The whole chain of causes in one line, without code and advice.
    pub fn cause_line(&self) -> String {
        let mut line = self.0.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        line
    }

    /// For people, once, where the error is handled: code, chain, advice, page.
    pub fn report(&self) -> String {
        let mut text = format!("error {}: {}", self.0.code, self.cause_line());
        if let Some(advice) = &self.0.try_next {
            text.push_str("\n  try: ");
            text.push_str(&advice.replace('\n', "\n       "));
        }
        text.push_str(&format!("\n  see: docs/errors/{}.md ({})", self.0.code, self.0.code.title));
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_code_cause_remedy_and_page() {
        let inner = std::io::Error::other("connection refused");
        let error = Error::new(codes::PG006, "cannot connect to \"db:5432\"")
            .with_source(inner)
            .with_try("start the server");
        assert_eq!(
            error.report(),
            "error PG006: cannot connect to \"db:5432\": connection refused\n  try: start the server\n  \
             see: docs/errors/PG006.md (the connection to PostgreSQL failed)"
        );
    }

    #[test]
    fn codes_are_unique_and_ordered() {
        let ids: Vec<_> = codes::ALL.iter().map(|c| c.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
    }
}
