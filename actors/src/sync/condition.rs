//! The condition: a lock, and calls that sleep until a holder of the lock notifies them.
//!
//! Sleepers belong to named wait sets, which share the lock. A sleep releases the lock in the same
//! turn, and a woken sleeper moves to the line of the lock.
//!
//! Invariants: a call sleeps, stands in the line, or holds the lock, and never two of these; a wait set
//! exists only while a call sleeps in it.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{
        Acquire, Adopt, CountSleepers, ForceUnlock, Granted, MarkConsistent, Notify, Release,
        ReleaseAny, ReleaseBy, Sleep, Status, Wake, Woken,
    },
};

use crate::{
    kind::{
        call::{Call, Outbox},
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    sync::{
        exclusion::{Exclusion, Exclusive, count},
        line::Waiter,
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// A lock with wait sets.
#[derive(Debug)]
pub struct Condition {
    lock: Exclusion<Comer>,
    sleepers: Sleepers,
}

/// The most bytes in the name of a wait set.
const MOST_NAME_BYTES: usize = 255;

/// A call that waits for the lock.
#[derive(Debug)]
pub enum Comer {
    /// It came for the lock.
    Fresh(Call<Result<Granted, Refusal>>),
    /// It has slept.
    Woken {
        /// The call.
        call: Call<Result<Woken, Refusal>>,
        /// What woke it.
        wake: Wake,
        /// The wait set where the notification belongs that is to be handed on.
        owed: Option<Rc<str>>,
    },
}

impl From<Call<Result<Granted, Refusal>>> for Comer {
    fn from(call: Call<Result<Granted, Refusal>>) -> Self {
        Self::Fresh(call)
    }
}

impl Parked for Comer {
    fn id(&self) -> CallId {
        match self {
            Self::Fresh(call) => call.id(),
            Self::Woken { call, .. } => call.id(),
        }
    }
}

impl Waiter for Comer {
    type Carried = Option<Rc<str>>;

    fn since(&self) -> Duration {
        match self {
            Self::Fresh(call) => call.since(),
            Self::Woken { call, .. } => call.since(),
        }
    }

    fn outbox(&self) -> &Outbox {
        match self {
            Self::Fresh(call) => call.outbox(),
            Self::Woken { call, .. } => call.outbox(),
        }
    }

    fn owner(&self) -> Option<u64> {
        None
    }

    fn carried(&self) -> Option<Rc<str>> {
        match self {
            Self::Fresh(_) => None,
            Self::Woken { owed, .. } => owed.clone(),
        }
    }

    fn admit(self, granted: Granted) {
        match self {
            Self::Fresh(call) => call.reply(Ok(granted)),
            Self::Woken { call, wake, .. } => call.reply(Ok(Woken { granted, wake })),
        }
    }

    fn refuse(self, refusal: Refusal) {
        match self {
            Self::Fresh(call) => call.reply(Err(refusal)),
            Self::Woken { call, .. } => call.reply(Err(refusal)),
        }
    }
}

impl Exclusive for Condition {
    type Waiter = Comer;

    fn exclusion(&self) -> &Exclusion<Comer> {
        &self.lock
    }

    fn exclusion_mut(&mut self) -> &mut Exclusion<Comer> {
        &mut self.lock
    }

    /// Hands a notification on that was not used.
    fn leave_behind(&mut self, owed: Option<Rc<str>>) {
        if let Some(set) = owed {
            self.wake(&set, Some(1));
        }
    }
}

impl Condition {
    /// Moves sleepers of a set to the line of the lock. Tells how many.
    fn wake(&mut self, set: &str, most: Option<u64>) -> u64 {
        let mut woken = 0;
        while most.is_none_or(|most| woken < most)
            && let Some((set, call)) = self.sleepers.pop(set)
        {
            woken += 1;
            self.lock.enter(Comer::Woken {
                call,
                wake: Wake::Notified,
                // A waiter that is woken with all others takes no other waiter's place.
                owed: most.map(|_| set),
            });
        }
        woken
    }
}

impl Primitive for Condition {
    const KIND: &'static str = "condition";
    const FORM: Form = Form::Compact;
    type Spec = ReleaseBy;

    fn create(release_by: ReleaseBy) -> Result<Self, Refusal> {
        Ok(Self {
            lock: Exclusion::new(release_by),
            sleepers: Sleepers::default(),
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Acquire>()
            .on::<Release>()
            .on::<Adopt>()
            .on::<MarkConsistent>()
            .on::<ForceUnlock>()
            .on::<Status>()
            .on::<Sleep>()
            .on::<Notify>()
            .on::<CountSleepers>()
            .on::<ReleaseAny>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.sleepers.remove(id));
        if let Some(owed) = self.lock.withdraw(id) {
            self.leave_behind(owed);
        }
    }

    /// The end of its time wakes a sleeper. One that was notified waits for the lock as others do.
    fn expire(&mut self, id: CallId) {
        if let Some(call) = self.sleepers.remove(id) {
            self.lock.enter(Comer::Woken {
                call,
                wake: Wake::TimedOut,
                owed: None,
            });
        } else if !matches!(self.lock.waiter(id), Some(Comer::Woken { .. })) {
            self.withdraw(id);
        }
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.sleepers.hang_up(ended);
        if ended.goes_on() {
            return;
        }
        for owed in self.lock.hang_up(ended) {
            self.leave_behind(owed);
        }
    }

    /// The lock, and then each wait set.
    fn survey(&self) -> Survey {
        let mut survey = self.lock.survey();
        survey.parts.extend(self.sleepers.survey());
        survey
    }
}

impl Serve<Sleep> for Condition {
    fn serve(&mut self, Sleep { grant, set }: Sleep, call: Call<Result<Woken, Refusal>>) {
        let left = check_name(&set).and_then(|()| {
            let grant = call.grant(grant)?;
            self.lock.leave(grant)?;
            Ok(grant)
        });
        match left {
            Err(refusal) => call.reply(Err(refusal)),
            Ok(grant) => {
                call.ends(grant);
                self.sleepers.push(&set, call);
                self.lock.pass_on();
            }
        }
    }
}

impl Serve<Notify> for Condition {
    fn serve(&mut self, Notify { grant, set, most }: Notify, call: Call<Result<u64, Refusal>>) {
        let checked = check_name(&set).and_then(|()| call.grant(grant));
        call.reply(match checked {
            Err(refusal) => Err(refusal),
            Ok(grant) if self.lock.is_held_by(grant) => Ok(self.wake(&set, most)),
            Ok(_) => Err(Refusal::NotHeld),
        });
    }
}

impl Serve<CountSleepers> for Condition {
    fn serve(&mut self, CountSleepers { set }: CountSleepers, call: Call<Result<u64, Refusal>>) {
        call.reply(check_name(&set).map(|()| self.sleepers.count(&set)));
    }
}

/// Refuses the name of a wait set that is too long to be one.
fn check_name(set: &str) -> Result<(), Refusal> {
    if set.len() <= MOST_NAME_BYTES {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "the name of a wait set has at most {MOST_NAME_BYTES} bytes, not {}",
        set.len()
    )))
}

/// A call that sleeps.
type Sleeper = Call<Result<Woken, Refusal>>;

/// The sleeping calls, by wait set and in order.
#[derive(Debug, Default)]
struct Sleepers {
    sets: BTreeMap<Rc<str>, WaitQueue<Sleeper>>,
    /// In which set each one sleeps.
    beds: BTreeMap<CallId, Rc<str>>,
}

impl Sleepers {
    fn push(&mut self, set: &str, call: Sleeper) {
        let known = self.sets.get_key_value(set).map(|(set, _)| Rc::clone(set));
        let set = known.unwrap_or_else(|| set.into());
        self.beds.insert(call.id(), Rc::clone(&set));
        self.sets.entry(set).or_default().push(call);
    }

    /// Takes the one that has slept longest in a set.
    fn pop(&mut self, set: &str) -> Option<(Rc<str>, Sleeper)> {
        let call = self.sets.get_mut(set)?.pop_front()?;
        let set = self.left(call.id())?;
        Some((set, call))
    }

    fn remove(&mut self, id: CallId) -> Option<Sleeper> {
        let call = self.sets.get_mut(self.beds.get(&id)?)?.remove(id)?;
        self.left(id);
        Some(call)
    }

    fn hang_up(&mut self, ended: &HangUp) {
        for id in ended.some_of(&self.beds) {
            drop(self.remove(id));
        }
    }

    fn count(&self, set: &str) -> u64 {
        let asleep = self.sets.get(set).map_or(0, WaitQueue::len);
        asleep.try_into().unwrap_or(u64::MAX)
    }

    /// Who sleeps in each set, as far as there is room for so many in all. Of the others it is told how many
    /// they are, those of sets that are not told of as some without a set.
    fn survey(&self) -> Vec<Part> {
        let mut room = Survey::MOST;
        let mut rest = count(self.beds.len());
        let mut parts = Vec::new();
        for (set, asleep) in self.sets.iter().take(Survey::MOST) {
            let waiting = |(_, call)| Waiting::new(call, 1, "notification");
            let waiters: Vec<Waiting> = asleep.iter().map(waiting).take(room).collect();
            room -= waiters.len();
            rest -= count(asleep.len());
            parts.push(Part {
                key: Some(set.as_ref().to_owned()),
                more_waiters: count(asleep.len() - waiters.len()),
                waiters,
                ..Part::default()
            });
        }
        if rest > 0 {
            parts.push(Part {
                more_waiters: rest,
                ..Part::default()
            });
        }
        parts
    }

    /// Takes note that a call sleeps no longer. A set that is empty is forgotten.
    fn left(&mut self, id: CallId) -> Option<Rc<str>> {
        let set = self.beds.remove(&id)?;
        if self.sets.get(&set).is_some_and(WaitQueue::is_empty) {
            self.sets.remove(&set);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::{Fault, Proof, SessionId};

    use crate::bench::Bench;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A condition whose lock the last of its sessions holds, and those that sleep in a set.
    fn asleep(set: &str, sessions: &[u64]) -> (Bench<Condition>, Vec<CallId>) {
        let mut bench = Bench::new(ReleaseBy::Holder).unwrap();
        let sleepers = sessions.iter().map(|session| {
            let grant = bench.call(*session, Acquire);
            sleep(&mut bench, grant, set)
        });
        let sleepers = sleepers.collect();
        (bench, sleepers)
    }

    fn sleep(bench: &mut Bench<Condition>, grant: CallId, set: &str) -> CallId {
        let set = set.to_owned();
        bench.call(
            grant.session().number(),
            Sleep {
                grant: Proof::own(grant),
                set,
            },
        )
    }

    fn notify(
        bench: &mut Bench<Condition>,
        grant: CallId,
        most: Option<u64>,
    ) -> Result<u64, Refusal> {
        notify_set(bench, grant, "", most)
    }

    fn notify_set(
        bench: &mut Bench<Condition>,
        grant: CallId,
        set: &str,
        most: Option<u64>,
    ) -> Result<u64, Refusal> {
        let set = set.to_owned();
        let id = bench.call(
            grant.session().number(),
            Notify {
                grant: Proof::own(grant),
                set,
                most,
            },
        );
        bench.reply::<Notify>(id).unwrap().unwrap()
    }

    fn acquire(bench: &mut Bench<Condition>, session: u64) -> CallId {
        let id = bench.call(session, Acquire);
        assert!(bench.is_answered(id), "the lock is not free");
        id
    }

    fn release(bench: &mut Bench<Condition>, grant: CallId) {
        let id = bench.call(
            grant.session().number(),
            Release {
                grant: Proof::own(grant),
            },
        );
        assert_eq!(bench.reply::<Release>(id), Some(Ok(Ok(()))));
    }

    /// What woke a sleeper that has the lock again.
    fn woken(bench: &Bench<Condition>, id: CallId) -> Option<Wake> {
        let told = bench.reply::<Sleep>(id)?.expect("no fault");
        Some(told.expect("no refusal").wake)
    }

    fn sleepers(bench: &mut Bench<Condition>, set: &str) -> u64 {
        let set = set.to_owned();
        let id = bench.call(99, CountSleepers { set });
        bench.reply::<CountSleepers>(id).unwrap().unwrap().unwrap()
    }

    #[test]
    fn to_wait_frees_the_lock_in_the_same_turn() {
        let (mut bench, _) = asleep("", &[]);
        let holder = acquire(&mut bench, 1);
        let next = bench.call(2, Acquire);
        let sleeper = sleep(&mut bench, holder, "");
        assert!(bench.is_answered(next) && !bench.is_answered(sleeper));
        assert_eq!(sleepers(&mut bench, ""), 1);
    }

    #[test]
    fn notified_waiters_move_to_the_locks_line_in_order() {
        let (mut bench, asleep) = asleep("", &[1, 2, 3]);
        let notifier = acquire(&mut bench, 4);
        let fresh = bench.call(5, Acquire);
        assert_eq!(notify(&mut bench, notifier, Some(2)), Ok(2));
        assert!(!asleep.iter().any(|id| bench.is_answered(*id)));
        release(&mut bench, notifier);
        release(&mut bench, fresh);
        for id in &asleep[..2] {
            assert_eq!(woken(&bench, *id), Some(Wake::Notified));
            release(&mut bench, *id);
        }
        assert_eq!(woken(&bench, asleep[2]), None);
    }

    #[test]
    fn notification_without_a_sleeper_is_not_stored() {
        let (mut bench, _) = asleep("", &[]);
        let notifier = acquire(&mut bench, 1);
        assert_eq!(notify(&mut bench, notifier, Some(3)), Ok(0));
        assert_eq!(notify(&mut bench, notifier, None), Ok(0));
        let sleeper = sleep(&mut bench, notifier, "");
        assert!(!bench.is_answered(sleeper));
    }

    #[test]
    fn neither_waiting_nor_notifying_goes_without_the_lock() {
        let (mut bench, asleep) = asleep("", &[1]);
        let holder = acquire(&mut bench, 2);
        for stranger in [asleep[0], CallId::new(SessionId::new(3), 77)] {
            assert_eq!(notify(&mut bench, stranger, None), Err(Refusal::NotHeld));
            let refused = sleep(&mut bench, stranger, "");
            assert_eq!(
                bench.reply::<Sleep>(refused),
                Some(Ok(Err(Refusal::NotHeld)))
            );
        }
        assert!(bench.primitive().unwrap().lock.is_held_by(holder));
        assert_eq!(sleepers(&mut bench, ""), 1);
    }

    #[test]
    fn timeout_bounds_the_sleep_and_not_the_way_back_to_the_lock() {
        let (mut bench, _) = asleep("", &[]);
        let grant = acquire(&mut bench, 1);
        let set = String::new();
        let sleeper = bench.call_timeout(
            1,
            Sleep {
                grant: Proof::own(grant),
                set,
            },
            SECOND,
        );
        let holder = acquire(&mut bench, 2);
        bench.advance(SECOND * 10);
        assert_eq!(woken(&bench, sleeper), None);
        assert_eq!(
            notify(&mut bench, holder, Some(1)),
            Ok(0),
            "it sleeps no longer"
        );
        release(&mut bench, holder);
        assert_eq!(woken(&bench, sleeper), Some(Wake::TimedOut));
        release(&mut bench, sleeper);
    }

    #[test]
    fn waiter_that_timed_out_swallows_no_notification() {
        let (mut bench, _) = asleep("", &[]);
        let grant = acquire(&mut bench, 1);
        let set = String::new();
        let late = bench.call_timeout(
            1,
            Sleep {
                grant: Proof::own(grant),
                set,
            },
            SECOND,
        );
        let grant = acquire(&mut bench, 2);
        let patient = sleep(&mut bench, grant, "");
        let notifier = acquire(&mut bench, 3);
        bench.advance(SECOND * 2);
        assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
        release(&mut bench, notifier);
        release(&mut bench, late);
        assert_eq!(woken(&bench, patient), Some(Wake::Notified));
    }

    #[test]
    fn deadline_of_one_that_was_notified_changes_nothing() {
        let (mut bench, _) = asleep("", &[]);
        let grant = acquire(&mut bench, 1);
        let set = String::new();
        let sleeper = bench.call_timeout(
            1,
            Sleep {
                grant: Proof::own(grant),
                set,
            },
            SECOND,
        );
        let notifier = acquire(&mut bench, 2);
        assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
        bench.advance(SECOND * 2);
        release(&mut bench, notifier);
        assert_eq!(woken(&bench, sleeper), Some(Wake::Notified));
        assert_eq!(bench.times_answered(sleeper), 1);
    }

    #[test]
    fn acquire_in_the_line_times_out_as_that_of_any_lock() {
        let (mut bench, _) = asleep("", &[]);
        acquire(&mut bench, 1);
        let fresh = bench.call_timeout(2, Acquire, SECOND);
        bench.advance(SECOND);
        assert_eq!(bench.reply::<Acquire>(fresh), Some(Err(Fault::TimedOut)));
    }

    #[test]
    fn sleeper_that_is_dropped_or_dead_gets_no_notification() {
        let (mut bench, asleep) = asleep("", &[1, 2, 3]);
        bench.withdraw(asleep[0]);
        bench.hang_up(2);
        let notifier = acquire(&mut bench, 4);
        assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
        release(&mut bench, notifier);
        assert_eq!(woken(&bench, asleep[2]), Some(Wake::Notified));
        assert_eq!(bench.reply::<Sleep>(asleep[0]), Some(Err(Fault::Withdrawn)));
        assert!(!bench.is_answered(asleep[1]));
    }

    /// One of two sleepers is notified, leaves by `leave` in the line or inside, and the other one
    /// must be woken in its place.
    fn passes_on(is_inside: bool, leave: fn(&mut Bench<Condition>, CallId)) {
        let (mut bench, asleep) = asleep("", &[1, 2]);
        let notifier = acquire(&mut bench, 3);
        assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
        if is_inside {
            release(&mut bench, notifier);
            assert_eq!(woken(&bench, asleep[0]), Some(Wake::Notified));
            leave(&mut bench, asleep[0]);
        } else {
            leave(&mut bench, asleep[0]);
            assert_eq!(woken(&bench, asleep[1]), None, "the lock is held");
            release(&mut bench, notifier);
        }
        assert_eq!(woken(&bench, asleep[1]), Some(Wake::Notified));
        assert_eq!(sleepers(&mut bench, ""), 0);
        release(&mut bench, asleep[1]);
    }

    #[test]
    fn notification_of_one_dropped_in_the_line_passes_to_the_next_sleeper() {
        passes_on(false, Bench::withdraw);
    }

    #[test]
    fn notification_of_one_dead_in_the_line_passes_to_the_next_sleeper() {
        passes_on(false, |bench, id| bench.hang_up(id.session().number()));
    }

    #[test]
    fn grant_that_was_never_seen_is_released_and_its_notification_passed_on() {
        passes_on(true, Bench::withdraw);
    }

    #[test]
    fn notification_of_one_that_dies_before_it_releases_passes_to_the_next_sleeper() {
        passes_on(true, |bench, id| bench.hang_up(id.session().number()));
    }

    #[test]
    fn notification_of_one_whose_lock_is_forced_open_passes_to_the_next_sleeper() {
        passes_on(true, |bench, _| {
            bench.call(9, ForceUnlock);
        });
    }

    #[test]
    fn notification_goes_with_a_hold_that_is_handed_on() {
        passes_on(true, |bench, grant| {
            let ticket = bench.signed(grant);
            bench.call(8, Adopt { grant: ticket });
            assert!(bench.is_revoked(grant));
            bench.hang_up(8);
        });
    }

    #[test]
    fn notification_is_used_by_who_releases_or_sleeps_again() {
        for sleeps_again in [false, true] {
            let (mut bench, asleep) = asleep("", &[1, 2]);
            let notifier = acquire(&mut bench, 3);
            notify(&mut bench, notifier, Some(1)).unwrap();
            release(&mut bench, notifier);
            if sleeps_again {
                sleep(&mut bench, asleep[0], "another set");
            } else {
                release(&mut bench, asleep[0]);
            }
            bench.hang_up(1);
            assert_eq!(woken(&bench, asleep[1]), None);
        }
    }

    #[test]
    fn of_a_notification_of_all_nothing_is_passed_on() {
        let (mut bench, asleep) = asleep("", &[1]);
        let notifier = acquire(&mut bench, 2);
        assert_eq!(notify(&mut bench, notifier, None), Ok(1));
        let later = sleep(&mut bench, notifier, "");
        assert_eq!(woken(&bench, asleep[0]), Some(Wake::Notified));
        bench.hang_up(1);
        assert_eq!(woken(&bench, later), None);
    }

    #[test]
    fn notifier_that_dies_has_notified() {
        let (mut bench, asleep) = asleep("", &[1]);
        let notifier = acquire(&mut bench, 2);
        notify(&mut bench, notifier, Some(1)).unwrap();
        bench.hang_up(2);
        let told = bench.reply::<Sleep>(asleep[0]).unwrap().unwrap().unwrap();
        assert_eq!(told.wake, Wake::Notified);
        assert!(told.granted.abandoned.is_some());
    }

    #[test]
    fn wait_sets_share_the_lock_and_are_notified_apart() {
        let (mut bench, not_full) = asleep("not full", &[1]);
        let grant = acquire(&mut bench, 2);
        let not_empty = sleep(&mut bench, grant, "not empty");
        let holder = acquire(&mut bench, 3);
        assert_eq!(notify_set(&mut bench, holder, "not empty", Some(9)), Ok(1));
        assert_eq!(notify_set(&mut bench, holder, "", None), Ok(0));
        release(&mut bench, holder);
        assert_eq!(woken(&bench, not_empty), Some(Wake::Notified));
        assert_eq!(woken(&bench, not_full[0]), None);
        let asleep = &bench.primitive().unwrap().sleepers;
        assert_eq!((asleep.sets.len(), asleep.beds.len()), (1, 1));
    }

    #[test]
    fn survey_lists_so_many_sleepers_in_all_and_counts_the_others() {
        let mut bench: Bench<Condition> = Bench::new(ReleaseBy::Holder).unwrap();
        let sleepers = Survey::MOST + 20;
        for number in 0..sleepers {
            let grant = bench.call(1, Acquire);
            sleep(&mut bench, grant, &format!("{:02}", number % 10));
        }
        let survey = bench.primitive().unwrap().survey();
        let listed: usize = survey.parts.iter().map(|part| part.waiters.len()).sum();
        let more: u64 = survey.parts.iter().map(|part| part.more_waiters).sum();
        assert_eq!((listed, more), (Survey::MOST, 20));
        assert_eq!(survey.parts.len(), 11);
    }

    #[test]
    fn name_of_a_wait_set_that_is_too_long_is_refused_and_the_lock_stays_held() {
        let (mut bench, _) = asleep("", &[]);
        let holder = acquire(&mut bench, 1);
        let (fits, too_long) = ("x".repeat(255), "x".repeat(256));
        let refusal =
            Refusal::Invalid("the name of a wait set has at most 255 bytes, not 256".into());
        let refused = sleep(&mut bench, holder, &too_long);
        assert_eq!(
            bench.reply::<Sleep>(refused),
            Some(Ok(Err(refusal.clone())))
        );
        let counted = bench.call(
            1,
            CountSleepers {
                set: too_long.clone(),
            },
        );
        assert_eq!(
            bench.reply::<CountSleepers>(counted),
            Some(Ok(Err(refusal.clone())))
        );
        assert_eq!(
            notify_set(&mut bench, holder, &too_long, None),
            Err(refusal)
        );
        assert_eq!(notify_set(&mut bench, holder, &fits, None), Ok(0));
        let sleeper = sleep(&mut bench, holder, &fits);
        assert!(!bench.is_answered(sleeper));
    }
}
