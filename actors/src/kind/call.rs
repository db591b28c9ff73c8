//! `Call` and `Outbox`: a call that a primitive has to answer, and the destination of its answer.
//!
//! A primitive stores [`Call`]s and replies to them. After every input the host drains the [`Outbox`]
//! and sends each answer to its session. This module knows neither sessions nor actors.
//!
//! Invariant: every [`Call`] yields exactly one answer, at the latest when it is dropped.

use std::num::NonZero;
use std::{cell::RefCell, fmt, marker::PhantomData, mem, rc::Rc, sync::Arc, time::Duration};

use lockkeeper_protocol::{
    CallId, Fault, Fence, ManagerSecret, Proof, Refusal,
    codec::{Fit, Form, guarded_in},
};
use serde::Serialize;

use crate::kind::{
    answer::{Answer, Outcome, Parcel},
    budget::{Account, CALL_BYTES, Share, StoredBudget, StoredBytes},
    dropped::DroppedCalls,
    fences::Fences,
    large_reply::LargeReply,
    object_stats::{ObjectStats, nanoseconds},
};

/// A call that must be answered. A primitive stores it while the caller waits.
///
/// Dropping it answers with a fault: `Withdrawn` or `TimedOut` if this turn removes the call, `Gone` if the
/// object ends or hangs up a session, and `Unanswered` otherwise.
#[must_use = "a call that is dropped is answered with a fault"]
pub struct Call<R> {
    id: CallId,
    /// The arrival: one more than the nanoseconds since the manager's start. A table of calls uses the zero.
    since: NonZero<u64>,
    /// `None` once the call is answered.
    outbox: Option<Outbox>,
    reply: PhantomData<fn(R)>,
}

impl<R: Serialize + 'static> Call<R> {
    /// Answers the caller.
    ///
    /// A short reply is encoded at once. A reply of more than 256 bytes is stored until the caller's session has room
    /// for it, so large data in a reply should be shared, as in a [`Blob`](lockkeeper_protocol::codec::Blob). See
    /// [`Self::reply_sharing`] for data that the object counts.
    pub fn reply(self, reply: R) {
        self.answer(reply, None);
    }

    /// Answers the caller with a reply that shares bytes with the object, such as a stored value. The bytes count until
    /// the object has dropped them and no waiting reply shares them.
    ///
    /// A reply of [`Self::reply`] that has to wait counts all of its bytes itself.
    pub fn reply_sharing(self, reply: R, stored: &Rc<StoredBytes>) {
        self.answer(reply, Some(stored));
    }

    fn answer(mut self, reply: R, stored: Option<&Rc<StoredBytes>>) {
        if let Some(outbox) = self.outbox.take() {
            outbox.account().forget(CALL_BYTES);
            outbox.note_end_of_wait(self.id, self.since, None);
            outbox.put_reply(self.id, reply, stored);
        }
    }
}

impl<R> Call<R> {
    /// Returns the id of the call.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// Returns when the call arrived, as the time since the manager's start.
    #[must_use]
    pub const fn arrived(&self) -> Duration {
        Duration::from_nanos(self.since.get() - 1)
    }

    /// Returns the call that a proof in the arguments names: a call of the same session, or of any session if
    /// the MAC is valid. The kind still has to check that this call holds something.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::NotHeld`] when the MAC is invalid.
    pub fn verify(&self, proof: Proof) -> Result<CallId, Refusal> {
        match proof {
            Proof::Own(seq) => Ok(CallId::new(self.id.session(), seq)),
            Proof::Signed(signed) => {
                let secret = self.outbox().0.turn.borrow().secret;
                secret.check(&signed).ok_or(Refusal::NotHeld)
            }
        }
    }

    /// Records that this call has ended a grant. If another session had the grant, that session is told that
    /// the grant is void, and its guard is lost.
    pub fn record_end(&self, grant: CallId) {
        if grant.session() != self.id.session() {
            self.outbox().revoke(grant);
        }
    }

    /// Refuses the call by an error that names the object. A reply that is a `Result<_, Refusal>` has the refusal itself.
    pub fn refuse(self, refusal: Refusal) {
        self.fail(Fault::Refused(refusal));
    }

    /// Answers the caller with a fault.
    pub fn fail(mut self, fault: Fault) {
        if let Some(outbox) = self.outbox.take() {
            outbox.account().forget(CALL_BYTES);
            outbox.note_end_of_wait(self.id, self.since, Some(&fault));
            outbox.put(self.id, Parcel::Fault(fault));
        }
    }

    /// Returns the outbox of the answer.
    ///
    /// # Panics
    ///
    /// Never panics: a call has its outbox until it is consumed.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        let outbox = self.outbox.as_ref();
        outbox.expect("only a consumed call has no outbox")
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.account().forget(CALL_BYTES);
            outbox.put_dropped(self.id, self.since);
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.id).finish()
    }
}

/// Collects the answers of a turn, and gives primitives the time of the turn and fresh fences.
///
/// Clones share one outbox. It is empty between turns.
#[derive(Clone)]
pub struct Outbox(Rc<Inner>);

struct Inner {
    turn: RefCell<Turn>,
    account: Rc<Account>,
}

struct Turn {
    /// The time of the turn, in nanoseconds since the manager's start.
    now: u64,
    /// The form in which the current kind encodes its replies.
    form: Form,
    fences: Fences,
    /// The secret with which the MACs of signed calls are checked.
    secret: ManagerSecret,
    parcels: Vec<(CallId, Parcel)>,
    /// The number of parcels of earlier turns that were not drained yet.
    begun: usize,
    /// The encoded replies of the turn, one after the other. The buffer is reused.
    bodies: Vec<u8>,
    has_large: bool,
    /// Whether this turn has answered a one-way call.
    has_answered_one_way: bool,
    dropped: DroppedCalls,
    /// The wait times of calls that were answered with a reply, in nanoseconds.
    waits: Vec<u64>,
    /// The number of fences that were drawn.
    granted: u64,
    /// The statistics of the object whose turn it is, if it keeps any.
    object_stats: Option<Box<ObjectStats>>,
}

/// The largest reply that is encoded in its turn, which takes hardly more memory than storing the value.
pub(crate) const SMALL_BYTES: usize = 256;

/// The bytes of replies with which the outbox is drained before the next turn.
const MANY_BYTES: usize = 1 << 16;

/// The capacities above which buffers are freed at the end of a turn: bytes of bodies, and parcels.
const KEPT_CAPACITY: usize = 1 << 20;

const KEPT_PARCELS: usize = 1 << 14;

impl Outbox {
    /// Creates an empty outbox.
    #[must_use]
    pub fn new(fences: Fences, secret: ManagerSecret, stored: Arc<StoredBudget>) -> Self {
        let turn = RefCell::new(Turn {
            now: 0,
            form: Form::Named,
            fences,
            secret,
            parcels: Vec::new(),
            begun: 0,
            bodies: Vec::new(),
            has_large: false,
            has_answered_one_way: false,
            dropped: DroppedCalls::default(),
            waits: Vec::new(),
            granted: 0,
            object_stats: None,
        });
        let account = Rc::new(Account::new(stored));
        Self(Rc::new(Inner { turn, account }))
    }

    /// Counts bytes that the object stores for its clients in `Limits::stored_bytes`, until the [`StoredBytes`] is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Fault::Limit`] when the manager's `Limits::stored_bytes` does not permit the bytes. The call
    /// should fail with it and change nothing.
    pub fn store(&self, bytes: usize) -> Result<StoredBytes, Fault> {
        self.store_in(Share::Data, bytes)
    }

    /// Counts bytes within another share of the limit.
    #[doc(hidden)]
    pub fn store_in(&self, share: Share, bytes: usize) -> Result<StoredBytes, Fault> {
        StoredBytes::new(&self.0.account, share, bytes)
    }

    /// Returns the account, for values that count bytes until they are dropped.
    pub(crate) fn shared_account(&self) -> Rc<Account> {
        Rc::clone(&self.0.account)
    }

    /// Creates a reply that is encoded when its session has room for it.
    #[doc(hidden)]
    #[must_use]
    pub fn large_reply<R: Serialize + 'static>(&self, reply: R) -> LargeReply {
        LargeReply::new(Form::Compact, reply, &self.0.account)
    }

    /// The account of the shard.
    pub(crate) fn account(&self) -> &Account {
        &self.0.account
    }

    /// Returns the time of this turn, since the manager's start.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// The time of this turn, in nanoseconds since the manager's start.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        self.0.turn.borrow().now
    }

    /// Returns a fence that is higher than all earlier ones.
    #[must_use]
    pub fn next_fence(&self) -> Fence {
        let turn = &mut *self.0.turn.borrow_mut();
        turn.granted += 1;
        if let Some(object_stats) = &mut turn.object_stats {
            object_stats.granted();
        }
        turn.fences.next()
    }

    /// Replaces the statistics of the object whose turn it is, and returns the previous ones.
    pub(crate) fn swap_stats(&self, stats: Option<Box<ObjectStats>>) -> Option<Box<ObjectStats>> {
        mem::replace(&mut self.0.turn.borrow_mut().object_stats, stats)
    }

    /// Records that a session ended while it held something.
    pub(crate) fn note_abandonment(&self) {
        if let Some(object_stats) = &mut self.0.turn.borrow_mut().object_stats {
            object_stats.abandoned();
        }
    }

    /// Records the end of a hold. A drop may call this at any time, even while the outbox is borrowed.
    pub(crate) fn note_end_of_hold(&self, since: u64) {
        if let Ok(mut turn) = self.0.turn.try_borrow_mut() {
            let turn = &mut *turn;
            if let Some(object_stats) = &mut turn.object_stats {
                object_stats.held(Duration::from_nanos(turn.now.saturating_sub(since)));
            }
        }
    }

    /// Records the wait time of a call that is being answered.
    #[inline]
    fn note_end_of_wait(&self, id: CallId, since: NonZero<u64>, fault: Option<&Fault>) {
        let turn = &mut *self.0.turn.borrow_mut();
        let ago = (turn.now + 1).saturating_sub(since.get());
        if fault.is_none() && ago > 0 {
            turn.waits.push(ago);
        }
        if let Some(object_stats) = &mut turn.object_stats {
            object_stats.answered(id, Duration::from_nanos(ago), fault);
        }
    }

    /// Notifies the holder of a grant that the grant is void from now on.
    pub fn revoke(&self, grant: CallId) {
        self.put(grant, Parcel::Revoked);
    }

    /// Begins a turn of a kind that encodes its replies in this form.
    #[inline]
    pub(crate) fn begin(
        &self,
        now: Duration,
        form: Form,
        answering: Option<&'static str>,
        undoing: Option<(CallId, Fault)>,
    ) {
        let mut turn = self.0.turn.borrow_mut();
        turn.now = nanoseconds(now);
        turn.form = form;
        turn.dropped.begin(answering, undoing);
        turn.begun = turn.parcels.len();
        turn.has_answered_one_way = false;
    }

    /// Records that the object ends in this turn, so the calls that it drops are gone.
    pub(crate) fn note_end_of_object(&self) {
        let turn = &mut *self.0.turn.borrow_mut();
        let answers = turn.parcels.get_mut(turn.begun..).unwrap_or_default();
        turn.dropped.end_object(answers);
    }

    /// Returns whether this turn has answered call `id`.
    #[inline]
    pub(crate) fn has_answered(&self, id: CallId) -> bool {
        let turn = self.0.turn.borrow();
        if id.is_one_way() {
            // One-way calls are never parked beyond their turn, so it was the call of this turn.
            return turn.has_answered_one_way;
        }
        turn.parcels
            .iter()
            .skip(turn.begun)
            .any(|(call, _)| *call == id)
    }

    /// Returns whether the answers should be delivered before the next turn.
    #[inline]
    pub(crate) fn is_heavy(&self) -> bool {
        let turn = self.0.turn.borrow();
        turn.has_large || turn.bodies.len() > MANY_BYTES
    }

    /// Removes this turn's answer of call `id`.
    pub(crate) fn retract(&self, id: CallId) {
        let turn = &mut *self.0.turn.borrow_mut();
        let (earlier, mut place) = (turn.begun, 0);
        turn.parcels.retain(|(call, _)| {
            place += 1;
            place <= earlier || *call != id
        });
    }

    /// Answers a call whose answer was removed.
    pub(crate) fn answer_fault(&self, id: CallId, fault: Fault) {
        self.put(id, Parcel::Fault(fault));
    }

    /// Creates the [`Call`] with id `id`, which must be answered.
    pub(crate) fn call<R>(&self, id: CallId) -> Call<R> {
        self.0.account.count(CALL_BYTES);
        Call {
            id,
            since: NonZero::<u64>::MIN.saturating_add(self.nanos()),
            outbox: Some(self.clone()),
            reply: PhantomData,
        }
    }

    /// Takes the records of this turn: calls `waited` with each wait that ended, and returns the number
    /// of fences that were drawn.
    pub(crate) fn take_notes(&self, mut waited: impl FnMut(Duration)) -> u64 {
        let turn = &mut *self.0.turn.borrow_mut();
        for wait in turn.waits.drain(..) {
            waited(Duration::from_nanos(wait));
        }
        mem::take(&mut turn.granted)
    }

    /// Returns whether the manager has reserved all fences that were drawn, so that answers may name them.
    #[inline]
    pub(crate) fn is_within_reserve(&self) -> bool {
        self.0.turn.borrow().fences.are_reserved()
    }

    /// Drains the outbox in order. `each` must not use the outbox, which is borrowed meanwhile.
    pub(crate) fn drain(&self, mut each: impl FnMut(Answer<'_>)) {
        let turn = &mut *self.0.turn.borrow_mut();
        turn.dropped.end();
        turn.begun = 0;
        turn.has_large = false;
        if turn.parcels.is_empty() && turn.bodies.is_empty() {
            // One-way calls have no answers.
            return;
        }
        let bodies = &turn.bodies;
        for (call, parcel) in turn.parcels.drain(..) {
            let outcome = match parcel {
                Parcel::Reply(body) => Outcome::Reply(bodies.get(body).unwrap_or_default()),
                Parcel::Large(reply) => Outcome::Large(reply),
                Parcel::Fault(fault) => Outcome::Fault(fault),
                Parcel::Revoked => Outcome::Revoked,
            };
            each(Answer { call, outcome });
        }
        turn.bodies.clear();
        if turn.bodies.capacity() > KEPT_CAPACITY {
            turn.bodies = Vec::new();
        }
        if turn.parcels.capacity() > KEPT_PARCELS {
            turn.parcels = Vec::new();
        }
    }

    fn put_reply<R>(&self, id: CallId, reply: R, stored: Option<&Rc<StoredBytes>>)
    where
        R: Serialize + 'static,
    {
        let turn = &mut *self.0.turn.borrow_mut();
        if id.is_one_way() {
            turn.has_answered_one_way = true;
            return;
        }
        let start = turn.bodies.len();
        let (form, bodies) = (turn.form, &mut turn.bodies);
        // A panic in a user's `Serialize` is a fault of this answer.
        let parcel = match guarded_in(form, || form.encode_within(bodies, &reply, SMALL_BYTES)) {
            Ok(Fit::Fits(_)) => Parcel::Reply(start..turn.bodies.len()),
            Ok(Fit::TooLong) => {
                turn.has_large = true;
                Parcel::Large(match stored {
                    Some(stored) => LargeReply::sharing(turn.form, reply, stored),
                    None => LargeReply::new(turn.form, reply, &self.0.account),
                })
            }
            Err(error) => Parcel::Fault(Fault::Unencodable(error.to_string())),
        };
        turn.parcels.push((id, parcel));
    }

    fn put_dropped(&self, id: CallId, since: NonZero<u64>) {
        let fault = self.0.turn.borrow().dropped.fault(id);
        self.note_end_of_wait(id, since, Some(&fault));
        self.put(id, Parcel::Fault(fault));
    }

    fn put(&self, id: CallId, parcel: Parcel) {
        let turn = &mut *self.0.turn.borrow_mut();
        if !id.is_one_way() {
            return turn.parcels.push((id, parcel));
        }
        match parcel {
            Parcel::Revoked => {}
            Parcel::Reply(_) | Parcel::Large(_) | Parcel::Fault(_) => {
                turn.has_answered_one_way = true;
            }
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("parcels", &self.0.turn.borrow().parcels.len())
            .finish()
    }
}
