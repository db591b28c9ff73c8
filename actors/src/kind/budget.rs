//! `StoredBudget`: the bytes that clients have a manager keep, against the limit for all of them.
//!
//! Calls that wait and holds are counted apart from stored data, and a share of the limit is theirs alone:
//! a client that stores as much as it can does not keep others from their locks. Each shard draws bytes in
//! steps and counts them by itself, so a call touches nothing that another thread uses.
//!
//! Invariant: what was counted is given back when the [`Stored`] is dropped.

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
    /// What waiting calls and holds have drawn.
    calls: AtomicUsize,
    /// What everything else has drawn.
    data: AtomicUsize,
}

/// A waiting call, and something that is held, count as so many bytes each. They count the same, so that
/// a waiting call is always granted, whatever the limit says by then.
pub(crate) const CALL_BYTES: usize = 256;

/// How many bytes a shard draws at a time, unless the limit is small.
const STEP: usize = 1 << 16;

/// The use of counted bytes, which decides how much of the limit they may take beside those of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// What objects store: an eighth of the limit is kept from it.
    Data,
    /// What sessions need to make calls, such as incoming messages and opened objects: a sixteenth of the
    /// limit is kept from it.
    Session,
}

/// Which of its two sums a number of bytes is a part of.
#[derive(Clone, Copy)]
enum Part {
    Calls,
    Data,
}

impl StoredBudget {
    /// Makes a budget of so many bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            calls: AtomicUsize::new(0),
            data: AtomicUsize::new(0),
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
        let calls = self.calls.load(Ordering::Relaxed);
        calls.saturating_add(self.data.load(Ordering::Relaxed))
    }

    const fn step(&self) -> usize {
        let step = self.most / 1024;
        if step < STEP { step } else { STEP }
    }

    const fn part(&self, part: Part) -> &AtomicUsize {
        match part {
            Part::Calls => &self.calls,
            Part::Data => &self.data,
        }
    }

    /// How many bytes of the limit only calls and holds may take.
    const fn reserve(&self, share: Share) -> usize {
        match share {
            Share::Data => self.most / 8,
            Share::Session => self.most / 16,
        }
    }

    /// Returns whether so many more bytes of data are within the limit.
    fn takes(&self, share: Share, bytes: usize) -> bool {
        let calls = self.calls.load(Ordering::Relaxed);
        let data = self.data.load(Ordering::Relaxed);
        let others = calls.max(self.reserve(share));
        data.saturating_add(bytes).saturating_add(others) <= self.most
    }

    /// Returns whether so many more bytes take a part beyond the limit.
    fn is_over(&self, part: Part, bytes: usize) -> bool {
        match part {
            Part::Calls => {
                let calls = self.calls.load(Ordering::Relaxed).saturating_add(bytes);
                calls > self.reserve(Share::Data)
                    && calls.saturating_add(self.data.load(Ordering::Relaxed)) > self.most
            }
            Part::Data => !self.takes(Share::Data, bytes),
        }
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
    calls: Sum,
    data: Sum,
    /// How much more may be drawn than is used.
    most_spare: usize,
}

/// What one shard keeps of one part.
#[derive(Debug, Default)]
struct Sum {
    used: Cell<usize>,
    /// How much is drawn from the budget: at least what is used.
    drawn: Cell<usize>,
    /// Whether the budget was above its limit when this drew last.
    was_over: Cell<bool>,
}

/// What a shard keeps at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    calls: usize,
    all: usize,
}

impl Account {
    pub(crate) fn new(budget: Arc<StoredBudget>) -> Self {
        Self {
            most_spare: 2 * budget.step(),
            budget,
            calls: Sum::default(),
            data: Sum::default(),
        }
    }

    /// How many bytes the shard keeps.
    pub(crate) fn used(&self) -> usize {
        self.calls.used.get() + self.data.used.get()
    }

    /// How many bytes the shard keeps now, for [`Self::is_over_since`].
    #[inline]
    pub(crate) fn usage(&self) -> Usage {
        let calls = self.calls.used.get();
        let all = calls + self.data.used.get();
        Usage { calls, all }
    }

    /// Whether calls and holds are beyond the limit, and there are more of them than there were.
    #[inline]
    pub(crate) fn is_over_since(&self, before: Usage) -> bool {
        self.calls.was_over.get()
            && self.budget.is_over(Part::Calls, 0)
            && self.calls.used.get() > before.calls
            && self.used() > before.all
    }

    /// Counts bytes of a waiting call or a hold, also beyond the limit.
    #[inline]
    pub(crate) fn count(&self, bytes: usize) {
        self.add(&self.calls, Part::Calls, bytes);
    }

    /// Stops counting bytes of a waiting call or a hold.
    #[inline]
    pub(crate) fn forget(&self, bytes: usize) {
        self.subtract(&self.calls, Part::Calls, bytes);
    }

    /// What a call is told that the limit refuses.
    pub(crate) fn fault(&self) -> Fault {
        Fault::limit(Fault::STORED, self.budget.most)
    }

    /// Counts bytes of data beyond the limit.
    fn count_data(&self, bytes: usize) {
        self.add(&self.data, Part::Data, bytes);
    }

    fn forget_data(&self, bytes: usize) {
        self.subtract(&self.data, Part::Data, bytes);
    }

    /// Counts bytes of data if the limit allows.
    fn try_count_data(&self, share: Share, bytes: usize) -> Result<(), Fault> {
        let missing = (self.data.used.get() + bytes).saturating_sub(self.data.drawn.get());
        if missing > 0 && !self.budget.takes(share, missing) {
            return Err(self.fault());
        }
        self.count_data(bytes);
        Ok(())
    }

    #[inline]
    fn add(&self, sum: &Sum, part: Part, bytes: usize) {
        let used = sum.used.get() + bytes;
        sum.used.set(used);
        if used > sum.drawn.get() {
            self.draw(sum, part, used);
        }
    }

    #[inline]
    fn subtract(&self, sum: &Sum, part: Part, bytes: usize) {
        let used = sum.used.get().saturating_sub(bytes);
        sum.used.set(used);
        if sum.drawn.get() - used > self.most_spare || sum.was_over.get() {
            self.give_back(sum, part, used);
        }
    }

    #[cold]
    fn draw(&self, sum: &Sum, part: Part, used: usize) {
        let missing = used - sum.drawn.get();
        // Near the limit it draws what it needs, and no more.
        let step = missing.max(self.budget.step());
        let is_near = self.budget.is_over(part, step);
        let more = if is_near { missing } else { step };
        sum.drawn.set(sum.drawn.get() + more);
        let drawn = self.budget.part(part);
        drawn.fetch_add(more, Ordering::Relaxed);
        sum.was_over.set(self.budget.is_over(part, 0));
    }

    #[cold]
    fn give_back(&self, sum: &Sum, part: Part, used: usize) {
        let step = self.budget.step();
        let kept = if sum.was_over.get() {
            used
        } else {
            used + step
        };
        if let Some(more) = sum.drawn.get().checked_sub(kept) {
            sum.drawn.set(kept);
            let drawn = self.budget.part(part);
            drawn.fetch_sub(more, Ordering::Relaxed);
        }
        sum.was_over.set(self.budget.is_over(part, 0));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for (sum, part) in [(&self.calls, Part::Calls), (&self.data, Part::Data)] {
            let drawn = self.budget.part(part);
            drawn.fetch_sub(sum.drawn.get(), Ordering::Relaxed);
        }
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
    pub(crate) fn new(account: &Rc<Account>, share: Share, bytes: usize) -> Result<Self, Fault> {
        account.try_count_data(share, bytes)?;
        let account = Rc::clone(account);
        Ok(Self { account, bytes })
    }

    /// Counts bytes, also beyond the limit.
    pub(crate) fn beyond(account: &Rc<Account>, bytes: usize) -> Self {
        account.count_data(bytes);
        let account = Rc::clone(account);
        Self { account, bytes }
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
        self.resize_in(Share::Data, bytes)
    }

    /// The same within another share of the limit.
    ///
    /// # Errors
    ///
    /// As [`Self::resize`].
    #[doc(hidden)]
    pub fn resize_in(&mut self, share: Share, bytes: usize) -> Result<(), Fault> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            self.set(bytes);
            return Ok(());
        };
        self.account.try_count_data(share, more)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Counts `bytes` in place of those before, also beyond the limit: for what must not be lost.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.count_data(bytes - self.bytes);
        } else {
            self.account.forget_data(self.bytes - bytes);
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
        self.account.forget_data(self.bytes);
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({} bytes)", self.bytes)
    }
}

/// The bytes of many holds of one object, which count as waiting calls do.
pub(crate) struct HeldBytes {
    account: Rc<Account>,
    bytes: usize,
}

impl HeldBytes {
    pub(crate) const fn new(account: Rc<Account>) -> Self {
        Self { account, bytes: 0 }
    }

    /// Counts `bytes` in place of those before, also beyond the limit.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.count(bytes - self.bytes);
        } else {
            self.account.forget(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.account.forget(self.bytes);
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldBytes({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(most: usize) -> [Rc<Account>; 2] {
        let budget = Arc::new(StoredBudget::new(most));
        [(); 2].map(|()| Rc::new(Account::new(Arc::clone(&budget))))
    }

    fn store(account: &Rc<Account>, bytes: usize) -> Result<Stored, Fault> {
        Stored::new(account, Share::Data, bytes)
    }

    #[test]
    fn limit_is_that_of_all_shards_together_and_what_is_given_back_can_be_had_again() {
        for most in [1000, 1 << 20, 1 << 30] {
            let [one, other] = accounts(most);
            let most_of_it = store(&one, most / 10 * 8).unwrap();
            assert!(store(&other, most / 5).is_err());
            let little = store(&other, most / 20).unwrap();
            assert!(store(&one, most / 10).is_err());
            drop(most_of_it);
            let again = store(&other, most / 10 * 8).unwrap();
            drop((little, again));
            assert!(one.budget.drawn() <= 4 * STEP);
            drop((one, other));
        }
    }

    #[test]
    fn bytes_beyond_the_limit_are_counted_until_they_are_given_back() {
        let most = (1 << 20) / 8 * 7;
        let [one, other] = accounts(1 << 20);
        let mut stored = store(&one, most).unwrap();
        assert!(!one.data.was_over.get());
        stored.set(most + 1);
        assert!(one.data.was_over.get() && store(&other, 1).is_err());
        // It may shrink in steps of whatever size, and grow again as far as there is room.
        assert!(stored.resize(most + 2).is_err());
        stored.resize(most).unwrap();
        assert!(!one.data.was_over.get());
        let half = stored.split(most / 2);
        drop(half);
        stored.resize(most).unwrap();
        assert!(stored.resize(most + 1).is_err());
        let beyond = Stored::beyond(&other, most);
        assert_eq!((one.used(), other.used()), (most, most));
        drop(beyond);
        assert_eq!(other.used(), 0);
    }

    #[test]
    fn calls_have_a_share_that_neither_data_nor_sessions_can_take() {
        let most = 1 << 20;
        let [one, other] = accounts(most);
        let is_over = |account: &Account| {
            let before = account.usage();
            account.count(CALL_BYTES);
            let is_over = account.is_over_since(before);
            account.forget(CALL_BYTES);
            is_over
        };
        let mut data = store(&one, most / 8 * 7).unwrap();
        assert!(store(&other, 1).is_err() && !is_over(&other));
        // Sessions go on, but do not take all either.
        let session = |bytes| Stored::new(&other, Share::Session, bytes);
        let messages = session(most / 16).unwrap();
        assert!(session(1).is_err() && !is_over(&other));
        // What must not be lost takes nothing of it.
        data.set(10 * most);
        assert!(!is_over(&other));
        other.count(most / 8 - CALL_BYTES);
        assert!(!is_over(&other));
        other.count(CALL_BYTES);
        assert!(is_over(&other));
        // Without data, calls may take the whole limit, and leave nothing for data.
        drop((data, messages));
        assert!(!is_over(&other));
        other.count(most / 8 * 7 - CALL_BYTES);
        assert!(!is_over(&other) && store(&one, most / 100).is_err());
        other.count(CALL_BYTES);
        assert!(is_over(&other));
        other.forget(most);
        store(&one, most / 8 * 7).unwrap();
    }
}
