//! Connections to MySQL and MariaDB that fall silent without an end: behind a firewall that forgot them, a proxy that
//! hangs. TCP itself still answers. Each is given up, and the pipeline's lock is taken again.

use crate::harness::mysql::Mysqld;
use crate::harness::proxy::Proxy;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use strandline::binlog::Policies;
use strandline::error::{Error, codes};
use strandline::event::{ChangeBatch, CopyPart, CopyWriter};
use strandline::source::mysql::adapter::{MySettings, MySource};
use strandline::source::mysql::lock::Lock;
use strandline::source::mysql::options::{MyOptions, Passwords, Patience, TlsMode};
use strandline::source::mysql::sql::Sql;
use strandline::source::pattern::Selection;
use strandline::source::{CopySession as _, Source as _};

fn options(proxy: &Proxy) -> MyOptions {
    let patience = Patience {
        row: Duration::from_secs(1),
        ping: Duration::from_millis(400),
        lock: Duration::from_secs(2),
        ..Patience::default()
    };
    MyOptions {
        host: "127.0.0.1".into(),
        port: proxy.port(),
        user: "strandline".into(),
        passwords: Passwords::new(|| Box::pin(async { Ok(Some("strandline".to_owned())) })),
        tls: TlsMode::Disable,
        ca: None,
        identity: None,
        pipeline: "silence".into(),
        connect_timeout: Duration::from_secs(10),
        patience,
        queries: false,
    }
}

struct Nowhere;

impl CopyWriter for Nowhere {
    fn write(&mut self, _batch: ChangeBatch) -> Result<(), Error> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<CopyPart, Error> {
        Ok(CopyPart(Box::new(())))
    }
}

/// The server has a table `shop.t`.
pub(crate) fn is_given_up(server: &Mysqld) {
    let proxy = Proxy::blind(server.port());
    let options = options(&proxy);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let patience = Patience { answer: Duration::from_secs(1), ..options.patience };
        let mut sql = Sql::connect(&MyOptions { patience, ..options.clone() }).await.unwrap();
        let mut lock = Lock::take(&options).await.unwrap();
        let source = MySource::new(MySettings {
            options: options.clone(),
            selection: Selection::parse(&["shop.t"], &[]).unwrap(),
            policies: Policies::default(),
            copy_workers: 1,
            for_events: false,
            tells_definitions: false,
        });
        let view = source.inspect().await.unwrap();
        let table = Arc::clone(&view.tables[0].schema);
        let mut snapshot = source.snapshot().await.unwrap();
        if !server.brand.is_mariadb() {
            // Longer than the server would leave the lock to one that says nothing.
            tokio::time::sleep(options.patience.lock + Duration::from_millis(500)).await;
            assert!(Lock::holder(&mut sql, "silence").await.unwrap().is_some(), "it is kept");
        }

        proxy.hold();
        let (answer, copy, lost) = tokio::join!(
            sql.rows("select 1"),
            snapshot.copy(table, vec![Box::new(Nowhere)], Arc::new(AtomicU64::new(0))),
            lock.lost()
        );
        for (what, error) in [
            ("a statement", answer.unwrap_err()),
            ("a copy", copy.map(|_| ()).unwrap_err()),
            ("the lock", lost),
        ] {
            assert_eq!(error.code(), codes::MY032, "{what}: {error}");
            assert!(error.cause_line().contains("has said nothing"), "{what}: {}", error.cause_line());
        }
        drop(lock);
        let _again = Lock::take(&options).await.unwrap();
    });
    runtime.shutdown_background();
}
