//! A kind on the bench and its reference, given the same inputs and compared after each of them.
//!
//! A reference is written from SEMANTICS.md with lists and linear scans, and shares no code with
//! the kind. Invariant: the kind gives the answers of the reference in each step, in the same
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

/// What a kind should do, said as plainly as possible.
pub(crate) trait Reference: Sized {
    type Kind: Primitive;
    /// A call that the schedule may make.
    type Call: Debug;
    /// What a caller may be told.
    type Told: Debug + PartialEq;
    /// What must be remembered of earlier answers to understand later ones.
    type Memory: Default;
    /// Whether an answered call may hold something that its withdrawal gives back.
    const HOLDS: bool = true;

    /// Makes a reference and an object of the same spec.
    fn make(schedule: &mut Schedule) -> (Self, Bench<Self::Kind>);
    /// Calls that are made before the schedule begins, each with its session.
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
    /// What the kind has answered to a call.
    fn read(
        bench: &Bench<Self::Kind>,
        id: CallId,
        call: &Self::Call,
        memory: &mut Self::Memory,
    ) -> Result<Self::Told, Fault>;

    fn serve(&mut self, id: CallId, call: &Self::Call, said: &mut Said<'_, Self::Told>);
    /// Undoes a call, which is told `fault` if it waits still.
    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, Self::Told>);
    fn hang_up(&mut self, session: u64, said: &mut Said<'_, Self::Told>);
    fn waits(&self, id: CallId) -> bool;
    fn holds(&self, id: CallId) -> bool;
}

/// What a reference says in one step.
pub(crate) struct Said<'a, T> {
    pub(crate) now: Duration,
    pub(crate) tally: &'a mut Tally,
    answers: Vec<(CallId, Result<T, Fault>)>,
    /// The grants that are void from now on.
    pub(crate) revoked: Vec<CallId>,
    unordered: bool,
}

impl<T> Said<'_, T> {
    pub(crate) fn reply(&mut self, id: CallId, told: T) {
        self.answers.push((id, Ok(told)));
    }

    pub(crate) fn fail(&mut self, id: CallId, fault: Fault) {
        self.answers.push((id, Err(fault)));
    }

    /// States that a call has ended a grant, which another session is told of.
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
        "a call that must not wait and would",
        "a deadline that passes",
        "a deadline that was met",
        "a withdrawn waiter",
        "a withdrawn call that is over",
        "a withdrawn call that was never made",
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
    /// In the order of their numbers.
    sent: Vec<(CallId, R::Call)>,
    /// Of calls that had to wait when they were made.
    deadlines: Vec<(Duration, CallId)>,
    memory: R::Memory,
    revoked: BTreeSet<CallId>,
    /// How many answers were compared.
    answered: usize,
    removed: bool,
    now: Duration,
}

impl<R: Reference> Pair<R> {
    fn run(&mut self, tally: &mut Tally) {
        for (session, call) in self.reference.prelude(&mut self.schedule) {
            self.step("the prelude", tally, |pair, said| {
                pair.make(session, call, None, said);
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
        self.schedule.tell(&step);
        self.step(step, tally, |pair, said| match step {
            Step::Call { session, timeout } => {
                let call = pair.reference.draw(&mut pair.schedule);
                pair.make(session, call, timeout, said);
            }
            Step::Withdraw(id) => pair.withdraw(id, said),
            Step::HangUp(session) => {
                said.tally.note("a hang-up");
                pair.bench.hang_up(session);
                if !pair.removed {
                    pair.reference.hang_up(session, said);
                }
            }
            Step::Advance(time) => pair.advance(time, said),
            Step::Remove => pair.remove(said),
        });
    }

    /// Does the same to both, and compares what they say.
    fn step(
        &mut self,
        what: impl Debug,
        tally: &mut Tally,
        act: impl FnOnce(&mut Self, &mut Said<'_, R::Told>),
    ) {
        let mut said = Said {
            now: self.now,
            tally,
            answers: Vec::new(),
            revoked: Vec::new(),
            unordered: false,
        };
        act(self, &mut said);
        let Said {
            answers,
            revoked,
            unordered,
            ..
        } = said;
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
        said: &mut Said<'_, R::Told>,
    ) {
        let id = R::send(&mut self.bench, session, &call, timeout);
        self.schedule.tell(&(id, &call));
        self.schedule.sent(id);
        if self.removed {
            said.tally.note("a call after the removal");
            said.fail(id, Fault::Gone);
        } else {
            said.tally.note("a call");
            self.reference.serve(id, &call, said);
        }
        match timeout {
            Some(Duration::ZERO) => {
                said.tally.note("a call that must not wait");
                if !said.has_answered(id) {
                    said.tally.note("a call that must not wait and would");
                    self.reference.undo(id, Fault::TimedOut, said);
                }
            }
            Some(timeout) => {
                said.tally.note("a call with a deadline");
                if !said.has_answered(id) {
                    self.deadlines.push((self.now + timeout, id));
                }
            }
            None => {}
        }
        self.sent.push((id, call));
    }

    fn withdraw(&mut self, id: CallId, said: &mut Said<'_, R::Told>) {
        self.bench.withdraw(id);
        if self.removed {
            return;
        }
        said.tally.note(if self.reference.waits(id) {
            "a withdrawn waiter"
        } else if self.reference.holds(id) {
            "a withdrawn holder"
        } else if self.sent.iter().any(|(sent, _)| *sent == id) {
            "a withdrawn call that is over"
        } else {
            "a withdrawn call that was never made"
        });
        self.reference.undo(id, Fault::Withdrawn, said);
    }

    /// Deadlines that fall together are kept in the order of the calls' ids, as the bench does it.
    fn advance(&mut self, time: Duration, said: &mut Said<'_, R::Told>) {
        self.bench.advance(time);
        let end = self.now + time;
        self.deadlines.sort();
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= end) {
            self.deadlines.remove(0);
            said.now = at;
            if self.removed {
                continue;
            }
            said.tally.note(if self.reference.waits(id) {
                "a deadline that passes"
            } else {
                "a deadline that was met"
            });
            if self.reference.waits(id) {
                self.reference.undo(id, Fault::TimedOut, said);
            }
        }
        self.now = end;
    }

    fn remove(&mut self, said: &mut Said<'_, R::Told>) {
        said.tally.note("a removal");
        self.bench.remove();
        self.removed = true;
        said.in_no_order();
        let mut has_live_caller = false;
        for (id, _) in &self.sent {
            let is_live = self.schedule.is_live(id.session());
            has_live_caller |= is_live;
            if is_live && self.reference.waits(*id) {
                said.fail(*id, Fault::Gone);
            }
        }
        assert_eq!(self.bench.is_gone(), has_live_caller);
    }

    fn compare(
        &mut self,
        step: &impl Debug,
        mut expected: Vec<(CallId, Result<R::Told, Fault>)>,
        unordered: bool,
    ) {
        let order = self.bench.order();
        let mut actual = Vec::new();
        for seq in order.iter().skip(self.answered) {
            let place = self.sent.binary_search_by_key(seq, |(id, _)| id.seq());
            let (id, call) = &self.sent[place.expect("only calls are answered")];
            let told = R::read(&self.bench, *id, call, &mut self.memory);
            actual.push((*id, told));
        }
        self.answered = order.len();
        self.schedule.tell(&actual);
        if unordered {
            expected.sort_by_key(|(id, _)| *id);
            actual.sort_by_key(|(id, _)| *id);
        }
        assert_eq!(
            actual, expected,
            "what was said (left) and what should be said (right) after {step:?}"
        );
    }
}
