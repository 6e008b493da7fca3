//! One GET to a running process: HTTP/1.0, so that the answer ends with the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// How long the process may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// Longest answer: a status of some hundred thousand tables.
const ANSWER_LIMIT: u64 = 256 * 1024 * 1024;

/// Asks the server that listens at `listen` for `path`: status code and body. An address that stands for all
/// interfaces is asked on the loopback.
///
/// Errors: text for people; nothing there, no answer in time, or no HTTP.
pub async fn http_get(listen: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    match tokio::time::timeout(TIME_LIMIT, exchange(address, path)).await {
        Ok(Ok(answer)) => parse(&answer).ok_or_else(|| format!("{address} did not answer with HTTP")),
        Ok(Err(cause)) => Err(format!("{address}: {cause}")),
        Err(_) => Err(format!("{address} did not answer within {} s", TIME_LIMIT.as_secs())),
    }
}

fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

/// Sends a request without a body to the process that listens at the socket: status code and body.
///
/// Errors: as [`http_get`].
pub(super) async fn over_socket(socket: &Path, method: &str, path: &str) -> Result<(u16, String), String> {
    send_over_socket(socket, method, path, "").await
}

/// The same with a body in JSON.
pub(super) async fn send_over_socket(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let shown = socket.display();
    let asked = async {
        let stream = UnixStream::connect(socket).await?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        converse(stream, &head).await
    };
    match tokio::time::timeout(TIME_LIMIT, asked).await {
        Ok(Ok(answer)) => parse(&answer).ok_or_else(|| format!("{shown} did not answer with HTTP")),
        Ok(Err(cause)) => Err(format!("{shown}: {cause}")),
        Err(_) => Err(format!("{shown} did not answer within {} s", TIME_LIMIT.as_secs())),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await?;
    converse(stream, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n")).await
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let body = String::from_utf8(answer[end + 4..].to_vec()).ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"x\":1}\r\n\r\n";
        assert_eq!(parse(answer), Some((503, "{\"x\":1}\r\n\r\n".to_owned())));
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(reachable("0.0.0.0".parse().unwrap()).to_string(), "127.0.0.1");
        assert_eq!(reachable("::".parse().unwrap()).to_string(), "::1");
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = http_get(address, "/").await.unwrap_err();
        assert!(error.starts_with(&address.to_string()), "{error}");
    }
}
