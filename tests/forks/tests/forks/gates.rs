//! Forks while threads are inside the gate of `lockkeeper_sys`, and forks by such threads.

use std::{
    os::unix::net::UnixStream,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use lockkeeper_sys::{Inherited, Origin, PerProcess, Private, without_forks};
use lockkeeper_test_forks::{Fork, end, on_fork};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    (
        "gates::child_of_a_thread_inside_the_gate_has_a_gate_of_its_own",
        fork_inside,
    ),
    (
        "gates::child_of_a_raw_clone_forks_though_a_thread_was_inside",
        fork_of_a_raw_clone,
    ),
    (
        "gates::threads_fork_inside_and_outside_at_the_same_time",
        forks_everywhere,
    ),
    (WITH_HANDLERS, fork_handlers),
];

/// A test whose fork handlers are registered before those of lockkeeper.
pub(crate) const WITH_HANDLERS: &str = "gates::fork_handlers_of_the_program_may_use_lockkeeper";

static LIST: Inherited<Vec<u32>> = Inherited::new(Vec::new());
static OTHER: Inherited<Vec<u32>> = Inherited::new(Vec::new());

/// Enters the gate and registers a descriptor, in this process and in a forked child.
fn use_the_gate() {
    let open = || {
        let (here, _) = UnixStream::pair()?;
        Ok(here)
    };
    let opened = Private::open(open).expect("it is registered");
    opened.get().expect("it is of this process");
    LIST.with(|list| list.push(1));
    Fork::new(|| {
        assert!(opened.get().is_err());
        Private::open(open).expect("it is registered");
    })
    .join();
}

/// Runs `work` while another thread is inside the gate.
fn beside_a_thread_inside(work: impl FnOnce()) {
    let (leave, left) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            OTHER.with(|_| {
                enter.send(()).expect("it is waited for");
                // This returns when the other end is dropped.
                let _ = left.recv();
            });
        });
        entered.recv().expect("it enters");
        work();
        drop(leave);
    });
}

fn fork_inside() {
    beside_a_thread_inside(|| {
        // The child leaves the gate.
        match LIST.with(|_| Fork::split()) {
            Some(child) => child.join(),
            None => {
                use_the_gate();
                end(0)
            }
        }
        // The child forks inside the gate.
        without_forks(|| Fork::new(|| without_forks(use_the_gate))).join();
    });
    use_the_gate();
}

fn fork_of_a_raw_clone() {
    // Registers the fork handlers, without which no fork closes the gate.
    let _ = Origin::here();
    beside_a_thread_inside(|| {
        Fork::raw(|| Fork::new(use_the_gate).join()).join();
        Fork::raw(use_the_gate).join();
    });
}

fn forks_everywhere() {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    without_forks(|| Fork::new(|| ())).join();
                }
            });
        }
        scope.spawn(|| (0..100).for_each(|_| use_the_gate()));
        for _ in 0..100 {
            Fork::new(|| {
                without_forks(|| ());
                Fork::new(|| ()).join();
            })
            .join();
        }
    });
}

static BEFORE: AtomicU32 = AtomicU32::new(0);
static IN_CHILD: AtomicU32 = AtomicU32::new(0);

/// The value that a handler made in the child.
static MADE: PerProcess<Origin> = PerProcess::new();

extern "C" fn before() {
    LIST.with(|list| list.push(2));
    BEFORE.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn in_child() {
    MADE.get_or_init(Origin::here);
    LIST.with(|list| list.push(3));
    IN_CHILD.fetch_add(1, Ordering::Relaxed);
}

/// Handlers before a fork run in reverse order, so these run while the gate is closed, and in the child before it is
/// opened.
pub(crate) fn register_handlers() {
    on_fork(before, in_child);
}

fn fork_handlers() {
    // These handlers run before the gate is closed, and after it is opened.
    on_fork(before, in_child);
    use_the_gate();
    let forks = BEFORE.load(Ordering::Relaxed);
    Fork::new(|| {
        assert_eq!(BEFORE.load(Ordering::Relaxed), forks + 2);
        assert_eq!(IN_CHILD.load(Ordering::Relaxed), 2);
        let made = MADE
            .get()
            .expect("the child is one process for all handlers");
        assert_eq!(*made, Origin::here());
        use_the_gate();
    })
    .join();
    assert_eq!(IN_CHILD.load(Ordering::Relaxed), 0);
}
