//! The driver of a plain thread, which sleeps on the streams of the connections that it reads.
//!
//! If a runtime's thread woke it instead, each answer would cost two more system calls and a thread switch. A
//! thread that blocks on a future therefore reads a connection itself while it is that connection's only
//! caller, no runtime is attached to it, and its stream has a descriptor. Otherwise the background runtime
//! reads, as for any caller without a runtime.
//!
//! Invariant: a thread that sleeps here can be woken by [`Wakeup`], and it reads every connection that it
//! sleeps on when that is readable, regardless of which part of the future waits for it.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    mem,
    os::{fd::AsFd, unix::net::UnixStream},
    pin::pin,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use lockkeeper_sys::{Origin, Private};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{runtime::Handle, task::coop};

use crate::{
    background,
    client::{connection::Connection, state::lock},
};

thread_local! {
    /// The future that this thread blocks on, if any.
    static BLOCKED_ON: RefCell<Option<BlockedOn>> = const { RefCell::new(None) };

    /// The wakeup of this thread, once it has slept.
    static WAKEUP: RefCell<Option<Arc<Wakeup>>> = const { RefCell::new(None) };
}

/// Waits on a plain thread for an async operation of this library: the start of a manager, a call that is not
/// a [`Wait`](crate::Wait), or several at once.
///
/// The future runs on this thread. Tasks that it spawns run on the single background thread that reads and
/// writes for this process's plain threads, so they must not block.
///
/// ```
/// use std::thread;
///
/// use lockkeeper::{Manager, block_on};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = block_on(Manager::start())?;
/// let seats = block_on(manager.semaphore(0))?;
/// let clerk = {
///     let seats = seats.clone();
///     thread::spawn(move || block_on(seats.add_permits(3)))
/// };
/// let pair = block_on(seats.acquire_many(2))?;
/// clerk.join().expect("the clerk does not panic")?;
/// block_on(pair.release())?;
/// assert_eq!(block_on(seats.status())?.available, 3);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Panics inside an async context, which it would block. If the system has no descriptors or no thread for
/// the library's background runtime, calls of this library return errors that say so. A future that needs a
/// tokio runtime for something else, such as a timer, panics then.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    assert!(
        !is_async_context(),
        "`blocking` or lockkeeper::block_on was called in async code, whose thread it would block: await the \
         call, or make it on a plain thread, as in a lockkeeper::BlockingTask or in tokio::task::spawn_blocking"
    );
    let wakeup = Wakeup::of_this_thread();
    let waker = Waker::from(Arc::clone(&wakeup));
    let blocked = async {
        let mut future = pin!(future);
        let _span = BlockingSpan::begin(&wakeup, &waker);
        poll_fn(|task| {
            wakeup.clear();
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                wakeup.sleep();
                // The runtime polls again at once, with a fresh budget for cooperative tasks.
                task.waker().wake_by_ref();
            }
            polled
        })
        .await
    };
    match background::start() {
        Ok(background) => background.block_on(blocked),
        // Calls of this library within the future return an error that names the limit.
        Err(_) => poll_to_the_end(blocked),
    }
}

/// Polls a future until it is ready, and sleeps on descriptors in between.
fn poll_to_the_end<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut task = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return output;
        }
    }
}

/// At least the budget that tokio gives a task for one poll.
const BUDGET: usize = 128;

/// Returns whether this thread polls a task of a runtime. Only such a thread has a limited budget of
/// cooperative steps; tokio has no other query that does not panic.
fn is_async_context() -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(whole_budget) = coop::poll_proceed(&mut context) else {
        return true;
    };
    let is_limited = (0..BUDGET).any(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(step) => {
            step.made_progress();
            false
        }
        Poll::Pending => true,
    });
    // The drop restores the budget.
    drop(whole_budget);
    is_limited
}

/// Returns whether this thread blocks on a future, and can read for it.
pub(super) fn is_blocking() -> bool {
    BLOCKED_ON
        .try_with(|blocked| blocked.borrow().is_some())
        .unwrap_or_default()
}

/// Makes this thread read a connection whenever it sleeps. Returns whether it will.
///
/// It returns false if `task` is not the task that the thread blocks on: within another executor the thread
/// sleeps elsewhere.
pub(super) fn read_here(connection: &Arc<Connection>, task: &Waker) -> bool {
    let read = |blocked: &RefCell<Option<BlockedOn>>| {
        let mut blocked = blocked.borrow_mut();
        let Some(blocked) = blocked.as_mut().filter(|it| it.waker.will_wake(task)) else {
            return false;
        };
        if !blocked
            .connections
            .iter()
            .any(|other| Arc::ptr_eq(other, connection))
        {
            // Without descriptors to sleep on, a runtime has to read.
            let stream = connection.stream.get();
            if stream.is_none_or(|stream| stream.descriptor().is_none())
                || blocked.wakeup.pair().is_err()
            {
                return false;
            }
            blocked.connections.push(Arc::clone(connection));
        }
        true
    };
    BLOCKED_ON.try_with(read).unwrap_or_default()
}

/// Stops this thread from reading a connection.
pub(super) fn stop_reading(connection: &Arc<Connection>) {
    let leave = |blocked: &RefCell<Option<BlockedOn>>| {
        let mut blocked = blocked.borrow_mut();
        let all = &mut blocked.as_mut()?.connections;
        let place = all.iter().position(|it| Arc::ptr_eq(it, connection))?;
        Some(all.swap_remove(place))
    };
    // This may be the last handle, whose drop must not find the cell borrowed. A thread that is ending has no
    // such cell, and reads nothing.
    drop(BLOCKED_ON.try_with(leave));
}

/// A future that a thread blocks on.
struct BlockedOn {
    wakeup: Arc<Wakeup>,
    waker: Waker,
    /// The connections that the thread reads when it sleeps.
    connections: Vec<Arc<Connection>>,
}

/// The span in which a thread blocks on a future. It stores an outer span, which `block_in_place` permits.
struct BlockingSpan(Option<BlockedOn>);

impl BlockingSpan {
    fn begin(wakeup: &Arc<Wakeup>, waker: &Waker) -> Self {
        let inner = BlockedOn {
            wakeup: Arc::clone(wakeup),
            waker: waker.clone(),
            connections: Vec::new(),
        };
        Self(BLOCKED_ON.replace(Some(inner)))
    }
}

impl Drop for BlockingSpan {
    fn drop(&mut self) {
        if let Some(outer) = &self.0 {
            // The outer future may have been woken meanwhile.
            outer.waker.wake_by_ref();
        }
        drop(BLOCKED_ON.replace(self.0.take()));
    }
}

/// Wakes one thread, even while it sleeps on descriptors.
struct Wakeup {
    /// A forked child has a copy of this value and of its descriptors, which still belong to the parent.
    origin: Origin,
    state: AtomicU8,
    /// Wakes the thread while it reads nothing. The thread's own park token belongs to the program.
    parked: Mutex<()>,
    unparked: Condvar,
    /// Wakes the thread while it sleeps on descriptors. It is created on first use, because most threads never
    /// sleep on descriptors.
    pair: OnceLock<SocketPair>,
}

/// A connected pair of sockets: a byte into one wakes a thread that polls the other.
struct SocketPair {
    sender: Private<UnixStream>,
    receiver: Private<UnixStream>,
}

/// The thread runs.
const AWAKE: u8 = 0;
/// The thread sleeps on descriptors, or is about to.
const POLLING: u8 = 1;
/// The thread sleeps on the condition variable, or is about to.
const PARKED: u8 = 2;
/// The thread was woken, and has not polled its future since.
const WOKEN: u8 = 3;

/// A wait that returns at once.
const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The pause of a thread that can sleep neither on descriptors nor on a condition variable.
const PAUSE: Duration = Duration::from_millis(1);

impl Wakeup {
    fn of_this_thread() -> Arc<Self> {
        WAKEUP.with_borrow_mut(|kept| {
            // The first use in a forked child leaks the parent's value, in which a mutex may be locked.
            if let Some(wakeup) = kept.take_if(|kept| !kept.origin.is_here()) {
                mem::forget(wakeup);
            }
            let wakeup = kept.get_or_insert_with(|| {
                Arc::new(Self {
                    origin: Origin::here(),
                    state: AtomicU8::new(AWAKE),
                    parked: Mutex::default(),
                    unparked: Condvar::new(),
                    pair: OnceLock::new(),
                })
            });
            Arc::clone(wakeup)
        })
    }

    /// Returns the pair, which is created on first use. Only the thread itself calls this.
    fn pair(&self) -> io::Result<&SocketPair> {
        if let Some(pair) = self.pair.get() {
            return Ok(pair);
        }
        let (sender, receiver) = Private::open_pair(|| {
            let (sender, receiver) = UnixStream::pair()?;
            sender.set_nonblocking(true)?;
            receiver.set_nonblocking(true)?;
            Ok((sender, receiver))
        })?;
        Ok(self.pair.get_or_init(|| SocketPair { sender, receiver }))
    }

    /// Clears the wake flag before the thread polls its future.
    fn clear(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Sleeps until the thread is woken or one of its connections is readable, and reads that connection.
    fn sleep(&self) {
        if !self.origin.is_here() {
            // A future that the parent blocks on continues in a forked child, where only what the future has
            // begun here can wake it.
            return thread::sleep(PAUSE);
        }
        let mut connections = swap_connections(Vec::new());
        match self.pair.get() {
            Some(pair) if !connections.is_empty() => self.sleep_on(pair, &mut connections),
            Some(_) | None => self.park(),
        }
        swap_connections(connections);
    }

    /// Sleeps until the thread is woken.
    fn park(&self) {
        let mut parked = lock(&self.parked);
        if self.state.swap(PARKED, Ordering::AcqRel) == WOKEN {
            return;
        }
        while self.state.load(Ordering::Acquire) == PARKED {
            let woken = self.unparked.wait(parked);
            parked = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps on the streams of connections, reads the readable ones, and removes those that have ended.
    fn sleep_on(&self, pair: &SocketPair, connections: &mut Vec<Arc<Connection>>) {
        // Each of them has a descriptor, and keeps it: see `read_here`.
        let streams = connections
            .iter()
            .filter_map(|connection| connection.stream.get()?.descriptor());
        let mut sources: Vec<PollFd<'_>> = [pair.receiver.as_fd()]
            .into_iter()
            .chain(streams)
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        // A thread that was woken since its last poll does not sleep, but still reads: parts of its future
        // may wake each other for ever.
        let is_woken = self.state.swap(POLLING, Ordering::AcqRel) == WOKEN;
        // Bytes that a stream has buffered do not make its descriptor readable.
        let has_buffered = connections.iter().any(has_buffered);
        let is_ready = is_woken || has_buffered;
        let polled = poll(&mut sources, is_ready.then_some(&NO_WAIT));
        self.clear();
        match polled {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return,
            Err(_) => return thread::sleep(PAUSE),
        }
        let ready = sources.iter().map(|source| !source.revents().is_empty());
        let mut ready = ready.collect::<Vec<_>>().into_iter();
        if ready.next() == Some(true) {
            // One read consumes the bytes of many wakes.
            let _ = pair.receiver.get().and_then(|mut it| it.read(&mut [0; 64]));
        }
        connections.retain(|connection| {
            if ready.next() != Some(true) && !self::has_buffered(connection) {
                return true;
            }
            let Some(mut shared) = connection.lock() else {
                return false;
            };
            let why = connection.read_chunk(&mut shared);
            // The stream of a connection that has ended stays readable.
            let is_kept = why.is_none();
            connection.unlock(shared, why);
            is_kept
        });
    }
}

/// Returns whether the stream of a connection has buffered bytes.
fn has_buffered(connection: &Arc<Connection>) -> bool {
    let stream = connection.stream.get();
    stream.is_some_and(|stream| stream.has_buffered())
}

/// Replaces the connections that this thread reads, and returns the earlier ones.
fn swap_connections(others: Vec<Arc<Connection>>) -> Vec<Arc<Connection>> {
    let swap = |blocked: &mut Option<BlockedOn>| {
        let blocked = blocked.as_mut()?;
        Some(mem::replace(&mut blocked.connections, others))
    };
    BLOCKED_ON.with_borrow_mut(swap).unwrap_or_default()
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.swap(WOKEN, Ordering::AcqRel) {
            POLLING if self.origin.is_here() => {
                // If the pair's buffer is full, the thread is woken already.
                let pair = self.pair.get();
                let _ = pair.map(|pair| pair.sender.get()?.write(&[1]));
            }
            PARKED if self.origin.is_here() => {
                // Once this has the lock, the thread waits on the condition variable, or will check the state
                // again.
                drop(lock(&self.parked));
                self.unparked.notify_one();
            }
            _ => {}
        }
    }
}
