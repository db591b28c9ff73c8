//! Both semaphores against a reference: two numbers and two lists.
//!
//! The model knows them only through their calls and their answers.

use std::{marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        AcquireMany, AddPermits, Bound, Bounded, Close, Count, Counting, Forget, Granted,
        MarkConsistent, ReleaseBy, ReleasePermits, SemaphoreSpec, SemaphoreStatus, Unbounded,
    },
};
use rand::Rng;

use crate::{
    models::{
        Reference, Said, agree,
        grants::{Grants, Left},
    },
    schedule::{Schedule, proof, put},
};

/// What both semaphores must have met.
const BOTH: [&str; 12] = [
    "release of all",
    "release of some",
    "release by a session that does not hold",
    "release of more than is held",
    "release of a waiter",
    "release of what is over",
    "forgotten permits",
    "mark left",
    "marked grant",
    "close",
    "a waiter behind a bigger one",
    "several granted at once",
];

#[test]
fn semaphore_agrees_with_its_reference() {
    let must_occur = [&BOTH[..], &["added permits", "too many added", "long line"]].concat();
    agree::<Permits<Unbounded>>("semaphore_agrees_with_its_reference", 600, &must_occur);
}

#[test]
fn bounded_semaphore_agrees_with_its_reference() {
    let own = ["added permits", "too many added", "more than the bound"];
    let must_occur = [&BOTH[..], &own].concat();
    agree::<Permits<Bounded>>(
        "bounded_semaphore_agrees_with_its_reference",
        600,
        &must_occur,
    );
}

#[derive(Clone, Copy, Debug)]
enum PermitCall {
    Acquire(u32),
    Release(CallId, u32),
    Forget(CallId, u32),
    Add(u32),
    MarkConsistent(CallId),
    Close,
    Count,
}

#[derive(Debug, PartialEq)]
enum PermitTold {
    Granted(Option<Left>),
    Done,
    Refused(Refusal),
    Count(SemaphoreStatus),
}

/// What the two kinds promise differently.
trait Face: Bound {
    /// The most permits that there may ever be.
    fn bound(first: u64) -> u64;
}

impl Face for Unbounded {
    fn bound(_: u64) -> u64 {
        4_294_967_295
    }
}

impl Face for Bounded {
    fn bound(first: u64) -> u64 {
        first
    }
}

struct Hold {
    id: CallId,
    permits: u64,
    since: Duration,
}

/// The first in the line gets its permits once enough are free.
struct Permits<B> {
    free: u64,
    bound: u64,
    /// In the order of their grants.
    holds: Vec<Hold>,
    line: Vec<(CallId, u64)>,
    left: Option<Left>,
    closed: bool,
    face: PhantomData<B>,
}

impl<B> Permits<B> {
    fn held(&self) -> u64 {
        self.holds.iter().map(|hold| hold.permits).sum()
    }

    fn let_in(&mut self, said: &mut Said<'_, PermitTold>) {
        let mut granted = 0;
        while !self.line.is_empty() && self.line[0].1 <= self.free {
            let (id, permits) = self.line.remove(0);
            self.free -= permits;
            // A grant of no permits holds nothing.
            if permits > 0 {
                let since = said.now;
                self.holds.push(Hold { id, permits, since });
            }
            granted += 1;
            if self.left.is_some() {
                said.tally.note("marked grant");
            }
            said.reply(id, PermitTold::Granted(self.left));
        }
        if granted > 1 {
            said.tally.note("several granted at once");
        }
        if self.line.iter().any(|(_, permits)| *permits <= self.free) {
            said.tally.note("a waiter behind a bigger one");
        }
        if self.line.len() > 64 {
            said.tally.note("long line");
        }
    }

    /// Takes permits out of a grant, if it has as many.
    fn take(
        &mut self,
        by: CallId,
        grant: CallId,
        permits: u64,
        said: &mut Said<'_, PermitTold>,
    ) -> Result<(), Refusal> {
        let found = self.holds.iter_mut().find(|hold| hold.id == grant);
        let hold = found.ok_or(Refusal::NotHeld)?;
        let all = hold.permits;
        if permits > all {
            return Err(Refusal::NotHeld);
        }
        if permits < all && by.session() != grant.session() {
            said.tally.note("a part of another session's grant");
            return Err(Refusal::Invalid(format!(
                "another session takes all {all} permits of a grant, not {permits}"
            )));
        }
        hold.permits -= permits;
        if permits == all {
            self.holds.retain(|hold| hold.permits > 0);
            said.end(by, grant);
        }
        Ok(())
    }

    fn note_release(
        &self,
        id: CallId,
        grant: CallId,
        permits: u64,
        said: &mut Said<'_, PermitTold>,
    ) {
        let hold = self.holds.iter().find(|hold| hold.id == grant);
        said.tally.note(match hold {
            Some(hold) if permits > hold.permits => "release of more than is held",
            Some(_) if grant.session() != id.session() => "release by a session that does not hold",
            Some(hold) if permits == hold.permits => "release of all",
            Some(_) => "release of some",
            None if self.stands_in_line(grant) => "release of a waiter",
            None => "release of what is over",
        });
    }

    fn stands_in_line(&self, id: CallId) -> bool {
        self.line.iter().any(|(waiter, _)| *waiter == id)
    }

    fn acquire(&mut self, id: CallId, permits: u64, said: &mut Said<'_, PermitTold>) {
        if self.closed {
            said.reply(id, PermitTold::Refused(Refusal::Closed));
        } else if permits > self.bound {
            said.tally.note("more than the bound");
            let (asked, most) = (permits, self.bound);
            said.reply(id, PermitTold::Refused(Refusal::TooMany { asked, most }));
        } else {
            self.line.push((id, permits));
            self.let_in(said);
        }
    }

    fn add(&mut self, id: CallId, permits: u64, said: &mut Said<'_, PermitTold>) {
        if self.free + self.held() + permits > self.bound {
            said.tally.note("too many added");
            let bound = self.bound;
            said.reply(id, PermitTold::Refused(Refusal::OverRelease { bound }));
        } else {
            if permits > 0 {
                said.tally.note("added permits");
            }
            self.free += permits;
            said.reply(id, PermitTold::Done);
            self.let_in(said);
        }
    }

    fn close(&mut self, id: CallId, said: &mut Said<'_, PermitTold>) {
        said.tally.note("close");
        self.closed = true;
        for (waiter, _) in std::mem::take(&mut self.line) {
            said.reply(waiter, PermitTold::Refused(Refusal::Closed));
        }
        said.reply(id, PermitTold::Done);
    }

    fn count(&self) -> SemaphoreStatus {
        let mut status = SemaphoreStatus::default();
        (status.available, status.held) = (self.free, self.held());
        status.waiting = u64::try_from(self.line.len()).expect("a short line");
        status.closed = self.closed;
        status
    }
}

fn told(done: Result<(), Refusal>) -> PermitTold {
    done.map_or_else(PermitTold::Refused, |()| PermitTold::Done)
}

fn done(done: bool) -> PermitTold {
    let refused = PermitTold::Refused(Refusal::NotHeld);
    if done { PermitTold::Done } else { refused }
}

impl<B: Face> Reference for Permits<B> {
    type Kind = Counting<B>;
    type Call = PermitCall;
    type Told = PermitTold;
    type Memory = Grants;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Counting<B>>) {
        let permits: u32 = schedule.random.random_range(0..=5);
        let spec = SemaphoreSpec {
            permits: permits.into(),
            release_by: ReleaseBy::Holder,
        };
        let reference = Self {
            free: permits.into(),
            bound: B::bound(permits.into()),
            holds: Vec::new(),
            line: Vec::new(),
            left: None,
            closed: false,
            face: PhantomData,
        };
        (reference, Bench::new(spec).expect("the spec is in range"))
    }

    fn draw(&self, schedule: &mut Schedule) -> PermitCall {
        if schedule.asks() {
            return PermitCall::Acquire(schedule.random.random_range(0..=6));
        }
        let grant = if !self.holds.is_empty() && schedule.random.random_bool(0.7) {
            self.holds[schedule.random.random_range(0..self.holds.len())].id
        } else {
            schedule.any_call()
        };
        let permits = schedule.random.random_range(0..=3);
        match schedule.random.random_range(0..40) {
            0..=19 => PermitCall::Release(grant, permits),
            20..=22 => PermitCall::Forget(grant, permits),
            23..=28 => PermitCall::Add(permits),
            29 => PermitCall::Add(u32::MAX),
            30..=32 => PermitCall::MarkConsistent(grant),
            33 => PermitCall::Close,
            _ => PermitCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<Counting<B>>,
        session: u64,
        call: &PermitCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            PermitCall::Acquire(permits) => put(bench, session, AcquireMany { permits }, timeout),
            PermitCall::Release(grant, permits) => put(
                bench,
                session,
                ReleasePermits {
                    grant: proof(session, grant),
                    permits,
                },
                timeout,
            ),
            PermitCall::Forget(grant, permits) => put(
                bench,
                session,
                Forget {
                    grant: proof(session, grant),
                    permits,
                },
                timeout,
            ),
            PermitCall::Add(permits) => put(bench, session, AddPermits { permits }, timeout),
            PermitCall::MarkConsistent(grant) => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            PermitCall::Close => put(bench, session, Close, timeout),
            PermitCall::Count => put(bench, session, Count, timeout),
        }
    }

    fn read(
        bench: &Bench<Counting<B>>,
        id: CallId,
        call: &PermitCall,
        grants: &mut Grants,
    ) -> Result<PermitTold, Fault> {
        let granted =
            |Granted { fence, abandoned }| PermitTold::Granted(grants.note(id, fence, abandoned));
        let done = |done: Result<(), Refusal>| {
            done.map_or_else(PermitTold::Refused, |()| PermitTold::Done)
        };
        let told = match call {
            PermitCall::Acquire(_) => bench
                .reply::<AcquireMany>(id)
                .map(|told| told.map(|told| told.map_or_else(PermitTold::Refused, granted))),
            PermitCall::Release(..) => bench.reply::<ReleasePermits>(id).map(|told| told.map(done)),
            PermitCall::Forget(..) => bench.reply::<Forget>(id).map(|told| told.map(done)),
            PermitCall::Add(_) => bench.reply::<AddPermits>(id).map(|told| told.map(done)),
            PermitCall::MarkConsistent(_) => {
                bench.reply::<MarkConsistent>(id).map(|told| told.map(done))
            }
            PermitCall::Close => bench
                .reply::<Close>(id)
                .map(|told| told.map(|()| PermitTold::Done)),
            PermitCall::Count => bench
                .reply::<Count>(id)
                .map(|told| told.map(PermitTold::Count)),
        };
        told.expect("only what was answered is read")
    }

    fn serve(&mut self, id: CallId, call: &PermitCall, said: &mut Said<'_, PermitTold>) {
        match *call {
            PermitCall::Acquire(permits) => self.acquire(id, permits.into(), said),
            PermitCall::Release(grant, permits) => {
                self.note_release(id, grant, permits.into(), said);
                let taken = self.take(id, grant, permits.into(), said);
                self.free += taken.as_ref().map_or(0, |()| permits.into());
                said.reply(id, told(taken));
                self.let_in(said);
            }
            PermitCall::Forget(grant, permits) => {
                let taken = self.take(id, grant, permits.into(), said);
                if taken.is_ok() && permits > 0 {
                    said.tally.note("forgotten permits");
                }
                said.reply(id, told(taken));
            }
            PermitCall::Add(permits) => self.add(id, permits.into(), said),
            PermitCall::MarkConsistent(grant) => {
                let holds = self.holds(grant);
                self.left = self.left.filter(|_| !holds);
                said.reply(id, done(holds));
            }
            PermitCall::Close => self.close(id, said),
            PermitCall::Count => said.reply(id, PermitTold::Count(self.count())),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, PermitTold>) {
        if self.stands_in_line(id) {
            self.line.retain(|(waiter, _)| *waiter != id);
            said.fail(id, fault);
        } else if let Some(place) = self.holds.iter().position(|hold| hold.id == id) {
            self.free += self.holds.remove(place).permits;
        }
        self.let_in(said);
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, PermitTold>) {
        self.line
            .retain(|(waiter, _)| waiter.session().number() != session);
        // The mark is that of the latest of its grants.
        for hold in &self.holds {
            if hold.id.session().number() == session {
                said.tally.note("mark left");
                self.free += hold.permits;
                self.left = Some(Left {
                    grant: hold.id,
                    held: said.now - hold.since,
                });
            }
        }
        self.holds
            .retain(|hold| hold.id.session().number() != session);
        self.let_in(said);
    }

    fn waits(&self, id: CallId) -> bool {
        self.stands_in_line(id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holds.iter().any(|hold| hold.id == id)
    }
}
