//! The latch against a reference: a number and a list.
//!
//! The model knows the latch only through its calls and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{ArriveAndWait, CountDown, CountLeft, Latch, LatchSpec, LatchStatus, WaitOpen},
};
use rand::Rng;

use crate::{
    models::{Reference, Said, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn latch_agrees_with_its_reference() {
    agree::<LatchReference>(
        "latch_agrees_with_its_reference",
        600,
        &[
            "a count",
            "a count of none",
            "a count of more than are left",
            "a count at an open latch",
            "several who pass at once",
            "an arrival that waits",
            "the last arrival",
            "a wait at an open latch",
            "the death of one that has counted",
            "an arrival that was given up",
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
enum LatchTold {
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
    /// Counts down if as many are left.
    fn count(&mut self, id: CallId, by: u32, said: &mut Said<'_, LatchTold>) -> bool {
        said.tally.note(match by {
            0 => "a count of none",
            _ if self.left == 0 => "a count at an open latch",
            _ if by > self.left => "a count of more than are left",
            _ => "a count",
        });
        if by > self.left {
            said.reply(id, LatchTold::TooMany);
            return false;
        }
        self.left -= by;
        if by > 0 {
            self.arrived.push(id);
        }
        true
    }

    fn let_pass(&mut self, said: &mut Said<'_, LatchTold>) {
        if self.left > 0 {
            return;
        }
        if self.waiting.len() > 1 {
            said.tally.note("several who pass at once");
        }
        for waiter in self.waiting.drain(..) {
            said.reply(waiter, LatchTold::Passed);
        }
    }
}

fn told<T>(told: Result<T, Refusal>, read: impl FnOnce(T) -> LatchTold) -> LatchTold {
    match told {
        Ok(value) => read(value),
        Err(Refusal::Invalid(_)) => LatchTold::TooMany,
        Err(refusal) => LatchTold::Refused(refusal),
    }
}

impl Reference for LatchReference {
    type Kind = Latch;
    type Call = LatchCall;
    type Told = LatchTold;
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
        (reference, Bench::new(spec).expect("the spec is in range"))
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
            LatchCall::CountDown(by) => put(bench, session, CountDown { by }, timeout),
            LatchCall::Arrive(by) => put(bench, session, ArriveAndWait { by }, timeout),
            LatchCall::Wait => put(bench, session, WaitOpen, timeout),
            LatchCall::Count => put(bench, session, CountLeft, timeout),
        }
    }

    fn read(
        bench: &Bench<Latch>,
        id: CallId,
        call: &LatchCall,
        (): &mut (),
    ) -> Result<LatchTold, Fault> {
        let passed = |()| LatchTold::Passed;
        match call {
            LatchCall::CountDown(_) => {
                answer::<_, CountDown>(bench, id).map(|it| told(it, LatchTold::Left))
            }
            LatchCall::Arrive(_) => {
                answer::<_, ArriveAndWait>(bench, id).map(|it| told(it, passed))
            }
            LatchCall::Wait => answer::<_, WaitOpen>(bench, id).map(|it| told(it, passed)),
            LatchCall::Count => answer::<_, CountLeft>(bench, id).map(LatchTold::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &LatchCall, said: &mut Said<'_, LatchTold>) {
        match *call {
            LatchCall::CountDown(by) => {
                if self.count(id, by, said) {
                    said.reply(id, LatchTold::Left(self.left));
                }
            }
            LatchCall::Arrive(by) => {
                if self.count(id, by, said) {
                    self.waiting.push(id);
                    said.tally.note(match self.left {
                        0 => "the last arrival",
                        _ => "an arrival that waits",
                    });
                }
            }
            LatchCall::Wait => {
                if self.left == 0 {
                    said.tally.note("a wait at an open latch");
                }
                self.waiting.push(id);
            }
            LatchCall::Count => {
                let mut state = LatchStatus::default();
                state.count = self.left;
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                said.reply(id, LatchTold::State(state));
            }
        }
        self.let_pass(said);
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, LatchTold>) {
        if self.waits(id) {
            if self.arrived.contains(&id) {
                said.tally.note("an arrival that was given up");
            }
            self.waiting.retain(|waiter| *waiter != id);
            said.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, LatchTold>) {
        let is_theirs = |id: &CallId| id.session().number() == session;
        if self.left > 0 && self.arrived.iter().any(is_theirs) {
            said.tally.note("the death of one that has counted");
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
