//! Real actors on this thread, and sinks that record the answers of each session.
//!
//! A message to a mailbox is awaited, so its effects have happened when the call returns. Only
//! deadlines must be waited for, with a time limit.

use std::{cell::RefCell, marker::PhantomData, rc::Rc, sync::Arc, time::Duration};

use lockkeeper_actors::{
    CallId, Fault, Fences, Host, Input, Mailbox, ManagerSecret, Operation, Operations, Outcome,
    Peer, Primitive, RawCall, ReplySink, SECRET_BYTES, Serve, SessionId, Shell, codec,
    encode_whole,
};
use tokio::sync::Notify;

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Reply(Vec<u8>),
    Fault(Fault),
    Revoked,
}

/// Records the answers to one session.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    answers: RefCell<Vec<(u64, Answer)>>,
    gone: RefCell<Vec<u32>>,
    news: Notify,
}

impl ReplySink for Recorder {
    fn answer(&self, seq: u64, outcome: Outcome<'_>) {
        let observed = match outcome {
            Outcome::Reply(body) => Answer::Reply(body.to_vec()),
            Outcome::Large(reply) => encode_whole(&reply).map_or_else(Answer::Fault, Answer::Reply),
            Outcome::Fault(fault) => Answer::Fault(fault),
            Outcome::Revoked => Answer::Revoked,
        };
        self.answers.borrow_mut().push((seq, observed));
        self.news.notify_one();
    }

    fn gone(&self, object: u32) {
        self.gone.borrow_mut().push(object);
    }
}

impl Recorder {
    /// Returns all answers to a call. More than one is an error of the host.
    pub(crate) fn answers(&self, seq: u64) -> Vec<Answer> {
        let observed = self.answers.borrow();
        let of = observed.iter().filter(|(call, _)| *call == seq);
        of.map(|(_, observed)| observed.clone()).collect()
    }

    /// Returns the only answer to a call.
    pub(crate) fn reply<O: Operation>(&self, id: CallId) -> Result<O::Reply, Fault> {
        match self.answers(id.seq()).as_slice() {
            [Answer::Reply(body)] => Ok(codec::decode(body).expect("a reply of the operation")),
            [Answer::Fault(fault)] => Err(fault.clone()),
            observed => panic!("{id:?} has the answers {observed:?}"),
        }
    }

    /// Returns the numbers of the answered calls, in order.
    pub(crate) fn order(&self) -> Vec<u64> {
        self.answers.borrow().iter().map(|(seq, _)| *seq).collect()
    }

    /// Returns the numbers of the removed objects.
    pub(crate) fn gone(&self) -> Vec<u32> {
        self.gone.borrow().clone()
    }

    pub(crate) async fn until_answered(&self, seq: u64) {
        let observed = async {
            while self.answers(seq).is_empty() {
                self.news.notified().await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(20), observed).await;
        assert!(outcome.is_ok(), "call {seq} has no answer");
    }
}

/// The shared state of the hosts of one thread.
pub(crate) struct Shard {
    shell: Rc<Shell>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let shell = Shell::new(Fences::count_from(1), ManagerSecret::new([0; SECRET_BYTES]));
        actix_rt::spawn(shell.deadlines().clone().run());
        Self { shell }
    }

    pub(crate) fn host<P: Primitive>(&self, spec: P::Spec) -> Hosted<P> {
        let primitive = P::create(spec).expect("the spec is valid");
        let mut operations = Operations::default();
        P::operations(&mut operations);
        let host = Host::new(primitive, operations.into(), Rc::clone(&self.shell));
        Hosted {
            mailbox: host.launch(),
            shell: Rc::clone(&self.shell),
            kind: PhantomData,
        }
    }

    /// Returns the number of calls with a deadline.
    pub(crate) fn deadlines(&self) -> usize {
        self.shell.deadlines().len()
    }

    /// Returns the number of hosts in the table of deadlines.
    pub(crate) fn hosts_with_deadlines(&self) -> usize {
        self.shell.deadlines().hosts()
    }

    pub(crate) fn join(&self, session: u64) -> Rc<Recorder> {
        let recorder = Rc::new(Recorder::default());
        let sink = Rc::clone(&recorder);
        self.shell.join(SessionId::new(session), sink);
        recorder
    }

    /// Begins a session whose answers go to a sink.
    pub(crate) fn join_with(&self, session: u64, sink: Rc<dyn ReplySink>) {
        self.shell.join(SessionId::new(session), sink);
    }

    pub(crate) fn leave(&self, session: u64) {
        self.shell.leave(SessionId::new(session));
    }

    /// Ends a session that has opened these objects.
    pub(crate) fn end<P>(&self, session: u64, objects: &[Hosted<P>]) {
        self.leave(session);
        let mailboxes: Vec<Mailbox> = objects.iter().map(|o| Arc::clone(&o.mailbox)).collect();
        let peer = Arc::new(peer(session));
        let session = SessionId::new(session);
        self.shell.hang_up(session, peer, mailboxes.into_iter());
    }

    /// Starts the task that hangs up ended sessions beyond the first slice.
    pub(crate) fn keep_hanging_up(&self) {
        actix_rt::spawn(self.shell.keep_hanging_up());
    }
}

/// An actor that hosts an object of kind `P`.
pub(crate) struct Hosted<P> {
    mailbox: Mailbox,
    shell: Rc<Shell>,
    kind: PhantomData<P>,
}

impl<P: Primitive> Hosted<P> {
    /// Sends all inputs in one message.
    pub(crate) async fn send(&self, all: impl IntoIterator<Item = Input>) {
        let mut inputs = self.shell.inputs();
        all.into_iter().for_each(|input| inputs.push(input));
        let handled = self.mailbox.send(inputs.at(self.shell.now())).await;
        handled.expect("a host survives all panics");
    }

    /// Sends a call, which is handled only after this task yields.
    pub(crate) fn put<O: Operation>(&self, session: u64, seq: u64, operation: &O)
    where
        P: Serve<O>,
    {
        self.post_all([call::<P, O>(id(session, seq), operation, None)]);
    }

    /// Sends all inputs in one message, which is handled only after this task yields.
    pub(crate) fn post_all(&self, all: impl IntoIterator<Item = Input>) {
        let mut inputs = self.shell.inputs();
        all.into_iter().for_each(|input| inputs.push(input));
        self.mailbox.do_send(inputs.at(self.shell.now()));
    }

    pub(crate) async fn open(&self, session: u64, object: u32) {
        let open = Input::Open(SessionId::new(session), object);
        self.send([open]).await;
    }

    pub(crate) async fn hang_up(&self, session: u64) {
        let hang_up = Input::HangUp(SessionId::new(session), Arc::new(peer(session)));
        self.send([hang_up]).await;
    }

    pub(crate) async fn call<O: Operation>(&self, session: u64, seq: u64, operation: O) -> CallId
    where
        P: Serve<O>,
    {
        let call = call::<P, O>(id(session, seq), &operation, None);
        self.send([call]).await;
        id(session, seq)
    }

    pub(crate) async fn call_within<O: Operation>(
        &self,
        session: u64,
        seq: u64,
        operation: O,
        timeout: Duration,
    ) -> CallId
    where
        P: Serve<O>,
    {
        let call = call::<P, O>(id(session, seq), &operation, Some(timeout));
        self.send([call]).await;
        id(session, seq)
    }

    /// Sends a call with any number and any bytes.
    pub(crate) async fn raw(&self, session: u64, seq: u64, operation: u32, arguments: Vec<u8>) {
        let call = RawCall {
            id: id(session, seq),
            operation,
            timeout: None,
            arguments: arguments.into(),
        };
        self.send([Input::Call(call)]).await;
    }
}

pub(crate) fn id(session: u64, seq: u64) -> CallId {
    CallId::new(SessionId::new(session), seq)
}

/// Returns the peer of a session.
pub(crate) fn peer(session: u64) -> Peer {
    Peer::new(u32::try_from(session).expect("small numbers"), "", "")
}

/// Makes a call as a session would decode it.
pub(crate) fn call<P, O: Operation>(id: CallId, operation: &O, timeout: Option<Duration>) -> Input
where
    P: Serve<O>,
{
    let mut operations = Operations::<P>::default();
    P::operations(&mut operations);
    let number = operations.names().position(|name| name == O::NAME);
    let number = number.expect("the kind lists the operation");
    Input::Call(RawCall {
        id,
        operation: u32::try_from(number).expect("few operations"),
        timeout,
        arguments: codec::encode(operation).expect("it encodes").into(),
    })
}
