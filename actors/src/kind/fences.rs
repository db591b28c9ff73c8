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
    end: AtomicU64,
    /// The first number that should make the manager reserve more. It is below the end.
    low: AtomicU64,
    /// The highest number, from `low` on, that was asked about.
    highest: AtomicU64,
    is_exceeded: AtomicBool,
    want: Box<dyn Fn() + Send + Sync>,
}

impl Reserve {
    /// Creates a reserve of all numbers.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX, || ())
    }

    /// Creates a reserve that ends at `end`. It calls `want` for each number from `low` on that is asked about.
    #[must_use]
    pub fn new(low: u64, end: u64, want: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            end: AtomicU64::new(end),
            low: AtomicU64::new(low),
            highest: AtomicU64::new(0),
            is_exceeded: AtomicBool::new(false),
            want: Box::new(want),
        }
    }

    /// Returns whether a number is reserved.
    #[inline]
    pub fn covers(&self, number: u64) -> bool {
        number < self.low.load(Ordering::Acquire) || self.covers_late(number)
    }

    #[cold]
    fn covers_late(&self, number: u64) -> bool {
        self.highest.fetch_max(number, Ordering::AcqRel);
        let is_covered = number < self.end();
        if !is_covered {
            self.is_exceeded.store(true, Ordering::Release);
        }
        (self.want)();
        is_covered
    }

    /// Returns the end of the reserved numbers.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns the highest number that was asked about, at least from `low` on.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// Returns whether a number was asked about that was not reserved then. Answers were dropped, so the
    /// manager has to end, even if the end was raised since.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Ordering::Acquire)
    }

    /// Raises the end, once all numbers below it are reserved.
    pub fn extend(&self, low: u64, end: u64) {
        self.end.fetch_max(end, Ordering::AcqRel);
        self.low.fetch_max(low, Ordering::AcqRel);
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("end", &self.end)
            .field("highest", &self.highest)
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
    fn more_numbers_are_wanted_before_the_reserved_ones_are_used_up() {
        let wanted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&wanted);
        let reserve = Reserve::new(15, 20, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let wanted = || wanted.load(Ordering::Relaxed);
        assert!(reserve.covers(14));
        assert_eq!((wanted(), reserve.highest()), (0, 0));
        assert!(reserve.covers(15));
        assert!(reserve.covers(19));
        assert_eq!((wanted(), reserve.highest()), (2, 19));
        assert!(!reserve.is_exceeded());
        assert!(!reserve.covers(20));
        assert_eq!(reserve.highest(), 20);
        assert!(reserve.is_exceeded());

        reserve.extend(25, 30);
        assert!(reserve.is_exceeded(), "the answers stay dropped");
        assert!(reserve.covers(24));
        assert_eq!(wanted(), 3, "nothing more is wanted below the new mark");
        assert!(!reserve.covers(30));
        // A write that ended late does not take numbers back.
        reserve.extend(15, 20);
        assert!(reserve.covers(24));
        assert_eq!(wanted(), 4);
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
