//! Managers and callers that are stopped: nothing blocks, and callers do not wait for each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lockkeeper_protocol::{CallId, frame::Request};
use tokio::{runtime::Builder, time};

use crate::{
    client::{
        connection::{Connection, GATHER_FROM_CALLS},
        tests::{
            SESSION, address, answer, call, connected, hear_call, hear_withdraw, reply, send_call,
            spawned_call, welcome,
        },
    },
    tests::raw::{Raw, patiently},
};

/// Far above the time of a call that does not wait, far below a test's timeout.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_manager_that_does_not_read_blocks_nobody() {
    let (connection, manager) = connected().await;
    let started = Instant::now();
    let large = vec![0; 1 << 20];
    for _ in 0..20 {
        let call = send_call(&connection, &large).expect("it is below the limit");
        let outcome = time::timeout(Duration::from_millis(5), answer(call, |_| Ok(()))).await;
        assert!(outcome.is_err(), "it times out");
        connection
            .cast(2, 3, &large)
            .expect("it is below the limit");
        assert!(connection.is_valid(2, CallId::new(SESSION, 1)));
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    // Once the manager reads, all frames are there, complete and in order.
    let mut manager = manager;
    let mut last = 0;
    for _ in 0..20 {
        let frame = manager.hear().await.expect("a call");
        let Ok(Request::Call { seq, .. }) = Request::decode(&frame) else {
            panic!("no call");
        };
        assert!(seq > last);
        last = seq;
        assert_eq!(hear_withdraw(&mut manager).await, seq);
        let frame = manager.hear().await.expect("a cast");
        assert!(matches!(Request::decode(&frame), Ok(Request::Cast { .. })));
    }
}

#[test]
fn a_full_socket_ends_no_call_that_the_background_reads_for() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (connection, mut manager) = runtime.block_on(connected());
    // The background runtime reads for this thread, and has to write what the socket does not take.
    let caller = std::thread::spawn(move || {
        let large = vec![0; 4 << 20];
        let call = send_call(&connection, &large)?;
        futures::executor::block_on(answer(call, |_| Ok(())))
    });
    runtime.block_on(async {
        let frame = manager.hear().await.expect("a call");
        let Ok(Request::Call { seq, .. }) = Request::decode(&frame) else {
            panic!("no call");
        };
        manager.send(&reply(seq, &[1])).await;
    });
    caller.join().unwrap().expect("an answer");
}

#[tokio::test]
async fn a_call_that_nobody_polls_keeps_no_other_waiting() {
    for stalled_first in [true, false] {
        let (connection, mut manager) = connected().await;
        let mut stalled = Box::pin(call(&connection));
        let (seq, task);
        if stalled_first {
            assert!(futures::poll!(&mut stalled).is_pending());
            hear_call(&mut manager).await;
            (seq, task) = spawned_call(&connection, &mut manager).await;
        } else {
            (seq, task) = spawned_call(&connection, &mut manager).await;
            assert!(futures::poll!(&mut stalled).is_pending());
            hear_call(&mut manager).await;
        }
        manager.send(&reply(seq, &[1])).await;
        assert_eq!(patiently(task).await.unwrap().unwrap().1, 1);
        let other = if stalled_first { seq - 1 } else { seq + 1 };
        manager.send(&reply(other, &[2])).await;
        assert_eq!(patiently(stalled).await.unwrap().1, 2);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_keeps_no_other_waiting() {
    let (connection, mut manager) = connected().await;
    let (seq, task) = spawned_call(&connection, &mut manager).await;
    let mut dropped = Box::pin(call(&connection));
    assert!(futures::poll!(&mut dropped).is_pending());
    hear_call(&mut manager).await;
    // The answer wakes the newest waiter, which is dropped before it is polled.
    manager.send(&reply(seq, &[1])).await;
    drop(dropped);
    assert_eq!(patiently(task).await.unwrap().unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_of_many_threads_are_all_answered() {
    let (connection, mut manager) = connected().await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                for _ in 0..125 {
                    call(&connection).await.expect("an answer");
                }
            })
        })
        .collect();
    for _ in 0..1_000 {
        let seq = hear_call(&mut manager).await;
        manager.send(&reply(seq, &[1])).await;
    }
    for task in tasks {
        patiently(task).await.unwrap();
    }
}

#[tokio::test]
async fn the_calls_of_a_crowd_go_out_also_when_their_runtime_stands_still() {
    let (connection, mut manager) = connected().await;
    let (leave, stay) = std::sync::mpsc::channel::<()>();
    let crowd = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut calls: Vec<_> = (0..2 * GATHER_FROM_CALLS)
                .map(|_| Box::pin(call(&connection)))
                .collect();
            for call in &mut calls {
                assert!(futures::poll!(call).is_pending());
            }
            connection
                .cast(2, 3, &[0x90])
                .expect("it is below the limit");
            // No driver runs on this runtime while it is blocked.
            let _ = stay.recv();
        });
    });
    for _ in 0..2 * GATHER_FROM_CALLS {
        patiently(hear_call(&mut manager)).await;
    }
    let frame = patiently(manager.hear()).await.expect("a cast");
    assert!(matches!(Request::decode(&frame), Ok(Request::Cast { .. })));
    drop(leave);
    crowd.join().unwrap();
}

#[test]
fn a_connection_outlives_the_runtime_that_it_was_made_on() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (connection, mut manager) = second.block_on(async {
        let (mut manager, socket) = Raw::manager();
        let greet = first.spawn(Connection::greet(address(), socket));
        let driven = std::thread::spawn(move || {
            let connection = first.block_on(greet).unwrap().unwrap();
            first.block_on(async {
                // This runtime has a driver now, and a call that is dropped with the runtime.
                let outcome = time::timeout(Duration::from_millis(5), call(&connection)).await;
                assert!(outcome.is_err());
            });
            drop(first);
            connection
        });
        manager.hear().await.expect("a hello");
        manager.send(&welcome()).await;
        let driven = tokio::task::spawn_blocking(|| driven.join().unwrap());
        (patiently(driven).await.unwrap(), manager)
    });
    second.block_on(async {
        let seq = hear_call(&mut manager).await;
        assert_eq!(hear_withdraw(&mut manager).await, seq);
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&reply(seq, &[1])).await;
        assert_eq!(patiently(task).await.unwrap().unwrap().1, 1);
    });
}

#[test]
fn a_call_that_moves_away_from_a_runtime_that_ends_is_answered() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (connection, mut manager) = second.block_on(connected());
    let mut moved = Box::pin({
        let connection = Arc::clone(&connection);
        async move { call(&connection).await }
    });
    first.block_on(async { assert!(futures::poll!(&mut moved).is_pending()) });
    drop(first);
    second.block_on(async {
        let moved = tokio::spawn(moved);
        // The call is polled here before it has its answer.
        tokio::task::yield_now().await;
        let seq = hear_call(&mut manager).await;
        manager.send(&reply(seq, &[1])).await;
        assert_eq!(patiently(moved).await.unwrap().unwrap().1, 1);
    });
}
