//! What must hold on a MySQL before anything is read: each miss is refused with its code and the exact remedy.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;
use crate::harness::ports::Port;
use crate::harness::{LONG, until};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn each_setting_that_is_wrong_is_refused_with_its_remedy() {
    let Some(mut scene) = MyScene::new("my-checks", Brand::MySql9) else { return };
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key)");
    for (wrong, right, code, remedy) in [
        (
            "set global binlog_row_metadata = minimal",
            "set global binlog_row_metadata = full",
            "MY009",
            "SET PERSIST binlog_row_metadata = 'FULL'",
        ),
        (
            "set global binlog_format = mixed",
            "set global binlog_format = row",
            "MY002",
            "SET PERSIST binlog_format = 'ROW'",
        ),
    ] {
        sql.exec(wrong);
        let outcome = scene.run(&["--until-caught-up"]);
        outcome.expect_code(3).expect_error(code);
        assert!(outcome.stderr.contains(remedy), "{}", outcome.stderr);
        sql.exec(right);
    }
    scene.config.url = scene.server.url("reader", "shop");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(3).expect_error("MY007");
    assert!(
        outcome.stderr.contains("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%'"),
        "{}",
        outcome.stderr
    );
    scene.config.url = scene.server.url("nobody", "shop");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY030");
    scene.config.url = scene.server.url("strandline", "shop");
    scene.config.include = vec!["shop.nothing".into()];
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY010");
}

/// What works is shown as it is, and what a start would change is said; nothing of PostgreSQL is asked.
#[test]
fn the_configuration_of_a_mysql_is_shown_and_compared() {
    let Some(scene) = MyScene::new("my-config", Brand::MySql9) else { return };
    scene.sql().exec("create table t (id int primary key)");
    let config = scene.write_config();
    let shown = scene.start(&["config", "show", "-c", &config, "-o", "json"]).wait(LONG);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["source"]["type"], "mysql");
    assert!(shown["source"]["slot"].is_null());
    let diff = scene.start(&["config", "diff", "-c", &config]).wait(LONG);
    diff.expect_code(0);
    assert!(diff.stdout.contains("shop.t"), "{}", diff.stdout);
}

#[test]
fn without_a_log_and_with_statements_it_stops() {
    let Some(scene) = MyScene::with("my-nolog", Brand::MySql9, &["--skip-log-bin"]) else { return };
    scene.sql().exec("create table t (id int primary key)");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY001");
    drop(scene);
    let Some(scene) = MyScene::new("my-statement", Brand::MariaDb118) else { return };
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v int)");
    sql.exec("insert into t values (1, 1)");
    scene.drain();
    sql.exec("set session binlog_format = 'STATEMENT'");
    sql.exec("update t set v = 2");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("MY029");
}

/// A port where the server has forgotten the sum of every password whenever somebody comes: each login must tell it.
fn forgetful(scene: &MyScene) -> Port {
    let port = Port::take();
    let listener = TcpListener::bind(("127.0.0.1", port.number())).expect("the port is free");
    let (url, server) = (scene.server.url("admin", "mysql"), scene.server.port());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            MySql::connect(&url).expect("a session").exec("flush privileges");
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let again = |stream: &TcpStream| stream.try_clone().expect("a second handle");
            for (mut from, mut to) in [(again(&client), again(&server)), (server, client)] {
                std::thread::spawn(move || {
                    let done = std::io::copy(&mut from, &mut to);
                    (done, to.shutdown(Shutdown::Both))
                });
            }
        }
    });
    port
}

#[test]
fn a_login_works_with_and_without_tls() {
    let Some(mut scene) = MyScene::new("my-login", Brand::MySql9) else { return };
    scene.sql().exec("create table t (id int primary key)");
    // The password's sum is in the server's cache after one login over TLS; here it never is.
    let port = forgetful(&scene);
    let direct = scene.config.url.clone();
    let served = format!(":{}/", scene.server.port());
    scene.config.url = direct.replace(&served, &format!(":{}/", port.number()));
    assert_ne!(scene.config.url, direct);
    for mode in ["disable", "require", "prefer"] {
        scene.config.source = format!("  tls: {{mode: {mode}}}\n");
        scene.sql().exec("insert into t select coalesce(max(id), 0) + 1 from t");
        scene.drain();
        scene.assert_equal(&["shop.t"]);
    }
    scene.config.url = direct;
    scene.config.source = "  tls: {mode: verify-full}\n".into();
    scene.run(&["--until-caught-up"]).expect_error("MY034");
    // With an authority that is known, and a certificate that names the host.
    let dir = scene.dir().join("tls");
    std::fs::create_dir_all(&dir).expect("the run directory can be written");
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-ca -keyout ca.key -out ca.pem && \
                  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                  -addext subjectAltName=IP:127.0.0.1 -keyout srv.key -out srv.csr && \
                  openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -copy_extensions copy -out srv.pem";
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(&dir)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("srv.pem"), file("srv.key"));
    scene.sql().exec(&format!("set global ssl_ca = '{ca}', ssl_cert = '{cert}', ssl_key = '{key}'"));
    scene.sql().exec("alter instance reload tls");
    scene.config.source = format!("  tls: {{mode: verify-full, ca: {ca:?}}}\n");
    scene.drain();
    scene.assert_equal(&["shop.t"]);
}

/// MariaDB's own plug-ins for authentication: one that is spoken, and one that is not.
#[test]
fn mariadb_s_plugins_log_in_or_are_named() {
    for brand in [Brand::MariaDb118, Brand::MariaDb1011] {
        let Some(mut scene) = MyScene::new("my-ed25519", brand) else { continue };
        let mut sql = scene.sql();
        sql.exec("create table t (id int primary key)");
        sql.exec("insert into t values (1)");
        let mut add = |user: &str, soname: &str, plugin: &str| {
            sql.exec(&format!("install soname '{soname}'"));
            sql.exec(&format!("create user {user}@'%' identified via {plugin} using password('{user}')"));
            sql.exec(&format!(
                "grant select, reload, replication slave, replication client on *.* to {user}@'%'"
            ));
        };
        add("edward", "auth_ed25519", "ed25519");
        if brand == Brand::MariaDb118 {
            add("percival", "auth_parsec", "parsec");
            scene.config.url = scene.server.url("percival", "shop");
            let outcome = scene.run(&["--until-caught-up"]);
            outcome.expect_code(3).expect_error("MY030");
            assert!(outcome.stderr.contains("parsec"), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("IDENTIFIED VIA ed25519"), "{}", outcome.stderr);
        }
        scene.config.url = scene.server.url("edward", "shop");
        scene.drain();
        scene.assert_equal(&["shop.t"]);
        scene.config.url = scene.config.url.replace("edward:edward", "edward:wrong");
        scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY030");
    }
}

/// A token that a command makes is asked for again when the server refuses the one that is known.
#[test]
fn a_password_that_changes_needs_no_restart() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = MyScene::new("my-token", brand) else { continue };
        let mut sql = scene.sql();
        sql.exec("create table t (id int primary key)");
        sql.exec("alter user strandline@'%' identified by 'first'");
        let token = scene.dir().join("token");
        std::fs::write(&token, "first").expect("the run directory can be written");
        scene.config.url = scene.config.url.replace("strandline:strandline@", "strandline@");
        scene.config.source = format!("  password: {{command: [cat, {:?}]}}\n", token.display().to_string());
        let running = scene.start_run(&[]);
        until(Duration::from_secs(60), "it runs", || running.stderr().contains("\"took over\""));
        sql.exec("alter user strandline@'%' identified by 'second'");
        std::fs::write(&token, "second").expect("the run directory can be written");
        for row in sql.rows("select id from information_schema.processlist where user = 'strandline'") {
            let _gone = sql.try_exec(&format!("kill {}", row[0].as_deref().expect("a number")));
        }
        sql.exec("insert into t values (1)");
        until(Duration::from_secs(60), "it goes on", || scene.difference("shop.t").is_none());
        running.terminate();
        running.wait(LONG).expect_code(0);
    }
}
