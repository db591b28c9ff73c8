//! The queue: a bounded FIFO of items, with calls waiting to put and calls waiting to get.
//!
//! An item that was delivered belongs to its taker until the taker reports it as done; otherwise it
//! returns to the front of the queue.
//!
//! Invariants: a put waits only while the queue is full, a get waits only while it is empty, and
//! returned items stand in front of items that were never delivered.

use std::{collections::BTreeMap, rc::Rc};

use lockkeeper_protocol::{
    Abandoned, CallId, Fault, Refusal,
    codec::{Blob, Form},
    operations::{
        CheckType, CloseQueue, Delivery, Done, Get, GetQueueStatus, Join, Put, PutBack, QueueSpec,
        QueueStatus,
    },
};

use crate::{
    data::typed::SchemaId,
    kind::{
        budget::{CALL_BYTES, StoredBytes},
        call::{Call, Outbox, SMALL_BYTES},
        hang_up::{HangUp, drop_some_of},
        hold_timer::HoldTimer,
        primitive::{Operations, Primitive, Serve},
        survey::{Holding, Part, Survey, Waiting},
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// The most items that may wait in any queue.
const MOST: u64 = 1_000_000_000;

/// Items that wait, items that are taken, and calls that wait for room, for items, or for the end.
#[derive(Debug)]
pub struct Queue {
    capacity: u64,
    schema: SchemaId,
    /// Items that were never delivered, by the calls that put them.
    fresh: WaitQueue<Item>,
    /// Items that were taken and returned, by their numbers.
    back: BTreeMap<u64, Item>,
    /// Items that are taken, by the calls that received them.
    taken: BTreeMap<CallId, TakenItem>,
    putters: WaitQueue<Putter>,
    getters: WaitQueue<Call<Result<Delivery, Refusal>>>,
    joiners: WaitQueue<Call<()>>,
    /// The number of items that were put, which is the number of the next item.
    put: u64,
    closed: bool,
}

#[derive(Debug)]
struct Item {
    /// The call that put the item.
    put_by: CallId,
    /// The position of the item in the order of puts.
    number: u64,
    bytes: Blob,
    stored: ItemBytes,
    attempts: u32,
    abandoned: Option<Box<Abandoned>>,
}

/// An item that a session has taken.
#[derive(Debug)]
struct TakenItem {
    item: Item,
    timer: HoldTimer,
}

/// A put that waits for room.
#[derive(Debug)]
struct Putter {
    item: Blob,
    stored: ItemBytes,
    call: Call<Result<(), Refusal>>,
}

/// The counted bytes of an item.
#[derive(Debug)]
struct ItemBytes {
    /// The fixed bytes of the item, and its content if that is short.
    own: StoredBytes,
    /// The bytes of a long item, shared with the reply that delivers it while the reply waits.
    shared: Option<Rc<StoredBytes>>,
}

/// The bytes that an item counts in addition to its content. While it is taken, its hold counts as much.
const ITEM_BYTES: usize = CALL_BYTES;

impl ItemBytes {
    fn count(item: &Blob, outbox: &Outbox) -> Result<Self, Fault> {
        let bytes = item.0.len();
        let mut own = outbox.store(bytes + ITEM_BYTES)?;
        let shared = (bytes > SMALL_BYTES).then(|| Rc::new(own.split(bytes)));
        Ok(Self { own, shared })
    }

    /// Records that the item is taken: the hold counts in its place.
    fn taken(&mut self) {
        self.own.set(self.own.bytes().saturating_sub(ITEM_BYTES));
    }

    /// Records that the item has returned.
    fn came_back(&mut self) {
        self.own.set(self.own.bytes() + ITEM_BYTES);
    }
}

impl Parked for Item {
    fn id(&self) -> CallId {
        self.put_by
    }
}

impl Parked for Putter {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

impl Queue {
    /// Admits puts while there is room, delivers items, and answers joins once the queue is done. Every path
    /// that changes any of these ends here.
    fn settle(&mut self) {
        loop {
            if self.len() < self.capacity
                && let Some(putter) = self.putters.pop_front()
            {
                self.admit(putter);
            } else if !self.getters.is_empty()
                && let Some(item) = self.pop_item()
            {
                self.deliver(item);
            } else {
                break;
            }
        }
        // A taken item may return, so joins and gets still wait.
        if self.len() > 0 || !self.taken.is_empty() {
            return;
        }
        for joiner in self.joiners.take_all() {
            joiner.reply(());
        }
        if self.closed {
            for getter in self.getters.take_all() {
                getter.reply(Err(Refusal::Closed));
            }
        }
    }

    /// The number of items that wait to be taken.
    fn len(&self) -> u64 {
        count(self.fresh.len() + self.back.len())
    }

    fn admit(&mut self, putter: Putter) {
        let Putter { item, stored, call } = putter;
        let item = Item {
            put_by: call.id(),
            number: self.put,
            bytes: item,
            stored,
            attempts: 0,
            abandoned: None,
        };
        self.put += 1;
        self.fresh.push(item);
        call.reply(Ok(()));
    }

    fn pop_item(&mut self) -> Option<Item> {
        let back = self.back.pop_first().map(|(_, item)| item);
        back.or_else(|| self.fresh.pop_front())
    }

    /// Delivers an item to the first call that waits for one.
    fn deliver(&mut self, mut item: Item) {
        let Some(call) = self.getters.pop_front() else {
            self.back.insert(item.number, item);
            return;
        };
        item.attempts = item.attempts.saturating_add(1);
        item.stored.taken();
        let timer = HoldTimer::begin(call.outbox(), call.id());
        let delivery = Delivery {
            fence: timer.fence(),
            attempts: item.attempts,
            abandoned: item.abandoned.as_deref().cloned(),
            item: item.bytes.clone(),
        };
        let shared = item.stored.shared.clone();
        self.taken.insert(call.id(), TakenItem { item, timer });
        match shared {
            Some(shared) => call.reply_sharing(Ok(delivery), &shared),
            None => call.reply(Ok(delivery)),
        }
    }

    /// Takes an item back from its taker and returns it to its place. `change` updates the item.
    fn take_back(&mut self, delivery: CallId, change: impl FnOnce(&mut Item, HoldTimer)) -> bool {
        let Some(TakenItem { mut item, timer }) = self.taken.remove(&delivery) else {
            return false;
        };
        change(&mut item, timer);
        item.stored.came_back();
        self.back.insert(item.number, item);
        true
    }
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// The calls of a wait queue, for a survey.
fn waiting<'a, R: 'a>(
    calls: impl Iterator<Item = &'a Call<R>>,
    mode: &'static str,
) -> impl Iterator<Item = Waiting> {
    calls.map(move |call| Waiting {
        call: call.id(),
        units: 1,
        mode,
        since: call.arrived(),
    })
}

impl Primitive for Queue {
    const KIND: &'static str = "queue";
    const FORM: Form = Form::Compact;
    type Spec = QueueSpec;

    fn create(QueueSpec { capacity, schema }: QueueSpec) -> Result<Self, Refusal> {
        let capacity = capacity.unwrap_or_else(|| MOST.into());
        let allowed = u64::try_from(capacity).ok();
        let allowed = allowed.filter(|capacity| (1..=MOST).contains(capacity));
        let capacity = allowed.ok_or_else(|| {
            Refusal::Invalid(format!(
                "a queue has room for 1 to {MOST} items, or no bound, not {capacity}"
            ))
        })?;
        Ok(Self {
            capacity,
            schema: SchemaId::new(schema)?,
            fresh: WaitQueue::new(),
            back: BTreeMap::new(),
            taken: BTreeMap::new(),
            putters: WaitQueue::new(),
            getters: WaitQueue::new(),
            joiners: WaitQueue::new(),
            put: 0,
            closed: false,
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Put>()
            .on::<Get>()
            .on::<Done>()
            .on::<PutBack>()
            .on::<Join>()
            .on::<CloseQueue>()
            .on::<GetQueueStatus>()
            .on::<CheckType>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.putters.remove(id));
        drop(self.getters.remove(id));
        drop(self.joiners.remove(id));
        // The caller of this put has not seen the answer, so its item is removed. Once the item was
        // delivered, the put is not undone.
        drop(self.fresh.remove(id));
        // The taker never saw this delivery, so it does not count.
        self.take_back(id, |item, _| {
            item.attempts = item.attempts.saturating_sub(1);
        });
        self.settle();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.putters.hang_up(ended));
        drop(self.getters.hang_up(ended));
        drop(self.joiners.hang_up(ended));
        if ended.goes_on() {
            return;
        }
        for delivery in ended.some_of(&self.taken) {
            self.take_back(delivery, |item, timer| {
                item.abandoned = Some(Box::new(timer.abandon(ended)));
            });
        }
        if !ended.goes_on() {
            self.settle();
        }
    }

    fn drop_some(&mut self) -> bool {
        self.putters.drop_some()
            || self.getters.drop_some()
            || self.joiners.drop_some()
            || self.fresh.drop_some()
            || drop_some_of(&mut self.back)
            || drop_some_of(&mut self.taken)
    }

    fn survey(&self) -> Survey {
        let (len, taken) = (self.len(), self.taken.len());
        let is_closed = if self.closed { ", closed" } else { "" };
        let holders = self.taken.iter().map(|(call, taken)| Holding {
            call: *call,
            units: 1,
            mode: "take",
            since: taken.timer.since(),
            fence: Some(taken.timer.fence()),
        });
        let putters = waiting(self.putters.iter().map(|(_, putter)| &putter.call), "put");
        let getters = waiting(self.getters.iter().map(|(_, call)| call), "get");
        let joiners = waiting(self.joiners.iter().map(|(_, call)| call), "join");
        let waiters = self.putters.len() + self.getters.len() + self.joiners.len();
        Survey {
            state: format!("{len} items wait, {taken} are taken{is_closed}"),
            parts: vec![Part {
                key: None,
                // Every client may put items that gets wait for, and take items that block a put.
                units: None,
                holders: holders.take(Survey::MOST).collect(),
                waiters: putters
                    .chain(getters)
                    .chain(joiners)
                    .take(Survey::MOST)
                    .collect(),
                more_holders: Survey::beyond(taken),
                more_waiters: Survey::beyond(waiters),
            }],
        }
    }
}

impl Serve<Put> for Queue {
    fn serve(&mut self, Put { item }: Put, call: Call<Result<(), Refusal>>) {
        if self.closed {
            call.reply(Err(Refusal::Closed));
            return;
        }
        match ItemBytes::count(&item, call.outbox()) {
            Ok(stored) => self.putters.push(Putter { item, stored, call }),
            Err(fault) => call.fail(fault),
        }
        self.settle();
    }
}

impl Serve<Get> for Queue {
    fn serve(&mut self, _: Get, call: Call<Result<Delivery, Refusal>>) {
        self.getters.push(call);
        self.settle();
    }
}

impl Serve<Done> for Queue {
    fn serve(&mut self, Done { delivery }: Done, call: Call<Result<(), Refusal>>) {
        let done = call.verify(delivery).and_then(|delivery| {
            self.taken.remove(&delivery).ok_or(Refusal::NotHeld)?;
            call.record_end(delivery);
            Ok(())
        });
        call.reply(done);
        self.settle();
    }
}

impl Serve<PutBack> for Queue {
    fn serve(&mut self, PutBack { delivery }: PutBack, call: Call<Result<(), Refusal>>) {
        let back = call.verify(delivery).and_then(|delivery| {
            let is_back = self.take_back(delivery, |_, _| {});
            is_back.then_some(()).ok_or(Refusal::NotHeld)?;
            call.record_end(delivery);
            Ok(())
        });
        call.reply(back);
        self.settle();
    }
}

impl Serve<Join> for Queue {
    fn serve(&mut self, _: Join, call: Call<()>) {
        self.joiners.push(call);
        self.settle();
    }
}

impl Serve<CloseQueue> for Queue {
    fn serve(&mut self, _: CloseQueue, call: Call<()>) {
        self.closed = true;
        call.reply(());
        for putter in self.putters.take_all() {
            putter.call.reply(Err(Refusal::Closed));
        }
        self.settle();
    }
}

impl Serve<GetQueueStatus> for Queue {
    fn serve(&mut self, _: GetQueueStatus, call: Call<QueueStatus>) {
        let mut status = QueueStatus::default();
        status.len = self.len();
        status.capacity = self.capacity;
        status.taken = count(self.taken.len());
        status.putting = count(self.putters.len());
        status.getting = count(self.getters.len());
        status.joining = count(self.joiners.len());
        status.is_closed = self.closed;
        call.reply(status);
    }
}

impl Serve<CheckType> for Queue {
    fn serve(&mut self, check: CheckType, call: Call<Result<(), Refusal>>) {
        call.reply(self.schema.check(check));
    }
}

#[cfg(test)]
mod tests;
