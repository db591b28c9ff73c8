//! A caller that has a thread to itself: it sleeps on the socket, and reads what wakes it.
//!
//! A plain thread that waited for a runtime to read for it would be woken by another thread, which
//! was woken by the answer. So it reads for itself while it is a connection's only caller; in company
//! the background reads for all, as for any runtime.
//!
//! Invariant: whoever sleeps here has an alarm that wakes it, and each connection that it sleeps on
//! is read when there is something to read, whichever part of the future waits for that.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::task;

use super::{Connection, background};

thread_local! {
    /// What this thread is about, while it runs a future to its end.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };

    /// What wakes this thread, once it has slept.
    static ALARM: RefCell<Option<Arc<Alarm>>> = const { RefCell::new(None) };
}

/// Runs a future to its end on this thread, which does nothing else.
///
/// # Panics
///
/// Panics inside an async context, which it would block.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let Ok(alarm) = Alarm::of_this_thread() else {
        // Without two file descriptors the background has to wake it.
        return background().block_on(future);
    };
    let waker = Waker::from(Arc::clone(&alarm));
    background().block_on(async {
        // Whoever takes turns with nobody has no budget to keep.
        let mut future = pin!(task::unconstrained(future));
        let _stay = Stay::begin(waker.clone());
        poll_fn(|_| {
            loop {
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_ready() {
                    return polled;
                }
                alarm.sleep();
            }
        })
        .await
    })
}

/// A thread that runs a future to its end.
struct Here {
    /// What the future is polled with.
    waker: Waker,
    /// What it reads when it sleeps.
    connections: Vec<Arc<Connection>>,
}

/// The time in which a thread runs a future to its end.
struct Stay;

impl Stay {
    fn begin(waker: Waker) -> Self {
        let connections = Vec::new();
        HERE.set(Some(Here { waker, connections }));
        Self
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        drop(HERE.take());
    }
}

/// Runs some code on what this thread is about. A thread that is about to end has dropped that.
fn with_here<T>(code: impl FnOnce(&mut Here) -> T) -> Option<T> {
    HERE.try_with(|here| here.borrow_mut().as_mut().map(code))
        .unwrap_or_default()
}

/// Whether this thread runs a future to its end.
pub(super) fn is_here() -> bool {
    with_here(|_| ()).is_some()
}

/// Whether that waker is this thread's, which reads before it sleeps. An executor within it, with wakers
/// of its own, may sleep elsewhere.
pub(super) fn has(waker: &Waker) -> bool {
    with_here(|here| here.waker.will_wake(waker)).unwrap_or_default()
}

/// Has this thread read a connection whenever it sleeps.
pub(super) fn read_here(connection: &Arc<Connection>) {
    with_here(|here| {
        let mut all = here.connections.iter();
        if !all.any(|other| Arc::ptr_eq(other, connection)) {
            here.connections.push(Arc::clone(connection));
        }
    });
}

/// Leaves a connection to others.
pub(super) fn read_no_more(connection: &Arc<Connection>) {
    let left = with_here(|here| {
        let mut all = here.connections.iter();
        let place = all.position(|other| Arc::ptr_eq(other, connection))?;
        Some(here.connections.swap_remove(place))
    });
    // It may be the last handle, whose drop is not to find this borrowed.
    drop(left);
}

/// Wakes one thread, also while it sleeps on a socket.
struct Alarm {
    state: AtomicU8,
    bell: UnixStream,
    ear: UnixStream,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const RUNG: u8 = 2;

/// How long a thread rests that the system does not let sleep.
const REST: Duration = Duration::from_millis(1);

impl Alarm {
    fn of_this_thread() -> io::Result<Arc<Self>> {
        ALARM.with_borrow_mut(|kept| {
            if let Some(alarm) = kept {
                return Ok(Arc::clone(alarm));
            }
            let (bell, ear) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            ear.set_nonblocking(true)?;
            let alarm = Arc::new(Self {
                state: AtomicU8::new(AWAKE),
                bell,
                ear,
            });
            Ok(Arc::clone(kept.insert(alarm)))
        })
    }

    /// Sleeps until somebody wakes this thread, or a connection that it reads has brought something,
    /// and reads that.
    fn sleep(&self) {
        let here = with_here(|here| here.connections.clone()).unwrap_or_default();
        if self.state.swap(ASLEEP, Ordering::AcqRel) == RUNG {
            // It was woken since it began to look. What wakes it again and again must not keep it from
            // reading.
            self.state.swap(AWAKE, Ordering::AcqRel);
            here.iter().for_each(Self::read);
            return;
        }
        let sockets = here.iter().map(|connection| connection.socket.as_fd());
        let mut sources: Vec<PollFd<'_>> = [self.ear.as_fd()]
            .into_iter()
            .chain(sockets)
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        let polled = poll(&mut sources, None);
        self.state.swap(AWAKE, Ordering::AcqRel);
        let mut is_ready = sources.iter().map(|source| !source.revents().is_empty());
        match polled {
            Ok(_) => {
                if is_ready.next() == Some(true) {
                    // How often it rang is of no importance.
                    let _ = (&self.ear).read(&mut [0; 64]);
                }
                let ready = here.iter().zip(is_ready).filter(|(_, is_ready)| *is_ready);
                ready.for_each(|(connection, _)| Self::read(connection));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => thread::sleep(REST),
        }
    }

    /// Reads what a connection has brought. One that is over would be ready for ever.
    fn read(connection: &Arc<Connection>) {
        connection.look_once();
        if connection.ended().is_some() {
            read_no_more(connection);
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // A bell that is full has rung.
            let _ = (&self.bell).write(&[1]);
        }
    }
}
