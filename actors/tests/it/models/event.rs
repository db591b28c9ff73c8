//! The event against a reference: a flag, a count and a list.
//!
//! The model knows the event only through its calls and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Clear, Event, EventStatus, Look, Set, WaitSet},
};
use rand::Rng;

use crate::{
    models::{Reference, Said, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn event_agrees_with_its_reference() {
    agree::<EventReference>(
        "event_agrees_with_its_reference",
        600,
        &[
            "set of several who wait",
            "set that nobody waits for",
            "set of what is set",
            "clear",
            "clear while others wait",
            "wait for what is set",
            "wait for what is set no more",
            "wait since an earlier count",
            "wait since an earlier count of what is set no more",
            "wait since the count of what is set",
            "wait since the count of what is not set",
            "wait since a count that is to come",
            "death of who has set it",
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
enum EventTold {
    Count(u64),
    Done,
    /// The count has not been reached.
    ToCome,
    Refused(Refusal),
    State(EventStatus),
}

/// Each waiter is told of the next set.
#[derive(Default)]
struct EventReference {
    is_set: bool,
    count: u64,
    waiting: Vec<CallId>,
    setter: Option<u64>,
    /// How many wait when the schedule begins.
    crowd: usize,
}

impl EventReference {
    fn set(&mut self, id: CallId, said: &mut Said<'_, EventTold>) {
        if self.is_set {
            said.tally.note("set of what is set");
        }
        match self.waiting.len() {
            0 => said.tally.note("set that nobody waits for"),
            1 => {}
            _ => said.tally.note("set of several who wait"),
        }
        self.is_set = true;
        self.count += 1;
        self.setter = Some(id.session().number());
        said.reply(id, EventTold::Count(self.count));
        for waiter in self.waiting.drain(..) {
            said.reply(waiter, EventTold::Count(self.count));
        }
    }

    /// Waits until the flag is up, or until it was set more often than `since`.
    fn wait(&mut self, id: CallId, since: Option<u64>, said: &mut Said<'_, EventTold>) {
        let has_been = match since {
            None => self.is_set,
            Some(since) => self.count > since,
        };
        if since > Some(self.count) {
            said.tally.note("wait since a count that is to come");
            said.reply(id, EventTold::ToCome);
        } else if has_been {
            said.tally.note(match (since, self.is_set) {
                (None, _) => "wait for what is set",
                (Some(_), true) => "wait since an earlier count",
                (Some(_), false) => "wait since an earlier count of what is set no more",
            });
            said.reply(id, EventTold::Count(self.count));
        } else {
            match (since, self.is_set) {
                (None, _) if self.count > 0 => said.tally.note("wait for what is set no more"),
                (None, _) => {}
                (Some(_), true) => said.tally.note("wait since the count of what is set"),
                (Some(_), false) => said.tally.note("wait since the count of what is not set"),
            }
            self.waiting.push(id);
            if self.waiting.len() > 64 {
                said.tally.note("long line");
            }
        }
    }
}

impl Reference for EventReference {
    type Kind = Event;
    type Call = EventCall;
    type Told = EventTold;
    type Memory = ();
    const HOLDS: bool = false;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Event>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(60..=90);
        }
        let bench = Bench::new(()).expect("an event needs nothing");
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
            EventCall::Wait(since) => put(bench, session, WaitSet { since }, timeout),
            EventCall::Look => put(bench, session, Look, timeout),
        }
    }

    fn read(
        bench: &Bench<Event>,
        id: CallId,
        call: &EventCall,
        (): &mut (),
    ) -> Result<EventTold, Fault> {
        let waited = |waited: Result<u64, Refusal>| match waited {
            Ok(count) => EventTold::Count(count),
            Err(Refusal::Invalid(_)) => EventTold::ToCome,
            Err(refusal) => EventTold::Refused(refusal),
        };
        match call {
            EventCall::Set => answer::<Event, Set>(bench, id).map(EventTold::Count),
            EventCall::Clear => answer::<Event, Clear>(bench, id).map(|()| EventTold::Done),
            EventCall::Wait(_) => answer::<Event, WaitSet>(bench, id).map(waited),
            EventCall::Look => answer::<Event, Look>(bench, id).map(EventTold::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &EventCall, said: &mut Said<'_, EventTold>) {
        match *call {
            EventCall::Set => self.set(id, said),
            EventCall::Clear => {
                said.tally.note(if self.waiting.is_empty() {
                    "clear"
                } else {
                    "clear while others wait"
                });
                self.is_set = false;
                said.reply(id, EventTold::Done);
            }
            EventCall::Wait(since) => self.wait(id, since, said),
            EventCall::Look => {
                let mut state = EventStatus::default();
                (state.is_set, state.generation) = (self.is_set, self.count);
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                said.reply(id, EventTold::State(state));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, EventTold>) {
        if self.waits(id) {
            self.waiting.retain(|waiter| *waiter != id);
            said.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, EventTold>) {
        if self.is_set && self.setter == Some(session) {
            said.tally.note("death of who has set it");
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
