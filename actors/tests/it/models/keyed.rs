//! Compares keyed locks and keyed semaphores with a reference, which has a number and two lists for
//! each key.
//!
//! The model uses only their calls and answers.

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        AcquireKey, AdoptKey, ForceUnlockKey, GetKeyStatus, GetKeyedStatus, Granted, KeyStatus,
        Keyed, KeyedStatus, ListKeys, ManyPermits, MarkConsistent, Release, SinglePermit,
    },
};
use rand::Rng;

use crate::{
    keyed_calls::{KeyedCall, KeyedCalls, any_key},
    models::{
        Effects, Reference, agree,
        answers::answer,
        grants::{Grants, Left},
    },
    schedule::Schedule,
};

/// The cases that must occur for both kinds.
const BOTH: [&str; 16] = [
    "release",
    "release by a session that does not hold",
    "release of a waiter",
    "release of an ended hold",
    "adoption",
    "adoption of an ended hold",
    "mark left",
    "mark left on a key without waiters",
    "marked grant",
    "mark removed",
    "force_unlock",
    "force_unlock of a free key",
    "a key that is too long",
    "a key without state removed",
    "several keys held at once",
    "a hang-up that frees several keys",
];

#[test]
fn keyed_lock_agrees_with_its_reference() {
    agree::<Keys<SinglePermit>>("keyed_lock_agrees_with_its_reference", 800, &BOTH);
}

#[test]
fn keyed_semaphore_agrees_with_its_reference() {
    let own = [
        "more permits than a key has",
        "no permits",
        "several grants at once",
        "a waiter behind a larger request",
    ];
    let must_occur = [&BOTH[..], &own].concat();
    agree::<Keys<ManyPermits>>(
        "keyed_semaphore_agrees_with_its_reference",
        800,
        &must_occur,
    );
}

#[derive(Debug)]
enum ModelCall {
    Acquire(String, u32),
    Keyed(KeyedCall),
}

#[derive(Debug, PartialEq)]
enum KeyedAnswer {
    Granted(Option<Left>),
    Adopted(Option<Left>, String, u32),
    Done,
    Refused(Refusal),
    WasHeld(bool),
    Status(KeyStatus),
    Count(KeyedStatus),
    /// The keys in order.
    Keys(Vec<String>),
}

/// Converts an answer, or the reason of a refusal.
fn convert<T>(answer: Result<T, Refusal>, done: impl FnOnce(T) -> KeyedAnswer) -> KeyedAnswer {
    answer.map_or_else(KeyedAnswer::Refused, done)
}

struct Hold {
    id: CallId,
    permits: u32,
    since: Duration,
}

/// The first waiter of a key gets its permits once enough are free.
#[derive(Default)]
struct Key {
    holds: Vec<Hold>,
    line: Vec<(CallId, u32)>,
    left: Option<Left>,
}

impl Key {
    fn held(&self) -> u32 {
        self.holds.iter().map(|hold| hold.permits).sum()
    }
}

struct Keys<F> {
    /// The number of permits of each key.
    permits: u32,
    keys: BTreeMap<String, Key>,
    face: PhantomData<F>,
}

impl<F: KeyedCalls> Keys<F> {
    fn grant_waiters(&mut self, key: &str, effects: &mut Effects<'_, KeyedAnswer>) {
        let (most, now) = (self.permits, effects.now);
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        let mut granted = 0;
        while !entry.line.is_empty() && entry.line[0].1 <= most - entry.held() {
            let (id, permits) = entry.line.remove(0);
            let since = now;
            entry.holds.push(Hold { id, permits, since });
            granted += 1;
            if entry.left.is_some() {
                effects.tally.note("marked grant");
            }
            effects.reply(id, KeyedAnswer::Granted(entry.left));
        }
        if granted > 1 {
            effects.tally.note("several grants at once");
        }
        let free = most - entry.held();
        if entry.line.iter().any(|(_, permits)| *permits <= free) {
            effects.tally.note("a waiter behind a larger request");
        }
        if entry.holds.is_empty() && entry.left.is_none() {
            effects.tally.note("a key without state removed");
            self.keys.remove(key);
        }
        if self
            .keys
            .values()
            .filter(|key| !key.holds.is_empty())
            .count()
            > 1
        {
            effects.tally.note("several keys held at once");
        }
    }

    /// Returns the key that a call holds.
    fn key_held_by(&self, grant: CallId) -> Option<String> {
        let holds = |key: &Key| key.holds.iter().any(|hold| hold.id == grant);
        let found = self.keys.iter().find(|(_, key)| holds(key));
        found.map(|(text, _)| text.clone())
    }

    fn key_waited_for_by(&self, id: CallId) -> Option<String> {
        let waits = |key: &Key| key.line.iter().any(|(waiter, _)| *waiter == id);
        let found = self.keys.iter().find(|(_, key)| waits(key));
        found.map(|(text, _)| text.clone())
    }

    fn acquire(
        &mut self,
        id: CallId,
        key: &str,
        permits: u32,
        effects: &mut Effects<'_, KeyedAnswer>,
    ) {
        if let Some(refusal) = refusal_of(key, effects) {
            effects.reply(id, KeyedAnswer::Refused(refusal));
        } else if permits > self.permits {
            effects.tally.note("more permits than a key has");
            let (asked, most) = (permits.into(), self.permits.into());
            effects.reply(id, KeyedAnswer::Refused(Refusal::TooMany { asked, most }));
        } else if permits == 0 {
            effects.tally.note("no permits");
            let why = format!(
                "a grant is of 1 to {} permits of a key, not 0",
                self.permits
            );
            effects.reply(id, KeyedAnswer::Refused(Refusal::Invalid(why)));
        } else {
            let entry = self.keys.entry(key.to_owned()).or_default();
            entry.line.push((id, permits));
            self.grant_waiters(key, effects);
        }
    }

    fn release(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, KeyedAnswer>) {
        let Some(key) = self.key_held_by(grant) else {
            effects.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of an ended hold"
            });
            return effects.reply(id, KeyedAnswer::Refused(Refusal::NotHeld));
        };
        effects.tally.note(if grant.session() == id.session() {
            "release"
        } else {
            "release by a session that does not hold"
        });
        effects.end(id, grant);
        effects.reply(id, KeyedAnswer::Done);
        self.end(&key, grant, effects);
    }

    /// Ends a hold without a mark.
    fn end(&mut self, key: &str, grant: CallId, effects: &mut Effects<'_, KeyedAnswer>) {
        let entry = self.keys.get_mut(key).expect("the key is held");
        entry.holds.retain(|hold| hold.id != grant);
        self.grant_waiters(key, effects);
    }

    fn adopt(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, KeyedAnswer>) {
        let Some(key) = self.key_held_by(grant) else {
            effects.tally.note("adoption of an ended hold");
            return effects.reply(id, KeyedAnswer::Refused(Refusal::NotHeld));
        };
        effects.tally.note("adoption");
        effects.revoked.push(grant);
        let entry = self.keys.get_mut(&key).expect("the key is held");
        let place = entry.holds.iter().position(|hold| hold.id == grant);
        // The adoption is a new grant, later than all others.
        let Hold { permits, .. } = entry.holds.remove(place.expect("the key is held"));
        let since = effects.now;
        entry.holds.push(Hold { id, permits, since });
        effects.reply(id, KeyedAnswer::Adopted(entry.left, key, permits));
    }

    fn force(&mut self, id: CallId, key: &str, effects: &mut Effects<'_, KeyedAnswer>) {
        if let Some(refusal) = refusal_of(key, effects) {
            return effects.reply(id, KeyedAnswer::Refused(refusal));
        }
        let entry = self.keys.get_mut(key);
        let holds = entry.map(|entry| std::mem::take(&mut entry.holds));
        let holds = holds.unwrap_or_default();
        effects.tally.note(if holds.is_empty() {
            "force_unlock of a free key"
        } else {
            "force_unlock"
        });
        effects.revoked.extend(holds.iter().map(|hold| hold.id));
        effects.reply(id, KeyedAnswer::WasHeld(!holds.is_empty()));
        self.grant_waiters(key, effects);
    }

    fn status(&self, key: &str) -> KeyStatus {
        let none = Key::default();
        let entry = self.keys.get(key).unwrap_or(&none);
        let mut status = KeyStatus::default();
        status.held = entry.held().into();
        status.available = (self.permits - entry.held()).into();
        status.waiting = number(entry.line.len());
        status.is_abandoned = entry.left.is_some();
        status
    }

    fn count(&self) -> KeyedStatus {
        let keys = || self.keys.values();
        let mut status = KeyedStatus::default();
        status.keys = number(keys().filter(|key| !key.holds.is_empty()).count());
        status.grants = number(keys().map(|key| key.holds.len()).sum());
        status.waiting = number(keys().map(|key| key.line.len()).sum());
        status.abandoned = number(keys().filter(|key| key.holds.is_empty()).count());
        status
    }
}

fn number(of: usize) -> u64 {
    u64::try_from(of).expect("short lists")
}

fn refusal_of(key: &str, effects: &mut Effects<'_, KeyedAnswer>) -> Option<Refusal> {
    if key.len() <= 255 {
        return None;
    }
    effects.tally.note("a key that is too long");
    let why = format!("a key has at most 255 bytes, not {}", key.len());
    Some(Refusal::Invalid(why))
}

impl<F: KeyedCalls> Reference for Keys<F> {
    type Kind = Keyed<F>;
    type Call = ModelCall;
    type Answer = KeyedAnswer;
    type Memory = Grants;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Keyed<F>>) {
        let permits = F::draw(schedule);
        let reference = Self {
            permits,
            keys: BTreeMap::new(),
            face: PhantomData,
        };
        (reference, F::fresh(permits))
    }

    fn draw(&self, schedule: &mut Schedule) -> ModelCall {
        if schedule.asks() {
            return ModelCall::Acquire(any_key(schedule), F::want(schedule));
        }
        let holds = self.keys.values().flat_map(|key| &key.holds);
        let holds: Vec<CallId> = holds.map(|hold| hold.id).collect();
        let grant = if !holds.is_empty() && schedule.random.random_bool(0.7) {
            holds[schedule.random.random_range(0..holds.len())]
        } else {
            schedule.any_call()
        };
        ModelCall::Keyed(KeyedCall::draw(grant, schedule))
    }

    fn send(
        bench: &mut Bench<Keyed<F>>,
        session: u64,
        call: &ModelCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match call {
            ModelCall::Acquire(key, permits) => F::put(bench, session, key, *permits, timeout),
            ModelCall::Keyed(call) => call.send(bench, session, timeout),
        }
    }

    fn read(
        bench: &Bench<Keyed<F>>,
        id: CallId,
        call: &ModelCall,
        grants: &mut Grants,
    ) -> Result<KeyedAnswer, Fault> {
        let mut note = |granted: Granted| grants.note(id, granted.fence, granted.abandoned);
        let call = match call {
            // Both kinds have the same answers.
            ModelCall::Acquire(..) => {
                let granted = |granted| KeyedAnswer::Granted(note(granted));
                return Ok(convert(answer::<_, AcquireKey>(bench, id)?, granted));
            }
            ModelCall::Keyed(call) => call,
        };
        Ok(match call {
            KeyedCall::Release(_) => {
                convert(answer::<_, Release>(bench, id)?, |()| KeyedAnswer::Done)
            }
            KeyedCall::MarkConsistent(_) => {
                convert(answer::<_, MarkConsistent>(bench, id)?, |()| {
                    KeyedAnswer::Done
                })
            }
            KeyedCall::Adopt(_) => convert(answer::<_, AdoptKey>(bench, id)?, |adopted| {
                let key = adopted.key.as_str().to_owned();
                KeyedAnswer::Adopted(note(adopted.granted), key, adopted.permits)
            }),
            KeyedCall::ForceUnlock(_) => convert(
                answer::<_, ForceUnlockKey>(bench, id)?,
                KeyedAnswer::WasHeld,
            ),
            KeyedCall::Status(_) => {
                convert(answer::<_, GetKeyStatus>(bench, id)?, KeyedAnswer::Status)
            }
            KeyedCall::Count => KeyedAnswer::Count(answer::<_, GetKeyedStatus>(bench, id)?),
            KeyedCall::List => {
                let keys = answer::<_, ListKeys>(bench, id)?.keys;
                let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                keys.sort();
                KeyedAnswer::Keys(keys)
            }
        })
    }

    fn serve(&mut self, id: CallId, call: &ModelCall, effects: &mut Effects<'_, KeyedAnswer>) {
        let call = match call {
            ModelCall::Acquire(key, permits) => return self.acquire(id, key, *permits, effects),
            ModelCall::Keyed(call) => call,
        };
        match call {
            KeyedCall::Release(grant) => self.release(id, *grant, effects),
            KeyedCall::Adopt(grant) => self.adopt(id, *grant, effects),
            KeyedCall::MarkConsistent(grant) => {
                let observed = match self.key_held_by(*grant) {
                    None => KeyedAnswer::Refused(Refusal::NotHeld),
                    Some(key) => {
                        let entry = self.keys.get_mut(&key).expect("the key is held");
                        if entry.left.take().is_some() {
                            effects.tally.note("mark removed");
                        }
                        KeyedAnswer::Done
                    }
                };
                effects.reply(id, observed);
            }
            KeyedCall::ForceUnlock(key) => self.force(id, key, effects),
            KeyedCall::Status(key) => {
                let refusal = refusal_of(key, effects).map(KeyedAnswer::Refused);
                let observed = refusal.unwrap_or_else(|| KeyedAnswer::Status(self.status(key)));
                effects.reply(id, observed);
            }
            KeyedCall::Count => effects.reply(id, KeyedAnswer::Count(self.count())),
            KeyedCall::List => {
                let held = self.keys.iter().filter(|(_, key)| !key.holds.is_empty());
                let keys = held.map(|(text, _)| text.clone()).collect();
                effects.reply(id, KeyedAnswer::Keys(keys));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, KeyedAnswer>) {
        if let Some(key) = self.key_waited_for_by(id) {
            let entry = self.keys.get_mut(&key).expect("a call waits for the key");
            entry.line.retain(|(waiter, _)| *waiter != id);
            effects.fail(id, fault);
            self.grant_waiters(&key, effects);
        } else if let Some(key) = self.key_held_by(id) {
            self.end(&key, id, effects);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, KeyedAnswer>) {
        // The order of the keys is not promised.
        effects.in_no_order();
        let is_theirs = |id: CallId| id.session().number() == session;
        let mut freed = 0;
        for key in self.keys.values_mut() {
            key.line.retain(|(waiter, _)| !is_theirs(*waiter));
            let held = key.holds.len();
            // The mark names the latest grant of the session.
            for hold in key.holds.iter().filter(|hold| is_theirs(hold.id)) {
                effects.tally.note("mark left");
                key.left = Some(Left {
                    grant: hold.id,
                    held: effects.now - hold.since,
                });
            }
            key.holds.retain(|hold| !is_theirs(hold.id));
            if key.holds.len() < held {
                freed += 1;
                if key.line.is_empty() {
                    effects.tally.note("mark left on a key without waiters");
                }
            }
        }
        if freed > 1 {
            effects.tally.note("a hang-up that frees several keys");
        }
        let keys: Vec<String> = self.keys.keys().cloned().collect();
        for key in keys {
            self.grant_waiters(&key, effects);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.key_waited_for_by(id).is_some()
    }

    fn holds(&self, id: CallId) -> bool {
        self.key_held_by(id).is_some()
    }
}
