//! The socket to the server, read in bursts while there is backlog.
//!
//! A walsender calls `send()` for every message and pays for waking a reader that waits, each time. Tokio
//! waits on every registered socket all the time (its epoll registration is permanent), so each of
//! 300,000 messages a second would wake us, at the primary's cost: measured, half of the walsender's CPU
//! and half of its rate. So while there is backlog [`BurstSocket`] takes its socket *out* of the reactor:
//! nobody waits, nobody is woken; it reads what has gathered, and after a short read naps for a
//! millisecond. When little gathers in two naps running it has caught up, registers again, and every
//! message wakes it at once. (`SO_RCVLOWAT` would do nearly the same for TCP, but no safe setter exists.)
//!
//! Backlog shows in two ways: a large read, or many small reads in a short time, because a reader that
//! is woken for every message never sees a large one.
//!
//! Under TLS the bursts are taken in here, into a buffer of their own, since rustls reads in small steps.

use super::options::{Endpoint, PgOptions};
use crate::error::{Error, Result, codes};
use socket2::{SockRef, Socket, TcpKeepalive};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

/// A read of at least this much shows that there is backlog, bytes.
const LARGE: usize = 32 * 1024;
/// So many reads, each woken for, ...
const MANY: u32 = 32;
/// ... in less than this show it too.
const MANY_WITHIN: Duration = Duration::from_millis(10);
/// Less than this gathered in a nap is little, bytes.
const LITTLE: usize = 4 * 1024;
/// So many naps in a row with little gathered: caught up.
const LEAN_NAPS: u32 = 2;
/// After a read of at least this much the next follows without a nap, bytes: the window was full, and the walsender waits.
const NO_NAP: usize = 192 * 1024;
/// How long to let bytes gather; tokio's timer adds up to a millisecond.
const NAP: Duration = Duration::from_millis(1);
/// The same on a Unix socket, which holds no more than some 280 messages of whatever size before the walsender has
/// to wait: naps of a millisecond would bound the rate. Tokio's timer knows nothing shorter, so the thread sleeps;
/// decoding a burst keeps it for longer.
const UNIX_NAP: Duration = Duration::from_micros(300);
/// A server that answers sooner is near: a small window does not hold it back.
const NEAR: Duration = Duration::from_millis(1);
/// Receive buffer for a server that is near, bytes. What does not fit into the window waits with the sender, where
/// small messages become one segment; each that is delivered by itself costs the walsender a pass through the
/// whole network stack.
const NEAR_BUFFER: usize = 256 * 1024;
/// Buffer between the socket and TLS, bytes.
const TLS_BUFFER: usize = 256 * 1024;

fn unreachable(doing: &str, cause: io::Error) -> Error {
    Error::new(codes::PG006, doing).with_source(cause).with_try(
        "check that the server runs and can be reached from here: source.host, source.port, the network",
    )
}

/// Connects to one endpoint, within the options' timeout.
///
/// Errors: PG006.
pub async fn connect(options: &PgOptions, endpoint: &Endpoint) -> Result<Raw> {
    let doing = || format!("cannot connect to \"{endpoint}\"");
    let attempt = async {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let began = Instant::now();
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                prepare(&stream, began.elapsed())?;
                Ok(Raw::Tcp(stream))
            }
            Endpoint::Unix { .. } => match endpoint.socket_path() {
                Some(path) => Ok(Raw::Unix(UnixStream::connect(path).await?)),
                None => Err(io::Error::other("not a socket")),
            },
        }
    };
    match tokio::time::timeout(options.connect_timeout, attempt).await {
        Ok(Ok(raw)) => Ok(raw),
        Ok(Err(error)) => Err(unreachable(&doing(), error as io::Error)),
        Err(_) => Err(unreachable(&doing(), io::Error::from(io::ErrorKind::TimedOut))),
    }
}

/// A peer that is gone without a word is noticed: while idle by keepalive (10 s, then 3 times 5 s), while
/// sending by `TCP_USER_TIMEOUT` (30 s). `near`: how long connecting took.
fn prepare(stream: &TcpStream, near: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    if near < NEAR {
        socket.set_recv_buffer_size(NEAR_BUFFER)?;
    }
    Ok(())
}

/// A connected socket before the protocol begins.
#[derive(Debug)]
pub enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// Unix-domain.
    Unix(UnixStream),
}

impl Raw {
    /// Takes the socket out of tokio's reactor.
    fn free(self) -> io::Result<Free> {
        Ok(match self {
            Raw::Tcp(stream) => Free { socket: OwnedFd::from(stream.into_std()?).into(), unix: false },
            Raw::Unix(stream) => Free { socket: OwnedFd::from(stream.into_std()?).into(), unix: true },
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Raw::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Raw::Unix(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Raw::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Raw::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
}

/// A non-blocking socket that nobody waits on.
#[derive(Debug)]
struct Free {
    socket: Socket,
    unix: bool,
}

impl Free {
    /// Puts it into tokio's reactor, which reports what has come already.
    fn register(self) -> io::Result<Raw> {
        let fd = OwnedFd::from(self.socket);
        Ok(if self.unix {
            Raw::Unix(UnixStream::from_std(fd.into())?)
        } else {
            Raw::Tcp(TcpStream::from_std(fd.into())?)
        })
    }

    fn read(&self, into: &mut ReadBuf<'_>) -> io::Result<usize> {
        let taken = (&self.socket).read(into.initialize_unfilled())?;
        into.advance(taken);
        Ok(taken)
    }
}

/// Anything that the protocol runs over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where the reading side is.
#[derive(Debug)]
enum Pace {
    /// Registered: every message wakes us. So many reads since the instant.
    Watch { stream: Raw, reads: u32, since: Instant },
    /// Not registered: read after naps, of which so many in a row gathered little.
    Burst { stream: Free, lean: u32, nap: bool },
    /// Between the two; seen only after an error.
    Broken,
}

/// Where the writing side is: the same socket by another descriptor. It is registered only while the
/// socket is full, because a registration is for both directions and arrivals would wake it.
#[derive(Debug)]
enum Writer {
    Free(Free),
    Full(Raw),
    Broken,
}

/// A socket read in bursts; see the module.
#[derive(Debug)]
pub struct BurstSocket {
    pace: Pace,
    nap: Pin<Box<Sleep>>,
    writer: Writer,
    /// Bytes taken and not yet handed on; used only under TLS.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl BurstSocket {
    /// Reads straight into the caller's buffer, which should hold a burst (256 KiB).
    pub fn new(raw: Raw) -> io::Result<Self> {
        let stream = raw.free()?;
        let writer = Writer::Free(Free { socket: stream.socket.try_clone()?, unix: stream.unix });
        let pace = Pace::watch(stream)?;
        Ok(BurstSocket { pace, nap: Box::pin(tokio::time::sleep(Duration::ZERO)), writer, held: None })
    }

    /// Takes bursts into a buffer of its own, for a reader of small steps (TLS).
    pub fn buffered(raw: Raw) -> io::Result<Self> {
        let held = Held { bytes: vec![0; TLS_BUFFER].into_boxed_slice(), start: 0, end: 0 };
        Ok(BurstSocket { held: Some(held), ..BurstSocket::new(raw)? })
    }

    /// Whether it naps between reads now.
    pub fn in_backlog(&self) -> bool {
        matches!(self.pace, Pace::Burst { .. })
    }

    /// One read in the present pace. `Ok(0)` is the end.
    fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            let before = into.filled().len();
            let taken = match &mut self.pace {
                Pace::Watch { stream, .. } => {
                    ready!(stream.poll_read(cx, into))?;
                    into.filled().len() - before
                }
                Pace::Burst { stream, nap, .. } => {
                    if *nap && stream.unix {
                        std::thread::sleep(UNIX_NAP);
                    } else if *nap {
                        ready!(self.nap.as_mut().poll(cx));
                    }
                    match stream.read(into) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.after_nothing()?;
                            continue;
                        }
                        result => result?,
                    }
                }
                Pace::Broken => return Poll::Ready(Err(io::Error::other("the socket broke before"))),
            };
            self.after_read(taken)?;
            return Poll::Ready(Ok(taken));
        }
    }

    /// Nothing had come: after a nap that means caught up, before one it means nap.
    fn after_nothing(&mut self) -> io::Result<()> {
        match &mut self.pace {
            Pace::Burst { nap, .. } if !*nap => {
                *nap = true;
                self.nap.as_mut().reset(Instant::now() + NAP);
                Ok(())
            }
            _ => self.watch_again(),
        }
    }

    fn after_read(&mut self, taken: usize) -> io::Result<()> {
        match &mut self.pace {
            Pace::Watch { reads, since, .. } => {
                *reads += 1;
                let mut many = false;
                if *reads >= MANY {
                    many = since.elapsed() < MANY_WITHIN;
                    (*reads, *since) = (0, Instant::now());
                }
                if many || taken >= LARGE { self.go_bursting() } else { Ok(()) }
            }
            Pace::Burst { lean, nap, .. } => {
                *lean = if taken < LITTLE { *lean + 1 } else { 0 };
                *nap = taken < NO_NAP;
                if *lean >= LEAN_NAPS {
                    return self.watch_again();
                }
                if taken < NO_NAP {
                    self.nap.as_mut().reset(Instant::now() + NAP);
                }
                Ok(())
            }
            Pace::Broken => Ok(()),
        }
    }

    /// Registering reports bytes that are there already, so that nothing can be missed.
    fn watch_again(&mut self) -> io::Result<()> {
        if let Pace::Burst { stream, .. } = std::mem::replace(&mut self.pace, Pace::Broken) {
            self.pace = Pace::watch(stream)?;
        }
        Ok(())
    }

    fn go_bursting(&mut self) -> io::Result<()> {
        if let Pace::Watch { stream, .. } = std::mem::replace(&mut self.pace, Pace::Broken) {
            self.pace = Pace::Burst { stream: stream.free()?, lean: 0, nap: false };
        }
        Ok(())
    }
}

impl Pace {
    fn watch(stream: Free) -> io::Result<Pace> {
        Ok(Pace::Watch { stream: stream.register()?, reads: 0, since: Instant::now() })
    }
}

impl Writer {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self {
                Writer::Free(stream) => match (&stream.socket).write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if let Writer::Free(stream) = std::mem::replace(self, Writer::Broken) {
                            *self = Writer::Full(stream.register()?);
                        }
                    }
                    result => return Poll::Ready(result),
                },
                Writer::Full(stream) => {
                    let written = ready!(stream.poll_write(cx, bytes));
                    if let Writer::Full(stream) = std::mem::replace(self, Writer::Broken) {
                        *self = Writer::Free(stream.free()?);
                    }
                    return Poll::Ready(written);
                }
                Writer::Broken => return Poll::Ready(Err(io::Error::other("the socket broke before"))),
            }
        }
    }
}

impl AsyncRead for BurstSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut held) = this.held.take() else {
            return this.poll_take(cx, into).map_ok(|_| ());
        };
        if held.start == held.end {
            let mut space = ReadBuf::new(&mut held.bytes);
            let taken = this.poll_take(cx, &mut space);
            (held.start, held.end) = (0, if let Poll::Ready(Ok(n)) = taken { n } else { 0 });
            if held.end == 0 {
                this.held = Some(held);
                return taken.map_ok(|_| ());
            }
        }
        let n = into.remaining().min(held.end - held.start);
        into.put_slice(&held.bytes[held.start..held.start + n]);
        held.start += n;
        this.held = Some(held);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BurstSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().writer.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().writer {
            Writer::Free(stream) => Poll::Ready(stream.socket.shutdown(std::net::Shutdown::Write)),
            Writer::Full(Raw::Tcp(stream)) => Pin::new(stream).poll_shutdown(cx),
            Writer::Full(Raw::Unix(stream)) => Pin::new(stream).poll_shutdown(cx),
            Writer::Broken => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// All bytes arrive in order through bursts and single bytes, and the pace goes up and comes down.
    async fn everything_arrives(mut socket: BurstSocket, mut far: impl AsyncWrite + Send + Unpin + 'static) {
        let sender = tokio::spawn(async move {
            let mut next = 0u8;
            for size in [1usize, 7, 3_000_000, 5, 1, 200_000, 40_000, 40_000, 3] {
                let block: Vec<u8> = (0..size)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                far.write_all(&block).await.unwrap();
            }
            far
        });
        let mut buffer = vec![0u8; 256 * 1024];
        let (mut got, mut expected, mut bursts) = (0usize, 0u8, 0);
        while got < 1 + 7 + 3_000_000 + 5 + 1 + 200_000 + 40_000 + 40_000 + 3 {
            let n = socket.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            for &b in &buffer[..n] {
                expected = expected.wrapping_add(1);
                assert_eq!(b, expected);
            }
            bursts += u32::from(socket.in_backlog());
            got += n;
        }
        assert!(bursts > 0, "never in backlog");
        let mut far = sender.await.unwrap();
        // Idle: nothing comes, and a single byte must arrive soon.
        let started = std::time::Instant::now();
        far.write_all(&[1]).await.unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 1);
        assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
        drop(far);
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 0, "the end is seen");
    }

    #[tokio::test]
    async fn everything_arrives_plain() {
        let (near, far) = pair().await;
        everything_arrives(BurstSocket::new(Raw::Tcp(near)).unwrap(), far).await;
    }

    #[tokio::test]
    async fn everything_arrives_buffered() {
        let (near, far) = pair().await;
        everything_arrives(BurstSocket::buffered(Raw::Tcp(near)).unwrap(), far).await;
    }

    #[tokio::test]
    async fn everything_arrives_through_a_unix_socket() {
        let (near, far) = UnixStream::pair().unwrap();
        everything_arrives(BurstSocket::new(Raw::Unix(near)).unwrap(), far).await;
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (near, mut far) = pair().await;
        let mut socket = BurstSocket::new(Raw::Tcp(near)).unwrap();
        let sender = tokio::spawn(async move {
            socket.write_all(&vec![3u8; 20_000_000]).await.unwrap();
            socket.write_all(&[9]).await.unwrap();
            socket.shutdown().await.unwrap();
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!((all.len(), all.last()), (20_000_001, Some(&9)));
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_is_seen_in_backlog() {
        let (near, mut far) = pair().await;
        let mut socket = BurstSocket::new(Raw::Tcp(near)).unwrap();
        far.write_all(&vec![7; 100_000]).await.unwrap();
        drop(far);
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 100_000);
    }
}
