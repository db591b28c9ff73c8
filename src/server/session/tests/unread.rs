//! Clients that do not read their answers, or leave before they have read them.

use std::time::Duration;

use lockkeeper_actors::{Primitive, data::Value};
use lockkeeper_protocol::{
    Fault, Operation,
    codec::{Blob, BlobRef},
    frame::{self, Request, Response},
    operations::{
        Acquire, GetLockStatus, GetValueStatus, Read, Store, ValueSpec, ValueStatus, WaitChange,
    },
};
use tokio::time;

use crate::{
    limits::Limits,
    server::session::{
        sizes::CHUNK_BYTES,
        tests::{Client, Heard, House, encoded, number_of, operation, release},
    },
    tests::raw::patiently,
};

/// The frames of `count` status calls, in one write.
fn statuses(client: &mut Client, lock: u32, count: usize) -> Vec<u8> {
    let (operation, arguments) = operation(&GetLockStatus);
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
        unread_time: Duration::from_millis(200),
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
    // The hold passes on although the client has never closed its end.
    patiently(&mut sink.session).await.unwrap();
    let theirs = other.open_lock("jobs").await;
    assert!(other.try_acquire(theirs).await.unwrap().abandoned.is_some());
}

#[actix_rt::test]
async fn a_client_that_reads_late_is_not_listened_to_and_misses_nothing() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    // The answers are several times the limit for a client that does not read.
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
    // The release arrives in a later chunk than the first answers that cannot be written.
    let mut bytes = statuses(&mut client, lock, 5_000);
    assert!(bytes.len() > CHUNK_BYTES);
    bytes.extend(release(lock, 2));
    client.raw.write(&bytes).await.unwrap();
    client.close().await;
    let lock = other.open_lock("jobs").await;
    assert_eq!(other.try_acquire(lock).await.unwrap().abandoned, None);
}

/// Opens a value of `bytes` bytes, and returns its number.
async fn open_value(client: &mut Client, bytes: usize) -> u32 {
    open_named_value(client, "value", bytes).await
}

pub(super) async fn open_named_value(client: &mut Client, name: &str, bytes: usize) -> u32 {
    let spec = ValueSpec {
        value: Blob::from(vec![7; bytes]),
        schema: "bytes".to_owned(),
    };
    let spec = encoded(&spec);
    let opened = client.open(Value::KIND, Some(name), Some(&spec));
    opened.await.expect("a value")
}

/// The frames of `count` reads of a value, in one write.
pub(super) fn reads(client: &mut Client, value: u32, count: usize) -> Vec<u8> {
    let operation = number_of::<Value>(Read::NAME);
    let arguments = encoded(&Read);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let call = Request::Call {
            seq: client.seq(),
            object: value,
            operation,
            micros: None,
            arguments: BlobRef(&arguments),
        };
        frame::append(&mut bytes, &call, usize::MAX).unwrap();
    }
    bytes
}

/// Waits until a session only waits for its client, as far as others can tell.
pub(super) async fn until_served(other: &mut Client) {
    for _ in 0..3 {
        assert!(other.is_served().await);
    }
}

#[actix_rt::test]
async fn many_large_answers_are_encoded_one_by_one_and_all_of_them_come() {
    let house = House::new(Limits::default());
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client, 3 << 20).await;
    let bytes = reads(&mut client, value, 100);
    client.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    let kept = house.context.unread.used();
    assert!(kept < 7 << 20, "{kept} bytes are kept of 300 MiB");
    for seq in 2..=client.last_seq {
        let Heard::Reply(answered, body) = client.hear().await else {
            panic!("no reply to {seq}");
        };
        assert_eq!((answered, body.len()), (seq, (3 << 20) + 7));
    }
    assert!(client.is_served().await);
    assert_eq!(house.context.unread.used(), 0);
}

#[actix_rt::test]
async fn calls_behind_unread_answers_are_served_in_order_and_their_withdrawals_find_them() {
    let house = House::new(Limits::default());
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client, 2 << 20).await;
    let jobs = client.open_lock("jobs").await;
    let theirs = other.open_lock("jobs").await;
    other.try_acquire(theirs).await.unwrap();
    let held = other.last_seq;
    let mut bytes = reads(&mut client, value, 5);
    let last_read = client.last_seq;
    let (acquire, arguments) = operation(&Acquire);
    let mut acquires = Vec::new();
    for _ in 0..3 {
        let call = Request::Call {
            seq: client.seq(),
            object: jobs,
            operation: acquire,
            micros: None,
            arguments: BlobRef(&arguments),
        };
        frame::append(&mut bytes, &call, usize::MAX).unwrap();
        acquires.push(client.last_seq);
    }
    let withdraw = Request::Withdraw {
        object: jobs,
        seq: acquires[1],
    };
    frame::append(&mut bytes, &withdraw, usize::MAX).unwrap();
    client.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    other.raw.write(&release(theirs, held)).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..7 {
        answers.push(match client.hear().await {
            Heard::Reply(seq, _) => (seq, None),
            Heard::Fault(seq, fault) => (seq, Some(fault)),
            other => panic!("{other:?}"),
        });
    }
    let reads = answers.iter().filter(|(seq, _)| *seq <= last_read);
    let reads: Vec<u64> = reads.map(|(seq, _)| *seq).collect();
    assert_eq!(reads, [2, 3, 4, 5, 6].map(|place| last_read - 6 + place));
    answers.retain(|(seq, _)| *seq > last_read);
    answers.sort_by_key(|(seq, _)| *seq);
    let withdrawn = (acquires[1], Some(Fault::Withdrawn));
    assert_eq!(answers, [(acquires[0], None), withdrawn]);
    // The third session waits for the first, and is next.
    client.raw.write(&release(jobs, acquires[0])).await.unwrap();
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == acquires[2]));
}

#[actix_rt::test]
async fn client_that_dies_before_its_answers_are_read_leaves_at_once_what_it_sent_is_done() {
    let house = House::new(Limits::default());
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client, 2 << 20).await;
    let lock = client.open_lock("released").await;
    client.try_acquire(lock).await.unwrap();
    let released = client.last_seq;
    let kept = client.open_lock("kept").await;
    client.try_acquire(kept).await.unwrap();
    let mut bytes = reads(&mut client, value, 500);
    bytes.extend(release(lock, released));
    client.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    client.close().await;
    let lock = other.open_lock("released").await;
    assert_eq!(other.try_acquire(lock).await.unwrap().abandoned, None);
    let kept = other.open_lock("kept").await;
    assert!(other.try_acquire(kept).await.unwrap().abandoned.is_some());
}

#[actix_rt::test]
async fn client_that_reads_nothing_is_hung_up_and_told_why_if_it_reads_then() {
    let house = House::new(Limits {
        unread_time: Duration::from_millis(100),
        ..Limits::default()
    });
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client, 2 << 20).await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let bytes = reads(&mut client, value, 5);
    client.raw.write(&bytes).await.unwrap();
    // The holds pass on before the client is told.
    let theirs = other.open_lock("jobs").await;
    let (acquire, arguments) = operation(&Acquire);
    let waiting = other.send(theirs, acquire, None, &arguments).await;
    assert!(matches!(other.hear().await, Heard::Reply(seq, _) if seq == waiting));
    let reason = loop {
        let frame = client.raw.hear().await.expect("a bye and not the end");
        match Response::decode(&frame).expect("a response") {
            Response::Reply { .. } => {}
            Response::Bye { reason } => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.starts_with("it has read none of "), "{reason}");
}

#[actix_rt::test]
async fn client_that_reads_nothing_of_less_than_the_limit_is_never_hung_up() {
    time::pause();
    let unread_time = Duration::from_secs(30);
    let house = House::new(Limits {
        unread_time,
        ..Limits::default()
    });
    let mut client = house.welcome_in_memory().await;
    // A large answer lends its bytes to the frame, so each later answer is behind lent bytes.
    let value = open_value(&mut client, 300_000).await;
    let bytes = reads(&mut client, value, 3);
    client.raw.write(&bytes).await.unwrap();
    time::sleep(10 * unread_time).await;
    let status = statuses(&mut client, value, 1);
    client.raw.write(&status).await.unwrap();
    for seq in 2..client.last_seq {
        let Heard::Reply(answered, body) = client.hear().await else {
            panic!("no reply to {seq}");
        };
        assert_eq!((answered, body.len()), (seq, 300_007));
    }
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == client.last_seq));
    assert_eq!(house.context.unread.used(), 0);
}

/// Has a value of `bytes` bytes answer `count` calls of a client in one turn.
pub(super) async fn answer_at_once(
    client: &mut Client,
    other: &mut Client,
    bytes: usize,
    count: usize,
) {
    answer_named_at_once(client, other, "value", bytes, count).await;
}

/// Has a value with a name do so.
pub(super) async fn answer_named_at_once(
    client: &mut Client,
    other: &mut Client,
    name: &str,
    bytes: usize,
    count: usize,
) {
    let value = open_named_value(client, name, bytes).await;
    let theirs = open_named_value(other, name, bytes).await;
    let version = |status: ValueStatus| status.version;
    let counted = other.call(
        theirs,
        number_of::<Value>(GetValueStatus::NAME),
        None,
        &[0x90],
    );
    let since = counted.await.map(version).unwrap();
    let wait = number_of::<Value>(WaitChange::NAME);
    for _ in 0..count {
        client
            .send(
                value,
                wait,
                None,
                &encoded(&WaitChange {
                    since: since.into(),
                }),
            )
            .await;
    }
    while other
        .call(
            theirs,
            number_of::<Value>(GetValueStatus::NAME),
            None,
            &[0x90],
        )
        .await
        .map(|status: ValueStatus| status.waiting)
        != Ok(count.try_into().unwrap())
    {}
    let store = encoded(&Store {
        value: Blob::from(vec![7; bytes]),
    });
    let stored: Result<u64, Fault> = other
        .call(theirs, number_of::<Value>(Store::NAME), None, &store)
        .await;
    stored.unwrap();
}

#[actix_rt::test]
async fn answer_that_waited_is_encoded_once_less_than_the_limit_is_unread() {
    time::pause();
    let unread_time = Duration::from_secs(30);
    let house = House::new(Limits {
        unread_time,
        ..Limits::default()
    });
    let mut client = house.welcome_in_memory().await;
    let mut other = house.welcome_in_memory().await;
    // The stream takes three answers, the next eleven are encoded, and the others wait.
    answer_at_once(&mut client, &mut other, 100_000, 20).await;
    // The client reads a part of what was encoded before.
    for _ in 0..8 {
        time::sleep(unread_time / 10).await;
        assert!(matches!(client.hear().await, Heard::Reply(..)));
    }
    time::sleep(10 * unread_time).await;
    assert!(!client.session.is_finished(), "less than 1 MiB is unread");
}

#[actix_rt::test]
async fn client_that_stops_reading_is_hung_up_when_the_time_since_its_last_byte_is_over() {
    time::pause();
    let unread_time = Duration::from_secs(10);
    let house = House::new(Limits {
        unread_time,
        ..Limits::default()
    });
    for read_after in [Duration::ZERO, unread_time * 2 / 5, unread_time * 9 / 10] {
        let mut client = house.welcome_in_memory().await;
        let mut other = house.welcome_in_memory().await;
        answer_at_once(&mut client, &mut other, 100_000, 100).await;
        time::sleep(read_after).await;
        for _ in 0..2 {
            assert!(matches!(client.hear().await, Heard::Reply(..)));
        }
        let last_read = time::Instant::now();
        patiently(client.session).await.unwrap();
        // The manager gives the client two seconds to read the reason.
        let took = last_read.elapsed() - Duration::from_secs(2);
        let slack = Duration::from_millis(50);
        assert!(
            took >= unread_time && took < unread_time + slack,
            "{took:?}"
        );
    }
}

#[actix_rt::test]
async fn client_that_reads_a_little_now_and_then_is_hung_up_once_others_wait_for_its_room() {
    let house = House::new(Limits {
        unread_bytes: 1 << 20,
        unread_time: Duration::from_millis(300),
        ..Limits::default()
    });
    let (mut slow, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut slow, 2 << 20).await;
    let bytes = reads(&mut slow, value, 2);
    slow.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    let Client {
        mut raw, session, ..
    } = slow;
    let reading = actix_rt::spawn(async move {
        while raw.read_some(64).await > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    });
    let theirs = other.open(Value::KIND, Some("value"), None).await.unwrap();
    let bytes = reads(&mut other, theirs, 3);
    other.raw.write(&bytes).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(other.hear().await, Heard::Reply(..)));
    }
    patiently(session).await.unwrap();
    reading.abort();
}

#[actix_rt::test]
async fn short_answers_need_no_room_and_large_ones_wait_in_order() {
    let house = House::new(Limits {
        unread_bytes: 1 << 20,
        ..Limits::default()
    });
    let (mut first, mut second) = (house.welcome().await, house.welcome().await);
    let mut third = house.welcome().await;
    let value = open_value(&mut first, 2 << 20).await;
    let bytes = reads(&mut first, value, 1);
    first.raw.write(&bytes).await.unwrap();
    until_served(&mut third).await;
    let mut waiting = Vec::new();
    for client in [&mut second, &mut third] {
        let value = client.open(Value::KIND, Some("value"), None).await.unwrap();
        let bytes = reads(client, value, 1);
        client.raw.write(&bytes).await.unwrap();
        waiting.push(client.last_seq);
    }
    // A third client that dies in the queue does not delay the others.
    let mut dying = house.welcome().await;
    let theirs = dying.open(Value::KIND, Some("value"), None).await.unwrap();
    let bytes = reads(&mut dying, theirs, 1);
    dying.raw.write(&bytes).await.unwrap();
    let mut other = house.welcome().await;
    until_served(&mut other).await;
    assert!(house.context.unread.used() < 3 << 20);
    dying.close().await;
    assert!(matches!(first.hear().await, Heard::Reply(..)));
    for (client, seq) in [second, third].iter_mut().zip(waiting) {
        assert!(matches!(client.hear().await, Heard::Reply(answered, _) if answered == seq));
    }
}

#[actix_rt::test]
async fn client_with_large_answers_that_wait_is_told_at_once_that_the_manager_ends() {
    let house = House::new(Limits {
        unread_bytes: 0,
        ..Limits::default()
    });
    let mut client = house.welcome().await;
    let spec = encoded(&ValueSpec {
        value: Blob::from(vec![7; 1 << 20]),
        schema: "bytes".to_owned(),
    });
    let opened = client.open(Value::KIND, Some("value"), Some(&spec)).await;
    let value = opened.expect("a value");
    let read = number_of::<Value>(Read::NAME);
    client.send(value, read, None, &encoded(&Read)).await;
    assert!(house.welcome().await.is_served().await);
    client.session.abort();
    let frame = client.raw.hear().await.expect("a bye and not the end");
    let bye = Response::decode(&frame).expect("a response");
    assert!(matches!(bye, Response::Bye { .. }), "{bye:?}");
}
