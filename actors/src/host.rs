//! The actor that runs any primitive, and all that it is ever told.
//!
//! Invariant: a host does not know which primitive it runs; it is the only file with
//! `catch_unwind`. A primitive that panics is dropped, which answers all its callers, and its host
//! lives on to answer `Gone` until nobody has its mailbox any more.

mod hang_up;
mod measured;
mod post;

use std::{
    collections::BTreeMap,
    fmt, mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{Handler, Message, Recipient, WeakRecipient};

use self::post::Turns;
pub use self::{
    hang_up::HangUp,
    measured::{Inquiry, Report},
    post::Post,
};
use crate::{
    CallId, Fault, Name, Operations, Peer, Primitive, Refusal, SessionId, Shell, codec::Payload,
    deadlines::Seat, observe::Watch, panics::panic_message, stats::Ledger,
};

/// A call as it came over the wire.
#[derive(Debug)]
pub struct RawCall {
    /// Which call it is.
    pub id: CallId,
    /// The operation's number within its kind.
    pub operation: u32,
    /// How long it may wait at the most; zero answers at once. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// The encoded operation.
    pub arguments: Payload,
}

/// All that a host is ever told.
#[derive(Debug)]
pub enum Input {
    /// A session opened the object and calls it by that number.
    Open(SessionId, u32),
    /// A call is to be served.
    Call(RawCall),
    /// The same, by that caller of its session: a task or a thread.
    CallBy(Box<RawCall>, u64),
    /// A call is to be undone.
    Withdraw(CallId),
    /// A call's deadline has passed. Comes alone, so that all earlier answers are on their way
    /// when it is decided.
    Expire(CallId),
    /// A session ended.
    HangUp(SessionId, Arc<Peer>),
    /// The object is to be no more.
    Remove,
    /// Somebody asks who holds it and who waits.
    Survey(Inquiry),
    /// A call is to be ended with a fault, if it waits still.
    Fail(CallId, Box<Fault>),
}

/// What one message to a host holds: all that one read of a socket brought for it, in order. The
/// room is borrowed from the shell, which has it back when they are handled.
#[derive(Debug)]
pub struct Inputs {
    /// When they came, counted from the manager's start.
    pub(crate) at: Duration,
    pub(crate) all: Vec<Input>,
}

impl Message for Inputs {
    type Result = ();
}

impl Inputs {
    /// One alone, in room of its own.
    #[must_use]
    pub fn one(at: Duration, input: Input) -> Self {
        let all = vec![input];
        Self { at, all }
    }

    /// Takes them out of what is done with then.
    fn take(&mut self) -> Self {
        let all = mem::take(&mut self.all);
        Self { at: self.at, all }
    }

    /// Says when they came: as they are sent, so that time does not run backwards.
    #[must_use]
    #[inline]
    pub fn at(self, at: Duration) -> Self {
        Self { at, ..self }
    }

    /// Adds one behind the others.
    #[inline]
    pub fn push(&mut self, input: Input) {
        self.all.push(input);
    }
}

/// Where inputs for one hosted object go, whatever its kind. All who send share it: a sender of
/// actix's takes more memory than a lock.
pub type Mailbox = Arc<Recipient<Inputs>>;

/// The same, of an object that may be no more.
pub(crate) type WeakMailbox = WeakRecipient<Inputs>;

/// A primitive and what it takes to run it.
pub struct Host<P> {
    /// Empty once it was removed or has panicked.
    primitive: Option<P>,
    operations: Arc<Operations<P>>,
    openers: Openers,
    shell: Rc<Shell>,
    /// Where the deadlines of its calls are kept, once it had one.
    seat: Option<Seat>,
    watch: Watch,
    /// What is measured, once somebody had to wait, and who calls, where that is told. It is lent
    /// to the outbox for each turn.
    ledger: Option<Box<Ledger>>,
}

/// Who has opened an object, and under which number. Most objects are opened by one session, for
/// which a tree would be large.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in each object, where nearly none has any"
)]
struct Openers {
    one: Option<(SessionId, u32)>,
    others: Option<Box<BTreeMap<SessionId, u32>>>,
}

impl Openers {
    fn insert(&mut self, session: SessionId, object: u32) {
        self.remove(session);
        if self.one.is_none() {
            self.one = Some((session, object));
        } else {
            self.others.get_or_insert_default().insert(session, object);
        }
    }

    fn remove(&mut self, session: SessionId) {
        if self.one.take_if(|(one, _)| *one == session).is_none()
            && let Some(others) = &mut self.others
        {
            others.remove(&session);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (SessionId, u32)> {
        let others = self.others.iter().flat_map(|others| others.iter());
        let others = others.map(|(session, object)| (*session, *object));
        self.one.into_iter().chain(others)
    }
}

impl<P: Primitive> Host<P> {
    /// Makes a host that is not an actor yet.
    #[must_use]
    pub fn new(primitive: P, operations: Arc<Operations<P>>, shell: Rc<Shell>) -> Self {
        Self {
            primitive: Some(primitive),
            openers: Openers::default(),
            seat: None,
            watch: Watch::begin(P::KIND, &operations, shell.tallies()),
            operations,
            shell,
            ledger: None,
        }
    }

    /// Sets what the manager knows the object by.
    #[must_use]
    pub fn known_as(mut self, name: Name) -> Self {
        self.watch.named(name);
        self
    }

    /// Makes the primitive and its host.
    ///
    /// # Errors
    ///
    /// Returns the fault of `make`; a panic in it is one too.
    pub fn build(
        make: impl FnOnce() -> Result<P, Fault>,
        operations: Arc<Operations<P>>,
        shell: Rc<Shell>,
    ) -> Result<Self, Fault> {
        let mut made = Err(Fault::Refused(Refusal::Invalid(format!(
            "the constructor of kind {:?} panicked",
            P::KIND
        ))));
        // Whoever asked for the object is told.
        let _ = survives(|| made = make());
        Ok(Self::new(made?, operations, shell))
    }

    /// Starts the host on this arbiter.
    #[must_use]
    pub fn launch(self) -> Mailbox {
        let (turns, address) = Turns::of(self);
        actix_rt::spawn(turns);
        Arc::new(address.recipient())
    }

    /// The primitive, while it lives.
    pub(crate) const fn primitive(&self) -> Option<&P> {
        self.primitive.as_ref()
    }

    /// Handles one input at time `now`. Returns the call that it leaves waiting with a deadline.
    pub(crate) fn turn(&mut self, now: Duration, input: Input) -> Option<(CallId, Duration)> {
        let Some(mut ledger) = self.ledger.take() else {
            return self.act(now, input);
        };
        ledger.begin(match &input {
            Input::Call(call) => Some(call.id),
            Input::CallBy(call, _) => Some(call.id),
            Input::Open(..)
            | Input::Withdraw(_)
            | Input::Expire(_)
            | Input::HangUp(..)
            | Input::Remove
            | Input::Survey(_)
            | Input::Fail(..) => None,
        });
        self.shell.outbox().swap_ledger(Some(ledger));
        let left_waiting = self.act(now, input);
        self.ledger = self.shell.outbox().swap_ledger(None);
        left_waiting
    }

    fn act(&mut self, now: Duration, input: Input) -> Option<(CallId, Duration)> {
        match input {
            Input::Open(session, object) => {
                if self.primitive.is_some() {
                    self.openers.insert(session, object);
                } else {
                    self.shell.announce_gone([(session, object)].into_iter());
                }
                None
            }
            Input::Call(call) => self.serve(now, &call),
            Input::CallBy(call, caller) => {
                self.note_caller(call.id, caller);
                self.serve(now, &call)
            }
            Input::Withdraw(id) => {
                self.undo(now, id, Fault::Withdrawn, P::withdraw);
                None
            }
            Input::Expire(id) => {
                self.undo(now, id, Fault::TimedOut, P::expire);
                None
            }
            Input::HangUp(session, peer) => {
                self.openers.remove(session);
                self.shell.outbox().begin(now, None);
                let ended = HangUp::new(session, peer, now);
                self.run(|primitive| primitive.hang_up(&ended));
                self.watch.hung_up(&ended);
                None
            }
            Input::Remove => {
                self.shell.outbox().begin(now, None);
                if self.primitive.is_some() {
                    self.watch.removed();
                }
                self.end();
                None
            }
            Input::Survey(inquiry) => {
                self.shell.outbox().begin(now, None);
                inquiry.answer(self.report(now));
                None
            }
            Input::Fail(id, fault) => {
                self.shell.outbox().begin(now, None);
                // What was granted meanwhile must not be taken back.
                if self.survey().is_some_and(|survey| survey.has_waiter(id)) {
                    self.undo(now, id, *fault, P::withdraw);
                }
                None
            }
        }
    }

    fn serve(&mut self, now: Duration, call: &RawCall) -> Option<(CallId, Duration)> {
        let outbox = self.shell.outbox().clone();
        outbox.begin(now, None);
        self.watch.called(call);
        if self.primitive.is_none() {
            outbox.call::<()>(call.id).fail(Fault::Gone);
            return None;
        }
        let operations = Arc::clone(&self.operations);
        self.run(|primitive| {
            operations.serve(primitive, call.operation, &call.arguments, call.id, &outbox);
        });
        // One that panicked has answered all its callers.
        if self.primitive.is_none() || outbox.has_answered(call.id) {
            return None;
        }
        if call.id.is_one_way() {
            // It is not counted among those in flight, so it is not kept waiting.
            self.undo(now, call.id, Fault::Withdrawn, P::withdraw);
            return None;
        }
        match call.timeout {
            Some(timeout) if timeout.is_zero() => {
                self.undo(now, call.id, Fault::TimedOut, P::expire);
                // A sleeper waits for its lock even so.
                if !outbox.has_answered(call.id) {
                    self.note_wait();
                }
                None
            }
            timeout => {
                self.note_wait();
                Some((call.id, timeout?))
            }
        }
    }

    /// Undoes a call, whose drop means `fault`.
    fn undo(&mut self, now: Duration, id: CallId, fault: Fault, undo: fn(&mut P, CallId)) {
        self.shell.outbox().begin(now, Some((id, fault)));
        self.run(|primitive| undo(primitive, id));
    }

    /// Runs the primitive's own code, which may panic.
    fn run(&mut self, code: impl FnOnce(&mut P)) {
        let Some(primitive) = self.primitive.as_mut() else {
            return;
        };
        if let Err(why) = survives(|| code(primitive)) {
            self.watch.failed(&why);
            self.end();
        }
    }

    /// Drops the primitive, which answers its callers, and tells all who have opened it.
    fn end(&mut self) {
        if let Some(primitive) = self.primitive.take() {
            // A destructor that panics has answered what it could; there is nobody else to tell.
            let _ = survives(|| drop(primitive));
            self.deliver();
            self.shell.announce_gone(self.openers.iter());
            self.with_ledger(|ledger| {
                if let Some(ledger) = ledger {
                    ledger.is_crowded = false;
                }
            });
        }
    }

    /// Sends off what the object has said.
    pub(crate) fn deliver(&self) {
        self.shell.deliver(&self.watch);
    }
}

/// Runs code of a primitive, and tells what it said if it panicked.
fn survives(code: impl FnOnce()) -> Result<(), String> {
    panic::catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = panic_message(&*panic);
        // What was thrown may throw when it is dropped.
        mem::forget(panic);
        message
    })
}

impl<P: Primitive> Handler<Inputs> for Host<P> {
    type Result = ();

    fn handle(&mut self, inputs: Inputs, post: &mut Post<P>) {
        let Inputs { at: now, mut all } = inputs;
        let each = |input| {
            if let Input::Expire(id) = input
                && !self.shell.deadlines().decide(id)
            {
                return;
            }
            // Whoever gives up after a deadline may come before the table has had its turn.
            if let Input::Withdraw(id) = input
                && self.shell.deadlines().decide_overdue(id)
            {
                self.turn(now, Input::Expire(id));
            }
            if let Some((id, timeout)) = self.turn(now, input) {
                let seat = || self.shell.deadlines().seat();
                let seat = self.seat.get_or_insert_with(seat);
                seat.enter(id, timeout, || Arc::new(post.address().recipient()));
            }
        };
        all.drain(..).for_each(each);
        self.deliver();
        self.keep_list(|| post.address().downgrade().recipient());
        self.shell.take_back(all);
    }
}

impl<P> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("operations", &self.operations)
            .field("lives", &self.primitive.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Lock;

    #[test]
    fn the_task_of_an_idle_lock_stays_below_the_next_step_of_tasks() {
        // A task takes a multiple of 128 bytes, and 96 of them are the runtime's.
        let task = size_of::<Turns<Lock>>() + 96;
        assert!(
            task <= 384,
            "{task} bytes: every hosted object takes 128 more"
        );
    }
}
