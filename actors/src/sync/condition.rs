//! The condition: a lock, and calls that sleep until its holder notifies them.
//!
//! Sleepers lie in named wait sets, which share the lock. To sleep frees the lock in the same turn;
//! to be woken is to stand in its line. Invariants: a call is asleep, in the line, or inside, and
//! never in two of these; a wait set is there while somebody sleeps in it.

use std::{collections::BTreeMap, rc::Rc};

use serde::{Deserialize, Serialize};

use super::{
    Acquire, Adopt, Entrant, Exclusion, Exclusive, ForceUnlock, Granted, MarkConsistent, Release,
    Status,
};
use crate::{
    Call, CallId, HangUp, Operation, Operations, Outbox, Primitive, Refusal, Serve, SessionId,
    WaitQueue,
};

/// Frees the lock and sleeps, until it is notified or its time is over; then waits for the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sleep {
    /// The call that holds the lock.
    pub grant: CallId,
    /// The wait set: at most 255 bytes.
    pub set: String,
}

/// Wakes those who have slept longest in a wait set. Answers how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notify {
    /// The call that holds the lock.
    pub grant: CallId,
    /// The wait set.
    pub set: String,
    /// How many at the most; without a number all.
    pub most: Option<u64>,
}

/// Asks how many sleep in a wait set, without waiting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountSleepers {
    /// The wait set.
    pub set: String,
}

/// What a sleeper is told that holds the lock again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// That it does.
    pub granted: Granted,
    /// What woke it.
    pub wake: Wake,
}

/// What woke a sleeper of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wake {
    /// A notification.
    Notified,
    /// The end of its time.
    TimedOut,
}

impl Operation for Sleep {
    const NAME: &'static str = "wait";
    type Reply = Result<Woken, Refusal>;
}

impl Operation for Notify {
    const NAME: &'static str = "notify";
    type Reply = Result<u64, Refusal>;
}

impl Operation for CountSleepers {
    const NAME: &'static str = "sleepers";
    type Reply = u64;
}

/// A lock with wait sets.
#[derive(Debug, Default)]
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

impl Entrant for Comer {
    type Brought = Option<Rc<str>>;

    fn id(&self) -> CallId {
        match self {
            Self::Fresh(call) => call.id(),
            Self::Woken { call, .. } => call.id(),
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

    fn brought(&self) -> Option<Rc<str>> {
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
    type Entrant = Comer;

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
                // Who is woken with all others takes nobody's place.
                owed: most.map(|_| set),
            });
        }
        woken
    }
}

impl Primitive for Condition {
    const KIND: &'static str = "condition";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
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
            .on::<CountSleepers>();
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
        self.sleepers.remove_session(ended.session);
        for owed in self.lock.hang_up(ended) {
            self.leave_behind(owed);
        }
    }
}

impl Serve<Sleep> for Condition {
    fn serve(&mut self, Sleep { grant, set }: Sleep, call: Call<Result<Woken, Refusal>>) {
        if set.len() > MOST_NAME_BYTES {
            call.reply(Err(Refusal::Invalid(format!(
                "the name of a wait set has at most {MOST_NAME_BYTES} bytes, not {}",
                set.len()
            ))));
        } else if let Err(refusal) = self.lock.leave(grant) {
            call.reply(Err(refusal));
        } else {
            self.sleepers.push(&set, call);
            self.lock.pass_on();
        }
    }
}

impl Serve<Notify> for Condition {
    fn serve(&mut self, Notify { grant, set, most }: Notify, call: Call<Result<u64, Refusal>>) {
        call.reply(if self.lock.is_held_by(grant) {
            Ok(self.wake(&set, most))
        } else {
            Err(Refusal::NotHeld)
        });
    }
}

impl Serve<CountSleepers> for Condition {
    fn serve(&mut self, CountSleepers { set }: CountSleepers, call: Call<u64>) {
        call.reply(self.sleepers.count(&set));
    }
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
        self.sets.entry(set).or_default().push(call.id(), call);
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

    fn remove_session(&mut self, session: SessionId) {
        let (least, greatest) = CallId::span(session);
        let asleep: Vec<CallId> = self
            .beds
            .range(least..=greatest)
            .map(|(id, _)| *id)
            .collect();
        for id in asleep {
            drop(self.remove(id));
        }
    }

    fn count(&self, set: &str) -> u64 {
        let asleep = self.sets.get(set).map_or(0, WaitQueue::len);
        asleep.try_into().unwrap_or(u64::MAX)
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
