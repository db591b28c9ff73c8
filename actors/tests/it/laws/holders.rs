//! The subjects of the laws that store users' values: the queue and the value.
//!
//! A subject does not predict what its kind answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Proof,
    codec::Blob,
    data::{
        CloseQueue, Done, Exchange, Get, GetQueueStatus, GetValueStatus, Join, OnlyIf, Put,
        PutBack, Queue, QueueSpec, QueueStatus, Read, Store, Swap, Value, ValueSpec, Versioned,
        WaitChange,
    },
};
use rand::Rng;

use super::{OBSERVER, Subject};
use crate::{
    laws::subjects::{ONE, OTHER, ask, number},
    schedule::{Schedule, proof, put},
};

fn blob(byte: u8) -> Blob {
    Blob::from(vec![byte])
}

/// A queue, and whether it was closed.
pub(crate) struct ItemSubject {
    capacity: Option<u64>,
    closed: bool,
    /// All calls for an item.
    takers: Vec<CallId>,
}

impl ItemSubject {
    /// Returns the last `Get` of the session, or any other call.
    fn delivery(&self, schedule: &mut Schedule, session: u64) -> CallId {
        let mut own = self.takers.iter().rev().copied();
        let own = own.find(|taker| taker.session().number() == session);
        match own {
            Some(own) if schedule.random.random_bool(0.7) => own,
            Some(_) | None => schedule.any_call(),
        }
    }

    /// Takes the first item, if there is one.
    fn take(bench: &mut Bench<Queue>) -> (CallId, Option<(u8, u32)>) {
        let taker = bench.call_within(OTHER, Get, Duration::ZERO);
        let taken = bench.reply::<Get>(taker).expect("the call does not wait");
        let item = taken.ok().and_then(Result::ok);
        (taker, item.map(|item| (item.item.0[0], item.attempts)))
    }
}

impl Subject for ItemSubject {
    type Kind = Queue;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Queue>) {
        let capacity = schedule.random.random_range(0..=4);
        let subject = Self {
            capacity: (capacity > 0).then_some(capacity),
            closed: false,
            takers: Vec::new(),
        };
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Queue> {
        let bench = Bench::new(QueueSpec {
            capacity: self.capacity.map(i128::from),
            schema: "item".to_owned(),
        });
        let mut bench = bench.expect("the spec is in range");
        if self.closed {
            ask(&mut bench, ONE, CloseQueue);
        }
        bench
    }

    fn call(
        &mut self,
        bench: &mut Bench<Queue>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            return match schedule.random.random_range(0..20) {
                0..=9 => {
                    let item = blob(schedule.random.random());
                    (put(bench, session, Put { item }, timeout), Some("put"))
                }
                10 => (put(bench, session, Join, timeout), Some("join")),
                _ => {
                    let taker = put(bench, session, Get, timeout);
                    self.takers.push(taker);
                    (taker, Some("get"))
                }
            };
        }
        let delivery = self.delivery(schedule, session);
        let id = match schedule.random.random_range(0..40) {
            0 => {
                self.closed = true;
                put(bench, session, CloseQueue, timeout)
            }
            1..=9 => put(
                bench,
                session,
                PutBack {
                    delivery: proof(session, delivery),
                },
                timeout,
            ),
            _ => put(
                bench,
                session,
                Done {
                    delivery: proof(session, delivery),
                },
                timeout,
            ),
        };
        (id, None)
    }

    fn grants(
        &self,
        bench: &Bench<Queue>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = match line {
            Some("put") => matches!(bench.reply::<Put>(made), Some(Ok(Ok(())))),
            Some("get") => matches!(bench.reply::<Get>(made), Some(Ok(Ok(_)))),
            Some(_) => matches!(bench.reply::<Join>(made), Some(Ok(()))),
            None => false,
        };
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Queue>, waiting: &[(CallId, &'static str)]) {
        let status: QueueStatus = ask(bench, OBSERVER, GetQueueStatus);
        let in_line = |line| number(waiting.iter().filter(|(_, other)| *other == line).count());
        let lines = [status.putting, status.getting, status.joining];
        assert_eq!(lines, ["put", "get", "join"].map(in_line), "{waiting:?}");
        assert_eq!(status.is_closed, self.closed);
        let has_room = status.len < status.capacity || self.closed;
        assert!(status.putting == 0 || !has_room, "{status:?}");
        assert!(status.getting == 0 || status.len == 0, "{status:?}");
        let is_done = status.len + status.taken == 0;
        assert!(status.joining == 0 || !is_done, "{status:?}");
        let is_over = self.closed && is_done;
        assert!(status.getting == 0 || !is_over, "{status:?}");
    }

    fn probe(bench: &mut Bench<Queue>) -> Vec<String> {
        // Items outlive their senders, so the remaining ones are taken first.
        while let (delivery, Some(_)) = Self::take(bench) {
            ask(
                bench,
                OTHER,
                Done {
                    delivery: Proof::own(delivery),
                },
            )
            .expect("the item was just taken");
        }
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetQueueStatus))];
        let puts = [1, 2, 3, 4, 5].map(|item| bench.call(ONE, Put { item: blob(item) }));
        let taken = [(); 2].map(|()| Self::take(bench));
        observed.push(format!("{:?}", taken.map(|(_, item)| item)));
        let joined = bench.call(ONE, Join);
        let [first, second] = taken.map(|(delivery, _)| delivery);
        let back = ask(
            bench,
            OTHER,
            PutBack {
                delivery: Proof::own(first),
            },
        );
        let done = ask(
            bench,
            OTHER,
            Done {
                delivery: Proof::own(second),
            },
        );
        observed.push(format!("{back:?} {done:?} {}", bench.is_answered(joined)));
        bench.hang_up(ONE);
        observed.push(format!("{:?}", puts.map(|id| bench.reply::<Put>(id))));
        observed.push(format!("{:?}", [(); 5].map(|()| Self::take(bench).1)));
        observed.push(format!("{:?}", ask(bench, OTHER, GetQueueStatus)));
        observed
    }
}

/// A value, and its current content.
pub(crate) struct ValueSubject(Versioned<Blob>);

impl Subject for ValueSubject {
    type Kind = Value;

    fn make(_: &mut Schedule) -> (Self, Bench<Value>) {
        let (version, value) = (0, blob(0));
        let subject = Self(Versioned { version, value });
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Value> {
        let bench = Bench::new(ValueSpec {
            value: blob(0),
            schema: "item".to_owned(),
        });
        let mut bench = bench.expect("the description is short");
        for _ in 0..self.0.version {
            let value = self.0.value.clone();
            ask(&mut bench, ONE, Store { value });
        }
        bench
    }

    fn call(
        &mut self,
        bench: &mut Bench<Value>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        let version = self.0.version;
        if schedule.asks() {
            let since = version.saturating_sub(schedule.random.random_range(0..=1));
            let id = put(
                bench,
                session,
                WaitChange {
                    since: since.into(),
                },
                timeout,
            );
            // No call waits for a past version.
            return (id, (since == version).then_some("change"));
        }
        let value = blob(schedule.random.random_range(0..4));
        let id = match schedule.random.random_range(0..10) {
            0..=3 => put(bench, session, Store { value }, timeout),
            4 => put(bench, session, Swap { value }, timeout),
            lot => {
                let only_if = if lot % 2 == 0 {
                    OnlyIf::Equal(self.0.value.clone())
                } else {
                    OnlyIf::Version(version.saturating_sub(schedule.random.random_range(0..=1)))
                };
                put(bench, session, Exchange { only_if, value }, timeout)
            }
        };
        self.0 = ask(bench, OBSERVER, Read);
        (id, None)
    }

    fn grants(
        &self,
        bench: &Bench<Value>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<WaitChange>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Value>, waiting: &[(CallId, &'static str)]) {
        let status = ask(bench, OBSERVER, GetValueStatus);
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        assert_eq!(
            status.version, self.0.version,
            "only set calls change the value"
        );
    }

    fn probe(bench: &mut Bench<Value>) -> Vec<String> {
        let now = ask(bench, ONE, Read);
        let mut observed = vec![format!("{now:?}")];
        let since = now.version;
        let waiting = bench.call(
            ONE,
            WaitChange {
                since: since.into(),
            },
        );
        observed.push(format!("{:?}", ask(bench, OTHER, GetValueStatus)));
        let value = blob(9);
        observed.push(format!("{:?}", ask(bench, OTHER, Swap { value })));
        observed.push(format!("{:?}", bench.reply::<WaitChange>(waiting)));
        observed.push(format!("{:?}", ask(bench, OTHER, GetValueStatus)));
        observed
    }
}
