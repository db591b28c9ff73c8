//! `HoldTimer`: measures how long something is held, from its grant until the timer is dropped.

use std::{fmt, time::Duration};

use lockkeeper_protocol::{Abandoned, CallId, Fence, SessionId};

use crate::kind::{call::Outbox, hang_up::HangUp};

/// The hold of something, stored by a kind while it is held, with its fence and its start.
///
/// Its drop ends the hold and records the duration.
#[must_use = "the drop ends the hold: keep it while something is held"]
pub struct HoldTimer {
    fence: Fence,
    /// The start in nanoseconds since the manager's start.
    since: u64,
    /// The session of the call that was granted.
    session: SessionId,
    outbox: Outbox,
}

impl HoldTimer {
    /// Begins the hold that a call is granted, with a fence above all earlier ones.
    pub fn begin(outbox: &Outbox, granted: CallId) -> Self {
        let session = granted.session();
        outbox.account().hold(session);
        Self {
            fence: outbox.next_fence(),
            since: outbox.nanos(),
            session,
            outbox: outbox.clone(),
        }
    }

    /// Returns the fence of the grant.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the start of the hold, as the time since the manager's start.
    #[must_use]
    pub const fn since(&self) -> Duration {
        Duration::from_nanos(self.since)
    }

    /// Ends the hold with the session of its holder, and returns the mark.
    #[must_use]
    pub fn abandon(self, ended: &HangUp) -> Abandoned {
        let (since, fence) = self.leave(ended);
        ended.mark(since, fence)
    }

    /// Ends the hold where only the last of many leaves a mark, and returns its start and its fence.
    pub(crate) fn leave(self, ended: &HangUp) -> (Duration, Fence) {
        self.outbox.note_abandonment();
        ended.note_abandoned(self.since(), self.fence);
        (self.since(), self.fence)
    }
}

impl Drop for HoldTimer {
    fn drop(&mut self) {
        self.outbox.account().release(self.session, 1);
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
