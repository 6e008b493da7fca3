//! An object store whose answer leads elsewhere (SE-19): who answers there must not learn our credentials.

use super::super::storage::Storage;
use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Mutex as StdMutex;

type Heard = Arc<StdMutex<Vec<String>>>;

/// Answers every request with this, and notes what it was asked.
fn serve(answer: String) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let noted = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut head = Vec::new();
            while let Some(Ok(line)) = lines.next().filter(|line| !matches!(line, Ok(end) if end.is_empty()))
            {
                head.push(line.to_lowercase());
            }
            noted.lock().unwrap().extend(head);
            let _gone = (&stream).write_all(answer.as_bytes());
        }
    });
    (address, heard)
}

fn heard(by: &Heard, what: &str) -> bool {
    by.lock().unwrap().iter().any(|line| line.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_store_leads_to_learns_no_credentials() {
    let closing = "Connection: close\r\nContent-Length: 0\r\n\r\n";
    let (elsewhere, stranger) = serve(format!("HTTP/1.1 404 Not Found\r\n{closing}"));
    let elsewhere = elsewhere.replace("127.0.0.1", "localhost");
    let (endpoint, store) =
        serve(format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{elsewhere}/taken\r\n{closing}"));
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n").unwrap();
    let options = StoreOptions {
        credentials: Some(keys),
        endpoint: Some(format!("http://{endpoint}").parse().unwrap()),
        region: Some("us-east-1".into()),
        path_style: Some(true),
        ..StoreOptions::default()
    };
    let files = Storage::open("s3://lake/app", &options).unwrap().table(&["public", "t"]).unwrap();
    let _refused = files.get("some").await;
    assert!(heard(&store, "authorization: aws4-hmac-sha256"), "we asked");
    assert!(!heard(&stranger, "authorization:"), "the signature was passed on");
    assert!(!heard(&stranger, "secret") && !heard(&store, "secret"), "the secret was sent");
}
