//! The configuration as a whole: what is taken, what is refused, and what people read then.

use super::*;
use crate::error::codes;
use crate::schema::TableName;
use crate::sink::write::{
    Deletes, Images, Maintenance, MetaColumns, OnForeignChange, Truncates, Vacuum, WriteChoices, WriteMode,
};
use proptest::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// The file of the documentation.
const FULL: &str = r#"
version: 1
name: shop-lake
source: {type: postgres, url: "postgres://user:pw@127.0.0.1:5432/shop", slot: strandline_shop, publication: strandline_pub}
tables: {include: ["public.*"]}
sink: {type: delta, uri: "file:///lake", commit: {interval: 1s}}      # table path = {uri}/{schema}/{table}
http: {listen: "127.0.0.1:9187"}
"#;

const SMALL: &str = "version: 1\nsource: {url: 'postgres://u@h/Shop-1'}\nsink: {uri: 'file:///l'}\n";

fn environment_of_tests(name: &str) -> Option<String> {
    match name {
        "PW" => Some("from-the-environment".to_owned()),
        "PORT" => Some("54three2".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    load_text(text, Origin::File("strandline.yaml".into()), overrides, &environment_of_tests)
}

/// `code line:column message` of every problem.
fn problems(text: &str) -> Vec<String> {
    match load(text) {
        Ok(config) => panic!("taken: {config:?}"),
        Err(error) => error.problems().iter().map(line_of).collect(),
    }
}

fn line_of(problem: &Problem) -> String {
    let place = problem.place.as_ref().map_or("-".to_owned(), |p| format!("{}:{}", p.line, p.column));
    format!("{} {place} {}", problem.code, problem.message)
}

#[test]
fn the_documented_file_means_what_it_says() {
    let config = load(FULL).unwrap();
    assert_eq!(config.name, "shop-lake");
    assert_eq!(config.source.address.to_string(), "user@127.0.0.1:5432/shop");
    assert_eq!(config.source.password, SecretSource::Plain(Secret::new("pw")));
    assert_eq!(config.source.slot, "strandline_shop");
    assert_eq!(config.sink.target.to_string(), "file:///lake (delta)");
    assert_eq!(config.sink.commit.interval, Duration::from_secs(1));
    assert_eq!(config.http.unwrap().listen.to_string(), "127.0.0.1:9187");
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = load(SMALL).unwrap();
    assert_eq!(config.name, "Shop-1");
    assert_eq!(config.source.slot, "strandline_shop_1");
    assert_eq!(config.source.publication, "strandline_pub");
    assert_eq!(config.source.address.port, 5432);
    assert_eq!(config.source.password, SecretSource::Ambient("PGPASSWORD"));
    assert_eq!(config.source.tls, TlsConfig { mode: TlsMode::Prefer, ca: None, identity: None });
    assert!(config.source.create_if_missing);
    assert_eq!(config.source.heartbeat, Some(Duration::from_secs(10)));
    assert_eq!(config.tables.include, [TablePattern::parse("public.*").unwrap()]);
    assert_eq!(config.snapshot.workers, 4);
    let commit = &config.sink.commit;
    assert_eq!(
        (commit.interval, commit.max_rows, commit.max_bytes),
        (Duration::from_secs(1), 500_000, 256 << 20)
    );
    assert_eq!(config.sink.choices, WriteChoices::default());
    assert_eq!(config.sink.numeric_unbounded, NumericUnbounded::String);
    assert_eq!(config.sink.infinity, InfinityPolicy::Stop);
    assert_eq!(config.sink.unknown_types, UnknownTypesPolicy::Stop);
    assert_eq!((config.limits.memory, config.http), (None, None));
    assert_eq!((config.limits.spill_dir, config.source.origin), (None, OriginChoice::Any));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Auto));
}

#[test]
fn every_key_can_be_set() {
    let config = load(
        r#"
version: 1
name: n
source:
  type: postgres
  host: db
  port: 5433
  database: shop
  user: strandline
  password: {command: [printf, "${PW}"]}
  tls: {mode: verify-full, ca: /ca.pem}
  slot: s
  publication: P
  create_if_missing: false
  heartbeat: 0s
tables: {include: [a.*, "b.c"], exclude: ["a.tmp_*"]}
snapshot: {workers: 2}
sink:
  type: delta
  uri: s3://lake/app
  commit: {interval: 500ms, max_rows: 7, max_bytes: 1MiB}
  write: upsert
  numeric_unbounded: decimal(38, 10)
  infinity: null
  unknown_types: text
errors: {bad_row: stop}
limits: {memory: 512MiB, spill_dir: /var/lib/strandline}
http: {listen: "[::]:9187", token: {env: TOKEN}, read_only: true, ui: false}
log: {level: debug, format: json}
"#,
    )
    .unwrap();
    assert_eq!(config.source.address.to_string(), "strandline@db:5433/shop");
    let words = ["printf", "from-the-environment"].map(str::to_owned).to_vec();
    assert_eq!(config.source.password, SecretSource::Command(words));
    assert_eq!(config.source.tls.mode, TlsMode::VerifyFull);
    assert_eq!((config.source.create_if_missing, config.source.heartbeat), (false, None));
    assert!(config.tables.covers(&TableName::new("a", "x")));
    assert!(!config.tables.covers(&TableName::new("a", "tmp_x")));
    assert!(!config.tables.covers(&TableName::new("b", "d")));
    assert_eq!(config.sink.numeric_unbounded, NumericUnbounded::Decimal { precision: 38, scale: 10 });
    assert_eq!(config.sink.infinity, InfinityPolicy::Null);
    assert_eq!(config.sink.unknown_types, UnknownTypesPolicy::Text);
    assert_eq!(config.limits.memory, Some(512 << 20));
    assert_eq!(config.limits.spill_dir, Some(PathBuf::from("/var/lib/strandline")));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
}

#[test]
fn all_problems_are_reported_together_in_the_order_of_the_file() {
    assert_eq!(
        problems(
            r#"
version: 2
name: "shop lake"
source:
  url: postgres://u:pw@h/d
  slot: Strandline
  publcation: p
  heartbeat: 10
  gtid: auto
tables: {include: public.*, interval: 1s}
sink:
  uri: file:///l
  write: merge
  commit: {interval: 5ms, max_rows: many, max_bytes: 256M}
errors: {bad_row: dlq}
format: {styl: debezium, debezium: {compat: "3.7", decimal_handling_mode: exact}}
"#
        ),
        [
            "CF003 2:10 version: \"2\" is not a known format of this file",
            "CF003 3:7 name: \"shop lake\" is not a name for a pipeline",
            "CF003 6:9 source.slot: \"Strandline\" is not a name for a replication slot",
            "CF002 7:3 unknown key \"publcation\" in source",
            "CF003 8:14 source.heartbeat: \"10\" has no unit",
            "CF004 9:3 source.gtid is not built yet",
            "CF003 10:10 tables.include is a list, found a single value",
            "CF002 10:29 unknown key \"interval\" in tables",
            "CF003 13:10 sink.write: \"merge\" is not allowed",
            "CF003 14:22 sink.commit.interval: \"5ms\" is out of range",
            "CF003 14:37 sink.commit.max_rows: \"many\" is not a whole number",
            "CF003 14:54 sink.commit.max_bytes: \"256M\" has the unknown unit \"M\"",
            "CF004 15:19 errors.bad_row: \"dlq\" is not built yet",
            "CF002 16:10 unknown key \"styl\" in format",
            "CF004 16:45 format.debezium.compat: \"3.7\" is not built yet",
        ]
    );
}

#[test]
fn advice_says_what_to_write() {
    let advice = |text: &str| load(text).unwrap_err().problems()[0].advice.clone().unwrap();
    let with = |line: &str| format!("{SMALL}{line}\n");
    assert_eq!(advice(&with("logg: {}")), "did you mean \"log\"?");
    assert_eq!(advice(&with("uri: x")), "the key belongs in another section: sink.uri");
    assert!(advice(&with("log: {level: inf}")).starts_with("did you mean \"info\"? allowed: error, warn"));
    assert!(advice(&with("limits: {memory: 512}")).starts_with("write 512MiB"));
    assert!(advice(&with("limits: {spill_dir: tmp}")).starts_with("write \"/var"));
    assert!(advice(&with("snapshot: {workers: 0}")).starts_with("allowed: 1 to 64"));
    assert!(advice(&with("http: {listen: 9187}")).contains("127.0.0.1:9187"));
    assert!(advice(&with("http: {}")).contains("127.0.0.1:9187"));
    assert!(advice(&with("tables: {include: [orders]}")).contains("public.orders"));
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        problems("name: x\n"),
        [
            "CF003 - the file does not say its format",
            "CF003 - the configuration does not say where the source database is",
            "CF003 - the configuration does not say where the tables go",
        ]
    );
    assert_eq!(
        problems("version: 1\nsource: {host: h}\nsink: {type: discard}\n"),
        ["CF003 - source.database is missing", "CF003 - source.user is missing"]
    );
    assert_eq!(
        problems("version: 1\nsource: {url: 'postgres://u@h/my db'}\nsink: {type: discard}\n"),
        ["CF003 - the pipeline has no name, and the database's name \"my db\" cannot be used as one"]
    );
}

#[test]
fn a_file_without_keys_is_one_problem() {
    assert_eq!(problems("- a\n"), ["CF003 1:1 a configuration is a section with keys, this is a list"]);
}

#[test]
fn what_is_given_twice_is_refused() {
    let text =
        "version: 1\nsource: {url: 'postgres://u:p@h/d', user: x, password: y}\nsink: {type: discard}\n";
    assert_eq!(
        problems(text),
        [
            "CF003 2:37 source.user is given twice: here and in source.url",
            "CF003 2:46 source.password is given twice: here and in source.url"
        ]
    );
    assert_eq!(
        problems("version: 1\nversion: 1\n")[0],
        "CF001 2:1 the key \"version\" stands twice; first in line 1"
    );
}

#[test]
fn a_password_beside_a_url_without_one_is_taken() {
    let text = "version: 1\nsource: {url: 'postgres://u@h/d', password: {env: X}}\nsink: {type: discard}\n";
    assert_eq!(load(text).unwrap().source.password, SecretSource::Env("X".to_owned()));
}

#[test]
fn flags_win_over_the_file() {
    let overrides = Overrides {
        source_url: Some("postgres://other@host2/db2".to_owned()),
        sink_uri: Some("discard:".to_owned()),
        slot: Some("other_slot".to_owned()),
        publication: Some("other_pub".to_owned()),
        tables: vec!["s.t".to_owned()],
    };
    let config = load_with(FULL, &overrides).unwrap();
    assert_eq!(config.name, "shop-lake");
    assert_eq!(config.source.address.to_string(), "other@host2:5432/db2");
    assert_eq!(config.source.password, SecretSource::Ambient("PGPASSWORD"));
    assert_eq!(config.sink.target, SinkTarget::Discard);
    assert_eq!(
        (config.source.slot.as_str(), config.source.publication.as_str()),
        ("other_slot", "other_pub")
    );
    assert_eq!(config.tables.include, [TablePattern::parse("s.t").unwrap()]);
    let bare = Overrides {
        source_url: Some("postgres://u@h/shop".to_owned()),
        sink_uri: Some("/lake".to_owned()),
        ..Overrides::default()
    };
    let config = load_text("", Origin::CommandLine, &bare, &environment_of_tests).unwrap();
    assert_eq!((config.name.as_str(), config.source.slot.as_str()), ("shop", "strandline_shop"));
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let overrides = Overrides { slot: Some("No".to_owned()), ..Overrides::default() };
    let error = load_with(FULL, &overrides).unwrap_err();
    assert_eq!(line_of(&error.problems()[0]), "CF005 - --slot \"No\" is not a name for a replication slot");
    assert_eq!(error.code(), codes::CF005);
}

#[test]
fn variables_are_replaced_in_values_only_and_never_shown() {
    let text = SMALL.replace("u@h", "u:${PW}@h");
    assert_eq!(
        load(&text).unwrap().source.password,
        SecretSource::Plain(Secret::new("from-the-environment"))
    );
    assert_eq!(
        problems(
            "version: 1\nsource: {host: h, port: '${PORT}', database: d, user: '${NOBODY}'}\nsink: {type: discard}\n"
        ),
        [
            "CF003 2:25 source.port: the value of \"${PORT}\" is not a port",
            "CF003 2:55 source.user: the environment variable \"NOBODY\" is not set",
        ]
    );
}

#[test]
fn words_of_yaml_are_text_where_text_is_meant() {
    let text =
        "version: 1\nsource: {host: h, database: no, user: 0123, password: 1e3}\nsink: {type: discard}\n";
    let config = load(text).unwrap();
    assert_eq!((config.name.as_str(), config.source.address.user.as_str()), ("no", "0123"));
    assert_eq!(config.source.password, SecretSource::Plain(Secret::new("1e3")));
    let wrong = text.replace("host: h", "host: h, create_if_missing: yes");
    assert!(problems(&wrong)[0].ends_with("source.create_if_missing: \"yes\" is not allowed"));
}

/// Files with the password `hunter2` and something wrong near it.
const LEAKY: &[&str] = &[
    "version: 1\nsource: {url: 'postgres://u:hunter2@h/d', slto: x}\nsink: {type: discard}\n",
    "version: 1\nsource: {url: 'postgres://u:hunter2@h:port/d'}\n",
    "version: 1\nsource: {url: 'postgres://u:hunter2#@h/d'}\n",
    "version: 1\nsource: {pasword: hunter2}\n",
    "version: 1\nsource: {pg: hunter2}\n",
    "version: 1\nsource:\n  password: [hunter2]\n",
    "version: 1\nsource:\n  password:\n    - hunter2\n",
    "version: 1\nsource:\n  password: {value: hunter2}\n",
    "version: 1\nsource:\n  password: {env: a, hunter2: b}\n",
    "version: 1\nsource: {password: hunter2, port: x}\n",
    "version: 1\nsource:\n  password: \"hunter2\n",
    "version: 1\nsource:\n  password:\n    \"hunter2\n",
    "version: 1\nsource:\n  password: hunter2: x\n",
    "version: 1\nsource:\n  password: hunter2\n  password: hunter2\n",
    "version: 1\nsource:\n  password: !secret hunter2\n",
    "version: 1\nsource:\n  url: postgres://u:hunter2@h/d\n  user: x\n  database: ${\n",
    "version: 1\nsink: {uri: 's3://key:hunter2@bucket/x'}\n",
];

#[test]
fn no_message_repeats_a_secret() {
    for text in LEAKY {
        let error = load(text).unwrap_err();
        let json = format!("{error:?}");
        for shown in [error.report(), crate::error::Error::from(error).report(), json] {
            assert!(!shown.contains("hunter2"), "{text}\n---\n{shown}");
        }
    }
    let config = format!("{:?}", load(&SMALL.replace("u@h", "u:hunter2@h")).unwrap());
    assert!(config.contains("given in the configuration") && !config.contains("hunter2"), "{config}");
}

#[test]
fn a_report_reads_well() {
    let text = "version: 1\nsource:\n  url: postgres://u@h/d\n  publcation: shop_pub\nsink: {uri: 'file:///l', commit: {interval: 5}}\n";
    let expected = "\
error CF002: unknown key \"publcation\" in source
  --> strandline.yaml:4:3
   |
 4 |   publcation …
   |   ^^^^^^^^^^
  try: did you mean \"publication\"?
  see: docs/errors/CF002.md (unknown key in the configuration)

error CF003: sink.commit.interval: \"5\" has no unit
  --> strandline.yaml:5:45
   |
 5 | sink: {uri: 'file:///l', commit: {interval: 5}}
   |                                             ^
  try: write 5s (units: ms, s, m, h, d)
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

2 problems";
    assert_eq!(load(text).unwrap_err().report(), expected);
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        prop_assert!(load(&text).is_err());
    }

    #[test]
    fn a_damaged_file_is_taken_or_refused(at in 0..FULL.len(), byte in 0x20_u8..0x7f) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if let Err(error) = load(&text) {
            prop_assert!(!error.problems().is_empty());
            // The password "pw" is too short to search for; its surroundings are not.
            prop_assert!(!error.report().contains("user:pw@"), "{}", error.report());
        }
    }
}

#[test]
fn the_documentation_names_every_key() {
    let page = include_str!("../../docs/CONFIG.md");
    for section in keys::SECTIONS {
        for key in section.built.iter().chain(section.later) {
            let name = keys::join(section.path, key);
            assert!(page.contains(&format!("`{name}`")), "docs/CONFIG.md does not name `{name}`");
        }
    }
}

#[test]
fn tables_are_written_as_it_is_said() {
    let text = |sink: &str, overrides: &str| {
        format!(
            "version: 1\nname: n\nsource: {{url: \"postgres://u@h/d\"}}\ntables: {{overrides: {overrides}}}\nsink: {{uri: /lake{sink}}}\n"
        )
    };
    let config = load(&text(
        ", deletes: soft, meta_columns: debezium",
        "{public.a: {write: append, images: both}, public.b: {write: copy_on_write, deletes: hard}}",
    ))
    .unwrap();
    let choices = &config.sink.choices;
    let of = |table: &str| choices.of(&TableName::new("public", table));
    assert_eq!((of("x").deletes, of("x").truncates), (Deletes::Soft, Truncates::Soft));
    assert_eq!((of("a").write, of("a").images), (WriteMode::Append, Images::Both));
    let b = of("b");
    assert_eq!(
        (b.write, b.truncates, b.meta),
        (WriteMode::CopyOnWrite, Truncates::Apply, MetaColumns::Debezium)
    );
    for (sink, overrides, problem) in [
        (", truncates: soft", "{}", "truncates marks rows that deletes: hard has no mark for"),
        (", write: append, deletes: soft", "{}", "deletes means nothing to a change log"),
        (", images: both", "{}", "images means something only to a change log"),
        ("", "{public.*: {write: append}}", "is not a table"),
        ("", "{public.a: {where: x}}", "tables.overrides.*.where is not built yet"),
        ("", "[]", "tables.overrides is a section with tables"),
    ] {
        let error = load(&text(sink, overrides)).unwrap_err().report();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_store_is_reached_as_it_is_said() {
    let text = |sink: &str| {
        format!(
            "version: 1\nname: n\nsource: {{url: \"postgres://u@h/d\"}}\nsink: {{uri: \"s3://b/x\", {sink}}}\n"
        )
    };
    let store = load(&text(
        "credentials: {file: /k}, storage: {endpoint: \"http://h:9000\", region: r, path_style: false, ca: /ca.pem}",
    ))
    .unwrap()
    .sink
    .store;
    assert_eq!((store.credentials, store.ca), (Some("/k".into()), Some("/ca.pem".into())));
    assert_eq!((store.endpoint.unwrap().port(), store.path_style), (Some(9000), Some(false)));
    assert_eq!(load(&text("credentials: ambient")).unwrap().sink.store, StoreConfig::default());
    for (sink, problem) in [
        ("credentials: mine", "is not allowed"),
        ("credentials: {env: X}", "sink.credentials.env is not built yet"),
        ("storage: {endpoint: here}", "is not the address of a server"),
    ] {
        let error = load(&text(sink)).unwrap_err().report();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn maintenance_and_other_peoples_changes() {
    let text = |sink: &str| {
        format!("version: 1\nname: n\nsource: {{url: \"postgres://u@h/d\"}}\nsink: {{uri: /lake, {sink}}}\n")
    };
    let sink =
        load(&text("on_foreign_change: accept, maintenance: {optimize: off, vacuum: 2d}")).unwrap().sink;
    assert_eq!(sink.on_foreign_change, OnForeignChange::Accept);
    let two_days = Vacuum::After(Duration::from_secs(2 * 86_400));
    assert_eq!(sink.maintenance, Maintenance { optimize: false, vacuum: two_days });
    assert_eq!(load(&text("maintenance: {vacuum: off}")).unwrap().sink.maintenance.vacuum, Vacuum::Off);
    let error = load(&text("maintenance: {vacuum: 5m}")).unwrap_err().report();
    assert!(error.contains("is too short"), "{error}");
}
