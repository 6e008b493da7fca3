//! Free TCP ports, safe against other test processes.
//!
//! Ports come from 20000 to 32000: above lies the range of outgoing connections, any of which may own a
//! port that looks free. A lock file per port keeps parallel processes apart.

use super::places;
use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that is ours until this value is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free one.
    pub(crate) fn take() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let dir = places::cache().join("ports");
        std::fs::create_dir_all(&dir).expect("the cache can be written");
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below COUNT");
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(7, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_add(step)) % COUNT;
            let lock = File::create(dir.join(number.to_string())).expect("the lock file can be written");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} on");
    }

    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
