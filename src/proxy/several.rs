//! Acquires several locks together: all of them, or any `n`.
//!
//! Invariant: a caller that waits for a lock holds only locks that come before it in one global order,
//! so callers of this module cannot deadlock with one another. Locks later in the order are only tried,
//! and are released before the caller waits.

use std::{collections::BTreeMap, fmt, future::Future, time::Duration};

use futures::future::join_all;
use lockkeeper_protocol::{Printable, Refusal};

use crate::{
    client::{deadline::Deadline, thread::block_on},
    error::CallError,
    proxy::{
        bound::tried, end::End, guard::Guard, lock::LockOf, lock_kind::LockKind, token::Token,
    },
    subject::Subject,
};

/// Waits for several locks, all or none of them, and returns their guards in the order of the
/// locks.
///
/// They may be of several managers, but are of one kind: any [`LockOf`], or the keys of a keyed lock,
/// see [`KeyedLock::lock_all`](crate::KeyedLock::lock_all). Two callers never wait for each other,
/// in whatever order each names the locks. [`Several`] has the forms with a timeout, for a try and
/// for plain threads. Python's programs keep to an order by themselves.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let [from, to] = [manager.lock().await?, manager.lock().await?];
/// let guards = lockkeeper::lock_all([&to, &from]).await?;
/// assert!(from.try_acquire().await?.is_none());
/// drop(guards);
/// assert!(from.try_acquire().await?.is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns [`CallError::Refused`] with `Invalid` for a lock that is named twice, and whatever
/// acquiring one of them returns. Nothing is held then.
///
/// # Cancel safety
///
/// Dropped at any point, nothing is held.
pub async fn lock_all<L: Lockable>(
    locks: impl IntoIterator<Item = L>,
) -> Result<Vec<L::Guard>, CallError> {
    Several::new(locks)?.lock_all().await
}

/// Waits for any `number` of the locks, and returns their guards, each with the place of its lock
/// among those that were named: see [`Several::lock_some`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let replicas = [(); 3].map(|()| manager.lock());
/// let replicas = futures::future::try_join_all(replicas).await?;
/// let busy = replicas[1].acquire().await?;
/// let two = lockkeeper::lock_some(2, &replicas).await?;
/// assert!(two.iter().map(|(place, _)| *place).eq([0, 2]));
/// # drop((busy, two));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`lock_all`], and [`CallError::Refused`] with `Invalid` when that is none, or more than there
/// are.
///
/// # Cancel safety
///
/// Dropped at any point, nothing is held.
pub async fn lock_some<L: Lockable>(
    number: usize,
    locks: impl IntoIterator<Item = L>,
) -> Result<SomeGuards<L::Guard>, CallError> {
    Several::new(locks)?.lock_some(number).await
}

/// Guards of some of several locks, each with the place of its lock among those that were named,
/// counted from 0.
pub type SomeGuards<G> = Vec<(usize, G)>;

/// Something that can be had together with others: a lock, or a key of a keyed lock.
pub trait Lockable: Sync {
    /// What holds it.
    type Guard: Send;

    /// Where it stands in the order that is the same for all.
    #[doc(hidden)]
    fn place(&self) -> Place<'_>;

    /// Waits for it, at most for the time if there is one.
    #[doc(hidden)]
    fn lock_within(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Guard, CallError>> + Send;
}

impl<P: LockKind> Lockable for LockOf<P> {
    type Guard = Guard<P>;

    fn place(&self) -> Place<'_> {
        Place::of(self.token(), None)
    }

    async fn lock_within(&self, timeout: Option<Duration>) -> Result<Guard<P>, CallError> {
        self.acquire_within(timeout).await
    }
}

impl<L: Lockable> Lockable for &L {
    type Guard = L::Guard;

    fn place(&self) -> Place<'_> {
        L::place(self)
    }

    async fn lock_within(&self, timeout: Option<Duration>) -> Result<L::Guard, CallError> {
        L::lock_within(self, timeout).await
    }
}

/// Where a lock stands in the order that is the same for all.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'a> {
    address: &'a str,
    name: &'a str,
    key: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(super) fn of<P>(token: &'a Token<P>, key: Option<&'a str>) -> Self {
        Self {
            address: token.address().as_str(),
            name: token.name(),
            key,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, name, key } = self;
        let address = Printable(address);
        match key {
            Some(key) => write!(f, "key {key:?} of {name:?} at {address}"),
            None => write!(f, "lock {name:?} at {address}"),
        }
    }
}

/// Several locks that are to be had at once: see [`lock_all`] and
/// [`KeyedLock::several`](crate::KeyedLock::several).
///
/// Waiting goes through the locks in an order that is the same for all callers: by address, name
/// and key. What is free is taken at once, all in one round trip; where one is not, those that come
/// behind it are given back, and it is waited for in its line.
#[derive(Clone, Debug)]
pub struct Several<L> {
    /// In the order that is the same for all, each with its place among those that were named.
    locks: Vec<(usize, L)>,
}

impl<L: Lockable> Several<L> {
    /// Names several locks; none at all are allowed.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` for a lock that is named twice.
    pub fn new(locks: impl IntoIterator<Item = L>) -> Result<Self, CallError> {
        let mut locks: Vec<(usize, L)> = locks.into_iter().enumerate().collect();
        locks.sort_by(|(_, one), (_, other)| one.place().cmp(&other.place()));
        let mut twice = locks.windows(2).filter_map(|pair| match pair {
            [(_, one), (_, other)] if one.place() == other.place() => Some(one.place()),
            _ => None,
        });
        if let Some(place) = twice.next() {
            let why = format!("the {place} is asked for twice: name each once");
            return Err(Refusal::Invalid(why).into());
        }
        drop(twice);
        Ok(Self { locks })
    }

    /// Waits for all of them, and returns their guards in the order in which they were named.
    ///
    /// # Errors
    ///
    /// Returns whatever acquiring one of them returns. Nothing is held then.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held.
    pub async fn lock_all(&self) -> Result<Vec<L::Guard>, CallError> {
        Ok(without_places(
            self.walk(self.locks.len(), &End::never()).await?,
        ))
    }

    /// Waits for all of them until the time is over, which is one for all together.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock_all`].
    pub async fn lock_all_timeout(&self, timeout: Duration) -> Result<Vec<L::Guard>, CallError> {
        let end = End::after(timeout);
        Ok(without_places(self.walk(self.locks.len(), &end).await?))
    }

    /// Takes all of them if they are free.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock_all`].
    pub async fn try_lock_all(&self) -> Result<Option<Vec<L::Guard>>, CallError> {
        tried(self.lock_all_timeout(Duration::ZERO).await)
    }

    /// Waits for all of them on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_lock_all(&self) -> Result<Vec<L::Guard>, CallError> {
        block_on(self.lock_all())
    }

    /// Waits for all of them on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_lock_all_timeout(&self, timeout: Duration) -> Result<Vec<L::Guard>, CallError> {
        block_on(self.lock_all_timeout(timeout))
    }

    /// Takes all of them on a plain thread if they are free.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_lock_all(&self) -> Result<Option<Vec<L::Guard>>, CallError> {
        block_on(self.try_lock_all())
    }

    /// Waits for any `number` of them, and returns their guards in the order in which the locks
    /// were named, each with the place of its lock there, counted from 0.
    ///
    /// It takes what is free. While that is too little, it waits for the first that is not, in the
    /// order of all, holding only what comes before; so it waits at most `number` times, but may
    /// wait for that one while others become free.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`], and [`CallError::Refused`] with `Invalid` when that is none, or more
    /// than there are.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock_all`].
    pub async fn lock_some(&self, number: usize) -> Result<SomeGuards<L::Guard>, CallError> {
        self.walk(self.check(number)?, &End::never()).await
    }

    /// Waits for any `number` of them until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_some`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock_all`].
    pub async fn lock_some_timeout(
        &self,
        number: usize,
        timeout: Duration,
    ) -> Result<SomeGuards<L::Guard>, CallError> {
        self.walk(self.check(number)?, &End::after(timeout)).await
    }

    /// Takes `number` of them if as many are free.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_some`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock_all`].
    pub async fn try_lock_some(
        &self,
        number: usize,
    ) -> Result<Option<SomeGuards<L::Guard>>, CallError> {
        tried(self.lock_some_timeout(number, Duration::ZERO).await)
    }

    /// Waits for any `number` of them on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_some`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_lock_some(&self, number: usize) -> Result<SomeGuards<L::Guard>, CallError> {
        block_on(self.lock_some(number))
    }

    /// Waits for any `number` of them on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_some_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_lock_some_timeout(
        &self,
        number: usize,
        timeout: Duration,
    ) -> Result<SomeGuards<L::Guard>, CallError> {
        block_on(self.lock_some_timeout(number, timeout))
    }

    /// Takes `number` of them on a plain thread if as many are free.
    ///
    /// # Errors
    ///
    /// As [`Self::lock_some`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_lock_some(
        &self,
        number: usize,
    ) -> Result<Option<SomeGuards<L::Guard>>, CallError> {
        block_on(self.try_lock_some(number))
    }

    fn check(&self, number: usize) -> Result<usize, Refusal> {
        let most = self.locks.len();
        if (1..=most).contains(&number) {
            return Ok(number);
        }
        Err(Refusal::Invalid(match most {
            0 => "of no locks none can be had: name some".to_owned(),
            most => format!("of {most} locks 1 to {most} can be had, not {number}"),
        }))
    }

    /// Takes and waits in turns until as many are held as are wanted.
    async fn walk(&self, wanted: usize, end: &End) -> Result<SomeGuards<L::Guard>, CallError> {
        let mut walk = Walk {
            locks: &self.locks,
            wanted,
            held: BTreeMap::new(),
            passed: 0,
        };
        while let Some(busy) = walk.take_what_is_free().await? {
            let deadline = end.deadline(Deadline::Ends);
            let deadline = deadline.ok_or_else(|| walk.timed_out(busy))?;
            walk.wait_for(busy, deadline).await?;
        }
        let mut guards: Vec<_> = walk.held.into_values().collect();
        guards.sort_by_key(|(named, _)| *named);
        Ok(guards)
    }
}

/// How far a caller has come in the order of the locks.
struct Walk<'a, L: Lockable> {
    locks: &'a [(usize, L)],
    wanted: usize,
    /// By their places in the order.
    held: BTreeMap<usize, (usize, L::Guard)>,
    /// All before this place are held.
    passed: usize,
}

impl<L: Lockable> Walk<'_, L> {
    /// Takes what is free, until as many are held as are wanted. Returns the first that is not, if
    /// those that are were too few.
    async fn take_what_is_free(&mut self) -> Result<Option<usize>, CallError> {
        let mut busy = None;
        let mut place = self.passed;
        // Who has waited before is among others that want the same: what it takes in vain stands in
        // their way. So it takes one, then two, then four at a time.
        let mut stride = if self.passed == 0 { self.wanted } else { 1 };
        while self.held.len() < self.wanted {
            let rest = self.locks.get(place..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(busy);
            }
            let missing = self.wanted - self.held.len();
            let tries = rest.iter().take(missing.min(stride));
            // None of them waits, so they may go out together, whatever is held meanwhile.
            let tries = tries.map(|(_, lock)| lock.lock_within(Some(Duration::ZERO)));
            for (outcome, (named, _)) in join_all(tries).await.into_iter().zip(rest) {
                match tried(outcome)? {
                    Some(guard) => drop(self.held.insert(place, (*named, guard))),
                    None => busy = busy.or(Some(place)),
                }
                place += 1;
            }
            // All are wanted, or as many as are left: one that is busy has to be waited for.
            if busy.is_some() && self.held.len() + self.locks.len() - place < self.wanted {
                return Ok(busy);
            }
            stride = stride.saturating_mul(2);
        }
        Ok(None)
    }

    /// The error for a caller whose time is over while the lock at a place is busy.
    fn timed_out(&self, busy: usize) -> CallError {
        let lock = self.locks.get(busy);
        let subject = lock.map(|(_, lock)| Subject::new("lock", lock.place().name));
        subject.map_or_else(CallError::timed_out, CallError::TimedOut)
    }

    /// Gives back what comes behind a place, and waits for that.
    async fn wait_for(&mut self, place: usize, deadline: Deadline) -> Result<(), CallError> {
        drop(self.held.split_off(&place));
        if let Some((named, lock)) = self.locks.get(place) {
            let guard = lock.lock_within(deadline.timeout()).await?;
            self.held.insert(place, (*named, guard));
        }
        self.passed = place + 1;
        Ok(())
    }
}

fn without_places<G>(guards: SomeGuards<G>) -> Vec<G> {
    guards.into_iter().map(|(_, guard)| guard).collect()
}
