//! Polling for an answer before the thread sleeps.
//!
//! A manager on another core answers sooner than a sleeping thread wakes up. Polling occupies a core
//! meanwhile, so it is off unless the program chooses it for the manager. If answers do not arrive in time,
//! because a call waits for another client or no core is free, the calls poll less and less often.

use std::{
    hint,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The most calls without polling, after many polls without an answer.
const MOST_SKIPS: u32 = 256;

/// The polling state of a connection.
#[derive(Debug)]
pub(super) struct Spin {
    /// The time of one poll phase. Zero disables polling.
    limit: Duration,
    /// The number of calls left without polling.
    skips: AtomicU32,
    /// The number of calls without polling after the next poll that fails.
    after_miss: AtomicU32,
}

impl Spin {
    /// Creates the state with the time of one poll phase.
    pub(super) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            skips: AtomicU32::new(0),
            after_miss: AtomicU32::new(0),
        }
    }

    /// Polls for a result, unless recent polls were in vain.
    pub(super) fn look<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.limit.is_zero() {
            return None;
        }
        // A race between two threads at most miscounts a call, which is harmless.
        let skips = self.skips.load(Ordering::Relaxed);
        if skips > 0 {
            self.skips.store(skips - 1, Ordering::Relaxed);
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < self.limit {
            if let Some(found) = look() {
                self.after_miss.store(0, Ordering::Relaxed);
                return Some(found);
            }
            hint::spin_loop();
        }
        let skips = self.after_miss.load(Ordering::Relaxed).max(1);
        self.skips.store(skips, Ordering::Relaxed);
        self.after_miss
            .store((skips * 2).min(MOST_SKIPS), Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_ever_more_rarely_while_it_is_in_vain() {
        let tries = |spin: &Spin, calls: u32| {
            let mut tries = 0;
            for _ in 0..calls {
                let mut is_tried = false;
                let _: Option<()> = spin.look(|| {
                    is_tried = true;
                    None
                });
                tries += u32::from(is_tried);
            }
            tries
        };
        let off = Spin::new(Duration::ZERO);
        assert_eq!(tries(&off, 10), 0, "it is off");
        assert_eq!(off.look(|| Some(7)), None);
        let spin = Spin::new(Duration::from_micros(100));
        let (first, later) = (tries(&spin, 1000), tries(&spin, 10_000));
        assert!((5..20).contains(&first), "{first} of 1,000");
        assert!((30..60).contains(&later), "{later} of 10,000");
        spin.skips.store(0, Ordering::Relaxed);
        assert_eq!(spin.look(|| Some(7)), Some(7));
        assert_eq!(spin.look(|| Some(7)), Some(7), "it was worth the try");
    }
}
