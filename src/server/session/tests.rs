//! Sessions against raw clients over connected pairs: no listener, no file, no process. The suite runs
//! over each transport: see `tests::raw`.
//!
//! A [`House`] is the inside of a manager: a supervisor, a shell, and the sessions that a test adds.

mod arriving;
mod at_limit;
mod cut;
mod endless;
mod inspection;
mod leases;
mod limit_of_items;
mod mailboxes;
mod misread;
mod offences;
mod refusals;
mod replay;
mod report_pipe;
mod rights;
mod shares;
mod stored;
mod trust;
mod turns;
mod unread;
mod unread_budget;
mod unread_work;
mod watched;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::Actor;
use actix_rt::task::JoinHandle;
use lockkeeper_actors::{
    Fences, LargeReply, Operations, Primitive, Shell, StoredBudget, data::TaskQueue, sync::Lock,
};
use lockkeeper_protocol::{
    CallId, Fault, Operation, Proof, Refusal, SessionId, Shard, ShardOf, SignedCall,
    codec::{self, BlobRef},
    frame::{self, Capabilities, Request, Response},
    operations::{Acquire, GetLockStatus, Granted, LockStatus, Release},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use crate::{
    access::Principal,
    limits::Limits,
    peer_rights::PeerRights,
    server::{
        kinds::Kinds,
        session::{
            admitted::Admitted,
            buffer_budget::BufferBudget,
            clients::Clients,
            context::{Context, LeftClient},
            farewell::refuse,
            in_mailboxes::AllInMailboxes,
            lease::Lease,
            lease_rule::LeaseRule,
            serve::serve,
            sizes::{CALLS_AT_LIMIT, CHUNK_BYTES, arriving_bytes},
        },
        supervisor::supervisor::Supervisor,
    },
    tests::{
        protocol::{FENCE, INCARNATION, SECRET, SESSION},
        raw::{self, Raw, patiently},
    },
    transport::stream::Stream,
};

/// A manager without a listener.
pub(super) struct House {
    context: Rc<Context>,
    /// The lease of the clients that are added next.
    lease: Cell<Option<Duration>>,
    /// The rights of the clients that are added next.
    rights: RefCell<Option<PeerRights>>,
    next_session: Cell<u64>,
}

impl House {
    pub(super) fn new(limits: Limits) -> Self {
        Self::of(Shard::ALONE, limits)
    }

    /// The inside of one shard of a manager.
    fn of(shard: Shard, limits: Limits) -> Self {
        let shard_of = ShardOf {
            incarnation: INCARNATION,
            shard,
        };
        let fences = Fences::count_from(FENCE.number());
        let stored = Arc::new(StoredBudget::new(limits.stored_bytes));
        let shell = Shell::within(fences, SECRET, stored);
        // The task ends with the test's actix system.
        drop(actix_rt::spawn(shell.deadlines().clone().run()));
        drop(actix_rt::spawn(shell.keep_hanging_up()));
        // It hosts the kind of pools too, so that the sessions of pools and other sessions are tested alike.
        let mut kinds = Kinds::built_in();
        kinds.add::<TaskQueue>(TaskQueue::create);
        kinds.add::<mailboxes::Busy>(mailboxes::Busy::create);
        let supervisor = Supervisor::new(kinds, limits, Rc::clone(&shell), shard_of).start();
        let context = Context {
            supervisor,
            shell,
            limits,
            calls_at_limit: CALLS_AT_LIMIT,
            shard_of,
            secret: SECRET,
            endpoints: Arc::default(),
            unread: Arc::new(BufferBudget::new(limits.unread_bytes)),
            arriving: Arc::new(BufferBudget::new(arriving_bytes(limits.stored_bytes))),
            seeks_deadlocks: false,
            watches: Rc::default(),
            left: None,
            lease: None,
            in_mailboxes: AllInMailboxes::default(),
            clients: Clients::default(),
            counts: Rc::default(),
            leased: Rc::default(),
            scratch: RefCell::new(vec![0; CHUNK_BYTES].into()),
            end: OnceCell::new(),
        };
        Self {
            context: Rc::new(context),
            lease: Cell::new(None),
            rights: RefCell::default(),
            next_session: Cell::new(SESSION.number()),
        }
    }

    /// The same manager with another limit of calls beyond `Limits::calls_in_flight`.
    fn with_calls_at_limit(mut self, most: usize) -> Self {
        let context = Rc::get_mut(&mut self.context).expect("no client was added");
        context.calls_at_limit = most;
        self
    }

    /// The same manager as that of a pool, which receives the clients that have left.
    fn of_pool(mut self) -> (Self, mpsc::UnboundedReceiver<LeftClient>) {
        let (sender, left) = mpsc::unbounded_channel();
        let context = Rc::get_mut(&mut self.context).expect("no client was added");
        context.left = Some(sender);
        (self, left)
    }

    /// Makes a large reply, as an object of the manager does.
    pub(super) fn large_reply<R: Serialize + 'static>(&self, reply: R) -> LargeReply {
        self.context.shell.outbox().large_reply(reply)
    }

    /// Adds a client that has not sent its hello.
    fn let_in(&self) -> Client {
        let (raw, stream) = Raw::client();
        self.let_in_over(raw, stream)
    }

    /// Adds a client over a stream; the client has the other end.
    fn let_in_over(&self, raw: Raw, stream: Arc<dyn Stream>) -> Client {
        let id = self.next_session.get();
        self.next_session.set(id + 1);
        let lease = self.lease.get();
        let lease = lease.map(|length| {
            let rule = LeaseRule {
                length,
                frees_on_close: false,
                is_claim_far: true,
            };
            Lease::begin(rule, SessionId::new(id), &self.context)
        });
        let session = match self.admit(id) {
            Ok(client) => actix_rt::spawn(serve(
                stream,
                client,
                lease.map(Box::new),
                Rc::clone(&self.context),
            )),
            Err(reason) => {
                refuse(&*stream, reason, self.context.limits);
                actix_rt::spawn(async {})
            }
        };
        Client {
            raw,
            session,
            id: SessionId::new(id),
            last_seq: 0,
        }
    }

    /// Admits a client with the rights of those that are added next.
    fn admit(&self, id: u64) -> Result<Box<Admitted>, String> {
        let principal = Principal::authenticated(self.rights.borrow().clone());
        self.context.counts.admit(SessionId::new(id), principal)
    }

    /// Adds a client that has been welcomed.
    async fn welcome(&self) -> Client {
        self.welcome_as(1).await
    }

    /// Adds a client with a key of its own, so that it is another one than those of this process.
    async fn welcome_with_key(&self, name: &str) -> Client {
        let rights = self.rights.replace(Some(PeerRights::new(name)));
        let client = self.welcome().await;
        self.rights.replace(rights);
        client
    }

    /// Adds a session of this process or, with a key, of another client.
    async fn welcome_as_one_of(&self, key: Option<&str>) -> Client {
        match key {
            Some(key) => self.welcome_with_key(key).await,
            None => self.welcome().await,
        }
    }

    /// Adds a client over the memory transport. A paused clock moves on while a task waits for a socket, and
    /// not while it waits for a memory stream.
    async fn welcome_in_memory(&self) -> Client {
        let (raw, stream) = Raw::client_in_memory();
        self.greeted(self.let_in_over(raw, stream), 1).await
    }

    /// Adds a client whose process has that id.
    async fn welcome_as(&self, pid: u32) -> Client {
        let client = self.let_in();
        self.greeted(client, pid).await
    }

    /// Waits until no session keeps or waits for unread bytes of the budget.
    async fn is_at_rest(&self) {
        let Context {
            unread, arriving, ..
        } = &*self.context;
        let is_at_rest = async {
            while [unread, arriving].map(|it| it.used() + it.waiters()) != [0, 0] {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), is_at_rest).await;
        let (used, waiters) = (unread.used(), unread.waiters());
        assert!(waited.is_ok(), "{used} bytes, {waiters} waiters");
    }

    /// Sends the hello of a client.
    async fn greeted(&self, mut client: Client, pid: u32) -> Client {
        client.raw.send(&hello(pid)).await;
        let frame = client.raw.hear().await.expect("a welcome");
        assert!(matches!(
            Response::decode(&frame),
            Ok(Response::Welcome { .. })
        ));
        client
    }
}

pub(super) fn hello(pid: u32) -> Request<'static> {
    Request::Hello {
        version: frame::VERSION,
        pid,
        program: "test",
        label: "",
        capabilities: Capabilities::ALL,
        former: None,
    }
}

/// A client that may break the protocol, and its session.
pub(super) struct Client {
    raw: Raw,
    session: JoinHandle<()>,
    id: SessionId,
    last_seq: u64,
}

/// An answer with owned values.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Opened(u64, u32),
    Reply(u64, Vec<u8>),
    Fault(u64, Fault),
    Other(String),
}

impl Client {
    fn seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Receives the next answer.
    async fn hear(&mut self) -> Heard {
        let frame = self.raw.hear().await.expect("an answer and not the end");
        match Response::decode(&frame).expect("a response") {
            Response::Opened { seq, object, .. } => Heard::Opened(seq, object),
            Response::Reply { seq, body } => Heard::Reply(seq, body.0.to_vec()),
            Response::Fault { seq, fault } => Heard::Fault(seq, fault),
            other => Heard::Other(format!("{other:?}")),
        }
    }

    /// Receives the `Bye` of the manager, and returns its reason.
    async fn hear_bye(mut self) -> String {
        let frame = self.raw.hear().await.expect("a bye and not the end");
        let response = Response::decode(&frame).expect("a response");
        let Response::Bye { reason } = response else {
            panic!("no bye: {response:?}");
        };
        assert_eq!(self.raw.hear().await, None, "a bye is the last frame");
        self.end().await;
        reason
    }

    /// Waits until the session has ended without a panic.
    async fn end(self) {
        patiently(self.session)
            .await
            .expect("the session has not panicked");
    }

    /// Closes the connection and waits until the session is over.
    async fn close(self) {
        drop(self.raw);
        patiently(self.session)
            .await
            .expect("the session has not panicked");
    }

    /// Opens an object, and returns its number or the fault.
    async fn open(
        &mut self,
        kind: &str,
        name: Option<&str>,
        spec: Option<&[u8]>,
    ) -> Result<u32, Fault> {
        let (seq, spec) = (self.seq(), spec.map(BlobRef));
        let open = Request::Open {
            seq,
            kind,
            name,
            spec,
        };
        self.raw.send(&open).await;
        match self.hear().await {
            Heard::Opened(answered, object) if answered == seq => Ok(object),
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            other => panic!("no answer to open {seq}: {other:?}"),
        }
    }

    async fn open_lock(&mut self, name: &str) -> u32 {
        let opened = self.open(KIND, Some(name), Some(SPEC)).await;
        opened.expect("a lock")
    }

    async fn remove(&mut self, name: &str) -> Result<(), Fault> {
        let seq = self.seq();
        self.raw.send(&Request::Remove { seq, name }).await;
        match self.hear().await {
            Heard::Reply(answered, _) if answered == seq => Ok(()),
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            // The session has opened the object, so it is told of the removal first.
            Heard::Other(_) => match self.hear().await {
                Heard::Reply(answered, _) if answered == seq => Ok(()),
                other => panic!("no answer to removal {seq}: {other:?}"),
            },
            other => panic!("no answer to removal {seq}: {other:?}"),
        }
    }

    /// Sends a call without waiting for its answer.
    async fn send(
        &mut self,
        object: u32,
        operation: u32,
        micros: Option<u64>,
        arguments: &[u8],
    ) -> u64 {
        let seq = self.seq();
        let call = Request::Call {
            seq,
            object,
            operation,
            micros,
            arguments: BlobRef(arguments),
        };
        self.raw.send(&call).await;
        seq
    }

    /// Sends a call, and expects its answer as the next one.
    async fn call<T: DeserializeOwned>(
        &mut self,
        object: u32,
        operation: u32,
        micros: Option<u64>,
        arguments: &[u8],
    ) -> Result<T, Fault> {
        let seq = self.send(object, operation, micros, arguments).await;
        match self.hear().await {
            Heard::Reply(answered, body) if answered == seq => {
                Ok(codec::decode(&body).expect("the operation's reply"))
            }
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            other => panic!("no answer to call {seq}: {other:?}"),
        }
    }

    async fn try_acquire(&mut self, lock: u32) -> Result<Granted, Fault> {
        let (number, arguments) = operation(&Acquire);
        let granted = self.call(lock, number, Some(0), &arguments).await?;
        let granted: Result<Granted, Refusal> = granted;
        Ok(granted.expect("the release is not refused"))
    }

    async fn status(&mut self, lock: u32) -> LockStatus {
        let (number, arguments) = operation(&GetLockStatus);
        let status = self.call(lock, number, None, &arguments).await;
        status.expect("a status")
    }

    /// Returns whether the session still serves.
    async fn is_served(&mut self) -> bool {
        let lock = self.open_lock("any lock of this test").await;
        !self.status(lock).await.is_held
    }

    /// Signs a call of this session.
    fn sign(&self, seq: u64) -> SignedCall {
        let secret = SECRET.of_session(self.id);
        secret.sign(CallId::new(self.id, seq))
    }
}

pub(super) const KIND: &str = <Lock as Primitive>::KIND;

/// The encoded spec of a lock.
pub(super) const SPEC: &[u8] = b"\xa6Holder";

/// The number and the encoded arguments of a lock's operation.
pub(super) fn operation<O: Operation>(operation: &O) -> (u32, Vec<u8>) {
    (number_of::<Lock>(O::NAME), encoded(operation))
}

pub(super) fn number_of<P: Primitive>(name: &str) -> u32 {
    let mut operations = Operations::default();
    P::operations(&mut operations);
    let place = operations.names().position(|listed| listed == name);
    place
        .and_then(|place| u32::try_from(place).ok())
        .expect("a kind lists its operations")
}

pub(super) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("it encodes")
}

/// A cast that releases the grant of one of the session's calls.
pub(super) fn release(object: u32, seq: u64) -> Vec<u8> {
    let (operation, arguments) = operation(&Release {
        grant: Proof::Own(seq),
    });
    let cast = Request::Cast {
        object,
        operation,
        arguments: BlobRef(&arguments),
    };
    raw::frame(&cast)
}
