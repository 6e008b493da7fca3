//! What `run` says and how it ends when it cannot begin.

use crate::program::Place;
use std::net::TcpListener;

#[test]
fn an_address_in_use_ends_the_run_with_its_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::with_config(&format!(
        "version: 1\nsource: {{url: 'postgres://u:hunter2@127.0.0.1:1/shop'}}\nsink: {{type: discard}}\n\
         http: {{listen: '{address}'}}\n"
    ));
    let ended = place.run(&["run", "-vv", "--log-format", "json"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    let (log, report): (Vec<&str>, Vec<&str>) = ended.stderr.lines().partition(|line| line.starts_with('{'));
    assert_eq!(
        report[0],
        format!("error RT002: cannot listen on {address}: Address already in use (os error 98)")
    );
    assert_eq!(report.iter().filter(|line| line.contains("RT002:")).count(), 1);
    let first: serde_json::Value = serde_json::from_str(log[0]).unwrap();
    assert_eq!(
        (first["msg"].as_str(), first["pipeline"].as_str()),
        (Some("strandline starts"), Some("shop"))
    );
    assert_eq!(first["config"], "strandline.yaml");
    assert!(
        log.iter()
            .any(|line| line.contains("effective configuration")
                && line.contains("given in the configuration")),
        "{log:?}"
    );
    let json = place.run(&["run", "-q", "-o", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(1), ""));
    assert_eq!(json.json()["error"]["code"], "RT002");
}
