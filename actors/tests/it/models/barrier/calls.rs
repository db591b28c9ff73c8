//! The calls of the barrier's model, and their answers.

use crate::schedule::proof;
use std::time::Duration;

use lockkeeper_actors::{
    Bench, BreakReason, CallId, Fault, Refusal,
    sync::{
        Abort, Arrival, Arrive, Barrier, BarrierStatus, BarrierWaitResult, Fail, Finish,
        GetBarrierStatus, Reset,
    },
};

use crate::{models::answers::answer, schedule::put};

#[derive(Clone, Copy, Debug)]
pub(crate) enum BarrierCall {
    Arrive { acts: bool },
    Finish { turn: CallId, by: By },
    Fail { turn: CallId, by: By },
    Abort,
    Reset,
    Count,
}

/// The session that reports on an action.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Anyone,
    /// The session that has the turn.
    Itself,
}

#[derive(Debug, PartialEq)]
pub(crate) enum BarrierAnswer {
    Act,
    Passed {
        index: u32,
        is_leader: bool,
        generation: u64,
    },
    Done,
    Refused(Refusal),
    State {
        parties: u32,
        arrived: u64,
        generation: u64,
        broken: Option<BreakReason>,
    },
}

impl BarrierCall {
    pub(crate) fn send(
        self,
        bench: &mut Bench<Barrier>,
        session: u64,
        timeout: Option<Duration>,
    ) -> CallId {
        let teller = |turn: CallId, by| match by {
            By::Anyone => session,
            By::Itself => turn.session().number(),
        };
        match self {
            Self::Arrive { acts } => put(bench, session, Arrive { acts }, timeout),
            Self::Finish { turn, by } => put(
                bench,
                teller(turn, by),
                Finish {
                    turn: proof(teller(turn, by), turn),
                },
                timeout,
            ),
            Self::Fail { turn, by } => put(
                bench,
                teller(turn, by),
                Fail {
                    turn: proof(teller(turn, by), turn),
                },
                timeout,
            ),
            Self::Abort => put(bench, session, Abort, timeout),
            Self::Reset => put(bench, session, Reset, timeout),
            Self::Count => put(bench, session, GetBarrierStatus, timeout),
        }
    }

    /// Returns the answer to the call.
    pub(crate) fn read(self, bench: &Bench<Barrier>, id: CallId) -> Result<BarrierAnswer, Fault> {
        let done = |()| BarrierAnswer::Done;
        match self {
            Self::Arrive { .. } => answer::<_, Arrive>(bench, id).map(arrival),
            Self::Finish { .. } => answer::<_, Finish>(bench, id).map(passed),
            Self::Fail { .. } => answer::<_, Fail>(bench, id).map(done),
            Self::Abort => answer::<_, Abort>(bench, id).map(done),
            Self::Reset => answer::<_, Reset>(bench, id).map(done),
            Self::Count => answer::<_, GetBarrierStatus>(bench, id).map(state),
        }
    }
}

fn arrival(arrival: Result<Arrival, Refusal>) -> BarrierAnswer {
    match arrival {
        Ok(Arrival::Act) => BarrierAnswer::Act,
        Ok(Arrival::Passed(passage)) => passed(Ok(passage)),
        Err(refusal) => BarrierAnswer::Refused(refusal),
    }
}

fn passed(passed: Result<BarrierWaitResult, Refusal>) -> BarrierAnswer {
    match passed {
        Ok(passed) => BarrierAnswer::Passed {
            index: passed.index(),
            is_leader: passed.is_leader(),
            generation: passed.generation(),
        },
        Err(refusal) => BarrierAnswer::Refused(refusal),
    }
}

fn state(status: BarrierStatus) -> BarrierAnswer {
    BarrierAnswer::State {
        parties: status.parties,
        arrived: status.arrived,
        generation: status.generation,
        broken: status.broken,
    }
}
