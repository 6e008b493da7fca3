//! The source is safe: what strandline must not do to the database that it reads, and what the database, its
//! settings and the network may do to strandline.

use crate::harness::process::Strandline;
use crate::harness::proxy::Proxy;
use crate::harness::reader::Engine;
use crate::harness::sql::{Sql, parse_lsn};
use crate::harness::{LONG, NEWEST, OLDEST, Scene, deltalog, matrix, places, until};
use std::io::{Read, Write};
use std::net::TcpStream;

fn with_orders(test: &str, major: u32) -> Scene {
    let scene = Scene::on(test, major);
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 100) i",
    );
    scene
}

#[track_caller]
fn live(scene: &Scene) -> Strandline {
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.orders");
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop").is_some()
            && scene
                .sql()
                .value("select count(*) from pg_stat_replication where application_name like 'strandline/%'")
                != "0"
    });
    running
}

#[track_caller]
fn equal_at_last(scene: &mut Scene, running: &mut Strandline) {
    until(LONG, "the rows arrive", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        scene.difference("public.orders", Engine::DuckDb).is_none()
    });
}

fn status(scene: &Scene) -> Option<serde_json::Value> {
    let mut stream = TcpStream::connect(&scene.config.listen).ok()?;
    write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// How the status speaks of retained WAL: state, severity.
fn budget(scene: &Scene) -> Option<(String, String)> {
    let status = status(scene)?;
    let reasons = status["reasons"].as_array()?.clone();
    let reason = reasons.iter().find(|r| r["code"] == "PG047")?;
    Some((status["state"].as_str()?.to_owned(), reason["severity"].as_str()?.to_owned()))
}

fn write_log(sql: &mut Sql, megabytes: u32) {
    for _ in 0..megabytes {
        sql.exec("select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))");
    }
}

/// An old transaction in the source keeps the log. At half the budget there is a warning, at four fifths the
/// pipeline is degraded, and at the budget the slot goes, where that was declared: then the loss is named, and
/// a resync heals it.
#[test]
fn the_budget_for_retained_log_is_kept() {
    let mut scene = with_orders("safe-budget", NEWEST);
    scene.drain();
    scene.config.source = "  wal_budget: 40MiB\n".into();
    let mut old = scene.sql();
    old.exec("begin; insert into orders values (1000, 'old')");
    let mut running = live(&scene);
    let mut sql = scene.sql();
    let mut seen = |megabytes, state: &str, severity: &str| {
        write_log(&mut sql, megabytes);
        until(LONG, &format!("{state}, {severity}"), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            budget(&scene) == Some((state.to_owned(), severity.to_owned()))
        });
    };
    seen(24, "streaming", "warning");
    seen(12, "degraded", "error");
    write_log(&mut scene.sql(), 12);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.config.source = "  wal_budget: 40MiB\n  on_wal_budget: drop_slot\n".into();
    scene.run(&[]).expect_code(1).expect_error("PG047");
    assert_eq!(scene.sql().value("select count(*) from pg_replication_slots"), "0", "the slot is dropped");
    old.exec("commit");
    scene.run(&[]).expect_code(1).expect_error("PG040");
    scene.config.source =
        "  wal_budget: 40MiB\n  on_wal_budget: drop_slot\n  on_position_lost: resync\n".into();
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

/// A server that would make each COMMIT wait for the target is refused, before and while it runs.
#[test]
fn nobody_waits_for_us_at_commit() {
    let mut scene = with_orders("safe-synchronous", NEWEST);
    let set = |names: &str| {
        let mut sql = scene.sql();
        sql.exec(&format!("alter system set synchronous_standby_names = '{names}'"));
        sql.exec("select pg_reload_conf()");
    };
    set("FIRST 1 (*)");
    let slots = "select count(*) from pg_replication_slots";
    scene.run(&[]).expect_code(3).expect_error("PG016");
    assert_eq!(scene.sql().value(slots), "0", "nothing was made");
    set("standby1");
    set("");
    let running = live(&scene);
    set("ANY 1 (standby1, \"strandline/shop\")");
    running.wait(LONG).expect_code(3).expect_error("PG016");
    set("");
    scene.sql().exec("insert into orders values (1000, 'after it')");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

/// Nothing happens in our database, much in another one of the server: the slot moves on all the same. The
/// server's patience is short meanwhile, and lasts.
#[test]
fn a_busy_neighbour_database_keeps_no_log() {
    let scene = with_orders("safe-neighbour", NEWEST);
    scene.sql().exec("create database other");
    scene.sql().exec("alter system set wal_sender_timeout = '1s'");
    scene.sql().exec("select pg_reload_conf()");
    let mut running = live(&scene);
    let mut other = Sql::connect(&scene.pg.url("postgres", "other")).expect("the other database");
    write_log(&mut other, 100);
    let end = parse_lsn(&other.value("select pg_current_wal_lsn()"));
    until(LONG, "the slot has passed what was written elsewhere", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        // What lets the oldest log go is a look at the running transactions, which a checkpoint writes, too.
        other.exec("checkpoint");
        let slot = "select least(restart_lsn, confirmed_flush_lsn) from pg_replication_slots \
                    where slot_name = 'strandline_shop'";
        parse_lsn(&other.value(slot)) >= end
    });
    assert!(!running.stderr().contains("the source is lost"), "{}", running.stderr());
    running.terminate();
    running.wait(LONG).expect_code(0);
}

const HOSTILE: &[&str] = &[
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '300ms'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "search_path = 'evil, pg_catalog'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Asia/Kolkata'",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "wal_sender_timeout = '1s'",
    "enable_tidscan = off",
    "client_min_messages = 'error'",
];

fn hostile_settings(major: u32) {
    let mut scene = Scene::on("safe-settings", major);
    let mut sql = scene.sql();
    sql.exec(
        "create schema evil; grant usage on schema evil to public;
         create function evil.current_setting(text) returns text language sql as $$ select 'no' $$;
         create function evil.pg_is_in_recovery() returns bool language sql as $$ select true $$;
         create table orders (id int primary key, at timestamptz, d date, i interval, f float8, b bytea, n numeric, v text)",
    );
    for setting in HOSTILE {
        sql.exec(&format!("alter role strandline set {setting}"));
        sql.exec(&format!("alter role strandline in database shop set {setting}"));
    }
    if matrix().unwrap_or(major) >= 17 {
        sql.exec("alter role strandline set transaction_timeout = '300ms'");
    }
    let row = "now() + i * interval '1 day', current_date - i, make_interval(months => i, secs => i / 7.0), i / 3.0, \
               decode(lpad(to_hex(i), 8, '0'), 'hex'), i / 7.0, 'é' || i";
    sql.exec(&format!("insert into orders select i, {row} from generate_series(1, 20000) i"));
    let mut running = live(&scene);
    sql.exec(&format!("insert into orders select i, {row} from generate_series(20001, 40000) i"));
    sql.exec("delete from orders where id % 7 = 0");
    equal_at_last(&mut scene, &mut running);
    running.terminate();
    running.wait(LONG).expect_code(0);
}

#[test]
fn hostile_settings_do_no_harm_on_the_oldest() {
    hostile_settings(OLDEST);
}

#[test]
fn hostile_settings_do_no_harm_on_the_newest() {
    hostile_settings(NEWEST);
}

/// A managed service: the role that only its servers have, what `doctor` calls it, and what its documentation has the
/// administrator run for the role `cdc_NAME` (`{me}`). The tables are those of `app_NAME` (`{app}`).
struct Service {
    name: &'static str,
    marker: &'static str,
    called: &'static str,
    documented: &'static str,
}

const fn service(
    name: &'static str,
    marker: &'static str,
    called: &'static str,
    documented: &'static str,
) -> Service {
    Service { name, marker, called, documented }
}

/// A publication by the owner of the tables; the role may read them.
const OWNER_PUBLISHES: &str = "grant usage on schema public to {me}; grant select on all tables in schema public to {me};
     grant create on database {db} to {app}; set role {app};
     create publication strandline_pub for table orders with (publish_via_partition_root = true); reset role;";

/// None of them has a superuser. On RDS and Aurora the right to replicate comes with `rds_replication`; this server knows
/// it as an attribute only.
const SERVICES: [Service; 6] = [
    service(
        "rds",
        "create role rdsadmin",
        "Amazon RDS",
        "create role rds_superuser createdb createrole; create role rds_replication; grant rds_superuser to {app};
         alter role {me} replication; grant rds_replication to {me};",
    ),
    service(
        "aurora",
        "create function aurora_version() returns text language sql as $$ select '17' $$",
        "Amazon Aurora",
        "create role rds_superuser createdb createrole; create role rds_replication; grant rds_superuser to {app};
         alter role {me} replication; grant rds_replication to {me};",
    ),
    service(
        "cloudsql",
        "create role cloudsqladmin",
        "Google Cloud SQL",
        "create role cloudsqlsuperuser createdb createrole; grant pg_monitor to cloudsqlsuperuser; grant cloudsqlsuperuser to {app};
         alter role {me} replication; grant cloudsqlsuperuser to {me};",
    ),
    service(
        "azure",
        "create role azuresu",
        "Azure Database for PostgreSQL",
        "create role azure_pg_admin createdb createrole; grant azure_pg_admin to {app}; alter role {me} replication;
         grant azure_pg_admin to {me};",
    ),
    // The tables' policies hide rows from everybody who has not BYPASSRLS.
    service(
        "supabase",
        "create role supabase_admin",
        "Supabase",
        "create role authenticated; alter role {me} replication bypassrls createdb createrole; grant authenticated to {me};
         alter table orders enable row level security; create policy own on orders to authenticated using (id < 0);",
    ),
    // Who owns the database replicates: publication and slot are made by the run.
    service(
        "neon",
        "create role neon_superuser createdb createrole bypassrls replication",
        "Neon",
        "alter role {me} replication bypassrls; grant {app} to {me}; grant create on database {db} to {me};",
    ),
];

/// What the documentation of managed services gives a replicating role is enough to copy, to follow and to tear down,
/// and `doctor` says nothing against it.
#[test]
fn the_grants_of_managed_services_are_enough() {
    let mut scene = Scene::new("safe-services");
    let mut sql = scene.sql();
    let mut running = Vec::new();
    for Service { name, marker, called, documented } in &SERVICES {
        sql.exec(&format!("create database shop_{name}"));
        sql.exec(&format!("revoke create, temporary on database shop_{name} from public"));
        sql.exec(&format!("create role cdc_{name} login password 'cdc'; create role app_{name} login"));
        let mut own = Sql::connect(&scene.pg.url("postgres", &format!("shop_{name}"))).expect("the database");
        own.exec(&format!(
            "revoke all on schema public from public; grant usage on schema public to app_{name};
             create table orders (id int primary key, v text); alter table orders owner to app_{name};
             insert into orders select i, 'x' from generate_series(1, 100) i"
        ));
        let filled = |text: &str| {
            let (me, app, db) = (format!("cdc_{name}"), format!("app_{name}"), format!("shop_{name}"));
            text.replace("{me}", &me).replace("{app}", &app).replace("{db}", &db)
        };
        // What the service's servers have; roles are the whole server's, so that they go before the next one.
        own.exec(marker);
        sql.exec("drop role if exists rds_superuser, rds_replication");
        own.exec(&filled(documented));
        if *name != "neon" {
            own.exec(&filled(OWNER_PUBLISHES));
        }
        let port = crate::harness::ports::Port::take();
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  type: postgres\n  url: {:?}\n  publication: strandline_pub\n\
             sink:\n  type: delta\n  uri: {:?}\n  commit: {{interval: 50ms}}\nhttp:\n  listen: \"127.0.0.1:{}\"\n",
            format!("postgres://cdc_{name}:cdc@127.0.0.1:{}/shop_{name}", scene.pg.port()),
            format!("file://{}", scene.dir().join(name).display()),
            port.number()
        );
        let config = scene.write_text(&format!("{name}.yaml"), &text);
        let doctor = scene.start(&["doctor", "-c", &config]).wait(LONG);
        doctor.expect_code(0);
        assert!(doctor.stdout.contains(called), "{name}:\n{}", doctor.stdout);
        running.push((name, config.clone(), scene.start(&["run", "-c", &config]), port));
        match marker.strip_prefix("create role ").and_then(|rest| rest.split(' ').next()) {
            Some(role) => own.exec(&format!("drop role {role}")),
            None => own.exec("drop function aurora_version()"),
        }
    }
    for (name, config, mut process, _port) in running {
        let table = scene.dir().join(name).join("public/orders");
        let mut own = Sql::connect(&scene.pg.url("postgres", &format!("shop_{name}"))).expect("the database");
        until(LONG, "it is copied", || {
            assert!(process.is_running(), "{name} ended:\n{}", process.stderr());
            deltalog::position(&table, name).is_some()
        });
        own.exec("insert into orders values (1000, 'after the copy'); delete from orders where id < 10");
        let rows = own.rows("select id, v from orders order by id");
        until(LONG, "the rows arrive", || {
            assert!(process.is_running(), "{name} ended:\n{}", process.stderr());
            scene.readers().sql(&table, None, "select id, v from t order by id") == rows
        });
        process.terminate();
        process.wait(LONG).expect_code(0);
        scene.start(&["teardown", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    }
    assert_eq!(scene.sql().value("select count(*) from pg_replication_slots"), "0");
}

/// A connection that is dead without a word, as behind a firewall that forgot it: nothing is passed on, nothing is
/// closed, TCP itself answers. It is noticed, and the rows arrive.
#[test]
fn a_connection_that_falls_silent_is_given_up() {
    let mut scene = with_orders("safe-silent", NEWEST);
    scene.sql().exec("alter system set wal_sender_timeout = '2s'");
    scene.sql().exec("select pg_reload_conf()");
    let proxy = Proxy::start(scene.pg.port(), |_| {});
    scene.config.url = scene.config.url.replace(&scene.pg.port().to_string(), &proxy.port().to_string());
    let mut running = live(&scene);
    proxy.hold();
    scene.sql().exec("insert into orders values (1000, 'in the silence')");
    equal_at_last(&mut scene, &mut running);
    assert!(running.stderr().contains("has said nothing"), "{}", running.stderr());
    running.terminate();
    running.wait(LONG).expect_code(0);
}

/// A password that is rotated needs no restart; a role that may not log in any more ends the run.
#[test]
fn a_rotated_password_is_read_again() {
    let mut scene = with_orders("safe-password", NEWEST);
    let hba = scene.pg.data().join("pg_hba.conf");
    let old = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all strandline 127.0.0.1/32 scram-sha-256\n{old}")).unwrap();
    scene.sql().exec("select pg_reload_conf()");
    let file = scene.write_text("password", "strandline\n");
    scene.config.url = scene.config.url.replace("strandline:strandline@", "strandline@");
    scene.config.source = format!("  password: {{file: {file:?}}}\n");
    let mut running = live(&scene);
    let disconnect = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'strandline'";
    for n in 0..2 {
        let password = format!("new-{n}");
        scene.sql().exec(&format!("alter role strandline password '{password}'"));
        scene.write_text("password", &password);
        scene.sql().exec(disconnect);
        scene.sql().exec(&format!("insert into orders values (100{n}, 'after the rotation')"));
        equal_at_last(&mut scene, &mut running);
    }
    scene.sql().exec("alter role strandline nologin");
    scene.sql().exec(disconnect);
    running.wait(LONG).expect_code(3).expect_error("PG001");
}

/// A pooler in front is refused with a reason: one that does not know our settings, and one that was told to ignore
/// them.
#[test]
fn a_pooler_is_refused() {
    let mut scene = with_orders("safe-pooler", NEWEST);
    let port = crate::harness::ports::Port::take();
    let direct = scene.pg.port();
    for (ignored, code) in [
        ("", "PG001"),
        (
            "IntervalStyle,extra_float_digits,bytea_output,lc_monetary,search_path,row_security,quote_all_identifiers,\
             default_transaction_read_only,default_transaction_deferrable,default_transaction_isolation,\
             statement_timeout,lock_timeout,idle_in_transaction_session_timeout,replication",
            "PG014",
        ),
    ] {
        let users = scene.write_text("users.txt", "\"strandline\" \"strandline\"\n");
        let ini = scene.write_text(
            "pgbouncer.ini",
            &format!(
                "[databases]\nshop = host=127.0.0.1 port={direct} dbname=shop\n[pgbouncer]\nlisten_addr=127.0.0.1\n\
                 listen_port={}\nunix_socket_dir=\nauth_type=trust\nauth_file={users}\npool_mode=session\nignore_startup_parameters={ignored}\n",
                port.number()
            ),
        );
        let dir = places::cache().join("servers/pgbouncer");
        let mut command = places::as_postgres(&dir.join("usr/sbin/pgbouncer"));
        command.env("LD_LIBRARY_PATH", dir.join("usr/lib/x86_64-linux-gnu")).arg("-q").arg(&ini);
        let mut pooler = command.spawn().expect("pgbouncer starts: scripts/install.sh pgbouncer");
        until(LONG, "the pooler listens", || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
        scene.config.url = format!("postgres://strandline:strandline@127.0.0.1:{}/shop", port.number());
        let outcome = scene.run(&[]);
        outcome.expect_error(code);
        assert!(outcome.stderr.contains("pooler"), "{}", outcome.stderr);
        pooler.kill().expect("it can be killed");
        pooler.wait().expect("it ends");
    }
    assert_eq!(scene.sql().value("select count(*) from pg_replication_slots"), "0", "nothing was made");
}
