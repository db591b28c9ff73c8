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

/// The counters of one kind since the manager's start.
#[derive(Debug)]
pub struct Tally {
    /// The name of the kind.
    pub kind: &'static str,
    /// The calls of each of its operations, including one-way calls.
    pub calls: Vec<(&'static str, Count)>,
    /// The objects that were created.
    pub made: Count,
    /// The objects that were removed.
    pub removed: Count,
    /// The objects that panicked.
    pub failed: Count,
    /// The calls that expect an answer.
    pub asked: Count,
    /// The calls in `asked` that have an answer of any sort.
    pub answered: Count,
    /// The fences that were drawn, one for each grant of a hold.
    pub granted: Count,
    /// The answers that were refusals.
    pub refused: Count,
    /// The answers because of a deadline.
    pub timed_out: Count,
    /// The answers because the caller had given up.
    pub withdrawn: Count,
    /// The answers that were other faults.
    pub faulted: Count,
    /// The holds that sessions left when they ended.
    pub abandoned: Count,
    /// The grants that were revoked.
    pub revoked: Count,
    /// The jobs that were run again after the death of their worker.
    pub retried: Count,
    /// The wait times of calls that were answered in a later turn than that of their arrival.
    pub waits: Waits,
    /// The number of the operation that takes a hold by force, if the kind has one.
    pub(crate) force: Option<u32>,
    /// The numbers of that operation, and of others that are reserved for administrators.
    pub(crate) administrative: Box<[u32]>,
}

/// The name of the operation that takes a hold by force, in every kind.
const FORCE: &str = "force_unlock";

impl Tally {
    fn new(kind: &'static str, operations: impl Iterator<Item = (&'static str, bool)>) -> Self {
        let (mut calls, mut force, mut administrative) = (Vec::new(), None, Vec::new());
        for ((name, is_administrative), number) in operations.zip(0..) {
            calls.push((name, Count::default()));
            if name == FORCE {
                force = Some(number);
            }
            if is_administrative || name == FORCE {
                administrative.push(number);
            }
        }
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
            force,
            administrative: administrative.into(),
        }
    }

    /// Returns the number of objects.
    #[must_use]
    pub fn objects(&self) -> u64 {
        let ended = self.removed.get() + self.failed.get();
        self.made.get().saturating_sub(ended)
    }

    /// Returns the number of waiting calls.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.asked.get().saturating_sub(self.answered.get())
    }
}

/// A number that only rises.
#[derive(Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    /// Adds to the number.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The number of waits of each length, to an eighth of its magnitude.
#[derive(Default)]
pub struct Waits(RefCell<Vec<u64>>);

/// Waits below this many microseconds are counted to the microsecond.
const EXACT: u64 = 1 << EXACT_MAGNITUDE;

const EXACT_MAGNITUDE: u32 = 4;

/// The index of a wait among those of the same length.
fn place(micros: u64) -> usize {
    if micros < EXACT {
        return usize::try_from(micros).unwrap_or_default();
    }
    let magnitude = micros.ilog2();
    let eighth = usize::try_from(micros >> (magnitude - 3) & 7).unwrap_or_default();
    let beyond = usize::try_from(magnitude - EXACT_MAGNITUDE).unwrap_or_default();
    (1 << EXACT_MAGNITUDE) + beyond * 8 + eighth
}

/// The middle of the range of an index, in microseconds.
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

    /// Takes the number of waits of each length since the last call.
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

/// The counters of a shard.
#[derive(Debug, Default)]
pub struct Tallies {
    kinds: RefCell<Vec<Rc<Tally>>>,
    /// The bytes received from clients.
    pub received: Count,
    /// The bytes sent to clients.
    pub sent: Count,
    /// Whether a counter has changed since the last query.
    has_news: Cell<bool>,
    /// The task to wake when a counter changes.
    waker: RefCell<Option<Waker>>,
}

impl Tallies {
    /// Returns the counters of a kind, created with its first object. The operations are reserved for administrators
    /// or not.
    pub(crate) fn of(
        &self,
        kind: &'static str,
        operations: impl Iterator<Item = (&'static str, bool)>,
    ) -> Rc<Tally> {
        let mut kinds = self.kinds.borrow_mut();
        if let Some(tally) = kinds.iter().find(|tally| tally.kind == kind) {
            return Rc::clone(tally);
        }
        let tally = Rc::new(Tally::new(kind, operations));
        kinds.push(Rc::clone(&tally));
        tally
    }

    /// Calls `each` with the counters of all kinds that have had an object.
    pub fn each(&self, each: impl FnMut(&Rc<Tally>)) {
        self.kinds.borrow().iter().for_each(each);
    }

    /// Records that a counter has changed.
    pub fn touch(&self) {
        if !self.has_news.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Waits until a counter has changed since the last time.
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
        let operations = [("acquire", false), (FORCE, false), ("clear", true)];
        let first = tallies.of("lock", operations.into_iter());
        let second = tallies.of("lock", [].into_iter());
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(
            (first.force, &*first.administrative),
            (Some(1), &[1, 2][..])
        );
        let event = tallies.of("event", [("set", false)].into_iter());
        assert_eq!((event.force, &*event.administrative), (None, &[][..]));
        let mut kinds = Vec::new();
        tallies.each(|tally| kinds.push(tally.kind));
        assert_eq!(kinds, ["lock", "event"]);
    }
}
