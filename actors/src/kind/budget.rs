//! `StoredBudget`: the bytes that clients have a manager keep, against the limit for all of them.
//!
//! Each shard draws bytes in steps and counts them by itself, so a call touches nothing that another
//! thread uses. Invariant: what was counted is given back when the [`Stored`] is dropped.

use std::{
    cell::Cell,
    fmt, mem,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lockkeeper_protocol::Fault;

/// The bytes that all shards of a manager keep together.
pub struct StoredBudget {
    most: usize,
    drawn: AtomicUsize,
}

/// A waiting call, and something that is held, count as so many bytes each. They count the same, so that
/// a waiting call is always granted, whatever the limit says by then.
pub(crate) const CALL_BYTES: usize = 256;

/// How many bytes a shard draws at a time, unless the limit is small.
const STEP: usize = 1 << 16;

impl StoredBudget {
    /// Makes a budget of so many bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            drawn: AtomicUsize::new(0),
        }
    }

    /// Makes a budget without a limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// How many bytes the shards have drawn, which is a little more than they keep.
    #[must_use]
    pub fn drawn(&self) -> usize {
        self.drawn.load(Ordering::Relaxed)
    }

    const fn step(&self) -> usize {
        let step = self.most / 1024;
        if step < STEP { step } else { STEP }
    }
}

impl fmt::Debug for StoredBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBudget")
            .field("most", &self.most)
            .field("drawn", &self.drawn())
            .finish()
    }
}

/// What one shard keeps.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<StoredBudget>,
    used: Cell<usize>,
    /// How much is drawn from the budget: at least what is used.
    drawn: Cell<usize>,
    /// How much more may be drawn than is used.
    most_spare: usize,
    /// Whether the budget was above its limit when this drew last.
    was_over: Cell<bool>,
}

impl Account {
    pub(crate) fn new(budget: Arc<StoredBudget>) -> Self {
        Self {
            most_spare: 2 * budget.step(),
            budget,
            used: Cell::new(0),
            drawn: Cell::new(0),
            was_over: Cell::new(false),
        }
    }

    /// How many bytes the shard keeps.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    /// Counts bytes, also beyond the limit.
    #[inline]
    pub(crate) fn count(&self, bytes: usize) {
        let used = self.used.get() + bytes;
        self.used.set(used);
        if used > self.drawn.get() {
            self.draw(used);
        }
    }

    /// Counts bytes no more.
    #[inline]
    pub(crate) fn forget(&self, bytes: usize) {
        let used = self.used.get().saturating_sub(bytes);
        self.used.set(used);
        if self.drawn.get() - used > self.most_spare || self.was_over.get() {
            self.give_back(used);
        }
    }

    /// Whether the manager keeps more than its limit.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.was_over.get() && self.budget.drawn() > self.budget.most
    }

    /// What a call is told that the limit refuses.
    pub(crate) fn fault(&self) -> Fault {
        Fault::limit("bytes of stored data", self.budget.most)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let missing = (self.used.get() + bytes).saturating_sub(self.drawn.get());
        missing == 0 || self.budget.drawn().saturating_add(missing) <= self.budget.most
    }

    #[cold]
    fn draw(&self, used: usize) {
        let missing = used - self.drawn.get();
        // Near the limit it draws what it needs, and no more.
        let step = missing.max(self.budget.step());
        let is_near = self.budget.drawn().saturating_add(step) > self.budget.most;
        let more = if is_near { missing } else { step };
        self.drawn.set(self.drawn.get() + more);
        let before = self.budget.drawn.fetch_add(more, Ordering::Relaxed);
        self.was_over
            .set(before.saturating_add(more) > self.budget.most);
    }

    #[cold]
    fn give_back(&self, used: usize) {
        let step = self.budget.step();
        let kept = if self.was_over.get() {
            used
        } else {
            used + step
        };
        if let Some(more) = self.drawn.get().checked_sub(kept) {
            self.drawn.set(kept);
            self.budget.drawn.fetch_sub(more, Ordering::Relaxed);
        }
        self.was_over.set(self.budget.drawn() > self.budget.most);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget
            .drawn
            .fetch_sub(self.drawn.get(), Ordering::Relaxed);
    }
}

/// Bytes that an object keeps for its clients, counted in `Limits::stored_bytes`. Its drop gives them
/// back.
pub struct Stored {
    account: Rc<Account>,
    bytes: usize,
}

impl Stored {
    /// Counts bytes if the limit allows.
    pub(crate) fn new(account: &Rc<Account>, bytes: usize) -> Result<Self, Fault> {
        if !account.has_room(bytes) {
            return Err(account.fault());
        }
        account.count(bytes);
        Ok(Self {
            account: Rc::clone(account),
            bytes,
        })
    }

    /// Returns how many bytes are counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` in place of those before. As many as before, or fewer, always fit.
    ///
    /// # Errors
    ///
    /// Returns [`Fault::Limit`] when the limit does not allow more. Nothing has changed then.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Fault> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.account.has_room(more) {
            return Err(self.account.fault());
        }
        self.set(bytes);
        Ok(())
    }

    /// Counts `bytes` in place of those before, also beyond the limit: for what must not be lost.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.count(bytes - self.bytes);
        } else {
            self.account.forget(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Adds what another one counts, of the same shard.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += mem::take(&mut other.bytes);
    }

    /// Splits `bytes` off, at most all that there are, into a `Stored` of their own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            account: Rc::clone(&self.account),
            bytes,
        }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.account.forget(self.bytes);
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(most: usize) -> [Rc<Account>; 2] {
        let budget = Arc::new(StoredBudget::new(most));
        [(); 2].map(|()| Rc::new(Account::new(Arc::clone(&budget))))
    }

    #[test]
    fn limit_is_that_of_all_shards_together_and_what_is_given_back_can_be_had_again() {
        for most in [1000, 1 << 20, 1 << 30] {
            let [one, other] = accounts(most);
            let most_of_it = Stored::new(&one, most / 10 * 9).unwrap();
            assert!(Stored::new(&other, most / 5).is_err());
            let little = Stored::new(&other, most / 20).unwrap();
            assert!(Stored::new(&one, most / 10).is_err());
            drop(most_of_it);
            let again = Stored::new(&other, most / 10 * 9).unwrap();
            drop((little, again));
            assert!(one.budget.drawn() <= 4 * STEP);
            drop((one, other));
        }
    }

    #[test]
    fn bytes_beyond_the_limit_are_counted_until_they_are_given_back() {
        let [one, other] = accounts(1 << 20);
        let mut stored = Stored::new(&one, 1 << 20).unwrap();
        assert!(!one.is_over());
        stored.set((1 << 20) + 1);
        assert!(one.is_over() && Stored::new(&other, 1).is_err());
        // It may shrink in steps of whatever size, and grow again as far as there is room.
        assert!(stored.resize((1 << 20) + 2).is_err());
        stored.resize(1 << 20).unwrap();
        assert!(!one.is_over());
        let half = stored.split(1 << 19);
        drop(half);
        stored.resize(1 << 20).unwrap();
        assert!(stored.resize((1 << 20) + 1).is_err());
    }
}
