//! A state that is not visible from outside: a pool whose thread ended by itself.

use std::sync::PoisonError;

use futures::executor::block_on;

use crate::{
    error::CallError,
    pool::pool::{CREW_ENDED, Pool},
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
        address: pool.entry.queue.token().address().clone(),
        why: CREW_ENDED.to_owned(),
    };
    assert_eq!(block_on(pool.emptied()), Err(gone));
}
