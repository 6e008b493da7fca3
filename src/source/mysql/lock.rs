//! One process per pipeline on a server: a named lock that its connection holds, and that the server frees when the
//! connection is gone.
//!
//! A connection may go without an end that reaches the server. So the holder says something on it every few seconds, and
//! the server frees the lock of a connection on which nothing was said for a minute ([`Patience`]).
//!
//! | what happens | the holder | the lock |
//! |---|---|---|
//! | the process dies | | free when its host closes the connection, or a minute after it said something last |
//! | the connection falls silent | notices at the next words: the stream ends (`MY032`) and begins again | taken again by the same process, a minute after the last words at the latest |
//! | the process is stopped for more than a minute, and goes on | notices, as above; what it had begun is fenced | whoever came meanwhile has it |
//!
//! Who finds the lock taken looks how long its holder has been silent. One that says something is alive: that is refused
//! after a few seconds, in which a predecessor may be ending. One that says nothing is waited for until the server must
//! have freed it.

use super::options::{MyOptions, Patience};
use super::sql::{Sql, literal};
use crate::error::{Error, Result, codes};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long to wait for a lock whose holder is alive: our own last connection may still be closing.
const WHILE_ALIVE: Duration = Duration::from_secs(10);
/// The server tells how long somebody was silent in whole seconds.
const ROUNDED: Duration = Duration::from_secs(2);
/// Words on the lock's connection that are not answered within so many of their intervals make it a lost one.
const UNANSWERED: u32 = 3;
/// The server's bound on a lock's name, in characters.
const NAME_LIMIT: usize = 64;

/// A held lock. It is free when this is dropped.
pub struct Lock {
    /// Why its connection is lost.
    lost: watch::Receiver<Option<String>>,
    /// Has the connection that holds it.
    keeper: JoinHandle<()>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// `MY031` when somebody else holds it; those of the connection.
    pub async fn take(options: &MyOptions) -> Result<Lock> {
        let mut sql = Sql::connect(options).await?;
        let patience = options.patience;
        sql.exec(&format!("SET SESSION wait_timeout = {}", patience.lock.as_secs().max(1))).await?;
        let name = literal(&name(&options.pipeline));
        let began = Instant::now();
        let mut watched: Option<Watched> = None;
        loop {
            let row = sql.row(&format!("SELECT GET_LOCK({name}, 1)")).await?;
            if row.first().cloned().flatten().as_deref() == Some("1") {
                return Ok(Lock::keep(sql, patience));
            }
            let Some(id) = Lock::holder(&mut sql, &options.pipeline).await? else { continue };
            let silent = silent_for(&mut sql, id).await?;
            let seen = watched.take().filter(|seen| seen.id == id);
            let seen = watched.insert(seen.unwrap_or_else(|| Watched { id, since: Instant::now() }));
            let may_be_dead = silent.is_some_and(|silent| seen.may_be_dead(silent, patience));
            let longest = if may_be_dead { patience.lock + WHILE_ALIVE } else { WHILE_ALIVE };
            if began.elapsed() >= longest {
                return Err(Error::new(
                    codes::MY031,
                    format!("connection {id} of the server reads for pipeline \"{}\"", options.pipeline),
                )
                .with_try("stop the other process, or use another pipeline name"));
            }
        }
    }

    fn keep(mut sql: Sql, patience: Patience) -> Lock {
        let (tell, lost) = watch::channel(None);
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(patience.ping).await;
                let why = match tokio::time::timeout(patience.ping * UNANSWERED, sql.exec("DO 0")).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.cause_line(),
                    Err(_) => "the server has said nothing".to_owned(),
                };
                tell.send_replace(Some(why));
                return;
            }
        });
        Lock { lost, keeper }
    }

    /// Comes when the connection that holds it is lost, with the error. Cancel-safe.
    pub async fn lost(&mut self) -> Error {
        // It changes once; when nobody can tell any more, it has.
        let why = match self.lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "nobody keeps it".to_owned(),
        };
        Error::new(codes::MY032, format!("the connection that holds the pipeline's lock is lost: {why}"))
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

/// Somebody who holds the lock, and since when we look.
struct Watched {
    id: u32,
    since: Instant,
}

impl Watched {
    /// Nothing was said since we look, and the server has not given it up long ago: then it is none of ours.
    fn may_be_dead(&self, silent: Duration, patience: Patience) -> bool {
        silent + ROUNDED > self.since.elapsed() && silent < patience.lock + WHILE_ALIVE
    }
}

/// How long a connection has said nothing, as far as we may see.
async fn silent_for(sql: &mut Sql, id: u32) -> Result<Option<Duration>> {
    let id = id.to_string();
    let rows = sql.rows("SHOW PROCESSLIST").await?;
    let row = rows.iter().find(|row| row.first().cloned().flatten().as_ref() == Some(&id));
    let seconds = row.and_then(|row| row.get(5).cloned().flatten());
    Ok(seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs))
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
    fn who_says_something_is_alive() {
        let ago = |seconds| Watched { id: 7, since: Instant::now() - Duration::from_secs(seconds) };
        let (at, patience) = (Duration::from_secs, Patience::default());
        assert!(ago(1).may_be_dead(at(0), patience), "not known yet");
        assert!(!ago(4).may_be_dead(at(1), patience), "it said something three seconds ago");
        assert!(ago(20).may_be_dead(at(40), patience));
        assert!(!ago(1).may_be_dead(at(4000), patience), "the server does not give it up: none of ours");
    }

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(name("shop"), "strandline/shop");
        let (a, b) = (name(&"x".repeat(63)), name(&format!("{}y", "x".repeat(62))));
        assert_eq!(a.len(), NAME_LIMIT);
        assert_ne!(a, b);
    }
}
