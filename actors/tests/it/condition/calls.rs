//! The calls of the condition's model, and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Operation, Refusal, Serve,
    sync::{
        Acquire, Adopt, Condition, CountSleepers, ForceUnlock, GetLockStatus, Granted, LockStatus,
        MarkConsistent, Notify, Release, Sleep, Wake, Woken,
    },
};

use crate::{
    models::grants::{Grants, Left},
    schedule::{proof, put},
};

/// The sets that calls sleep in.
pub(crate) const SETS: [&str; 3] = ["", "not full", "not empty"];

/// A name that is one byte too long.
pub(crate) const TOO_LONG: &str = match str::from_utf8(&[b'x'; 256]) {
    Ok(name) => name,
    Err(_) => unreachable!(),
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum ConditionCall {
    Acquire,
    Release(CallId),
    Adopt(CallId),
    MarkConsistent(CallId),
    ForceUnlock,
    Status,
    Sleep(CallId, &'static str),
    Notify(CallId, &'static str, Option<u64>),
    CountSleepers(&'static str),
}

#[derive(Debug, PartialEq)]
pub(crate) enum ConditionAnswer {
    Granted(Option<Left>),
    Woken(Option<Left>, Wake),
    Done,
    Refused(Refusal),
    TooLong,
    WasHeld(bool),
    Status(LockStatus),
    Count(u64),
}

impl ConditionCall {
    pub(crate) fn send(
        self,
        bench: &mut Bench<Condition>,
        session: u64,
        timeout: Option<Duration>,
    ) -> CallId {
        match self {
            Self::Acquire => put(bench, session, Acquire, timeout),
            Self::Release(grant) => put(
                bench,
                session,
                Release {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            Self::Adopt(grant) => put(
                bench,
                session,
                Adopt {
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
            Self::Sleep(grant, set) => {
                let set = set.to_owned();
                put(
                    bench,
                    session,
                    Sleep {
                        grant: proof(session, grant),
                        set,
                    },
                    timeout,
                )
            }
            Self::Notify(grant, set, most) => {
                let set = set.to_owned();
                put(
                    bench,
                    session,
                    Notify {
                        grant: proof(session, grant),
                        set,
                        most: most.map(i128::from),
                    },
                    timeout,
                )
            }
            Self::CountSleepers(set) => {
                let set = set.to_owned();
                put(bench, session, CountSleepers { set }, timeout)
            }
        }
    }

    /// Returns the answer to the call.
    pub(crate) fn read(
        self,
        bench: &Bench<Condition>,
        id: CallId,
        grants: &mut Grants,
    ) -> Result<ConditionAnswer, Fault> {
        let mut left = |granted: Granted| grants.note(id, granted.fence, granted.abandoned);
        let count =
            |woken: Result<u64, Refusal>| woken.map_or_else(refused, ConditionAnswer::Count);
        let done =
            |done: Result<(), Refusal>| done.map_or_else(refused, |()| ConditionAnswer::Done);
        match self {
            Self::Acquire => answer::<Acquire>(bench, id).map(|observed| {
                observed.map_or_else(refused, |granted| ConditionAnswer::Granted(left(granted)))
            }),
            Self::Adopt(_) => answer::<Adopt>(bench, id).map(|observed| {
                observed.map_or_else(refused, |granted| ConditionAnswer::Granted(left(granted)))
            }),
            Self::Sleep(..) => answer::<Sleep>(bench, id).map(|observed| match observed {
                Ok(Woken { granted, wake }) => ConditionAnswer::Woken(left(granted), wake),
                Err(refusal) => refused(refusal),
            }),
            Self::Release(_) => answer::<Release>(bench, id).map(done),
            Self::MarkConsistent(_) => answer::<MarkConsistent>(bench, id).map(done),
            Self::Notify(..) => answer::<Notify>(bench, id).map(count),
            Self::ForceUnlock => answer::<ForceUnlock>(bench, id).map(ConditionAnswer::WasHeld),
            Self::Status => answer::<GetLockStatus>(bench, id).map(ConditionAnswer::Status),
            Self::CountSleepers(_) => answer::<CountSleepers>(bench, id).map(count),
        }
    }
}

fn answer<O: Operation>(bench: &Bench<Condition>, id: CallId) -> Result<O::Reply, Fault>
where
    Condition: Serve<O>,
{
    bench.reply::<O>(id).expect("the call is answered")
}

/// The only refusal with a text is that of a name.
fn refused(refusal: Refusal) -> ConditionAnswer {
    match refusal {
        Refusal::Invalid(_) => ConditionAnswer::TooLong,
        refusal => ConditionAnswer::Refused(refusal),
    }
}
