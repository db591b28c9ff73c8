//! Compares the event with a reference, which is a flag, a count and a list.
//!
//! The model uses only the event's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Clear, Event, EventStatus, GetEventStatus, Set, WaitSet},
};
use rand::Rng;

use crate::{
    models::{Effects, Reference, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn event_agrees_with_its_reference() {
    agree::<EventReference>(
        "event_agrees_with_its_reference",
        600,
        &[
            "set with several waiters",
            "set without a waiter",
            "set of a set event",
            "clear",
            "clear with waiters",
            "wait for a set event",
            "wait for a cleared event",
            "wait since an earlier count",
            "wait since an earlier count of a cleared event",
            "wait since the current count of a set event",
            "wait since the current count of a cleared event",
            "wait since a future count",
            "death of the setter",
            "long line",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum EventCall {
    Set,
    Clear,
    Wait(Option<u64>),
    Look,
}

#[derive(Debug, PartialEq)]
enum EventAnswer {
    Count(u64),
    Done,
    /// The count is in the future.
    ToCome,
    Refused(Refusal),
    State(EventStatus),
}

/// The next `Set` answers all waiters.
#[derive(Default)]
struct EventReference {
    is_set: bool,
    count: u64,
    waiting: Vec<CallId>,
    setter: Option<u64>,
    /// The number of waiters when the schedule begins.
    crowd: usize,
}

impl EventReference {
    fn set(&mut self, id: CallId, effects: &mut Effects<'_, EventAnswer>) {
        if self.is_set {
            effects.tally.note("set of a set event");
        }
        match self.waiting.len() {
            0 => effects.tally.note("set without a waiter"),
            1 => {}
            _ => effects.tally.note("set with several waiters"),
        }
        self.is_set = true;
        self.count += 1;
        self.setter = Some(id.session().number());
        effects.reply(id, EventAnswer::Count(self.count));
        for waiter in self.waiting.drain(..) {
            effects.reply(waiter, EventAnswer::Count(self.count));
        }
    }

    /// Waits until the flag is set, or until it was set more often than `since`.
    fn wait(&mut self, id: CallId, since: Option<u64>, effects: &mut Effects<'_, EventAnswer>) {
        let has_been = match since {
            None => self.is_set,
            Some(since) => self.count > since,
        };
        if since > Some(self.count) {
            effects.tally.note("wait since a future count");
            effects.reply(id, EventAnswer::ToCome);
        } else if has_been {
            effects.tally.note(match (since, self.is_set) {
                (None, _) => "wait for a set event",
                (Some(_), true) => "wait since an earlier count",
                (Some(_), false) => "wait since an earlier count of a cleared event",
            });
            effects.reply(id, EventAnswer::Count(self.count));
        } else {
            match (since, self.is_set) {
                (None, _) if self.count > 0 => effects.tally.note("wait for a cleared event"),
                (None, _) => {}
                (Some(_), true) => effects
                    .tally
                    .note("wait since the current count of a set event"),
                (Some(_), false) => effects
                    .tally
                    .note("wait since the current count of a cleared event"),
            }
            self.waiting.push(id);
            if self.waiting.len() > 64 {
                effects.tally.note("long line");
            }
        }
    }
}

impl Reference for EventReference {
    type Kind = Event;
    type Call = EventCall;
    type Answer = EventAnswer;
    type Memory = ();
    const HOLDS: bool = false;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Event>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(60..=90);
        }
        let bench = Bench::new(()).expect("every spec is valid");
        (reference, bench)
    }

    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, EventCall)> {
        let sessions = [(); 3].map(|()| schedule.join());
        let sessions = sessions.into_iter().cycle().take(self.crowd);
        sessions
            .map(|session| (session, EventCall::Wait(None)))
            .collect()
    }

    fn draw(&self, schedule: &mut Schedule) -> EventCall {
        if schedule.asks() {
            let around = self.count.saturating_sub(2)..=self.count + 1;
            return EventCall::Wait(match schedule.random.random_range(0..9) {
                0..=3 => None,
                4..=6 => Some(self.count),
                7 => Some(schedule.random.random_range(around)),
                _ => Some(schedule.random.random_range(0..=self.count)),
            });
        }
        match schedule.random.random_range(0..8) {
            0..=2 => EventCall::Set,
            3..=5 => EventCall::Clear,
            _ => EventCall::Look,
        }
    }

    fn send(
        bench: &mut Bench<Event>,
        session: u64,
        call: &EventCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            EventCall::Set => put(bench, session, Set, timeout),
            EventCall::Clear => put(bench, session, Clear, timeout),
            EventCall::Wait(since) => put(
                bench,
                session,
                WaitSet {
                    since: since.map(i128::from),
                },
                timeout,
            ),
            EventCall::Look => put(bench, session, GetEventStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<Event>,
        id: CallId,
        call: &EventCall,
        (): &mut (),
    ) -> Result<EventAnswer, Fault> {
        let waited = |waited: Result<u64, Refusal>| match waited {
            Ok(count) => EventAnswer::Count(count),
            Err(Refusal::Invalid(_)) => EventAnswer::ToCome,
            Err(refusal) => EventAnswer::Refused(refusal),
        };
        match call {
            EventCall::Set => answer::<Event, Set>(bench, id).map(EventAnswer::Count),
            EventCall::Clear => answer::<Event, Clear>(bench, id).map(|()| EventAnswer::Done),
            EventCall::Wait(_) => answer::<Event, WaitSet>(bench, id).map(waited),
            EventCall::Look => answer::<Event, GetEventStatus>(bench, id).map(EventAnswer::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &EventCall, effects: &mut Effects<'_, EventAnswer>) {
        match *call {
            EventCall::Set => self.set(id, effects),
            EventCall::Clear => {
                effects.tally.note(if self.waiting.is_empty() {
                    "clear"
                } else {
                    "clear with waiters"
                });
                self.is_set = false;
                effects.reply(id, EventAnswer::Done);
            }
            EventCall::Wait(since) => self.wait(id, since, effects),
            EventCall::Look => {
                let mut state = EventStatus::default();
                (state.is_set, state.generation) = (self.is_set, self.count);
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                effects.reply(id, EventAnswer::State(state));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, EventAnswer>) {
        if self.waits(id) {
            self.waiting.retain(|waiter| *waiter != id);
            effects.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, EventAnswer>) {
        if self.is_set && self.setter == Some(session) {
            effects.tally.note("death of the setter");
        }
        self.waiting
            .retain(|waiter| waiter.session().number() != session);
    }

    fn waits(&self, id: CallId) -> bool {
        self.waiting.contains(&id)
    }

    fn holds(&self, _: CallId) -> bool {
        false
    }
}
