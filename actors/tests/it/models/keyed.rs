//! Keyed locks and keyed semaphores against a reference: for each key a number and two lists.
//!
//! The model knows them only through their calls and their answers.

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        AcquireKey, AdoptKey, CountKey, CountKeys, ForceUnlockKey, Granted, KeyStatus, Keyed,
        KeyedStatus, ListKeys, MarkConsistent, OneAKey, Release, SeveralAKey,
    },
};
use rand::Rng;

use crate::{
    keyed_calls::{KeyedCall, KeyedFace, any_key},
    models::{
        Reference, Said, agree,
        answers::answer,
        grants::{Grants, Left},
    },
    schedule::Schedule,
};

/// What both kinds must have met.
const BOTH: [&str; 16] = [
    "release",
    "release by a session that does not hold",
    "release of a waiter",
    "release of what is over",
    "adoption",
    "adoption of what is not held",
    "mark left",
    "mark left with a key that nobody waits for",
    "marked grant",
    "mark taken away",
    "force_unlock",
    "force_unlock of a free key",
    "a key that is too long",
    "a key that is forgotten",
    "several keys held at once",
    "a hang-up that frees several keys",
];

#[test]
fn keyed_lock_agrees_with_its_reference() {
    agree::<Keys<OneAKey>>("keyed_lock_agrees_with_its_reference", 800, &BOTH);
}

#[test]
fn keyed_semaphore_agrees_with_its_reference() {
    let own = [
        "more than the number",
        "none at all",
        "several granted at once",
        "a waiter behind a bigger one",
    ];
    let must_occur = [&BOTH[..], &own].concat();
    agree::<Keys<SeveralAKey>>(
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
enum KeyedTold {
    Granted(Option<Left>),
    Adopted(Option<Left>, String, u32),
    Done,
    Refused(Refusal),
    WasHeld(bool),
    Status(KeyStatus),
    Count(KeyedStatus),
    /// In order.
    Keys(Vec<String>),
}

/// An outcome, or why there is none.
fn told<T>(answer: Result<T, Refusal>, done: impl FnOnce(T) -> KeyedTold) -> KeyedTold {
    answer.map_or_else(KeyedTold::Refused, done)
}

struct Hold {
    id: CallId,
    permits: u32,
    since: Duration,
}

/// The first in a key's line gets its permits once enough are free.
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
    /// How many permits each key has.
    permits: u32,
    keys: BTreeMap<String, Key>,
    face: PhantomData<F>,
}

impl<F: KeyedFace> Keys<F> {
    fn let_in(&mut self, key: &str, said: &mut Said<'_, KeyedTold>) {
        let (most, now) = (self.permits, said.now);
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
                said.tally.note("marked grant");
            }
            said.reply(id, KeyedTold::Granted(entry.left));
        }
        if granted > 1 {
            said.tally.note("several granted at once");
        }
        let free = most - entry.held();
        if entry.line.iter().any(|(_, permits)| *permits <= free) {
            said.tally.note("a waiter behind a bigger one");
        }
        if entry.holds.is_empty() && entry.left.is_none() {
            said.tally.note("a key that is forgotten");
            self.keys.remove(key);
        }
        if self
            .keys
            .values()
            .filter(|key| !key.holds.is_empty())
            .count()
            > 1
        {
            said.tally.note("several keys held at once");
        }
    }

    /// The key that a call holds.
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

    fn acquire(&mut self, id: CallId, key: &str, permits: u32, said: &mut Said<'_, KeyedTold>) {
        if let Some(refusal) = refusal_of(key, said) {
            said.reply(id, KeyedTold::Refused(refusal));
        } else if permits > self.permits {
            said.tally.note("more than the number");
            let (asked, most) = (permits.into(), self.permits.into());
            said.reply(id, KeyedTold::Refused(Refusal::TooMany { asked, most }));
        } else if permits == 0 {
            said.tally.note("none at all");
            let why = format!(
                "a grant is of 1 to {} permits of a key, not 0",
                self.permits
            );
            said.reply(id, KeyedTold::Refused(Refusal::Invalid(why)));
        } else {
            let entry = self.keys.entry(key.to_owned()).or_default();
            entry.line.push((id, permits));
            self.let_in(key, said);
        }
    }

    fn release(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, KeyedTold>) {
        let Some(key) = self.key_held_by(grant) else {
            said.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of what is over"
            });
            return said.reply(id, KeyedTold::Refused(Refusal::NotHeld));
        };
        said.tally.note(if grant.session() == id.session() {
            "release"
        } else {
            "release by a session that does not hold"
        });
        said.end(id, grant);
        said.reply(id, KeyedTold::Done);
        self.end(&key, grant, said);
    }

    /// Ends a hold, without a mark.
    fn end(&mut self, key: &str, grant: CallId, said: &mut Said<'_, KeyedTold>) {
        let entry = self.keys.get_mut(key).expect("it is held");
        entry.holds.retain(|hold| hold.id != grant);
        self.let_in(key, said);
    }

    fn adopt(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, KeyedTold>) {
        let Some(key) = self.key_held_by(grant) else {
            said.tally.note("adoption of what is not held");
            return said.reply(id, KeyedTold::Refused(Refusal::NotHeld));
        };
        said.tally.note("adoption");
        said.revoked.push(grant);
        let entry = self.keys.get_mut(&key).expect("it is held");
        let place = entry.holds.iter().position(|hold| hold.id == grant);
        // It is a grant of its own, later than all others.
        let Hold { permits, .. } = entry.holds.remove(place.expect("it is held"));
        let since = said.now;
        entry.holds.push(Hold { id, permits, since });
        said.reply(id, KeyedTold::Adopted(entry.left, key, permits));
    }

    fn force(&mut self, id: CallId, key: &str, said: &mut Said<'_, KeyedTold>) {
        if let Some(refusal) = refusal_of(key, said) {
            return said.reply(id, KeyedTold::Refused(refusal));
        }
        let entry = self.keys.get_mut(key);
        let holds = entry.map(|entry| std::mem::take(&mut entry.holds));
        let holds = holds.unwrap_or_default();
        said.tally.note(if holds.is_empty() {
            "force_unlock of a free key"
        } else {
            "force_unlock"
        });
        said.revoked.extend(holds.iter().map(|hold| hold.id));
        said.reply(id, KeyedTold::WasHeld(!holds.is_empty()));
        self.let_in(key, said);
    }

    fn status(&self, key: &str) -> KeyStatus {
        let none = Key::default();
        let entry = self.keys.get(key).unwrap_or(&none);
        let mut status = KeyStatus::default();
        status.held = entry.held().into();
        status.available = (self.permits - entry.held()).into();
        status.waiting = number(entry.line.len());
        status.abandoned = entry.left.is_some();
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

fn refusal_of(key: &str, said: &mut Said<'_, KeyedTold>) -> Option<Refusal> {
    if key.len() <= 255 {
        return None;
    }
    said.tally.note("a key that is too long");
    let why = format!("a key has at most 255 bytes, not {}", key.len());
    Some(Refusal::Invalid(why))
}

impl<F: KeyedFace> Reference for Keys<F> {
    type Kind = Keyed<F>;
    type Call = ModelCall;
    type Told = KeyedTold;
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
    ) -> Result<KeyedTold, Fault> {
        let mut note = |granted: Granted| grants.note(id, granted.fence, granted.abandoned);
        let call = match call {
            // Both kinds are answered alike.
            ModelCall::Acquire(..) => {
                let granted = |granted| KeyedTold::Granted(note(granted));
                return Ok(told(answer::<_, AcquireKey>(bench, id)?, granted));
            }
            ModelCall::Keyed(call) => call,
        };
        Ok(match call {
            KeyedCall::Release(_) => told(answer::<_, Release>(bench, id)?, |()| KeyedTold::Done),
            KeyedCall::MarkConsistent(_) => told(answer::<_, MarkConsistent>(bench, id)?, |()| {
                KeyedTold::Done
            }),
            KeyedCall::Adopt(_) => told(answer::<_, AdoptKey>(bench, id)?, |adopted| {
                let key = adopted.key.as_str().to_owned();
                KeyedTold::Adopted(note(adopted.granted), key, adopted.permits)
            }),
            KeyedCall::ForceUnlock(_) => {
                told(answer::<_, ForceUnlockKey>(bench, id)?, KeyedTold::WasHeld)
            }
            KeyedCall::Status(_) => told(answer::<_, CountKey>(bench, id)?, KeyedTold::Status),
            KeyedCall::Count => KeyedTold::Count(answer::<_, CountKeys>(bench, id)?),
            KeyedCall::List => {
                let keys = answer::<_, ListKeys>(bench, id)?.keys;
                let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                keys.sort();
                KeyedTold::Keys(keys)
            }
        })
    }

    fn serve(&mut self, id: CallId, call: &ModelCall, said: &mut Said<'_, KeyedTold>) {
        let call = match call {
            ModelCall::Acquire(key, permits) => return self.acquire(id, key, *permits, said),
            ModelCall::Keyed(call) => call,
        };
        match call {
            KeyedCall::Release(grant) => self.release(id, *grant, said),
            KeyedCall::Adopt(grant) => self.adopt(id, *grant, said),
            KeyedCall::MarkConsistent(grant) => {
                let told = match self.key_held_by(*grant) {
                    None => KeyedTold::Refused(Refusal::NotHeld),
                    Some(key) => {
                        let entry = self.keys.get_mut(&key).expect("it is held");
                        if entry.left.take().is_some() {
                            said.tally.note("mark taken away");
                        }
                        KeyedTold::Done
                    }
                };
                said.reply(id, told);
            }
            KeyedCall::ForceUnlock(key) => self.force(id, key, said),
            KeyedCall::Status(key) => {
                let refusal = refusal_of(key, said).map(KeyedTold::Refused);
                let told = refusal.unwrap_or_else(|| KeyedTold::Status(self.status(key)));
                said.reply(id, told);
            }
            KeyedCall::Count => said.reply(id, KeyedTold::Count(self.count())),
            KeyedCall::List => {
                let held = self.keys.iter().filter(|(_, key)| !key.holds.is_empty());
                let keys = held.map(|(text, _)| text.clone()).collect();
                said.reply(id, KeyedTold::Keys(keys));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, KeyedTold>) {
        if let Some(key) = self.key_waited_for_by(id) {
            let entry = self.keys.get_mut(&key).expect("somebody waits for it");
            entry.line.retain(|(waiter, _)| *waiter != id);
            said.fail(id, fault);
            self.let_in(&key, said);
        } else if let Some(key) = self.key_held_by(id) {
            self.end(&key, id, said);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, KeyedTold>) {
        // No promise says which key is passed on first.
        said.in_no_order();
        let is_theirs = |id: CallId| id.session().number() == session;
        let mut freed = 0;
        for key in self.keys.values_mut() {
            key.line.retain(|(waiter, _)| !is_theirs(*waiter));
            let held = key.holds.len();
            // The mark is that of the latest of its grants.
            for hold in key.holds.iter().filter(|hold| is_theirs(hold.id)) {
                said.tally.note("mark left");
                key.left = Some(Left {
                    grant: hold.id,
                    held: said.now - hold.since,
                });
            }
            key.holds.retain(|hold| !is_theirs(hold.id));
            if key.holds.len() < held {
                freed += 1;
                if key.line.is_empty() {
                    said.tally
                        .note("mark left with a key that nobody waits for");
                }
            }
        }
        if freed > 1 {
            said.tally.note("a hang-up that frees several keys");
        }
        let keys: Vec<String> = self.keys.keys().cloned().collect();
        for key in keys {
            self.let_in(&key, said);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.key_waited_for_by(id).is_some()
    }

    fn holds(&self, id: CallId) -> bool {
        self.key_held_by(id).is_some()
    }
}
