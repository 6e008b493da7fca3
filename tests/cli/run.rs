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

#[test]
fn an_empty_token_opens_nothing() {
    let config = |token: &str| {
        format!(
            "version: 1\nsource: {{url: 'postgres://u@127.0.0.1:1/shop'}}\nsink: {{type: discard}}\n\
             http: {{listen: '127.0.0.1:0', token: {token}}}\n"
        )
    };
    for (token, what) in [
        ("{file: token}", "the secret's file \"token\" is empty"),
        ("{env: TOKEN}", "the secret's environment variable \"TOKEN\" is empty"),
    ] {
        let place = Place::with_config(&config(token));
        place.write("token", "\n");
        let ended = place.run_with(&["run", "-q"], &[("TOKEN", "")]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("CF003") && ended.stderr.contains(what), "{ended:?}");
    }
}
