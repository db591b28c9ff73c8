//! `ObjectStats`: wait and hold times of one object, kept from its first waiting call on.
//!
//! All kinds share the two points of measurement: the answer to a call, and the drop of a [`HoldTimer`].
//!
//! Invariant: an object without a waiting call since its creation has no `ObjectStats`.
//!
//! [`HoldTimer`]: crate::HoldTimer

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hdrhistogram::Histogram;
use lockkeeper_protocol::{CallId, Fault, Stats, Times};

/// Collected times, which take a few hundred bytes for each power of two that occurs.
#[derive(Debug)]
struct Clocking {
    counts: Histogram<u32>,
    min: Duration,
    max: Duration,
    sum: Duration,
}

impl Clocking {
    fn new() -> Option<Box<Self>> {
        // The crate permits one significant digit.
        let counts = Histogram::new(1).ok()?;
        Some(Box::new(Self {
            counts,
            min: Duration::MAX,
            max: Duration::ZERO,
            sum: Duration::ZERO,
        }))
    }

    fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows as needed; a time that is too long even so is not counted.
        if self.counts.record(micros).is_ok() {
            self.min = self.min.min(time);
            self.max = self.max.max(time);
            self.sum = self.sum.saturating_add(time);
        }
    }

    fn times(&self) -> Times {
        let count = self.counts.len();
        let part = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let quantile = |part| {
            let micros = self.counts.value_at_quantile(part);
            Duration::from_micros(micros).clamp(self.min, self.max)
        };
        let mut times = Times::default();
        times.count = count;
        times.min = self.min;
        times.mean = self.sum / part;
        times.p50 = quantile(0.5);
        times.p90 = quantile(0.9);
        times.p99 = quantile(0.99);
        times.max = self.max;
        times
    }
}

/// The statistics of an object.
#[derive(Debug, Default)]
pub(crate) struct ObjectStats {
    stats: Stats,
    waited: Option<Box<Clocking>>,
    held: Option<Box<Clocking>>,
    /// The call that this turn serves. Its answer ends no wait.
    serving: Option<CallId>,
    /// Whether calls may wait, without a check.
    pub(crate) is_crowded: bool,
    /// Whether the object is in the list of contended objects.
    pub(crate) is_listed: bool,
    callers: Callers,
}

/// The callers of the calls that wait and hold, where their clients report them.
#[derive(Debug, Default)]
struct Callers {
    by_call: HashMap<CallId, u64>,
    /// The number of callers that the last cleanup left.
    left: usize,
}

impl ObjectStats {
    /// Begins a turn.
    pub(crate) fn begin(&mut self, serving: Option<CallId>) {
        self.serving = serving;
    }

    /// Records that the call of this turn has to wait.
    pub(crate) fn wait(&mut self) {
        self.stats.waits += 1;
        self.is_crowded = true;
    }

    /// Records an answer to a call that arrived `ago` before.
    pub(crate) fn answered(&mut self, id: CallId, ago: Duration, fault: Option<&Fault>) {
        if self.serving == Some(id) || id.is_one_way() {
            return;
        }
        match fault {
            Some(Fault::TimedOut) => self.stats.timeouts += 1,
            Some(Fault::Withdrawn) => self.stats.cancellations += 1,
            Some(Fault::Gone) => self.stats.disconnections += 1,
            Some(Fault::Deadlock(_)) => self.stats.deadlocks += 1,
            Some(_) | None => clock(&mut self.waited, ago),
        }
    }

    pub(crate) fn granted(&mut self) {
        self.stats.grants += 1;
    }

    pub(crate) fn abandoned(&mut self) {
        self.stats.abandonments += 1;
    }

    /// Records the end of a hold.
    pub(crate) fn held(&mut self, time: Duration) {
        if self.stats.waits > 0 {
            clock(&mut self.held, time);
        }
    }

    /// The statistics, once a call has waited.
    pub(crate) fn stats(&self) -> Option<Stats> {
        let times = |clocking: &Option<Box<Clocking>>| {
            let clocking = clocking.as_ref();
            clocking
                .map(|clocking| clocking.times())
                .unwrap_or_default()
        };
        (self.stats.waits > 0).then(|| {
            let mut stats = self.stats.clone();
            stats.waited = times(&self.waited);
            stats.held = times(&self.held);
            stats
        })
    }

    /// Records the caller of a call.
    pub(crate) fn made_by(&mut self, id: CallId, caller: u64) {
        self.callers.by_call.insert(id, caller);
    }

    /// Returns whether so many calls are stored that most of them should be over.
    pub(crate) fn is_full_of_callers(&self) -> bool {
        self.callers.by_call.len() > 64 + 2 * self.callers.left
    }

    /// Removes the callers of calls that neither hold nor wait any more, and returns the others.
    pub(crate) fn callers(&mut self, live: impl Iterator<Item = CallId>) -> &HashMap<CallId, u64> {
        if !self.callers.by_call.is_empty() {
            let live: HashSet<CallId> = live.collect();
            self.callers.by_call.retain(|id, _| live.contains(id));
        }
        self.callers.left = self.callers.by_call.len();
        &self.callers.by_call
    }
}

fn clock(clocking: &mut Option<Box<Clocking>>, time: Duration) {
    if clocking.is_none() {
        *clocking = Clocking::new();
    }
    if let Some(clocking) = clocking {
        clocking.record(time);
    }
}

/// A time in nanoseconds: half the size of a `Duration`, and sufficient for centuries.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::SessionId;

    use crate::kind::survey::{Holding, Part, Survey};

    use super::*;

    #[test]
    fn times_are_exact_at_both_ends_and_within_seven_percent_between() {
        let mut clocking = Clocking::new().expect("a histogram");
        for milli in 1..=1000 {
            clocking.record(Duration::from_millis(milli));
        }
        let Times {
            count,
            min,
            mean,
            p50,
            p90,
            p99,
            max,
            ..
        } = clocking.times();
        assert_eq!(count, 1000);
        assert_eq!(
            (min, max),
            (Duration::from_millis(1), Duration::from_secs(1))
        );
        assert_eq!(mean, Duration::from_micros(500_500));
        for (told, milli) in [(p50, 500.0), (p90, 900.0), (p99, 990.0)] {
            let off = told.as_secs_f64() * 1e3 / milli;
            assert!((1.0..1.07).contains(&off), "{told:?} for {milli} ms");
        }
    }

    #[test]
    fn callers_are_kept_while_their_calls_hold_or_wait_and_no_longer() {
        let id = |seq| CallId::new(SessionId::new(1), seq);
        let holding = Holding {
            call: id(1),
            units: 1,
            mode: "",
            since: Duration::ZERO,
            fence: None,
        };
        let part = Part {
            holders: vec![holding],
            ..Part::default()
        };
        let survey = Survey {
            parts: vec![part],
            ..Survey::default()
        };
        let mut object_stats = ObjectStats::default();
        let mut most = 0;
        for seq in 1..10_000 {
            if object_stats.is_full_of_callers() {
                object_stats.callers(survey.calls());
            }
            object_stats.made_by(id(seq), seq % 7);
            most = most.max(object_stats.callers.by_call.len());
        }
        assert!((10..100).contains(&most), "{most} callers for one call");
        let left = object_stats.callers(survey.calls());
        assert_eq!(left, &HashMap::from([(id(1), 1)]));
    }

    #[test]
    fn an_hour_of_waiting_takes_little_memory() {
        let mut clocking = Clocking::new().expect("a histogram");
        clocking.record(Duration::from_secs(3600));
        assert!(clocking.counts.distinct_values() * 4 < 2048);
        assert_eq!(clocking.times().max, Duration::from_secs(3600));
    }
}
