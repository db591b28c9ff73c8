//! The condition: a lock, and calls that sleep until a holder of the lock notifies them.
//!
//! Sleepers belong to named wait sets, which share the lock. A sleep releases the lock in the same turn, and a
//! woken sleeper moves to the queue of the lock.
//!
//! Invariants: a call is in exactly one of three states: it sleeps, waits in the queue, or holds the lock. A
//! wait set exists only while a call sleeps in it.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{
        Acquire, Adopt, CountSleepers, ForceUnlock, GetLockStatus, Granted, MarkConsistent, Notify,
        Release, ReleaseAny, ReleaseBy, Sleep, Wake, Woken,
    },
};

use crate::{
    kind::{
        call::{Call, Outbox},
        hang_up::{HangUp, SLICE, drop_some_of},
        held_bytes::CallBytes,
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
    lock: Exclusion<ConditionWaiter>,
    sleepers: Sleepers,
}

/// The most bytes in the name of a wait set.
const MOST_NAME_BYTES: usize = 255;

/// The bytes that a wait set with a name counts besides the name.
const NAME_BYTES: usize = 128;

/// A call in the queue of the lock.
#[derive(Debug)]
pub enum ConditionWaiter {
    /// A new call for the lock.
    Fresh(Call<Result<Granted, Refusal>>),
    /// A call that has slept.
    Woken {
        /// The sleeping call.
        call: Call<Result<Woken, Refusal>>,
        /// The reason why it woke up.
        wake: Wake,
        /// The wait set whose notification has to be passed on if this call does not use it.
        owed: Option<Rc<str>>,
    },
}

impl From<Call<Result<Granted, Refusal>>> for ConditionWaiter {
    fn from(call: Call<Result<Granted, Refusal>>) -> Self {
        Self::Fresh(call)
    }
}

impl Parked for ConditionWaiter {
    fn id(&self) -> CallId {
        match self {
            Self::Fresh(call) => call.id(),
            Self::Woken { call, .. } => call.id(),
        }
    }
}

impl Waiter for ConditionWaiter {
    type Carried = Option<Rc<str>>;

    fn since(&self) -> Duration {
        match self {
            Self::Fresh(call) => call.since(),
            Self::Woken { call, .. } => call.arrived(),
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
    type Waiter = ConditionWaiter;

    fn exclusion(&self) -> &Exclusion<ConditionWaiter> {
        &self.lock
    }

    fn exclusion_mut(&mut self) -> &mut Exclusion<ConditionWaiter> {
        &mut self.lock
    }

    /// Passes on a notification that was not used.
    fn leave_behind(&mut self, owed: Option<Rc<str>>) {
        if let Some(set) = owed {
            self.wake(&set, Some(1));
        }
    }
}

impl Condition {
    /// Moves sleepers of a set to the queue of the lock. Returns their number.
    fn wake(&mut self, set: &str, most: Option<i128>) -> u64 {
        let mut woken = 0;
        while most.is_none_or(|most| i128::from(woken) < most)
            && let Some((set, call)) = self.sleepers.pop(set)
        {
            woken += 1;
            self.lock.enter(ConditionWaiter::Woken {
                call,
                wake: Wake::Notified,
                // A sleeper that is woken with all others takes no notification from another one.
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

    fn describe(release_by: &ReleaseBy) -> String {
        release_by.describe()
    }

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
            .on::<GetLockStatus>()
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

    /// The deadline wakes a sleeper. A sleeper that was notified waits for the lock as other calls do.
    fn expire(&mut self, id: CallId) {
        if let Some(call) = self.sleepers.remove(id) {
            self.lock.enter(ConditionWaiter::Woken {
                call,
                wake: Wake::TimedOut,
                owed: None,
            });
        } else if !matches!(self.lock.waiter(id), Some(ConditionWaiter::Woken { .. })) {
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

    fn drop_some(&mut self) -> bool {
        self.sleepers.drop_some() || self.lock.drop_some()
    }

    /// The lock, followed by each wait set.
    fn survey(&self) -> Survey {
        let mut survey = self.lock.survey();
        survey.parts.extend(self.sleepers.survey());
        survey
    }
}

impl Serve<Sleep> for Condition {
    fn serve(&mut self, Sleep { grant, set }: Sleep, call: Call<Result<Woken, Refusal>>) {
        let left = check_name(&set).and_then(|()| {
            let grant = call.verify(grant)?;
            self.lock.leave(grant)?;
            Ok(grant)
        });
        match left {
            Err(refusal) => call.reply(Err(refusal)),
            Ok(grant) => {
                call.record_end(grant);
                self.sleepers.push(&set, call);
                self.lock.pass_on();
            }
        }
    }
}

impl Serve<Notify> for Condition {
    fn serve(&mut self, Notify { grant, set, most }: Notify, call: Call<Result<u64, Refusal>>) {
        let checked = check_name(&set).and_then(|()| check_most(most));
        let checked = checked.and_then(|()| call.verify(grant));
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

/// Refuses a wait set's name that is too long.
fn check_name(set: &str) -> Result<(), Refusal> {
    if set.len() <= MOST_NAME_BYTES {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "the name of a wait set has at most {MOST_NAME_BYTES} bytes, not {}",
        set.len()
    )))
}

/// Refuses a negative number of calls to wake.
fn check_most(most: Option<i128>) -> Result<(), Refusal> {
    match most {
        Some(most) if most < 0 => Err(Refusal::Invalid(format!(
            "notify 0 sleepers or more, or all of them, not {most}"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// A call that sleeps.
type Sleeper = Call<Result<Woken, Refusal>>;

/// The sleeping calls, by wait set and in order.
#[derive(Debug, Default)]
struct Sleepers {
    sets: BTreeMap<Rc<str>, WaitSet>,
    /// The wait set of each sleeping call.
    set_of: BTreeMap<CallId, Rc<str>>,
}

/// The sleeping calls of one wait set.
#[derive(Debug)]
struct WaitSet {
    asleep: WaitQueue<Sleeper>,
    /// Counts the bytes of the name. The default set, whose name is empty, counts only its calls.
    _name: Option<CallBytes>,
}

impl WaitSet {
    fn new(name: &str, outbox: &Outbox) -> Self {
        let bytes = (!name.is_empty())
            .then(|| CallBytes::new(outbox.shared_account(), NAME_BYTES + name.len()));
        Self {
            asleep: WaitQueue::new(),
            _name: bytes,
        }
    }
}

impl Sleepers {
    fn push(&mut self, set: &str, call: Sleeper) {
        let known = self.sets.get_key_value(set).map(|(set, _)| Rc::clone(set));
        let set = known.unwrap_or_else(|| set.into());
        self.set_of.insert(call.id(), Rc::clone(&set));
        let name = Rc::clone(&set);
        let set = self.sets.entry(set);
        let set = set.or_insert_with(|| WaitSet::new(&name, call.outbox()));
        set.asleep.push(call);
    }

    /// Takes the call that has slept longest in a set.
    fn pop(&mut self, set: &str) -> Option<(Rc<str>, Sleeper)> {
        let call = self.sets.get_mut(set)?.asleep.pop_front()?;
        let set = self.left(call.id())?;
        Some((set, call))
    }

    fn remove(&mut self, id: CallId) -> Option<Sleeper> {
        let call = self
            .sets
            .get_mut(self.set_of.get(&id)?)?
            .asleep
            .remove(id)?;
        self.left(id);
        Some(call)
    }

    fn hang_up(&mut self, ended: &HangUp) {
        for id in ended.some_of(&self.set_of) {
            drop(self.remove(id));
        }
    }

    /// Drops some of many sleepers: see [`Primitive::drop_some`].
    fn drop_some(&mut self) -> bool {
        if drop_some_of(&mut self.set_of) {
            return true;
        }
        let mut dropped = 0;
        while dropped < SLICE
            && let Some(mut last) = self.sets.last_entry()
        {
            if last.get_mut().asleep.drop_some() {
                return true;
            }
            dropped += 1 + last.remove().asleep.len();
        }
        !self.sets.is_empty()
    }

    fn count(&self, set: &str) -> u64 {
        let asleep = self.sets.get(set).map_or(0, |set| set.asleep.len());
        asleep.try_into().unwrap_or(u64::MAX)
    }

    /// The sleepers of each set, up to a limit on all of them. The rest is only counted: sleepers of sets
    /// that are not listed count in a part without a set.
    fn survey(&self) -> Vec<Part> {
        let mut room = Survey::MOST;
        let mut rest = count(self.set_of.len());
        let mut parts = Vec::new();
        for (name, WaitSet { asleep, .. }) in self.sets.iter().take(Survey::MOST) {
            let waiting = |(_, call)| Waiting::new(call, 1, "notification");
            let waiters: Vec<Waiting> = asleep.iter().map(waiting).take(room).collect();
            room -= waiters.len();
            rest -= count(asleep.len());
            parts.push(Part {
                key: Some(name.as_ref().to_owned()),
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

    /// Records that a call no longer sleeps, and removes its set if that is empty.
    fn left(&mut self, id: CallId) -> Option<Rc<str>> {
        let set = self.set_of.remove(&id)?;
        if self.sets.get(&set).is_some_and(|set| set.asleep.is_empty()) {
            self.sets.remove(&set);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests;
