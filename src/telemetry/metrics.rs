//! The names of all metrics, and the publisher of a shard's counters.
//!
//! Calls increment plain integers. The publisher reads them at most once a second, and only after a
//! change. Invariant: no label is created per call.

use std::{cell::RefCell, collections::HashMap, future, rc::Rc, time::Duration};

use lockkeeper_actors::{Shell, Tally};
use metrics::Unit;
use tokio::time;

pub(super) const SESSIONS: &str = "lockkeeper_sessions";

pub(super) const SESSIONS_BEGUN: &str = "lockkeeper_sessions_begun_total";

pub(super) const SESSIONS_ENDED: &str = "lockkeeper_sessions_ended_total";

pub(super) const REFUSED_CLIENTS: &str = "lockkeeper_clients_refused_total";

pub(super) const CONNECTS: &str = "lockkeeper_connects_total";

pub(super) const DISCONNECTS: &str = "lockkeeper_disconnects_total";

pub(super) const WORKERS_STARTED: &str = "lockkeeper_workers_started_total";

pub(super) const WORKERS_ENDED: &str = "lockkeeper_workers_ended_total";

pub(super) const TASKS: &str = "lockkeeper_tasks_total";

const RECEIVED: &str = "lockkeeper_received_bytes_total";

const SENT: &str = "lockkeeper_sent_bytes_total";

const CALLS: &str = "lockkeeper_calls_total";

const OBJECTS: &str = "lockkeeper_objects";

const WAITING: &str = "lockkeeper_waiting";

const STORED: &str = "lockkeeper_stored_bytes";

const WAITS: &str = "lockkeeper_wait_seconds";

/// A counter with one value per kind.
struct Counted {
    name: &'static str,
    of: fn(&Tally) -> u64,
    description: &'static str,
}

const COUNTED: [Counted; 11] = [
    Counted {
        name: "lockkeeper_objects_made_total",
        of: |tally| tally.made.get(),
        description: "objects made",
    },
    Counted {
        name: "lockkeeper_objects_removed_total",
        of: |tally| tally.removed.get(),
        description: "objects removed",
    },
    Counted {
        name: "lockkeeper_objects_failed_total",
        of: |tally| tally.failed.get(),
        description: "objects whose code panicked",
    },
    Counted {
        name: "lockkeeper_grants_total",
        of: |tally| tally.granted.get(),
        description: "grants that carry a fence",
    },
    Counted {
        name: "lockkeeper_refusals_total",
        of: |tally| tally.refused.get(),
        description: "calls that the object refused",
    },
    Counted {
        name: "lockkeeper_timeouts_total",
        of: |tally| tally.timed_out.get(),
        description: "calls that timed out, including tries",
    },
    Counted {
        name: "lockkeeper_cancellations_total",
        of: |tally| tally.withdrawn.get(),
        description: "calls that the caller withdrew while they waited",
    },
    Counted {
        name: "lockkeeper_faults_total",
        of: |tally| tally.faulted.get(),
        description: "calls that failed with a fault of the manager",
    },
    Counted {
        name: "lockkeeper_abandoned_total",
        of: |tally| tally.abandoned.get(),
        description: "holds that sessions left when they ended",
    },
    Counted {
        name: "lockkeeper_revoked_total",
        of: |tally| tally.revoked.get(),
        description: "grants taken away by force or adopted",
    },
    Counted {
        name: "lockkeeper_jobs_retried_total",
        of: |tally| tally.retried.get(),
        description: "chunks of tasks begun again because their worker died",
    },
];

/// The metrics of a shard. Dropping it subtracts its share from each gauge.
pub(crate) struct Numbers {
    shell: Rc<Shell>,
    published: RefCell<Published>,
}

/// The values that were published last.
#[derive(Default)]
struct Published {
    kinds: HashMap<&'static str, Kind>,
    received: u64,
    sent: u64,
    stored: u64,
}

/// The values of a kind that were published last.
#[derive(Default)]
struct Kind {
    counted: [u64; COUNTED.len()],
    calls: Vec<u64>,
    objects: u64,
    waiting: u64,
}

/// The interval between two publications.
const PERIOD: Duration = Duration::from_secs(1);

impl Numbers {
    /// Describes the metrics to the recorder.
    pub(crate) fn of(shell: &Rc<Shell>) -> Self {
        describe();
        Self {
            shell: Rc::clone(shell),
            published: RefCell::default(),
        }
    }

    /// Publishes changes, and never returns.
    pub(crate) async fn keep_publishing(&self) {
        loop {
            future::poll_fn(|task| self.shell.tallies().poll_news(task)).await;
            time::sleep(PERIOD).await;
            self.publish();
        }
    }

    fn publish(&self) {
        let Published {
            kinds,
            received,
            sent,
            stored,
        } = &mut *self.published.borrow_mut();
        let tallies = self.shell.tallies();
        tallies.each(|tally| kinds.entry(tally.kind).or_default().publish(tally));
        if let Some(more) = rise(received, tallies.received.get()) {
            metrics::counter!(RECEIVED).increment(more);
        }
        if let Some(more) = rise(sent, tallies.sent.get()) {
            metrics::counter!(SENT).increment(more);
        }
        let now = self.shell.stored_bytes().try_into().unwrap_or(u64::MAX);
        publish_stored(stored, now);
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.publish();
        publish_stored(&mut self.published.borrow_mut().stored, 0);
        for (kind, published) in &mut self.published.borrow_mut().kinds {
            level(OBJECTS, kind, &mut published.objects, 0);
            level(WAITING, kind, &mut published.waiting, 0);
        }
    }
}

impl Kind {
    fn publish(&mut self, tally: &Tally) {
        let kind = tally.kind;
        for (counted, published) in COUNTED.iter().zip(&mut self.counted) {
            if let Some(more) = rise(published, (counted.of)(tally)) {
                metrics::counter!(counted.name, "kind" => kind).increment(more);
            }
        }
        self.calls.resize(tally.calls.len(), 0);
        for ((operation, count), published) in tally.calls.iter().zip(&mut self.calls) {
            if let Some(more) = rise(published, count.get()) {
                metrics::counter!(CALLS, "kind" => kind, "operation" => *operation).increment(more);
            }
        }
        level(OBJECTS, kind, &mut self.objects, tally.objects());
        level(WAITING, kind, &mut self.waiting, tally.waiting());
        tally.waits.take(|wait, count| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            metrics::histogram!(WAITS, "kind" => kind).record_many(wait.as_secs_f64(), count);
        });
    }
}

/// Returns the increase of a counter since it was published.
fn rise(published: &mut u64, now: u64) -> Option<u64> {
    let more = now.saturating_sub(*published);
    *published = now;
    (more > 0).then_some(more)
}

/// Publishes the change of a gauge. It is a difference, because other managers of this process add to the
/// same gauge.
fn level(name: &'static str, kind: &'static str, published: &mut u64, now: u64) {
    let before = std::mem::replace(published, now);
    if now > before {
        metrics::gauge!(name, "kind" => kind).increment(float(now - before));
    } else if now < before {
        metrics::gauge!(name, "kind" => kind).decrement(float(before - now));
    }
}

/// Publishes the change of the number of stored bytes.
fn publish_stored(published: &mut u64, now: u64) {
    let before = std::mem::replace(published, now);
    if now > before {
        metrics::gauge!(STORED).increment(float(now - before));
    } else if now < before {
        metrics::gauge!(STORED).decrement(float(before - now));
    }
}

/// Converts a number for a recorder. The result is exact below 2^53.
fn float(number: u64) -> f64 {
    let half = |half: u64| f64::from(u32::try_from(half).unwrap_or_default());
    half(number >> 32) * 2_f64.powi(32) + half(number & u64::from(u32::MAX))
}

fn describe() {
    for Counted {
        name, description, ..
    } in COUNTED
    {
        metrics::describe_counter!(name, Unit::Count, description);
    }
    for (name, unit, description) in [
        (SESSIONS_BEGUN, Unit::Count, "sessions begun"),
        (SESSIONS_ENDED, Unit::Count, "sessions ended, by reason"),
        (REFUSED_CLIENTS, Unit::Count, "clients that got no session"),
        (
            CONNECTS,
            Unit::Count,
            "sessions of this process as a client",
        ),
        (
            DISCONNECTS,
            Unit::Count,
            "sessions that this process has lost",
        ),
        (WORKERS_STARTED, Unit::Count, "worker processes started"),
        (
            WORKERS_ENDED,
            Unit::Count,
            "worker processes ended, by reason",
        ),
        (TASKS, Unit::Count, "tasks submitted here, by outcome"),
        (RECEIVED, Unit::Bytes, "bytes received from clients"),
        (SENT, Unit::Bytes, "bytes sent to clients"),
        (
            CALLS,
            Unit::Count,
            "calls received, including one-way calls, by operation",
        ),
    ] {
        metrics::describe_counter!(name, unit, description);
    }
    metrics::describe_gauge!(SESSIONS, Unit::Count, "sessions");
    metrics::describe_gauge!(OBJECTS, Unit::Count, "hosted objects");
    let description = "bytes that managers keep for their clients";
    metrics::describe_gauge!(STORED, Unit::Bytes, description);
    metrics::describe_gauge!(WAITING, Unit::Count, "calls that wait for their answer");
    let description = "how long calls waited that were not answered at once";
    metrics::describe_histogram!(WAITS, Unit::Seconds, description);
}
