//! `HeldBack`: inputs of a session that wait until its client has read more.
//!
//! A host serves a limited number of messages in a turn, so the mailbox may hold later inputs of a session
//! before inputs that are sent again. Each input therefore gets a place when it is first held back, and is
//! under way from the moment when it is sent again until its host receives it. While hosts are behind, all inputs get a
//! place, so that the session knows whether they have come.
//!
//! Invariant: an object gets the inputs of a session in the order in which the session has sent them. One read of a
//! session may touch thousands of objects, so no step visits all inputs of the others.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    rc::Rc,
};

use lockkeeper_actors::{Inputs, Mailbox, StoredBytes};
use lockkeeper_protocol::SessionId;

use crate::server::session::in_mailboxes::InMailboxes;

/// Inputs whose hosts found the session full.
pub(super) struct HeldBack {
    /// `None` until the session was full for the first time, which most sessions never are.
    state: RefCell<Option<Box<State>>>,
    /// The number of sessions of the shard that are full or have inputs here.
    full_sinks: Rc<Cell<usize>>,
}

#[derive(Default)]
struct State {
    /// The held-back inputs, by their places.
    held: BTreeMap<u64, Held>,
    /// The inputs under way, by their places.
    under_way: HashMap<u64, Sent>,
    /// What a complete message counts. It is the first of the next inputs, or of those under way.
    complete: Option<Complete>,
    /// The bytes that were read with inputs that are under way.
    in_mailboxes: Option<InMailboxes>,
    /// The places of all these inputs, by their objects.
    places: HashMap<u64, BTreeSet<u64>>,
    /// The next place.
    next: u64,
    is_counted: bool,
}

/// What a message counts that is complete, until it has reached its object.
pub(super) struct Complete {
    /// Counts a large message.
    pub(super) stored: Option<StoredBytes>,
    /// The reserved bytes of any other message.
    pub(super) reserved: usize,
}

struct Held {
    object: u64,
    mailbox: Mailbox,
    inputs: Inputs,
}

/// Inputs under way to an object.
struct Sent {
    object: u64,
    /// Counts a large message until its object has received it, and counts what it stores.
    _stored: Option<StoredBytes>,
}

impl HeldBack {
    pub(super) fn new(full_sinks: Rc<Cell<usize>>) -> Self {
        Self {
            state: RefCell::default(),
            full_sinks,
        }
    }

    /// Holds back inputs for an object, in their earlier place if they had one.
    pub(super) fn keep(&self, object: u64, mailbox: Mailbox, inputs: Inputs) {
        let state = &mut *self.state.borrow_mut();
        let state = state.get_or_insert_default();
        let place = inputs.place().unwrap_or_else(|| {
            state.next += 1;
            state.next
        });
        state.places.entry(object).or_default().insert(place);
        let held = Held {
            object,
            mailbox,
            inputs,
        };
        state.held.insert(place, held);
        self.recount(state);
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.borrow();
        state.as_ref().is_none_or(|state| state.held.is_empty())
    }

    /// Has inputs counted as under way until their object receives them, because that may be busy.
    pub(super) fn send(&self, session: SessionId, object: u64, inputs: Inputs) -> Inputs {
        let state = &mut *self.state.borrow_mut();
        let state = state.get_or_insert_default();
        state.next += 1;
        let place = state.next;
        state.places.entry(object).or_default().insert(place);
        let sent = Sent {
            object,
            _stored: state.complete.as_mut().and_then(|it| it.stored.take()),
        };
        state.under_way.insert(place, sent);
        self.recount(state);
        inputs.again(session, place)
    }

    /// Keeps what a complete message counts, until its object has received it.
    pub(super) fn keep_complete(&self, complete: Complete) {
        let state = &mut *self.state.borrow_mut();
        state.get_or_insert_default().complete = Some(complete);
    }

    /// Returns whether a complete message counts.
    #[inline]
    pub(super) fn has_complete(&self) -> bool {
        let state = self.state.borrow();
        state.as_ref().is_some_and(|state| state.complete.is_some())
    }

    /// The reserved bytes of a complete message.
    pub(super) fn reserved(&self) -> usize {
        let state = self.state.borrow();
        let complete = state.as_ref().and_then(|state| state.complete.as_ref());
        complete.map_or(0, |complete| complete.reserved)
    }

    /// Ends the count of a complete message that goes to no object, or that has reached it.
    pub(super) fn take_complete(&self) -> Option<Complete> {
        self.state.borrow_mut().as_mut()?.complete.take()
    }

    /// Counts the bytes that were read with the inputs under way, until all of these have come.
    pub(super) fn count(&self, read: &InMailboxes) {
        let state = &mut *self.state.borrow_mut();
        if let Some(state) = state.as_mut().filter(|state| !state.under_way.is_empty()) {
            let all = state.in_mailboxes.get_or_insert_with(|| read.part());
            all.take(read);
        }
    }

    /// Returns whether inputs are under way.
    #[inline]
    pub(super) fn is_under_way(&self) -> bool {
        let state = self.state.borrow();
        state
            .as_ref()
            .is_some_and(|state| !state.under_way.is_empty())
    }

    /// The bytes that were read with the inputs under way.
    pub(super) fn bytes_under_way(&self) -> usize {
        let state = self.state.borrow();
        let all = state.as_ref().and_then(|state| state.in_mailboxes.as_ref());
        all.map_or(0, InMailboxes::bytes)
    }

    /// Returns whether inputs for an object are held back or under way in an earlier place.
    pub(super) fn has(&self, object: u64, before: u64) -> bool {
        let state = self.state.borrow();
        let places = state.as_ref().and_then(|state| state.places.get(&object));
        let first = places.and_then(BTreeSet::first);
        first.is_some_and(|first| *first < before)
    }

    /// Takes all inputs, in order, and marks them as under way.
    pub(super) fn take(&self, session: SessionId) -> impl Iterator<Item = (Mailbox, Inputs)> {
        let mut held = BTreeMap::new();
        if let Some(state) = &mut *self.state.borrow_mut() {
            held = mem::take(&mut state.held);
            let sent = |object| Sent {
                object,
                _stored: None,
            };
            let places = held.iter();
            let places = places.map(|(place, held)| (*place, sent(held.object)));
            state.under_way.extend(places);
        }
        let held = held.into_iter();
        held.map(move |(place, held)| (held.mailbox, held.inputs.again(session, place)))
    }

    /// Records that a host has received the inputs of a place.
    pub(super) fn come(&self, place: u64) {
        let Some(state) = &mut *self.state.borrow_mut() else {
            return;
        };
        if let Some(Sent { object, .. }) = state.under_way.remove(&place)
            && let Some(places) = state.places.get_mut(&object)
        {
            places.remove(&place);
            if places.is_empty() {
                state.places.remove(&object);
            }
        }
        if state.under_way.is_empty() {
            state.in_mailboxes = None;
        }
        self.recount(state);
    }

    /// Updates the count of sessions that have inputs here or under way.
    fn recount(&self, state: &mut State) {
        let is_counted = !state.held.is_empty() || !state.under_way.is_empty();
        let full = self.full_sinks.get();
        match (state.is_counted, is_counted) {
            (false, true) => self.full_sinks.set(full + 1),
            (true, false) => self.full_sinks.set(full.saturating_sub(1)),
            (false, false) | (true, true) => {}
        }
        state.is_counted = is_counted;
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.held.clear();
            state.under_way.clear();
            state.in_mailboxes = None;
            self.recount(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc, time::Duration};

    use actix::{Actor, Context, Handler};
    use lockkeeper_actors::Input;
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    const SESSION: SessionId = SessionId::new(7);

    struct Nothing;

    impl Actor for Nothing {
        type Context = Context<Self>;
    }

    impl Handler<Inputs> for Nothing {
        type Result = ();

        fn handle(&mut self, _: Inputs, _: &mut Context<Self>) {}
    }

    fn inputs() -> Inputs {
        Inputs::one(Duration::ZERO, Input::Remove)
    }

    /// The processor time of this thread, which other processes do not affect.
    fn processor_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("not before the start")
    }

    #[actix_rt::test]
    async fn inputs_for_many_objects_take_no_longer_each() {
        let mailbox: Mailbox = Arc::new(Nothing.start().recipient());
        let time = |objects: u64| {
            let held_back = HeldBack::new(Rc::default());
            let begun = processor_time();
            for object in 0..objects {
                assert!(!held_back.has(object, u64::MAX));
                held_back.keep(object, Arc::clone(&mailbox), inputs());
            }
            for place in held_back.take(SESSION).map(|(_, inputs)| inputs.place()) {
                held_back.come(place.expect("they come again"));
            }
            assert!((0..objects).all(|object| !held_back.has(object, u64::MAX)));
            processor_time() - begun
        };
        let few = (0..5).map(|_| time(200)).min().unwrap();
        let many = (0..5).map(|_| time(6_400)).min().unwrap();
        // 32 times as many objects would take a thousand times as long if each step visited all.
        assert!(many < 200 * few, "{few:?} {many:?}");
    }

    #[actix_rt::test]
    async fn inputs_that_are_held_back_again_keep_their_place_before_those_that_were_behind_them() {
        let mailbox: Mailbox = Arc::new(Nothing.start().recipient());
        let full = Rc::new(Cell::new(0));
        let held_back = HeldBack::new(Rc::clone(&full));
        let keep = |object, inputs| held_back.keep(object, Arc::clone(&mailbox), inputs);
        let taken = || -> Vec<Inputs> {
            let taken = held_back.take(SESSION);
            taken.map(|(_, inputs)| inputs).collect()
        };
        for object in [1, 1, 2] {
            keep(object, inputs());
        }
        let mut sent: VecDeque<Inputs> = taken().into();
        assert!(held_back.is_empty() && full.get() == 1);
        // A host receives the inputs that were ahead of them in the mailbox first, and has to hold those
        // back.
        assert!(held_back.has(1, u64::MAX) && held_back.has(2, u64::MAX));
        assert!(!held_back.has(3, u64::MAX));
        keep(1, inputs());
        let first = sent.pop_front().unwrap();
        held_back.come(1);
        assert!(!held_back.has(1, first.place().unwrap()));
        keep(1, first);
        let second = sent.pop_front().unwrap();
        held_back.come(2);
        assert!(held_back.has(1, second.place().unwrap()));
        keep(1, second);
        held_back.come(3);
        assert!(!held_back.has(2, u64::MAX));
        let places: Vec<_> = taken().iter().map(Inputs::place).collect();
        assert_eq!(places, [Some(1), Some(2), Some(4)]);
        for place in [1, 2, 4] {
            assert_eq!(full.get(), 1);
            held_back.come(place);
        }
        assert!(!held_back.has(1, u64::MAX) && full.get() == 0);
        keep(1, inputs());
        drop(held_back);
        assert_eq!(full.get(), 0);
    }
}
