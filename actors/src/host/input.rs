//! The messages to a host: calls, withdrawals, deadlines, inquiries and the end of sessions.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use actix::{Message, Recipient, WeakRecipient};
use lockkeeper_protocol::{CallId, Fault, Peer, SessionId, Stats, codec::Payload};

use crate::kind::survey::Survey;

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
    /// A question about its holders and waiting calls.
    Survey(Inquiry),
    /// A call is to be ended with a fault, if it waits still.
    Fail(CallId, Box<Fault>),
}

/// What one message to a host holds: all that one read of a socket carried for it, in order. The
/// room is borrowed from the shell, which has it back when they are handled.
#[derive(Debug)]
pub struct Inputs {
    /// When they came, counted from the manager's start.
    pub(crate) at: Duration,
    pub(crate) all: Vec<Input>,
    /// The session, and the place among its inputs that were held back, if these were held back before.
    pub(crate) again: Option<(SessionId, u64)>,
}

impl Message for Inputs {
    type Result = ();
}

impl Inputs {
    /// One alone, in room of its own.
    #[must_use]
    pub fn one(at: Duration, input: Input) -> Self {
        let (all, again) = (vec![input], None);
        Self { at, all, again }
    }

    /// Says when they came: as they are sent, so that time does not run backwards.
    #[must_use]
    #[inline]
    pub fn at(self, at: Duration) -> Self {
        Self { at, ..self }
    }

    /// The place of inputs that were held back before.
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

/// A question to one object, and where its answer goes. One that is dropped goes unanswered: the
/// object is no more.
pub struct Inquiry(Box<dyn FnOnce(Report) + Send>);

impl Inquiry {
    /// Asks, and has `hear` told.
    #[must_use]
    pub fn new(hear: impl FnOnce(Report) + Send + 'static) -> Self {
        Self(Box::new(hear))
    }

    pub(super) fn answer(self, report: Report) {
        (self.0)(report);
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inquiry")
    }
}

/// What an object tells of itself at one moment.
#[derive(Debug)]
pub struct Report {
    /// The moment, counted from the manager's start.
    pub at: Duration,
    /// What its kind tells; nothing once it has failed.
    pub survey: Option<Survey>,
    /// Who made the calls that hold and wait, as far as their sessions say so.
    pub callers: HashMap<CallId, u64>,
    /// What was measured, if a call had to wait for it.
    pub stats: Option<Stats>,
}
