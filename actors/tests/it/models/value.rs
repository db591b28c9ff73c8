//! Compares the value with a reference, which is a number, a count and a list.
//!
//! The model uses only the value's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    codec::Blob,
    data::{
        Exchange, Exchanged, GetValueStatus, OnlyIf, Read, Store, Swap, Value, ValueSpec,
        ValueStatus, Versioned, WaitChange,
    },
};
use rand::Rng;

use crate::{
    models::{Effects, Reference, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn value_agrees_with_its_reference() {
    agree::<ValueReference>(
        "value_agrees_with_its_reference",
        600,
        &[
            "change with several waiters",
            "change without a waiter",
            "set to the same value",
            "exchange that finds the expected value",
            "exchange that finds another value",
            "exchange that finds a restored value",
            "exchange that finds the expected version",
            "exchange that finds another version",
            "wait since an earlier version",
            "wait since a future version",
            "death of the setter",
            "long line",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum ValueCall {
    Read,
    Store(u8),
    Swap(u8),
    IfEqual(u8, u8),
    IfVersion(u64, u8),
    Wait(u64),
    Count,
}

#[derive(Debug, PartialEq)]
enum ValueAnswer {
    Is(u64, u8),
    Was(u64, u8),
    Set(u64),
    /// The version is in the future.
    ToCome,
    Refused(Refusal),
    State(ValueStatus),
}

#[derive(Default)]
struct ValueReference {
    version: u64,
    value: u8,
    /// The content in each version.
    history: Vec<u8>,
    waiting: Vec<CallId>,
    setter: Option<u64>,
    /// The number of waiters when the schedule begins.
    crowd: usize,
}

impl ValueReference {
    fn set(&mut self, id: CallId, value: u8, effects: &mut Effects<'_, ValueAnswer>) {
        if value == self.value {
            effects.tally.note("set to the same value");
        }
        match self.waiting.len() {
            0 => effects.tally.note("change without a waiter"),
            1 => {}
            _ => effects.tally.note("change with several waiters"),
        }
        self.history.push(self.value);
        (self.version, self.value) = (self.version + 1, value);
        self.setter = Some(id.session().number());
        for waiter in self.waiting.drain(..) {
            effects.reply(waiter, ValueAnswer::Is(self.version, self.value));
        }
    }

    fn exchange(
        &mut self,
        id: CallId,
        is_so: bool,
        value: u8,
        effects: &mut Effects<'_, ValueAnswer>,
    ) {
        if is_so {
            self.set(id, value, effects);
            effects.reply(id, ValueAnswer::Set(self.version));
        } else {
            effects.reply(id, ValueAnswer::Is(self.version, self.value));
        }
    }
}

fn blob(value: u8) -> Blob {
    Blob::from(vec![value])
}

fn is(observed: &Versioned<Blob>) -> ValueAnswer {
    ValueAnswer::Is(observed.version, observed.value.0[0])
}

impl Reference for ValueReference {
    type Kind = Value;
    type Call = ValueCall;
    type Answer = ValueAnswer;
    type Memory = ();
    const HOLDS: bool = false;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Value>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(65..=90);
        }
        let bench = Bench::new(ValueSpec {
            value: blob(0),
            schema: "item".to_owned(),
        });
        (reference, bench.expect("the description is short"))
    }

    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, ValueCall)> {
        let sessions = [(); 3].map(|()| schedule.join());
        let sessions = sessions.into_iter().cycle().take(self.crowd);
        sessions
            .map(|session| (session, ValueCall::Wait(0)))
            .collect()
    }

    fn draw(&self, schedule: &mut Schedule) -> ValueCall {
        let around = self.version.saturating_sub(2)..=self.version + 1;
        if schedule.asks() {
            return ValueCall::Wait(match schedule.random.random_range(0..4) {
                0 => schedule.random.random_range(around),
                _ => self.version,
            });
        }
        let value = schedule.random.random_range(0..4);
        match schedule.random.random_range(0..12) {
            0..=2 => ValueCall::Store(value),
            3 => ValueCall::Swap(value),
            4..=6 => ValueCall::IfEqual(schedule.random.random_range(0..4), value),
            7..=9 => ValueCall::IfVersion(schedule.random.random_range(around), value),
            10 => ValueCall::Read,
            _ => ValueCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<Value>,
        session: u64,
        call: &ValueCall,
        timeout: Option<Duration>,
    ) -> CallId {
        let exchange = |only_if, value| Exchange {
            only_if,
            value: blob(value),
        };
        match *call {
            ValueCall::Read => put(bench, session, Read, timeout),
            ValueCall::Store(value) => put(bench, session, Store { value: blob(value) }, timeout),
            ValueCall::Swap(value) => put(bench, session, Swap { value: blob(value) }, timeout),
            ValueCall::IfEqual(expected, value) => {
                let only_if = OnlyIf::Equal(blob(expected));
                put(bench, session, exchange(only_if, value), timeout)
            }
            ValueCall::IfVersion(version, value) => {
                let only_if = OnlyIf::Version(version);
                put(bench, session, exchange(only_if, value), timeout)
            }
            ValueCall::Wait(since) => put(
                bench,
                session,
                WaitChange {
                    since: since.into(),
                },
                timeout,
            ),
            ValueCall::Count => put(bench, session, GetValueStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<Value>,
        id: CallId,
        call: &ValueCall,
        (): &mut (),
    ) -> Result<ValueAnswer, Fault> {
        let was =
            |observed: Versioned<Blob>| ValueAnswer::Was(observed.version, observed.value.0[0]);
        let exchanged = |observed| match observed {
            Exchanged::Done(version) => ValueAnswer::Set(version),
            Exchanged::Actual(actual) => is(&actual),
        };
        let waited = |observed| match observed {
            Ok(observed) => is(&observed),
            Err(Refusal::Invalid(_)) => ValueAnswer::ToCome,
            Err(refusal) => ValueAnswer::Refused(refusal),
        };
        match call {
            ValueCall::Read => answer::<Value, Read>(bench, id).map(|observed| is(&observed)),
            ValueCall::Store(_) => answer::<Value, Store>(bench, id).map(ValueAnswer::Set),
            ValueCall::Swap(_) => answer::<Value, Swap>(bench, id).map(was),
            ValueCall::IfEqual(..) | ValueCall::IfVersion(..) => {
                answer::<Value, Exchange>(bench, id).map(exchanged)
            }
            ValueCall::Wait(_) => answer::<Value, WaitChange>(bench, id).map(waited),
            ValueCall::Count => answer::<Value, GetValueStatus>(bench, id).map(ValueAnswer::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &ValueCall, effects: &mut Effects<'_, ValueAnswer>) {
        match *call {
            ValueCall::Read => effects.reply(id, ValueAnswer::Is(self.version, self.value)),
            ValueCall::Store(value) => {
                self.set(id, value, effects);
                effects.reply(id, ValueAnswer::Set(self.version));
            }
            ValueCall::Swap(value) => {
                let was = ValueAnswer::Was(self.version, self.value);
                self.set(id, value, effects);
                effects.reply(id, was);
            }
            ValueCall::IfEqual(expected, value) => {
                let is_so = expected == self.value;
                effects.tally.note(match is_so {
                    true if self.history.contains(&expected) => {
                        "exchange that finds a restored value"
                    }
                    true => "exchange that finds the expected value",
                    false => "exchange that finds another value",
                });
                self.exchange(id, is_so, value, effects);
            }
            ValueCall::IfVersion(version, value) => {
                let is_so = version == self.version;
                effects.tally.note(match is_so {
                    true => "exchange that finds the expected version",
                    false => "exchange that finds another version",
                });
                self.exchange(id, is_so, value, effects);
            }
            ValueCall::Wait(since) if since > self.version => {
                effects.tally.note("wait since a future version");
                effects.reply(id, ValueAnswer::ToCome);
            }
            ValueCall::Wait(since) if since < self.version => {
                effects.tally.note("wait since an earlier version");
                effects.reply(id, ValueAnswer::Is(self.version, self.value));
            }
            ValueCall::Wait(_) => {
                self.waiting.push(id);
                if self.waiting.len() > 64 {
                    effects.tally.note("long line");
                }
            }
            ValueCall::Count => {
                let mut state = ValueStatus::default();
                (state.version, state.bytes) = (self.version, 1);
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                effects.reply(id, ValueAnswer::State(state));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, ValueAnswer>) {
        if self.waits(id) {
            self.waiting.retain(|waiter| *waiter != id);
            effects.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, ValueAnswer>) {
        if self.setter == Some(session) {
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
