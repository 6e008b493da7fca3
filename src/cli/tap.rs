//! `strandline tap TABLE…`: changes as lines of JSON, as the running process hands them to its target. It changes nothing, keeps no place,
//! and shows rows: so it works over the socket only, whose file's mode decides who may.

use super::args::{Global, TapArgs};
use super::hold::escaped;
use super::{Outcome, exit, load_quietly, resync, runtime, socket};
use crate::error::{Error, Result, codes};
use std::path::Path;
use std::process::ExitCode;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Lines that wait to be printed.
const WAITING: usize = 256;

pub(super) fn command(global: &Global, args: &TapArgs) -> Outcome {
    let names =
        args.tables.iter().map(|text| resync::parse(text)).collect::<std::result::Result<Vec<_>, _>>()?;
    let config = load_quietly(global)?;
    let socket = socket::path(&config);
    runtime()?.block_on(async {
        let (lines, mut shown) = mpsc::channel::<Result<String>>(WAITING);
        for name in names {
            let (socket, lines) = (socket.clone(), lines.clone());
            tokio::spawn(async move {
                let path = format!("/api/v1/tables/{}/tap", escaped(&name.to_string()));
                if let Err(error) = follow(&socket, &path, &lines).await {
                    // Who prints has ended.
                    let _ended = lines.send(Err(error)).await;
                }
            });
        }
        drop(lines);
        let mut left = args.limit.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(line) = shown.recv().await else { break };
            super::output::out(line?.trim_end());
            left -= 1;
        }
        Ok::<(), Error>(())
    })?;
    Ok(ExitCode::from(exit::OK))
}

/// Hands on one line after the other until the process ends, or nobody wants them.
async fn follow(socket: &Path, path: &str, lines: &mpsc::Sender<Result<String>>) -> Result<()> {
    let refused = |why: String| {
        Error::new(codes::RT004, format!("the process of this pipeline does not show it: {why}"))
            .with_try("strandline tables names the tables; a process must run on this machine")
    };
    let broken = |cause: std::io::Error| refused(cause.to_string());
    let mut stream = UnixStream::connect(socket).await.map_err(|cause| {
        Error::new(codes::RT004, format!("no process of this pipeline answers on this machine: {cause}"))
            .with_try("strandline status says whether one runs elsewhere; changes are shown where it runs")
    })?;
    let head = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).await.map_err(broken)?;
    let is_there = line.split(' ').nth(1) == Some("200");
    let status = line.trim_end().to_owned();
    while line.trim_end() != "" {
        line.clear();
        if answer.read_line(&mut line).await.map_err(broken)? == 0 {
            break;
        }
    }
    loop {
        line.clear();
        if answer.read_line(&mut line).await.map_err(broken)? == 0 {
            return if is_there { Ok(()) } else { Err(refused(status)) };
        }
        if !is_there {
            let problem: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let what = problem["detail"].as_str().unwrap_or(&status).to_owned();
            let number = status.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
            let told = (problem["code"].as_str(), problem["fix"].as_str());
            return Err(super::hold::refused(number, told.0, what, told.1));
        }
        if lines.send(Ok(std::mem::take(&mut line))).await.is_err() {
            return Ok(());
        }
    }
}
