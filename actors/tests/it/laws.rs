//! The laws that every kind obeys, in one generic test.
//!
//! Each call is answered exactly once, or its session has hung up. Equal calls are served in order
//! of arrival, and no resource is free while the first waiter could have it. A withdrawn call and a
//! call of an ended session are never granted. A survey lists each waiter once, and only actual
//! holders. After all sessions have left, the object behaves like a fresh one.

mod holders;
mod keyed_subject;
mod latch_and_rw_lock;
mod meetings;
mod subjects;

use std::{collections::BTreeMap, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Deadlock, Fault, Primitive,
    sync::{Bounded, GetLockStatus, ManyPermits, SinglePermit, Unbounded},
};
use rand::Rng;

use crate::{
    laws::{
        holders::{ItemSubject, ValueSubject},
        keyed_subject::KeyedSubject,
        latch_and_rw_lock::{LatchSubject, RwSubject},
        meetings::{BarrierSubject, ConditionSubject, EventSubject},
        subjects::{LockSubject, PermitSubject, QueueSubject, ReentrantSubject},
    },
    schedule::{Schedule, Step, each_seed},
    seeds::Tally,
};

#[test]
fn lock_obeys_the_laws() {
    obeys_the_laws::<LockSubject>("lock_obeys_the_laws");
}

#[test]
fn reentrant_lock_obeys_the_laws() {
    obeys_the_laws::<ReentrantSubject>("reentrant_lock_obeys_the_laws");
}

#[test]
fn event_obeys_the_laws() {
    obeys_the_laws::<EventSubject>("event_obeys_the_laws");
}

#[test]
fn condition_obeys_the_laws() {
    obeys_the_laws::<ConditionSubject>("condition_obeys_the_laws");
}

#[test]
fn barrier_obeys_the_laws() {
    obeys_the_laws::<BarrierSubject>("barrier_obeys_the_laws");
}

#[test]
fn semaphore_obeys_the_laws() {
    obeys_the_laws::<PermitSubject<Unbounded>>("semaphore_obeys_the_laws");
}

#[test]
fn bounded_semaphore_obeys_the_laws() {
    obeys_the_laws::<PermitSubject<Bounded>>("bounded_semaphore_obeys_the_laws");
}

#[test]
fn task_queue_obeys_the_laws() {
    obeys_the_laws::<QueueSubject>("task_queue_obeys_the_laws");
}

#[test]
fn rw_lock_obeys_the_laws() {
    obeys_the_laws::<RwSubject>("rw_lock_obeys_the_laws");
}

#[test]
fn latch_obeys_the_laws() {
    obeys_the_laws::<LatchSubject>("latch_obeys_the_laws");
}

#[test]
fn queue_obeys_the_laws() {
    obeys_the_laws::<ItemSubject>("queue_obeys_the_laws");
}

#[test]
fn value_obeys_the_laws() {
    obeys_the_laws::<ValueSubject>("value_obeys_the_laws");
}

#[test]
fn keyed_lock_obeys_the_laws() {
    obeys_the_laws::<KeyedSubject<SinglePermit>>("keyed_lock_obeys_the_laws");
}

#[test]
fn keyed_semaphore_obeys_the_laws() {
    obeys_the_laws::<KeyedSubject<ManyPermits>>("keyed_semaphore_obeys_the_laws");
}

/// What the laws need from a kind.
trait Subject: Sized {
    type Kind: Primitive;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Self::Kind>);

    /// Makes a fresh object with the changes that outlive their callers.
    fn fresh(&self) -> Bench<Self::Kind>;

    /// Makes a call. Returns its id, and the line in which it may have to wait.
    fn call(
        &mut self,
        bench: &mut Bench<Self::Kind>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>);

    /// Returns whether a call of that line may wait for something else after its deadline.
    fn waits_on(line: &str) -> bool {
        let _ = line;
        false
    }

    /// Returns the calls that were granted, as shown by an answered call.
    fn grants(
        &self,
        bench: &Bench<Self::Kind>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId>;

    /// Asserts that no resource is free that the first waiter could have, and that no other call
    /// waits.
    fn assert_nothing_fits(
        &self,
        bench: &mut Bench<Self::Kind>,
        waiting: &[(CallId, &'static str)],
    );

    /// Returns the answers to new sessions that make each call once, without fences and marks.
    fn probe(bench: &mut Bench<Self::Kind>) -> Vec<String>;
}

/// The session that reads the state. It holds nothing and waits for nothing.
const OBSERVER: u64 = 1_000_000;

fn obeys_the_laws<S: Subject>(test: &str) {
    let must_occur = [
        "a withdrawn waiter",
        "a withdrawn answered call",
        "a failed waiter",
        "a dead waiter",
        "a grant",
        "all sessions left",
        "all calls withdrawn",
        "the object removed",
    ];
    each_seed(test, 250, &must_occur, |mut schedule, tally| {
        let (subject, bench) = S::make(&mut schedule);
        let trial = Trial {
            subject,
            bench,
            schedule,
            calls: Vec::new(),
            parked: Vec::new(),
            seen: 0,
            over: Vec::new(),
            last: BTreeMap::new(),
            granted: Vec::new(),
        };
        trial.run(tally);
    });
}

/// A call.
struct Made {
    id: CallId,
    line: Option<&'static str>,
    has_deadline: bool,
}

/// A subject in a schedule.
struct Trial<S: Subject> {
    subject: S,
    bench: Bench<S::Kind>,
    schedule: Schedule,
    calls: Vec<Made>,
    /// The calls that may still wait, in order.
    parked: Vec<(CallId, &'static str)>,
    /// The number of checked answers.
    seen: usize,
    /// The calls that were answered or withdrawn, or whose session has hung up.
    over: Vec<CallId>,
    /// The number of the last granted call, by line.
    last: BTreeMap<&'static str, u64>,
    granted: Vec<CallId>,
}

impl<S: Subject> Trial<S> {
    fn run(mut self, tally: &mut Tally) {
        while let Some(step) = self.schedule.step() {
            self.schedule.trace(&step);
            match step {
                Step::Call { session, timeout } => self.call(session, timeout),
                Step::Withdraw(id) if self.schedule.random.random_bool(0.3) => self.fail(id, tally),
                Step::Withdraw(id) => self.withdraw(id, tally),
                Step::HangUp(session) => self.hang_up(session, tally),
                Step::Advance(time) => self.bench.advance(time),
                Step::Remove => {
                    self.end_by_removal(tally);
                    return;
                }
            }
            self.check_answers(tally);
            let waiting = self.waiting();
            self.subject.assert_nothing_fits(&mut self.bench, &waiting);
            self.assert_survey_is_true(&waiting, tally);
        }
        self.assert_deadlines_are_kept(tally);
        self.end(tally);
    }

    fn call(&mut self, session: u64, timeout: Option<Duration>) {
        let (bench, schedule) = (&mut self.bench, &mut self.schedule);
        let (id, line) = self.subject.call(bench, schedule, session, timeout);
        self.schedule.sent(id);
        assert!(
            line.is_some() || self.bench.is_answered(id),
            "{id:?} waits, but has nothing to wait for"
        );
        assert!(
            timeout != Some(Duration::ZERO)
                || self.bench.is_answered(id)
                || line.is_some_and(S::waits_on),
            "{id:?} waits, but must not wait"
        );
        self.parked.extend(line.map(|line| (id, line)));
        self.calls.push(Made {
            id,
            line,
            has_deadline: timeout.is_some(),
        });
    }

    fn withdraw(&mut self, id: CallId, tally: &mut Tally) {
        let waits = self.waiting().iter().any(|(waiter, _)| *waiter == id);
        self.bench.withdraw(id);
        if waits {
            tally.note("a withdrawn waiter");
            // A fault can be read as the answer of any operation.
            let observed = self.bench.reply::<GetLockStatus>(id);
            assert_eq!(
                observed,
                Some(Err(Fault::Withdrawn)),
                "{id:?} was withdrawn"
            );
            self.over.push(id);
        } else if self.bench.is_answered(id) {
            tally.note("a withdrawn answered call");
        }
    }

    /// Fails a waiting call. It has no effect on other calls.
    fn fail(&mut self, id: CallId, tally: &mut Tally) {
        let waits = self.waiting().iter().any(|(waiter, _)| *waiter == id);
        let (order, deadlock) = (self.bench.order(), Deadlock::new(Vec::new(), 0));
        let fault = Fault::Deadlock(Box::new(deadlock));
        self.bench.fail(id, fault.clone());
        if waits {
            tally.note("a failed waiter");
            assert_eq!(
                self.bench.reply::<GetLockStatus>(id),
                Some(Err(fault)),
                "{id:?}"
            );
            self.over.push(id);
        } else {
            assert_eq!(self.bench.order(), order, "{id:?} does not wait");
        }
    }

    fn hang_up(&mut self, session: u64, tally: &mut Tally) {
        self.bench.hang_up(session);
        let of = |call: &&Made| call.id.session().number() == session;
        for Made { id, .. } in self.calls.iter().filter(of) {
            if !self.bench.is_answered(*id) {
                tally.note("a dead waiter");
                self.over.push(*id);
            }
        }
    }

    /// Checks the new answers against the laws.
    fn check_answers(&mut self, tally: &mut Tally) {
        let order = self.bench.order();
        let mut answered = Vec::new();
        for seq in order.iter().skip(self.seen) {
            let made = self.calls.iter().find(|made| made.id.seq() == *seq);
            // Other answers belong to the observer.
            let Some(Made { id, line, .. }) = made else {
                continue;
            };
            assert_eq!(self.bench.times_answered(*id), 1, "answers to {id:?}");
            answered.push((*id, *line));
        }
        self.seen = order.len();
        for (id, line) in &answered {
            for grant in self.subject.grants(&self.bench, *id, *line) {
                tally.note("a grant");
                self.assert_may_be_granted(grant);
            }
        }
        self.over.extend(answered.iter().map(|(id, _)| *id));
    }

    fn assert_may_be_granted(&mut self, grant: CallId) {
        assert!(
            !self.over.contains(&grant),
            "{grant:?} was granted after its end"
        );
        if self.granted.contains(&grant) {
            // A call that returned to the front of its line was granted before.
            return;
        }
        self.granted.push(grant);
        let made = self.calls.iter().find(|made| made.id == grant);
        let line = made
            .and_then(|made| made.line)
            .expect("the call was in a line");
        let last = self.last.insert(line, grant.seq()).unwrap_or_default();
        assert!(
            last < grant.seq(),
            "{grant:?} was granted after call {last}, which came later"
        );
    }

    /// Returns the calls that should wait, in order.
    fn waiting(&mut self) -> Vec<(CallId, &'static str)> {
        let (bench, schedule) = (&self.bench, &self.schedule);
        self.parked
            .retain(|(id, _)| !bench.is_answered(*id) && schedule.is_live(id.session()));
        self.parked.clone()
    }

    fn assert_survey_is_true(&self, waiting: &[(CallId, &'static str)], tally: &mut Tally) {
        let Some(primitive) = self.bench.primitive() else {
            return;
        };
        let survey = primitive.survey();
        assert_ne!(survey.state, "", "a survey describes the state");
        let mut observed: Vec<CallId> = Vec::new();
        for part in &survey.parts {
            observed.extend(part.waiters.iter().map(|waiter| waiter.call));
            let held: u64 = part.holders.iter().map(|holder| holder.units).sum();
            assert!(part.units.is_none_or(|units| held <= units), "{part:?}");
            for holder in &part.holders {
                tally.note("a holder in the survey");
                assert!(self.bench.is_answered(holder.call), "{holder:?}");
                assert!(self.schedule.is_live(holder.call.session()), "{holder:?}");
            }
        }
        observed.sort_unstable();
        let mut waiting: Vec<CallId> = waiting.iter().map(|(id, _)| *id).collect();
        waiting.sort_unstable();
        assert_eq!(
            observed, waiting,
            "the waiters in the survey (left) and the actual ones (right)"
        );
    }

    fn assert_deadlines_are_kept(&mut self, tally: &mut Tally) {
        self.bench.advance(Duration::from_secs(3600));
        self.check_answers(tally);
        for (id, line) in self.waiting() {
            let made = self.calls.iter().find(|made| made.id == id);
            assert!(
                S::waits_on(line) || made.is_some_and(|made| !made.has_deadline),
                "the deadline of {id:?} has passed and it waits"
            );
        }
    }

    fn end_by_removal(&mut self, tally: &mut Tally) {
        tally.note("the object removed");
        self.bench.remove();
        self.check_answers(tally);
        for made in &self.calls {
            let times = self.bench.times_answered(made.id);
            let lives = self.schedule.is_live(made.id.session());
            assert!(times == 1 || !lives, "{:?} has {times} answers", made.id);
        }
    }

    /// Ends all sessions or withdraws all calls, and checks the remaining state.
    fn end(&mut self, tally: &mut Tally) {
        if self.schedule.random.random() {
            tally.note("all sessions left");
            for session in self.schedule.end_all() {
                self.hang_up(session, tally);
                self.check_answers(tally);
            }
        } else {
            tally.note("all calls withdrawn");
            let calls: Vec<CallId> = self.calls.iter().map(|made| made.id).collect();
            for id in calls {
                self.withdraw(id, tally);
                self.check_answers(tally);
            }
        }
        assert_eq!(
            self.waiting(),
            [],
            "a call waits although all sessions have left"
        );
        let (used, fresh) = (&mut self.bench, &mut self.subject.fresh());
        assert_eq!(S::probe(used), S::probe(fresh), "used (left) and fresh");
    }
}
