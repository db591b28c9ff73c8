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
        CheckType, CloseQueue, CountItems, Delivery, Done, Get, Join, Put, PutBack, QueueSpec,
        QueueStatus,
    },
};

use crate::{
    data::typed::SchemaId,
    kind::{
        budget::{CALL_BYTES, Stored},
        call::{Call, Outbox, SMALL_BYTES},
        hang_up::HangUp,
        hold_timer::HoldTimer,
        primitive::{Operations, Primitive, Serve},
        survey::{Holding, Part, Survey, Waiting},
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// The most items that may wait in any queue.
const MOST: u64 = 1_000_000_000;

/// Items that wait, items that are taken, and those who wait for room, for items and for the end.
#[derive(Debug)]
pub struct Queue {
    capacity: u64,
    holds: SchemaId,
    /// Items that were never delivered, by the calls that put them.
    fresh: WaitQueue<Item>,
    /// Items that were taken and came back, by their numbers.
    back: BTreeMap<u64, Item>,
    /// By the calls that they were given to.
    taken: BTreeMap<CallId, Taken>,
    putters: WaitQueue<Putter>,
    getters: WaitQueue<Call<Result<Delivery, Refusal>>>,
    joiners: WaitQueue<Call<()>>,
    /// How many items have come in: the number of the next one.
    put: u64,
    closed: bool,
}

#[derive(Debug)]
struct Item {
    /// The call that put it.
    put_by: CallId,
    /// Its place in the order in which items came in.
    number: u64,
    bytes: Blob,
    stored: ItemBytes,
    attempts: u32,
    abandoned: Option<Box<Abandoned>>,
}

/// An item that a session has taken.
#[derive(Debug)]
struct Taken {
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

/// Counts the bytes of an item.
#[derive(Debug)]
struct ItemBytes {
    /// The item itself, and its bytes if they are few.
    own: Stored,
    /// The bytes of a long item, shared with the reply that delivers it for as long as that waits.
    shared: Option<Rc<Stored>>,
}

/// What an item counts beside its bytes. While it is taken, its hold counts as much.
const ITEM_BYTES: usize = CALL_BYTES;

impl ItemBytes {
    fn count(item: &Blob, outbox: &Outbox) -> Result<Self, Fault> {
        let bytes = item.0.len();
        let mut own = outbox.store(bytes + ITEM_BYTES)?;
        let shared = (bytes > SMALL_BYTES).then(|| Rc::new(own.split(bytes)));
        Ok(Self { own, shared })
    }

    /// Notes that the item is taken: the hold counts in its place.
    fn taken(&mut self) {
        self.own.set(self.own.bytes().saturating_sub(ITEM_BYTES));
    }

    /// Notes that the item is back.
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
    /// Lets in what there is room for and gives away what there is, and tells who waits for the end
    /// when that is reached: the end of every path that changes any of it.
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
        // An item that is taken may come back.
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

    /// How many items wait to be taken.
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

    /// Gives an item to the first who waits for one.
    fn deliver(&mut self, mut item: Item) {
        let Some(call) = self.getters.pop_front() else {
            self.back.insert(item.number, item);
            return;
        };
        item.attempts = item.attempts.saturating_add(1);
        item.stored.taken();
        let timer = HoldTimer::begin(call.outbox());
        let delivery = Delivery {
            fence: timer.fence(),
            attempts: item.attempts,
            abandoned: item.abandoned.as_deref().cloned(),
            item: item.bytes.clone(),
        };
        let shared = item.stored.shared.clone();
        self.taken.insert(call.id(), Taken { item, timer });
        match shared {
            Some(shared) => call.reply_sharing(Ok(delivery), &shared),
            None => call.reply(Ok(delivery)),
        }
    }

    /// Takes an item out of its taker's hands and puts it where it was, changed by what has
    /// happened to it.
    fn take_back(&mut self, delivery: CallId, change: impl FnOnce(&mut Item, HoldTimer)) -> bool {
        let Some(Taken { mut item, timer }) = self.taken.remove(&delivery) else {
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

/// The calls of a line, for a survey.
fn waiting<'a, R: 'a>(
    calls: impl Iterator<Item = &'a Call<R>>,
    mode: &'static str,
) -> impl Iterator<Item = Waiting> {
    calls.map(move |call| Waiting {
        call: call.id(),
        units: 1,
        mode,
        since: call.since(),
    })
}

impl Primitive for Queue {
    const KIND: &'static str = "queue";
    const FORM: Form = Form::Compact;
    type Spec = QueueSpec;

    fn create(QueueSpec { capacity, holds }: QueueSpec) -> Result<Self, Refusal> {
        let capacity = capacity.unwrap_or(MOST);
        if !(1..=MOST).contains(&capacity) {
            return Err(Refusal::Invalid(format!(
                "a queue has room for 1 to {MOST} items, or no bound, not {capacity}"
            )));
        }
        Ok(Self {
            capacity,
            holds: SchemaId::new(holds)?,
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
            .on::<CountItems>()
            .on::<CheckType>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.putters.remove(id));
        drop(self.getters.remove(id));
        drop(self.joiners.remove(id));
        // A put whose caller does not know that it is in. Once the item was delivered, the put is not
        // undone.
        drop(self.fresh.remove(id));
        // A delivery that its taker never saw was none.
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
                // Anybody may put what others wait for, and take what is in their way.
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
        let done = call.grant(delivery).and_then(|delivery| {
            self.taken.remove(&delivery).ok_or(Refusal::NotHeld)?;
            call.ends(delivery);
            Ok(())
        });
        call.reply(done);
        self.settle();
    }
}

impl Serve<PutBack> for Queue {
    fn serve(&mut self, PutBack { delivery }: PutBack, call: Call<Result<(), Refusal>>) {
        let back = call.grant(delivery).and_then(|delivery| {
            let is_back = self.take_back(delivery, |_, _| {});
            is_back.then_some(()).ok_or(Refusal::NotHeld)?;
            call.ends(delivery);
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

impl Serve<CountItems> for Queue {
    fn serve(&mut self, _: CountItems, call: Call<QueueStatus>) {
        let mut status = QueueStatus::default();
        status.len = self.len();
        status.capacity = self.capacity;
        status.taken = count(self.taken.len());
        status.putting = count(self.putters.len());
        status.getting = count(self.getters.len());
        status.joining = count(self.joiners.len());
        status.closed = self.closed;
        call.reply(status);
    }
}

impl Serve<CheckType> for Queue {
    fn serve(&mut self, check: CheckType, call: Call<Result<(), Refusal>>) {
        call.reply(self.holds.check(check));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_protocol::{Operation, Proof};

    use crate::bench::Bench;

    use super::*;

    fn bench(capacity: Option<u64>) -> Bench<Queue> {
        let holds = "u8".to_owned();
        Bench::new(QueueSpec { capacity, holds }).unwrap()
    }

    fn put(bench: &mut Bench<Queue>, session: u64, item: u8) -> CallId {
        let item = Blob::from(vec![item]);
        bench.call(session, Put { item })
    }

    /// An unbounded queue of items from 1 to a number.
    fn filled(items: u8) -> Bench<Queue> {
        let mut bench = bench(None);
        for item in 1..=items {
            put(&mut bench, 9, item);
        }
        bench
    }

    fn get(bench: &mut Bench<Queue>, session: u64) -> CallId {
        bench.call(session, Get)
    }

    fn delivery(bench: &Bench<Queue>, id: CallId) -> Option<Delivery> {
        let told = bench.reply::<Get>(id)?;
        Some(told.expect("no fault").expect("no refusal"))
    }

    /// The item that a get was given, and for the how manieth time that was.
    fn item(bench: &Bench<Queue>, id: CallId) -> Option<(u8, u32)> {
        delivery(bench, id).map(|delivery| (delivery.item.0[0], delivery.attempts))
    }

    fn ask<O: Operation>(bench: &mut Bench<Queue>, operation: O) -> O::Reply
    where
        Queue: Serve<O>,
    {
        let id = bench.call(99, operation);
        bench.reply::<O>(id).expect("answered").expect("no fault")
    }

    fn done(bench: &mut Bench<Queue>, delivery: CallId) -> Result<(), Refusal> {
        let session = delivery.session().number();
        let delivery = Proof::own(delivery);
        let id = bench.call(session, Done { delivery });
        bench
            .reply::<Done>(id)
            .expect("answered")
            .expect("no fault")
    }

    fn put_back(bench: &mut Bench<Queue>, delivery: CallId) -> Result<(), Refusal> {
        let session = delivery.session().number();
        let delivery = Proof::own(delivery);
        let id = bench.call(session, PutBack { delivery });
        let told = bench.reply::<PutBack>(id);
        told.expect("answered").expect("no fault")
    }

    /// All items that are left, in order.
    fn rest(bench: &mut Bench<Queue>) -> Vec<u8> {
        std::iter::from_fn(|| {
            let id = get(bench, 98);
            item(bench, id).map(|(item, _)| item)
        })
        .collect()
    }

    #[test]
    fn items_are_taken_in_the_order_in_which_they_were_put() {
        let mut bench = filled(3);
        let taken: Vec<_> = (0..3).map(|_| get(&mut bench, 1)).collect();
        let items = taken.iter().map(|id| item(&bench, *id).unwrap());
        assert_eq!(items.collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
        let fences = taken.iter().map(|id| delivery(&bench, *id).unwrap().fence);
        assert!(fences.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn who_waits_for_an_item_is_given_it_in_the_order_of_arrival() {
        let mut bench = bench(None);
        let takers = [3, 1, 2].map(|session| get(&mut bench, session));
        for number in 1..=3 {
            put(&mut bench, 9, number);
        }
        let items = takers.map(|id| item(&bench, id));
        assert_eq!(items, [Some((1, 1)), Some((2, 1)), Some((3, 1))]);
    }

    #[test]
    fn put_without_room_keeps_its_place_until_there_is() {
        let mut bench = bench(Some(1));
        let puts = [5, 3, 4].map(|session| put(&mut bench, session, 10 + session as u8));
        assert_eq!(puts.map(|id| bench.is_answered(id)), [true, false, false]);
        let tried = bench.call_timeout(
            6,
            Put {
                item: Blob::from(vec![16]),
            },
            Duration::ZERO,
        );
        assert_eq!(bench.reply::<Put>(tried), Some(Err(Fault::TimedOut)));
        get(&mut bench, 1);
        assert_eq!(puts.map(|id| bench.is_answered(id)), [true, true, false]);
        bench.withdraw(puts[2]);
        assert_eq!(rest(&mut bench), [13]);
    }

    #[test]
    fn join_waits_until_all_items_are_done() {
        let mut bench = filled(2);
        let joined = bench.call(1, Join);
        let [first, second] = [1, 2].map(|session| get(&mut bench, session));
        done(&mut bench, second).unwrap();
        assert!(!bench.is_answered(joined));
        put_back(&mut bench, first).unwrap();
        let again = get(&mut bench, 2);
        assert!(!bench.is_answered(joined));
        done(&mut bench, again).unwrap();
        assert!(bench.is_answered(joined));
        let at_once = bench.call(1, Join);
        assert!(bench.is_answered(at_once));
    }

    #[test]
    fn late_or_second_acknowledgement_finds_nothing() {
        let mut bench = filled(2);
        let first = get(&mut bench, 1);
        bench.hang_up(1);
        let second = get(&mut bench, 2);
        assert_eq!(item(&bench, second), Some((1, 2)));
        assert_eq!(done(&mut bench, first), Err(Refusal::NotHeld));
        assert_eq!(put_back(&mut bench, first), Err(Refusal::NotHeld));
        done(&mut bench, second).unwrap();
        assert_eq!(done(&mut bench, second), Err(Refusal::NotHeld));
        assert_eq!(rest(&mut bench), [2]);
    }

    #[test]
    fn items_of_a_dead_taker_come_back_to_the_front_in_order_and_marked() {
        let mut bench = filled(5);
        let taken: Vec<_> = [1, 2, 1, 1]
            .into_iter()
            .map(|session| get(&mut bench, session))
            .collect();
        let fence = delivery(&bench, taken[0]).unwrap().fence;
        done(&mut bench, taken[2]).unwrap();
        bench.advance(Duration::from_secs(3));
        bench.hang_up(1);
        let again = get(&mut bench, 3);
        let Delivery {
            abandoned,
            attempts,
            ..
        } = delivery(&bench, again).unwrap();
        let abandoned = abandoned.expect("it is marked");
        assert_eq!(
            (abandoned.held, abandoned.fence),
            (Duration::from_secs(3), fence)
        );
        assert_eq!(attempts, 2);
        let fourth = get(&mut bench, 3);
        assert_eq!(item(&bench, fourth), Some((4, 2)));
        let fifth = get(&mut bench, 3);
        assert_eq!(item(&bench, fifth), Some((5, 1)));
        assert_eq!(delivery(&bench, fifth).unwrap().abandoned, None);
    }

    #[test]
    fn items_that_come_back_one_by_one_stand_in_their_order_all_the_same() {
        let mut bench = filled(4);
        let taken: Vec<_> = (0..3).map(|_| get(&mut bench, 1)).collect();
        for place in [1, 2, 0] {
            put_back(&mut bench, taken[place]).unwrap();
        }
        assert_eq!(rest(&mut bench), [1, 2, 3, 4]);
    }

    #[test]
    fn item_that_comes_back_goes_to_who_waits() {
        let mut bench = filled(1);
        get(&mut bench, 1);
        let waiting = get(&mut bench, 2);
        bench.hang_up(1);
        assert_eq!(item(&bench, waiting), Some((1, 2)));
    }

    #[test]
    fn delivery_that_nobody_saw_was_none() {
        let mut bench = filled(2);
        let unseen = get(&mut bench, 1);
        bench.withdraw(unseen);
        let seen = get(&mut bench, 2);
        assert_eq!(item(&bench, seen), Some((1, 1)));
        assert_eq!(delivery(&bench, seen).unwrap().abandoned, None);
        assert_eq!(rest(&mut bench), [2]);
    }

    #[test]
    fn put_whose_caller_does_not_know_of_it_is_undone_until_somebody_has_it() {
        let mut bench = bench(Some(1));
        let [unseen, behind] = [1, 2].map(|number| put(&mut bench, 1, number));
        bench.withdraw(unseen);
        assert!(bench.is_answered(behind), "there is room again");
        let taken = get(&mut bench, 2);
        bench.withdraw(behind);
        bench.hang_up(2);
        let again = get(&mut bench, 3);
        assert_eq!(
            [taken, again].map(|id| item(&bench, id)),
            [Some((2, 1)), Some((2, 2))]
        );
    }

    #[test]
    fn items_outlive_who_put_them_but_a_dead_one_puts_nothing() {
        let mut bench = bench(Some(1));
        put(&mut bench, 1, 1);
        put(&mut bench, 1, 2);
        bench.hang_up(1);
        assert_eq!(rest(&mut bench), [1]);
    }

    #[test]
    fn items_that_come_back_are_let_in_beyond_the_capacity() {
        let mut bench = bench(Some(1));
        let puts = [1, 2, 3].map(|number| put(&mut bench, 9, number));
        let taken = get(&mut bench, 1);
        assert!(bench.is_answered(puts[1]) && !bench.is_answered(puts[2]));
        bench.hang_up(1);
        assert_eq!(ask(&mut bench, CountItems).len, 2);
        assert_eq!(done(&mut bench, taken), Err(Refusal::NotHeld));
        get(&mut bench, 2);
        assert!(!bench.is_answered(puts[2]), "it is full still");
        assert_eq!(rest(&mut bench), [2, 3]);
    }

    #[test]
    fn closed_queue_is_emptied_and_then_refuses() {
        let mut bench = bench(Some(1));
        let puts = [1, 2].map(|number| put(&mut bench, 9, number));
        ask(&mut bench, CloseQueue);
        assert_eq!(bench.reply::<Put>(puts[1]), Some(Ok(Err(Refusal::Closed))));
        let late = put(&mut bench, 9, 3);
        assert_eq!(bench.reply::<Put>(late), Some(Ok(Err(Refusal::Closed))));
        let joined = bench.call(8, Join);
        let taken = get(&mut bench, 1);
        assert_eq!(item(&bench, taken), Some((1, 1)));
        // What is taken may come back, so the next one waits.
        let [next, other] = [2, 3].map(|session| get(&mut bench, session));
        bench.hang_up(1);
        assert_eq!(item(&bench, next), Some((1, 2)));
        assert!(!bench.is_answered(other) && !bench.is_answered(joined));
        done(&mut bench, next).unwrap();
        assert!(bench.is_answered(joined));
        assert_eq!(bench.reply::<Get>(other), Some(Ok(Err(Refusal::Closed))));
        let late = get(&mut bench, 3);
        assert_eq!(bench.reply::<Get>(late), Some(Ok(Err(Refusal::Closed))));
    }

    #[test]
    fn closing_an_empty_queue_sends_all_who_wait_home() {
        let mut bench = bench(None);
        let waiting = get(&mut bench, 1);
        ask(&mut bench, CloseQueue);
        assert_eq!(bench.reply::<Get>(waiting), Some(Ok(Err(Refusal::Closed))));
    }

    #[test]
    fn who_is_withdrawn_too_late_or_dead_is_given_nothing() {
        let mut bench = bench(None);
        let withdrawn = get(&mut bench, 1);
        let late = bench.call_timeout(2, Get, Duration::from_secs(1));
        get(&mut bench, 3);
        let stays = get(&mut bench, 4);
        bench.withdraw(withdrawn);
        bench.advance(Duration::from_secs(2));
        bench.hang_up(3);
        assert_eq!(
            [withdrawn, late].map(|id| bench.reply::<Get>(id)),
            [Some(Err(Fault::Withdrawn)), Some(Err(Fault::TimedOut))]
        );
        put(&mut bench, 9, 1);
        assert_eq!(item(&bench, stays), Some((1, 1)));
        assert_eq!([withdrawn, late].map(|id| bench.times_answered(id)), [1, 1]);
    }

    #[test]
    fn capacity_out_of_range_is_refused_with_what_is_allowed() {
        for capacity in [0, MOST + 1] {
            let made = Bench::<Queue>::new(QueueSpec {
                capacity: Some(capacity),
                holds: String::new(),
            });
            let Err(Refusal::Invalid(why)) = made.map(drop) else {
                panic!("it was not refused");
            };
            assert!(why.contains("1 to 1000000000 items"), "{why}");
        }
        assert_eq!(ask(&mut bench(None), CountItems).capacity, MOST);
        assert_eq!(ask(&mut bench(Some(7)), CountItems).capacity, 7);
    }

    #[test]
    fn items_of_another_type_are_refused_with_the_names_of_both() {
        let mut bench = bench(None);
        let check = |holds: &str| CheckType {
            holds: holds.to_owned(),
        };
        assert_eq!(ask(&mut bench, check("u8")), Ok(()));
        let Err(refusal) = ask(&mut bench, check("text")) else {
            panic!("it was not refused");
        };
        let why = refusal.to_string();
        assert!(why.contains("u8") && why.contains("text"), "{why}");
        let long = ask(&mut bench, check(&"\u{1f480}".repeat(1 << 20)));
        let told = long.unwrap_err().to_string();
        assert!(told.len() <= 4 * 4096 + why.len(), "{} bytes", told.len());
    }

    #[test]
    fn survey_tells_who_has_items_and_who_waits_for_what() {
        let mut bench = bench(Some(1));
        put(&mut bench, 1, 1);
        let taken = get(&mut bench, 2);
        bench.advance(Duration::from_secs(2));
        let waits = [
            put(&mut bench, 1, 2),
            put(&mut bench, 3, 3),
            bench.call(4, Join),
        ];
        ask(&mut bench, CloseQueue);
        let getting = get(&mut bench, 5);
        let getting = [getting, get(&mut bench, 6)];
        let survey = bench.primitive().unwrap().survey();
        assert_eq!(survey.state, "0 items wait, 2 are taken, closed");
        let part = &survey.parts[0];
        let holders = part
            .holders
            .iter()
            .map(|holding| (holding.call, holding.since));
        let holders: Vec<_> = holders.collect();
        let since = Duration::from_secs(2);
        assert_eq!(holders, [(taken, Duration::ZERO), (getting[0], since)]);
        let waiters = part
            .waiters
            .iter()
            .map(|waiting| (waiting.call, waiting.mode));
        let waiters: Vec<_> = waiters.collect();
        assert_eq!(waiters, [(getting[1], "get"), (waits[2], "join")]);
    }

    #[test]
    fn a_hundred_thousand_items_of_one_that_dies_come_back_before_all_others() {
        let mut bench = bench(None);
        for _ in 0..150_000 {
            put(&mut bench, 9, 1);
        }
        for _ in 0..100_000 {
            get(&mut bench, 1);
        }
        bench.hang_up(1);
        let status = ask(&mut bench, CountItems);
        assert_eq!((status.len, status.taken), (150_000, 0));
        let takers: Vec<_> = (0..1000)
            .flat_map(|session| [session; 150])
            .map(|session| get(&mut bench, 1000 + session))
            .collect();
        for taker in &takers[..100_000] {
            assert_eq!(item(&bench, *taker), Some((1, 2)));
        }
        assert_eq!(item(&bench, takers[100_000]), Some((1, 1)));
        for taker in takers.into_iter().rev() {
            done(&mut bench, taker).unwrap();
        }
        assert_eq!(ask(&mut bench, CountItems).len, 0);
    }
}
