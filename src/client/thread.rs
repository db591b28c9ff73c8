//! A caller that has a thread to itself: it sleeps on the socket, and reads what wakes it.
//!
//! A plain thread that waited for a runtime to read for it would be woken by another thread, which
//! was woken by the answer. So it reads for itself while it is a connection's only caller, and as long
//! as no runtime has ever read that; in company the background reads for all, as for any runtime.
//!
//! Invariant: whoever sleeps here has an alarm that wakes it, and each connection that it sleeps on
//! is read when there is something to read, whichever shard of the future waits for that.

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

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    background::background,
    client::{connection::Connection, state::lock},
};

thread_local! {
    /// What this thread does while it runs a future to its end.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };

    /// What wakes this thread, once it has slept.
    static ALARM: RefCell<Option<Arc<Alarm>>> = const { RefCell::new(None) };
}

/// Waits on a plain thread for whatever is async here: making a manager, a call without a
/// `blocking_*` form, or several at once.
///
/// The future runs on this thread. What it spawns runs on the one thread that reads and writes for
/// this process's plain threads, so that must not block.
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
/// Panics inside an async context, which it would block.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let alarm = Alarm::of_this_thread();
    let waker = Waker::from(Arc::clone(&alarm));
    background().block_on(async {
        let mut future = pin!(future);
        let _stay = Stay::begin(&alarm, &waker);
        poll_fn(|task| {
            alarm.hush();
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                alarm.sleep();
                // The runtime polls it at once, with a fresh budget: its shards take turns with each other.
                task.waker().wake_by_ref();
            }
            polled
        })
        .await
    })
}

/// Whether this thread runs a future to its end, and can read for it.
pub(super) fn is_here() -> bool {
    HERE.try_with(|here| here.borrow().is_some())
        .unwrap_or_default()
}

/// Has this thread read a connection whenever it sleeps, if that is what it does when the task has
/// to wait: within another executor it would sleep where nobody reads.
pub(super) fn read_here(connection: &Arc<Connection>, task: &Waker) -> bool {
    let read = |here: &RefCell<Option<Here>>| {
        let mut here = here.borrow_mut();
        let Some(stay) = here.as_mut().filter(|stay| stay.waker.will_wake(task)) else {
            return false;
        };
        if !stay
            .connections
            .iter()
            .any(|other| Arc::ptr_eq(other, connection))
        {
            // Without descriptors a runtime has to read.
            if connection.stream.descriptor().is_none() || stay.alarm.bell().is_err() {
                return false;
            }
            stay.connections.push(Arc::clone(connection));
        }
        true
    };
    HERE.try_with(read).unwrap_or_default()
}

/// Leaves a connection to others.
pub(super) fn read_no_more(connection: &Arc<Connection>) {
    let leave = |here: &RefCell<Option<Here>>| {
        let mut here = here.borrow_mut();
        let all = &mut here.as_mut()?.connections;
        let place = all.iter().position(|it| Arc::ptr_eq(it, connection))?;
        Some(all.swap_remove(place))
    };
    // It may be the last handle, whose drop is not to find this borrowed. A thread at its end reads
    // nothing anyway.
    drop(HERE.try_with(leave));
}

/// What a thread that runs a future to its end has to do with others.
struct Here {
    alarm: Arc<Alarm>,
    waker: Waker,
    /// What it reads when it sleeps.
    connections: Vec<Arc<Connection>>,
}

/// The time in which a thread runs a future to its end. It keeps what it interrupts, as
/// `block_in_place` allows.
struct Stay(Option<Here>);

impl Stay {
    fn begin(alarm: &Arc<Alarm>, waker: &Waker) -> Self {
        let here = Here {
            alarm: Arc::clone(alarm),
            waker: waker.clone(),
            connections: Vec::new(),
        };
        Self(HERE.replace(Some(here)))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(outer) = &self.0 {
            // It may have been woken meanwhile.
            outer.waker.wake_by_ref();
        }
        drop(HERE.replace(self.0.take()));
    }
}

/// Wakes one thread, also while it sleeps on a socket.
struct Alarm {
    state: AtomicU8,
    /// What wakes it where it reads nothing. Its token of `park` is the program's.
    parked: Mutex<()>,
    unparked: Condvar,
    /// What wakes it on a socket; most threads never sleep there.
    bell: OnceLock<Bell>,
}

/// Two ends of one wire.
struct Bell {
    rope: UnixStream,
    ear: UnixStream,
}

const AWAKE: u8 = 0;

const ASLEEP: u8 = 1;

const PARKED: u8 = 2;

const RUNG: u8 = 3;

/// No time.
const NONE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// How long a thread rests that the system does not let sleep.
const REST: Duration = Duration::from_millis(1);

impl Alarm {
    fn of_this_thread() -> Arc<Self> {
        ALARM.with_borrow_mut(|kept| {
            let alarm = kept.get_or_insert_with(|| {
                Arc::new(Self {
                    state: AtomicU8::new(AWAKE),
                    parked: Mutex::default(),
                    unparked: Condvar::new(),
                    bell: OnceLock::new(),
                })
            });
            Arc::clone(alarm)
        })
    }

    /// What wakes it on a socket. Its own thread alone asks for one that is not there yet.
    fn bell(&self) -> io::Result<&Bell> {
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let (rope, ear) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(self.bell.get_or_init(|| Bell { rope, ear }))
    }

    /// Forgets who rang, before a look at what that was for.
    fn hush(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Sleeps until somebody wakes this thread, which reads nothing.
    fn park(&self) {
        let mut parked = lock(&self.parked);
        if self.state.swap(PARKED, Ordering::AcqRel) == RUNG {
            return;
        }
        while self.state.load(Ordering::Acquire) == PARKED {
            let woken = self.unparked.wait(parked);
            parked = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps until somebody wakes this thread, or a connection that it reads has brought something,
    /// and reads that.
    fn sleep(&self) {
        let mut here = connections_here(Vec::new());
        match self.bell.get() {
            Some(bell) if !here.is_empty() => self.sleep_on(bell, &mut here),
            Some(_) | None => self.park(),
        }
        connections_here(here);
    }

    /// Sleeps on the sockets of some connections, and keeps those that are not over.
    fn sleep_on(&self, bell: &Bell, here: &mut Vec<Arc<Connection>>) {
        let streams = here
            .iter()
            .filter_map(|connection| connection.stream.descriptor());
        let mut sources: Vec<PollFd<'_>> = [bell.ear.as_fd()]
            .into_iter()
            .chain(streams)
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        // One that was woken since it looked does not sleep, and yet reads: its shards may wake each
        // other for ever.
        let is_woken = self.state.swap(ASLEEP, Ordering::AcqRel) == RUNG;
        let polled = poll(&mut sources, is_woken.then_some(&NONE));
        self.hush();
        match polled {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return,
            Err(_) => return thread::sleep(REST),
        }
        let ready = sources.iter().map(|source| !source.revents().is_empty());
        let mut ready = ready.collect::<Vec<_>>().into_iter();
        if ready.next() == Some(true) {
            // How often it rang is of no importance.
            let _ = (&bell.ear).read(&mut [0; 64]);
        }
        here.retain(|connection| {
            let is_ready = ready.next() == Some(true);
            match is_ready.then(|| connection.look()) {
                Some(Poll::Ready(Err(why))) => {
                    connection.end(&why);
                    // It has something to read for ever, and a call that nobody polls keeps it.
                    false
                }
                Some(_) | None => true,
            }
        });
    }
}

/// Takes what this thread reads, and gives it that in place of it.
fn connections_here(other: Vec<Arc<Connection>>) -> Vec<Arc<Connection>> {
    let swap = |here: &mut Option<Here>| {
        let here = here.as_mut()?;
        Some(mem::replace(&mut here.connections, other))
    };
    HERE.with_borrow_mut(swap).unwrap_or_default()
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.swap(RUNG, Ordering::AcqRel) {
            ASLEEP => {
                // A bell that is full has rung.
                let bell = self.bell.get();
                let _ = bell.map(|bell| (&bell.rope).write(&[1]));
            }
            PARKED => {
                // It waits by now, or is about to look once more.
                drop(lock(&self.parked));
                self.unparked.notify_one();
            }
            _ => {}
        }
    }
}
