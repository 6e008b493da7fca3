//! An S3 server of our own, and one in front of it that forgets conditions.

use super::places;
use super::ports::Port;
use super::{LONG, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};

/// A running server with one bucket, `lake`. Everything is in its memory.
pub(crate) struct S3 {
    child: Child,
    port: Port,
}

impl S3 {
    /// Starts it.
    pub(crate) fn start() -> S3 {
        let port = Port::take();
        let child = places::dies_with_us(&places::s3_server())
            .args(["-H", "127.0.0.1", "-p", &port.number().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3 server starts");
        let s3 = S3 { child, port };
        until(LONG, "the S3 server answers", || s3.request("PUT", "/lake").starts_with("HTTP/1.1 200"));
        s3
    }

    /// Where it answers.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What other readers need.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "AWS_ENDPOINT_URL": self.endpoint(), "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        })
    }

    /// One request; the answer, or nothing.
    fn request(&self, method: &str, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port.number())) else {
            return String::new();
        };
        let ask =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let read = stream.write_all(ask.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        read.map_or_else(|_| String::new(), |_| answer)
    }

    /// Passes everything on and takes the conditions out of writes. The thread ends with the process.
    pub(crate) fn without_conditions(&self) -> Port {
        let (port, to) = (Port::take(), self.port.number());
        let listener = TcpListener::bind(("127.0.0.1", port.number())).expect("the port is free");
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                let (answers, back) = (copy(&server), copy(&client));
                std::thread::spawn(move || pass(answers, back, false));
                std::thread::spawn(move || pass(client, server, true));
            }
        });
        port
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, forgets: bool) {
    const CONDITION: &[u8] = b"if-none-match";
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        let bytes = &mut buffer[..n];
        if forgets && let Some(at) = bytes.windows(CONDITION.len()).position(|w| w == CONDITION) {
            bytes[at] = b'x';
        }
        if n == 0 || to.write_all(bytes).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    let _closed = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
