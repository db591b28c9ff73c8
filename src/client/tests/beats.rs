//! Which frames of a client renew its lease.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lockkeeper_protocol::frame::{Request, Response};
use tokio::time;

use crate::{
    client::{
        connection::Connection,
        tests::{address, call, reply, welcome},
    },
    tests::raw::{Raw, patiently},
};

/// The lease, and the interval in which an idle client renews it.
const LEASE_MILLIS: u64 = 2_500;
const BEAT: Duration = Duration::from_millis(LEASE_MILLIS / 5);

async fn connected() -> (Arc<Connection>, Raw) {
    let (mut manager, socket) = Raw::manager();
    let greet = tokio::spawn(Connection::greet(address(), socket));
    manager.hear().await.expect("a hello");
    let mut welcome = welcome();
    if let Response::Welcome { lease_millis, .. } = &mut welcome {
        *lease_millis = Some(LEASE_MILLIS);
    }
    manager.send(&welcome).await;
    let connection = patiently(greet).await.unwrap().expect("welcomed");
    (connection, manager)
}

/// Answers the next frame, and returns whether it is a `Beat`.
async fn answer_next(manager: &mut Raw) -> bool {
    let frame = manager.hear().await.expect("a frame");
    let (seq, is_beat) = match Request::decode(&frame).expect("a request") {
        Request::Beat { seq, .. } => (seq, true),
        Request::Call { seq, .. } => (seq, false),
        other => panic!("neither a call nor a beat: {other:?}"),
    };
    manager.send(&reply(seq, &[1])).await;
    is_beat
}

/// Calls for a while, and returns the number of beats meanwhile, and the longest time without a call.
async fn beats_of_a_busy_client() -> (usize, Duration) {
    let (connection, mut manager) = connected().await;
    let started = Instant::now();
    let (mut beats, mut longest, mut last) = (0, Duration::ZERO, started);
    while started.elapsed() < 3 * BEAT {
        let now = Instant::now();
        let calling = Arc::clone(&connection);
        let called = tokio::spawn(async move { call(&calling).await });
        while answer_next(&mut manager).await {
            beats += 1;
        }
        patiently(called).await.unwrap().expect("an answer");
        longest = longest.max(last.elapsed());
        last = now;
        time::sleep(BEAT / 50).await;
    }
    (beats, longest)
}

#[tokio::test]
async fn client_whose_calls_are_answered_sends_no_beat() {
    for _ in 0..20 {
        let (beats, longest) = beats_of_a_busy_client().await;
        // A machine that is busy may have stopped this test for longer.
        if longest < BEAT / 2 {
            assert_eq!(beats, 0);
            return;
        }
    }
    panic!("the machine is too busy for this test");
}

#[tokio::test]
async fn client_whose_call_has_no_answer_sends_beats() {
    let (connection, mut manager) = connected().await;
    let calling = Arc::clone(&connection);
    let called = tokio::spawn(async move { call(&calling).await });
    // A machine that is busy may have stopped this test for so long that a beat came first.
    let seq = loop {
        let frame = manager.hear().await.expect("a frame");
        if let Ok(Request::Call { seq, .. }) = Request::decode(&frame) {
            break seq;
        }
    };
    for _ in 0..3 {
        assert!(answer_next(&mut manager).await);
    }
    manager.send(&reply(seq, &[1])).await;
    patiently(called).await.unwrap().expect("an answer");
}
