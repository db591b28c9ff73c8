//! The two keyed kinds, lock and semaphore: permits per key, and the acquire operations of each.

use std::num::NonZeroU32;

use lockkeeper_protocol::{
    Refusal,
    operations::{AcquireKey, AcquireKeyMany, Granted, ReleaseBy, SemaphoreSpec},
};

use crate::{
    kind::{
        call::Call,
        primitive::{Operations, Serve},
    },
    sync::keyed::keyed::{Keyed, KeyedVariant},
};

/// A lock for each of any number of keys.
pub type KeyedLock = Keyed<SinglePermit>;

/// Some permits for each of any number of keys.
pub type KeyedSemaphore = Keyed<ManyPermits>;

impl Serve<AcquireKey> for KeyedLock {
    fn serve(&mut self, AcquireKey { key }: AcquireKey, call: Call<Result<Granted, Refusal>>) {
        self.enter(key, 1, call);
    }
}

impl Serve<AcquireKeyMany> for KeyedSemaphore {
    fn serve(
        &mut self,
        AcquireKeyMany { key, permits }: AcquireKeyMany,
        call: Call<Result<Granted, Refusal>>,
    ) {
        self.enter(key, permits, call);
    }
}

/// A key has one permit.
#[derive(Clone, Copy, Debug)]
pub enum SinglePermit {}

/// A key has the number of permits of the spec.
#[derive(Clone, Copy, Debug)]
pub enum ManyPermits {}

impl KeyedVariant for SinglePermit {
    const KIND: &'static str = "keyed_lock";
    type Spec = ReleaseBy;

    fn describe(release_by: &ReleaseBy) -> String {
        release_by.describe()
    }

    fn read(release_by: ReleaseBy) -> Result<(NonZeroU32, ReleaseBy), Refusal> {
        Ok((NonZeroU32::MIN, release_by))
    }

    fn acquire(operations: &mut Operations<Keyed<Self>>) {
        operations.on::<AcquireKey>();
    }
}

impl KeyedVariant for ManyPermits {
    const KIND: &'static str = "keyed_semaphore";
    type Spec = SemaphoreSpec;

    fn read(spec: SemaphoreSpec) -> Result<(NonZeroU32, ReleaseBy), Refusal> {
        let SemaphoreSpec {
            permits,
            release_by,
        } = spec;
        let allowed = u32::try_from(permits).ok().and_then(NonZeroU32::new);
        let permits = allowed.ok_or_else(|| {
            Refusal::Invalid(format!(
                "a key has 1 to {} permits, not {permits}",
                u32::MAX
            ))
        })?;
        Ok((permits, release_by))
    }

    fn acquire(operations: &mut Operations<Keyed<Self>>) {
        operations.on::<AcquireKeyMany>();
    }
}
