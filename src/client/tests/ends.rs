//! The ends of connections, after which no call is left waiting.

use std::sync::Arc;

use lockkeeper_protocol::{
    CallId,
    frame::{Request, Response},
};

use crate::{
    client::tests::{SESSION, call, connected, reply, spawned_call, welcome, why},
    tests::raw::{Raw, frame, patiently},
};

/// The error of a hundred waiting calls, and of later ones, when the manager does this.
async fn told(end: impl AsyncFnOnce(Raw)) -> String {
    let (connection, mut manager) = connected().await;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(spawned_call(&connection, &mut manager).await.1);
    }
    let grant = CallId::new(SESSION, 1);
    let lost = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.lost(2, grant).await }
    });
    end(manager).await;
    let mut reasons = std::collections::BTreeSet::new();
    for call in waiting {
        reasons.insert(why(patiently(call).await.unwrap()));
    }
    patiently(lost).await.unwrap();
    assert!(!connection.is_valid(2, grant));
    reasons.insert(why(patiently(call(&connection)).await));
    reasons.insert(why(patiently(connection.open("lock", None, None)).await));
    reasons.insert(why(patiently(connection.remove("x")).await));
    connection
        .cast(2, 3, &[0x90])
        .expect("it is below the limit");
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons.pop_first().expect("one reason")
}

async fn told_after(bytes: &[u8]) -> String {
    told(async |manager: Raw| manager.write(bytes).await.unwrap()).await
}

const CLOSED: &str = "the manager has closed the connection";

#[tokio::test]
async fn every_call_is_told_that_the_manager_has_gone() {
    assert_eq!(told(async |manager| drop(manager)).await, CLOSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_of_many_threads_is_told_that_the_manager_has_gone() {
    assert_eq!(told(async |manager| drop(manager)).await, CLOSED);
}

#[tokio::test]
async fn every_call_is_told_why_the_manager_hung_up() {
    let reason = || "more than 5 bytes of answers are unread".to_owned();
    let bye = frame(&Response::Bye { reason: reason() });
    assert_eq!(told_after(&bye).await, reason());
}

#[tokio::test]
async fn a_frame_that_is_no_response_ends_the_connection() {
    let second = told_after(&frame(&welcome())).await;
    assert_eq!(second, "a second welcome");
    let large = told_after(&[0x7f, 0xff, 0xff, 0xff]).await;
    assert_eq!(
        large,
        "a frame of 2147483647 bytes is above the limit of 8388608"
    );
    let withdraw = frame(&Request::Withdraw { object: 1, seq: 1 });
    let nested = [&[0, 0, 0, 200], &[0x91; 200][..]].concat();
    for garbage in [&withdraw[..], &nested, &[0, 0, 0, 0], &[0, 0, 0, 1, 0xc1]] {
        let why = told_after(garbage).await;
        assert!(why.starts_with("bad frame: "), "{why}");
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_an_answer_or_a_lost_connection() {
    let whole = frame(&reply(1, &[5])).len();
    for end in 0..=whole {
        let (connection, mut manager) = connected().await;
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        let bytes = frame(&reply(seq, &[5]));
        manager.write(&bytes[..end]).await.unwrap();
        drop(manager);
        let outcome = patiently(task).await.unwrap();
        if end < whole {
            let why = why(outcome);
            assert!(why.starts_with(CLOSED), "{why}");
            // Less than a header does not show that a message has begun.
            let is_broken_off = why.contains("in the middle of an answer");
            assert_eq!(is_broken_off, end >= 4, "{end} bytes: {why}");
        } else {
            assert_eq!(outcome.unwrap().1, 5);
        }
    }
}

#[tokio::test]
async fn answers_before_the_end_are_given_although_they_come_in_one_chunk_with_it() {
    let bye = frame(&Response::Bye {
        reason: "enough".to_owned(),
    });
    for end in [bye, vec![0, 0, 0, 0], vec![0xff; 4]] {
        let (connection, mut manager) = connected().await;
        let (first, answered) = spawned_call(&connection, &mut manager).await;
        let (_, waiting) = spawned_call(&connection, &mut manager).await;
        let bytes = [frame(&reply(first, &[5])), end].concat();
        manager.write(&bytes).await.unwrap();
        assert_eq!(patiently(answered).await.unwrap().unwrap().1, 5);
        why(patiently(waiting).await.unwrap());
    }
}

#[tokio::test]
async fn the_reason_of_a_bye_is_told_to_a_call_that_can_no_longer_be_written() {
    let (connection, manager) = connected().await;
    let reason = || "a second hello".to_owned();
    manager.send(&Response::Bye { reason: reason() }).await;
    drop(manager);
    // No call has read so far, so the write notices first.
    assert_eq!(why(patiently(call(&connection)).await), reason());
}

#[tokio::test]
async fn the_last_user_of_a_connection_closes_it() {
    let (connection, mut manager) = connected().await;
    let (seq, task) = spawned_call(&connection, &mut manager).await;
    manager.send(&reply(seq, &[1])).await;
    patiently(task).await.unwrap().unwrap();
    drop(connection);
    assert_eq!(manager.hear().await, None);
}
