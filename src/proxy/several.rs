//! Acquires several locks together: all of them, or any `n`.
//!
//! Invariant: a caller that waits for a lock holds only earlier locks in a global order, so callers of
//! this module cannot deadlock with each other. Later locks are only tried, and are released before the
//! caller waits.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::future::join_all;
use lockkeeper_actors::Primitive;
use lockkeeper_protocol::{Printable, Refusal, operations::Acquire};

use crate::{
    error::CallError,
    proxy::{end::End, guard::Guard, lock::LockOf, lock_kind::LockKind, token::Token, wait::Wait},
    subject::Subject,
};

/// Waits for several locks, all or none of them, and returns their guards in the order of the
/// locks.
///
/// The locks may belong to several managers, but must have one kind: any [`LockOf`], or keys of keyed
/// locks, each as a pair `(&locks, "key")`. Two callers never wait for each other, whatever the order of
/// their arguments. Python programs must keep an order themselves.
///
/// The call acquires the locks in an order that is the same for all callers: by address, name and key. It
/// acquires free locks in one round trip. If a lock is not free, it releases the later locks, and waits for
/// that lock in its queue.
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
/// Returns [`CallError::Refused`] with `Invalid` for a lock that is named twice, and the errors of
/// acquiring a lock. After an error nothing is held.
pub fn lock_all<L: Lockable>(locks: impl IntoIterator<Item = L>) -> Wait<Vec<L::Guard>> {
    let several = Several::new("lock_all", locks);
    Wait::new(|timeout| async move { several?.all(timeout).await })
}

/// Acquires several locks if all of them are free, and never overtakes a waiter.
///
/// # Errors
///
/// As [`lock_all`].
pub fn try_lock_all<L: Lockable>(
    locks: impl IntoIterator<Item = L>,
) -> Wait<Option<Vec<L::Guard>>> {
    let several = Several::new("try_lock_all", locks);
    Wait::trying(|timeout| async move { several?.all(timeout).await })
}

/// Waits for any `number` of the locks, and returns their guards in the order in which the locks were named, each
/// with the index of its lock.
///
/// The call acquires free locks. If they are too few, it waits for the first held lock in the global order, and
/// keeps only earlier locks. So it waits at most `number` times, but may wait for that lock while others become
/// free.
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
/// As [`lock_all`], and [`CallError::Refused`] with `Invalid` when `number` is zero or more than
/// the number of locks.
#[doc(alias = "quorum")]
#[doc(alias = "lock_any")]
pub fn lock_some<L: Lockable>(
    number: usize,
    locks: impl IntoIterator<Item = L>,
) -> Wait<SomeGuards<L::Guard>> {
    let several = Several::new("lock_some", locks);
    Wait::new(move |timeout| async move { several?.some(number, timeout).await })
}

/// Acquires any `number` of the locks if that many are free, and never overtakes a waiter.
///
/// # Errors
///
/// As [`lock_some`].
pub fn try_lock_some<L: Lockable>(
    number: usize,
    locks: impl IntoIterator<Item = L>,
) -> Wait<Option<SomeGuards<L::Guard>>> {
    let several = Several::new("try_lock_some", locks);
    Wait::trying(move |timeout| async move { several?.some(number, timeout).await })
}

/// Guards of some of several locks, each with the index of its lock in the arguments.
pub type SomeGuards<G> = Vec<(usize, G)>;

/// A lock that can be acquired together with others: every [`LockOf`], a reference to it, and a key as a pair
/// of a keyed lock and the key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a lock that can be acquired together with others",
    label = "not a lock",
    note = "`lock_all` and `lock_some` take locks, reentrant locks, conditions, and keys of keyed locks as pairs \
            `(&locks, \"key\")`, all of one type"
)]
pub trait Lockable {
    /// The guard of the lock.
    type Guard: Send + 'static;

    /// Converts the lock to the form that this module acquires.
    #[doc(hidden)]
    fn target(self) -> Target<Self::Guard>;
}

impl<P: LockKind> Lockable for LockOf<P> {
    type Guard = Guard<P>;

    fn target(self) -> Target<Guard<P>> {
        let token = self.token().clone();
        Target::new(&token, None, move || self.acquire(), Guard::is_valid)
    }
}

impl<P: LockKind> Lockable for &LockOf<P> {
    type Guard = Guard<P>;

    fn target(self) -> Target<Guard<P>> {
        self.clone().target()
    }
}

/// One of several locks: its place in the global order, and its acquire operations.
#[doc(hidden)]
pub struct Target<G> {
    kind: &'static str,
    place: LockOrder,
    acquire: Box<dyn Fn() -> Wait<G> + Send + Sync>,
    is_valid: fn(&G) -> bool,
}

impl<G> Target<G> {
    pub(super) fn new<P: Primitive>(
        token: &Token<P>,
        key: Option<String>,
        acquire: impl Fn() -> Wait<G> + Send + Sync + 'static,
        is_valid: fn(&G) -> bool,
    ) -> Self {
        // The user of the manager is left out, because only some addresses of the same manager
        // contain it.
        let (scheme, address) = token.address.parts();
        let place = LockOrder {
            scheme: scheme.to_owned(),
            address: address.to_owned(),
            name: token.name.to_owned(),
            key,
        };
        let acquire = Box::new(acquire);
        Self {
            kind: P::KIND,
            place,
            acquire,
            is_valid,
        }
    }

    fn subject(&self) -> Subject {
        let mut subject = Subject::new(self.kind, &self.place.name);
        if let Some(key) = &self.place.key {
            subject.set_key(&key.as_str().into());
        }
        subject
    }
}

impl<G> fmt::Debug for Target<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.place).finish()
    }
}

/// The place of a lock in the order that all callers share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LockOrder {
    scheme: String,
    address: String,
    name: String,
    key: Option<String>,
}

impl fmt::Display for LockOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address, name, key, ..
        } = self;
        let address = Printable(address);
        match key {
            Some(key) => write!(f, "key {key:?} of {name:?} at {address}"),
            None => write!(f, "lock {name:?} at {address}"),
        }
    }
}

/// Several locks to be acquired.
struct Several<G> {
    /// In the global order, each with its index in the arguments.
    locks: Vec<(usize, Target<G>)>,
    /// The function that was called, for errors.
    function: &'static str,
}

impl<G: Send> Several<G> {
    fn new<L: Lockable<Guard = G>>(
        function: &'static str,
        locks: impl IntoIterator<Item = L>,
    ) -> Result<Self, CallError> {
        let mut locks: Vec<_> = locks.into_iter().map(L::target).enumerate().collect();
        locks.sort_by(|(_, one), (_, other)| one.place.cmp(&other.place));
        let mut twice = locks.windows(2).filter_map(|pair| match pair {
            [(_, one), (_, other)] if one.place == other.place => Some(&one.place),
            _ => None,
        });
        if let Some(place) = twice.next() {
            let why = format!("the {place} is named twice: name each lock once");
            return Err(invalid(function, why));
        }
        drop(twice);
        Ok(Self { locks, function })
    }

    async fn all(&self, timeout: Option<Duration>) -> Result<Vec<G>, CallError> {
        let guards = self.walk(self.locks.len(), timeout).await?;
        Ok(guards.into_iter().map(|(_, guard)| guard).collect())
    }

    async fn some(
        &self,
        number: usize,
        timeout: Option<Duration>,
    ) -> Result<SomeGuards<G>, CallError> {
        self.walk(self.check(number)?, timeout).await
    }

    fn check(&self, number: usize) -> Result<usize, CallError> {
        let most = self.locks.len();
        if (1..=most).contains(&number) {
            return Ok(number);
        }
        let why = match (number, most) {
            (_, 0) => "no locks were given: name some".to_owned(),
            (_, 1) => format!("{number} locks were asked for, and 1 was given: ask for 1"),
            _ => {
                format!("{number} locks were asked for, and {most} were given: ask for 1 to {most}")
            }
        };
        Err(invalid(self.function, why))
    }

    /// Alternates between trying and waiting until enough locks are held.
    async fn walk(
        &self,
        wanted: usize,
        timeout: Option<Duration>,
    ) -> Result<SomeGuards<G>, CallError> {
        let end = End::after(timeout);
        let mut walk = Walk {
            locks: &self.locks,
            wanted,
            held: BTreeMap::new(),
            passed: 0,
        };
        while let Some(busy) = walk.take_free().await? {
            end.check::<Acquire>(|| walk.subject(busy))?;
            walk.wait_for(busy, end.left()).await?;
        }
        // A guard over a lost connection holds nothing, so it must not be returned.
        for (place, (_, guard)) in &walk.held {
            let lock = self.locks.get(*place).map(|(_, lock)| lock);
            if let Some(lock) = lock.filter(|lock| !(lock.is_valid)(guard)) {
                return Err(CallError::from(Refusal::NotHeld).about(|| lock.subject()));
            }
        }
        let mut guards: Vec<_> = walk.held.into_values().collect();
        guards.sort_by_key(|(named, _)| *named);
        Ok(guards)
    }
}

/// The refusal of a function of this module.
fn invalid(function: &'static str, why: String) -> CallError {
    CallError::Refused(Refusal::Invalid(why), Subject::function(function))
}

/// The progress of a caller in the order of the locks.
struct Walk<'a, G> {
    locks: &'a [(usize, Target<G>)],
    wanted: usize,
    /// The guards, by place in the order.
    held: BTreeMap<usize, (usize, G)>,
    /// All locks before this place are held.
    passed: usize,
}

impl<G: Send> Walk<'_, G> {
    /// Acquires free locks until enough are held. Returns the first held lock if the free ones are
    /// too few.
    async fn take_free(&mut self) -> Result<Option<usize>, CallError> {
        let mut busy = None;
        let mut place = self.passed;
        // A caller that has waited is contending with others, and each lock that it acquires and
        // releases again delays them. So it tries one lock, then two, then four at a time.
        let mut stride = if self.passed == 0 { self.wanted } else { 1 };
        while self.held.len() < self.wanted {
            let rest = self.locks.get(place..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(busy);
            }
            let missing = self.wanted - self.held.len();
            let tries = rest.iter().take(missing.min(stride));
            // None of these calls waits, so they may be sent together without a deadlock.
            let tries = tries.map(|(_, lock)| (lock.acquire)().timeout(Duration::ZERO));
            for (outcome, (named, _)) in join_all(tries).await.into_iter().zip(rest) {
                match outcome {
                    Ok(guard) => drop(self.held.insert(place, (*named, guard))),
                    Err(CallError::TimedOut(_)) => busy = busy.or(Some(place)),
                    Err(error) => return Err(error),
                }
                place += 1;
            }
            // All remaining locks are needed, so the caller must wait for a busy one.
            if busy.is_some() && self.held.len() + self.locks.len() - place < self.wanted {
                return Ok(busy);
            }
            stride = stride.saturating_mul(2);
        }
        Ok(None)
    }

    /// Returns the subject for errors about the lock at a place.
    fn subject(&self, place: usize) -> Subject {
        let lock = self.locks.get(place);
        lock.map_or(Subject::UNKNOWN, |(_, lock)| lock.subject())
    }

    /// Releases the locks after a place, and waits until they are released.
    async fn wait_for(&mut self, place: usize, timeout: Option<Duration>) -> Result<(), CallError> {
        drop(self.held.split_off(&place));
        if let Some((named, lock)) = self.locks.get(place) {
            let acquire = (lock.acquire)();
            let guard = match timeout {
                Some(timeout) => acquire.timeout(timeout).await?,
                None => acquire.await?,
            };
            self.held.insert(place, (*named, guard));
        }
        self.passed = place + 1;
        Ok(())
    }
}
