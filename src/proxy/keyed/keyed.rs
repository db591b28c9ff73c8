//! The proxies of hosted keyed locks and keyed semaphores.

use std::{fmt, future::Future, ops::Deref, time::Duration};

use lockkeeper_actors::{
    Serve,
    sync::{Keyed, KeyedVariant, ManyPermits, SinglePermit},
};
use lockkeeper_protocol::{
    Operation, Refusal,
    operations::{
        AcquireKey, AcquireKeyMany, AdoptKey, AdoptedKey, ForceUnlockKey, GetKeyStatus, Granted,
        Key, KeyStatus, ListKeys, ReleaseAnyKey,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{
        ask::{Ask, Bind},
        end::End,
        guard::{Guard, Ticket},
        hold::Hold,
        keyed::held::HeldKey,
        proxy::Proxy,
        token::Token,
        wait::Wait,
    },
};

/// A lock for each of any number of keys, in one object: for records, files or users that are too
/// numerous for a [`Lock`](crate::Lock) each.
///
/// A key exists while it is held. Acquiring one takes one round trip, and its release is sent one way. See
/// [`KeyedOf`] for its methods.
///
/// Python has no counterpart: its programs use a dictionary of locks and counts with a lock for the
/// dictionary, and make about ten calls to lock one key.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let records = manager.keyed_lock().await?;
/// let guard = records.acquire("record 7").await?;
/// assert!(records.try_acquire("record 7").await?.is_none());
/// assert!(records.try_acquire("record 8").await?.is_some());
///
/// // Several at once, in an order by which no two callers wait for each other.
/// drop(guard);
/// let both = ["record 8", "record 7"].map(|key| (&records, key));
/// let guards = lockkeeper::lock_all(both).await?;
/// assert_eq!(guards[1].key(), "record 7");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "KeyedMutex")]
#[doc(alias = "striped")]
pub type KeyedLock = KeyedOf<SinglePermit>;

/// A number of permits for each of any number of keys, in one object: for example at most three
/// connections to each server.
///
/// As [`KeyedLock`], with several holders of a key at a time. See [`KeyedOf`] for its methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let connections = manager.keyed_semaphore(3).await?;
/// let one = connections.acquire("example.org").await?;
/// let two = connections.acquire_many("example.org", 2).await?;
/// assert!(connections.try_acquire("example.org").await?.is_none());
/// assert!(connections.try_acquire("example.net").await?.is_some());
/// # drop((one, two));
/// # Ok(())
/// # }
/// ```
pub type KeyedSemaphore = KeyedOf<ManyPermits>;

/// The acquire operation of a keyed kind.
pub trait KeyedKind: KeyedVariant {
    /// Waits for permits of a key.
    type Acquire: Operation<Reply = Result<Granted, Refusal>>;

    /// Makes the operation that acquires permits of a key.
    fn ask_for(key: Key, permits: u32) -> Self::Acquire;
}

impl KeyedKind for SinglePermit {
    type Acquire = AcquireKey;

    fn ask_for(key: Key, _: u32) -> AcquireKey {
        AcquireKey { key }
    }
}

impl KeyedKind for ManyPermits {
    type Acquire = AcquireKeyMany;

    fn ask_for(key: Key, permits: u32) -> AcquireKeyMany {
        AcquireKeyMany {
            key,
            permits: permits.into(),
        }
    }
}

/// A proxy of either keyed kind: [`KeyedLock`] and [`KeyedSemaphore`].
///
/// A key is any text of at most 255 bytes, including the empty text.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct KeyedOf<F: KeyedVariant>(Proxy<Keyed<F>>);

impl<F: KeyedKind> KeyedOf<F> {
    /// Waits for the key, or for one permit of it.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` for a key of more than 255 bytes. Returns
    /// [`CallError::Fault`] with `Limit` when 100,000,000 keys are in use.
    #[doc(alias = "lock")]
    pub fn acquire(&self, key: impl AsRef<str>) -> Wait<Guard<Keyed<F>>> {
        self.acquire_key(key.as_ref().into(), 1)
    }

    /// Takes the key if it is free, and never overtakes a waiter.
    #[doc(alias = "try_lock")]
    pub fn try_acquire(&self, key: impl AsRef<str>) -> Wait<Option<Guard<Keyed<F>>>> {
        self.try_acquire_key(key.as_ref().into(), 1)
    }

    pub(super) fn acquire_key(&self, key: Key, permits: u32) -> Wait<Guard<Keyed<F>>> {
        let keyed = self.clone();
        Wait::new(move |timeout| keyed.acquire_within(key, permits, timeout))
    }

    pub(super) fn try_acquire_key(&self, key: Key, permits: u32) -> Wait<Option<Guard<Keyed<F>>>> {
        let keyed = self.clone();
        Wait::trying(move |timeout| keyed.acquire_within(key, permits, timeout))
    }

    fn acquire_within(
        self,
        key: Key,
        permits: u32,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Guard<Keyed<F>>, CallError>> + Send {
        let acquire = F::ask_for(key.clone(), permits);
        Ask::new(self.0, acquire, timeout, move |answer| {
            let (bound, grant, reply) = answer.map_err(|error| error.of_key(&key))?;
            let granted = bound.accepted(reply);
            let granted = granted.map_err(|error| error.of_key(&key))?;
            let held = HeldKey { key, permits };
            Ok(Guard::new(Hold::new(bound, grant), granted, held))
        })
    }
}

impl<F: KeyedVariant> KeyedOf<F> {
    /// Adopts the hold of the ticket. The guard from which the ticket was made is lost.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold has ended; else as
    /// [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped before it is sent, for example while it connects, the hold is unchanged, and
    /// only a clone of the ticket can adopt or release it. If it is dropped later, the hold may have been
    /// adopted, and then the key is released.
    pub fn adopt(&self, ticket: Ticket) -> Wait<Guard<Keyed<F>>> {
        let keyed = self.clone();
        Wait::new(move |timeout| async move {
            let adopt = AdoptKey {
                grant: ticket.proof(),
            };
            let (bound, grant, reply) = keyed.0.ask(adopt, timeout).await?;
            let AdoptedKey {
                granted,
                key,
                permits,
            } = bound.accepted(reply)?;
            let held = HeldKey { key, permits };
            Ok(Guard::new(Hold::new(bound, grant), granted, held))
        })
    }

    /// Releases the oldest hold of the key, of any process, if the object was made with
    /// [`ReleaseBy::Anyone`](crate::ReleaseBy): all permits of that grant. Its guard is lost.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the key is free, and with `Invalid` when only its
    /// holders may release it.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the hold may have been released. Do not repeat
    /// the call: it could release the hold of the next holder.
    pub fn release_any(&self, key: impl AsRef<str>) -> Wait<()> {
        self.attempt_key(key.as_ref().into(), |key| ReleaseAnyKey { key })
    }

    /// Ends all holds of the key, whose guards are then lost, and grants the key to the next waiter with a
    /// higher fence. Returns whether it was held.
    ///
    /// It is for administrators: the holder may be in its critical section.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have had its effect.
    pub fn force_unlock(&self, key: impl AsRef<str>) -> Wait<bool> {
        self.attempt_key(key.as_ref().into(), |key| ForceUnlockKey { key })
    }

    /// Returns whether the key is held and the number of waiters, which may have changed when the
    /// answer arrives.
    pub fn key_status(&self, key: impl AsRef<str>) -> Wait<KeyStatus> {
        self.attempt_key(key.as_ref().into(), |key| GetKeyStatus { key })
    }

    /// Returns the held keys, each once, in any order.
    ///
    /// It requests pages of about a thousand keys, between which the manager serves other clients.
    /// A key that is held throughout is listed; one that is acquired or released meanwhile may be.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub fn keys(&self) -> Wait<Vec<Key>> {
        let keyed = self.0.clone();
        Wait::new(|timeout| async move {
            let end = End::after(timeout);
            let mut keys = Vec::new();
            let mut from = Some(0);
            while let Some(place) = from {
                let (_, _, page) = keyed.ask(ListKeys { from: place }, end.left()).await?;
                keys.extend(page.keys);
                from = page.next;
                if from.is_some() {
                    end.check::<ListKeys>(|| keyed.subject())?;
                }
            }
            // A key that was released and acquired again between two pages may be in both.
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
    }

    /// Calls the object about a key, which the errors name.
    fn attempt_key<T, O>(&self, key: Key, operation: impl FnOnce(Key) -> O) -> Wait<T>
    where
        O: Operation<Reply = Result<T, Refusal>>,
        Keyed<F>: Serve<O>,
        T: 'static,
    {
        let call = self.0.attempt(operation(key.clone()));
        Wait::new(move |timeout| {
            let call = match timeout {
                Some(timeout) => call.timeout(timeout),
                None => call,
            };
            async move { call.await.map_err(|error| error.of_key(&key)) }
        })
    }
}

impl<F: KeyedVariant> Deref for KeyedOf<F> {
    type Target = Proxy<Keyed<F>>;

    fn deref(&self) -> &Proxy<Keyed<F>> {
        &self.0
    }
}

impl<F: KeyedVariant> Clone for KeyedOf<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: KeyedVariant> From<Proxy<Keyed<F>>> for KeyedOf<F> {
    fn from(proxy: Proxy<Keyed<F>>) -> Self {
        Self(proxy)
    }
}

impl<F: KeyedVariant> From<Token<Keyed<F>>> for KeyedOf<F> {
    fn from(token: Token<Keyed<F>>) -> Self {
        Self(token.into())
    }
}

impl<F: KeyedVariant> fmt::Debug for KeyedOf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}
