//! MySQL and MariaDB servers as direct children of the test.
//!
//! As with PostgreSQL, a template data directory per server is made once and copied. The programs are of another
//! Debian than this one, perhaps: each folder brings its own loader and libraries (`scripts/install.sh`).

use super::mysql_sql::MySql;
use super::places;
use super::ports::Port;
use super::until;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Raised with each change of what a template holds.
const TEMPLATE_FORMAT: u32 = 3;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Brand {
    /// MySQL 9, from Debian's moving suite.
    MySql9,
    /// MariaDB 11.8.
    MariaDb118,
    /// MariaDB 10.11.
    MariaDb1011,
}

impl Brand {
    fn folder(self) -> PathBuf {
        let name = match self {
            Brand::MySql9 => "mysql9",
            Brand::MariaDb118 => "mariadb11.8",
            Brand::MariaDb1011 => "mariadb10.11",
        };
        places::cache().join("servers").join(name)
    }

    pub(crate) fn is_mariadb(self) -> bool {
        self != Brand::MySql9
    }

    /// Whether `scripts/install.sh` could get it. It says so loudly when not, and so does this.
    pub(crate) fn is_here(self) -> bool {
        let stamp = self.folder().join(".stamp");
        let is_here = stamp.exists();
        if !is_here {
            eprintln!(
                "SKIPPED: no {self:?} ({} is missing): scripts/install.sh could not get it",
                stamp.display()
            );
        }
        is_here
    }

    fn version(self) -> String {
        std::fs::read_to_string(self.folder().join(".stamp")).unwrap_or_default().trim().to_owned()
    }

    fn share(self) -> PathBuf {
        let share = self.folder().join("usr/share");
        let own = share.join("mariadb");
        if own.is_dir() { own } else { share.join("mysql") }
    }

    /// A program of the folder, by the folder's loader.
    pub(crate) fn program(self, path: &str) -> Command {
        let dir = self.folder();
        let mut command = places::dies_with_us(&dir.join("usr/lib64/ld-linux-x86-64.so.2"));
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
            .map(|lib| dir.join(lib).display().to_string());
        command.args(["--library-path", &libraries.join(":")]).arg(dir.join(path));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn server(self, data: &Path) -> Command {
        let share = self.share();
        let mut command =
            self.program(if self.is_mariadb() { "usr/sbin/mariadbd" } else { "usr/sbin/mysqld" });
        command.arg("--no-defaults");
        if places::is_root() {
            command.arg("--user=root");
        }
        command
            .arg(format!("--lc-messages-dir={}", share.display()))
            .arg(format!("--character-sets-dir={}", share.join("charsets").display()))
            .arg(format!("--plugin-dir={}", self.folder().join("usr/lib/mysql/plugin").display()))
            .arg("--secure-file-priv=")
            .arg("--innodb-buffer-pool-size=64M")
            .arg(format!("--datadir={}", data.display()));
        command.arg(if self.is_mariadb() {
            "--innodb-log-file-size=16M"
        } else {
            "--innodb-redo-log-capacity=32M"
        });
        command
    }
}

/// A server. Dropping it kills it.
pub(crate) struct Mysqld {
    pub(crate) brand: Brand,
    dir: PathBuf,
    port: Port,
    /// `--server-id`, and whatever else a test wants otherwise.
    options: Vec<String>,
    child: Option<Child>,
}

impl Mysqld {
    /// Starts a server on a copy of the template, in `dir`, with more options; the last one of a name counts.
    pub(crate) fn start_with(brand: Brand, dir: &Path, options: &[&str]) -> Mysqld {
        let mut server = Mysqld::prepare(brand, dir, options);
        super::postgres::copy(&template(brand), &server.data());
        server.restart();
        server
    }

    fn prepare(brand: Brand, dir: &Path, options: &[&str]) -> Mysqld {
        std::fs::create_dir_all(dir).expect("the run directory can be written");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Mysqld { brand, dir: dir.to_owned(), port: Port::take(), options, child: None }
    }

    /// The data directory; copy or edit it only while the server is stopped.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Starts the stopped or crashed server again, on its old port.
    pub(crate) fn restart(&mut self) {
        self.launch(&[]);
    }

    /// Stops the server, and starts it with more options, from now on.
    pub(crate) fn restart_with(&mut self, options: &[&str]) {
        self.stop();
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self.restart();
    }

    fn launch(&mut self, more: &[String]) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("the log can be written");
        let mut command = self.brand.server(&self.data());
        command
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--port={}", self.port.number()))
            .arg(format!("--socket={}", self.dir.join("my.sock").display()))
            .arg(format!("--pid-file={}", self.dir.join("my.pid").display()))
            .arg(format!("--tmpdir={}", self.dir.display()))
            .args([
                "--server-id=1",
                "--log-bin=binlog",
                "--binlog-row-metadata=FULL",
                "--binlog-row-image=FULL",
            ])
            .args(["--binlog-format=ROW", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"])
            .args(["--innodb-doublewrite=OFF", "--skip-name-resolve", "--performance-schema=OFF"]);
        if self.brand.is_mariadb() {
            command.args(["--gtid-domain-id=0", "--gtid-strict-mode=ON", "--character-set-server=utf8mb4"]);
        } else {
            command.args(["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
        }
        command.args(&self.options).args(more);
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the server starts"));
        until(Duration::from_secs(60), "the server accepts connections", || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("{:?} ended ({status}); see {}", self.brand, self.log().display());
            }
            MySql::connect(&self.url("admin", "mysql")).is_ok()
        });
    }

    /// kill -9.
    pub(crate) fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// Orderly stop.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        places::signal("TERM", &[child.id()]);
        until(Duration::from_secs(60), "the server stops", || matches!(child.try_wait(), Ok(Some(_))));
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// A connection URL for a user of the template (the password is the name) and a database.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}:{user}@127.0.0.1:{}/{database}", self.port.number())
    }

    /// A session that may do anything, in the database `shop`.
    pub(crate) fn try_sql(&self) -> Result<MySql, super::mysql_sql::Failed> {
        MySql::connect(&self.url("admin", "shop"))
    }

    /// A session that may do anything, in the database `shop`.
    #[track_caller]
    pub(crate) fn sql(&self) -> MySql {
        self.try_sql().unwrap_or_else(|error| panic!("cannot connect: {error:?}"))
    }

    /// A copy of the stopped server's data, as another server with an identity of its own.
    pub(crate) fn clone_stopped(&self, dir: &Path, options: &[&str]) -> Mysqld {
        assert!(self.child.is_none(), "the server must be stopped");
        let other = Mysqld::prepare(self.brand, dir, options);
        super::postgres::copy(&self.data(), &other.data());
        other
    }
}

impl Drop for Mysqld {
    fn drop(&mut self) {
        self.crash();
    }
}

/// The data directory that servers of this brand are copied from.
fn template(brand: Brand) -> PathBuf {
    let base = places::cache().join("templates");
    std::fs::create_dir_all(&base).expect("the cache can be written");
    let name = format!("{brand:?}-{}-{TEMPLATE_FORMAT}", brand.version())
        .to_lowercase()
        .replace([':', '+', '~'], "_");
    let lock = File::create(base.join(format!("{name}.lock"))).expect("the lock file can be written");
    lock.lock().expect("the lock can be taken");
    let ready = base.join(&name);
    if !ready.exists() {
        let building = base.join(format!("{name}.part"));
        if building.exists() {
            std::fs::remove_dir_all(&building).expect("a broken template can be removed");
        }
        let mut server = Mysqld::prepare(brand, &building, &[]);
        make_data_dir(&server);
        let users = building.join("users.sql");
        std::fs::write(&users, USERS).expect("the template can be written");
        server.launch(&[format!("--init-file={}", users.display())]);
        let mut sql = MySql::connect(&server.url("admin", "mysql")).expect("the new server can be reached");
        sql.exec(if brand.is_mariadb() { "reset master" } else { "reset binary logs and gtids" });
        drop(sql);
        server.stop();
        // Two servers must not share an identity.
        let identity = server.data().join("auto.cnf");
        if identity.exists() {
            std::fs::remove_file(identity).expect("the template can be written");
        }
        std::fs::rename(&building, &ready).expect("the template can be renamed");
    }
    ready.join("data")
}

/// What every test finds: `admin` may do anything, `strandline` what docs/MYSQL.md asks for, `reader` nothing
/// but log in.
const USERS: &str = "CREATE USER admin@'%' IDENTIFIED BY 'admin';
GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;
CREATE USER strandline@'%' IDENTIFIED BY 'strandline';
GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO strandline@'%';
CREATE USER reader@'%' IDENTIFIED BY 'reader';
CREATE DATABASE shop DEFAULT CHARACTER SET utf8mb4;
";

fn make_data_dir(server: &Mysqld) {
    let data = server.data();
    let mut command = server.brand.server(&data);
    if server.brand.is_mariadb() {
        std::fs::create_dir_all(&data).expect("the template can be written");
        let boot = server.dir.join("boot.sql");
        std::fs::write(&boot, bootstrap(server.brand)).expect("the template can be written");
        command.args(["--bootstrap", "--skip-grant-tables", "--log-warnings=0"]);
        command.stdin(File::open(&boot).expect("it was just written"));
    } else {
        command.arg("--initialize-insecure");
    }
    let output = command.output().expect("the server's program runs");
    assert!(output.status.success(), "no data directory: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `mariadb-install-db` feeds the server.
fn bootstrap(brand: Brand) -> String {
    let share = brand.share();
    let prefix = if share.join("mariadb_system_tables.sql").exists() { "mariadb" } else { "mysql" };
    let files = [
        format!("{prefix}_system_tables.sql"),
        format!("{prefix}_performance_tables.sql"),
        format!("{prefix}_system_tables_data.sql"),
        "maria_add_gis_sp_bootstrap.sql".to_owned(),
    ];
    let mut script = String::from(
        "create database mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n",
    );
    for file in files {
        let text = std::fs::read(share.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.contains("@current_hostname"))
        {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}
