//! Looking for an answer for a moment before sleeping until it comes.
//!
//! A manager on another core answers sooner than a sleeping thread wakes up. The price is a core for
//! as long as that takes, so it is off unless the program chooses it for the manager; and where answers do not come
//! in time, since they wait for somebody else or no core is free, it is tried ever more rarely.

use std::{
    hint,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// How many calls go without a try at the most, after many that were in vain.
const MOST_SKIPS: u32 = 256;

/// What a connection knows of its tries.
#[derive(Debug)]
pub(super) struct Spin {
    /// How long a try takes. Zero is not at all.
    limit: Duration,
    /// How many calls go without a try.
    skips: AtomicU32,
    /// How many there will be after the next one in vain.
    after_miss: AtomicU32,
}

impl Spin {
    /// Makes the tries of a connection take that long.
    pub(super) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            skips: AtomicU32::new(0),
            after_miss: AtomicU32::new(0),
        }
    }

    /// Looks for something for a while, if that is worth a try.
    pub(super) fn look<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.limit.is_zero() {
            return None;
        }
        // Whether two threads count the same call twice is of no importance.
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
