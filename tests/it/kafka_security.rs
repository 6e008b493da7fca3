//! Logins and certificates of Kafka's clients, against a broker that asks for them.

use crate::harness::kafka_doors::Doors;
use crate::harness::{LONG, Scene, until};
use std::path::Path;

struct Case<'a> {
    scene: Scene,
    doors: &'a Doors,
}

impl Case<'_> {
    /// Runs with these keys of the sink; new rows must arrive.
    #[track_caller]
    fn is_let_in(&mut self, what: &str, keys: &str) {
        let rows =
            self.scene.sql().value("insert into t select coalesce(max(id), 0) + 1 from t returning id");
        self.target(keys);
        let outcome = self.scene.run(&["--until-caught-up"]);
        assert_eq!(outcome.code, Some(0), "{what}:\n{}", outcome.stderr);
        assert_eq!(self.doors.broker.read_all(&["secure.public.t"]).len().to_string(), rows, "{what}");
    }

    /// Runs with these keys; the error must have this code and these words.
    #[track_caller]
    fn is_refused(&mut self, keys: &str, code: &str, words: &[&str]) {
        self.target(keys);
        let outcome = self.scene.run(&["--until-caught-up"]);
        outcome.expect_code(if code == "KF004" { 2 } else { 3 }).expect_error(code);
        for word in words {
            assert!(outcome.stderr.contains(word), "no \"{word}\" in:\n{}", outcome.stderr);
        }
    }

    fn target(&mut self, keys: &str) {
        self.scene.config.target = Some(format!("  type: kafka\n{keys}"));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn every_way_in_is_open_to_those_who_may() {
    let mut scene = Scene::new("kafka-secure");
    scene.config.name = "secure".into();
    scene.sql().exec("create table t(id int primary key)");
    let doors = Doors::open(&scene.dir().join("kafka"));
    let (ca, other) = (text(&doors.file("ca.pem")), text(&doors.file("other.pem")));
    let (cert, key, locked) =
        (text(&doors.file("client.pem")), text(&doors.file("client.key")), text(&doors.file("locked.key")));
    let (plain, tls, mtls, sasl, sasl_plain) = (
        doors.broker.address(),
        doors.address("TLS"),
        doors.address("MTLS"),
        doors.address("SASLTLS"),
        doors.address("SASL"),
    );
    let brokers = |address: &str| format!("  brokers: [\"{address}\"]\n");
    let login = |mechanism: &str, user: &str, password: &str| {
        format!("  sasl: {{mechanism: {mechanism}, user: {user}, password: {password}}}\n")
    };
    let authority = |ca: &str| format!("  tls: {{ca: \"{ca}\"}}\n");
    let mut case = Case { scene, doors: &doors };

    case.is_let_in("TLS", &(brokers(&tls) + &authority(&ca)));
    case.is_let_in("TLS, not verified", &(brokers(&tls) + "  tls: {verify: false}\n"));
    let own = format!("  tls: {{ca: \"{ca}\", cert: \"{cert}\", key: \"{key}\"}}\n");
    case.is_let_in("mTLS", &(brokers(&mtls) + &own));
    let own = format!("  tls: {{ca: \"{ca}\", cert: \"{cert}\", key: \"{locked}\", key_password: open}}\n");
    case.is_let_in("mTLS, key with a password", &(brokers(&mtls) + &own));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let keys = brokers(&sasl) + &authority(&ca) + &login(mechanism, "strandline", "secret");
        case.is_let_in(mechanism, &keys);
    }
    case.is_let_in(
        "SCRAM without TLS",
        &(brokers(&sasl_plain) + &login("SCRAM-SHA-256", "strandline", "secret")),
    );
    let token = "  sasl: {mechanism: OAUTHBEARER}\n  properties: {enable.sasl.oauthbearer.unsecure.jwt: \"true\", \
                 sasl.oauthbearer.config: \"principal=strandline\"}\n";
    case.is_let_in("OAUTHBEARER", &(brokers(&sasl_plain) + token));
    let untold = brokers(&sasl_plain) + "  sasl: {mechanism: OAUTHBEARER}\n";
    case.target(&untold);
    case.scene.run(&["--until-caught-up"]).expect_code(2).expect_error("CF004");

    case.is_refused(
        &(brokers(&tls) + &authority(&other)),
        "KF002",
        &["certificate verify failed", "sink.tls.ca"],
    );
    case.is_refused(&(brokers(&mtls) + &authority(&ca)), "KF002", &["sink.tls.cert"]);
    case.is_refused(&(brokers(&tls) + &authority("/nowhere/ca.pem")), "KF004", &["ssl.ca.location"]);
    // A broker that hangs up may be a broker that restarts: told, and tried again.
    case.target(&(brokers(&plain) + &authority(&ca)));
    let running = case.scene.start_run(&[]);
    until(LONG, "what is wrong is told", || running.stderr().contains("SSL connection closed by peer"));
    assert!(running.stderr().contains("KF001"), "{}", running.stderr());
    drop(running);
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let keys = brokers(&sasl) + &authority(&ca) + &login(mechanism, "strandline", "hunter2x");
        case.is_refused(&keys, "KF002", &["refuse the login", "sink.sasl.password"]);
        assert!(
            !case.scene.run(&["--until-caught-up"]).stderr.contains("hunter2x"),
            "the password is in the log"
        );
    }
    // May log in, may do nothing.
    let keys = brokers(&sasl_plain) + &login("PLAIN", "guest", "guest");
    case.is_refused(&keys, "KF002", &["__strandline_checkpoints", "rights"]);
    let (found, code) = crate::doctor::checks(&case.scene);
    assert_eq!((code, crate::doctor::verdict(&found, "brokers").0), (Some(3), "stops"), "{found:#?}");
}
