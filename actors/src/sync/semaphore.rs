//! Semaphores: a number of permits, and a queue of calls that wait for some of them.
//!
//! One state machine serves two kinds: permits can be added to a [`Semaphore`] without limit, and a
//! [`BoundedSemaphore`] never exceeds its initial number.
//!
//! Invariant: the first call in the queue wants more permits than are free.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use lockkeeper_protocol::{
    Abandoned, CallId, Proof, Refusal,
    codec::Form,
    operations::{
        AcquireMany, AddPermits, Close, Forget, GetSemaphoreStatus, Granted, MarkConsistent,
        ReleaseAny, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
    },
};

use crate::{
    kind::{
        call::Call,
        hang_up::{HangUp, drop_some_of},
        hold_timer::HoldTimer,
        primitive::{Operations, Primitive, Serve},
        survey::{Holding, Part, Survey, Waiting},
    },
    sync::by_age::ByAge,
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// The difference between the two kinds of semaphore.
pub trait Bound: fmt::Debug + Send + Sync + Unpin + 'static {
    /// The name of the kind.
    const KIND: &'static str;

    /// Returns the most permits that a semaphore with `permits` initial permits may have.
    fn most(permits: u64) -> u64;
}

/// Permits may be added without limit.
#[derive(Clone, Copy, Debug)]
pub enum Unbounded {}

/// The number of permits never exceeds the initial number.
#[derive(Clone, Copy, Debug)]
pub enum Bounded {}

impl Bound for Unbounded {
    const KIND: &'static str = "semaphore";

    fn most(_: u64) -> u64 {
        MOST
    }
}

impl Bound for Bounded {
    const KIND: &'static str = "bounded_semaphore";

    fn most(permits: u64) -> u64 {
        permits
    }
}

/// The most permits that any semaphore has.
const MOST: u64 = u32::MAX as u64;

/// A semaphore that may gain permits.
pub type Semaphore = Counting<Unbounded>;

/// A semaphore that never has more permits than it began with.
pub type BoundedSemaphore = Counting<Bounded>;

/// A number of permits that are granted in the order of arrival.
#[derive(Debug)]
pub struct Counting<B> {
    available: u64,
    most: u64,
    /// The sum of all permits in `holders`.
    held: u64,
    holders: BTreeMap<CallId, Holder>,
    by_age: ByAge,
    waiters: WaitQueue<Waiter>,
    abandoned: Option<Box<Abandoned>>,
    closed: bool,
    /// Whether permits were ever added or consumed, so that every client may add some.
    is_signal: bool,
    bound: PhantomData<B>,
}

#[derive(Debug)]
struct Holder {
    permits: u32,
    timer: HoldTimer,
}

#[derive(Debug)]
struct Waiter {
    permits: u32,
    call: Call<Result<Granted, Refusal>>,
}

impl Parked for Waiter {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

impl<B> Counting<B> {
    /// Grants permits from the head of the queue while they suffice. Every path that frees permits or
    /// shortens the queue ends here.
    fn grant_all_that_fit(&mut self) {
        while self
            .waiters
            .front()
            .is_some_and(|head| u64::from(head.permits) <= self.available)
        {
            let Some(Waiter { permits, call }) = self.waiters.pop_front() else {
                return;
            };
            let timer = HoldTimer::begin(call.outbox(), call.id());
            let fence = timer.fence();
            self.available -= u64::from(permits);
            self.held += u64::from(permits);
            if permits > 0 {
                self.by_age.enter(fence, call.id());
                self.holders.insert(call.id(), Holder { permits, timer });
            }
            let abandoned = self.abandoned.as_deref().cloned();
            call.reply(Ok(Granted { fence, abandoned }));
        }
    }

    /// Takes permits from a holder. Another session takes all permits of a grant, because the holder, whose
    /// permit is lost then, would not know how many are left.
    fn take_from<R>(
        &mut self,
        grant: Proof,
        permits: i128,
        call: &Call<R>,
    ) -> Result<u32, Refusal> {
        let grant = call.verify(grant)?;
        let holder = self.holders.get_mut(&grant).ok_or(Refusal::NotHeld)?;
        if permits < 1 {
            return Err(Refusal::Invalid(format!(
                "the grant has {} permits: take at least 1 of them, not {permits}",
                holder.permits
            )));
        }
        let taken = u32::try_from(permits).map_err(|_| Refusal::NotHeld)?;
        let left = holder.permits.checked_sub(taken);
        let left = left.ok_or(Refusal::NotHeld)?;
        if left > 0 && grant.session() != call.id().session() {
            return Err(Refusal::Invalid(format!(
                "another session takes all {} permits of a grant, not {permits}",
                holder.permits
            )));
        }
        holder.permits = left;
        self.held -= u64::from(taken);
        if holder.permits == 0 {
            self.by_age.leave(holder.timer.fence());
            self.holders.remove(&grant);
            call.record_end(grant);
        }
        Ok(taken)
    }

    /// Returns all permits of a holder, without granting them yet.
    fn put_back(&mut self, grant: CallId) -> Option<Holder> {
        let holder = self.holders.remove(&grant)?;
        self.by_age.leave(holder.timer.fence());
        self.held -= u64::from(holder.permits);
        self.available += u64::from(holder.permits);
        Some(holder)
    }
}

impl<B: Bound> Primitive for Counting<B> {
    const KIND: &'static str = B::KIND;
    const FORM: Form = Form::Compact;
    type Spec = SemaphoreSpec;

    fn create(spec: SemaphoreSpec) -> Result<Self, Refusal> {
        let SemaphoreSpec {
            permits,
            release_by,
        } = spec;
        let available = u64::try_from(permits)
            .ok()
            .filter(|permits| *permits <= MOST)
            .ok_or_else(|| {
                Refusal::Invalid(format!(
                    "a semaphore has 0 to {MOST} permits, not {permits}"
                ))
            })?;
        Ok(Self {
            available,
            most: B::most(available),
            held: 0,
            holders: BTreeMap::new(),
            by_age: ByAge::new(release_by),
            waiters: WaitQueue::new(),
            abandoned: None,
            closed: false,
            is_signal: false,
            bound: PhantomData,
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<AcquireMany>()
            .on::<ReleasePermits>()
            .on::<Forget>()
            .on::<AddPermits>()
            .on::<MarkConsistent>()
            .on::<Close>()
            .on::<GetSemaphoreStatus>()
            .on::<ReleaseAny>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiters.remove(id));
        self.put_back(id);
        self.grant_all_that_fit();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.waiters.hang_up(ended));
        if ended.goes_on() {
            return;
        }
        let mut last = None;
        for grant in ended.some_of(&self.holders) {
            if let Some(Holder { timer, .. }) = self.put_back(grant) {
                last = Some(timer.leave(ended));
            }
        }
        if let Some((since, fence)) = last {
            self.abandoned = Some(Box::new(ended.mark(since, fence)));
        }
        if !ended.goes_on() {
            self.grant_all_that_fit();
        }
    }

    fn drop_some(&mut self) -> bool {
        self.waiters.drop_some() || drop_some_of(&mut self.holders) || self.by_age.drop_some()
    }

    /// The permits in total, unless other calls may add some.
    fn survey(&self) -> Survey {
        let (free, all) = (self.available, self.available + self.held);
        let closed = if self.closed { ", closed" } else { "" };
        let mark = self.abandoned.as_ref().map_or("", |_| ", abandoned");
        let holders = self.holders.iter().map(|(call, holder)| Holding {
            call: *call,
            units: holder.permits.into(),
            mode: "",
            since: holder.timer.since(),
            fence: Some(holder.timer.fence()),
        });
        let waiters = self.waiters.iter();
        Survey {
            state: format!("{free} of {all} permits free{closed}{mark}"),
            parts: vec![Part {
                key: None,
                units: (!self.is_signal).then_some(all),
                holders: holders.take(Survey::MOST).collect(),
                waiters: waiters
                    .map(|(_, waiter)| Waiting::new(&waiter.call, waiter.permits.into(), ""))
                    .take(Survey::MOST)
                    .collect(),
                more_holders: Survey::beyond(self.holders.len()),
                more_waiters: Survey::beyond(self.waiters.len()),
            }],
        }
    }
}

impl<B: Bound> Serve<AcquireMany> for Counting<B> {
    fn serve(
        &mut self,
        AcquireMany { permits }: AcquireMany,
        call: Call<Result<Granted, Refusal>>,
    ) {
        if self.closed {
            return call.reply(Err(Refusal::Closed));
        }
        match check(permits, self.most) {
            Ok(permits) => {
                self.waiters.push(Waiter { permits, call });
                self.grant_all_that_fit();
            }
            Err(refusal) => call.reply(Err(refusal)),
        }
    }
}

impl<B: Bound> Serve<ReleasePermits> for Counting<B> {
    fn serve(
        &mut self,
        ReleasePermits { grant, permits }: ReleasePermits,
        call: Call<Result<(), Refusal>>,
    ) {
        let released = self.take_from(grant, permits, &call);
        if let Ok(permits) = released {
            self.available += u64::from(permits);
        }
        call.reply(released.map(drop));
        self.grant_all_that_fit();
    }
}

impl<B: Bound> Serve<ReleaseAny> for Counting<B> {
    fn serve(&mut self, _: ReleaseAny, call: Call<Result<(), Refusal>>) {
        let released = self.by_age.oldest().map(|grant| {
            self.put_back(grant);
            // The grant is revoked even within the same session, because another of its tasks may have the
            // permit.
            call.outbox().revoke(grant);
        });
        call.reply(released);
        self.grant_all_that_fit();
    }
}

impl<B: Bound> Serve<Forget> for Counting<B> {
    fn serve(&mut self, Forget { grant, permits }: Forget, call: Call<Result<(), Refusal>>) {
        let parted = self.take_from(grant, permits, &call);
        self.is_signal |= parted.is_ok();
        call.reply(parted.map(drop));
    }
}

impl<B: Bound> Serve<AddPermits> for Counting<B> {
    fn serve(&mut self, AddPermits { permits }: AddPermits, call: Call<Result<(), Refusal>>) {
        let most = self.most.saturating_sub(self.available + self.held);
        let added = match check(permits, most) {
            Ok(added) => u64::from(added),
            Err(Refusal::TooMany { .. }) => {
                let bound = self.most;
                return call.reply(Err(Refusal::OverRelease { bound }));
            }
            Err(refusal) => return call.reply(Err(refusal)),
        };
        self.available += added;
        self.is_signal = true;
        call.reply(Ok(()));
        self.grant_all_that_fit();
    }
}

impl<B: Bound> Serve<MarkConsistent> for Counting<B> {
    fn serve(&mut self, MarkConsistent { grant }: MarkConsistent, call: Call<Result<(), Refusal>>) {
        let held = call.verify(grant).and_then(|grant| {
            let holder = self.holders.get(&grant);
            holder.map(|_| ()).ok_or(Refusal::NotHeld)
        });
        call.reply(held.map(|()| self.abandoned = None));
    }
}

impl<B: Bound> Serve<Close> for Counting<B> {
    fn serve(&mut self, _: Close, call: Call<()>) {
        self.closed = true;
        while let Some(waiter) = self.waiters.pop_front() {
            waiter.call.reply(Err(Refusal::Closed));
        }
        call.reply(());
    }
}

impl<B: Bound> Serve<GetSemaphoreStatus> for Counting<B> {
    fn serve(&mut self, _: GetSemaphoreStatus, call: Call<SemaphoreStatus>) {
        let mut status = SemaphoreStatus::default();
        status.available = self.available;
        status.held = self.held;
        status.waiting = self.waiters.len().try_into().unwrap_or(u64::MAX);
        status.is_closed = self.closed;
        call.reply(status);
    }
}

/// Checks the number of permits in a call.
fn check(permits: i128, most: u64) -> Result<u32, Refusal> {
    if permits > most.into() {
        let asked = permits.try_into().unwrap_or(u64::MAX);
        return Err(Refusal::TooMany { asked, most });
    }
    u32::try_from(permits)
        .map_err(|_| Refusal::Invalid(format!("a number of permits is 0 to {MOST}, not {permits}")))
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::operations::ReleaseBy;
    use std::time::Duration;

    use lockkeeper_protocol::Fault;

    use crate::bench::Bench;

    use super::*;

    fn bench<B: Bound>(permits: i64) -> Bench<Counting<B>> {
        Bench::new(SemaphoreSpec {
            permits: permits.into(),
            release_by: ReleaseBy::Holder,
        })
        .unwrap()
    }

    fn acquire<B: Bound>(bench: &mut Bench<Counting<B>>, session: u64, permits: u32) -> CallId {
        bench.call(
            session,
            AcquireMany {
                permits: permits.into(),
            },
        )
    }

    fn granted<B: Bound>(bench: &Bench<Counting<B>>, id: CallId) -> bool {
        matches!(bench.reply::<AcquireMany>(id), Some(Ok(Ok(_))))
    }

    fn release<B: Bound>(
        bench: &mut Bench<Counting<B>>,
        grant: CallId,
        permits: u32,
    ) -> Result<(), Refusal> {
        let id = bench.call(
            grant.session().number(),
            ReleasePermits {
                grant: Proof::own(grant),
                permits: permits.into(),
            },
        );
        bench.reply::<ReleasePermits>(id).unwrap().unwrap()
    }

    fn add<B: Bound>(bench: &mut Bench<Counting<B>>, permits: u32) -> Result<(), Refusal> {
        let id = bench.call(
            9,
            AddPermits {
                permits: permits.into(),
            },
        );
        bench.reply::<AddPermits>(id).unwrap().unwrap()
    }

    fn count<B: Bound>(bench: &mut Bench<Counting<B>>) -> SemaphoreStatus {
        let id = bench.call(9, GetSemaphoreStatus);
        bench.reply::<GetSemaphoreStatus>(id).unwrap().unwrap()
    }

    #[test]
    fn a_negative_number_of_permits_is_refused_and_zero_is_not() {
        let refusal = Bench::<Semaphore>::new(SemaphoreSpec {
            permits: -1,
            release_by: ReleaseBy::Holder,
        })
        .unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("0 to 4294967295 permits, not -1"),
            "{refusal}"
        );
        assert!(
            Bench::<Semaphore>::new(SemaphoreSpec {
                permits: 1 << 32,
                release_by: ReleaseBy::Holder
            })
            .is_err()
        );
        let mut bench = bench::<Unbounded>(0);
        let first = acquire(&mut bench, 1, 1);
        assert!(!granted(&bench, first));
        add(&mut bench, 1).unwrap();
        assert!(granted(&bench, first));
    }

    #[test]
    fn many_permits_are_granted_all_or_none_and_nobody_overtakes() {
        let mut bench = bench::<Unbounded>(3);
        let first = acquire(&mut bench, 1, 2);
        let big = acquire(&mut bench, 2, 2);
        let small = acquire(&mut bench, 3, 1);
        assert!(granted(&bench, first) && !granted(&bench, big) && !granted(&bench, small));
        release(&mut bench, first, 1).unwrap();
        assert!(granted(&bench, big) && !granted(&bench, small));
        release(&mut bench, first, 1).unwrap();
        assert!(granted(&bench, small));
    }

    #[test]
    fn withdrawing_the_head_lets_in_those_behind_it_that_fit() {
        let mut bench = bench::<Unbounded>(1);
        let big = acquire(&mut bench, 1, 2);
        let small = acquire(&mut bench, 2, 1);
        assert!(!granted(&bench, small));
        bench.withdraw(big);
        assert!(granted(&bench, small));
    }

    #[test]
    fn an_expired_head_lets_in_those_behind_it_that_fit() {
        let mut bench = bench::<Unbounded>(1);
        let big = bench.call_within(1, AcquireMany { permits: 2 }, Duration::from_secs(1));
        let small = acquire(&mut bench, 2, 1);
        bench.advance(Duration::from_secs(1));
        assert_eq!(bench.reply::<AcquireMany>(big), Some(Err(Fault::TimedOut)));
        assert!(granted(&bench, small));
    }

    #[test]
    fn more_than_the_bound_is_refused_at_once() {
        let mut bench = bench::<Bounded>(2);
        let id = acquire(&mut bench, 1, 3);
        let refusal = Refusal::TooMany { asked: 3, most: 2 };
        assert_eq!(bench.reply::<AcquireMany>(id), Some(Ok(Err(refusal))));
    }

    #[test]
    fn releasing_above_the_bound_is_refused_and_changes_nothing() {
        let mut bench = bench::<Bounded>(2);
        assert_eq!(add(&mut bench, 1), Err(Refusal::OverRelease { bound: 2 }));
        let first = acquire(&mut bench, 1, 1);
        assert_eq!(add(&mut bench, 1), Err(Refusal::OverRelease { bound: 2 }));
        release(&mut bench, first, 1).unwrap();
        assert_eq!(release(&mut bench, first, 1), Err(Refusal::NotHeld));
        assert_eq!(count(&mut bench).available, 2);
    }

    #[test]
    fn a_semaphore_without_bound_gains_permits() {
        let mut bench = bench::<Unbounded>(1);
        add(&mut bench, 2).unwrap();
        let id = acquire(&mut bench, 1, 3);
        assert!(granted(&bench, id));
        assert!(add(&mut bench, u32::MAX).is_err());
    }

    #[test]
    fn more_than_is_held_is_never_released() {
        let mut bench = bench::<Unbounded>(2);
        let first = acquire(&mut bench, 1, 1);
        assert_eq!(release(&mut bench, first, 2), Err(Refusal::NotHeld));
        assert_eq!(count(&mut bench).held, 1);
    }

    #[test]
    fn permits_of_an_ended_session_come_back_marked() {
        let mut bench = bench::<Unbounded>(2);
        acquire(&mut bench, 1, 1);
        acquire(&mut bench, 1, 1);
        let waiting = acquire(&mut bench, 2, 2);
        bench.hang_up(1);
        let grant = bench
            .reply::<AcquireMany>(waiting)
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(grant.abandoned.is_some());
    }

    #[test]
    fn forgotten_permits_do_not_come_back() {
        let mut bench = bench::<Unbounded>(2);
        let first = acquire(&mut bench, 1, 2);
        bench.call(
            1,
            Forget {
                grant: Proof::own(first),
                permits: 1,
            },
        );
        bench.hang_up(1);
        assert_eq!(count(&mut bench).available, 1);
    }

    #[test]
    fn forgotten_permits_of_a_bounded_semaphore_may_be_added_again() {
        let mut bench = bench::<Bounded>(1);
        let first = acquire(&mut bench, 1, 1);
        bench.call(
            1,
            Forget {
                grant: Proof::own(first),
                permits: 1,
            },
        );
        add(&mut bench, 1).unwrap();
        assert_eq!(add(&mut bench, 1), Err(Refusal::OverRelease { bound: 1 }));
    }

    #[test]
    fn a_granted_call_that_nobody_saw_gives_its_permits_back() {
        let mut bench = bench::<Unbounded>(1);
        let first = acquire(&mut bench, 1, 1);
        let second = acquire(&mut bench, 2, 1);
        bench.withdraw(first);
        assert!(granted(&bench, second));
    }

    #[test]
    fn closing_refuses_all_who_wait_and_all_who_come() {
        let mut bench = bench::<Unbounded>(1);
        let first = acquire(&mut bench, 1, 1);
        let waiting = acquire(&mut bench, 2, 1);
        bench.call(3, Close);
        assert_eq!(
            bench.reply::<AcquireMany>(waiting),
            Some(Ok(Err(Refusal::Closed)))
        );
        let late = acquire(&mut bench, 2, 1);
        assert_eq!(
            bench.reply::<AcquireMany>(late),
            Some(Ok(Err(Refusal::Closed)))
        );
        release(&mut bench, first, 1).unwrap();
    }

    #[test]
    fn none_at_all_is_granted_in_its_turn() {
        let mut bench = bench::<Unbounded>(0);
        let none = acquire(&mut bench, 1, 0);
        assert!(granted(&bench, none));
        assert_eq!(release(&mut bench, none, 0), Err(Refusal::NotHeld));
    }
}
