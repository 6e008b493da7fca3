//! Shared by the tests: connections, a whole pipeline's start, and rows as text.

use crate::server::Server;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;
use std::time::Duration;
use strandline::error::Error;
use strandline::event::{Before, ChangeBatch, Op};
use strandline::pgoutput::Policies;
use strandline::position::{CommitLsn, Lsn};
use strandline::source::postgres::assemble::Burst;
use strandline::source::postgres::catalog::{self, Catalog, SourceTable};
use strandline::source::postgres::options::PgOptions;
use strandline::source::postgres::pattern::Selection;
use strandline::source::postgres::publication;
use strandline::source::postgres::slot::{self, SlotKind};
use strandline::source::postgres::snapshot::{CopyJob, CopyProgress, CopySink, copy_table};
use strandline::source::postgres::spill::Spill;
use strandline::source::postgres::sql::{Sql, field};
use strandline::source::postgres::stream::{Budget, OriginFilter, PgStream, StreamStart};
use tokio::sync::watch;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Shows an error as people see it.
pub(crate) trait Told<T> {
    fn told(self) -> T;
}

impl<T> Told<T> for Result<T, Error> {
    #[track_caller]
    fn told(self) -> T {
        self.unwrap_or_else(|e| panic!("{}", e.report()))
    }
}

pub(crate) async fn sql(options: &PgOptions) -> Sql {
    Sql::connect(options).await.told()
}

pub(crate) async fn catalog(sql: &Sql, include: &[&str]) -> Catalog {
    let selection = Selection::parse(include, &[]).told();
    catalog::load(sql, &selection, &Policies::default()).await.told()
}

pub(crate) fn table<'a>(catalog: &'a Catalog, name: &str) -> &'a SourceTable {
    let found = catalog.tables.iter().find(|t| t.name().table == name);
    found.unwrap_or_else(|| panic!("no table {name}: {:?}", catalog.rejected))
}

/// Publication, slot, tables registered: a stream that begins at the slot's point.
pub(crate) struct Pipeline {
    pub(crate) sql: Sql,
    pub(crate) catalog: Catalog,
    pub(crate) stream: PgStream,
    pub(crate) ack: watch::Sender<CommitLsn>,
    pub(crate) point: CommitLsn,
}

pub(crate) async fn start(server: &Server, include: &[&str]) -> Pipeline {
    let options = server.options();
    let sql = sql(&options).await;
    let catalog = catalog(&sql, include).await;
    let published =
        publication::ensure(&sql, &options, &catalog.tables, publication::Second::Make).await.told();
    let slot = slot::create(&options, &sql, SlotKind::Permanent, PATIENCE).await.told();
    let point = slot.point;
    slot.release().await.told();
    let (ack, acknowledged) = watch::channel(CommitLsn::ZERO);
    let start = stream_start(published.names, acknowledged);
    let mut stream = PgStream::start(&options, &sql, start).await.told();
    for table in &catalog.tables {
        stream.add_table(Arc::clone(&table.schema), point).told();
    }
    Pipeline { sql, catalog, stream, ack, point }
}

pub(crate) fn stream_start(
    publications: Vec<String>,
    acknowledged: watch::Receiver<CommitLsn>,
) -> StreamStart {
    StreamStart {
        publications,
        policies: Policies::default(),
        text: false,
        stop_before: None,
        guard: None,
        acknowledged,
        patience: PATIENCE,
        streaming: true,
        spill: Spill::default(),
        origin: OriginFilter::Any,
    }
}

/// Everything up to a heartbeat that is written now; older ones may be replayed before it. Bursts are put
/// together.
pub(crate) async fn drain(sql: &Sql, stream: &mut PgStream) -> Burst {
    slot::heartbeat(sql).await.told();
    let now = sql.row("select pg_catalog.pg_current_wal_insert_lsn()").await.told();
    let now: Lsn = field(&now, 0).told();
    let mut all = Burst::default();
    // Only the heartbeat is certain to be sent; what others wrote after it may come too.
    while all.heartbeats == 0 || all.open.is_some() || !passed(&all, now) {
        let burst = tokio::time::timeout(PATIENCE, stream.next(Budget::ALL)).await.expect("it comes").told();
        all.through = burst.through.or(all.through);
        all.last_nonempty = burst.last_nonempty.or(all.last_nonempty);
        all.transactions += burst.transactions;
        all.rows += burst.rows;
        all.heartbeats += burst.heartbeats;
        all.table_errors.extend(burst.table_errors);
        all.replayed.extend(burst.replayed);
        all.touched.extend(burst.touched);
        all.open = burst.open;
        all.keepalive = burst.keepalive;
    }
    all
}

/// By a commit, or by a keepalive with nothing after it.
fn passed(all: &Burst, position: Lsn) -> bool {
    let through = all.through.map_or(Lsn::ZERO, CommitLsn::lsn);
    through.max(all.keepalive.unwrap_or_default()) >= position
}

/// `op after [before]`, one line per row; `~` is unchanged.
pub(crate) fn lines(batch: &ChangeBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let cell = |rows: &arrow::record_batch::RecordBatch, column: usize, row: usize| {
        let array = rows.column(column);
        ArrayFormatter::try_new(array.as_ref(), &options).expect("a formatter").value(row).to_string()
    };
    let columns = batch.schema.columns.len();
    let mut out = Vec::new();
    for (row, op) in batch.ops.iter().enumerate() {
        let mut line = op.letter().to_owned();
        if !matches!(op, Op::Delete | Op::Truncate) {
            for column in 0..columns {
                let unchanged = batch.unchanged[column].as_ref().is_some_and(|mask| mask.value(row));
                line += " ";
                line += &if unchanged { "~".to_owned() } else { cell(&batch.after, column, row) };
            }
        }
        let index = batch.before.as_ref().map_or(Before::NONE, |b| b.index[row]);
        if let Some(before) = batch.before.as_ref().filter(|_| index != Before::NONE) {
            let old: Vec<String> = (0..columns).map(|c| cell(&before.rows, c, index as usize)).collect();
            line += &format!(" [{}]", old.join(" "));
        }
        out.push(line);
    }
    out
}

/// Keeps what it is given.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Vec<ChangeBatch>);

impl CopySink for Kept {
    fn write(&mut self, batch: ChangeBatch) -> Result<(), Error> {
        self.0.push(batch);
        Ok(())
    }
}

pub(crate) async fn copy(
    options: &PgOptions,
    sql: &Sql,
    snapshot: &str,
    table: &SourceTable,
    workers: usize,
) -> Result<Vec<Kept>, Error> {
    let job = CopyJob {
        options,
        sql,
        snapshot,
        table,
        policies: Policies::default(),
        workers,
        progress: Arc::new(CopyProgress::default()),
        max_load: strandline::source::postgres::load::MaxLoad::default(),
        keys: None,
        only: String::new(),
    };
    copy_table(&job, |_| Ok(Kept::default())).await
}

/// All rows of a copy, sorted.
pub(crate) fn sorted(sinks: &[Kept]) -> Vec<String> {
    let mut rows: Vec<String> = sinks.iter().flat_map(|s| s.0.iter().flat_map(lines)).collect();
    rows.sort();
    rows
}
