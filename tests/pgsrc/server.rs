//! Starts a real PostgreSQL for a test and takes it down with it.
//!
//! One template data directory per test process, copied for each server. The server is a direct child.

use crate::harness::places::{self, give_to_postgres, postgres_bin};
use crate::harness::ports::Port;
use crate::harness::random::Random;
use crate::harness::sql::Sql;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use strandline::source::postgres::options::PgOptions;

/// Every supported version speaks the same here; 15 is always installed for tests, a run of the matrix names another.
pub(crate) fn major() -> u32 {
    std::env::var("STRANDLINE_TEST_PG").map_or(15, |major| major.parse().expect("a version"))
}

/// A running server; dropped, it is killed and its directory removed.
pub(crate) struct Server {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    _port: Port,
}

/// A command as the user of the server, which refuses to run as root.
pub(crate) fn as_postgres(program: impl AsRef<Path>) -> Command {
    places::as_postgres(program.as_ref())
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where everything of these tests is.
fn root() -> PathBuf {
    std::env::temp_dir().join(format!("strandline-pgsrc-{}", places::uid()))
}

fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let root = &root();
        fs::create_dir_all(root).expect("the root is made");
        fs::set_permissions(root, fs::Permissions::from_mode(0o777)).expect("the root is opened");
        sweep(root);
        let dir = root.join(format!("tpl-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        run(as_postgres(postgres_bin(major()).join("initdb")).arg("-D").arg(&dir).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        dir
    })
}

/// Removes what test processes that are gone left behind.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').nth(1).filter(|p| !p.is_empty() && name.starts_with(['t', 'd']));
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Server {
    /// A server with settings of the test's own.
    pub(crate) fn start(settings: &str) -> Server {
        Self::start_with(settings, |_| {})
    }

    /// As [`Server::start`]; `prepare` may change the data directory before the start.
    pub(crate) fn start_with(settings: &str, prepare: impl FnOnce(&Path)) -> Server {
        static COUNT: Mutex<u32> = Mutex::new(0);
        let template = template();
        let number = {
            let mut count = COUNT.lock().expect("the count is not poisoned");
            *count += 1;
            *count
        };
        let claim = Port::take();
        let port = claim.number();
        let dir = root().join(format!("d-{}-{number}", std::process::id()));
        run(Command::new("cp").arg("-a").arg(template).arg(&dir));
        let mut conf =
            fs::OpenOptions::new().append(true).open(dir.join("postgresql.conf")).expect("the configuration");
        write!(
            conf,
            "listen_addresses='127.0.0.1'\nunix_socket_directories='{}'\nwal_level=logical\nfsync=off\n\
             full_page_writes=off\nshared_buffers=64MB\nmax_wal_senders=20\nmax_replication_slots=20\n\
             logging_collector=off\nmax_connections=40\nport={port}\n{settings}\n",
            dir.display()
        )
        .expect("the configuration is written");
        prepare(&dir);
        let log = fs::File::create(dir.join("server.log")).expect("the log");
        let child = as_postgres(postgres_bin(major()).join("postgres"))
            .arg("-D")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Server { child, dir, port, _port: claim };
        server.wait_ready();
        server
    }

    fn wait_ready(&self) {
        let started = Instant::now();
        loop {
            let ready = fs::read_to_string(self.dir.join("postmaster.pid"))
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|l| l.trim() == "ready"));
            if ready {
                return;
            }
            let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(30), "the server does not come up: {log}");
            // Polling a process that starts; nothing is asserted about time.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The superuser over TCP.
    pub(crate) fn options(&self) -> PgOptions {
        self.options_of("postgres", "")
    }

    /// Some user; `query` begins with `?` or is empty.
    pub(crate) fn options_of(&self, user: &str, query: &str) -> PgOptions {
        let url = format!("postgres://{user}@127.0.0.1:{}/postgres{query}", self.port);
        PgOptions::from_url(&url, "test").unwrap_or_else(|e| panic!("{}", e.report()))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// Runs a script as the superuser through psql, which has nothing of ours in it. Each statement is a
    /// transaction, unless the script says otherwise.
    pub(crate) fn sql(&self, script: &str) -> String {
        let mut psql = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.dir)
            .args(["-p", &self.port.to_string(), "-d", "postgres", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        psql.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("psql reads");
        let output = psql.wait_with_output().expect("psql ends");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A file's content, read by the superuser of the machine.
    pub(crate) fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.dir.join(name);
        fs::write(&path, content).expect("the file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode is set");
        give_to_postgres(&path);
    }

    /// Re-reads pg_hba.conf and the configuration.
    pub(crate) fn reload(&self) {
        let before = self.log().matches("reloading configuration files").count();
        self.sql("select pg_reload_conf()");
        let started = Instant::now();
        while self.log().matches("reloading configuration files").count() == before {
            assert!(started.elapsed() < Duration::from_secs(10), "no reload");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Clients on threads of their own, each running `script` again and again until the time is over.
    pub(crate) fn load(
        &self,
        clients: u64,
        time: Duration,
        script: fn(&mut Random) -> String,
    ) -> Vec<JoinHandle<()>> {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        let mut random = Random::from_env("load");
        let client = |mut random: Random, url: String| {
            std::thread::spawn(move || {
                let mut sql = Sql::connect(&url).expect("a session");
                let started = Instant::now();
                while started.elapsed() < time {
                    // A deadlock with another client is a part of the load.
                    if sql.try_exec(&script(&mut random)).is_err() {
                        sql.exec("rollback");
                    }
                }
            })
        };
        (0..clients).map(|_| client(random.fork(), url.clone())).collect()
    }

    /// The CPU seconds that a process has used.
    pub(crate) fn cpu_seconds(pid: u32) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown ends the backends too; `kill -9` of the postmaster alone would leave them.
        places::signal("QUIT", &[self.child.id()]);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
