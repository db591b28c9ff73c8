//! Looking for an answer for a moment before sleeping until it comes.
//!
//! A manager on another core answers sooner than a sleeping thread wakes up. The price is a core for
//! as long as that takes, so it is off unless the program asks for it; and where answers do not come
//! in time, since they wait for somebody else or no core is free, it is tried ever more rarely.

use std::{
    hint,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long, in nanoseconds. Zero is not at all.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// How many calls go without a try at the most, after many that were in vain.
const MOST_SKIPS: u32 = 256;

/// Has the calls of this process look for their answers that long, before they let the thread sleep.
/// Zero, the default, is not at all; more than a millisecond is taken for one.
///
/// Some 20 microseconds are twice a round trip. It makes an uncontended call up to twice
/// as fast while the manager has a core of its own, and everything slower while it has not. The
/// thread does nothing else meanwhile: other tasks of its runtime wait for as long.
pub fn spin_for(time: Duration) {
    let time = time.min(Duration::from_millis(1));
    LIMIT.store(
        time.as_nanos().try_into().unwrap_or(u64::MAX),
        Ordering::Relaxed,
    );
}

/// What a connection knows of its tries.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// How many calls go without a try.
    skips: AtomicU32,
    /// How many there will be after the next one in vain.
    after_miss: AtomicU32,
}

impl Spin {
    /// Looks for something for a while, if that is worth a try.
    pub(super) fn look<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let limit = LIMIT.load(Ordering::Relaxed);
        if limit == 0 {
            return None;
        }
        // Whether two threads count the same call twice is of no importance.
        let skips = self.skips.load(Ordering::Relaxed);
        if skips > 0 {
            self.skips.store(skips - 1, Ordering::Relaxed);
            return None;
        }
        let (begun, limit) = (Instant::now(), Duration::from_nanos(limit));
        while begun.elapsed() < limit {
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
        let spin = Spin::default();
        let tries = |calls: u32| {
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
        assert_eq!(tries(10), 0, "it is off");
        spin_for(Duration::from_micros(100));
        let (first, later) = (tries(1000), tries(10_000));
        assert!((5..20).contains(&first), "{first} of 1,000");
        assert!((30..60).contains(&later), "{later} of 10,000");
        spin.skips.store(0, Ordering::Relaxed);
        assert_eq!(spin.look(|| Some(7)), Some(7));
        assert_eq!(spin.look(|| Some(7)), Some(7), "it was worth the try");
        spin_for(Duration::ZERO);
        assert_eq!(spin.look(|| Some(7)), None);
    }
}
