//! Compares both semaphores with a reference, which has two numbers and two lists.
//!
//! The model uses only their calls and answers.

use std::{marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        AcquireMany, AddPermits, Bound, Bounded, Close, Counting, Forget, GetSemaphoreStatus,
        Granted, MarkConsistent, ReleaseBy, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
        Unbounded,
    },
};
use rand::Rng;

use crate::{
    models::{
        Effects, Reference, agree,
        grants::{Grants, Left},
    },
    schedule::{Schedule, proof, put},
};

/// The cases that must occur for both semaphores.
const BOTH: [&str; 12] = [
    "release of all",
    "release of some",
    "release by a session that does not hold",
    "release of more permits than held",
    "release of a waiter",
    "release of an ended hold",
    "forgotten permits",
    "mark left",
    "marked grant",
    "close",
    "a waiter behind a larger request",
    "several grants at once",
];

#[test]
fn semaphore_agrees_with_its_reference() {
    let must_occur = [
        &BOTH[..],
        &["added permits", "too many permits added", "long line"],
    ]
    .concat();
    agree::<Permits<Unbounded>>("semaphore_agrees_with_its_reference", 600, &must_occur);
}

#[test]
fn bounded_semaphore_agrees_with_its_reference() {
    let own = [
        "added permits",
        "too many permits added",
        "more than the bound",
    ];
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
enum PermitAnswer {
    Granted(Option<Left>),
    Done,
    Refused(Refusal),
    Count(SemaphoreStatus),
}

/// The difference between the two kinds.
trait SemaphoreVariant: Bound {
    /// Returns the maximum number of permits.
    fn bound(first: u64) -> u64;
}

impl SemaphoreVariant for Unbounded {
    fn bound(_: u64) -> u64 {
        4_294_967_295
    }
}

impl SemaphoreVariant for Bounded {
    fn bound(first: u64) -> u64 {
        first
    }
}

struct Hold {
    id: CallId,
    permits: u64,
    since: Duration,
}

/// The first waiter gets its permits once enough are free.
struct Permits<B> {
    free: u64,
    bound: u64,
    /// The holds in the order of their grants.
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

    fn grant_waiters(&mut self, effects: &mut Effects<'_, PermitAnswer>) {
        let mut granted = 0;
        while !self.line.is_empty() && self.line[0].1 <= self.free {
            let (id, permits) = self.line.remove(0);
            self.free -= permits;
            // A grant of no permits holds nothing.
            if permits > 0 {
                let since = effects.now;
                self.holds.push(Hold { id, permits, since });
            }
            granted += 1;
            if self.left.is_some() {
                effects.tally.note("marked grant");
            }
            effects.reply(id, PermitAnswer::Granted(self.left));
        }
        if granted > 1 {
            effects.tally.note("several grants at once");
        }
        if self.line.iter().any(|(_, permits)| *permits <= self.free) {
            effects.tally.note("a waiter behind a larger request");
        }
        if self.line.len() > 64 {
            effects.tally.note("long line");
        }
    }

    /// Removes permits from a grant, if it has enough.
    fn take(
        &mut self,
        by: CallId,
        grant: CallId,
        permits: u64,
        effects: &mut Effects<'_, PermitAnswer>,
    ) -> Result<(), Refusal> {
        let found = self.holds.iter_mut().find(|hold| hold.id == grant);
        let hold = found.ok_or(Refusal::NotHeld)?;
        let all = hold.permits;
        if permits == 0 {
            effects.tally.note("release of none");
            return Err(Refusal::Invalid(format!(
                "the grant has {all} permits: take at least 1 of them, not 0"
            )));
        }
        if permits > all {
            return Err(Refusal::NotHeld);
        }
        if permits < all && by.session() != grant.session() {
            effects.tally.note("a part of another session's grant");
            return Err(Refusal::Invalid(format!(
                "another session takes all {all} permits of a grant, not {permits}"
            )));
        }
        hold.permits -= permits;
        if permits == all {
            self.holds.retain(|hold| hold.permits > 0);
            effects.end(by, grant);
        }
        Ok(())
    }

    fn note_release(
        &self,
        id: CallId,
        grant: CallId,
        permits: u64,
        effects: &mut Effects<'_, PermitAnswer>,
    ) {
        let hold = self.holds.iter().find(|hold| hold.id == grant);
        effects.tally.note(match hold {
            Some(hold) if permits > hold.permits => "release of more permits than held",
            Some(_) if grant.session() != id.session() => "release by a session that does not hold",
            Some(hold) if permits == hold.permits => "release of all",
            Some(_) => "release of some",
            None if self.is_waiting(grant) => "release of a waiter",
            None => "release of an ended hold",
        });
    }

    fn is_waiting(&self, id: CallId) -> bool {
        self.line.iter().any(|(waiter, _)| *waiter == id)
    }

    fn acquire(&mut self, id: CallId, permits: u64, effects: &mut Effects<'_, PermitAnswer>) {
        if self.closed {
            effects.reply(id, PermitAnswer::Refused(Refusal::Closed));
        } else if permits > self.bound {
            effects.tally.note("more than the bound");
            let (asked, most) = (permits, self.bound);
            effects.reply(id, PermitAnswer::Refused(Refusal::TooMany { asked, most }));
        } else {
            self.line.push((id, permits));
            self.grant_waiters(effects);
        }
    }

    fn add(&mut self, id: CallId, permits: u64, effects: &mut Effects<'_, PermitAnswer>) {
        if self.free + self.held() + permits > self.bound {
            effects.tally.note("too many permits added");
            let bound = self.bound;
            effects.reply(id, PermitAnswer::Refused(Refusal::OverRelease { bound }));
        } else {
            if permits > 0 {
                effects.tally.note("added permits");
            }
            self.free += permits;
            effects.reply(id, PermitAnswer::Done);
            self.grant_waiters(effects);
        }
    }

    fn close(&mut self, id: CallId, effects: &mut Effects<'_, PermitAnswer>) {
        effects.tally.note("close");
        self.closed = true;
        for (waiter, _) in std::mem::take(&mut self.line) {
            effects.reply(waiter, PermitAnswer::Refused(Refusal::Closed));
        }
        effects.reply(id, PermitAnswer::Done);
    }

    fn count(&self) -> SemaphoreStatus {
        let mut status = SemaphoreStatus::default();
        (status.available, status.held) = (self.free, self.held());
        status.waiting = u64::try_from(self.line.len()).expect("a short line");
        status.is_closed = self.closed;
        status
    }
}

fn convert(done: Result<(), Refusal>) -> PermitAnswer {
    done.map_or_else(PermitAnswer::Refused, |()| PermitAnswer::Done)
}

fn done(done: bool) -> PermitAnswer {
    let refused = PermitAnswer::Refused(Refusal::NotHeld);
    if done { PermitAnswer::Done } else { refused }
}

impl<B: SemaphoreVariant> Reference for Permits<B> {
    type Kind = Counting<B>;
    type Call = PermitCall;
    type Answer = PermitAnswer;
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
        (reference, Bench::new(spec).expect("the spec is valid"))
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
            PermitCall::Acquire(permits) => put(
                bench,
                session,
                AcquireMany {
                    permits: permits.into(),
                },
                timeout,
            ),
            PermitCall::Release(grant, permits) => put(
                bench,
                session,
                ReleasePermits {
                    grant: proof(session, grant),
                    permits: permits.into(),
                },
                timeout,
            ),
            PermitCall::Forget(grant, permits) => put(
                bench,
                session,
                Forget {
                    grant: proof(session, grant),
                    permits: permits.into(),
                },
                timeout,
            ),
            PermitCall::Add(permits) => put(
                bench,
                session,
                AddPermits {
                    permits: permits.into(),
                },
                timeout,
            ),
            PermitCall::MarkConsistent(grant) => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            PermitCall::Close => put(bench, session, Close, timeout),
            PermitCall::Count => put(bench, session, GetSemaphoreStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<Counting<B>>,
        id: CallId,
        call: &PermitCall,
        grants: &mut Grants,
    ) -> Result<PermitAnswer, Fault> {
        let granted =
            |Granted { fence, abandoned }| PermitAnswer::Granted(grants.note(id, fence, abandoned));
        let done = |done: Result<(), Refusal>| {
            done.map_or_else(PermitAnswer::Refused, |()| PermitAnswer::Done)
        };
        let observed = match call {
            PermitCall::Acquire(_) => bench.reply::<AcquireMany>(id).map(|observed| {
                observed.map(|observed| observed.map_or_else(PermitAnswer::Refused, granted))
            }),
            PermitCall::Release(..) => bench
                .reply::<ReleasePermits>(id)
                .map(|observed| observed.map(done)),
            PermitCall::Forget(..) => bench.reply::<Forget>(id).map(|observed| observed.map(done)),
            PermitCall::Add(_) => bench
                .reply::<AddPermits>(id)
                .map(|observed| observed.map(done)),
            PermitCall::MarkConsistent(_) => bench
                .reply::<MarkConsistent>(id)
                .map(|observed| observed.map(done)),
            PermitCall::Close => bench
                .reply::<Close>(id)
                .map(|observed| observed.map(|()| PermitAnswer::Done)),
            PermitCall::Count => bench
                .reply::<GetSemaphoreStatus>(id)
                .map(|observed| observed.map(PermitAnswer::Count)),
        };
        observed.expect("the call is answered")
    }

    fn serve(&mut self, id: CallId, call: &PermitCall, effects: &mut Effects<'_, PermitAnswer>) {
        match *call {
            PermitCall::Acquire(permits) => self.acquire(id, permits.into(), effects),
            PermitCall::Release(grant, permits) => {
                self.note_release(id, grant, permits.into(), effects);
                let taken = self.take(id, grant, permits.into(), effects);
                self.free += taken.as_ref().map_or(0, |()| permits.into());
                effects.reply(id, convert(taken));
                self.grant_waiters(effects);
            }
            PermitCall::Forget(grant, permits) => {
                let taken = self.take(id, grant, permits.into(), effects);
                if taken.is_ok() && permits > 0 {
                    effects.tally.note("forgotten permits");
                }
                effects.reply(id, convert(taken));
            }
            PermitCall::Add(permits) => self.add(id, permits.into(), effects),
            PermitCall::MarkConsistent(grant) => {
                let holds = self.holds(grant);
                self.left = self.left.filter(|_| !holds);
                effects.reply(id, done(holds));
            }
            PermitCall::Close => self.close(id, effects),
            PermitCall::Count => effects.reply(id, PermitAnswer::Count(self.count())),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, PermitAnswer>) {
        if self.is_waiting(id) {
            self.line.retain(|(waiter, _)| *waiter != id);
            effects.fail(id, fault);
        } else if let Some(place) = self.holds.iter().position(|hold| hold.id == id) {
            self.free += self.holds.remove(place).permits;
        }
        self.grant_waiters(effects);
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, PermitAnswer>) {
        self.line
            .retain(|(waiter, _)| waiter.session().number() != session);
        // The mark names the latest grant of the session.
        for hold in &self.holds {
            if hold.id.session().number() == session {
                effects.tally.note("mark left");
                self.free += hold.permits;
                self.left = Some(Left {
                    grant: hold.id,
                    held: effects.now - hold.since,
                });
            }
        }
        self.holds
            .retain(|hold| hold.id.session().number() != session);
        self.grant_waiters(effects);
    }

    fn waits(&self, id: CallId) -> bool {
        self.is_waiting(id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holds.iter().any(|hold| hold.id == id)
    }
}
