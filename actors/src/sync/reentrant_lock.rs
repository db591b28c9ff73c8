//! The reentrant lock: one holder, which may acquire the lock again while it holds it.
//!
//! Two calls have the same owner if their session and the owner number that the client assigned are
//! equal, so owners of different processes never match.

use std::time::Duration;

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{
        AcquireAs, AdoptAs, ForceUnlock, GetLockStatus, Granted, MarkConsistent, Release,
        ReleaseAny, ReleaseBy,
    },
};

use crate::{
    kind::{
        call::{Call, Outbox},
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::Survey,
    },
    sync::{
        exclusion::{Exclusion, Exclusive},
        line::Waiter,
    },
    waiting::call_table::Parked,
};

/// A lock that its owner may acquire again. Each entry is released on its own; the last release frees the
/// lock.
#[derive(Debug)]
pub struct ReentrantLock(Exclusion<ReentrantWaiter>);

/// A call of an owner.
#[derive(Debug)]
pub struct ReentrantWaiter {
    owner: u64,
    call: Call<Result<Granted, Refusal>>,
}

impl Parked for ReentrantWaiter {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

impl Waiter for ReentrantWaiter {
    type Carried = ();

    fn since(&self) -> Duration {
        self.call.since()
    }

    fn outbox(&self) -> &Outbox {
        self.call.outbox()
    }

    fn owner(&self) -> Option<u64> {
        Some(self.owner)
    }

    fn carried(&self) {}

    fn admit(self, granted: Granted) {
        self.call.reply(Ok(granted));
    }

    fn refuse(self, refusal: Refusal) {
        self.call.reply(Err(refusal));
    }
}

impl Exclusive for ReentrantLock {
    type Waiter = ReentrantWaiter;

    fn exclusion(&self) -> &Exclusion<ReentrantWaiter> {
        &self.0
    }

    fn exclusion_mut(&mut self) -> &mut Exclusion<ReentrantWaiter> {
        &mut self.0
    }

    fn leave_behind(&mut self, (): ()) {}
}

impl Primitive for ReentrantLock {
    const KIND: &'static str = "reentrant_lock";
    const FORM: Form = Form::Compact;
    type Spec = ReleaseBy;

    fn describe(release_by: &ReleaseBy) -> String {
        release_by.describe()
    }

    fn create(release_by: ReleaseBy) -> Result<Self, Refusal> {
        Ok(Self(Exclusion::new(release_by)))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<AcquireAs>()
            .on::<Release>()
            .on::<AdoptAs>()
            .on::<MarkConsistent>()
            .on::<ForceUnlock>()
            .on::<GetLockStatus>()
            .on::<ReleaseAny>();
    }

    fn withdraw(&mut self, id: CallId) {
        self.0.withdraw(id);
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.0.hang_up(ended);
    }

    fn drop_some(&mut self) -> bool {
        self.0.drop_some()
    }

    fn survey(&self) -> Survey {
        self.0.survey()
    }
}

impl Serve<AcquireAs> for ReentrantLock {
    fn serve(&mut self, AcquireAs { owner }: AcquireAs, call: Call<Result<Granted, Refusal>>) {
        self.0.enter(ReentrantWaiter { owner, call });
    }
}

impl Serve<AdoptAs> for ReentrantLock {
    fn serve(&mut self, AdoptAs { grant, owner }: AdoptAs, call: Call<Result<Granted, Refusal>>) {
        match call.verify(grant) {
            Ok(grant) => self.0.hand_over(grant, ReentrantWaiter { owner, call }),
            Err(refusal) => call.reply(Err(refusal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::{Proof, operations::LockStatus};

    use crate::bench::Bench;

    use super::*;

    /// An owner number that every session uses.
    const ME: AcquireAs = AcquireAs { owner: 1 };

    const OTHER: AcquireAs = AcquireAs { owner: 2 };

    fn bench() -> Bench<ReentrantLock> {
        Bench::new(ReleaseBy::Holder).unwrap()
    }

    fn granted(bench: &Bench<ReentrantLock>, id: CallId) -> Granted {
        let granted = bench.reply::<AcquireAs>(id).expect("answered");
        granted.expect("no fault").expect("no refusal")
    }

    fn release(bench: &mut Bench<ReentrantLock>, grant: CallId) -> Result<(), Refusal> {
        let id = bench.call(
            grant.session().number(),
            Release {
                grant: Proof::own(grant),
            },
        );
        bench.reply::<Release>(id).unwrap().unwrap()
    }

    fn adopt(
        bench: &mut Bench<ReentrantLock>,
        session: u64,
        grant: CallId,
    ) -> (CallId, Result<Granted, Refusal>) {
        let grant = bench.signed(grant);
        let id = bench.call(session, AdoptAs { grant, owner: 1 });
        (id, bench.reply::<AdoptAs>(id).unwrap().unwrap())
    }

    fn status(bench: &mut Bench<ReentrantLock>) -> LockStatus {
        let id = bench.call(9, GetLockStatus);
        bench.reply::<GetLockStatus>(id).unwrap().unwrap()
    }

    #[test]
    fn owner_enters_again_before_all_who_wait() {
        let mut bench = bench();
        let first = bench.call(1, ME);
        let waiting = bench.call(1, OTHER);
        let again = bench.call(1, ME);
        assert!(bench.is_answered(again) && !bench.is_answered(waiting));
        let LockStatus { depth, waiting, .. } = status(&mut bench);
        assert_eq!((depth, waiting), (2, 1));
        assert_eq!(granted(&bench, first).fence, granted(&bench, again).fence);
    }

    #[test]
    fn owner_that_waits_several_times_is_let_in_by_all_its_calls() {
        let mut bench = bench();
        let holder = bench.call(2, ME);
        let [first, another, second] = [ME, OTHER, ME].map(|owner| bench.call(1, owner));
        let stranger = bench.call(2, OTHER);
        let withdrawn = bench.call(1, ME);
        bench.withdraw(withdrawn);
        assert_eq!(release(&mut bench, holder), Ok(()));
        assert_eq!(granted(&bench, first).fence, granted(&bench, second).fence);
        let LockStatus { depth, waiting, .. } = status(&mut bench);
        assert_eq!((depth, waiting), (2, 2));
        assert_eq!(release(&mut bench, first), Ok(()));
        assert!(!bench.is_answered(another) && !bench.is_answered(stranger));
        assert_eq!(release(&mut bench, second), Ok(()));
        granted(&bench, another);
        assert!(!bench.is_answered(stranger));
    }

    #[test]
    fn heir_is_let_in_by_all_its_calls_that_wait() {
        let mut bench = bench();
        let holder = bench.call(1, ME);
        let waiting = bench.call(2, ME);
        let (_, adopted) = adopt(&mut bench, 2, holder);
        assert_eq!(granted(&bench, waiting).fence, adopted.unwrap().fence);
        assert_eq!(status(&mut bench).depth, 2);
    }

    #[test]
    fn owner_that_waits_too_often_is_refused_what_is_too_deep() {
        let mut bench = bench();
        let holder = bench.call(2, ME);
        let waiting: Vec<CallId> = (0..=65_536).map(|_| bench.call(1, ME)).collect();
        assert_eq!(release(&mut bench, holder), Ok(()));
        let refusal = Refusal::TooDeep { most: 65_536 };
        let last = bench.reply::<AcquireAs>(waiting[65_536]);
        assert_eq!(last, Some(Ok(Err(refusal))));
        assert_eq!(status(&mut bench).depth, 65_536);
    }

    #[test]
    fn the_same_number_of_another_session_is_another_owner() {
        let mut bench = bench();
        bench.call(1, ME);
        let other = bench.call(2, ME);
        assert!(!bench.is_answered(other));
    }

    #[test]
    fn lock_is_free_once_the_last_entry_is_released_in_whatever_order() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut bench = bench();
            let entries = [(); 3].map(|()| bench.call(1, ME));
            let next = bench.call(2, ME);
            for place in order {
                assert!(!bench.is_answered(next));
                assert_eq!(release(&mut bench, entries[place]), Ok(()));
                assert_eq!(release(&mut bench, entries[place]), Err(Refusal::NotHeld));
            }
            assert!(granted(&bench, next).fence > granted(&bench, entries[0]).fence);
        }
    }

    #[test]
    fn owner_that_is_too_deep_is_refused_and_as_deep_as_before() {
        let mut bench = bench();
        let entries: Vec<CallId> = (0..65_536).map(|_| bench.call(1, ME)).collect();
        let too_deep = bench.call(1, ME);
        let refusal = Refusal::TooDeep { most: 65_536 };
        assert_eq!(bench.reply::<AcquireAs>(too_deep), Some(Ok(Err(refusal))));
        assert_eq!(status(&mut bench).depth, 65_536);
        assert_eq!(release(&mut bench, too_deep), Err(Refusal::NotHeld));
        assert_eq!(release(&mut bench, entries[7]), Ok(()));
        let again = bench.call(1, ME);
        granted(&bench, again);
    }

    #[test]
    fn withdrawn_entry_undoes_itself_alone() {
        let mut bench = bench();
        let [first, second] = [(); 2].map(|()| bench.call(1, ME));
        bench.withdraw(first);
        assert_eq!(status(&mut bench).depth, 1);
        assert_eq!(release(&mut bench, first), Err(Refusal::NotHeld));
        bench.withdraw(second);
        assert!(!status(&mut bench).is_held);
    }

    #[test]
    fn hold_is_handed_on_once_its_owner_is_inside_once() {
        let mut bench = bench();
        let [first, second] = [(); 2].map(|()| bench.call(1, ME));
        let refusal = Err(Refusal::StillInside { entries: 2 });
        assert_eq!(adopt(&mut bench, 2, second).1, refusal);
        assert!(!bench.is_revoked(second));
        assert_eq!(release(&mut bench, first), Ok(()));
        let (adopter, adopted) = adopt(&mut bench, 2, second);
        assert!(adopted.unwrap().fence > granted(&bench, second).fence);
        assert!(bench.is_revoked(second));
        let [former, again] = [1, 2].map(|session| bench.call(session, ME));
        assert!(!bench.is_answered(former), "it is no longer the owner");
        granted(&bench, again);
        assert_eq!(release(&mut bench, adopter), Ok(()));
        assert_eq!(release(&mut bench, again), Ok(()));
        granted(&bench, former);
    }

    #[test]
    fn force_unlock_revokes_every_entry() {
        let mut bench = bench();
        let entries = [(); 3].map(|()| bench.call(1, ME));
        let next = bench.call(2, ME);
        bench.call(3, ForceUnlock);
        assert!(entries.iter().all(|entry| bench.is_revoked(*entry)));
        granted(&bench, next);
        assert_eq!(
            entries.map(|entry| release(&mut bench, entry).is_ok()),
            [false; 3]
        );
    }

    #[test]
    fn dead_owner_leaves_all_its_entries_and_the_next_is_told() {
        let mut bench = bench();
        let first = bench.call(1, ME);
        bench.call(1, ME);
        bench.call(1, OTHER);
        let next = bench.call(2, ME);
        bench.advance(Duration::from_secs(2));
        bench.hang_up(1);
        let left = granted(&bench, next).abandoned.expect("marked");
        assert_eq!(
            (left.held, left.fence),
            (Duration::from_secs(2), granted(&bench, first).fence)
        );
        assert_eq!(status(&mut bench).depth, 1);
    }
}
