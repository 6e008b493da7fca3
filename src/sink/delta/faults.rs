//! Faults for tests: the process dies between two steps, or a reply is lost.

use crate::error::{Error, Result, codes};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What goes wrong.
#[derive(Debug)]
pub(super) struct Faults {
    /// Steps until death; below zero: dead.
    left: AtomicI64,
    /// One reply of so many is lost; 0: none.
    lose_one_of: AtomicU64,
    random: AtomicU64,
}

impl Faults {
    /// None yet.
    pub(super) fn new(seed: u64) -> Self {
        Faults {
            left: AtomicI64::new(i64::MAX),
            lose_one_of: AtomicU64::new(0),
            random: AtomicU64::new(seed | 1),
        }
    }

    /// Dies after so many steps.
    pub(super) fn die_after(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    /// A new process.
    pub(super) fn live(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    /// Loses one reply of so many.
    pub(super) fn lose_replies(&self, one_of: u64) {
        self.lose_one_of.store(one_of, Ordering::SeqCst);
    }

    /// Whether it died.
    pub(super) fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// A step; an error says that the process is dead.
    pub(super) fn step(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.left.store(-1, Ordering::SeqCst);
            return Err(Error::new(codes::TG003, "dead"));
        }
        Ok(())
    }

    /// The reply to a put; an error says that it was lost.
    pub(super) fn reply(&self, url: &url::Url) -> Result<()> {
        let one_of = self.lose_one_of.load(Ordering::SeqCst);
        if one_of == 0 {
            return Ok(());
        }
        let mut x = self.random.load(Ordering::SeqCst);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::SeqCst);
        if x.is_multiple_of(one_of) {
            return Err(Error::new(codes::TG001, format!("a reply from \"{url}\" was lost")));
        }
        Ok(())
    }
}
