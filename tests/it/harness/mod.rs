//! The test harness: real servers on loopback, the real binary, readers that are not ours.
//!
//! A [`Scene`] is one test's world: a directory, a PostgreSQL, a lake, a configuration. It is thrown away
//! when the test passes and kept, with all logs, when it fails. Every wait has a deadline. At most three
//! scenes are alive at a time in one process, whatever the number of test threads.

pub(crate) mod browser;
pub(crate) mod compare;
pub(crate) mod deltalog;
pub(crate) mod kafka;
pub(crate) mod kafka_doors;
pub(crate) mod mysql;
pub(crate) mod mysql_scene;
pub(crate) mod mysql_sql;
pub(crate) mod places;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod s3;
pub(crate) mod spark;
pub(crate) mod sql;

use ports::Port;
use postgres::Postgres;
use process::{Outcome, Strandline};
use reader::{Engine, Readers};
use sql::Sql;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The newest version that tests run on unless they name another.
pub(crate) const NEWEST: u32 = 18;
/// The oldest version that `scripts/install.sh test` installs.
pub(crate) const OLDEST: u32 = 15;
/// The version that a run of the matrix is on (`STRANDLINE_TEST_PG`): each test runs on it, whatever it names.
pub(crate) fn matrix() -> Option<u32> {
    std::env::var("STRANDLINE_TEST_PG").ok().map(|major| major.parse().expect("a version"))
}

/// Whether the version that tests run on has what came with `major`; says so when it has not.
pub(crate) fn has(major: u32, what: &str) -> bool {
    let has = matrix().is_none_or(|on| on >= major);
    if !has {
        println!("LEFT OUT: {what} came with PostgreSQL {major}");
    }
    has
}

/// Long enough for anything that is not broken, on a slow and busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Waits until a condition holds; fails the test when it does not in time.
#[track_caller]
pub(crate) fn until(at_most: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < at_most, "not within {at_most:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// At most this many scenes at once.
const SCENES: usize = 3;
static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

struct Permit;

impl Permit {
    fn take() -> Permit {
        let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while *running >= SCENES {
            running = FREED.wait(running).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *running += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        FREED.notify_one();
    }
}

/// What goes into a configuration file; change what the test is about.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) include: Vec<String>,
    pub(crate) lake: String,
    pub(crate) interval: String,
    pub(crate) listen: String,
    /// Lines of the section `source`, indented.
    pub(crate) source: String,
    /// The kind of sink and its place: lines of the section `sink`, indented. `None`: a lake at `lake`.
    pub(crate) target: Option<String>,
    /// Lines of the section `tables`, indented.
    pub(crate) tables: String,
    /// Lines of the section `sink`, indented.
    pub(crate) sink: String,
    /// Lines at the end, as they are.
    pub(crate) more: String,
}

impl Config {
    fn text(&self) -> String {
        let include: Vec<String> = self.include.iter().map(|p| format!("{p:?}")).collect();
        let lake = || format!("  type: delta\n  uri: {:?}\n", self.lake);
        let target = self.target.clone().unwrap_or_else(lake);
        format!(
            "version: 1\nname: {}\nsource:\n  type: postgres\n  url: {:?}\n  slot: {}\n  publication: {}\n{}\
             tables:\n  include: [{}]\n{}sink:\n{}  commit: {{interval: {}}}\n{}\
             http:\n  listen: {:?}\n{}",
            self.name,
            self.url,
            self.slot,
            self.publication,
            self.source,
            include.join(", "),
            self.tables,
            target,
            self.interval,
            self.sink,
            self.listen,
            self.more
        )
    }
}

/// One test's world.
pub(crate) struct Scene {
    pub(crate) pg: Postgres,
    pub(crate) config: Config,
    dir: PathBuf,
    readers: Option<Readers>,
    starts: AtomicUsize,
    _http: Port,
    _permit: Permit,
}

impl Scene {
    /// A server of the newest version, an empty lake, a publication of all tables.
    pub(crate) fn new(test: &str) -> Scene {
        Scene::on(test, NEWEST)
    }

    /// The same on another version; in a run of the matrix, on that one.
    pub(crate) fn on(test: &str, major: u32) -> Scene {
        let major = matrix().unwrap_or(major);
        let permit = Permit::take();
        let dir = run_dir(test);
        let pg = Postgres::start(major, &dir.join("pg"));
        pg.sql().exec(
            "create publication strandline_pub for all tables with (publish_via_partition_root = true)",
        );
        let http = Port::take();
        let config = Config {
            name: "shop".into(),
            url: pg.url("strandline", "shop"),
            slot: "strandline_shop".into(),
            publication: "strandline_pub".into(),
            include: vec!["public.*".into()],
            lake: format!("file://{}", dir.join("lake").display()),
            interval: "200ms".into(),
            listen: format!("127.0.0.1:{}", http.number()),
            source: String::new(),
            target: None,
            tables: String::new(),
            sink: String::new(),
            more: String::new(),
        };
        Scene { pg, config, dir, readers: None, starts: AtomicUsize::new(0), _http: http, _permit: permit }
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a table lies: `public.orders`.
    pub(crate) fn table(&self, name: &str) -> PathBuf {
        let (schema, table) = name.split_once('.').expect("schema.table");
        self.dir.join("lake").join(schema).join(table)
    }

    /// The pipeline's control table.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("lake/_strandline").join(&self.config.name)
    }

    /// A superuser session.
    pub(crate) fn sql(&self) -> Sql {
        self.pg.sql()
    }

    /// Writes the configuration as it is now; its path.
    pub(crate) fn write_config(&self) -> String {
        self.write_text("strandline.yaml", &self.config.text())
    }

    /// Writes a file into the run directory; its path.
    pub(crate) fn write_text(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("the run directory can be written");
        path.to_str().expect("plain characters").to_owned()
    }

    /// Starts the binary with any arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Strandline {
        Strandline::start(&self.dir, self.starts.fetch_add(1, Ordering::SeqCst), arguments)
    }

    /// Starts the binary with the configuration as it is now, and without root's right to write where permissions forbid.
    pub(crate) fn start_unprivileged(&self, arguments: &[&str]) -> Strandline {
        let config = self.write_config();
        let mut all = arguments.to_vec();
        all.extend(["-c", &config]);
        let n = self.starts.fetch_add(1, Ordering::SeqCst);
        Strandline::start_by(process::unprivileged(), &self.dir, n, &all)
    }

    /// Starts `run -c CONFIG` and more arguments.
    pub(crate) fn start_run(&self, more: &[&str]) -> Strandline {
        let config = self.write_config();
        let mut arguments = vec!["run", "-c", &config];
        arguments.extend(more);
        self.start(&arguments)
    }

    /// Runs `run -c CONFIG` and more arguments to its end.
    #[track_caller]
    pub(crate) fn run(&self, more: &[&str]) -> Outcome {
        self.start_run(more).wait(LONG)
    }

    /// Runs until everything that the source holds now is in the lake.
    #[track_caller]
    pub(crate) fn drain(&self) -> Outcome {
        let outcome = self.run(&["--until-caught-up"]);
        outcome.expect_code(0);
        outcome
    }

    /// The other readers.
    pub(crate) fn readers(&mut self) -> &mut Readers {
        self.readers.get_or_insert_with(Readers::start)
    }

    /// What differs between source and target; `None` when nothing does.
    pub(crate) fn difference(&mut self, name: &str, engine: Engine) -> Option<String> {
        let (schema, table) = name.split_once('.').expect("schema.table");
        let mut sql = self.sql();
        let columns = compare::spelled_columns(&mut sql, schema, table);
        let source = compare::source_rows(&mut sql, schema, table, &columns);
        let names: Vec<String> = columns.into_iter().map(|c| c.name).collect();
        let path = self.table(name);
        match self.readers().try_rows(engine, &path, None, Some(&names)) {
            Ok(target) => compare::difference(source, target),
            Err(error) => Some(format!("{engine:?} cannot read the target: {error}")),
        }
    }

    /// Fails the test unless every table holds exactly the source's rows, read by DuckDB.
    #[track_caller]
    pub(crate) fn assert_equal(&mut self, tables: &[&str]) {
        for name in tables {
            if let Some(found) = self.difference(name, Engine::DuckDb) {
                panic!("{name}: {found}");
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.readers = None;
        self.pg.crash();
        if std::thread::panicking() || std::env::var_os("STRANDLINE_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            std::fs::remove_dir_all(&self.dir).expect("the run directory can be removed");
        }
    }
}

/// A fresh directory that the user of PostgreSQL may enter.
fn run_dir(test: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let base = std::env::var_os("STRANDLINE_TEST_DIR")
        .map_or_else(|| std::env::temp_dir().join(format!("strandline-it-{}", places::uid())), PathBuf::from);
    let n = COUNT.fetch_add(1, Ordering::SeqCst);
    let dir = base.join(format!("{test}-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the run directory can be made");
    for path in [&base, &dir] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    dir
}
