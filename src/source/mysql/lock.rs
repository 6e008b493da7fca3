//! One process per pipeline on a server: a named lock that its connection holds, and that the server frees when the
//! connection is gone.

use super::options::MyOptions;
use super::sql::{Sql, literal};
use crate::error::{Error, Result, codes};

/// How long to wait for a lock that somebody else holds: our own last connection may still be closing.
const PATIENCE: u32 = 10;
/// The server's bound on a lock's name, in characters.
const NAME_LIMIT: usize = 64;

/// A held lock. It is free when this is dropped.
pub struct Lock {
    /// Holds it for as long as it is there.
    _sql: Sql,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// `MY031` when somebody else holds it; those of the connection.
    pub(super) async fn take(options: &MyOptions) -> Result<Lock> {
        let mut sql = Sql::connect(options).await?;
        // Idle for as long as the pipeline runs.
        sql.exec("SET SESSION wait_timeout = 31536000").await?;
        let name = literal(&name(&options.pipeline));
        let row = sql.row(&format!("SELECT GET_LOCK({name}, {PATIENCE})")).await?;
        if row.first().cloned().flatten().as_deref() == Some("1") {
            return Ok(Lock { _sql: sql });
        }
        let holder = sql.row(&format!("SELECT IS_USED_LOCK({name})")).await?.into_iter().next().flatten();
        let who = holder.map_or_else(|| "another connection".to_owned(), |id| format!("connection {id}"));
        Err(Error::new(
            codes::MY031,
            format!("{who} of the server reads for pipeline \"{}\"", options.pipeline),
        )
        .with_try("stop the other process, or use another pipeline name"))
    }

    /// Who holds the lock of a pipeline now: the server's number of the connection.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn holder(sql: &mut Sql, pipeline: &str) -> Result<Option<u32>> {
        let row = sql.row(&format!("SELECT IS_USED_LOCK({})", literal(&name(pipeline)))).await?;
        Ok(row.into_iter().next().flatten().and_then(|id| id.parse().ok()))
    }
}

/// `strandline/NAME`; of a name that is too long, its beginning and a sum of it.
fn name(pipeline: &str) -> String {
    let whole = format!("strandline/{pipeline}");
    if whole.len() <= NAME_LIMIT {
        return whole;
    }
    let beginning: String = whole.chars().take(NAME_LIMIT - 9).collect();
    format!("{beginning}#{:08x}", crc32fast::hash(whole.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(name("shop"), "strandline/shop");
        let (a, b) = (name(&"x".repeat(63)), name(&format!("{}y", "x".repeat(62))));
        assert_eq!(a.len(), NAME_LIMIT);
        assert_ne!(a, b);
    }
}
