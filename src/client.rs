//! One connection per process and address: calls go out, answers find their callers.
//!
//! The calling task writes its frame itself, and reads for itself and all others while it waits;
//! so an answer wakes its caller and nobody else. Each runtime that calls has one driver task, for
//! when no caller reads; so a connection outlives any of its runtimes. What fits no runtime,
//! connecting and blocking callers, runs on [`background`].
//!
//! Invariant: a call is entered in the in-flight table and guarded against being dropped before its
//! frame is written. When the connection ends, every call gets `Disconnected`; none ever hangs.

use std::{
    collections::{HashMap, HashSet},
    fmt, future, io, mem,
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll, Wake, Waker, ready},
    time::Duration,
};

use futures::{FutureExt, task::AtomicWaker};
use lockkeeper_actors::{
    CallId, Fault, SessionId,
    codec::{self, BlobRef},
};
use tokio::{
    runtime::{self, Handle, Runtime},
    sync::{Notify, oneshot},
};
use tokio_util::bytes::Bytes;

use crate::{
    Address, CallError,
    wire::{self, Inbox, Link, Request, Response, Socket},
};

/// A session with a manager.
pub(crate) struct Connection {
    address: Address,
    session: SessionId,
    frame_bytes: usize,
    socket: Arc<Socket>,
    state: Mutex<State>,
    inbox: Mutex<Receiver>,
    /// How each runtime that calls reads, by its id.
    readers: Mutex<Vec<(runtime::Id, Arc<Reader>)>>,
    /// How many there are to read for.
    audience: Arc<AtomicUsize>,
    /// Told when grants are revoked, objects are gone, or the connection ends.
    changed: Notify,
}

/// The socket as one runtime reads it.
struct Reader {
    link: Link,
    wakers: Arc<Wakers>,
    /// The wakers as the one waker that the link knows.
    waker: Waker,
}

/// Who is woken when there is something to read. Whoever comes first hands it out to all.
struct Wakers {
    /// The caller that has begun to wait last.
    caller: AtomicWaker,
    /// The driver, which reads when no caller does, and writes what the socket did not take.
    driver: AtomicWaker,
    audience: Arc<AtomicUsize>,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.caller.wake();
        // A caller may be woken and yet not poll its call, as in a `select!` that is elsewhere by
        // now. It must not keep others waiting; alone it harms nobody.
        if self.audience.load(Ordering::Acquire) > 1 {
            self.driver.wake();
        }
    }
}

/// Somebody to read for.
struct Listening<'a>(&'a AtomicUsize, usize);

impl<'a> Listening<'a> {
    fn begin(audience: &'a AtomicUsize, count: usize) -> Self {
        audience.fetch_add(count, Ordering::AcqRel);
        Self(audience, count)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

#[derive(Default)]
struct State {
    outgoing: Vec<u8>,
    /// How many of the outgoing bytes are written.
    sent: usize,
    last_seq: u64,
    in_flight: HashMap<u64, oneshot::Sender<Answer>>,
    /// The objects that are open, by kind and name.
    objects: HashMap<(String, String), Arc<Object>>,
    /// Grants that are void although their guards have not released them.
    revoked: HashSet<u64>,
    /// Objects that are no more.
    gone: HashSet<u32>,
    /// How the connection ended.
    ended: Option<String>,
}

struct Receiver {
    inbox: Inbox,
    scratch: Box<[u8]>,
}

/// An object that the manager has opened for this session.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) number: u32,
    pub(crate) name: String,
    operations: Vec<String>,
}

impl Object {
    /// The number of the operation of that name.
    pub(crate) fn operation(&self, name: &str) -> Result<u32, CallError> {
        let place = self
            .operations
            .iter()
            .position(|operation| operation == name);
        place
            .and_then(|place| u32::try_from(place).ok())
            .ok_or_else(|| Fault::UnknownOperation(name.to_owned()).into())
    }
}

type Answer = Result<Success, CallError>;

#[derive(Debug)]
enum Success {
    Reply(Bytes),
    Opened(Arc<Object>),
}

/// How much a driver reads at a time.
const CHUNK_BYTES: usize = 1 << 14;

/// An outgoing buffer above this capacity is given back once it is empty.
const KEPT_BYTES: usize = 1 << 16;

/// How long the manager may take to take a client in.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The connections of this process that somebody uses.
static CONNECTIONS: LazyLock<Mutex<HashMap<Address, Weak<Connection>>>> =
    LazyLock::new(Mutex::default);

/// The runtime for what must not depend on the caller's: one thread, started on first use.
pub(crate) fn background() -> &'static Runtime {
    static BACKGROUND: LazyLock<Runtime> = LazyLock::new(|| {
        runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lockkeeper-io")
            .enable_all()
            .build()
            .expect("a process that has neither a thread nor a file descriptor left cannot go on")
    });
    &BACKGROUND
}

/// Locks against the other threads of this process. No code of a user runs inside, and what runs
/// inside leaves whole states behind, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Gives the connection of this process to an address, and makes it if there is none.
    pub(crate) async fn to(address: &Address) -> Result<Arc<Self>, CallError> {
        if let Some(connection) = Self::existing(address) {
            return Ok(connection);
        }
        let task = background().spawn(Self::connect(address.clone()));
        task.await
            .map_err(|error| CallError::Protocol(error.to_string()))?
    }

    fn existing(address: &Address) -> Option<Arc<Self>> {
        let connections = lock(&CONNECTIONS);
        connections
            .get(address)?
            .upgrade()
            .filter(|connection| connection.ended().is_none())
    }

    async fn connect(address: Address) -> Result<Arc<Self>, CallError> {
        let no_manager = |error: io::Error| CallError::NoManager {
            address: address.clone(),
            why: error.to_string(),
        };
        let path = address.path().to_owned();
        let task = tokio::task::spawn_blocking(move || Socket::connect(&path, CONNECT_PATIENCE));
        let socket = match task.await {
            Ok(connected) => connected.map_err(no_manager)?,
            Err(error) => return Err(no_manager(error.into())),
        };
        let new = Self::greet(address.clone(), socket).await?;
        let mut connections = lock(&CONNECTIONS);
        // Another caller may have been quicker; then this session ends without a trace.
        let earlier = connections.get(&address).and_then(Weak::upgrade);
        if let Some(earlier) = earlier.filter(|earlier| earlier.ended().is_none()) {
            return Ok(earlier);
        }
        connections.retain(|_, connection| connection.strong_count() > 0);
        connections.insert(address, Arc::downgrade(&new));
        Ok(new)
    }

    /// Says hello over a connected socket and waits to be welcomed.
    pub(crate) async fn greet(address: Address, socket: Socket) -> Result<Arc<Self>, CallError> {
        let socket = Arc::new(socket);
        let lost = |why: String| CallError::Disconnected {
            address: address.clone(),
            why,
        };
        let mut receiver = Receiver {
            inbox: Inbox::new(wire::FIRST_FRAME_BYTES),
            scratch: vec![0; CHUNK_BYTES].into(),
        };
        let frame = tokio::time::timeout(CONNECT_PATIENCE, hello(&socket, &mut receiver)).await;
        let frame = match frame {
            Ok(Ok(frame)) => frame,
            Ok(Err(why)) => return Err(lost(why)),
            Err(_) => return Err(lost(format!("no welcome within {CONNECT_PATIENCE:?}"))),
        };
        let (session, frame_bytes) = match codec::decode::<Response<'_>>(&frame) {
            Ok(Response::Welcome {
                version: wire::VERSION,
                session,
                frame_bytes,
                ..
            }) => (
                SessionId::new(session),
                usize::try_from(frame_bytes).unwrap_or(usize::MAX),
            ),
            Ok(Response::Welcome { version, .. }) => {
                return Err(CallError::Protocol(format!(
                    "it speaks version {version}, not {}",
                    wire::VERSION
                )));
            }
            Ok(Response::Bye { reason }) => return Err(lost(reason)),
            Ok(_) => {
                return Err(CallError::Protocol(
                    "the first frame is no welcome".to_owned(),
                ));
            }
            Err(error) => return Err(CallError::Protocol(error.to_string())),
        };
        receiver.inbox.allow(frame_bytes);
        Ok(Arc::new(Self {
            address,
            session,
            frame_bytes,
            socket,
            state: Mutex::default(),
            inbox: Mutex::new(receiver),
            readers: Mutex::default(),
            audience: Arc::default(),
            changed: Notify::new(),
        }))
    }

    /// Where the manager is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// How the connection ended.
    pub(crate) fn ended(&self) -> Option<String> {
        lock(&self.state).ended.clone()
    }

    /// Opens an object: a new one without a name, or the one of that name, which is made if there
    /// is a spec.
    pub(crate) async fn open(
        self: &Arc<Self>,
        kind: &str,
        name: Option<&str>,
        spec: Option<&[u8]>,
    ) -> Result<Arc<Object>, CallError> {
        if let (Some(name), None) = (name, spec) {
            let key = (kind.to_owned(), name.to_owned());
            if let Some(object) = lock(&self.state).objects.get(&key) {
                return Ok(Arc::clone(object));
            }
        }
        let spec = spec.map(BlobRef);
        let pending = self.request(None, |seq| Request::Open {
            seq,
            kind,
            name,
            spec,
        })?;
        let (_, answer) = pending.wait().await?;
        let Success::Opened(object) = answer else {
            return Err(wrong_answer());
        };
        let key = (kind.to_owned(), object.name.clone());
        lock(&self.state).objects.insert(key, Arc::clone(&object));
        Ok(object)
    }

    /// Ends the object of that name.
    pub(crate) async fn remove(self: &Arc<Self>, name: &str) -> Result<(), CallError> {
        let pending = self.request(None, |seq| Request::Remove { seq, name })?;
        pending.wait().await.map(drop)
    }

    /// Calls an object and waits for the answer, which `read` makes sense of.
    ///
    /// A call that is dropped, or whose answer makes no sense, is withdrawn.
    pub(crate) async fn call<T>(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        timeout: Option<Duration>,
        arguments: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, CallError>,
    ) -> Result<(CallId, T), CallError> {
        let micros = timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        let mut pending = self.request(Some(object), |seq| Request::Call {
            seq,
            object,
            operation,
            micros,
            arguments: BlobRef(arguments),
        })?;
        let answer = pending.answer().await?;
        let Success::Reply(body) = answer else {
            return Err(wrong_answer());
        };
        let reply = read(&body)?;
        let seq = pending.disarm();
        Ok((CallId::new(self.session, seq), reply))
    }

    /// Calls an object without an answer. Never waits; a connection that has ended needs nothing.
    pub(crate) fn cast(self: &Arc<Self>, object: u32, operation: u32, arguments: &[u8]) {
        let mut state = lock(&self.state);
        state.last_seq += 1;
        let seq = state.last_seq;
        let arguments = BlobRef(arguments);
        let request = Request::Cast {
            seq,
            object,
            operation,
            arguments,
        };
        // What a guard sends is small; a user's own cast above the limit is lost, as documented.
        let _ = self.write(state, &request);
    }

    /// Whether a grant still stands, as far as this process can know.
    pub(crate) fn is_valid(self: &Arc<Self>, object: u32, grant: CallId) -> bool {
        if let Poll::Ready(Err(why)) = self.look() {
            self.end(&why);
        }
        let state = lock(&self.state);
        state.ended.is_none()
            && !state.gone.contains(&object)
            && (grant.session() != self.session || !state.revoked.contains(&grant.seq()))
    }

    /// Waits until a grant no longer stands.
    pub(crate) async fn lost(self: &Arc<Self>, object: u32, grant: CallId) {
        // It counts for two, since no caller reads for it.
        let _listening = Listening::begin(&self.audience, 2);
        // A runtime that cannot read ends the connection, and with it the grant.
        if self.attach().is_ok() {
            self.stir();
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.is_valid(object, grant) {
                return;
            }
            changed.await;
        }
    }

    /// Forgets that a grant was revoked, since its guard is gone.
    pub(crate) fn forget(&self, grant: CallId) {
        let mut state = lock(&self.state);
        if !state.revoked.is_empty() {
            state.revoked.remove(&grant.seq());
        }
    }

    /// Numbers a request, enters it as being in flight and writes it.
    fn request<'a>(
        self: &Arc<Self>,
        object: Option<u32>,
        request: impl FnOnce(u64) -> Request<'a>,
    ) -> Result<Pending, CallError> {
        let reader = self.attach()?;
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        if let Some(why) = &state.ended {
            return Err(self.disconnected(why));
        }
        self.audience.fetch_add(1, Ordering::AcqRel);
        state.last_seq += 1;
        let seq = state.last_seq;
        state.in_flight.insert(seq, sender);
        let mut pending = Pending {
            connection: Arc::clone(self),
            object,
            seq,
            reader,
            receiver: Some(receiver),
        };
        if let Err(error) = self.write(state, &request(seq)) {
            pending.disarm();
            lock(&self.state).in_flight.remove(&seq);
            return Err(error);
        }
        Ok(pending)
    }

    /// Appends a frame and writes what the socket takes.
    fn write(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        request: &Request<'_>,
    ) -> Result<(), CallError> {
        if state.ended.is_some() {
            return Ok(());
        }
        wire::append(&mut state.outgoing, request, self.frame_bytes)
            .map_err(|error| CallError::Fault(Fault::BadArguments(error.to_string())))?;
        let flushed = state.flush(|bytes| match self.socket.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        });
        drop(state);
        match flushed {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.end_after_last_words(&error.to_string()),
            Poll::Pending => self.stir(),
        }
        Ok(())
    }

    /// Gives the reader of the caller's runtime, and makes it if it is the first call there.
    fn attach(self: &Arc<Self>) -> Result<Arc<Reader>, CallError> {
        match Handle::try_current() {
            Ok(handle) => self.attach_to(&handle),
            Err(_) => self.attach_to(background().handle()),
        }
    }

    fn attach_to(self: &Arc<Self>, handle: &Handle) -> Result<Arc<Reader>, CallError> {
        let id = handle.id();
        let mut readers = lock(&self.readers);
        if let Some((_, reader)) = readers.iter().find(|(there, _)| *there == id) {
            return Ok(Arc::clone(reader));
        }
        let link = {
            let _runtime = handle.enter();
            Link::new(Arc::clone(&self.socket))
        };
        let link = link.map_err(|error| self.disconnected(&error.to_string()))?;
        let wakers = Arc::new(Wakers {
            caller: AtomicWaker::new(),
            driver: AtomicWaker::new(),
            audience: Arc::clone(&self.audience),
        });
        let waker = Waker::from(Arc::clone(&wakers));
        let reader = Arc::new(Reader {
            link,
            wakers,
            waker,
        });
        readers.push((id, Arc::clone(&reader)));
        drop(readers);
        let attachment = Attachment {
            connection: Arc::downgrade(self),
            id,
        };
        // A runtime that is about to end drops the attachment, which detaches.
        drop(handle.spawn(drive(attachment, Arc::clone(&reader))));
        Ok(reader)
    }

    /// Has the drivers read and write what nobody else does.
    fn stir(self: &Arc<Self>) {
        if lock(&self.readers).is_empty() {
            // Without it, what waits is written with the next call.
            let _ = self.attach_to(background().handle());
        }
        for (_, reader) in &*lock(&self.readers) {
            reader.wakers.driver.wake();
        }
    }

    /// Reads one chunk, if there is one, and hands its frames out. An error ends the connection.
    fn drain(
        &self,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), String>> {
        let mut receiver = lock(&self.inbox);
        let Receiver { inbox, scratch } = &mut *receiver;
        Poll::Ready(match ready!(read(scratch)) {
            Ok(0) => Err("the manager has closed the connection".to_owned()),
            Ok(length) => {
                inbox.feed(scratch.get(..length).unwrap_or_default());
                self.hand_out(inbox)
            }
            Err(error) => Err(error.to_string()),
        })
    }

    /// Reads all there is and hands it out, then waits for more. It is over with the connection.
    fn poll_drain(&self, reader: &Reader) -> Poll<()> {
        let mut task = task::Context::from_waker(&reader.waker);
        loop {
            if let Err(why) =
                ready!(self.drain(|scratch| reader.link.poll_read(&mut task, scratch)))
            {
                self.end(&why);
                return Poll::Ready(());
            }
        }
    }

    /// Reads what is there without a runtime.
    fn look(&self) -> Poll<Result<(), String>> {
        self.drain(|scratch| match self.socket.try_read(scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        })
    }

    /// Ends a connection that takes no more, once all is read that the manager sent before it
    /// left: answers that came in time, and why it hung up.
    fn end_after_last_words(&self, why: &str) {
        loop {
            match self.look() {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(last)) => return self.end(&last),
                Poll::Pending => return self.end(why),
            }
        }
    }

    fn hand_out(&self, inbox: &mut Inbox) -> Result<(), String> {
        let mut answered = Vec::new();
        let mut has_changed = false;
        let mut state = lock(&self.state);
        while let Some(frame) = inbox.next().map_err(|error| error.to_string())? {
            let response = codec::decode::<Response<'_>>(&frame)
                .map_err(|error| format!("bad frame: {error}"))?;
            let (seq, answer) = match response {
                Response::Reply { seq, body } => (seq, Ok(Success::Reply(frame.slice_ref(body.0)))),
                Response::Fault { seq, fault } => (seq, Err(fault.into())),
                Response::Opened {
                    seq,
                    object,
                    name,
                    operations,
                } => {
                    let object = Object {
                        number: object,
                        name,
                        operations,
                    };
                    (seq, Ok(Success::Opened(Arc::new(object))))
                }
                Response::Revoked { seq } => {
                    has_changed = true;
                    state.revoked.insert(seq);
                    continue;
                }
                Response::Gone { object } => {
                    has_changed = true;
                    state.gone.insert(object);
                    state.objects.retain(|_, open| open.number != object);
                    continue;
                }
                Response::Bye { reason } => return Err(reason),
                Response::Welcome { .. } => return Err("a second welcome".to_owned()),
            };
            // The caller may have gone; its call is withdrawn, and this answer is nobody's.
            if let Some(sender) = state.in_flight.remove(&seq) {
                answered.push((sender, answer));
            }
        }
        drop(state);
        for (sender, answer) in answered {
            // As above.
            let _ = sender.send(answer);
        }
        if has_changed {
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Tells every caller that there will be no answer.
    fn end(&self, why: &str) {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why.to_owned());
        state.outgoing = Vec::new();
        state.sent = 0;
        let in_flight = mem::take(&mut state.in_flight);
        drop(state);
        self.socket.shut_down();
        for (_, sender) in in_flight {
            let _ = sender.send(Err(self.disconnected(why)));
        }
        self.changed.notify_waiters();
    }

    fn disconnected(&self, why: &str) -> CallError {
        CallError::Disconnected {
            address: self.address.clone(),
            why: why.to_owned(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.socket.shut_down();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

fn wrong_answer() -> CallError {
    CallError::Protocol("an answer of another kind than the call".to_owned())
}

impl State {
    /// Writes what waits, as far as it is taken.
    fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .outgoing
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            self.sent += ready!(write(rest))?;
        }
        self.sent = 0;
        self.outgoing.clear();
        self.outgoing.shrink_to(KEPT_BYTES);
        Poll::Ready(Ok(()))
    }
}

/// A runtime's duty to read for a connection.
struct Attachment {
    connection: Weak<Connection>,
    id: runtime::Id,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else {
            return;
        };
        lock(&connection.readers).retain(|(id, _)| *id != self.id);
        // A call may have moved to another runtime than it was made on.
        if !lock(&connection.state).in_flight.is_empty() {
            connection.stir();
        }
    }
}

/// Says hello and returns the first frame that comes back.
async fn hello(socket: &Arc<Socket>, receiver: &mut Receiver) -> Result<Bytes, String> {
    let link = Link::new(Arc::clone(socket)).map_err(|error| error.to_string())?;
    let mut hello = Vec::new();
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    let request = Request::Hello {
        version: wire::VERSION,
        pid: std::process::id(),
        program: &program,
        label: "",
    };
    wire::append(&mut hello, &request, wire::FIRST_FRAME_BYTES)
        .map_err(|error| error.to_string())?;
    // A socket that is new takes a frame of this size whole. A manager that refuses its clients may
    // have hung up already; the reason is there to be read.
    let _ = socket.try_write(&hello);
    let Receiver { inbox, scratch } = receiver;
    loop {
        let length = future::poll_fn(|task| link.poll_read(task, scratch)).await;
        match length.map_err(|error| error.to_string())? {
            0 => return Err("the manager has closed the connection".to_owned()),
            length => inbox.feed(scratch.get(..length).unwrap_or_default()),
        }
        if let Some(frame) = inbox.next().map_err(|error| error.to_string())? {
            return Ok(frame);
        }
    }
}

/// Reads for a connection on one runtime when no caller does, and writes what its callers could
/// not, until the connection or the runtime ends.
async fn drive(attachment: Attachment, reader: Arc<Reader>) {
    future::poll_fn(|task| {
        reader.wakers.driver.register(task.waker());
        // Not kept from one turn to the next: the connection ends with its last user.
        let Some(connection) = attachment.connection.upgrade() else {
            return Poll::Ready(());
        };
        let flushed = lock(&connection.state).flush(|bytes| reader.link.poll_write(task, bytes));
        if let Poll::Ready(Err(error)) = flushed {
            connection.end_after_last_words(&error.to_string());
        }
        connection.poll_drain(&reader)
    })
    .await;
}

/// A request that has no answer yet. Dropped before it has one, it withdraws the call.
struct Pending {
    connection: Arc<Connection>,
    /// The object that was called, if it is a call.
    object: Option<u32>,
    seq: u64,
    reader: Arc<Reader>,
    /// Empty once the answer was taken in full.
    receiver: Option<oneshot::Receiver<Answer>>,
}

impl Pending {
    /// Waits for the answer. The guard stays armed.
    async fn answer(&mut self) -> Answer {
        let Self {
            connection,
            reader,
            receiver,
            ..
        } = self;
        let Some(receiver) = receiver.as_mut() else {
            return Err(wrong_answer());
        };
        let answer = future::poll_fn(|task| {
            if let Ok(answer) = receiver.try_recv() {
                return Poll::Ready(Ok(answer));
            }
            // The caller reads for itself, and for whoever waits beside it.
            reader.wakers.caller.register(task.waker());
            let _ended = connection.poll_drain(reader);
            receiver.poll_unpin(task)
        });
        let answer = answer
            .await
            .unwrap_or_else(|_| Err(CallError::Protocol("the call was forgotten".to_owned())));
        if answer.is_err() {
            // There is nothing to undo.
            self.disarm();
        }
        answer
    }

    /// Waits for the answer to what cannot be withdrawn.
    async fn wait(mut self) -> Result<(u64, Success), CallError> {
        let answer = self.answer().await?;
        Ok((self.disarm(), answer))
    }

    /// Accepts the answer: from now on the caller has what it was granted.
    fn disarm(&mut self) -> u64 {
        self.receiver = None;
        self.seq
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.connection.audience.fetch_sub(1, Ordering::AcqRel) > 1 {
            // Those who stay may have counted on this caller to read for them.
            self.reader.wakers.driver.wake();
        }
        if self.receiver.is_none() {
            return;
        }
        let mut state = lock(&self.connection.state);
        state.in_flight.remove(&self.seq);
        if let Some(object) = self.object {
            // A frame of three numbers is below every limit.
            let _ = self.connection.write(
                state,
                &Request::Withdraw {
                    object,
                    seq: self.seq,
                },
            );
        }
    }
}
