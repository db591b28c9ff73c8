//! The lock: one holder, which cannot acquire it a second time.

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{
        Acquire, Adopt, ForceUnlock, GetLockStatus, Granted, MarkConsistent, Release, ReleaseAny,
        ReleaseBy,
    },
};

use crate::{
    kind::{
        call::Call,
        hang_up::HangUp,
        primitive::{Operations, Primitive},
        survey::Survey,
    },
    sync::exclusion::{Exclusion, Exclusive},
};

/// A mutual exclusion lock, granted in the order of arrival.
#[derive(Debug)]
pub struct Lock(Exclusion<Call<Result<Granted, Refusal>>>);

impl Exclusive for Lock {
    type Waiter = Call<Result<Granted, Refusal>>;

    fn exclusion(&self) -> &Exclusion<Self::Waiter> {
        &self.0
    }

    fn exclusion_mut(&mut self) -> &mut Exclusion<Self::Waiter> {
        &mut self.0
    }

    fn leave_behind(&mut self, (): ()) {}
}

impl Primitive for Lock {
    const KIND: &'static str = "lock";
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
            .on::<Acquire>()
            .on::<Release>()
            .on::<Adopt>()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_protocol::{Fault, Fence, Proof};

    use crate::bench::Bench;

    use super::*;

    fn bench() -> Bench<Lock> {
        Bench::new(ReleaseBy::Holder).unwrap()
    }

    /// The fence and the mark of a granted call.
    fn grant(bench: &Bench<Lock>, id: CallId) -> Granted {
        bench
            .reply::<Acquire>(id)
            .expect("granted")
            .expect("no fault")
            .expect("no refusal")
    }

    fn release(bench: &mut Bench<Lock>, session: u64, grant: CallId) -> Result<(), Refusal> {
        let id = bench.call(
            session,
            Release {
                grant: Proof::own(grant),
            },
        );
        bench
            .reply::<Release>(id)
            .expect("answered")
            .expect("no fault")
    }

    #[test]
    fn lock_is_granted_in_order_of_arrival() {
        let mut bench = bench();
        let calls: Vec<CallId> = (1..=4)
            .map(|session| bench.call(session, Acquire))
            .collect();
        for (turn, id) in calls.iter().enumerate() {
            assert!(
                calls
                    .iter()
                    .enumerate()
                    .all(|(n, id)| bench.is_answered(*id) == (n <= turn))
            );
            release(&mut bench, id.session().number(), *id).unwrap();
        }
    }

    #[test]
    fn fences_only_grow() {
        let mut bench = bench();
        let mut last = Fence::new(0);
        for _ in 0..10 {
            let id = bench.call(1, Acquire);
            let fence = grant(&bench, id).fence;
            assert!(fence > last);
            last = fence;
            release(&mut bench, 1, id).unwrap();
        }
    }

    #[test]
    fn late_or_second_release_is_refused_and_frees_nobody_else() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        release(&mut bench, 1, first).unwrap();
        let second = bench.call(2, Acquire);
        let third = bench.call(3, Acquire);
        assert_eq!(release(&mut bench, 1, first), Err(Refusal::NotHeld));
        assert!(bench.is_answered(second) && !bench.is_answered(third));
    }

    #[test]
    fn another_session_releases_by_a_ticket_alone_and_the_guard_is_lost() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let next = bench.call(3, Acquire);
        // In another session the number names a call of that session, which holds nothing.
        assert_eq!(release(&mut bench, 2, first), Err(Refusal::NotHeld));
        assert!(!bench.is_revoked(first) && !bench.is_answered(next));
        let ticket = Release {
            grant: bench.signed(first),
        };
        for expected in [Ok(()), Err(Refusal::NotHeld)] {
            let id = bench.call(2, ticket);
            assert_eq!(bench.reply::<Release>(id), Some(Ok(expected)));
        }
        assert!(bench.is_revoked(first) && bench.is_answered(next));
        release(&mut bench, 3, next).unwrap();
        assert!(!bench.is_revoked(next));
    }

    #[test]
    fn withdrawn_waiter_is_skipped() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let second = bench.call(2, Acquire);
        let third = bench.call(3, Acquire);
        bench.withdraw(second);
        assert_eq!(bench.reply::<Acquire>(second), Some(Err(Fault::Withdrawn)));
        release(&mut bench, 1, first).unwrap();
        assert!(bench.is_answered(third));
        assert_eq!(bench.times_answered(second), 1);
    }

    #[test]
    fn withdrawn_grant_is_passed_on_unmarked() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let second = bench.call(2, Acquire);
        bench.withdraw(first);
        assert_eq!(grant(&bench, second).abandoned, None);
        assert_eq!(bench.times_answered(first), 1);
    }

    #[test]
    fn deadline_is_a_timeout_or_an_answer_never_both() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let second = bench.call_within(2, Acquire, Duration::from_secs(1));
        let third = bench.call_within(3, Acquire, Duration::from_secs(2));
        bench.advance(Duration::from_millis(1500));
        assert_eq!(bench.reply::<Acquire>(second), Some(Err(Fault::TimedOut)));
        release(&mut bench, 1, first).unwrap();
        bench.advance(Duration::from_secs(9));
        assert!(grant(&bench, third).abandoned.is_none());
        assert_eq!(bench.times_answered(third), 1);
        release(&mut bench, 3, third).unwrap();
    }

    #[test]
    fn a_try_never_overtakes_and_never_waits() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let tried = bench.call_within(2, Acquire, Duration::ZERO);
        assert_eq!(bench.reply::<Acquire>(tried), Some(Err(Fault::TimedOut)));
        release(&mut bench, 1, first).unwrap();
        let tried = bench.call_within(2, Acquire, Duration::ZERO);
        grant(&bench, tried);
    }

    #[test]
    fn killed_holder_passes_the_lock_on_and_the_next_is_told() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let fence = grant(&bench, first).fence;
        let second = bench.call(2, Acquire);
        bench.advance(Duration::from_secs(3));
        bench.hang_up(1);
        let abandoned = grant(&bench, second).abandoned.expect("marked");
        assert_eq!(
            (abandoned.held, abandoned.fence),
            (Duration::from_secs(3), fence)
        );
    }

    #[test]
    fn the_mark_stays_until_somebody_declares_the_data_consistent() {
        let mut bench = bench();
        bench.call(1, Acquire);
        bench.hang_up(1);
        let second = bench.call(2, Acquire);
        release(&mut bench, 2, second).unwrap();
        let third = bench.call(3, Acquire);
        assert!(grant(&bench, third).abandoned.is_some());
        let marked = bench.call(
            3,
            MarkConsistent {
                grant: Proof::own(third),
            },
        );
        assert_eq!(bench.reply::<MarkConsistent>(marked), Some(Ok(Ok(()))));
        release(&mut bench, 3, third).unwrap();
        let fourth = bench.call(4, Acquire);
        assert_eq!(grant(&bench, fourth).abandoned, None);
    }

    #[test]
    fn a_session_that_holds_and_waits_is_never_granted_after_its_end() {
        let mut bench = bench();
        bench.call(1, Acquire);
        bench.call(1, Acquire);
        let other = bench.call(2, Acquire);
        bench.hang_up(1);
        assert!(bench.is_answered(other));
    }

    #[test]
    fn force_unlock_revokes_the_holder_and_grants_the_next_a_higher_fence() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let second = bench.call(2, Acquire);
        let forced = bench.call(3, ForceUnlock);
        assert_eq!(bench.reply::<ForceUnlock>(forced), Some(Ok(true)));
        assert!(bench.is_revoked(first) && !bench.is_revoked(second));
        assert!(grant(&bench, second).fence > grant(&bench, first).fence);
        assert_eq!(release(&mut bench, 1, first), Err(Refusal::NotHeld));
    }

    #[test]
    fn an_adopted_hold_belongs_to_the_new_session() {
        let mut bench = bench();
        let first = bench.call(1, Acquire);
        let guessed = bench.call(
            2,
            Adopt {
                grant: Proof::own(first),
            },
        );
        let refused = bench.reply::<Adopt>(guessed);
        assert_eq!(refused, Some(Ok(Err(Refusal::NotHeld))));
        let ticket = bench.signed(first);
        let adopted = bench.call(2, Adopt { grant: ticket });
        assert!(bench.reply::<Adopt>(adopted).unwrap().unwrap().is_ok());
        assert!(bench.is_revoked(first));
        bench.hang_up(1);
        let waiting = bench.call(3, Acquire);
        assert!(!bench.is_answered(waiting));
        release(&mut bench, 2, adopted).unwrap();
        assert!(bench.is_answered(waiting));
    }

    #[test]
    fn a_removed_lock_answers_all_its_callers() {
        let mut bench = bench();
        bench.call(1, Acquire);
        let waiting = bench.call(2, Acquire);
        bench.remove();
        assert_eq!(bench.reply::<Acquire>(waiting), Some(Err(Fault::Gone)));
        let late = bench.call(1, Acquire);
        assert_eq!(bench.reply::<Acquire>(late), Some(Err(Fault::Gone)));
        assert!(bench.is_gone());
    }
}
