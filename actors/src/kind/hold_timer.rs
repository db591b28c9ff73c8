//! `HoldTimer`: measures how long something is held, from its grant until the timer is dropped.

use std::{fmt, time::Duration};

use lockkeeper_protocol::{Abandoned, Fence};

use crate::kind::{budget::CALL_BYTES, call::Outbox, hang_up::HangUp};

/// One hold of something, kept by a kind for as long as it is held: its fence, and since when.
///
/// Its drop is the end of the hold, which is measured then.
pub struct HoldTimer {
    fence: Fence,
    /// In nanoseconds from the manager's start.
    since: u64,
    outbox: Outbox,
}

impl HoldTimer {
    /// Begins a hold, with a token above all that were drawn before.
    #[must_use]
    pub fn begin(outbox: &Outbox) -> Self {
        outbox.account().count(CALL_BYTES);
        Self {
            fence: outbox.next_fence(),
            since: outbox.nanos(),
            outbox: outbox.clone(),
        }
    }

    /// The token of the grant.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Since when it is held, counted from the manager's start.
    #[must_use]
    pub const fn since(&self) -> Duration {
        Duration::from_nanos(self.since)
    }

    /// Ends it with the session that held, and tells what that leaves.
    #[must_use]
    pub fn abandon(self, ended: &HangUp) -> Abandoned {
        let (since, fence) = self.leave(ended);
        ended.mark(since, fence)
    }

    /// The same where only the last of many leaves a mark: tells since when it was held and by which token.
    pub(crate) fn leave(self, ended: &HangUp) -> (Duration, Fence) {
        self.outbox.note_abandonment();
        ended.note_abandoned(self.since(), self.fence);
        (self.since(), self.fence)
    }
}

impl Drop for HoldTimer {
    fn drop(&mut self) {
        self.outbox.account().forget(CALL_BYTES);
        self.outbox.note_end_of_hold(self.since);
    }
}

impl fmt::Debug for HoldTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldTimer")
            .field("fence", &self.fence)
            .field("since", &self.since())
            .finish_non_exhaustive()
    }
}
