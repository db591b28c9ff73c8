//! Blocking calls in async code would block a runtime's thread, so they panic with the caller's location.
//! They work where blocking is allowed.

use std::{
    panic::{self, AssertUnwindSafe, Location},
    sync::{Arc, Mutex},
    time::Duration,
};

use lockkeeper::{Barrier, Lock, Manager, Queue, block_on};
use lockkeeper_test_support::{in_own_process, run};
use tokio::{
    runtime::{Builder, Handle},
    task::{LocalSet, block_in_place},
};

/// A call, and its line in this file.
type Calls = Vec<(u32, Box<dyn Fn() + Send>)>;

const fn line(place: &'static Location<'static>) -> u32 {
    place.line()
}

#[track_caller]
fn call(call: impl Fn() + Send + 'static) -> (u32, Box<dyn Fn() + Send>) {
    (line(Location::caller()), Box::new(call))
}

/// The line of each call is that of the macro or function call.
fn calls(lock: &Lock, queue: &Queue<u32>, barrier: &Barrier) -> Calls {
    let (first, second, third) = (lock.clone(), lock.clone(), lock.clone());
    let (queue, barrier) = (queue.clone(), barrier.clone());
    #[rustfmt::skip]
    let calls = vec![
        call(move || drop(first.acquire().blocking())),
        call(move || drop(second.acquire().timeout(Duration::from_secs(1)).blocking())),
        call(move || drop(block_on(third.acquire()))),
        call(move || drop(queue.put(1).blocking())),
        call(move || drop(barrier.wait().blocking())),
    ];
    calls
}

/// Makes each call, and checks that it panics with the library's message, at its own location.
fn all_panic(calls: &Calls) {
    for (line, call) in calls {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&shown);
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().unwrap();
            let message = panic.payload().downcast_ref::<&str>().copied();
            let message = message.unwrap_or_default().to_owned();
            let place = (place.file().to_owned(), place.line());
            tell.lock().unwrap().push((place, message));
        }));
        let outcome = panic::catch_unwind(AssertUnwindSafe(call));
        panic::set_hook(usual);
        outcome.unwrap_err();
        let shown = shown.lock().unwrap();
        let [(place, message)] = &shown[..] else {
            panic!("{shown:?}")
        };
        assert!(message.contains("was called in async code"), "{message}");
        assert_eq!(*place, (file!().to_owned(), *line), "{message}");
    }
}

#[test]
fn blocking_call_in_async_code_panics_with_its_callers_location() {
    in_own_process(|| {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let queue = block_on(manager.queue::<u32>(1)).unwrap();
        let barrier = block_on(manager.barrier(1)).unwrap();
        let calls = || calls(&lock, &queue, &barrier);

        // The main future, a task, a local task, an actix system, and the library's `block_on`.
        run(async { all_panic(&calls()) });
        let of_a_task = calls();
        run(async { tokio::spawn(async move { all_panic(&of_a_task) }).await }).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { all_panic(&calls()) });
        let of_a_local_task = calls();
        let local = LocalSet::new();
        local.spawn_local(async move { all_panic(&of_a_local_task) });
        runtime.block_on(local);
        actix_rt::System::new().block_on(async { all_panic(&calls()) });
        block_on(async { all_panic(&calls()) });
    });
}

#[test]
fn blocking_call_works_where_blocking_is_allowed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let handle = Handle::current();
        let blocking = lock.clone();
        tokio::spawn(async move {
            block_in_place(|| drop(blocking.acquire().blocking().unwrap()));
            // The task continues.
            blocking.acquire().await.unwrap().release().await.unwrap();
        })
        .await
        .unwrap();
        let blocking = lock.clone();
        let on_a_thread = move || {
            let _runtime = handle.enter();
            drop(blocking.acquire().blocking().unwrap());
        };
        tokio::task::spawn_blocking(on_a_thread.clone())
            .await
            .unwrap();
        std::thread::spawn(on_a_thread).join().unwrap();
    });
}
