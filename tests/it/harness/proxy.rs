//! A TCP proxy between strandline and PostgreSQL that understands the client's frames.
//!
//! Each standby status update is shown to the test *before* it is passed on, so that the test can look at
//! the target at that very moment. Connections can be cut.

use super::ports::Port;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the client told the server about its progress; raw LSNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StatusUpdate {
    /// Last byte written.
    pub(crate) write: u64,
    /// Last byte flushed: what the slot advances by.
    pub(crate) flush: u64,
    /// Last byte applied.
    pub(crate) apply: u64,
}

type Observer = Arc<dyn Fn(StatusUpdate) + Send + Sync>;

/// A running proxy.
pub(crate) struct Proxy {
    port: Port,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stopped: Arc<AtomicBool>,
    to: Arc<AtomicU16>,
    held: Arc<AtomicU64>,
    /// Milliseconds before a new connection passes anything on.
    late: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `to` on loopback.
    pub(crate) fn start(to: u16, observer: impl Fn(StatusUpdate) + Send + Sync + 'static) -> Proxy {
        Proxy::listen(to, Some(Arc::new(observer)))
    }

    /// The same for a protocol that it does not know.
    pub(crate) fn blind(to: u16) -> Proxy {
        Proxy::listen(to, None)
    }

    fn listen(to: u16, observer: Option<Observer>) -> Proxy {
        let port = Port::take();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).expect("the port is free");
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (to, held) = (Arc::new(AtomicU16::new(to)), Arc::new(AtomicU64::new(0)));
        let (connections, stop) = (Arc::clone(&open), Arc::clone(&stopped));
        let late = Arc::new(AtomicU64::new(0));
        let (target, holding, lateness) = (Arc::clone(&to), Arc::clone(&held), Arc::clone(&late));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                // The server may be down; the client then sees its connection closed, as it would without us.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst))) else {
                    continue;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("a socket option");
                    connections.lock().expect("not poisoned").push(clone(stream));
                }
                let (from_server, to_client) = (clone(&server), clone(&client));
                let hold = Hold { born: holding.load(Ordering::SeqCst), held: Arc::clone(&holding) };
                let other = hold.clone();
                let late = Duration::from_millis(lateness.load(Ordering::SeqCst));
                std::thread::spawn(move || {
                    std::thread::sleep(late);
                    pass_through(from_server, to_client, &other);
                });
                let observer = observer.clone();
                std::thread::spawn(move || match observer {
                    Some(observer) => pass_frames(client, server, &observer, &hold),
                    None => pass_through(client, server, &hold),
                });
            }
        });
        Proxy { port, open, stopped, to, held, late }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on connections go to another port.
    pub(crate) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    /// Every connection that is open now falls silent without an end: nothing is passed on any more, in neither
    /// direction, and nothing is closed, also when an end goes. New ones work.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on a new connection hears nothing of the server for so long.
    pub(crate) fn delay_new(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("a short time");
        self.late.store(millis, Ordering::SeqCst);
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().expect("not poisoned").drain(..) {
            // Fails when the other side was quicker.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accept call, so that the thread ends and frees the port.
        let _woken = TcpStream::connect(("127.0.0.1", self.port.number()));
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a second handle")
}

/// Whether a connection was put on hold since it began.
#[derive(Clone)]
struct Hold {
    born: u64,
    held: Arc<AtomicU64>,
}

impl Hold {
    /// Waits for ever (for the end of the process) when it was.
    fn pass(&self) {
        while self.held.load(Ordering::SeqCst) > self.born {
            std::thread::park();
        }
    }
}

fn pass_through(mut from: TcpStream, mut to: TcpStream, hold: &Hold) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        hold.pass();
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    hold.pass();
    // Either side may be gone already.
    let _closed = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

fn pass_frames(mut client: TcpStream, mut server: TcpStream, observer: &Observer, hold: &Hold) {
    let passed = pass_startup(&mut client, &mut server).and_then(|()| {
        loop {
            pass_frame(&mut client, &mut server, observer, hold)?;
        }
    });
    let ended: std::io::Result<()> = passed;
    drop(ended);
    hold.pass();
    let _closed = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
}

/// The messages without a type byte: requests for encryption (which this server declines), then the
/// start-up message.
fn pass_startup(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut message = head.to_vec();
        message.resize(length.max(8), 0);
        client.read_exact(&mut message[8..])?;
        server.write_all(&message)?;
        if code != SSL_REQUEST && code != GSS_REQUEST {
            return Ok(());
        }
    }
}

fn pass_frame(
    client: &mut TcpStream,
    server: &mut TcpStream,
    observer: &Observer,
    hold: &Hold,
) -> std::io::Result<()> {
    let mut head = [0; 5];
    client.read_exact(&mut head)?;
    hold.pass();
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut frame = head.to_vec();
    frame.resize(1 + length.max(4), 0);
    client.read_exact(&mut frame[5..])?;
    if let Some(update) = status_update(&frame) {
        observer(update);
    }
    server.write_all(&frame)
}

/// CopyData that holds a standby status update: `d`, length, `r`, three LSNs, clock, reply flag.
fn status_update(frame: &[u8]) -> Option<StatusUpdate> {
    if frame.len() != 5 + 34 || frame[0] != b'd' || frame[5] != b'r' {
        return None;
    }
    let lsn = |at: usize| frame[at..at + 8].iter().fold(0, |n: u64, byte| (n << 8) | u64::from(*byte));
    Some(StatusUpdate { write: lsn(6), flush: lsn(14), apply: lsn(22) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_update_is_found_and_nothing_else() {
        let mut frame = vec![b'd', 0, 0, 0, 38, b'r'];
        for lsn in [3u64, 2, 1] {
            frame.extend(lsn.to_be_bytes());
        }
        frame.extend([0; 9]);
        assert_eq!(status_update(&frame), Some(StatusUpdate { write: 3, flush: 2, apply: 1 }));
        frame[5] = b'h';
        assert_eq!(status_update(&frame), None, "hot standby feedback");
        assert_eq!(status_update(b"Q\0\0\0\x06;\0"), None);
    }
}
