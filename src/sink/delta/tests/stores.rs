//! The writer over an object store that fails: lost replies, 409, 412, 500, 503, slow and cut requests. Each unit
//! is in the table exactly once, and each is one version.
//!
//! `STRANDLINE_STORE_SEEDS=17 cargo test --lib stores` runs a seed again, `1..500` many.

use super::*;
use crate::sink::write::{WriteMode, WriteOptions};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Answer<T> = std::result::Result<T, StoreError>;

/// A store that answers wrongly now and then.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    random: StdMutex<u64>,
    /// One request of so many fails; 0: none.
    one_of: AtomicU64,
    failed: AtomicU64,
    /// Requests until it answers 403 to every one.
    allowed: AtomicU64,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store that fails")
    }
}

/// What happens to a request.
enum Fate {
    Fine,
    Slow,
    /// Not done, and said so.
    Refused(StoreError),
    /// Done, and nobody hears of it.
    Lost,
}

fn generic(status: &str) -> StoreError {
    StoreError::Generic { store: "S3", source: status.into() }
}

impl Faulty {
    fn is_allowed(&self) -> bool {
        let one_less = |left: u64| if left == u64::MAX { Some(left) } else { left.checked_sub(1) };
        self.allowed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    fn fate(&self, path: &Path, is_conditional: bool, is_read: bool) -> Fate {
        if !self.is_allowed() {
            let path = path.to_string();
            return Fate::Refused(StoreError::PermissionDenied { path, source: "403 Forbidden".into() });
        }
        // To open a table is many reads: few may fail, or none ever ends.
        let one_of = self.one_of.load(Ordering::SeqCst) * if is_read { 12 } else { 1 };
        let mut state = self.random.lock().unwrap();
        let mut random = Random(*state);
        let bad = one_of > 0 && random.below(one_of) == 0;
        let kind = random.below(7);
        *state = random.0;
        if !bad {
            return Fate::Fine;
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        let path = path.to_string();
        match kind {
            0 => Fate::Slow,
            1 => Fate::Refused(generic("500 Internal Server Error")),
            2 => Fate::Refused(generic("503 SlowDown")),
            // What the client makes of 409 and 412, although nothing is there.
            3 if is_conditional => {
                Fate::Refused(StoreError::AlreadyExists { path, source: "409 Conflict".into() })
            }
            4 if is_conditional => {
                Fate::Refused(StoreError::Precondition { path, source: "412 Precondition Failed".into() })
            }
            5 => Fate::Refused(generic("connection closed before message completed")),
            _ => Fate::Lost,
        }
    }

    async fn with<T>(
        &self,
        path: &Path,
        is_conditional: bool,
        is_read: bool,
        request: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        match self.fate(path, is_conditional, is_read) {
            Fate::Fine => request.await,
            Fate::Slow => {
                tokio::time::sleep(Duration::from_millis(3)).await;
                request.await
            }
            Fate::Refused(error) => Err(error),
            Fate::Lost => request.await.and_then(|_| Err(generic("the reply was lost"))),
        }
    }
}

impl ObjectStore for Faulty {
    fn put_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'f, Answer<PutResult>>
    where
        's: 'f,
        'l: 'f,
    {
        let is_conditional = opts.mode == object_store::PutMode::Create;
        Box::pin(self.with(location, is_conditional, false, self.inner.put_opts(location, payload, opts)))
    }

    fn put_multipart_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        opts: PutMultipartOptions,
    ) -> BoxFuture<'f, Answer<Box<dyn MultipartUpload>>>
    where
        's: 'f,
        'l: 'f,
    {
        Box::pin(self.with(location, false, false, self.inner.put_multipart_opts(location, opts)))
    }

    fn get_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        options: GetOptions,
    ) -> BoxFuture<'f, Answer<GetResult>>
    where
        's: 'f,
        'l: 'f,
    {
        Box::pin(self.with(location, false, true, self.inner.get_opts(location, options)))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        match self.fate(&Path::default(), false, true) {
            Fate::Fine | Fate::Slow => self.inner.list(prefix),
            Fate::Refused(error) => futures_util::stream::once(async { Err(error) }).boxed(),
            Fate::Lost => {
                let cut = futures_util::stream::once(async { Err(generic("the listing was cut")) });
                self.inner.list(prefix).take(1).chain(cut).boxed()
            }
        }
    }

    fn list_with_delimiter<'s, 'p, 'f>(
        &'s self,
        prefix: Option<&'p Path>,
    ) -> BoxFuture<'f, Answer<ListResult>>
    where
        's: 'f,
        'p: 'f,
    {
        Box::pin(self.inner.list_with_delimiter(prefix))
    }

    fn copy_opts<'s, 'a, 'b, 'f>(
        &'s self,
        from: &'a Path,
        to: &'b Path,
        options: CopyOptions,
    ) -> BoxFuture<'f, Answer<()>>
    where
        's: 'f,
        'a: 'f,
        'b: 'f,
    {
        Box::pin(self.inner.copy_opts(from, to, options))
    }
}

/// As the runtime does it: what is temporary is tried again from the start.
async fn opened(sink: &DeltaSink, schema: &Arc<TableSchema>, seed: u64) -> (DeltaTable, TableRecord) {
    loop {
        let found = async {
            let (lease, _) = sink.take_over().await?;
            sink.open_table(&lease, schema.clone(), OpenFor::Continue(ChangePolicy::default()), None).await
        };
        match found.await {
            Ok(found) => return found,
            Err(error) => assert_eq!(error.code(), codes::TG001, "seed {seed}: {error:?}"),
        }
    }
}

fn faulty(random: StdMutex<u64>) -> Arc<Faulty> {
    let (one_of, failed, allowed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(u64::MAX));
    Arc::new(Faulty { inner: InMemory::new(), random, one_of, failed, allowed })
}

/// Permission is lost between any two requests of a start, a unit and a compaction: each time it is said with the code
/// that ends the process, and whoever comes once it is given back goes on with whole units.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permission_that_is_lost_midway_ends_with_its_code() {
    let store = faulty(StdMutex::new(1));
    let storage = Storage::on(Arc::<Faulty>::clone(&store)).unwrap();
    let sink = DeltaSink::over(storage.clone(), "shop");
    let files = storage.table(&["public", "t"]).unwrap();
    let ids = log::AppIds::new("shop");
    let schema = schema(&[0]);
    let (mut table, _) = opened(&sink, &schema, 0).await;
    table.commit_copy(at(10), vec![], Base::Copied).await.unwrap();
    let (mut random, mut model, mut from, mut refused) = (Random(77), BTreeMap::new(), 10, 0);
    // Each start has a longer log to read: it is stepped faster than that grows.
    let steps = std::iter::successors(Some(0u64), |allowed| Some(allowed + 1 + allowed / 8));
    for allowed in steps {
        let mut next = model.clone();
        let changes: Vec<Change> = (0..20).map(|_| change(&mut random, &mut next)).collect();
        store.allowed.store(allowed, Ordering::SeqCst);
        let attempt = async {
            let (lease, _) = sink.take_over().await?;
            let purpose = OpenFor::Continue(ChangePolicy::default());
            let (mut table, _) = sink.open_table(&lease, schema.clone(), purpose, None).await?;
            table.upkeep.policy = None;
            table.stage(batch_at(&schema, &changes, from + 4)).await?;
            table.commit(Interval { from: at(from), to: at(from + 5) }).await?;
            let all = process::policy();
            let hurry = Arc::new(std::sync::atomic::AtomicBool::new(true));
            if let Some(job) = compact::Job::plan(&table.core, &all, hurry) {
                table.land(job.run().await?).await?;
            }
            Ok::<_, Error>(())
        };
        let ended = attempt.await;
        store.allowed.store(u64::MAX, Ordering::SeqCst);
        let position = load(&files, &ids).await.unwrap().position;
        if position == Some(at(from + 5)) {
            (model, from) = (next, from + 5);
        }
        assert_eq!(position, Some(at(from)), "{allowed}");
        assert_eq!(content(&files, &ids).await, model, "{allowed}");
        match ended {
            Ok(()) => break,
            Err(error) => {
                assert_eq!(error.code(), codes::TG003, "{allowed}: {error:?}");
                refused += 1;
            }
        }
    }
    println!("refused {refused} times");
    assert!(refused > 15, "{refused}");
}

async fn history(seed: u64) -> u64 {
    let random = StdMutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let store = faulty(random);
    let storage = Storage::on(Arc::<Faulty>::clone(&store)).unwrap();
    let write = if seed.is_multiple_of(2) { WriteMode::Upsert } else { WriteMode::CopyOnWrite };
    let choices = WriteChoices {
        default: WriteOptions { write, ..WriteOptions::default() },
        ..WriteChoices::default()
    };
    let sink = DeltaSink::over(storage.clone(), "shop").with_choices(choices);
    let files = storage.table(&["public", "t"]).unwrap();
    let ids = log::AppIds::new("shop");
    let schema = schema(&[0]);
    let (mut table, _) = opened(&sink, &schema, seed).await;
    table.upkeep.policy = None;
    table.commit_copy(at(10), vec![], Base::Copied).await.unwrap();
    let (mut random, mut model) = (Random(seed | 1), BTreeMap::new());
    store.one_of.store(6, Ordering::SeqCst);
    const UNITS: u64 = 10;
    for unit in 0..UNITS {
        let (from, to) = (10 + unit * 5, 15 + unit * 5);
        let slices: Vec<ChangeBatch> = (0..=random.below(3))
            .map(|_| {
                let changes: Vec<Change> =
                    (0..=random.below(30)).map(|_| change(&mut random, &mut model)).collect();
                batch_at(&schema, &changes, to - 1)
            })
            .collect();
        loop {
            let attempt = async {
                for slice in &slices {
                    table.stage(slice.clone()).await?;
                }
                table.commit(Interval { from: at(from), to: at(to) }).await
            };
            match attempt.await {
                Ok(CommitOutcome::Committed { .. }) => break,
                Ok(CommitOutcome::Fenced { by }) => panic!("fenced by {by}"),
                // The session begins again.
                Err(error) => assert_eq!(error.code(), codes::TG001, "seed {seed}: {error:?}"),
            }
            let (next, record) = opened(&sink, &schema, seed).await;
            table = next;
            table.upkeep.policy = None;
            if record.position == Some(at(to)) {
                break;
            }
            assert_eq!(record.position, Some(at(from)));
        }
    }
    store.one_of.store(0, Ordering::SeqCst);
    assert_eq!(content(&files, &ids).await, model, "seed {seed}");
    let mut merges = 0;
    for version in 0..=load(&files, &ids).await.unwrap().version {
        let entry = files.get(&log::commit_name(version)).await.unwrap().unwrap();
        merges += u64::from(log::summarize(&entry).unwrap().operation == "MERGE");
    }
    assert_eq!(merges, UNITS, "versions are units, seed {seed}");
    store.failed.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unit_is_one_version_whatever_the_store_answers() {
    let given = std::env::var("STRANDLINE_STORE_SEEDS").unwrap_or_else(|_| "1..13".into());
    let (from, to) = match given.split_once("..") {
        Some((from, to)) => (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()),
        None => (given.parse().unwrap(), given.parse::<u64>().unwrap() + 1),
    };
    let mut failed = 0;
    for seed in from..to {
        failed += history(seed).await;
    }
    println!("{} seeds, {failed} requests failed", to - from);
    assert!(failed > 10 * (to - from), "it proves too little: {failed}");
}
