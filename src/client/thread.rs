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
    /// The connections that this thread reads when it sleeps, while it runs a future to its end.
    static HERE: RefCell<Option<Vec<Arc<Connection>>>> = const { RefCell::new(None) };

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
        let _here = Here::begin();
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

/// Whether this thread runs a future to its end, and can read for it.
pub(super) fn is_here() -> bool {
    // A thread that is about to end has dropped what it kept.
    HERE.try_with(|here| here.borrow().is_some())
        .unwrap_or_default()
}

/// Has this thread read a connection whenever it sleeps.
pub(super) fn read_here(connection: &Arc<Connection>) {
    // Whoever runs a future to its end has what it keeps.
    let _ = HERE.try_with(|here| {
        if let Some(here) = &mut *here.borrow_mut()
            && !here.iter().any(|other| Arc::ptr_eq(other, connection))
        {
            here.push(Arc::clone(connection));
        }
    });
}

/// Leaves a connection to others.
pub(super) fn read_no_more(connection: &Arc<Connection>) {
    let left = HERE.try_with(|here| {
        let here = &mut *here.borrow_mut();
        let here = here.as_mut()?;
        let place = here.iter().position(|it| Arc::ptr_eq(it, connection))?;
        Some(here.swap_remove(place))
    });
    // It may be the last handle, whose drop is not to find this borrowed.
    drop(left);
}

/// The time in which a thread runs a future to its end.
struct Here;

impl Here {
    fn begin() -> Self {
        HERE.set(Some(Vec::new()));
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        drop(HERE.take());
    }
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
        if self.state.swap(ASLEEP, Ordering::AcqRel) == RUNG {
            // It was woken since it began to look.
            self.state.swap(AWAKE, Ordering::AcqRel);
            return;
        }
        let here = HERE.with_borrow(Clone::clone).unwrap_or_default();
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
                for (connection, _) in here.iter().zip(is_ready).filter(|(_, is_ready)| *is_ready) {
                    connection.look_once();
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => thread::sleep(REST),
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
