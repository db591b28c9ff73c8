//! Counters of each kind, as plain integers of one shard.
//!
//! A call increments integers that no other thread reads. The publisher is woken at most once for all
//! changes since its last visit, so counting costs little when no publisher runs.
//!
//! Invariant: this module does not know the publisher or its format.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// The numbers of one kind, all of them since the manager's start.
#[derive(Debug)]
pub struct Tally {
    /// The kind.
    pub kind: &'static str,
    /// How often each of its operations was called, also one way.
    pub calls: Vec<(&'static str, Count)>,
    /// How many objects were made.
    pub made: Count,
    /// How many objects were removed.
    pub removed: Count,
    /// How many objects panicked.
    pub failed: Count,
    /// How many calls want an answer.
    pub asked: Count,
    /// How many of them have one, of whatever sort.
    pub answered: Count,
    /// How many fences were drawn, which is how often something was granted to be held.
    pub granted: Count,
    /// How many answers were refusals.
    pub refused: Count,
    /// How many answers came because of a deadline.
    pub timed_out: Count,
    /// How many answers came because the caller had given up.
    pub withdrawn: Count,
    /// How many answers were other faults.
    pub faulted: Count,
    /// How many holds were left by sessions that ended.
    pub abandoned: Count,
    /// How many grants were taken away.
    pub revoked: Count,
    /// How many jobs are run again since their worker died.
    pub retried: Count,
    /// How long calls waited that were replied to later than in the turn that they came in.
    pub waits: Waits,
    /// The number of the operation that takes a hold by force, if there is one.
    pub(crate) force: Option<u32>,
}

/// The name of the operation that takes a hold by force, in whatever kind.
const FORCE: &str = "force_unlock";

impl Tally {
    fn new(kind: &'static str, operations: impl Iterator<Item = &'static str>) -> Self {
        let calls: Vec<_> = operations.map(|name| (name, Count::default())).collect();
        let force = calls.iter().position(|(name, _)| *name == FORCE);
        Self {
            kind,
            calls,
            made: Count::default(),
            removed: Count::default(),
            failed: Count::default(),
            asked: Count::default(),
            answered: Count::default(),
            granted: Count::default(),
            refused: Count::default(),
            timed_out: Count::default(),
            withdrawn: Count::default(),
            faulted: Count::default(),
            abandoned: Count::default(),
            revoked: Count::default(),
            retried: Count::default(),
            waits: Waits::default(),
            force: force.and_then(|number| u32::try_from(number).ok()),
        }
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> u64 {
        let ended = self.removed.get() + self.failed.get();
        self.made.get().saturating_sub(ended)
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.asked.get().saturating_sub(self.answered.get())
    }
}

/// A number that counts up.
#[derive(Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// How many waits there were of each length, to an eighth of its magnitude.
#[derive(Default)]
pub struct Waits(RefCell<Vec<u64>>);

/// Waits below this many microseconds are told apart to the microsecond.
const EXACT: u64 = 1 << EXACT_MAGNITUDE;

const EXACT_MAGNITUDE: u32 = 4;

/// The place of a wait among those that are as long.
fn place(micros: u64) -> usize {
    if micros < EXACT {
        return usize::try_from(micros).unwrap_or_default();
    }
    let magnitude = micros.ilog2();
    let eighth = usize::try_from(micros >> (magnitude - 3) & 7).unwrap_or_default();
    let beyond = usize::try_from(magnitude - EXACT_MAGNITUDE).unwrap_or_default();
    (1 << EXACT_MAGNITUDE) + beyond * 8 + eighth
}

/// The microseconds in the middle of those that have a place.
fn middle(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or_default();
    let Some(beyond) = place.checked_sub(EXACT) else {
        return place;
    };
    let shift = beyond / 8 + 1;
    let least = (8 + beyond % 8) << shift;
    least + (1 << shift >> 1)
}

impl Waits {
    pub(crate) fn note(&self, wait: Duration) {
        let place = place(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
        let mut counts = self.0.borrow_mut();
        if counts.len() <= place {
            counts.resize(place + 1, 0);
        }
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
        }
    }

    /// Takes out how many waits there were of each length since the last time.
    pub fn take(&self, mut each: impl FnMut(Duration, u64)) {
        let mut counts = self.0.borrow_mut();
        for (place, count) in counts.iter_mut().enumerate() {
            if *count > 0 {
                each(Duration::from_micros(middle(place)), *count);
                *count = 0;
            }
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits: u64 = self.0.borrow().iter().sum();
        f.debug_tuple("Waits").field(&waits).finish()
    }
}

/// The numbers of a shard.
#[derive(Debug, Default)]
pub struct Tallies {
    kinds: RefCell<Vec<Rc<Tally>>>,
    /// Bytes that came from clients.
    pub received: Count,
    /// Bytes that went to clients.
    pub sent: Count,
    /// Returns whether anything has happened since the last question.
    has_news: Cell<bool>,
    /// Who is to be woken when something happens.
    waker: RefCell<Option<Waker>>,
}

impl Tallies {
    /// The numbers of a kind, begun with its first object.
    pub(crate) fn of(
        &self,
        kind: &'static str,
        operations: impl Iterator<Item = &'static str>,
    ) -> Rc<Tally> {
        let mut kinds = self.kinds.borrow_mut();
        if let Some(tally) = kinds.iter().find(|tally| tally.kind == kind) {
            return Rc::clone(tally);
        }
        let tally = Rc::new(Tally::new(kind, operations));
        kinds.push(Rc::clone(&tally));
        tally
    }

    /// The numbers of all kinds that have had an object.
    pub fn each(&self, each: impl FnMut(&Rc<Tally>)) {
        self.kinds.borrow().iter().for_each(each);
    }

    /// Tells that something has happened.
    pub fn touch(&self) {
        if !self.has_news.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Waits until something has happened since the last time.
    pub fn poll_news(&self, task: &Context<'_>) -> Poll<()> {
        if self.has_news.take() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(task.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(waits: &Waits) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        waits.take(|wait, count| {
            taken.push((u64::try_from(wait.as_micros()).unwrap(), count));
        });
        taken
    }

    #[test]
    fn wait_is_told_to_a_sixteenth_of_its_length() {
        let waits = Waits::default();
        let lengths = (0..200).chain((8..63).flat_map(|power| {
            let around = 1_u64 << power;
            [around - 1, around, around + around / 3, around + around / 2]
        }));
        for micros in lengths.chain([u64::MAX]) {
            waits.note(Duration::from_micros(micros));
            let [(told, 1)] = taken(&waits)[..] else {
                panic!("{micros} is one wait")
            };
            assert!(told.abs_diff(micros) <= micros / 16, "{micros}: {told}");
        }
    }

    #[test]
    fn waits_are_counted_by_length_and_taken_once() {
        let waits = Waits::default();
        for micros in [7, 1000, 7, 1001] {
            waits.note(Duration::from_micros(micros));
        }
        assert_eq!(taken(&waits), [(7, 2), (992, 2)]);
        assert_eq!(taken(&waits), []);
    }

    #[test]
    fn whoever_waits_for_news_is_woken_once() {
        let tallies = Tallies::default();
        let task = Context::from_waker(Waker::noop());
        assert!(tallies.poll_news(&task).is_pending());
        tallies.touch();
        tallies.touch();
        assert!(tallies.poll_news(&task).is_ready());
        assert!(tallies.poll_news(&task).is_pending());
    }

    #[test]
    fn kind_has_one_tally_with_the_names_of_its_operations() {
        let tallies = Tallies::default();
        let first = tallies.of("lock", ["acquire", FORCE].into_iter());
        let second = tallies.of("lock", [].into_iter());
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(first.force, Some(1));
        assert_eq!(tallies.of("event", ["set"].into_iter()).force, None);
        let mut kinds = Vec::new();
        tallies.each(|tally| kinds.push(tally.kind));
        assert_eq!(kinds, ["lock", "event"]);
    }
}
