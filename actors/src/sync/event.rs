//! The event: a flag that calls wait for, and a count of how often it was set.
//!
//! Invariant: nobody waits for what has been.

use serde::{Deserialize, Serialize};

use crate::{Call, CallId, HangUp, Operation, Operations, Primitive, Refusal, Serve, WaitQueue};

/// Sets the flag, which completes all who wait. Answers how often it has been set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Set;

/// Takes the flag down.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Clear;

/// Waits for the flag. Answers how often it has been set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitSet {
    /// Without a number: until the flag is up. With one: until it was set more often than that,
    /// whether it is up or not.
    pub since: Option<u64>,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Look;

/// The state of an event at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventStatus {
    /// Whether the flag is up.
    pub is_set: bool,
    /// How often it has been set.
    pub generation: u64,
    /// How many calls wait for it.
    pub waiting: u64,
}

impl Operation for Set {
    const NAME: &'static str = "set";
    type Reply = u64;
}

impl Operation for Clear {
    const NAME: &'static str = "clear";
    type Reply = ();
}

impl Operation for WaitSet {
    const NAME: &'static str = "wait";
    type Reply = Result<u64, Refusal>;
}

impl Operation for Look {
    const NAME: &'static str = "look";
    type Reply = EventStatus;
}

/// A flag, and those who wait for it.
#[derive(Debug, Default)]
pub struct Event {
    is_set: bool,
    generation: u64,
    waiters: WaitQueue<Call<Result<u64, Refusal>>>,
}

impl Primitive for Event {
    const KIND: &'static str = "event";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Set>()
            .on::<Clear>()
            .on::<WaitSet>()
            .on::<Look>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiters.remove(id));
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.waiters.remove_session(ended.session));
    }
}

impl Serve<Set> for Event {
    fn serve(&mut self, _: Set, call: Call<u64>) {
        self.is_set = true;
        self.generation += 1;
        call.reply(self.generation);
        while let Some(waiter) = self.waiters.pop_front() {
            waiter.reply(Ok(self.generation));
        }
    }
}

impl Serve<Clear> for Event {
    fn serve(&mut self, _: Clear, call: Call<()>) {
        self.is_set = false;
        call.reply(());
    }
}

impl Serve<WaitSet> for Event {
    fn serve(&mut self, WaitSet { since }: WaitSet, call: Call<Result<u64, Refusal>>) {
        let generation = self.generation;
        match since {
            Some(since) if since > generation => call.reply(Err(Refusal::Invalid(format!(
                "the event was set {generation} times so far: \
                 wait since a generation from 0 to {generation}, not {since}"
            )))),
            Some(since) if since < generation => call.reply(Ok(generation)),
            None if self.is_set => call.reply(Ok(generation)),
            Some(_) | None => self.waiters.push(call.id(), call),
        }
    }
}

impl Serve<Look> for Event {
    fn serve(&mut self, _: Look, call: Call<EventStatus>) {
        call.reply(EventStatus {
            is_set: self.is_set,
            generation: self.generation,
            waiting: self.waiters.len().try_into().unwrap_or(u64::MAX),
        });
    }
}
