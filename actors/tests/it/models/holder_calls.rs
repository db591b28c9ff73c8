//! The calls of both locks, and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Exclusive, ForceUnlock, GetLockStatus, Granted, LockStatus, MarkConsistent, Release},
};
use rand::Rng;

use crate::{
    models::answers::answer,
    schedule::{Schedule, proof, put},
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum HolderCall {
    Release(CallId),
    MarkConsistent(CallId),
    ForceUnlock,
    Status,
}

/// An answer. `G` is what the reference compares of a grant.
#[derive(Debug, PartialEq)]
pub(crate) enum LockAnswer<G> {
    Granted(G),
    Done,
    Refused(Refusal),
    WasHeld(bool),
    Status(LockStatus),
}

impl HolderCall {
    pub(crate) fn draw(grant: CallId, schedule: &mut Schedule) -> Self {
        match schedule.random.random_range(0..8) {
            0..=3 => Self::Release(grant),
            4 => Self::MarkConsistent(grant),
            5 => Self::ForceUnlock,
            _ => Self::Status,
        }
    }

    pub(crate) fn send<P: Exclusive>(
        self,
        bench: &mut Bench<P>,
        session: u64,
        timeout: Option<Duration>,
    ) -> CallId {
        match self {
            Self::Release(grant) => put(
                bench,
                session,
                Release {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            Self::MarkConsistent(grant) => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            Self::ForceUnlock => put(bench, session, ForceUnlock, timeout),
            Self::Status => put(bench, session, GetLockStatus, timeout),
        }
    }

    /// Returns the answer to the call.
    pub(crate) fn read<P: Exclusive, G>(
        self,
        bench: &Bench<P>,
        id: CallId,
    ) -> Result<LockAnswer<G>, Fault> {
        let done = |done: Result<(), Refusal>| {
            done.map_or_else(LockAnswer::Refused, |()| LockAnswer::Done)
        };
        match self {
            Self::Release(_) => answer::<P, Release>(bench, id).map(done),
            Self::MarkConsistent(_) => answer::<P, MarkConsistent>(bench, id).map(done),
            Self::ForceUnlock => answer::<P, ForceUnlock>(bench, id).map(LockAnswer::WasHeld),
            Self::Status => answer::<P, GetLockStatus>(bench, id).map(LockAnswer::Status),
        }
    }
}

impl<G> LockAnswer<G> {
    /// Returns the answer to an acquire or an adoption.
    pub(crate) fn granted(
        answer: Result<Granted, Refusal>,
        note: impl FnOnce(Granted) -> G,
    ) -> Self {
        answer.map_or_else(Self::Refused, |granted| Self::Granted(note(granted)))
    }

    /// Makes the status of a lock with a number of entries and waiters.
    pub(crate) fn status(depth: usize, waiting: usize) -> Self {
        let count = |of: usize| u64::try_from(of).expect("short lists");
        let mut status = LockStatus::default();
        status.is_held = depth > 0;
        (status.depth, status.waiting) = (count(depth), count(waiting));
        Self::Status(status)
    }
}
