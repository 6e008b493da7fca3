//! A real Chromium without a window, driven over its debugging pipe: messages of JSON, each ended by a zero byte.

use super::places;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// An answer of the browser comes within this.
const ANSWER: Duration = Duration::from_secs(60);

/// A browser with one page. Dropping it ends it.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    page: String,
    sent: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Opens an empty page of this size; `profile` is its own directory.
    pub(crate) fn open(profile: &Path, (width, height): (u32, u32)) -> Browser {
        // The pipe's two ends are the descriptors 3 and 4.
        let mut child = places::dies_with_us(Path::new("/bin/sh"))
            .args(["-c", "exec 3<&0 4>&1 </dev/null >/dev/null; exec chromium \"$@\"", "chromium"])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let to = child.stdin.take().expect("a pipe");
        let stdout = child.stdout.take().expect("a pipe");
        let (said, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if said.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser { child, to, from, page: String::new(), sent: 0, complaints: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", target);
        browser.page = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640});
        browser.ask("Emulation.setDeviceMetricsOverride", size);
        browser
    }

    /// Sends one command and waits for its answer.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if !self.page.is_empty() {
            message["sessionId"] = json!(self.page);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("chromium runs: apt-get install chromium");
        let until = Instant::now() + ANSWER;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = match self.from.recv_timeout(left) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => panic!("no answer to {method}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("chromium ended before it answered {method}: apt-get install chromium")
                }
            };
            if answer["id"] == json!(self.sent) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.listen(&answer);
        }
    }

    /// Keeps what the page complains of.
    fn listen(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled" => self.complaints.push(parameters["args"].to_string()),
            "Runtime.exceptionThrown" => self.complaints.push(parameters["exceptionDetails"].to_string()),
            "Log.entryAdded" => self.complaints.push(parameters["entry"].to_string()),
            _ => {}
        }
    }

    /// Goes to this address.
    pub(crate) fn visit(&mut self, url: &str) {
        let answer = self.ask("Page.navigate", json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
    }

    /// From now on pages run no scripts.
    pub(crate) fn without_scripts(&mut self) {
        self.ask("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    }

    /// The value of an expression.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let answer = self.ask(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the page as a person sees it.
    pub(crate) fn text(&mut self) -> String {
        self.eval("document.body ? document.body.innerText : ''").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows all of these.
    #[track_caller]
    pub(crate) fn shows(&mut self, words: &[&str]) {
        let until = Instant::now() + ANSWER;
        loop {
            let text = self.text();
            match words.iter().find(|word| !text.contains(**word)) {
                None => return,
                Some(word) => assert!(Instant::now() < until, "{word} is not in\n{text}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses the first visible button with this label, `within` a part of the page, as soon as there is one.
    #[track_caller]
    pub(crate) fn press(&mut self, within: &str, label: &str) {
        let script = format!(
            "(() => {{ for (const part of document.querySelectorAll({within:?})) for (const b of part.querySelectorAll('button')) \
             if (b.textContent === {label:?} && b.offsetParent !== null) {{ b.click(); return true; }} return false; }})()"
        );
        let until = Instant::now() + ANSWER;
        while self.eval(&script) != json!(true) {
            assert!(Instant::now() < until, "no button {label} in {within}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes a picture of the whole page.
    pub(crate) fn picture(&mut self, file: &Path) {
        let shot =
            self.ask("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(file, bytes).expect("the picture can be written");
    }

    /// What the page complained of so far.
    pub(crate) fn complaints(&mut self) -> String {
        // The answer to a question comes after all that was said before it.
        self.ask("Runtime.getHeapUsage", json!({}));
        std::mem::take(&mut self.complaints).join("\n")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
