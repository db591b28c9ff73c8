//! Clients that do not read their answers, or leave before they have.

use lockkeeper_protocol::{
    codec::BlobRef,
    frame::{self, Request},
    operations::Status,
};

use crate::{
    limits::Limits,
    server::session::{
        context::CHUNK_BYTES,
        tests::{Client, Heard, House, operation, release},
    },
    tests::raw::patiently,
};

/// Statuses that a client asks for, in one write.
fn statuses(client: &mut Client, lock: u32, count: usize) -> Vec<u8> {
    let (operation, arguments) = operation(&Status);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let call = Request::Call {
            seq: client.seq(),
            object: lock,
            operation,
            micros: None,
            arguments: BlobRef(&arguments),
        };
        frame::append(&mut bytes, &call, usize::MAX).unwrap();
    }
    bytes
}

#[actix_rt::test]
async fn a_client_that_never_reads_is_hung_up_and_the_others_go_on() {
    let house = House::new(Limits {
        unread_bytes: 100_000,
        ..Limits::default()
    });
    let (mut sink, mut other) = (house.welcome().await, house.welcome().await);
    let lock = sink.open_lock("jobs").await;
    sink.try_acquire(lock).await.unwrap();
    let mut written = 0;
    loop {
        let bytes = statuses(&mut sink, lock, 1_000);
        if sink.raw.write(&bytes).await.is_err() {
            break;
        }
        written += bytes.len();
        assert!(written < 100 << 20, "it is never hung up");
        assert!(other.is_served().await);
    }
    // What it holds is passed on although it has never closed its end.
    patiently(&mut sink.session).await.unwrap();
    let theirs = other.open_lock("jobs").await;
    assert!(other.try_acquire(theirs).await.unwrap().abandoned.is_some());
}

#[actix_rt::test]
async fn a_client_that_reads_late_is_not_listened_to_and_misses_nothing() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    // Their answers are several times what is kept for a client that does not read.
    let bytes = statuses(&mut client, lock, 150_000);
    let mut rest = bytes.as_slice();
    let mut turns_without_progress = 0;
    while turns_without_progress < 100 {
        let written = client.raw.write_some(rest);
        rest = &rest[written..];
        turns_without_progress = (turns_without_progress + 1) * usize::from(written == 0);
        tokio::task::yield_now().await;
    }
    let received = house.context.shell.tallies().received.get();
    let is_heard = received >= bytes.len() as u64;
    assert!(!is_heard, "the manager listens for ever");
    for seq in 2..=client.last_seq {
        let Heard::Reply(answered, _) = client.hear().await else {
            panic!("no reply to {seq}");
        };
        assert_eq!(answered, seq);
        rest = &rest[client.raw.write_some(rest)..];
    }
    assert!(rest.is_empty() && client.is_served().await);
}

#[actix_rt::test]
async fn what_was_sent_before_leaving_is_done_although_nobody_reads_the_answers() {
    let house = House::new(Limits::default());
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    // The release comes with a later chunk than the first answers that cannot be written.
    let mut bytes = statuses(&mut client, lock, 5_000);
    assert!(bytes.len() > CHUNK_BYTES);
    bytes.extend(release(lock, 2));
    client.raw.write(&bytes).await.unwrap();
    client.close().await;
    let lock = other.open_lock("jobs").await;
    assert_eq!(other.try_acquire(lock).await.unwrap().abandoned, None);
}
