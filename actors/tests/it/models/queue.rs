//! Compares the queue with a reference, which has five lists.
//!
//! The model uses only the queue's calls and answers.

use std::{collections::BTreeMap, mem, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Fence, Refusal,
    codec::Blob,
    data::{
        CloseQueue, Delivery, Done, Get, GetQueueStatus, Join, Put, PutBack, Queue, QueueSpec,
        QueueStatus,
    },
};
use rand::Rng;

use crate::{
    models::{Effects, Reference, agree, answers::answer},
    schedule::{Schedule, proof, put},
};

#[test]
fn queue_agrees_with_its_reference() {
    agree::<QueueReference>(
        "queue_agrees_with_its_reference",
        1000,
        &[
            "put that waits for room",
            "put into a closed queue",
            "put that is withdrawn",
            "put of a dead session",
            "get that waits for an item",
            "item that was done",
            "done of an item that is not taken",
            "item put back",
            "item put back after an older one",
            "item delivered again",
            "item whose delivery was withdrawn",
            "item of a dead taker",
            "several items of a dead taker",
            "items beyond the capacity",
            "join that waits",
            "join of an empty queue",
            "close with waiting puts",
            "close with items",
            "get that waits for a taken item",
            "get that learns of the end",
            "long line",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum QueueCall {
    Put(u32),
    Get,
    Done(CallId),
    PutBack(CallId),
    Join,
    Close,
    Count,
}

#[derive(Debug, PartialEq)]
enum QueueAnswer {
    Effects(Result<(), Refusal>),
    Item {
        item: u32,
        attempts: u32,
        /// How long a dead taker had the item, and the call that took it.
        abandoned: Option<(Duration, CallId)>,
    },
    Count(QueueStatus),
}

#[derive(Clone, Copy)]
struct Item {
    /// The call that put it.
    by: CallId,
    item: u32,
    attempts: u32,
    abandoned: Option<(Duration, CallId)>,
    /// Whether the item was never taken.
    is_fresh: bool,
    place: usize,
}

struct Taken {
    by: CallId,
    item: Item,
    since: Duration,
}

#[derive(Default)]
struct QueueReference {
    capacity: usize,
    /// The items in order of arrival.
    items: Vec<Item>,
    taken: Vec<Taken>,
    putting: Vec<(CallId, u32)>,
    getting: Vec<CallId>,
    joining: Vec<CallId>,
    came: usize,
    closed: bool,
    /// The number of waiters when the schedule begins.
    crowd: usize,
}

impl QueueReference {
    /// Serves waiting calls until none can be served.
    fn go_on(&mut self, effects: &mut Effects<'_, QueueAnswer>) {
        loop {
            if self.items.len() < self.capacity && !self.putting.is_empty() {
                let (by, item) = self.putting.remove(0);
                self.items.push(Item {
                    by,
                    item,
                    attempts: 0,
                    abandoned: None,
                    is_fresh: true,
                    place: self.came,
                });
                self.came += 1;
                effects.reply(by, QueueAnswer::Effects(Ok(())));
            } else if !self.items.is_empty() && !self.getting.is_empty() {
                self.give(effects);
            } else {
                break;
            }
        }
        if self.items.is_empty() && self.taken.is_empty() {
            for joiner in self.joining.drain(..) {
                effects.reply(joiner, QueueAnswer::Effects(Ok(())));
            }
            let waiting = if self.closed { self.getting.len() } else { 0 };
            for getter in self.getting.drain(..waiting) {
                effects.tally.note("get that learns of the end");
                effects.reply(getter, QueueAnswer::Effects(Err(Refusal::Closed)));
            }
        }
        if self.items.len() > self.capacity {
            effects.tally.note("items beyond the capacity");
        }
        let lines = [self.items.len(), self.putting.len(), self.getting.len()];
        if lines.iter().any(|line| *line > 64) {
            effects.tally.note("long line");
        }
    }

    fn give(&mut self, effects: &mut Effects<'_, QueueAnswer>) {
        let (by, mut item) = (self.getting.remove(0), self.items.remove(0));
        item.attempts += 1;
        item.is_fresh = false;
        if item.attempts > 1 {
            effects.tally.note("item delivered again");
        }
        effects.reply(
            by,
            QueueAnswer::Item {
                item: item.item,
                attempts: item.attempts,
                abandoned: item.abandoned,
            },
        );
        let since = effects.now;
        self.taken.push(Taken { by, item, since });
    }

    fn take_from(&mut self, by: CallId) -> Option<Taken> {
        let place = self.taken.iter().position(|taken| taken.by == by)?;
        Some(self.taken.remove(place))
    }

    /// Puts an item before all items that arrived later.
    fn back(&mut self, item: Item, effects: &mut Effects<'_, QueueAnswer>) {
        let older = self.items.iter().filter(|other| other.place < item.place);
        let place = older.count();
        if place > 0 {
            effects.tally.note("item put back after an older one");
        }
        self.items.insert(place, item);
    }

    fn draw_delivery(&self, schedule: &mut Schedule) -> CallId {
        if !self.taken.is_empty() && schedule.random.random_bool(0.8) {
            self.taken[schedule.random.random_range(0..self.taken.len())].by
        } else {
            schedule.any_call()
        }
    }

    fn close(&mut self, effects: &mut Effects<'_, QueueAnswer>) {
        self.closed = true;
        if !self.items.is_empty() {
            effects.tally.note("close with items");
        }
        for (putter, _) in self.putting.drain(..) {
            effects.tally.note("close with waiting puts");
            effects.reply(putter, QueueAnswer::Effects(Err(Refusal::Closed)));
        }
    }

    fn status(&self) -> QueueStatus {
        let count = |count: usize| u64::try_from(count).expect("short lists");
        let mut status = QueueStatus::default();
        status.len = count(self.items.len());
        status.capacity = count(self.capacity);
        status.taken = count(self.taken.len());
        status.putting = count(self.putting.len());
        status.getting = count(self.getting.len());
        status.joining = count(self.joining.len());
        status.is_closed = self.closed;
        status
    }
}

fn blob(item: u32) -> Blob {
    Blob::from(item.to_be_bytes().to_vec())
}

fn number(blob: &Blob) -> u32 {
    u32::from_be_bytes(blob.0[..].try_into().expect("the item has four bytes"))
}

/// The call of each fence.
#[derive(Default)]
struct Fences(BTreeMap<Fence, CallId>);

impl Fences {
    fn convert(&mut self, id: CallId, reply: Result<Delivery, Refusal>) -> QueueAnswer {
        let delivery = match reply {
            Ok(delivery) => delivery,
            Err(refusal) => return QueueAnswer::Effects(Err(refusal)),
        };
        let last = self.0.last_key_value();
        assert!(last.is_none_or(|(last, _)| *last < delivery.fence));
        self.0.insert(delivery.fence, id);
        QueueAnswer::Item {
            item: number(&delivery.item),
            attempts: delivery.attempts,
            abandoned: delivery
                .abandoned
                .map(|mark| (mark.held, self.0[&mark.fence])),
        }
    }
}

impl Reference for QueueReference {
    type Kind = Queue;
    type Call = QueueCall;
    type Answer = QueueAnswer;
    type Memory = Fences;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Queue>) {
        let mut reference = Self::default();
        let capacity = schedule.random.random_range(0..=6);
        reference.capacity = if capacity == 0 {
            1_000_000_000
        } else {
            capacity
        };
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(60..=90);
        }
        let bench = Bench::new(QueueSpec {
            capacity: (capacity > 0)
                .then(|| u64::try_from(capacity).expect("a few"))
                .map(i128::from),
            schema: "item".to_owned(),
        });
        (reference, bench.expect("the capacity is valid"))
    }

    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, QueueCall)> {
        let sessions = [(); 3].map(|()| schedule.join());
        let takes = schedule.random.random_bool(0.5);
        let call = |number| match takes {
            true => QueueCall::Get,
            false => QueueCall::Put(number),
        };
        let sessions = sessions.into_iter().cycle().take(self.crowd);
        let calls = sessions.zip(1_000_000..);
        calls
            .map(|(session, number)| (session, call(number)))
            .collect()
    }

    fn draw(&self, schedule: &mut Schedule) -> QueueCall {
        if schedule.asks() {
            return match schedule.random.random_range(0..20) {
                0..=9 => QueueCall::Put(schedule.random.random()),
                10..=18 => QueueCall::Get,
                _ => QueueCall::Join,
            };
        }
        let delivery = self.draw_delivery(schedule);
        match schedule.random.random_range(0..50) {
            0..=24 => QueueCall::Done(delivery),
            25..=39 => QueueCall::PutBack(delivery),
            40 => QueueCall::Close,
            _ => QueueCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<Queue>,
        session: u64,
        call: &QueueCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            QueueCall::Put(item) => put(bench, session, Put { item: blob(item) }, timeout),
            QueueCall::Get => put(bench, session, Get, timeout),
            QueueCall::Done(delivery) => put(
                bench,
                session,
                Done {
                    delivery: proof(session, delivery),
                },
                timeout,
            ),
            QueueCall::PutBack(delivery) => put(
                bench,
                session,
                PutBack {
                    delivery: proof(session, delivery),
                },
                timeout,
            ),
            QueueCall::Join => put(bench, session, Join, timeout),
            QueueCall::Close => put(bench, session, CloseQueue, timeout),
            QueueCall::Count => put(bench, session, GetQueueStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<Queue>,
        id: CallId,
        call: &QueueCall,
        fences: &mut Fences,
    ) -> Result<QueueAnswer, Fault> {
        match call {
            QueueCall::Put(_) => answer::<Queue, Put>(bench, id).map(QueueAnswer::Effects),
            QueueCall::Get => {
                answer::<Queue, Get>(bench, id).map(|observed| fences.convert(id, observed))
            }
            QueueCall::Done(_) => answer::<Queue, Done>(bench, id).map(QueueAnswer::Effects),
            QueueCall::PutBack(_) => answer::<Queue, PutBack>(bench, id).map(QueueAnswer::Effects),
            QueueCall::Join => {
                answer::<Queue, Join>(bench, id).map(|()| QueueAnswer::Effects(Ok(())))
            }
            QueueCall::Close => {
                answer::<Queue, CloseQueue>(bench, id).map(|()| QueueAnswer::Effects(Ok(())))
            }
            QueueCall::Count => answer::<Queue, GetQueueStatus>(bench, id).map(QueueAnswer::Count),
        }
    }

    fn serve(&mut self, id: CallId, call: &QueueCall, effects: &mut Effects<'_, QueueAnswer>) {
        match *call {
            QueueCall::Put(_) if self.closed => {
                effects.tally.note("put into a closed queue");
                effects.reply(id, QueueAnswer::Effects(Err(Refusal::Closed)));
            }
            QueueCall::Put(item) => self.putting.push((id, item)),
            QueueCall::Get => self.getting.push(id),
            QueueCall::Done(delivery) => {
                let taken = self.take_from(delivery);
                effects.tally.note(match taken {
                    Some(_) => "item that was done",
                    None => "done of an item that is not taken",
                });
                if taken.is_some() {
                    effects.end(id, delivery);
                }
                let done = taken.map(drop).ok_or(Refusal::NotHeld);
                effects.reply(id, QueueAnswer::Effects(done));
            }
            QueueCall::PutBack(delivery) => {
                let taken = self.take_from(delivery);
                let is_back = taken.as_ref().map(|_| ()).ok_or(Refusal::NotHeld);
                effects.reply(id, QueueAnswer::Effects(is_back));
                if let Some(Taken { item, .. }) = taken {
                    effects.end(id, delivery);
                    effects.tally.note("item put back");
                    self.back(item, effects);
                }
            }
            QueueCall::Join => self.joining.push(id),
            QueueCall::Close => {
                effects.reply(id, QueueAnswer::Effects(Ok(())));
                self.close(effects);
            }
            QueueCall::Count => effects.reply(id, QueueAnswer::Count(self.status())),
        }
        self.go_on(effects);
        match call {
            QueueCall::Put(_) if self.waits(id) => effects.tally.note("put that waits for room"),
            QueueCall::Get if self.waits(id) && self.closed => {
                effects.tally.note("get that waits for a taken item");
            }
            QueueCall::Get if self.waits(id) => effects.tally.note("get that waits for an item"),
            QueueCall::Join if self.waits(id) => effects.tally.note("join that waits"),
            QueueCall::Join => effects.tally.note("join of an empty queue"),
            QueueCall::Put(_)
            | QueueCall::Get
            | QueueCall::Done(_)
            | QueueCall::PutBack(_)
            | QueueCall::Close
            | QueueCall::Count => {}
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, QueueAnswer>) {
        if self.waits(id) {
            self.putting.retain(|(putter, _)| *putter != id);
            self.getting.retain(|getter| *getter != id);
            self.joining.retain(|joiner| *joiner != id);
            effects.fail(id, fault);
        }
        let before = self.items.len();
        self.items.retain(|item| item.by != id || !item.is_fresh);
        if self.items.len() < before {
            effects.tally.note("put that is withdrawn");
        }
        if let Some(Taken { mut item, .. }) = self.take_from(id) {
            effects.tally.note("item whose delivery was withdrawn");
            item.attempts -= 1;
            self.back(item, effects);
        }
        self.go_on(effects);
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, QueueAnswer>) {
        let is_of = |id: CallId| id.session().number() == session;
        let before = self.putting.len();
        self.putting.retain(|(putter, _)| !is_of(*putter));
        if self.putting.len() < before {
            effects.tally.note("put of a dead session");
        }
        self.getting.retain(|getter| !is_of(*getter));
        self.joining.retain(|joiner| !is_of(*joiner));
        let taken = mem::take(&mut self.taken).into_iter();
        let (theirs, others): (Vec<Taken>, _) = taken.partition(|taken| is_of(taken.by));
        self.taken = others;
        effects.tally.note(match theirs.len() {
            0 => "dead session without items",
            1 => "item of a dead taker",
            _ => "several items of a dead taker",
        });
        for Taken {
            by,
            mut item,
            since,
        } in theirs
        {
            item.abandoned = Some((effects.now - since, by));
            self.back(item, effects);
        }
        self.go_on(effects);
    }

    fn waits(&self, id: CallId) -> bool {
        self.putting.iter().any(|(putter, _)| *putter == id)
            || self.getting.contains(&id)
            || self.joining.contains(&id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.taken.iter().any(|taken| taken.by == id)
    }
}
