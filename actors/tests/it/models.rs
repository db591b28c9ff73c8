//! Compares a kind on the bench with its reference: both get the same inputs, and their answers are
//! compared after each.
//!
//! A reference is written from SEMANTICS.md with lists and linear scans, and shares no code with
//! the kind. Invariant: in each step the kind gives the same answers as the reference, in the same
//! order.

mod answers;
mod barrier;
mod event;
pub(crate) mod grants;
mod holder_calls;
mod keyed;
mod latch;
mod lock;
mod queue;
mod reentrant_lock;
mod rw_lock;
mod semaphore;
mod task_queue;
mod value;

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use lockkeeper_actors::{Bench, CallId, Fault, Primitive};

use crate::{
    schedule::{Schedule, Step, each_seed},
    seeds::Tally,
};

/// The expected behaviour of a kind, in the simplest form.
pub(crate) trait Reference: Sized {
    type Kind: Primitive;
    /// A call that the schedule may make.
    type Call: Debug;
    /// An answer to a call.
    type Answer: Debug + PartialEq;
    /// The state that is needed to compare later answers with earlier ones.
    type Memory: Default;
    /// Whether an answered call may hold something that its withdrawal releases.
    const HOLDS: bool = true;

    /// Makes a reference and an object of the same spec.
    fn make(schedule: &mut Schedule) -> (Self, Bench<Self::Kind>);
    /// Returns the calls before the schedule begins, each with its session.
    fn prelude(&self, _: &mut Schedule) -> Vec<(u64, Self::Call)> {
        Vec::new()
    }
    fn draw(&self, schedule: &mut Schedule) -> Self::Call;
    fn send(
        bench: &mut Bench<Self::Kind>,
        session: u64,
        call: &Self::Call,
        timeout: Option<Duration>,
    ) -> CallId;
    /// Reads the kind's answer to a call.
    fn read(
        bench: &Bench<Self::Kind>,
        id: CallId,
        call: &Self::Call,
        memory: &mut Self::Memory,
    ) -> Result<Self::Answer, Fault>;

    fn serve(&mut self, id: CallId, call: &Self::Call, effects: &mut Effects<'_, Self::Answer>);
    /// Undoes a call. If it still waits, it is answered with `fault`.
    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, Self::Answer>);
    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, Self::Answer>);
    fn waits(&self, id: CallId) -> bool;
    fn holds(&self, id: CallId) -> bool;
}

/// The expected effects of one step.
pub(crate) struct Effects<'a, T> {
    pub(crate) now: Duration,
    pub(crate) tally: &'a mut Tally,
    answers: Vec<(CallId, Result<T, Fault>)>,
    /// The grants that this step revokes.
    pub(crate) revoked: Vec<CallId>,
    unordered: bool,
}

impl<T> Effects<'_, T> {
    pub(crate) fn reply(&mut self, id: CallId, observed: T) {
        self.answers.push((id, Ok(observed)));
    }

    pub(crate) fn fail(&mut self, id: CallId, fault: Fault) {
        self.answers.push((id, Err(fault)));
    }

    /// States that a call ended a grant. If the grant belongs to another session, it is revoked.
    pub(crate) fn end(&mut self, by: CallId, grant: CallId) {
        if by.session() != grant.session() {
            self.revoked.push(grant);
        }
    }

    /// States that the answers of this step have no promised order.
    pub(crate) fn in_no_order(&mut self) {
        self.unordered = true;
    }

    fn has_answered(&self, id: CallId) -> bool {
        self.answers.iter().any(|(call, _)| *call == id)
    }
}

/// Compares a kind with its reference over many schedules.
pub(crate) fn agree<R: Reference>(test: &str, schedules: u64, must_occur: &[&'static str]) {
    const ALWAYS: [&str; 12] = [
        "a call",
        "a call with a deadline",
        "a call that must not wait",
        "a call that must not wait and would have to",
        "a deadline that passes",
        "a deadline of an answered call",
        "a withdrawn waiter",
        "a withdrawn call that has ended",
        "a withdrawal of a call that was never made",
        "a hang-up",
        "a call after the removal",
        "a removal",
    ];
    let mut must_occur: Vec<&str> = ALWAYS.iter().chain(must_occur).copied().collect();
    must_occur.extend(R::HOLDS.then_some("a withdrawn holder"));
    each_seed(test, schedules, &must_occur, |mut schedule, tally| {
        let (reference, bench) = R::make(&mut schedule);
        let mut pair = Pair {
            reference,
            bench,
            schedule,
            sent: Vec::new(),
            deadlines: Vec::new(),
            memory: R::Memory::default(),
            revoked: BTreeSet::new(),
            answered: 0,
            removed: false,
            now: Duration::ZERO,
        };
        pair.run(tally);
    });
}

/// A kind and its reference side by side.
struct Pair<R: Reference> {
    reference: R,
    bench: Bench<R::Kind>,
    schedule: Schedule,
    /// All calls, in the order of their numbers.
    sent: Vec<(CallId, R::Call)>,
    /// The deadlines of calls that had to wait.
    deadlines: Vec<(Duration, CallId)>,
    memory: R::Memory,
    revoked: BTreeSet<CallId>,
    /// The number of compared answers.
    answered: usize,
    removed: bool,
    now: Duration,
}

impl<R: Reference> Pair<R> {
    fn run(&mut self, tally: &mut Tally) {
        for (session, call) in self.reference.prelude(&mut self.schedule) {
            self.step("the prelude", tally, |pair, effects| {
                pair.make(session, call, None, effects);
            });
        }
        while let Some(step) = self.schedule.step() {
            self.take(step, tally);
        }
        for session in self.schedule.end_all() {
            self.take(Step::HangUp(session), tally);
        }
        for (id, call) in &self.sent {
            let (is, should) = (self.bench.is_revoked(*id), self.revoked.contains(id));
            assert_eq!(is, should, "whether {id:?} was revoked, {call:?}");
        }
    }

    fn take(&mut self, step: Step, tally: &mut Tally) {
        self.schedule.trace(&step);
        self.step(step, tally, |pair, effects| match step {
            Step::Call { session, timeout } => {
                let call = pair.reference.draw(&mut pair.schedule);
                pair.make(session, call, timeout, effects);
            }
            Step::Withdraw(id) => pair.withdraw(id, effects),
            Step::HangUp(session) => {
                effects.tally.note("a hang-up");
                pair.bench.hang_up(session);
                if !pair.removed {
                    pair.reference.hang_up(session, effects);
                }
            }
            Step::Advance(time) => pair.advance(time, effects),
            Step::Remove => pair.remove(effects),
        });
    }

    /// Does the same step with both, and compares their answers.
    fn step(
        &mut self,
        what: impl Debug,
        tally: &mut Tally,
        act: impl FnOnce(&mut Self, &mut Effects<'_, R::Answer>),
    ) {
        let mut effects = Effects {
            now: self.now,
            tally,
            answers: Vec::new(),
            revoked: Vec::new(),
            unordered: false,
        };
        act(self, &mut effects);
        let Effects {
            answers,
            revoked,
            unordered,
            ..
        } = effects;
        self.compare(&what, answers, unordered);
        for grant in revoked {
            assert!(self.bench.is_revoked(grant), "{grant:?} was not revoked");
            self.revoked.insert(grant);
        }
    }

    fn make(
        &mut self,
        session: u64,
        call: R::Call,
        timeout: Option<Duration>,
        effects: &mut Effects<'_, R::Answer>,
    ) {
        let id = R::send(&mut self.bench, session, &call, timeout);
        self.schedule.trace(&(id, &call));
        self.schedule.sent(id);
        if self.removed {
            effects.tally.note("a call after the removal");
            effects.fail(id, Fault::Gone);
        } else {
            effects.tally.note("a call");
            self.reference.serve(id, &call, effects);
        }
        match timeout {
            Some(Duration::ZERO) => {
                effects.tally.note("a call that must not wait");
                if !effects.has_answered(id) {
                    effects
                        .tally
                        .note("a call that must not wait and would have to");
                    self.reference.undo(id, Fault::TimedOut, effects);
                }
            }
            Some(timeout) => {
                effects.tally.note("a call with a deadline");
                if !effects.has_answered(id) {
                    self.deadlines.push((self.now + timeout, id));
                }
            }
            None => {}
        }
        self.sent.push((id, call));
    }

    fn withdraw(&mut self, id: CallId, effects: &mut Effects<'_, R::Answer>) {
        self.bench.withdraw(id);
        if self.removed {
            return;
        }
        effects.tally.note(if self.reference.waits(id) {
            "a withdrawn waiter"
        } else if self.reference.holds(id) {
            "a withdrawn holder"
        } else if self.sent.iter().any(|(sent, _)| *sent == id) {
            "a withdrawn call that has ended"
        } else {
            "a withdrawal of a call that was never made"
        });
        self.reference.undo(id, Fault::Withdrawn, effects);
    }

    /// Equal deadlines pass in the order of the calls' ids, as on the bench.
    fn advance(&mut self, time: Duration, effects: &mut Effects<'_, R::Answer>) {
        self.bench.advance(time);
        let end = self.now + time;
        self.deadlines.sort();
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= end) {
            self.deadlines.remove(0);
            effects.now = at;
            if self.removed {
                continue;
            }
            effects.tally.note(if self.reference.waits(id) {
                "a deadline that passes"
            } else {
                "a deadline of an answered call"
            });
            if self.reference.waits(id) {
                self.reference.undo(id, Fault::TimedOut, effects);
            }
        }
        self.now = end;
    }

    fn remove(&mut self, effects: &mut Effects<'_, R::Answer>) {
        effects.tally.note("a removal");
        self.bench.remove();
        self.removed = true;
        effects.in_no_order();
        let mut has_live_caller = false;
        for (id, _) in &self.sent {
            let is_live = self.schedule.is_live(id.session());
            has_live_caller |= is_live;
            if is_live && self.reference.waits(*id) {
                effects.fail(*id, Fault::Gone);
            }
        }
        assert_eq!(self.bench.is_gone(), has_live_caller);
    }

    fn compare(
        &mut self,
        step: &impl Debug,
        mut expected: Vec<(CallId, Result<R::Answer, Fault>)>,
        unordered: bool,
    ) {
        let order = self.bench.order();
        let mut actual = Vec::new();
        for seq in order.iter().skip(self.answered) {
            let place = self.sent.binary_search_by_key(seq, |(id, _)| id.seq());
            let (id, call) = &self.sent[place.expect("each answer belongs to a call")];
            let observed = R::read(&self.bench, *id, call, &mut self.memory);
            actual.push((*id, observed));
        }
        self.answered = order.len();
        self.schedule.trace(&actual);
        if unordered {
            expected.sort_by_key(|(id, _)| *id);
            actual.sort_by_key(|(id, _)| *id);
        }
        assert_eq!(
            actual, expected,
            "the actual (left) and the expected answers (right) after {step:?}"
        );
    }
}
