//! `Bench`: a hosted primitive without an actor, for unit tests of kinds.
//!
//! The bench runs the same `Host` code as the actor, records every answer, and has a clock that moves
//! only when the test advances it. It is public, so kinds outside of this workspace can use it too.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};

use lockkeeper_protocol::{
    CallId, Fault, ManagerSecret, Operation, Peer, Proof, Refusal, SECRET_BYTES, SessionId, Stats,
    codec,
};

use crate::{
    host::{
        host::Host,
        input::{Input, Inquiry, RawCall},
        replies::encode_whole,
        shell::{ReplySink, Shell},
    },
    kind::{
        answer::Outcome,
        budget::StoredBudget,
        fences::Fences,
        primitive::{Operations, Primitive, Serve},
    },
};

/// A primitive under test, and all of its answers so far.
///
/// ```
/// use lockkeeper::{
///     ReleaseBy,
///     kind::{Bench, Proof, sync::{Acquire, Lock, Release}},
/// };
///
/// let mut bench = Bench::<Lock>::new(ReleaseBy::Holder).unwrap();
/// let first = bench.call(1, Acquire);
/// let second = bench.call(2, Acquire);
/// assert!(bench.is_answered(first) && !bench.is_answered(second));
/// bench.call(1, Release { grant: Proof::own(first) });
/// assert!(bench.is_answered(second));
/// // Another session needs what the first one has signed.
/// bench.call(1, Release { grant: bench.signed(second) });
/// assert!(bench.is_revoked(second));
/// ```
pub struct Bench<P: Primitive> {
    host: Host<P>,
    shell: Rc<Shell>,
    log: Rc<RefCell<Log>>,
    numbers: Vec<&'static str>,
    now: Duration,
    calls: u64,
    sessions: BTreeSet<SessionId>,
    deadlines: BTreeSet<(Duration, CallId)>,
}

/// The answers of the primitive.
#[derive(Debug, Default)]
struct Log {
    answers: BTreeMap<u64, Vec<Result<Vec<u8>, Fault>>>,
    order: Vec<u64>,
    revoked: BTreeSet<u64>,
    gone: BTreeSet<u32>,
}

/// The bench numbers calls across all sessions, so the number alone identifies a log entry.
struct LogReplies(Rc<RefCell<Log>>);

impl ReplySink for LogReplies {
    fn answer(&self, seq: u64, outcome: Outcome<'_>) {
        let mut log = self.0.borrow_mut();
        let answer = match outcome {
            Outcome::Reply(body) => Ok(body.to_vec()),
            Outcome::Large(reply) => encode_whole(&reply),
            Outcome::Fault(fault) => Err(fault),
            Outcome::Revoked => {
                log.revoked.insert(seq);
                return;
            }
        };
        log.order.push(seq);
        log.answers.entry(seq).or_default().push(answer);
    }

    fn gone(&self, object: u32) {
        self.0.borrow_mut().gone.insert(object);
    }
}

impl<P: Primitive> Bench<P> {
    /// Creates the primitive and its host.
    ///
    /// # Errors
    ///
    /// Returns the refusal of `create`.
    pub fn new(spec: P::Spec) -> Result<Self, Refusal> {
        Self::within(spec, usize::MAX)
    }

    /// Creates both in a manager that stores at most `stored_bytes` for its clients, as
    /// `Limits::stored_bytes` says: see [`Outbox::store`].
    ///
    /// [`Outbox::store`]: crate::Outbox::store
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::new`].
    pub fn within(spec: P::Spec, stored_bytes: usize) -> Result<Self, Refusal> {
        let stored = Arc::new(StoredBudget::new(stored_bytes));
        let shell = Shell::within(Fences::count_from(1), SECRET, stored);
        let mut operations = Operations::default();
        P::operations(&mut operations);
        let numbers = operations.names().collect();
        let host = Host::new(P::create(spec)?, Arc::new(operations), Rc::clone(&shell));
        Ok(Self {
            host,
            shell,
            log: Rc::default(),
            numbers,
            now: Duration::ZERO,
            calls: 0,
            sessions: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        })
    }

    /// Calls the primitive as a session.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an operation is made for its call"
    )]
    pub fn call<O: Operation>(&mut self, session: u64, operation: O) -> CallId
    where
        P: Serve<O>,
    {
        self.start_call(session, &operation, None)
    }

    /// Calls the primitive, with the longest time that the call may wait. A call with zero is answered at once.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an operation is made for its call"
    )]
    pub fn call_within<O: Operation>(
        &mut self,
        session: u64,
        operation: O,
        timeout: Duration,
    ) -> CallId
    where
        P: Serve<O>,
    {
        self.start_call(session, &operation, Some(timeout))
    }

    /// Signs a call, so that an operation of any session can name it, as a ticket does.
    #[must_use]
    pub fn signed(&self, call: CallId) -> Proof {
        Proof::Signed(SECRET.of_session(call.session()).sign(call))
    }

    /// Withdraws a call, as a dropped future does.
    pub fn withdraw(&mut self, id: CallId) {
        self.input(Input::Withdraw(id));
    }

    /// Ends a session, as a killed process does.
    pub fn hang_up(&mut self, session: u64) {
        let session = SessionId::new(session);
        // A session that has ended receives no more answers.
        self.shell.leave(session);
        self.sessions.remove(&session);
        self.input(Input::HangUp(session, Arc::new(Peer::default())));
    }

    /// Removes the object.
    pub fn remove(&mut self) {
        self.input(Input::Remove);
    }

    /// Ends a waiting call with a fault, as the manager does with a call in a deadlock.
    pub fn fail(&mut self, id: CallId, fault: Fault) {
        self.input(Input::Fail(id, Box::new(fault)));
    }

    /// Returns the statistics of the object, if a call ever had to wait for it.
    ///
    /// # Panics
    ///
    /// Never panics: a host answers an inquiry in its turn.
    pub fn stats(&mut self) -> Option<Stats> {
        let (sender, receiver) = mpsc::channel();
        self.input(Input::Survey(Inquiry::new(move |report| {
            // The receiver exists until the turn is over.
            let _ = sender.send(report);
        })));
        let report = receiver.try_recv();
        report.expect("a host answers at once").stats
    }

    /// Advances the clock, and expires the calls whose deadlines pass.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= end) {
            self.deadlines.remove(&(at, id));
            self.now = at;
            if !self.is_answered(id) {
                self.input(Input::Expire(id));
            }
        }
        self.now = end;
    }

    /// Returns whether a call was answered.
    #[must_use]
    pub fn is_answered(&self, id: CallId) -> bool {
        self.times_answered(id) > 0
    }

    /// Returns how often a call was answered; more than once is an error.
    #[must_use]
    pub fn times_answered(&self, id: CallId) -> usize {
        self.log.borrow().answers.get(&id.seq()).map_or(0, Vec::len)
    }

    /// Returns whether a grant was revoked.
    #[must_use]
    pub fn is_revoked(&self, id: CallId) -> bool {
        self.log.borrow().revoked.contains(&id.seq())
    }

    /// Returns whether the sessions were told that the object has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.log.borrow().gone.contains(&OBJECT)
    }

    /// Returns the answer to a call.
    ///
    /// # Panics
    ///
    /// Panics if the reply does not belong to that operation.
    #[must_use]
    pub fn reply<O: Operation>(&self, id: CallId) -> Option<Result<O::Reply, Fault>> {
        let log = self.log.borrow();
        let answer = log.answers.get(&id.seq())?.first()?;
        Some(match answer {
            Ok(body) => Ok(codec::decode(body).expect("the reply is of another operation")),
            Err(fault) => Err(fault.clone()),
        })
    }

    /// Returns the numbers of all answered calls, in the order of their answers.
    #[must_use]
    pub fn order(&self) -> Vec<u64> {
        self.log.borrow().order.clone()
    }

    /// Returns the current state, or `None` once the object has ended.
    #[must_use]
    pub fn primitive(&self) -> Option<&P> {
        self.host.primitive()
    }

    /// The counters of the object's kind.
    #[cfg(test)]
    pub(crate) fn tally(&self) -> Rc<crate::host::tally::Tally> {
        let mut found = None;
        self.shell
            .tallies()
            .each(|tally| found = Some(Rc::clone(tally)));
        found.expect("an object has a tally")
    }

    fn start_call<O: Operation>(
        &mut self,
        session: u64,
        operation: &O,
        timeout: Option<Duration>,
    ) -> CallId
    where
        P: Serve<O>,
    {
        let session = SessionId::new(session);
        if self.sessions.insert(session) {
            self.shell
                .join(session, Rc::new(LogReplies(Rc::clone(&self.log))));
            self.input(Input::Open(session, OBJECT));
        }
        self.calls += 1;
        let id = CallId::new(session, self.calls);
        let number = self.numbers.iter().position(|name| *name == O::NAME);
        let number = number.expect("the kind lists no such operation");
        self.input(Input::Call(RawCall {
            id,
            operation: u32::try_from(number).expect("a kind has few operations"),
            timeout,
            arguments: P::FORM
                .encode(operation)
                .expect("the operation encodes")
                .into(),
        }));
        id
    }

    fn input(&mut self, input: Input) {
        if let Some((id, timeout)) = self.host.turn(self.now, input) {
            self.deadlines
                .insert((self.now.saturating_add(timeout), id));
        }
        self.host.deliver();
        while self.host.is_unfinished() {
            self.host.handle_slice();
            self.host.deliver();
        }
    }
}

/// The secret of all benches.
const SECRET: ManagerSecret = ManagerSecret::new([0; SECRET_BYTES]);

/// The number under which all sessions of a bench have opened the object.
const OBJECT: u32 = 0;

impl<P: Primitive> fmt::Debug for Bench<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench")
            .field("host", &self.host)
            .field("log", &self.log)
            .finish()
    }
}
