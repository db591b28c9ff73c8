//! The messages to a host: calls, withdrawals, deadlines, inquiries and the end of sessions.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use actix::{Message, Recipient, WeakRecipient};
use lockkeeper_protocol::{CallId, Fault, Peer, SessionId, Stats, codec::Payload};

use crate::kind::survey::Survey;

/// A call as it was received.
#[derive(Debug)]
pub struct RawCall {
    /// The id of the call.
    pub id: CallId,
    /// The operation's number within its kind.
    pub operation: u32,
    /// The longest wait. Zero answers at once, and `None` waits for ever.
    pub timeout: Option<Duration>,
    /// The encoded operation.
    pub arguments: Payload,
}

/// An input of a host.
#[derive(Debug)]
pub enum Input {
    /// A session has opened the object under that number.
    Open(SessionId, u32),
    /// A call to serve.
    Call(RawCall),
    /// A call to serve, made by that caller of its session: a task or a thread.
    CallBy(Box<RawCall>, u64),
    /// A call to serve, of a session that has as many waiting calls as it may have.
    CallAtLimit(Box<CallAtLimit>),
    /// A call to undo.
    Withdraw(CallId),
    /// A call whose deadline has passed. It is a message of its own, so that all earlier answers are sent
    /// before the host decides.
    Expire(CallId),
    /// A session ended.
    HangUp(SessionId, Arc<Peer>),
    /// The object is removed.
    Remove,
    /// A question about its holders and waiting calls.
    Survey(Inquiry),
    /// A call to end with a fault, if it still waits.
    Fail(CallId, Box<Fault>),
}

/// A call that is served only if it need not wait.
#[derive(Debug)]
pub struct CallAtLimit {
    /// The call.
    pub call: RawCall,
    /// Its caller, if the session named one.
    pub caller: Option<u64>,
    /// The fault if it would have to wait.
    pub fault: Fault,
}

/// The inputs of one message to a host: those that one read of a socket carried for it, in order. The shell
/// lends the buffer, and takes it back when they are handled.
#[derive(Debug)]
pub struct Inputs {
    /// The time of their arrival since the manager's start.
    pub(crate) at: Duration,
    pub(crate) all: Vec<Input>,
    /// The session and the place of inputs that were held back before.
    pub(crate) again: Option<(SessionId, u64)>,
}

impl Message for Inputs {
    type Result = ();
}

impl Inputs {
    /// Creates a message with one input, in a buffer of its own.
    #[must_use]
    pub fn one(at: Duration, input: Input) -> Self {
        let (all, again) = (vec![input], None);
        Self { at, all, again }
    }

    /// Sets the time of arrival. It is set when the message is sent, so that time does not run backwards.
    #[must_use]
    #[inline]
    pub fn at(self, at: Duration) -> Self {
        Self { at, ..self }
    }

    /// Returns the place of inputs that were held back before.
    #[must_use]
    pub fn place(&self) -> Option<u64> {
        self.again.map(|(_, place)| place)
    }

    /// Marks inputs of a session as held back before, in a place.
    #[must_use]
    pub fn again(self, session: SessionId, place: u64) -> Self {
        let again = Some((session, place));
        Self { again, ..self }
    }

    /// Appends an input.
    #[inline]
    pub fn push(&mut self, input: Input) {
        self.all.push(input);
    }
}

/// The mailbox of one hosted object, regardless of its kind. All senders share it, because one of actix's
/// senders takes more memory than a lock.
pub type Mailbox = Arc<Recipient<Inputs>>;

/// The mailbox of an object that may have ended.
pub(crate) type WeakMailbox = WeakRecipient<Inputs>;

/// A question to one object, and the receiver of its answer. If the object has ended, the question is dropped
/// without an answer.
pub struct Inquiry(Box<dyn FnOnce(ObjectReport) + Send>);

impl Inquiry {
    /// Creates a question whose answer is passed to `receive`.
    #[must_use]
    pub fn new(receive: impl FnOnce(ObjectReport) + Send + 'static) -> Self {
        Self(Box::new(receive))
    }

    pub(super) fn answer(self, report: ObjectReport) {
        (self.0)(report);
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inquiry")
    }
}

/// The state of an object at one moment.
#[derive(Debug)]
pub struct ObjectReport {
    /// The moment, as the time since the manager's start.
    pub at: Duration,
    /// The survey of the kind; `None` once the object has failed.
    pub survey: Option<Survey>,
    /// The callers of the calls that hold and wait, where their sessions report them.
    pub callers: HashMap<CallId, u64>,
    /// The statistics, if a call ever had to wait.
    pub stats: Option<Stats>,
}
