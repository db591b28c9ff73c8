//! The value against a reference: a number, a count and a list.
//!
//! The model knows the value only through its calls and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    codec::Blob,
    data::{
        CountWatchers, Exchange, Exchanged, OnlyIf, Read, Store, Swap, Value, ValueSpec,
        ValueStatus, Versioned, WaitChange,
    },
};
use rand::Rng;

use crate::{
    models::{Reference, Said, agree, answers::answer},
    schedule::{Schedule, put},
};

#[test]
fn value_agrees_with_its_reference() {
    agree::<ValueReference>(
        "value_agrees_with_its_reference",
        600,
        &[
            "change that several wait for",
            "change that nobody waits for",
            "set to what it is",
            "exchange of what is expected",
            "exchange of something else",
            "exchange of what has come back",
            "exchange of a version",
            "exchange of another version",
            "wait since an earlier version",
            "wait since a version that is to come",
            "death of who has set it",
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
enum ValueTold {
    Is(u64, u8),
    Was(u64, u8),
    Set(u64),
    /// The version has not been reached.
    ToCome,
    Refused(Refusal),
    State(ValueStatus),
}

#[derive(Default)]
struct ValueReference {
    version: u64,
    value: u8,
    /// What it was before, with each version.
    history: Vec<u8>,
    waiting: Vec<CallId>,
    setter: Option<u64>,
    /// How many wait when the schedule begins.
    crowd: usize,
}

impl ValueReference {
    fn set(&mut self, id: CallId, value: u8, said: &mut Said<'_, ValueTold>) {
        if value == self.value {
            said.tally.note("set to what it is");
        }
        match self.waiting.len() {
            0 => said.tally.note("change that nobody waits for"),
            1 => {}
            _ => said.tally.note("change that several wait for"),
        }
        self.history.push(self.value);
        (self.version, self.value) = (self.version + 1, value);
        self.setter = Some(id.session().number());
        for waiter in self.waiting.drain(..) {
            said.reply(waiter, ValueTold::Is(self.version, self.value));
        }
    }

    fn exchange(&mut self, id: CallId, is_so: bool, value: u8, said: &mut Said<'_, ValueTold>) {
        if is_so {
            self.set(id, value, said);
            said.reply(id, ValueTold::Set(self.version));
        } else {
            said.reply(id, ValueTold::Is(self.version, self.value));
        }
    }
}

fn blob(value: u8) -> Blob {
    Blob::from(vec![value])
}

fn is(told: &Versioned<Blob>) -> ValueTold {
    ValueTold::Is(told.version, told.value.0[0])
}

impl Reference for ValueReference {
    type Kind = Value;
    type Call = ValueCall;
    type Told = ValueTold;
    type Memory = ();
    const HOLDS: bool = false;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Value>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(65..=90);
        }
        let bench = Bench::new(ValueSpec {
            value: blob(0),
            holds: String::new(),
        });
        (reference, bench.expect("a short description"))
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
            ValueCall::Wait(since) => put(bench, session, WaitChange { since }, timeout),
            ValueCall::Count => put(bench, session, CountWatchers, timeout),
        }
    }

    fn read(
        bench: &Bench<Value>,
        id: CallId,
        call: &ValueCall,
        (): &mut (),
    ) -> Result<ValueTold, Fault> {
        let was = |told: Versioned<Blob>| ValueTold::Was(told.version, told.value.0[0]);
        let exchanged = |told| match told {
            Exchanged::Done(version) => ValueTold::Set(version),
            Exchanged::Actual(actual) => is(&actual),
        };
        let waited = |told| match told {
            Ok(told) => is(&told),
            Err(Refusal::Invalid(_)) => ValueTold::ToCome,
            Err(refusal) => ValueTold::Refused(refusal),
        };
        match call {
            ValueCall::Read => answer::<Value, Read>(bench, id).map(|told| is(&told)),
            ValueCall::Store(_) => answer::<Value, Store>(bench, id).map(ValueTold::Set),
            ValueCall::Swap(_) => answer::<Value, Swap>(bench, id).map(was),
            ValueCall::IfEqual(..) | ValueCall::IfVersion(..) => {
                answer::<Value, Exchange>(bench, id).map(exchanged)
            }
            ValueCall::Wait(_) => answer::<Value, WaitChange>(bench, id).map(waited),
            ValueCall::Count => answer::<Value, CountWatchers>(bench, id).map(ValueTold::State),
        }
    }

    fn serve(&mut self, id: CallId, call: &ValueCall, said: &mut Said<'_, ValueTold>) {
        match *call {
            ValueCall::Read => said.reply(id, ValueTold::Is(self.version, self.value)),
            ValueCall::Store(value) => {
                self.set(id, value, said);
                said.reply(id, ValueTold::Set(self.version));
            }
            ValueCall::Swap(value) => {
                let was = ValueTold::Was(self.version, self.value);
                self.set(id, value, said);
                said.reply(id, was);
            }
            ValueCall::IfEqual(expected, value) => {
                let is_so = expected == self.value;
                said.tally.note(match is_so {
                    true if self.history.contains(&expected) => "exchange of what has come back",
                    true => "exchange of what is expected",
                    false => "exchange of something else",
                });
                self.exchange(id, is_so, value, said);
            }
            ValueCall::IfVersion(version, value) => {
                let is_so = version == self.version;
                said.tally.note(match is_so {
                    true => "exchange of a version",
                    false => "exchange of another version",
                });
                self.exchange(id, is_so, value, said);
            }
            ValueCall::Wait(since) if since > self.version => {
                said.tally.note("wait since a version that is to come");
                said.reply(id, ValueTold::ToCome);
            }
            ValueCall::Wait(since) if since < self.version => {
                said.tally.note("wait since an earlier version");
                said.reply(id, ValueTold::Is(self.version, self.value));
            }
            ValueCall::Wait(_) => {
                self.waiting.push(id);
                if self.waiting.len() > 64 {
                    said.tally.note("long line");
                }
            }
            ValueCall::Count => {
                let mut state = ValueStatus::default();
                (state.version, state.bytes) = (self.version, 1);
                state.waiting = u64::try_from(self.waiting.len()).expect("a short line");
                said.reply(id, ValueTold::State(state));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, ValueTold>) {
        if self.waits(id) {
            self.waiting.retain(|waiter| *waiter != id);
            said.fail(id, fault);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, ValueTold>) {
        if self.setter == Some(session) {
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
