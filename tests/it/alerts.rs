//! The alert rules in Prometheus' own checker: each is red where it must be, and silent where it would wake somebody for
//! nothing (`contrib/prometheus/rules_test.yaml`).

use crate::harness::places;
use std::path::Path;
use std::process::Command;

fn promtool(arguments: &[&str]) -> String {
    let tool = places::cache().join("servers/promtool/promtool");
    let output = Command::new(&tool)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("promtool runs: scripts/install.sh promtool");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn prometheus_takes_the_rules_and_every_alert_is_tested() {
    promtool(&["check", "rules", "contrib/prometheus/rules.yaml"]);
    promtool(&["test", "rules", "contrib/prometheus/rules_test.yaml"]);
    let rules = include_str!("../../contrib/prometheus/rules.yaml");
    let tests = include_str!("../../contrib/prometheus/rules_test.yaml");
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("{{alertname: {name}, ")), "{name} is never silent in a test");
        assert!(tests.contains(&format!("- alertname: {name}\n")), "{name} is never red in a test");
    }
}
