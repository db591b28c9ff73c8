//! The reentrant lock against a reference: the owner inside, its entries, and a list.
//!
//! The model knows the lock only through its calls and their answers. Some schedules begin with an
//! owner that is inside nearly as often as the limit allows.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Fence, Refusal, SessionId,
    sync::{AcquireAs, AdoptAs, Granted, ReentrantLock, ReleaseBy},
};
use rand::{Rng, seq::IndexedRandom};

use crate::{
    models::{
        Reference, Said, agree,
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
            "entry again before all who wait",
            "wait of another owner of the session",
            "wait of an owner of the same number",
            "companion let in",
            "companion let in before one who came earlier",
            "companion that waits too deep",
            "companion of an heir let in",
            "entry too deep",
            "release of an entry",
            "release of the first entry",
            "release of the last entry",
            "release by a session that does not hold",
            "release of a waiter",
            "release of what is over",
            "adoption by the same owner",
            "adoption by another owner of the session",
            "adoption by another session",
            "adoption of what is entered again",
            "adoption of what is not held",
            "withdrawn entry of several",
            "withdrawn entry that was the last",
            "mark taken away",
            "mark left",
            "mark left by several entries",
            "marked grant",
            "marked entry",
            "death of who only waits",
            "force_unlock",
            "force_unlock of several entries",
            "force_unlock of a free lock",
            "long line",
        ],
    );
}

/// How often an owner may be inside.
const MOST: usize = 65_536;

type Owner = (SessionId, u64);

#[derive(Clone, Copy, Debug)]
enum EntryCall {
    Acquire(u64),
    Adopt(CallId, u64),
    Holder(HolderCall),
}

/// What is known of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entered {
    /// The first entry with the same fence.
    first: CallId,
    left: Option<Left>,
}

type LockTold = holder_calls::LockTold<Entered>;

/// The holds that callers were told of: all entries of one have its fence.
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

/// An owner that is inside enters again. Otherwise the first in the line is let in once nobody is
/// inside, by all its calls that wait.
#[derive(Default)]
struct EntryReference {
    inside: Option<Inside>,
    line: Vec<(CallId, Owner)>,
    left: Option<Left>,
    /// How many calls of one owner wait when the schedule begins, behind a holder that releases.
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

    fn acquire(&mut self, id: CallId, owner: Owner, said: &mut Said<'_, LockTold>) {
        if self.is_inside(owner) {
            said.tally.note(if self.line.is_empty() {
                "entry again"
            } else {
                "entry again before all who wait"
            });
            self.enter(id, "entry too deep", said);
            return;
        }
        if let Some(Inside { owner: other, .. }) = self.inside {
            if other.0 == owner.0 {
                said.tally.note("wait of another owner of the session");
            } else if other.1 == owner.1 {
                said.tally.note("wait of an owner of the same number");
            }
        }
        self.line.push((id, owner));
        if self.line.len() > 64 {
            said.tally.note("long line");
        }
        self.let_in(said);
    }

    fn let_in(&mut self, said: &mut Said<'_, LockTold>) {
        if self.inside.is_none() && !self.line.is_empty() {
            let (next, owner) = self.line.remove(0);
            self.hold(next, owner, "companion let in", said);
        }
    }

    /// Lets an owner in, by this call and all those by which it waits.
    fn hold(
        &mut self,
        id: CallId,
        owner: Owner,
        companion: &'static str,
        said: &mut Said<'_, LockTold>,
    ) {
        self.inside = Some(Inside {
            owner,
            entries: Vec::new(),
            first: id,
            since: said.now,
        });
        if self.left.is_some() {
            said.tally.note("marked grant");
        }
        self.enter(id, "a first entry too deep", said);
        let (theirs, others) = std::mem::take(&mut self.line)
            .into_iter()
            .partition(|(_, other)| *other == owner);
        self.line = others;
        for (waiter, _) in theirs {
            said.tally.note(companion);
            if self
                .line
                .iter()
                .any(|(other, _)| other.seq() < waiter.seq())
            {
                said.tally
                    .note("companion let in before one who came earlier");
            }
            self.enter(waiter, "companion that waits too deep", said);
        }
    }

    fn enter(&mut self, id: CallId, too_deep: &'static str, said: &mut Said<'_, LockTold>) {
        let inside = self.inside.as_mut().expect("an owner that is inside");
        if inside.entries.len() == MOST {
            said.tally.note(too_deep);
            said.reply(id, LockTold::Refused(Refusal::TooDeep { most: 65_536 }));
            return;
        }
        if self.left.is_some() && !inside.entries.is_empty() {
            said.tally.note("marked entry");
        }
        inside.entries.push(id);
        let (first, left) = (inside.first, self.left);
        said.reply(id, LockTold::Granted(Entered { first, left }));
    }

    /// Takes out one entry of those inside.
    fn leave(&mut self, entry: CallId, said: &mut Said<'_, LockTold>) {
        let inside = self.inside.as_mut().expect("an owner that is inside");
        inside.entries.retain(|inside| *inside != entry);
        if inside.entries.is_empty() {
            self.inside = None;
            self.let_in(said);
        }
    }

    fn release(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, LockTold>) {
        if !self.holds(grant) {
            said.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of what is over"
            });
            said.reply(id, LockTold::Refused(Refusal::NotHeld));
            return;
        }
        let is_first = self.inside.as_ref().map(|inside| inside.first) == Some(grant);
        said.tally.note(if self.depth() == 1 {
            "release of the last entry"
        } else if is_first {
            "release of the first entry"
        } else {
            "release of an entry"
        });
        if grant.session() != id.session() {
            said.tally.note("release by a session that does not hold");
        }
        said.end(id, grant);
        said.reply(id, LockTold::Done);
        self.leave(grant, said);
    }

    fn adopt(&mut self, id: CallId, grant: CallId, heir: Owner, said: &mut Said<'_, LockTold>) {
        let refusal = match &self.inside {
            Some(inside) if inside.entries == [grant] => {
                said.tally.note(if inside.owner == heir {
                    "adoption by the same owner"
                } else if inside.owner.0 == heir.0 {
                    "adoption by another owner of the session"
                } else {
                    "adoption by another session"
                });
                said.revoked.push(grant);
                self.hold(id, heir, "companion of an heir let in", said);
                return;
            }
            Some(inside) if inside.entries.contains(&grant) => {
                said.tally.note("adoption of what is entered again");
                let entries = u64::try_from(inside.entries.len()).expect("a short list");
                Refusal::StillInside { entries }
            }
            Some(_) | None => {
                said.tally.note("adoption of what is not held");
                Refusal::NotHeld
            }
        };
        said.reply(id, LockTold::Refused(refusal));
    }

    fn force_unlock(&mut self, id: CallId, said: &mut Said<'_, LockTold>) {
        said.tally.note(match self.depth() {
            0 => "force_unlock of a free lock",
            1 => "force_unlock",
            _ => "force_unlock of several entries",
        });
        let inside = self.inside.take();
        said.reply(id, LockTold::WasHeld(inside.is_some()));
        said.revoked
            .extend(inside.into_iter().flat_map(|inside| inside.entries));
        self.let_in(said);
    }
}

impl Reference for EntryReference {
    type Kind = ReentrantLock;
    type Call = EntryCall;
    type Told = LockTold;
    type Memory = Holds;

    fn make(schedule: &mut Schedule) -> (Self, Bench<ReentrantLock>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.0015) {
            reference.crowd = schedule.random.random_range(MOST + 1..=MOST + 3);
        }
        let bench = Bench::new(ReleaseBy::Holder).expect("a lock needs nothing");
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
                *entry.expect("who is inside has entered")
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
    ) -> Result<LockTold, Fault> {
        let granted = |told| LockTold::granted(told, |granted| holds.note(id, granted));
        match call {
            EntryCall::Acquire(_) => answer::<_, AcquireAs>(bench, id).map(granted),
            EntryCall::Adopt(..) => answer::<_, AdoptAs>(bench, id).map(granted),
            EntryCall::Holder(call) => call.read(bench, id),
        }
    }

    fn serve(&mut self, id: CallId, call: &EntryCall, said: &mut Said<'_, LockTold>) {
        match *call {
            EntryCall::Acquire(owner) => self.acquire(id, (id.session(), owner), said),
            EntryCall::Adopt(grant, owner) => self.adopt(id, grant, (id.session(), owner), said),
            EntryCall::Holder(HolderCall::Release(grant)) => self.release(id, grant, said),
            EntryCall::Holder(HolderCall::MarkConsistent(grant)) => {
                if self.holds(grant) {
                    if self.left.take().is_some() {
                        said.tally.note("mark taken away");
                    }
                    said.reply(id, LockTold::Done);
                } else {
                    said.reply(id, LockTold::Refused(Refusal::NotHeld));
                }
            }
            EntryCall::Holder(HolderCall::ForceUnlock) => self.force_unlock(id, said),
            EntryCall::Holder(HolderCall::Status) => {
                said.reply(id, LockTold::status(self.depth(), self.line.len()));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, LockTold>) {
        if self.waits(id) {
            self.line.retain(|(waiter, _)| *waiter != id);
            said.fail(id, fault);
        } else if self.holds(id) {
            said.tally.note(if self.depth() == 1 {
                "withdrawn entry that was the last"
            } else {
                "withdrawn entry of several"
            });
            self.leave(id, said);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, LockTold>) {
        let waited = self.line.len();
        self.line
            .retain(|(waiter, _)| waiter.session().number() != session);
        let is_theirs = |inside: &mut Inside| inside.owner.0.number() == session;
        if let Some(inside) = self.inside.take_if(is_theirs) {
            said.tally.note(match inside.entries.len() {
                1 => "mark left",
                _ => "mark left by several entries",
            });
            self.left = Some(Left {
                grant: inside.first,
                held: said.now - inside.since,
            });
            self.let_in(said);
        } else if self.line.len() < waited {
            said.tally.note("death of who only waits");
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
