//! Real actors on this thread, and sinks that record the answers of each session.
//!
//! A message to a mailbox is awaited, so its effects have happened when the call returns. Only
//! deadlines must be waited for, with a time limit.

use std::{
    cell::RefCell,
    marker::PhantomData,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use lockkeeper_actors::{
    CallId, Fault, Host, Input, Mailbox, ManagerSecret, Operation, Operations, Outcome, Peer,
    Primitive, RawCall, ReplySink, SECRET_BYTES, Serve, SessionId, Shell, codec, encode_whole,
};
use tokio::sync::Notify;

/// What a caller was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Reply(Vec<u8>),
    Fault(Fault),
    Revoked,
}

/// Records what one session is told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    told: RefCell<Vec<(u64, Told)>>,
    gone: RefCell<Vec<u32>>,
    news: Notify,
}

impl ReplySink for Recorder {
    fn answer(&self, seq: u64, outcome: Outcome<'_>) {
        let told = match outcome {
            Outcome::Reply(body) => Told::Reply(body.to_vec()),
            Outcome::Large(reply) => encode_whole(&reply).map_or_else(Told::Fault, Told::Reply),
            Outcome::Fault(fault) => Told::Fault(fault),
            Outcome::Revoked => Told::Revoked,
        };
        self.told.borrow_mut().push((seq, told));
        self.news.notify_one();
    }

    fn gone(&self, object: u32) {
        self.gone.borrow_mut().push(object);
    }
}

impl Recorder {
    /// All that a call was told; more than one answer is never right.
    pub(crate) fn told(&self, seq: u64) -> Vec<Told> {
        let told = self.told.borrow();
        let of = told.iter().filter(|(call, _)| *call == seq);
        of.map(|(_, told)| told.clone()).collect()
    }

    /// The only answer to a call.
    pub(crate) fn reply<O: Operation>(&self, id: CallId) -> Result<O::Reply, Fault> {
        match self.told(id.seq()).as_slice() {
            [Told::Reply(body)] => Ok(codec::decode(body).expect("a reply of the operation")),
            [Told::Fault(fault)] => Err(fault.clone()),
            told => panic!("{id:?} was told {told:?}"),
        }
    }

    /// The numbers of the calls that were told something, in order.
    pub(crate) fn order(&self) -> Vec<u64> {
        self.told.borrow().iter().map(|(seq, _)| *seq).collect()
    }

    /// The numbers of the objects that are no more.
    pub(crate) fn gone(&self) -> Vec<u32> {
        self.gone.borrow().clone()
    }

    pub(crate) async fn until_told(&self, seq: u64) {
        let told = async {
            while self.told(seq).is_empty() {
                self.news.notified().await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(20), told).await;
        assert!(outcome.is_ok(), "call {seq} was told nothing");
    }
}

/// What hosts of one thread share.
pub(crate) struct Shard {
    shell: Rc<Shell>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let shell = Shell::new(
            Arc::new(AtomicU64::new(1)),
            ManagerSecret::new([0; SECRET_BYTES]),
        );
        actix_rt::spawn(shell.deadlines().clone().run());
        Self { shell }
    }

    pub(crate) fn host<P: Primitive>(&self, spec: P::Spec) -> Hosted<P> {
        let primitive = P::create(spec).expect("the spec is allowed");
        let mut operations = Operations::default();
        P::operations(&mut operations);
        let host = Host::new(primitive, operations.into(), Rc::clone(&self.shell));
        Hosted {
            mailbox: host.launch(),
            shell: Rc::clone(&self.shell),
            kind: PhantomData,
        }
    }

    /// How many calls have a deadline.
    pub(crate) fn deadlines(&self) -> usize {
        self.shell.deadlines().len()
    }

    /// How many hosts have a place in the table of deadlines.
    pub(crate) fn desks(&self) -> usize {
        self.shell.deadlines().hosts()
    }

    pub(crate) fn join(&self, session: u64) -> Rc<Recorder> {
        let recorder = Rc::new(Recorder::default());
        let sink = Rc::clone(&recorder);
        self.shell.join(SessionId::new(session), sink);
        recorder
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

    /// Tells objects of ended sessions from now on, beyond the first slice.
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
    /// Sends all in one message.
    pub(crate) async fn send(&self, all: impl IntoIterator<Item = Input>) {
        let mut inputs = self.shell.inputs();
        all.into_iter().for_each(|input| inputs.push(input));
        let handled = self.mailbox.send(inputs.at(self.shell.now())).await;
        handled.expect("a host outlives all panics");
    }

    /// Sends a call that is not handled before this task has to wait.
    pub(crate) fn post<O: Operation>(&self, session: u64, seq: u64, operation: &O)
    where
        P: Serve<O>,
    {
        self.post_all([call::<P, O>(id(session, seq), operation, None)]);
    }

    /// Sends all in one message that is not handled before this task has to wait.
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

    pub(crate) async fn call_timeout<O: Operation>(
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

    /// Sends what no client of ours would.
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

/// Who is at the other end of a session.
pub(crate) fn peer(session: u64) -> Peer {
    Peer::new(u32::try_from(session).expect("small numbers"), "", "")
}

/// A call as it would come over the wire.
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
