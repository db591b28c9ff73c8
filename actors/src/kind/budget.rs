//! `StoredBudget`: the bytes that a manager stores for clients, and their limit.
//!
//! Waiting calls and holds are counted apart from stored data, and have a share of the limit for themselves,
//! so a client that stores as much as it can does not block the locks of others. One session may have at most
//! as many holds and unanswered calls as remain for the others. Each shard draws bytes in steps and counts them
//! by itself, so a call touches no state of another thread.
//!
//! Invariant: counted bytes are given back when their [`StoredBytes`] is dropped.

use std::{
    cell::{Cell, RefCell},
    fmt, mem,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lockkeeper_protocol::{Fault, SessionId};
use rustc_hash::{FxBuildHasher, FxHashMap};

/// The bytes that all shards of a manager store together.
pub struct StoredBudget {
    most: usize,
    /// The bytes drawn for waiting calls and holds.
    calls: AtomicUsize,
    /// The bytes drawn for everything else.
    data: AtomicUsize,
}

/// The bytes that a waiting call counts, and that a hold counts. They are equal, so that a waiting call can
/// be granted even if the limit is reached meanwhile.
pub(crate) const CALL_BYTES: usize = 256;

/// The bytes that a shard draws at a time, unless the limit is small.
const STEP: usize = 1 << 16;

/// The number of sessions for which the table of holds has room from the start. Only a full table is cleared of
/// sessions without holds, so few sessions that take turns are never cleared.
const KEPT_SESSIONS: usize = 64;

/// The use of counted bytes, which decides how much of the limit they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Data that objects store. An eighth of the limit is reserved from it.
    Data,
    /// Data that sessions need to make calls, such as incoming messages and opened objects. A sixteenth of
    /// the limit is reserved from it.
    Session,
}

/// The sum to which a number of bytes belongs.
#[derive(Clone, Copy)]
enum Counter {
    Calls,
    Data,
}

impl StoredBudget {
    /// Creates a budget of `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            calls: AtomicUsize::new(0),
            data: AtomicUsize::new(0),
        }
    }

    /// Creates a budget without a limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Returns the bytes that the shards have drawn, which slightly exceeds the bytes that they store.
    #[must_use]
    pub fn drawn(&self) -> usize {
        let calls = self.calls.load(Ordering::Relaxed);
        calls.saturating_add(self.data.load(Ordering::Relaxed))
    }

    const fn step(&self) -> usize {
        let step = self.most / 1024;
        if step < STEP { step } else { STEP }
    }

    const fn count_of(&self, counter: Counter) -> &AtomicUsize {
        match counter {
            Counter::Calls => &self.calls,
            Counter::Data => &self.data,
        }
    }

    /// The bytes of the limit that are reserved for calls and holds.
    const fn reserve(&self, share: Share) -> usize {
        match share {
            Share::Data => self.most / 8,
            Share::Session => self.most / 16,
        }
    }

    /// Returns whether `bytes` more bytes of data are within the limit.
    fn takes(&self, share: Share, bytes: usize) -> bool {
        self.left_for_data(share).is_some_and(|left| bytes <= left)
    }

    /// The bytes of data that are left. `None` if the data exceed the limit.
    fn left_for_data(&self, share: Share) -> Option<usize> {
        let calls = self.calls.load(Ordering::Relaxed);
        let data = self.data.load(Ordering::Relaxed);
        let room = self.most.checked_sub(calls.max(self.reserve(share)))?;
        room.checked_sub(data)
    }

    /// Returns whether `bytes` more bytes put a counter beyond the limit.
    fn is_over(&self, counter: Counter, bytes: usize) -> bool {
        match counter {
            Counter::Calls => {
                let calls = self.calls.load(Ordering::Relaxed);
                calls.saturating_add(bytes) > self.room_of_calls()
            }
            Counter::Data => !self.takes(Share::Data, bytes),
        }
    }

    /// The bytes that calls and holds may have beside the stored data.
    fn room_of_calls(&self) -> usize {
        let rest = self.most.saturating_sub(self.data.load(Ordering::Relaxed));
        rest.max(self.reserve(Share::Data))
    }

    /// The bytes of further calls and holds.
    fn left_for_calls(&self) -> usize {
        let calls = self.calls.load(Ordering::Relaxed);
        self.room_of_calls().saturating_sub(calls)
    }

    /// Returns whether a session may have more calls and holds than are left for the others.
    fn is_tight(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > self.left_for_calls()
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

/// The account of one shard.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<StoredBudget>,
    calls: Sum,
    data: Sum,
    /// The bytes of the holds of each session that has any, and of some that had.
    held: RefCell<FxHashMap<SessionId, usize>>,
    /// Whether the budget was tight at the last draw.
    is_tight: Cell<bool>,
    /// The most bytes that may be drawn and not used.
    most_spare: usize,
}

/// One sum of an account.
#[derive(Debug, Default)]
struct Sum {
    used: Cell<usize>,
    /// The bytes drawn from the budget: at least those in use.
    drawn: Cell<usize>,
    /// Whether the budget was above its limit at the last draw.
    was_over: Cell<bool>,
}

/// The bytes of a shard at one moment.
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
            held: RefCell::new(FxHashMap::with_capacity_and_hasher(
                KEPT_SESSIONS,
                FxBuildHasher,
            )),
            is_tight: Cell::new(false),
        }
    }

    /// The bytes that the shard stores.
    pub(crate) fn used(&self) -> usize {
        self.calls.used.get() + self.data.used.get()
    }

    /// The bytes that the shard stores now, for [`Self::is_over_since`].
    #[inline]
    pub(crate) fn usage(&self) -> Usage {
        let calls = self.calls.used.get();
        let all = calls + self.data.used.get();
        Usage { calls, all }
    }

    /// Returns whether calls and holds have grown since `before`, and either exceed the limit, or the session's
    /// others exceed what is left for the other sessions. `of_session` returns the bytes of all calls and holds
    /// of the session.
    #[inline]
    pub(crate) fn is_over_since(&self, before: Usage, of_session: impl FnOnce() -> usize) -> bool {
        let has_grown = self.calls.used.get() > before.calls && self.used() > before.all;
        self.is_tight.get() && has_grown && self.is_refused(of_session())
    }

    #[cold]
    fn is_refused(&self, of_session: usize) -> bool {
        let others = of_session.saturating_sub(CALL_BYTES);
        self.budget.is_over(Counter::Calls, 0) || others > self.budget.left_for_calls()
    }

    /// Counts a hold of a session, even beyond the limit.
    #[inline]
    pub(crate) fn hold(&self, session: SessionId) {
        self.count(CALL_BYTES);
        let held = &mut *self.held.borrow_mut();
        match held.get_mut(&session) {
            Some(bytes) => *bytes += CALL_BYTES,
            None => add(held, session),
        }
    }

    /// Stops counting holds of a session.
    #[inline]
    pub(crate) fn release(&self, session: SessionId, holds: usize) {
        self.forget(holds * CALL_BYTES);
        if let Some(bytes) = self.held.borrow_mut().get_mut(&session) {
            *bytes = bytes.saturating_sub(holds * CALL_BYTES);
        }
    }

    /// The bytes of the holds of a session.
    pub(crate) fn held_by(&self, session: SessionId) -> usize {
        let held = self.held.borrow().get(&session).copied();
        held.unwrap_or_default()
    }

    /// Counts bytes of a waiting call or a hold, even beyond the limit.
    #[inline]
    pub(crate) fn count(&self, bytes: usize) {
        self.add(&self.calls, Counter::Calls, bytes);
    }

    /// Stops counting bytes of a waiting call or a hold.
    #[inline]
    pub(crate) fn forget(&self, bytes: usize) {
        self.subtract(&self.calls, Counter::Calls, bytes);
    }

    /// The fault of a call that the limit refuses.
    pub(crate) fn fault(&self) -> Fault {
        Fault::limit(Fault::STORED, self.budget.most)
    }

    /// Refuses a session whose opened objects count more bytes than remain.
    pub(crate) fn check_share(&self, opened: usize) -> Result<(), Fault> {
        match self.budget.left_for_data(Share::Session) {
            Some(left) if opened <= left => Ok(()),
            Some(_) | None => Err(self.fault()),
        }
    }

    /// Counts bytes of data, even beyond the limit.
    fn count_data(&self, bytes: usize) {
        self.add(&self.data, Counter::Data, bytes);
    }

    fn forget_data(&self, bytes: usize) {
        self.subtract(&self.data, Counter::Data, bytes);
    }

    /// Counts bytes of data if the limit permits.
    fn try_count_data(&self, share: Share, bytes: usize) -> Result<(), Fault> {
        let missing = (self.data.used.get() + bytes).saturating_sub(self.data.drawn.get());
        if missing > 0 && !self.budget.takes(share, missing) {
            return Err(self.fault());
        }
        self.count_data(bytes);
        Ok(())
    }

    #[inline]
    fn add(&self, sum: &Sum, counter: Counter, bytes: usize) {
        let used = sum.used.get() + bytes;
        sum.used.set(used);
        if used > sum.drawn.get() {
            self.draw(sum, counter, used);
        }
    }

    #[inline]
    fn subtract(&self, sum: &Sum, counter: Counter, bytes: usize) {
        let used = sum.used.get().saturating_sub(bytes);
        sum.used.set(used);
        if sum.drawn.get() - used > self.most_spare || sum.was_over.get() {
            self.give_back(sum, counter, used);
        }
    }

    #[cold]
    fn draw(&self, sum: &Sum, counter: Counter, used: usize) {
        let missing = used - sum.drawn.get();
        // Near the limit it draws only what it needs.
        let step = missing.max(self.budget.step());
        let is_near = self.budget.is_over(counter, step);
        let more = if is_near { missing } else { step };
        sum.drawn.set(sum.drawn.get() + more);
        let drawn = self.budget.count_of(counter);
        drawn.fetch_add(more, Ordering::Relaxed);
        self.note_limits(sum, counter);
    }

    #[cold]
    fn give_back(&self, sum: &Sum, counter: Counter, used: usize) {
        let step = self.budget.step();
        let kept = if sum.was_over.get() {
            used
        } else {
            used + step
        };
        if let Some(more) = sum.drawn.get().checked_sub(kept) {
            sum.drawn.set(kept);
            let drawn = self.budget.count_of(counter);
            drawn.fetch_sub(more, Ordering::Relaxed);
        }
        self.note_limits(sum, counter);
    }

    fn note_limits(&self, sum: &Sum, counter: Counter) {
        sum.was_over.set(self.budget.is_over(counter, 0));
        self.is_tight.set(self.budget.is_tight());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for (sum, counter) in [(&self.calls, Counter::Calls), (&self.data, Counter::Data)] {
            let drawn = self.budget.count_of(counter);
            drawn.fetch_sub(sum.drawn.get(), Ordering::Relaxed);
        }
    }
}

/// Counts the first hold of a session. A session that has none left keeps its entry until the table would grow, because
/// it often acquires again.
#[cold]
fn add(held: &mut FxHashMap<SessionId, usize>, session: SessionId) {
    if held.len() == held.capacity() {
        held.retain(|_, bytes| *bytes > 0);
    }
    held.insert(session, CALL_BYTES);
}

/// Bytes that an object stores for its clients, counted in `Limits::stored_bytes`. Its drop gives them back.
#[must_use = "the drop gives the bytes back: keep it with the data"]
pub struct StoredBytes {
    account: Rc<Account>,
    bytes: usize,
}

impl StoredBytes {
    /// Counts bytes if the limit permits.
    pub(crate) fn new(account: &Rc<Account>, share: Share, bytes: usize) -> Result<Self, Fault> {
        account.try_count_data(share, bytes)?;
        let account = Rc::clone(account);
        Ok(Self { account, bytes })
    }

    /// Counts bytes, even beyond the limit.
    pub(crate) fn beyond(account: &Rc<Account>, bytes: usize) -> Self {
        account.count_data(bytes);
        let account = Rc::clone(account);
        Self { account, bytes }
    }

    /// Returns the number of counted bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces the number of counted bytes. The same number, or a smaller one, always fits.
    ///
    /// # Errors
    ///
    /// Returns [`Fault::Limit`] when the limit does not permit the number, and then changes nothing.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Fault> {
        self.resize_in(Share::Data, bytes)
    }

    /// Replaces the number of counted bytes within another share of the limit.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::resize`].
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

    /// Replaces the number of counted bytes, even beyond the limit, for data that must not be lost.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.count_data(bytes - self.bytes);
        } else {
            self.account.forget_data(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Adds the bytes of another `StoredBytes` of the same shard.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += mem::take(&mut other.bytes);
    }

    /// Splits off `bytes`, or all if there are fewer, into a separate `StoredBytes`.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            account: Rc::clone(&self.account),
            bytes,
        }
    }
}

impl Drop for StoredBytes {
    fn drop(&mut self) {
        self.account.forget_data(self.bytes);
    }
}

impl fmt::Debug for StoredBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBytes({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(most: usize) -> [Rc<Account>; 2] {
        let budget = Arc::new(StoredBudget::new(most));
        [(); 2].map(|()| Rc::new(Account::new(Arc::clone(&budget))))
    }

    fn store(account: &Rc<Account>, bytes: usize) -> Result<StoredBytes, Fault> {
        StoredBytes::new(account, Share::Data, bytes)
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
        // It may shrink in steps of any size, and grow again as far as there is room.
        assert!(stored.resize(most + 2).is_err());
        stored.resize(most).unwrap();
        assert!(!one.data.was_over.get());
        let half = stored.split(most / 2);
        drop(half);
        stored.resize(most).unwrap();
        assert!(stored.resize(most + 1).is_err());
        let beyond = StoredBytes::beyond(&other, most);
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
            let is_over = account.is_over_since(before, || 0);
            account.forget(CALL_BYTES);
            is_over
        };
        let mut data = store(&one, most / 8 * 7).unwrap();
        assert!(store(&other, 1).is_err() && !is_over(&other));
        // Sessions may store more, but not all either.
        let session = |bytes| StoredBytes::new(&other, Share::Session, bytes);
        let messages = session(most / 16).unwrap();
        assert!(session(1).is_err() && !is_over(&other));
        // Data that must not be lost takes nothing of the reserve.
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
        drop(store(&one, most / 8 * 7).unwrap());
    }
}
