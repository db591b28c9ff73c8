//! Compares the reentrant lock with a reference: the owner, its entries, and a list of waiters.
//!
//! The model uses only the lock's calls and answers. Some schedules begin with an owner that has
//! almost as many entries as the limit allows.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Fence, Refusal, SessionId,
    sync::{AcquireAs, AdoptAs, Granted, ReentrantLock, ReleaseBy},
};
use rand::{Rng, seq::IndexedRandom};

use crate::{
    models::{
        Effects, Reference, agree,
        answers::answer,
        grants::{Grants, Left},
        holder_calls::{self, HolderCall},
    },
    schedule::{Schedule, proof, put},
};

#[test]
fn reentrant_lock_agrees_with_its_reference() {
    agree::<EntryReference>(
        "reentrant_lock_agrees_with_its_reference",
        800,
        &[
            "entry again",
            "reentry before all waiters",
            "wait of another owner of the session",
            "wait of an owner with the same number in another session",
            "other call of the owner granted",
            "other call of the owner granted before an earlier waiter",
            "other call of the owner beyond the limit",
            "other call of the adopter granted",
            "entry beyond the limit",
            "release of an entry",
            "release of the first entry",
            "release of the last entry",
            "release by a session that does not hold",
            "release of a waiter",
            "release of an ended hold",
            "adoption by the same owner",
            "adoption by another owner of the session",
            "adoption by another session",
            "adoption of a hold of several entries",
            "adoption of an ended hold",
            "withdrawn entry of several",
            "withdrawn entry that was the last",
            "mark removed",
            "mark left",
            "mark left by several entries",
            "marked grant",
            "marked entry",
            "death of a waiter",
            "force_unlock",
            "force_unlock of several entries",
            "force_unlock of a free lock",
            "long line",
        ],
    );
}

/// The most entries of an owner.
const MOST: usize = 65_536;

type Owner = (SessionId, u64);

#[derive(Clone, Copy, Debug)]
enum EntryCall {
    Acquire(u64),
    Adopt(CallId, u64),
    Holder(HolderCall),
}

/// What the model compares of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entered {
    /// The first entry with the same fence.
    first: CallId,
    left: Option<Left>,
}

type LockAnswer = holder_calls::LockAnswer<Entered>;

/// The holds in the answers. All entries of a hold have the same fence.
#[derive(Default)]
struct Holds {
    grants: Grants,
    last: Option<(CallId, Fence)>,
}

impl Holds {
    fn note(&mut self, id: CallId, Granted { fence, abandoned }: Granted) -> Entered {
        let (first, left) = match self.last {
            Some((first, last)) if last == fence => (
                first,
                abandoned.map(|abandoned| self.grants.left(&abandoned)),
            ),
            Some(_) | None => {
                self.last = Some((id, fence));
                (id, self.grants.note(id, fence, abandoned))
            }
        };
        Entered { first, left }
    }
}

struct Inside {
    owner: Owner,
    entries: Vec<CallId>,
    first: CallId,
    since: Duration,
}

/// An owner that holds the lock enters again at once. Otherwise the first waiter's owner gets the
/// lock once it is free, with all of its waiting calls.
#[derive(Default)]
struct EntryReference {
    inside: Option<Inside>,
    line: Vec<(CallId, Owner)>,
    left: Option<Left>,
    /// The number of calls of one owner that wait, when the schedule begins, for a holder that
    /// releases.
    crowd: usize,
}

impl EntryReference {
    fn is_inside(&self, owner: Owner) -> bool {
        let inside = self.inside.as_ref();
        inside.is_some_and(|inside| inside.owner == owner)
    }

    fn depth(&self) -> usize {
        let inside = self.inside.as_ref();
        inside.map_or(0, |inside| inside.entries.len())
    }

    fn acquire(&mut self, id: CallId, owner: Owner, effects: &mut Effects<'_, LockAnswer>) {
        if self.is_inside(owner) {
            effects.tally.note(if self.line.is_empty() {
                "entry again"
            } else {
                "reentry before all waiters"
            });
            self.enter(id, "entry beyond the limit", effects);
            return;
        }
        if let Some(Inside { owner: other, .. }) = self.inside {
            if other.0 == owner.0 {
                effects.tally.note("wait of another owner of the session");
            } else if other.1 == owner.1 {
                effects
                    .tally
                    .note("wait of an owner with the same number in another session");
            }
        }
        self.line.push((id, owner));
        if self.line.len() > 64 {
            effects.tally.note("long line");
        }
        self.grant_waiters(effects);
    }

    fn grant_waiters(&mut self, effects: &mut Effects<'_, LockAnswer>) {
        if self.inside.is_none() && !self.line.is_empty() {
            let (next, owner) = self.line.remove(0);
            self.hold(next, owner, "other call of the owner granted", effects);
        }
    }

    /// Grants the lock to an owner, with this call and all of its waiting calls.
    fn hold(
        &mut self,
        id: CallId,
        owner: Owner,
        companion: &'static str,
        effects: &mut Effects<'_, LockAnswer>,
    ) {
        self.inside = Some(Inside {
            owner,
            entries: Vec::new(),
            first: id,
            since: effects.now,
        });
        if self.left.is_some() {
            effects.tally.note("marked grant");
        }
        self.enter(id, "a first entry beyond the limit", effects);
        let (theirs, others) = std::mem::take(&mut self.line)
            .into_iter()
            .partition(|(_, other)| *other == owner);
        self.line = others;
        for (waiter, _) in theirs {
            effects.tally.note(companion);
            if self
                .line
                .iter()
                .any(|(other, _)| other.seq() < waiter.seq())
            {
                effects
                    .tally
                    .note("other call of the owner granted before an earlier waiter");
            }
            self.enter(waiter, "other call of the owner beyond the limit", effects);
        }
    }

    fn enter(&mut self, id: CallId, too_deep: &'static str, effects: &mut Effects<'_, LockAnswer>) {
        let inside = self.inside.as_mut().expect("an owner holds the lock");
        if inside.entries.len() == MOST {
            effects.tally.note(too_deep);
            effects.reply(id, LockAnswer::Refused(Refusal::TooDeep { most: 65_536 }));
            return;
        }
        if self.left.is_some() && !inside.entries.is_empty() {
            effects.tally.note("marked entry");
        }
        inside.entries.push(id);
        let (first, left) = (inside.first, self.left);
        effects.reply(id, LockAnswer::Granted(Entered { first, left }));
    }

    /// Removes one entry.
    fn leave(&mut self, entry: CallId, effects: &mut Effects<'_, LockAnswer>) {
        let inside = self.inside.as_mut().expect("an owner holds the lock");
        inside.entries.retain(|inside| *inside != entry);
        if inside.entries.is_empty() {
            self.inside = None;
            self.grant_waiters(effects);
        }
    }

    fn release(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, LockAnswer>) {
        if !self.holds(grant) {
            effects.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of an ended hold"
            });
            effects.reply(id, LockAnswer::Refused(Refusal::NotHeld));
            return;
        }
        let is_first = self.inside.as_ref().map(|inside| inside.first) == Some(grant);
        effects.tally.note(if self.depth() == 1 {
            "release of the last entry"
        } else if is_first {
            "release of the first entry"
        } else {
            "release of an entry"
        });
        if grant.session() != id.session() {
            effects
                .tally
                .note("release by a session that does not hold");
        }
        effects.end(id, grant);
        effects.reply(id, LockAnswer::Done);
        self.leave(grant, effects);
    }

    fn adopt(
        &mut self,
        id: CallId,
        grant: CallId,
        adopter: Owner,
        effects: &mut Effects<'_, LockAnswer>,
    ) {
        let refusal = match &self.inside {
            Some(inside) if inside.entries == [grant] => {
                effects.tally.note(if inside.owner == adopter {
                    "adoption by the same owner"
                } else if inside.owner.0 == adopter.0 {
                    "adoption by another owner of the session"
                } else {
                    "adoption by another session"
                });
                effects.revoked.push(grant);
                self.hold(id, adopter, "other call of the adopter granted", effects);
                return;
            }
            Some(inside) if inside.entries.contains(&grant) => {
                effects.tally.note("adoption of a hold of several entries");
                let entries = u64::try_from(inside.entries.len()).expect("the list is short");
                Refusal::StillInside { entries }
            }
            Some(_) | None => {
                effects.tally.note("adoption of an ended hold");
                Refusal::NotHeld
            }
        };
        effects.reply(id, LockAnswer::Refused(refusal));
    }

    fn force_unlock(&mut self, id: CallId, effects: &mut Effects<'_, LockAnswer>) {
        effects.tally.note(match self.depth() {
            0 => "force_unlock of a free lock",
            1 => "force_unlock",
            _ => "force_unlock of several entries",
        });
        let inside = self.inside.take();
        effects.reply(id, LockAnswer::WasHeld(inside.is_some()));
        effects
            .revoked
            .extend(inside.into_iter().flat_map(|inside| inside.entries));
        self.grant_waiters(effects);
    }
}

impl Reference for EntryReference {
    type Kind = ReentrantLock;
    type Call = EntryCall;
    type Answer = LockAnswer;
    type Memory = Holds;

    fn make(schedule: &mut Schedule) -> (Self, Bench<ReentrantLock>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.0015) {
            reference.crowd = schedule.random.random_range(MOST + 1..=MOST + 3);
        }
        let bench = Bench::new(ReleaseBy::Holder).expect("every spec is valid");
        (reference, bench)
    }

    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, EntryCall)> {
        if self.crowd == 0 {
            return Vec::new();
        }
        let [holder, waiter] = [(); 2].map(|()| schedule.join());
        // The bench numbers calls from 1.
        let first = CallId::new(SessionId::new(holder), 1);
        let mut calls = vec![(holder, EntryCall::Acquire(1))];
        calls.extend((0..self.crowd).map(|_| (waiter, EntryCall::Acquire(1))));
        calls.push((holder, EntryCall::Holder(HolderCall::Release(first))));
        calls.extend([(waiter, EntryCall::Acquire(1)); 3]);
        calls
    }

    fn draw(&self, schedule: &mut Schedule) -> EntryCall {
        let owner = if schedule.random.random_bool(0.7) {
            1
        } else {
            2
        };
        if schedule.asks() {
            return EntryCall::Acquire(owner);
        }
        let grant = match &self.inside {
            Some(inside) if schedule.random.random_bool(0.8) => {
                let entry = inside.entries.choose(&mut schedule.random);
                *entry.expect("the owner has an entry")
            }
            Some(_) | None => schedule.any_call(),
        };
        if schedule.random.random_bool(0.2) {
            return EntryCall::Adopt(grant, owner);
        }
        EntryCall::Holder(HolderCall::draw(grant, schedule))
    }

    fn send(
        bench: &mut Bench<ReentrantLock>,
        session: u64,
        call: &EntryCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            EntryCall::Acquire(owner) => put(bench, session, AcquireAs { owner }, timeout),
            EntryCall::Adopt(grant, owner) => put(
                bench,
                session,
                AdoptAs {
                    grant: proof(session, grant),
                    owner,
                },
                timeout,
            ),
            EntryCall::Holder(call) => call.send(bench, session, timeout),
        }
    }

    fn read(
        bench: &Bench<ReentrantLock>,
        id: CallId,
        call: &EntryCall,
        holds: &mut Holds,
    ) -> Result<LockAnswer, Fault> {
        let granted = |observed| LockAnswer::granted(observed, |granted| holds.note(id, granted));
        match call {
            EntryCall::Acquire(_) => answer::<_, AcquireAs>(bench, id).map(granted),
            EntryCall::Adopt(..) => answer::<_, AdoptAs>(bench, id).map(granted),
            EntryCall::Holder(call) => call.read(bench, id),
        }
    }

    fn serve(&mut self, id: CallId, call: &EntryCall, effects: &mut Effects<'_, LockAnswer>) {
        match *call {
            EntryCall::Acquire(owner) => self.acquire(id, (id.session(), owner), effects),
            EntryCall::Adopt(grant, owner) => self.adopt(id, grant, (id.session(), owner), effects),
            EntryCall::Holder(HolderCall::Release(grant)) => self.release(id, grant, effects),
            EntryCall::Holder(HolderCall::MarkConsistent(grant)) => {
                if self.holds(grant) {
                    if self.left.take().is_some() {
                        effects.tally.note("mark removed");
                    }
                    effects.reply(id, LockAnswer::Done);
                } else {
                    effects.reply(id, LockAnswer::Refused(Refusal::NotHeld));
                }
            }
            EntryCall::Holder(HolderCall::ForceUnlock) => self.force_unlock(id, effects),
            EntryCall::Holder(HolderCall::Status) => {
                effects.reply(id, LockAnswer::status(self.depth(), self.line.len()));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, LockAnswer>) {
        if self.waits(id) {
            self.line.retain(|(waiter, _)| *waiter != id);
            effects.fail(id, fault);
        } else if self.holds(id) {
            effects.tally.note(if self.depth() == 1 {
                "withdrawn entry that was the last"
            } else {
                "withdrawn entry of several"
            });
            self.leave(id, effects);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, LockAnswer>) {
        let waited = self.line.len();
        self.line
            .retain(|(waiter, _)| waiter.session().number() != session);
        let is_theirs = |inside: &mut Inside| inside.owner.0.number() == session;
        if let Some(inside) = self.inside.take_if(is_theirs) {
            effects.tally.note(match inside.entries.len() {
                1 => "mark left",
                _ => "mark left by several entries",
            });
            self.left = Some(Left {
                grant: inside.first,
                held: effects.now - inside.since,
            });
            self.grant_waiters(effects);
        } else if self.line.len() < waited {
            effects.tally.note("death of a waiter");
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.line.iter().any(|(waiter, _)| *waiter == id)
    }

    fn holds(&self, id: CallId) -> bool {
        let inside = self.inside.as_ref();
        inside.is_some_and(|inside| inside.entries.contains(&id))
    }
}
