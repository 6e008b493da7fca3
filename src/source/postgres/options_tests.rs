use super::*;

fn parse(url: &str) -> PgOptions {
    PgOptions::from_url(url, "shop").unwrap_or_else(|e| panic!("{url}: {}", e.report()))
}

fn refusal(url: &str) -> String {
    PgOptions::from_url(url, "shop").expect_err(url).report()
}

#[test]
fn a_plain_url() {
    let o = parse("postgres://me:s%40cret%2F@db.example:5433/shop?sslmode=verify-full&sslrootcert=/ca.pem");
    assert_eq!(o.endpoints, [Endpoint::Tcp { host: "db.example".into(), port: 5433 }]);
    assert_eq!((o.user.as_str(), o.database.as_str()), ("me", "shop"));
    assert_eq!(o.password.as_ref().map(Secret::expose), Some("s@cret/"));
    assert_eq!(o.tls, TlsMode::VerifyFull);
    assert_eq!(o.ca, Some(PathBuf::from("/ca.pem")));
    assert_eq!((o.slot.as_str(), o.publication.as_str()), ("strandline_shop", "strandline_shop"));
}

#[test]
fn defaults_are_those_of_libpq() {
    let o = parse("postgresql://me@");
    assert_eq!(o.endpoints, [Endpoint::Tcp { host: "localhost".into(), port: 5432 }]);
    assert_eq!(o.database, "me");
    assert_eq!(o.tls, TlsMode::Prefer);
    assert_eq!(o.password, None);
}

#[test]
fn several_hosts_and_addresses() {
    let o = parse("postgres://me@a:1,[::1]:2,c/db");
    let shown: Vec<String> = o.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(shown, ["a:1", "[::1]:2", "c:5432"]);
    assert_eq!(o.target(), "a:1,[::1]:2,c:5432/db");
    assert!(!o.endpoints[0].is_local() && o.endpoints[1].is_local());
}

#[test]
fn sockets_by_parameter_and_by_escape() {
    let unix = Endpoint::Unix { directory: "/run/pg".into(), port: 5499 };
    assert_eq!(parse("postgres://me@/db?host=/run/pg&port=5499").endpoints, std::slice::from_ref(&unix));
    assert_eq!(parse("postgres://me@%2Frun%2Fpg:5499/db").endpoints, std::slice::from_ref(&unix));
    assert_eq!(unix.socket_path(), Some(PathBuf::from("/run/pg/.s.PGSQL.5499")));
}

#[test]
fn the_password_is_in_no_debug_and_no_error() {
    let o = parse("postgres://me:hunter2@db/x");
    assert!(!format!("{o:?} {o:#?} {}", o.target()).contains("hunter2"));
    assert!(!refusal("postgres://me:hunter2@db/x?oops=1").contains("hunter2"));
    assert!(!refusal("postgres://me:hunter2@db:port/x").contains("hunter2"));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (url, word) in [
        ("postgres://me@db/x?ssl_mode=require", "\"ssl_mode\""),
        ("postgres://me@db/x?sslmode=on", "\"on\""),
        ("postgres://me@db/x?sslcert=/c.pem", "one of sslcert and sslkey"),
        ("postgres://me@db:0/x", "\"0\""),
        ("postgres://me@db:70000/x", "70000"),
        ("postgres://db/x", "names no user"),
        ("mysql://me@db/x", "postgres://"),
        ("postgres://me:%zz@db/x", "begins no escape"),
        ("postgres://me:a#b@db/x", "%23"),
        ("postgres://me@a,b,c/x?port=1,2", "3 hosts but 2 ports"),
        ("postgres://me@[::1/x", "unclosed"),
    ] {
        assert!(refusal(url).contains(word), "{url}: {}", refusal(url));
    }
}

#[test]
fn names_made_from_the_pipeline_are_legal() {
    assert_eq!(default_slot("Shop-Lake EU"), "strandline_shop_lake_eu");
    assert!(default_slot(&"x".repeat(100)).len() <= 63);
    let mut o = parse("postgres://me@db/x");
    o.publication = "p".repeat(63);
    assert_eq!(o.insert_publication().len(), 63);
    assert_ne!(o.insert_publication(), o.publication);
}
