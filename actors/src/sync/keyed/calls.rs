//! The calls that hold permits of keys, and those that wait for some.

use std::{num::NonZeroU32, time::Duration};

use lockkeeper_protocol::{CallId, Fence, Refusal, operations::Granted};

use crate::{kind::call::Call, waiting::call_table::Parked};

/// A call that was granted permits of a key.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) id: CallId,
    pub(super) fence: Fence,
    /// The start in nanoseconds since the manager's start, which is half the size of a `Duration`.
    pub(super) since: u64,
    /// The index of the key.
    pub(super) entry: u32,
    pub(super) permits: NonZeroU32,
}

impl Hold {
    pub(super) const fn since(&self) -> Duration {
        Duration::from_nanos(self.since)
    }
}

impl Parked for Hold {
    fn id(&self) -> CallId {
        self.id
    }
}

/// A call that waits for permits of a key.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) call: Call<Result<Granted, Refusal>>,
    /// The index of the key.
    pub(super) entry: u32,
    pub(super) permits: NonZeroU32,
}

impl Parked for Wait {
    fn id(&self) -> CallId {
        self.call.id()
    }
}
