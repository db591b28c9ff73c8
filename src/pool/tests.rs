//! States that are not visible from outside, or last only a moment.

use std::{sync::PoisonError, time::Duration};

use futures::executor::block_on;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::CallError,
    pool::{
        pool::{Pool, THREAD_ENDED},
        supervisor::KillIdle,
    },
    process::within::within,
    program::program,
};

#[test]
fn children() {
    program().in_test("pool::tests::children");
}

#[test]
fn pool_whose_thread_has_ended_is_disconnected_from_its_address() {
    program().in_test("pool::tests::children");
    let pool = block_on(Pool::new(1)).unwrap();
    let stop = pool.stop.get().unwrap();
    let stop = stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (stop, thread) = stop.unwrap();
    stop.send(()).unwrap();
    thread.join().unwrap();
    let gone = CallError::Disconnected {
        address: pool.entry.queue.token().address.clone(),
        why: THREAD_ENDED.to_owned(),
    };
    assert_eq!(block_on(pool.emptied()), Err(gone));
}

/// Less than a joined pool waits before it kills its idle workers.
const AT_ONCE: Duration = Duration::from_secs(4);

/// The order of the end and the kill is a matter of chance, so the test tries it often.
#[test]
fn worker_that_ends_by_itself_while_idle_ones_are_killed_is_not_replaced() {
    program().in_test("pool::tests::children");
    for _ in 0..20 {
        let pool = block_on(Pool::new(1)).unwrap();
        let pid = i32::try_from(block_on(pool.pids())[0]).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        block_on(pool.supervisor().unwrap().send(KillIdle)).unwrap();
        let emptied = block_on(within(AT_ONCE, pool.emptied()));
        assert_eq!(emptied, Some(Ok(())));
    }
}
