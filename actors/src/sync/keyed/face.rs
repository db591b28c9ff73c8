//! What tells keyed locks and keyed semaphores apart: how many permits a key has, and how they are
//! asked for.

use std::{fmt, num::NonZeroU32};

use super::{AcquireKey, AcquireKeyMany, Keyed};
use crate::{Operations, Refusal, sync::SemaphoreSpec};

/// What tells the two kinds apart.
pub trait Face: fmt::Debug + Send + Sync + Unpin + Sized + 'static {
    /// The name of the kind.
    const KIND: &'static str;
    /// What an object of it is made from.
    type Spec: serde::Serialize + serde::de::DeserializeOwned + Send + 'static;

    /// How many permits a key has.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] with what is allowed.
    fn permits(spec: Self::Spec) -> Result<NonZeroU32, Refusal>;

    /// Lists how a key is acquired.
    fn acquire(operations: &mut Operations<Keyed<Self>>);
}

/// A key has one permit.
#[derive(Clone, Copy, Debug)]
pub enum OneAKey {}

/// A key has as many permits as the spec says.
#[derive(Clone, Copy, Debug)]
pub enum SeveralAKey {}

impl Face for OneAKey {
    const KIND: &'static str = "keyed_lock";
    type Spec = ();

    fn permits((): ()) -> Result<NonZeroU32, Refusal> {
        Ok(NonZeroU32::MIN)
    }

    fn acquire(operations: &mut Operations<Keyed<Self>>) {
        operations.on::<AcquireKey>();
    }
}

impl Face for SeveralAKey {
    const KIND: &'static str = "keyed_semaphore";
    type Spec = SemaphoreSpec;

    fn permits(SemaphoreSpec { permits }: SemaphoreSpec) -> Result<NonZeroU32, Refusal> {
        let allowed = u32::try_from(permits).ok().and_then(NonZeroU32::new);
        allowed.ok_or_else(|| {
            Refusal::Invalid(format!(
                "a key has 1 to {} permits, not {permits}",
                u32::MAX
            ))
        })
    }

    fn acquire(operations: &mut Operations<Keyed<Self>>) {
        operations.on::<AcquireKeyMany>();
    }
}
