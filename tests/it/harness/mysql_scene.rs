//! One test's world on MySQL or MariaDB: a directory, a server, a lake, a configuration. See [`super::Scene`].

use super::mysql::{Brand, Mysqld};
use super::mysql_sql::MySql;
use super::ports::Port;
use super::process::{Outcome, Strandline};
use super::reader::{Engine, Readers};
use super::{LONG, Permit, compare, run_dir};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What goes into a configuration file; change what the test is about.
#[derive(Clone, Debug)]
pub(crate) struct MyConfig {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) include: Vec<String>,
    pub(crate) lake: String,
    /// Lines of the section `sink`, indented, in the place of the lake.
    pub(crate) target: Option<String>,
    pub(crate) listen: String,
    /// Lines of the section `source`, indented.
    pub(crate) source: String,
    /// Lines of the section `sink`, indented.
    pub(crate) sink: String,
    /// Lines at the end, as they are.
    pub(crate) more: String,
}

impl MyConfig {
    fn text(&self) -> String {
        let lake = || format!("  type: delta\n  uri: {:?}\n  commit: {{interval: 200ms}}\n", self.lake);
        let include: Vec<String> = self.include.iter().map(|p| format!("{p:?}")).collect();
        format!(
            "version: 1\nname: {}\nsource:\n  type: mysql\n  url: {:?}\n{}tables:\n  include: [{}]\n\
             sink:\n{}{}http:\n  listen: {:?}\n{}",
            self.name,
            self.url,
            self.source,
            include.join(", "),
            self.target.clone().unwrap_or_else(lake),
            self.sink,
            self.listen,
            self.more
        )
    }
}

/// One test's world.
pub(crate) struct MyScene {
    pub(crate) server: Mysqld,
    pub(crate) config: MyConfig,
    dir: PathBuf,
    readers: Option<Readers>,
    starts: AtomicUsize,
    _http: Port,
    _permit: Permit,
}

impl MyScene {
    /// A server and an empty lake. `None`, loudly, where the server could not be installed.
    pub(crate) fn new(test: &str, brand: Brand) -> Option<MyScene> {
        MyScene::with(test, brand, &[])
    }

    /// The same with more options of the server.
    pub(crate) fn with(test: &str, brand: Brand, options: &[&str]) -> Option<MyScene> {
        if !brand.is_here() {
            return None;
        }
        let permit = Permit::take();
        let dir = run_dir(test);
        let server = Mysqld::start_with(brand, &dir.join("my"), options);
        let http = Port::take();
        let config = MyConfig {
            name: "shop".into(),
            url: server.url("strandline", "shop"),
            include: vec!["shop.*".into()],
            lake: format!("file://{}", dir.join("lake").display()),
            target: None,
            listen: format!("127.0.0.1:{}", http.number()),
            source: String::new(),
            sink: String::new(),
            more: String::new(),
        };
        let starts = AtomicUsize::new(0);
        Some(MyScene { server, config, dir, readers: None, starts, _http: http, _permit: permit })
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a table lies: `shop.orders`.
    pub(crate) fn table(&self, name: &str) -> PathBuf {
        let (schema, table) = name.split_once('.').expect("database.table");
        self.dir.join("lake").join(schema).join(table)
    }

    /// A session that may do anything.
    #[track_caller]
    pub(crate) fn sql(&self) -> MySql {
        self.server.sql()
    }

    /// Writes the configuration as it is now; its path.
    pub(crate) fn write_config(&self) -> String {
        let path = self.dir.join("strandline.yaml");
        std::fs::write(&path, self.config.text()).expect("the run directory can be written");
        path.to_str().expect("plain characters").to_owned()
    }

    /// Starts the binary with any arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Strandline {
        Strandline::start(&self.dir, self.starts.fetch_add(1, Ordering::SeqCst), arguments)
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
    pub(crate) fn difference(&mut self, name: &str) -> Option<String> {
        let (schema, table) = name.split_once('.').expect("database.table");
        let mut sql = self.sql();
        let columns: Vec<String> = sql
            .rows(&format!(
                "select column_name from information_schema.columns where table_schema = '{schema}' \
                 and table_name = '{table}' order by ordinal_position"
            ))
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect();
        assert!(!columns.is_empty(), "no table {name} in the source");
        let list: Vec<String> = columns.iter().map(|c| format!("`{c}`")).collect();
        let source = sql.rows(&format!("select {} from `{schema}`.`{table}`", list.join(", ")));
        let path = self.table(name);
        match self.readers().try_rows(Engine::DuckDb, &path, None, Some(&columns)) {
            Ok(target) => compare::difference(source, target),
            Err(error) => Some(format!("the target cannot be read: {error}")),
        }
    }

    /// Fails the test unless every table holds exactly the source's rows, read by DuckDB.
    #[track_caller]
    pub(crate) fn assert_equal(&mut self, tables: &[&str]) {
        for name in tables {
            if let Some(found) = self.difference(name) {
                panic!("{name}: {found}");
            }
        }
    }
}

impl Drop for MyScene {
    fn drop(&mut self) {
        self.readers = None;
        self.server.crash();
        if std::thread::panicking() || std::env::var_os("STRANDLINE_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            std::fs::remove_dir_all(&self.dir).expect("the run directory can be removed");
        }
    }
}
