//! `validate`: good files, bad files, and where the file is found.

use crate::program::Place;

const GOOD: &str = r#"version: 1
name: shop-lake
source: {type: postgres, url: "postgres://user:hunter2@127.0.0.1:5432/shop", slot: strandline_shop, publication: strandline_pub}
tables: {include: ["public.*"]}
sink: {type: delta, uri: "file:///lake", commit: {interval: 1s}}      # table path = {uri}/{schema}/{table}
http: {listen: "127.0.0.1:9187"}
"#;

#[test]
fn a_good_file_is_summed_up_without_its_password() {
    let place = Place::with_config(GOOD);
    let good = place.run(&["validate"]);
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        good.stdout,
        "strandline.yaml: ok\n  \
         pipeline  shop-lake\n  \
         source    user@127.0.0.1:5432/shop, password: given in the configuration\n            \
         slot strandline_shop, publication strandline_pub\n  \
         tables    public.*\n  \
         sink      file:///lake (delta)\n            \
         a commit at the latest after 1s, 500000 rows or 256MiB\n  \
         http      127.0.0.1:9187\n"
    );
    let json = place.run(&["validate", "strandline.yaml", "-o", "json"]);
    assert_eq!((json.code, json.json()["ok"].as_bool()), (Some(0), Some(true)));
    assert!(!json.stdout.contains("hunter2"));
}

#[test]
fn a_bad_file_is_explained_line_by_line() {
    let place = Place::with_config(
        "version: 1\n\
         source:\n  url: postgres://user:hunter2@127.0.0.1:5432/shop\n  publcation: shop_pub\n  heartbeat: 10\n\
         sink:\n  uri: ${LAKE}\n  commit: {interval: 5, max_bytes: 256M}\n  write: merge\n",
    );
    let bad = place.run(&["validate"]);
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        bad.stderr,
        r#"error CF002: unknown key "publcation" in source
  --> strandline.yaml:4:3
   |
 4 |   publcation …
   |   ^^^^^^^^^^
  try: did you mean "publication"?
  see: docs/errors/CF002.md (unknown key in the configuration)

error CF003: source.heartbeat: "10" has no unit
  --> strandline.yaml:5:14
   |
 5 |   heartbeat: 10
   |              ^^
  try: write 10s (units: ms, s, m, h, d)
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

error CF003: sink.uri: the environment variable "LAKE" is not set
  --> strandline.yaml:7:8
   |
 7 |   uri: ${LAKE}
   |        ^^^^^^^
  try: set LAKE, or give a default: ${LAKE:-default}
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

error CF003: sink.commit.interval: "5" has no unit
  --> strandline.yaml:8:22
   |
 8 |   commit: {interval: 5, max_bytes: 256M}
   |                      ^
  try: write 5s (units: ms, s, m, h, d)
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

error CF003: sink.commit.max_bytes: "256M" has the unknown unit "M"
  --> strandline.yaml:8:36
   |
 8 |   commit: {interval: 5, max_bytes: 256M}
   |                                    ^^^^
  try: write 256MiB (units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB)
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

error CF003: sink.write: "merge" is not allowed
  --> strandline.yaml:9:10
   |
 9 |   write: merge
   |          ^^^^^
  try: allowed: upsert, copy_on_write, append, both
  see: docs/errors/CF003.md (a value in the configuration is not allowed)

6 problems
"#
    );
    let json = place.run(&["validate", "-o", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(2), ""));
    let error = &json.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["try"].as_str()),
        (Some("CF002"), Some("did you mean \"publication\"?"))
    );
    assert_eq!(error["problems"].as_array().map(Vec::len), Some(6));
    assert_eq!(
        (error["problems"][1]["line"].as_u64(), error["problems"][1]["column"].as_u64()),
        (Some(5), Some(14))
    );
}

#[test]
fn a_key_without_effect_is_refused() {
    let place = Place::with_config(&format!("{GOOD}format: {{style: debezium}}\n"));
    let refused = place.run(&["validate"]);
    assert_eq!(refused.code, Some(2));
    assert_eq!(
        refused.stderr,
        "error CF003: format belongs to a Kafka or stdout sink\n  --> strandline.yaml:7:1\n   |\n 7 | format …\n   | ^^^^^^\n  \
         try: remove the key: it would have no effect, so it is refused\n  \
         see: docs/errors/CF003.md (a value in the configuration is not allowed)\n"
    );
}

#[test]
fn broken_yaml_names_its_place() {
    let place = Place::with_config(
        "version: 1\nsource: {url: 'postgres://u:hunter2@h/d'\nsink: {uri: 'file:///l'}\n",
    );
    let broken = place.run(&["validate"]);
    assert_eq!(broken.code, Some(2));
    assert!(broken.stderr.starts_with("error CF001: this is not valid YAML: "), "{broken:?}");
    assert!(
        broken.stderr.contains("--> strandline.yaml:3:") && !broken.stderr.contains("hunter2"),
        "{broken:?}"
    );
    let twice = Place::with_config("version: 1\nname: a\nname: b\n").run(&["validate"]);
    assert!(
        twice.stderr.contains("error CF001: the key \"name\" stands twice; first in line 2"),
        "{twice:?}"
    );
}

#[test]
fn variables_come_from_the_environment() {
    let place = Place::with_config(&GOOD.replace("hunter2", "${PW}").replace("/lake", "/${DIR:-lake}"));
    assert_eq!(place.run(&["validate"]).code, Some(2));
    let good = place.run_with(&["validate"], &[("PW", "hunter2")]);
    assert_eq!(good.code, Some(0));
    assert!(good.stdout.contains("file:///lake (delta)") && !good.stdout.contains("hunter2"), "{good:?}");
}

#[test]
fn the_file_is_looked_for_in_order() {
    let place = Place::new();
    let none = place.run(&["validate"]);
    assert_eq!(none.code, Some(2));
    assert!(
        none.stderr.starts_with("error CF001: there is no configuration file; looked for --config, "),
        "{none:?}"
    );
    place.write("named.yaml", &GOOD.replace("shop-lake", "by-variable"));
    place.write("flag.yaml", &GOOD.replace("shop-lake", "by-flag"));
    std::fs::create_dir_all(place.path().join("xdg/strandline")).unwrap();
    place.write("xdg/strandline/strandline.yaml", &GOOD.replace("shop-lake", "by-xdg"));
    let xdg = place.path().join("xdg");
    let variables = [("XDG_CONFIG_HOME", xdg.to_str().unwrap()), ("STRANDLINE_CONFIG", "named.yaml")];
    let name = |arguments: &[&str], variables: &[(&str, &str)]| {
        let all: Vec<&str> = arguments.iter().chain(&["-o", "json"]).copied().collect();
        place.run_with(&all, variables).json()["name"].as_str().map(str::to_owned)
    };
    assert_eq!(name(&["validate"], &variables[..1]).as_deref(), Some("by-xdg"));
    place.write("strandline.yaml", &GOOD.replace("shop-lake", "here"));
    assert_eq!(name(&["validate"], &variables[..1]).as_deref(), Some("here"));
    assert_eq!(name(&["validate"], &variables).as_deref(), Some("by-variable"));
    assert_eq!(name(&["validate", "-c", "flag.yaml"], &variables).as_deref(), Some("by-flag"));
    assert_eq!(name(&["validate", "flag.yaml"], &variables).as_deref(), Some("by-flag"));
    let missing = place.run(&["validate", "-c", "missing.yaml"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr.starts_with("error CF001: cannot read the file \"missing.yaml\": No such file"),
        "{missing:?}"
    );
}
