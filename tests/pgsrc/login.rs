//! Logging in: methods, TLS modes, and what a refusal says.

use crate::server::Server;
use std::path::Path;
use std::process::Command;
use strandline::source::postgres::options::{Endpoint, PgOptions, Secret, TlsMode};
use strandline::source::postgres::wire::{Purpose, Wire};

fn with_password(mut options: PgOptions, password: &str) -> PgOptions {
    options.password = Some(Secret::new(password));
    options
}

async fn logs_in(options: &PgOptions) -> Wire {
    Wire::connect(options, Purpose::Query).await.unwrap_or_else(|e| panic!("{}", e.report()))
}

async fn refusal(options: &PgOptions) -> String {
    match Wire::connect(options, Purpose::Query).await {
        Ok(_) => panic!("{options:?} was let in"),
        Err(error) => error.report(),
    }
}

const USERS: &str = "set password_encryption='md5'; create role m login password 'm''pw';
    set password_encryption='scram-sha-256'; create role s login password 's pw ü';
    create role c login password 'cpw'; create role nobody login;";

#[tokio::test]
async fn methods_and_refusals() {
    let server = Server::start("");
    server.sql(USERS);
    server.write(
        "pg_hba.conf",
        "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all m 127.0.0.1/32 md5\n\
         host all s 127.0.0.1/32 scram-sha-256\nhost all c 127.0.0.1/32 password\n",
        0o600,
    );
    server.reload();
    let mut trusted = logs_in(&server.options()).await;
    assert_eq!(trusted.session().major, crate::server::major());
    assert_eq!(trusted.simple_query("select 1+1, null").await.unwrap(), [[Some("2".to_owned()), None]]);
    logs_in(&with_password(server.options_of("m", ""), "m'pw")).await;
    logs_in(&with_password(server.options_of("s", ""), "s pw ü")).await;

    let wrong = refusal(&with_password(server.options_of("s", ""), "hunter2")).await;
    assert!(wrong.contains("PG001") && !wrong.contains("hunter2"), "{wrong}");
    let none = refusal(&server.options_of("s", "")).await;
    assert!(none.contains("none is set"), "{none}");
    let clear = refusal(&with_password(server.options_of("c", ""), "cpw")).await;
    assert!(clear.contains("in clear"), "{clear}");
    let hba = refusal(&server.options_of("nobody", "")).await;
    assert!(hba.contains("PG001") && hba.contains("scram-sha-256"), "{hba}");
    let mut lost = server.options();
    lost.endpoints = vec![Endpoint::Tcp { host: "127.0.0.1".into(), port: 1 }];
    assert!(refusal(&lost).await.contains("PG006"));
    // The first place that answers is used.
    lost.endpoints.push(Endpoint::Tcp { host: "127.0.0.1".into(), port: server.port });
    logs_in(&lost).await;
    // A socket.
    let mut unix = server.options();
    unix.tls = TlsMode::VerifyFull;
    unix.endpoints = vec![Endpoint::Unix { directory: server.dir.clone(), port: server.port }];
    logs_in(&unix).await;
    // A connection outlives a failed statement and says what failed.
    let error = trusted.simple_query("select 1; select * from nowhere; select 2").await.unwrap_err();
    assert!(error.report().contains("PG014") && error.report().contains("nowhere"), "{}", error.report());
    assert_eq!(trusted.simple_query("select 3").await.unwrap(), [[Some("3".to_owned())]]);
}

#[tokio::test]
async fn settings_hold_against_the_role_s_own() {
    let server = Server::start("");
    server.sql(
        "create role cdc login replication; alter role cdc set extra_float_digits=-10;
         alter role cdc set datestyle='SQL,DMY'; alter role cdc set timezone='Asia/Tokyo';
         alter role cdc set statement_timeout='1s'; alter role cdc set idle_session_timeout='1s';
         alter role cdc set bytea_output='escape'; alter role cdc set search_path='pg_temp'",
    );
    for purpose in [Purpose::Query, Purpose::Replication] {
        let options = server.options_of("cdc", "");
        let mut wire = Wire::connect(&options, purpose).await.unwrap_or_else(|e| panic!("{}", e.report()));
        let show = "select 0.1::float8+0.2::float8, date '2024-03-04', '\\x00'::bytea,
            timestamptz '2024-01-01 00:00Z', current_setting('idle_session_timeout'),
            current_setting('search_path'), current_setting('application_name')";
        let row: Vec<String> =
            wire.simple_query(show).await.unwrap()[0].clone().into_iter().flatten().collect();
        assert_eq!(
            row,
            [
                "0.30000000000000004",
                "2024-03-04",
                "\\x00",
                "2024-01-01 00:00:00+00",
                "0",
                "",
                "strandline/test"
            ],
            "{purpose:?}"
        );
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let output =
        Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn make_ca(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
             -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// A server with TLS whose certificate names `san`, and a CA that signed nothing.
fn tls_server(san: &str) -> Server {
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let server = Server::start_with(
        "ssl=on\nssl_cert_file='srv.pem'\nssl_key_file='srv.key'\nssl_ca_file='ca.pem'",
        |dir| {
            make_ca(dir, "ca");
            make_ca(dir, "other");
            openssl(
                dir,
                &format!(
                    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=srv -addext \
                     subjectAltName={san} -keyout srv.key -out srv.csr"
                ),
            );
            openssl(
                dir,
                "x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -copy_extensions copy -out srv.pem",
            );
            std::fs::write(dir.join("pg_hba.conf"), hba).expect("pg_hba.conf");
            for file in ["srv.key", "srv.pem", "ca.pem", "pg_hba.conf"] {
                crate::harness::places::give_to_postgres(&dir.join(file));
            }
            let key = Command::new("chmod").arg("600").arg(dir.join("srv.key")).status();
            assert!(key.expect("chmod").success());
        },
    );
    server.sql(USERS);
    server
}

fn mode(server: &Server, mode: TlsMode, ca: Option<&str>) -> PgOptions {
    let mut options = with_password(server.options_of("s", ""), "s pw ü");
    options.tls = mode;
    options.ca = ca.map(|name| server.dir.join(name));
    options
}

#[tokio::test]
async fn tls_modes_check_what_they_say() {
    let server = tls_server("DNS:localhost,IP:127.0.0.1");
    for (tls, ca) in [
        (TlsMode::Prefer, None),
        (TlsMode::Require, None),
        (TlsMode::Require, Some("ca.pem")),
        (TlsMode::VerifyCa, Some("ca.pem")),
        (TlsMode::VerifyFull, Some("ca.pem")),
    ] {
        let mut wire = logs_in(&mode(&server, tls, ca)).await;
        assert!(wire.session().encrypted);
        let ssl =
            wire.simple_query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await.unwrap();
        assert_eq!(ssl, [[Some("t".to_owned())]], "{tls:?}");
    }
    for (tls, ca) in [
        (TlsMode::Require, Some("other.pem")),
        (TlsMode::VerifyCa, Some("other.pem")),
        (TlsMode::VerifyFull, Some("other.pem")),
        (TlsMode::VerifyFull, None),
    ] {
        let text = refusal(&mode(&server, tls, ca)).await;
        assert!(text.contains("PG015") && text.contains("not trusted"), "{tls:?} {ca:?}: {text}");
    }
    let plain = refusal(&mode(&server, TlsMode::Disable, None)).await;
    assert!(plain.contains("PG001") && plain.contains("pg_hba.conf"), "{plain}");
    let missing = refusal(&mode(&server, TlsMode::VerifyCa, Some("nothing.pem"))).await;
    assert!(missing.contains("PG015") && missing.contains("nothing.pem"), "{missing}");
    let empty = refusal(&mode(&server, TlsMode::VerifyCa, Some("srv.key"))).await;
    assert!(empty.contains("PG015"), "{empty}");
}

#[tokio::test]
async fn a_wrong_name_is_refused_by_verify_full_only() {
    let server = tls_server("DNS:db.example");
    logs_in(&mode(&server, TlsMode::VerifyCa, Some("ca.pem"))).await;
    logs_in(&mode(&server, TlsMode::Require, Some("ca.pem"))).await;
    let text = refusal(&mode(&server, TlsMode::VerifyFull, Some("ca.pem"))).await;
    assert!(text.contains("PG015") && text.contains("by a name that the certificate bears"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls() {
    let server = Server::start("");
    let mut options = server.options();
    options.tls = TlsMode::Prefer;
    assert!(!logs_in(&options).await.session().encrypted, "prefer falls back");
    for tls in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        options.tls = tls;
        let text = refusal(&options).await;
        assert!(text.contains("PG015") && text.contains("has no TLS"), "{text}");
    }
}

/// A certificate that expired or that signed itself is refused by the modes that check; ours is shown to a server that
/// wants one.
#[tokio::test]
async fn certificates_that_expired_and_our_own() {
    let server = tls_server("DNS:localhost,IP:127.0.0.1");
    let dir = server.dir.clone();
    openssl(
        &dir,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=s -addext subjectAltName=DNS:s -keyout own.key -out own.csr",
    );
    openssl(
        &dir,
        "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -copy_extensions copy -out own.pem",
    );
    // Only this certificate opens the door, and it is that of "s".
    server.write("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 cert\n", 0o600);
    server.reload();
    let mut options = mode(&server, TlsMode::VerifyFull, Some("ca.pem"));
    let text = refusal(&options).await;
    assert!(text.contains("PG001") && text.contains("certificate"), "{text}");
    options.identity = Some((dir.join("own.pem"), dir.join("own.key")));
    assert!(logs_in(&options).await.session().encrypted);
    options.user = "postgres".into();
    assert!(refusal(&options).await.contains("PG001"), "the certificate names another role");
    for (certificate, key) in [
        ("nothing.pem", "own.key"),
        ("own.pem", "nothing.key"),
        ("own.pem", "ca.key"),
        ("own.key", "own.key"),
    ] {
        options.identity = Some((dir.join(certificate), dir.join(key)));
        let text = refusal(&options).await;
        assert!(text.contains("PG015"), "{certificate} {key}: {text}");
    }
    for (made, word) in [
        (
            "x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 0 -copy_extensions copy -out srv.pem",
            "renew",
        ),
        ("x509 -req -in srv.csr -signkey srv.key -days 30 -copy_extensions copy -out srv.pem", "trusted"),
    ] {
        openssl(&dir, made);
        crate::harness::places::give_to_postgres(&dir.join("srv.pem"));
        server.reload();
        let mut options = mode(&server, TlsMode::VerifyFull, Some("ca.pem"));
        options.identity = Some((dir.join("own.pem"), dir.join("own.key")));
        // It is good for the second in which it was made.
        let started = std::time::Instant::now();
        while Wire::connect(&options, Purpose::Query).await.is_ok() {
            assert!(started.elapsed() < std::time::Duration::from_secs(10), "it is taken");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for tls in [TlsMode::VerifyFull, TlsMode::VerifyCa] {
            options.tls = tls;
            let text = refusal(&options).await;
            assert!(text.contains("PG015") && text.contains(word), "{word}, {tls:?}: {text}");
        }
        (options.tls, options.ca) = (TlsMode::Require, None);
        logs_in(&options).await;
    }
}

/// The stream under TLS: a backlog in bursts, then single rows without delay.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_runs_under_tls() {
    use crate::common::{PATIENCE, Told, catalog, drain, sql, stream_start};
    use std::time::{Duration, Instant};
    use strandline::position::CommitLsn;
    use strandline::source::postgres::publication;
    use strandline::source::postgres::slot::{self, SlotKind};
    use strandline::source::postgres::stream::{Budget, PgStream};
    let server = tls_server("DNS:localhost,IP:127.0.0.1");
    server.sql("alter role s superuser; create table t(id int primary key, v text)");
    let options = mode(&server, TlsMode::VerifyFull, Some("ca.pem"));
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let published =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    slot::create(&options, &sql, SlotKind::Permanent, PATIENCE).await.told().release().await.told();
    let (_ack, acknowledged) = tokio::sync::watch::channel(CommitLsn::ZERO);
    let start = stream_start(published.names, acknowledged);
    let mut stream = PgStream::start(&options, &sql, start).await.told();
    stream.add_table(std::sync::Arc::clone(&found.tables[0].schema), CommitLsn::ZERO).told();
    server.sql("insert into t select i, repeat('v', 100) from generate_series(1, 100000) i");
    assert_eq!(drain(&sql, &mut stream).await.rows, 100_000);
    let mut worst = Duration::ZERO;
    for i in 0..10 {
        sql.rows(&format!("insert into public.t values (-{i} - 1, 'x')")).await.told();
        let committed = Instant::now();
        while stream.next(Budget::ALL).await.told().rows == 0 {}
        worst = worst.max(committed.elapsed());
    }
    assert!(worst < Duration::from_millis(50), "{worst:?}");
    stream.finish(PATIENCE).await.told();
}
