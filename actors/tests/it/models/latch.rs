//! Compares the latch with a reference, which is a number and a list.
//!
//! The model uses only the latch's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{ArriveAndWait, CountDown, GetLatchStatus, Latch, LatchSpec, LatchStatus, WaitOpen},
};
use rand::Rng;

use crate::{
    models::{Effects, Reference, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn latch_agrees_with_its_reference() {
    agree::<LatchReference>(
        "latch_agrees_with_its_reference",
        600,
        &[
            "a count",
            "a count of zero",
            "a count above the rest",
            "a count at an open latch",
            "several waiters released at once",
            "an arrival that waits",
            "the last arrival",
            "a wait at an open latch",
            "the death of a session that has counted",
            "a withdrawn arrival",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum LatchCall {
    CountDown(u32),
    Arrive(u32),
    Wait,
    Count,
}

#[derive(Debug, PartialEq)]
enum LatchAnswer {
    Passed,
    Left(u32),
    TooMany,
    Refused(Refusal),
    State(LatchStatus),
}

/// Once the number is zero, no call waits.
struct LatchReference {
    left: u32,
    waiting: Vec<CallId>,
    arrived: Vec<CallId>,
}

impl LatchReference {
    /// Counts down if the count is large enough.
    fn count(&mut self, id: CallId, by: u32, effects: &mut Effects<'_, LatchAnswer>) -> bool {
        effects.tally.note(match by {
            0 => "a count of zero",
            _ if self.left == 0 => "a count at an open latch",
            _ if by > self.left => "a count above the rest",
            _ => "a count",
        });
        if by > self.left {
            effects.reply(id, LatchAnswer::TooMany);
            return false;
        }
        self.left -= by;
        if by > 0 {
            self.arrived.push(id);
        }
        true
    }

    fn let_pass(&mut self, effects: &mut Effects<'_, LatchAnswer>) {
        if self.left > 0 {
            return;
        }
        if self.waiting.len() > 1 {
            effects.tally.note("several waiters released at once");
        }
        for waiter in self.waiting.drain(..) {
            effects.reply(waiter, LatchAnswer::Passed);
        }
    }
}

fn convert<T>(observed: Result<T, Refusal>, read: impl FnOnce(T) -> LatchAnswer) -> LatchAnswer {
    match observed {
        Ok(value) => read(value),
        Err(Refusal::Invalid(_)) => LatchAnswer::TooMany,
        Err(refusal) => LatchAnswer::Refused(refusal),
    }
}

impl Reference for LatchReference {
    type Kind = Latch;
    type Call = LatchCall;
    type Answer = LatchAnswer;
    type Memory = ();
    const HOLDS: bool = false;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Latch>) {
        let left = schedule.random.random_range(0..=20);
        let spec = LatchSpec { count: left.into() };
        let reference = Self {
            left,
            waiting: Vec::new(),
            arrived: Vec::new(),
        };
        (reference, Bench::new(spec).expect("the spec is valid"))
    }

    fn draw(&self, schedule: &mut Schedule) -> LatchCall {
        let by = match schedule.random.random_range(0..10) {
            0 => 0,
            1 => schedule
                .random
                .random_range(0..=self.left.saturating_add(2)),
            2 => self.left,
            _ => 1,
        };
        if schedule.asks() {
            let arrives = schedule.random.random_bool(0.2);
            return if arrives {
                LatchCall::Arrive(by)
            } else {
                LatchCall::Wait
            };
        }
        match schedule.random.random_range(0..4) {
            0 | 1 => LatchCall::CountDown(by),
            _ => LatchCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<Latch>,
        session: u64,
        call: &LatchCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            LatchCall::CountDown(by) => put(bench, session, CountDown { by: by.into() }, timeout),
            LatchCall::Arrive(by) => put(bench, session, ArriveAndWait { by: by.into() }, timeout),
            LatchCall::Wait => put(bench, session, WaitOpen, timeout),
            LatchCall::Count => put(bench, session, GetLatchStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<Latch>,
        id: CallId,
        call: &LatchCall,
        (): &mut (),
    ) -> Result<LatchAnswer, Fault> {
        let passed = |()| LatchAnswer::Passed;
        match call {
            LatchCall::CountDown(_) => {
                answer::<_, CountDown>(bench, id).map(|it| convert(it, LatchAnswer::Left))
            }
            LatchCall::Arrive(_) => {
                answer::<_, ArriveAndWait>(bench, id).map(|it| convert(it, passed))
            }
            LatchCall::Wait => answer::<_, WaitOpen>(bench, id).map(|it| convert(it, passed)),
            LatchCall::Count => answer::<_, GetLatchStatus>(bench, id).map(LatchAnswer::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &LatchCall, effects: &mut Effects<'_, LatchAnswer>) {
        match *call {
            LatchCall::CountDown(by) => {
                if self.count(id, by, effects) {
                    effects.reply(id, LatchAnswer::Left(self.left));
                }
            }
            LatchCall::Arrive(by) => {
                if self.count(id, by, effects) {
                    self.waiting.push(id);
                    effects.tally.note(match self.left {
                        0 => "the last arrival",
                        _ => "an arrival that waits",
                    });
                }
            }
            LatchCall::Wait => {
                if self.left == 0 {
                    effects.tally.note("a wait at an open latch");
                }
                self.waiting.push(id);
            }
            LatchCall::Count => {
                let mut state = LatchStatus::default();
                state.count = self.left;
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                effects.reply(id, LatchAnswer::State(state));
            }
        }
        self.let_pass(effects);
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, LatchAnswer>) {
        if self.waits(id) {
            if self.arrived.contains(&id) {
                effects.tally.note("a withdrawn arrival");
            }
            self.waiting.retain(|waiter| *waiter != id);
            effects.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, LatchAnswer>) {
        let is_theirs = |id: &CallId| id.session().number() == session;
        if self.left > 0 && self.arrived.iter().any(is_theirs) {
            effects
                .tally
                .note("the death of a session that has counted");
        }
        self.waiting.retain(|waiter| !is_theirs(waiter));
    }

    fn waits(&self, id: CallId) -> bool {
        self.waiting.contains(&id)
    }

    fn holds(&self, _: CallId) -> bool {
        false
    }
}
