//! Makes and calls keyed locks and keyed semaphores.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId,
    sync::{
        AcquireKey, AcquireKeyMany, AdoptKey, ForceUnlockKey, GetKeyStatus, GetKeyedStatus, Key,
        Keyed, KeyedVariant, ListKeys, ManyPermits, MarkConsistent, Release, ReleaseBy,
        SemaphoreSpec, SinglePermit,
    },
};
use rand::Rng;

use crate::schedule::{Schedule, proof, put};

/// Few keys, so that calls contend. The longest one does not fit inline.
pub(crate) const KEYS: [&str; 4] = ["", "a", "kéy", "a key of more than some twenty bytes"];

/// Returns an invalid key.
pub(crate) fn too_long() -> String {
    "x".repeat(256)
}

/// The specs of both kinds, and their acquire operations.
pub(crate) trait KeyedCalls: KeyedVariant {
    /// Draws the number of permits of a key.
    fn draw(schedule: &mut Schedule) -> u32;

    fn fresh(permits: u32) -> Bench<Keyed<Self>>;

    /// Draws the number of permits that a call acquires.
    fn want(schedule: &mut Schedule) -> u32;

    fn put(
        bench: &mut Bench<Keyed<Self>>,
        session: u64,
        key: &str,
        permits: u32,
        timeout: Option<Duration>,
    ) -> CallId;
}

impl KeyedCalls for SinglePermit {
    fn draw(_: &mut Schedule) -> u32 {
        1
    }

    fn fresh(_: u32) -> Bench<Keyed<Self>> {
        Bench::new(ReleaseBy::Holder).expect("every spec is valid")
    }

    fn want(_: &mut Schedule) -> u32 {
        1
    }

    fn put(
        bench: &mut Bench<Keyed<Self>>,
        session: u64,
        key: &str,
        _: u32,
        timeout: Option<Duration>,
    ) -> CallId {
        put(bench, session, AcquireKey { key: key.into() }, timeout)
    }
}

impl KeyedCalls for ManyPermits {
    fn draw(schedule: &mut Schedule) -> u32 {
        schedule.random.random_range(1..=4)
    }

    fn fresh(permits: u32) -> Bench<Keyed<Self>> {
        let permits = permits.into();
        Bench::new(SemaphoreSpec {
            permits,
            release_by: ReleaseBy::Holder,
        })
        .expect("the spec is valid")
    }

    fn want(schedule: &mut Schedule) -> u32 {
        schedule.random.random_range(0..=5)
    }

    fn put(
        bench: &mut Bench<Keyed<Self>>,
        session: u64,
        key: &str,
        permits: u32,
        timeout: Option<Duration>,
    ) -> CallId {
        let key = key.into();
        put(
            bench,
            session,
            AcquireKeyMany {
                key,
                permits: permits.into(),
            },
            timeout,
        )
    }
}

/// A call about a grant, a key, or the whole object.
#[derive(Clone, Debug)]
pub(crate) enum KeyedCall {
    Release(CallId),
    Adopt(CallId),
    MarkConsistent(CallId),
    ForceUnlock(String),
    Status(String),
    Count,
    List,
}

/// Draws a key, or sometimes an invalid one.
pub(crate) fn any_key(schedule: &mut Schedule) -> String {
    match schedule.random.random_range(0..40) {
        0 => too_long(),
        lot => KEYS[lot % KEYS.len()].to_owned(),
    }
}

impl KeyedCall {
    pub(crate) fn draw(grant: CallId, schedule: &mut Schedule) -> Self {
        match schedule.random.random_range(0..24) {
            0..=13 => Self::Release(grant),
            14..=16 => Self::Adopt(grant),
            17..=19 => Self::MarkConsistent(grant),
            20 => Self::ForceUnlock(any_key(schedule)),
            21 => Self::Status(any_key(schedule)),
            22 => Self::Count,
            _ => Self::List,
        }
    }

    pub(crate) fn send<F: KeyedCalls>(
        &self,
        bench: &mut Bench<Keyed<F>>,
        session: u64,
        timeout: Option<Duration>,
    ) -> CallId {
        let key_of = |key: &str| Key::from(key);
        match self {
            Self::Release(grant) => put(
                bench,
                session,
                Release {
                    grant: proof(session, *grant),
                },
                timeout,
            ),
            Self::Adopt(grant) => put(
                bench,
                session,
                AdoptKey {
                    grant: proof(session, *grant),
                },
                timeout,
            ),
            Self::MarkConsistent(grant) => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, *grant),
                },
                timeout,
            ),
            Self::ForceUnlock(key) => {
                let key = key_of(key);
                put(bench, session, ForceUnlockKey { key }, timeout)
            }
            Self::Status(key) => put(bench, session, GetKeyStatus { key: key_of(key) }, timeout),
            Self::Count => put(bench, session, GetKeyedStatus, timeout),
            Self::List => put(bench, session, ListKeys { from: 0 }, timeout),
        }
    }
}
