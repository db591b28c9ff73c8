//! `Shell`: the state that all hosts of one shard share, such as the outbox, the deadlines and the reply
//! sinks.
//!
//! Invariant: a shell never leaves the thread of its shard, so it needs no lock.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use lockkeeper_protocol::{Fault, ManagerSecret, Peer, SessionId};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use crate::{
    host::{
        behind::BehindHosts,
        client::Client,
        contended::ContendedObjects,
        deadlines::Deadlines,
        endings::Endings,
        freed::{Freed, FreedBlocks},
        input::{Input, Inputs, Mailbox},
        sharing::Sharing,
        tally::Tallies,
        watch::Watch,
    },
    kind::{
        answer::Outcome,
        budget::{CALL_BYTES, StoredBudget},
        call::Outbox,
        fences::Fences,
    },
};

/// The destination of the answers to one session's calls.
pub trait ReplySink {
    /// Delivers the outcome of the session's call `seq`.
    fn answer(&self, seq: u64, outcome: Outcome<'_>);

    /// Reports that the object that the session opened as number `object` has ended.
    fn gone(&self, object: u32);

    /// Returns the number of the session's calls that are not answered.
    fn calls_in_flight(&self) -> usize {
        0
    }

    /// Returns whether the session's next calls should wait until its client has read more answers.
    fn is_full(&self) -> bool {
        false
    }

    /// Holds back inputs for an object until the session is no longer full, and then sends them again:
    /// [`Inputs::again`].
    fn hold_back(&self, _object: u64, mailbox: Mailbox, inputs: Inputs) {
        mailbox.do_send(inputs);
    }

    /// Returns whether inputs for an object were held back in an earlier place and have not reached its host
    /// since. Later inputs of the session then have to wait.
    fn holds_back(&self, _object: u64, _place: u64) -> bool {
        false
    }

    /// Records that inputs that were held back have reached their host.
    fn come_again(&self, _place: u64) {}

    /// Returns the process at the other end, if it is known.
    fn peer(&self) -> Option<Arc<Peer>> {
        None
    }

    /// Returns the sessions that share a part of the limits with this one. `None` if it has a part of its own.
    fn sharing(&self) -> Option<&Sharing> {
        None
    }

    /// Returns who the client is, for events.
    fn client(&self) -> Client {
        Client {
            peer: self.peer().unwrap_or_default(),
            ..Client::default()
        }
    }
}

/// The state that all hosts of one shard share.
pub struct Shell {
    outbox: Outbox,
    deadlines: Deadlines,
    endings: Endings,
    contended: ContendedObjects,
    /// The manager assigns session ids, so a client cannot make them collide.
    sinks: RefCell<FxHashMap<SessionId, Rc<dyn ReplySink>>>,
    /// The number of full sinks.
    full_sinks: Rc<Cell<usize>>,
    /// Unused buffers for inputs: short and long ones.
    spare: RefCell<[Vec<Vec<Input>>; 2]>,
    tallies: Tallies,
    /// The numbers of objects whose code has panicked, until they are removed.
    failed: RefCell<FxHashSet<u64>>,
    freed: FreedBlocks,
    behind: BehindHosts,
}

/// The limits of the unused buffers that a shell keeps.
const SHORT: Spare = Spare {
    messages: 2048,
    inputs: 8,
};

const LONG: Spare = Spare {
    messages: 4,
    inputs: 1024,
};

/// The number of buffers to keep, and the capacity that each may have.
struct Spare {
    messages: usize,
    inputs: usize,
}

impl Shell {
    /// Creates the shell of a shard without a limit on stored bytes, with its fences and the secret for signed
    /// calls.
    #[must_use]
    pub fn new(fences: Fences, secret: ManagerSecret) -> Rc<Self> {
        Self::within(fences, secret, Arc::new(StoredBudget::unlimited()))
    }

    /// Creates a shell with the budget of its manager.
    #[must_use]
    pub fn within(fences: Fences, secret: ManagerSecret, stored: Arc<StoredBudget>) -> Rc<Self> {
        Rc::new(Self {
            outbox: Outbox::new(fences, secret, stored),
            deadlines: Deadlines::new(Instant::now()),
            endings: Endings::default(),
            contended: ContendedObjects::default(),
            sinks: RefCell::default(),
            full_sinks: Rc::default(),
            spare: RefCell::default(),
            tallies: Tallies::default(),
            failed: RefCell::default(),
            freed: FreedBlocks::default(),
            behind: BehindHosts::default(),
        })
    }

    /// Returns the counters of all kinds.
    #[must_use]
    pub const fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Returns whether the code of the object with a number has panicked, and the object was not removed since.
    #[must_use]
    pub fn has_failed(&self, number: u64) -> bool {
        self.failed.borrow().contains(&number)
    }

    /// The numbers of objects whose code has panicked.
    pub(crate) const fn failed(&self) -> &RefCell<FxHashSet<u64>> {
        &self.failed
    }

    /// Returns the outbox of all hosts.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Returns the bytes that the shard's objects store for clients, as `Limits::stored_bytes` counts them.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.outbox.account().used()
    }

    /// Refuses a session another object if those that it has opened count more bytes than are left for others.
    ///
    /// # Errors
    ///
    /// Returns [`Fault::Limit`] in that case.
    pub fn check_share(&self, opened: usize) -> Result<(), Fault> {
        self.outbox.account().check_share(opened)
    }

    /// Returns the deadlines of all calls. Their `run` must be spawned once.
    #[must_use]
    pub const fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The sessions that are being hung up.
    pub(crate) const fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Tells objects of the ends of their sessions, for ever. It must be spawned once.
    pub fn keep_hanging_up(&self) -> impl Future<Output = ()> + 'static {
        let deadlines = self.deadlines.clone();
        self.endings.clone().run(move || deadlines.now())
    }

    /// Returns the objects with waiting calls.
    #[must_use]
    pub const fn contended(&self) -> &ContendedObjects {
        &self.contended
    }

    /// Returns the time since the start of the shard, by the clock of the runtime.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.deadlines.now()
    }

    /// Returns an empty message, with an unused buffer if there is one.
    #[must_use]
    #[inline]
    pub fn inputs(&self) -> Inputs {
        let [short, _] = &mut *self.spare.borrow_mut();
        Inputs {
            at: Duration::ZERO,
            all: short.pop().unwrap_or_default(),
            again: None,
        }
    }

    /// Adds an input to a message. A full short buffer is replaced by a long one.
    #[inline]
    pub fn add(&self, inputs: &mut Inputs, input: Input) {
        let room = inputs.all.capacity();
        if inputs.all.len() == room && (1..=SHORT.inputs).contains(&room) {
            let [short, long] = &mut *self.spare.borrow_mut();
            if let Some(mut room) = long.pop() {
                room.append(&mut inputs.all);
                short.push(std::mem::replace(&mut inputs.all, room));
            }
        }
        inputs.all.push(input);
    }

    /// Keeps the buffer of a handled message for a later one.
    #[inline]
    pub(crate) fn take_back(&self, room: Vec<Input>) {
        self.freed.count(Freed::Message);
        let [short, long] = &mut *self.spare.borrow_mut();
        let (rooms, most) = if room.capacity() <= SHORT.inputs {
            (short, SHORT)
        } else {
            (long, LONG)
        };
        if rooms.len() < most.messages && room.capacity() <= most.inputs {
            rooms.push(room);
        }
    }

    /// Returns whether messages may be left in a mailbox that were sent before the last turns of all hosts. A session
    /// then has to know which of its messages are.
    #[must_use]
    #[inline]
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// The hosts that have not handled all messages of their mailboxes.
    pub(super) const fn behind(&self) -> &BehindHosts {
        &self.behind
    }

    /// The count of the freed blocks.
    pub(crate) const fn freed(&self) -> &FreedBlocks {
        &self.freed
    }

    /// Begins a session: answers to its calls go to `replies` from now on.
    pub fn join(&self, session: SessionId, replies: Rc<dyn ReplySink>) {
        if let Some(sharing) = replies.sharing() {
            sharing.enter(session);
        }
        self.sinks.borrow_mut().insert(session, replies);
    }

    /// Ends a session: answers to its calls are dropped from now on.
    pub fn leave(&self, session: SessionId) {
        let ended = self.sinks.borrow_mut().remove(&session);
        if let Some(sharing) = ended.as_ref().and_then(|sink| sink.sharing()) {
            sharing.leave(session);
        }
    }

    /// Hangs up a session that has left, at the objects that it had opened. They first serve what the session
    /// sent before. All later inputs of other sessions see its holds released.
    pub fn hang_up(
        &self,
        session: SessionId,
        peer: Arc<Peer>,
        mailboxes: impl Iterator<Item = Mailbox> + 'static,
    ) {
        let at = self.deadlines.later();
        self.endings.begin(session, peer, Box::new(mailboxes), at);
    }

    /// Returns the process at the other end of a session, while the session lasts.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Arc<Peer>> {
        self.sinks.borrow().get(&session)?.peer()
    }

    /// Returns who the client of a session is, as far as that is known.
    pub(crate) fn client(&self, session: SessionId) -> Client {
        let sinks = self.sinks.borrow();
        sinks
            .get(&session)
            .map(|sink| sink.client())
            .unwrap_or_default()
    }

    /// The bytes of the unanswered calls and the holds of the client of a session. Calls that their objects have not
    /// served yet are among them: to tell them from those that wait, each call would pay for a look-up of its session.
    #[cold]
    pub(crate) fn bytes_of_calls(&self, session: SessionId) -> usize {
        let sinks = self.sinks.borrow();
        let bytes_of = |session: SessionId| {
            let calls = sinks.get(&session).map(|sink| sink.calls_in_flight());
            let waiting = calls.unwrap_or_default().saturating_mul(CALL_BYTES);
            waiting.saturating_add(self.outbox.account().held_by(session))
        };
        match sinks.get(&session).and_then(|sink| sink.sharing()) {
            Some(sharing) => sharing.sum(self.now(), bytes_of),
            None => bytes_of(session),
        }
    }

    /// Returns the number of sinks that are full or hold inputs back. Each sink counts itself.
    #[must_use]
    pub fn full_sinks(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.full_sinks)
    }

    /// Returns the sink that has to hold back an input, because its session is full. Only calls have answers
    /// that a client may leave unread. Other inputs are held back behind them, because a client may withdraw
    /// a call that is held back.
    #[inline]
    pub(crate) fn is_to_wait(
        &self,
        object: u64,
        input: &Input,
        again: Option<(SessionId, u64)>,
    ) -> Option<Rc<dyn ReplySink>> {
        if self.full_sinks.get() == 0 {
            return None;
        }
        let place = again.map_or(u64::MAX, |(_, place)| place);
        self.full_sink(object, input, place)
    }

    /// Does the same while some session is full. It is a separate function, so that the check above is
    /// inlined.
    #[cold]
    fn full_sink(&self, object: u64, input: &Input, place: u64) -> Option<Rc<dyn ReplySink>> {
        let (id, is_call) = match input {
            Input::Call(call) => (call.id, !call.id.is_one_way()),
            Input::CallBy(call, _) => (call.id, !call.id.is_one_way()),
            Input::CallAtLimit(limited) => (limited.call.id, true),
            Input::Withdraw(id) => (*id, false),
            Input::Open(..)
            | Input::Expire(_)
            | Input::HangUp(..)
            | Input::Remove
            | Input::Survey(_)
            | Input::Fail(..) => return None,
        };
        let sinks = self.sinks.borrow();
        let sink = sinks.get(&id.session())?;
        (sink.holds_back(object, place) || is_call && sink.is_full()).then(|| Rc::clone(sink))
    }

    /// Records that inputs that were held back have reached their host.
    pub(crate) fn come_again(&self, session: SessionId, place: u64) {
        if let Some(sink) = self.sinks.borrow().get(&session) {
            sink.come_again(place);
        }
    }

    /// Delivers the answers of the outbox, which belong to one object.
    pub(crate) fn deliver(&self, watch: &Watch) {
        watch.tell(&self.outbox);
        self.tallies.touch();
        if !self.outbox.is_within_reserve() {
            // The manager ends. Until then no client learns of a grant whose fence a later manager may use.
            return self.outbox.drain(|_| ());
        }
        let sinks = self.sinks.borrow();
        self.outbox.drain(|answer| {
            self.deadlines.answered(answer.call);
            watch.answered(&answer);
            if let Some(replies) = sinks.get(&answer.call.session()) {
                replies.answer(answer.call.seq(), answer.outcome);
            }
        });
    }

    /// Reports to sessions that an object has ended.
    pub(crate) fn announce_gone(&self, openers: impl Iterator<Item = (SessionId, u32)>) {
        let sinks = self.sinks.borrow();
        for (session, object) in openers {
            if let Some(replies) = sinks.get(&session) {
                replies.gone(object);
            }
        }
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell")
            .field("sessions", &self.sinks.borrow().len())
            .field("deadlines", &self.deadlines)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::SECRET_BYTES;

    use super::*;

    #[test]
    fn long_messages_have_the_room_of_those_before_and_lose_nothing() {
        let shell = Shell::new(Fences::count_from(1), ManagerSecret::new([0; SECRET_BYTES]));
        for round in 0..3 {
            let mut inputs = shell.inputs();
            for number in 0..500 {
                let open = Input::Open(SessionId::new(1), number);
                shell.add(&mut inputs, open);
            }
            let numbers = inputs.all.iter().map(|input| match input {
                Input::Open(_, number) => *number,
                other => panic!("{other:?}"),
            });
            assert!(numbers.eq(0..500));
            assert_eq!(long(&shell), 0, "round {round} has the room that there is");
            inputs.all.clear();
            shell.take_back(std::mem::take(&mut inputs.all));
            assert_eq!(long(&shell), 1, "round {round}");
        }
    }

    /// The number of unused long buffers.
    fn long(shell: &Shell) -> usize {
        let [_, long] = &*shell.spare.borrow();
        long.len()
    }
}
