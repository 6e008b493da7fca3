//! A Schema Registry (Apicurio, with Confluent's interface) and an independent reader of Avro.

use super::places;
use super::ports::Port;
use super::until;
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const START_WITHIN: Duration = Duration::from_secs(60);
const API: &str = "/apis/ccompat/v7";

/// A registry. What it holds is in memory. Dropping it kills it.
pub(crate) struct Registry {
    dir: PathBuf,
    port: Port,
    child: Option<Child>,
}

fn installed() -> PathBuf {
    let dir = places::cache().join("servers/registry");
    assert!(dir.exists(), "no registry in {}: run scripts/install.sh registry", dir.display());
    dir
}

impl Registry {
    pub(crate) fn start(dir: &Path) -> Registry {
        std::fs::create_dir_all(dir).expect("the run directory can be written");
        let mut registry = Registry { dir: dir.to_owned(), port: Port::take(), child: None };
        registry.restart();
        registry
    }

    /// On the same port, empty.
    pub(crate) fn restart(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.dir.join("registry.log")).expect("a log");
        let mut command = places::dies_with_us(Path::new("java"));
        command.current_dir(installed());
        command.args([
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
        ]);
        command.arg(format!("-Dquarkus.http.port={}", self.port.number()));
        command.args(["-jar", "apicurio-registry-app-3.0.9-runner.jar"]).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("java starts"));
        until(START_WITHIN, "the registry answers", || {
            self.ask("GET", "/subjects", "").is_some_and(|a| a.is_array())
        });
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port.number())
    }

    /// One request; `None`: no answer with JSON.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {API}{path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// What new schemas of a subject must be to the old ones.
    pub(crate) fn set_rule(&self, subject: &str, rule: &str) {
        let body = serde_json::json!({"compatibility": rule}).to_string();
        assert!(self.ask("PUT", &format!("/config/{subject}"), &body).is_some(), "no answer to {rule}");
    }

    /// What these records of Avro say: the schema's id and name, the value.
    pub(crate) fn decoded(&self, records: &[&str]) -> Vec<Value> {
        let mut python = Command::new(installed().join("python/bin/python"));
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/avro.py"));
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let lines: String = records.iter().map(|hex| format!("{} {hex}\n", self.url())).collect();
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("it reads");
        assert!(output.status.success(), "the reader of Avro failed");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
