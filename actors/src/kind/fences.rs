//! `Fences` and `Reserve`: the fences of a shard, and the numbers that its manager has reserved.
//!
//! A manager with a state folder reserves numbers on the disk before it gives them out, so that a later
//! manager starts above them. The shards of a manager share one `Reserve`.
//!
//! Invariant: no answer that was made after a fence was drawn is delivered before the fence is reserved.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use lockkeeper_protocol::Fence;

/// The numbers that a manager has reserved: all below an end, which only rises.
pub struct Reserve {
    reserved_until: AtomicU64,
    /// The first number that makes a shard request more. It is below the end.
    refill_from: AtomicU64,
    /// The highest number, from `refill_from` on, that was asked about.
    highest_drawn: AtomicU64,
    /// Whether more was requested since the last extension.
    is_requested: AtomicBool,
    is_exhausted: AtomicBool,
    request_more: Box<dyn Fn() + Send + Sync>,
}

impl Reserve {
    /// Creates a reserve of all numbers.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX, || ())
    }

    /// Creates a reserve of the numbers below `reserved_until`. It calls `request_more` once for the numbers from
    /// `refill_from` on until it is extended, and once more for a number that is not reserved.
    #[must_use]
    pub fn new(
        refill_from: u64,
        reserved_until: u64,
        request_more: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            reserved_until: AtomicU64::new(reserved_until),
            refill_from: AtomicU64::new(refill_from),
            highest_drawn: AtomicU64::new(0),
            is_requested: AtomicBool::new(false),
            is_exhausted: AtomicBool::new(false),
            request_more: Box::new(request_more),
        }
    }

    /// Returns whether a number is reserved.
    #[inline]
    pub fn covers(&self, number: u64) -> bool {
        number < self.refill_from.load(Ordering::Acquire) || self.covers_late(number)
    }

    #[cold]
    fn covers_late(&self, number: u64) -> bool {
        let is_higher = self.highest_drawn.fetch_max(number, Ordering::AcqRel) < number;
        let is_covered = number < self.reserved_until();
        let is_news = if is_covered {
            is_higher && !self.is_requested.swap(true, Ordering::AcqRel)
        } else {
            !self.is_exhausted.swap(true, Ordering::AcqRel)
        };
        if is_news {
            (self.request_more)();
        }
        is_covered
    }

    /// Returns the end of the reserved numbers.
    #[must_use]
    pub fn reserved_until(&self) -> u64 {
        self.reserved_until.load(Ordering::Acquire)
    }

    /// Returns the highest number that was asked about, at least from `refill_from` on.
    #[must_use]
    pub fn highest_drawn(&self) -> u64 {
        self.highest_drawn.load(Ordering::Acquire)
    }

    /// Returns whether more numbers should be reserved. A request during an extension may not be repeated, so
    /// check this after each extension.
    #[must_use]
    pub fn needs_more(&self) -> bool {
        self.highest_drawn() >= self.refill_from.load(Ordering::Acquire)
    }

    /// Returns whether a shard drew a number beyond the reservation, and its answers were dropped. The manager
    /// must stop, even if the reservation was extended later.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Ordering::Acquire)
    }

    /// Raises the end, once all numbers below it are reserved.
    pub fn extend(&self, refill_from: u64, reserved_until: u64) {
        self.reserved_until
            .fetch_max(reserved_until, Ordering::AcqRel);
        self.refill_from.fetch_max(refill_from, Ordering::AcqRel);
        // A swap acquires the numbers of the shards that made no request because there was one.
        self.is_requested.swap(false, Ordering::AcqRel);
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("reserved_until", &self.reserved_until)
            .field("highest_drawn", &self.highest_drawn)
            .finish_non_exhaustive()
    }
}

/// The fences of a shard, which count up.
#[derive(Debug)]
pub struct Fences {
    next: u64,
    reserve: Arc<Reserve>,
}

impl Fences {
    /// Counts from `first` on, within the numbers that the manager has reserved.
    #[must_use]
    pub const fn within(first: u64, reserve: Arc<Reserve>) -> Self {
        Self {
            next: first,
            reserve,
        }
    }

    /// Counts from `first` on, in a manager that reserves no numbers.
    #[must_use]
    pub fn count_from(first: u64) -> Self {
        Self::within(first, Arc::new(Reserve::unlimited()))
    }

    /// Draws the next fence.
    #[inline]
    pub(crate) const fn next(&mut self) -> Fence {
        let number = self.next;
        self.next += 1;
        Fence::new(number)
    }

    /// Returns whether all fences that were drawn are reserved.
    #[inline]
    pub(crate) fn are_reserved(&self) -> bool {
        self.reserve.covers(self.next.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn more_numbers_are_requested_before_the_reserved_ones_are_used_up() {
        let requests = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&requests);
        let reserve = Reserve::new(15, 20, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let requests = || requests.load(Ordering::Relaxed);
        assert!(reserve.covers(14));
        assert_eq!((requests(), reserve.highest_drawn()), (0, 0));
        assert!(!reserve.needs_more());
        for number in 15..20 {
            assert!(reserve.covers(number));
            assert!(reserve.needs_more());
        }
        assert_eq!(reserve.highest_drawn(), 19);
        assert_eq!(requests(), 1, "one request is enough until the extension");

        reserve.extend(25, 30);
        assert!(!reserve.needs_more());
        assert!(reserve.covers(24));
        assert_eq!(requests(), 1, "nothing is requested below the new mark");
        assert!(reserve.covers(25));
        assert_eq!(requests(), 2);
        // A write that ended late does not take numbers back.
        reserve.extend(15, 20);
        assert!(reserve.covers(29));
        assert!(reserve.needs_more());
    }

    #[test]
    fn number_that_is_not_reserved_stays_noticed_after_an_extension() {
        let requests = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&requests);
        let reserve = Reserve::new(15, 20, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert!(reserve.covers(19));
        assert!(!reserve.is_exhausted());
        for number in [20, 21, 20] {
            assert!(!reserve.covers(number));
            assert_eq!(
                requests.load(Ordering::Relaxed),
                2,
                "the manager is told once, although a request is pending"
            );
        }
        assert_eq!(reserve.highest_drawn(), 21);
        assert!(reserve.is_exhausted());
        reserve.extend(25, 30);
        assert!(reserve.is_exhausted(), "the answers stay dropped");
        assert!(reserve.covers(24));
    }

    #[test]
    fn fences_count_up_and_know_whether_they_are_reserved() {
        let mut fences = Fences::within(7, Arc::new(Reserve::new(8, 9, || ())));
        assert!(fences.are_reserved(), "none is drawn");
        assert_eq!(fences.next(), Fence::new(7));
        assert_eq!(fences.next(), Fence::new(8));
        assert!(fences.are_reserved());
        assert_eq!(fences.next(), Fence::new(9));
        assert!(!fences.are_reserved());
        let mut all = Fences::count_from(u64::MAX - 2);
        let _ = all.next();
        assert!(all.are_reserved());
    }
}
