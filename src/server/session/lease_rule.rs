//! `LeaseRule`: which sessions of a manager have leases, and of what length.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::transport::stream::Stream;

/// The lengths that a lease may have.
pub(crate) const LEASES: RangeInclusive<Duration> =
    Duration::from_secs(2)..=Duration::from_secs(300);

/// Which sessions have leases, and how they end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseRule {
    pub(crate) length: Duration,
    /// Whether the end of a stream proves that the client has ended or closed it, so that its holds are free at once.
    pub(crate) frees_on_close: bool,
    /// Whether the streams at the claimed address come from other machines too.
    pub(crate) is_claim_far: bool,
}

impl Default for LeaseRule {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(10),
            frees_on_close: false,
            is_claim_far: false,
        }
    }
}

impl LeaseRule {
    /// Returns whether the session of a stream has a lease.
    pub(crate) fn covers(&self, stream: &dyn Stream) -> bool {
        // The kernel knows the users of this machine only.
        stream.peer_host().is_some() || (self.is_claim_far && stream.peer_user().is_none())
    }
}
