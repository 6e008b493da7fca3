//! What the stream must learn before it goes on, asked in a task of its own.
//!
//! Who reads the stream drops its calls every second and makes them again: what takes longer than that would begin
//! anew each time, and never end. The task goes on meanwhile; it ends with the stream.

use super::assemble::{Found, Recall};
use super::definition;
use super::options::MyOptions;
use super::recall::{self, Reader};
use super::server::Server;
use super::sql::Sql;
use crate::error::{Error, Result, codes};
use crate::schema::TableName;
use tokio::task::JoinHandle;

/// What was learned.
pub(super) enum Learned {
    /// How tables are defined now.
    Definitions(Found),
    /// Where rows stand that are to be read again.
    Prepared(Box<Reader>),
}

/// A question that runs.
pub(super) struct LookUp(JoinHandle<Result<Learned>>);

impl Drop for LookUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LookUp {
    fn begin(asking: impl Future<Output = Result<Learned>> + Send + 'static) -> LookUp {
        LookUp(tokio::spawn(asking))
    }

    /// How these tables are defined.
    pub(super) fn definitions(options: MyOptions, names: Vec<TableName>) -> LookUp {
        LookUp::begin(async move {
            let mut sql = Sql::connect(&options).await?;
            let found = definition::now(&mut sql, &names).await?;
            sql.close().await;
            Ok(Learned::Definitions(found))
        })
    }

    /// Where this was prepared.
    pub(super) fn prepared(options: MyOptions, server: Server, wanted: Recall) -> LookUp {
        LookUp::begin(async move {
            let reader = recall::open(&options, &server, &wanted).await?;
            Ok(Learned::Prepared(Box::new(reader)))
        })
    }

    /// The answer, once. Cancel-safe.
    ///
    /// # Errors
    /// What went wrong while it was asked.
    pub(super) async fn done(&mut self) -> Result<Learned> {
        let done = (&mut self.0).await;
        done.map_err(|e| Error::new(codes::RT001, "a look at the server broke").with_source(e))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_look_up_goes_on_when_calls_are_dropped() {
        let (answer, asked) = oneshot::channel::<()>();
        let mut look = LookUp::begin(async move {
            asked.await.unwrap();
            Ok(Learned::Definitions(Found::new()))
        });
        for _ in 0..10 {
            assert!(look.done().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        answer.send(()).unwrap();
        assert!(matches!(look.done().await, Ok(Learned::Definitions(_))));
    }

    #[tokio::test]
    async fn a_look_up_ends_with_the_stream() {
        let (mut answer, asked) = oneshot::channel::<()>();
        let look = LookUp::begin(async move {
            asked.await.unwrap();
            Ok(Learned::Definitions(Found::new()))
        });
        drop(look);
        answer.closed().await;
    }
}
