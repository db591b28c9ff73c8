//! Messages that have arrived in part: their bytes are limited, and sessions wait for room.

use std::time::Duration;

use lockkeeper_actors::{Primitive, data::Value};
use lockkeeper_protocol::{
    Operation,
    codec::{Blob, BlobRef},
    frame::Request,
    operations::{Store, ValueSpec, WaitChange},
};

use crate::{
    limits::Limits,
    server::session::{
        buffer_budget::Party,
        sizes::LARGE_BYTES,
        tests::{Client, Heard, House, encoded, number_of},
    },
    tests::raw::{frame, patiently},
};

/// A manager that has room for one message of most bytes.
fn narrow_house(unread_time: Duration) -> House {
    House::new(Limits {
        stored_bytes: 1 << 20,
        unread_time,
        ..Limits::default()
    })
}

const AN_HOUR: Duration = Duration::from_secs(3600);

/// The bytes of a message that is nearly as long as one may be that is not large.
const LONG: usize = 60_000;

async fn open_value(client: &mut Client) -> u32 {
    let spec = encoded(&ValueSpec {
        value: Blob::default(),
        schema: "bytes".to_owned(),
    });
    let opened = client.open(Value::KIND, Some("value"), Some(&spec)).await;
    opened.expect("a value")
}

/// The number and the frame of a call that sets a value to `bytes` bytes.
fn store(client: &mut Client, object: u32, bytes: usize) -> (u64, Vec<u8>) {
    let seq = client.seq();
    let value = Blob::from(vec![7; bytes]);
    let call = Request::Call {
        seq,
        object,
        operation: number_of::<Value>(Store::NAME),
        micros: None,
        arguments: BlobRef(&encoded(&Store { value })),
    };
    (seq, frame(&call))
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    patiently(waiting).await;
}

async fn is_answered(client: &mut Client, seq: u64) {
    let heard = client.hear().await;
    assert!(
        matches!(heard, Heard::Reply(answered, _) if answered == seq),
        "{heard:?}"
    );
}

/// Has a client send half of a message, and waits until its session has reserved room for all of it.
async fn send_half(house: &House, client: &mut Client) -> (u64, Vec<u8>) {
    let value = open_value(client).await;
    let (seq, mut bytes) = store(client, value, LONG);
    let rest = bytes.split_off(bytes.len() / 2);
    client.raw.write(&bytes).await.unwrap();
    until(|| house.context.arriving.used() >= LONG - 4096).await;
    (seq, rest)
}

#[actix_rt::test]
async fn sessions_wait_for_the_room_of_messages_that_have_arrived_in_part() {
    let house = narrow_house(AN_HOUR);
    let mut first = house.welcome().await;
    let (seq, rest) = send_half(&house, &mut first).await;
    let mut others = Vec::new();
    for count in 1..=8 {
        let mut other = house.welcome().await;
        let value = open_value(&mut other).await;
        let (seq, bytes) = store(&mut other, value, LONG);
        other.raw.write(&bytes).await.unwrap();
        until(|| house.context.arriving.waiters() >= count).await;
        others.push((other, seq));
    }
    assert!(house.context.arriving.used() < LARGE_BYTES);
    // Another process has its own share.
    let elsewhere = house.context.arriving.account(Party::Process(1));
    assert!(elsewhere.has_room());
    // Messages that take little room are served, however many they are.
    let mut small = house.welcome().await;
    let value = open_value(&mut small).await;
    let (mut batch, mut seqs) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (seq, bytes) = store(&mut small, value, 3_000);
        batch.extend(bytes);
        seqs.push(seq);
    }
    small.raw.write(&batch).await.unwrap();
    for seq in seqs {
        is_answered(&mut small, seq).await;
    }
    // A session that ends leaves the queue.
    let (leaving, _) = others.remove(3);
    drop(leaving.raw);
    first.raw.write(&rest).await.unwrap();
    is_answered(&mut first, seq).await;
    for (mut other, seq) in others {
        is_answered(&mut other, seq).await;
        assert!(other.is_served().await);
    }
    house.is_at_rest().await;
}

#[actix_rt::test]
async fn client_that_does_not_complete_a_message_is_hung_up_only_while_others_wait() {
    let house = narrow_house(Duration::from_millis(100));
    let mut first = house.welcome().await;
    let (seq, rest) = send_half(&house, &mut first).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.raw.write(&rest).await.unwrap();
    is_answered(&mut first, seq).await;
    send_half(&house, &mut first).await;
    let mut second = house.welcome().await;
    let value = open_value(&mut second).await;
    let (seq, bytes) = store(&mut second, value, LONG);
    second.raw.write(&bytes).await.unwrap();
    is_answered(&mut second, seq).await;
    let reason = first.hear_bye().await;
    assert!(
        reason.contains("a message of it has been incomplete for 100ms"),
        "{reason}"
    );
    house.is_at_rest().await;
}

/// Sends calls that wait until a new value is longer than the outgoing side takes. Returns the value.
async fn wait_for_change(client: &mut Client, calls: usize) -> u32 {
    let value = open_value(client).await;
    let wait = number_of::<Value>(WaitChange::NAME);
    for _ in 0..calls {
        let arguments = encoded(&WaitChange { since: 0 });
        client.send(value, wait, None, &arguments).await;
    }
    value
}

/// Has another client answer these calls, so that the session of the first one stops reading.
async fn answer_all(house: &House, other: &mut Client) -> u32 {
    let value = open_value(other).await;
    let (seq, bytes) = store(other, value, 100_000);
    other.raw.write(&bytes).await.unwrap();
    is_answered(other, seq).await;
    until(|| house.context.shell.full_sinks().get() == 1).await;
    value
}

#[actix_rt::test]
async fn session_whose_client_does_not_read_blocks_no_message_of_others() {
    let house = narrow_house(AN_HOUR);
    let all = house.context.arriving.account(Party::Process(1));
    all.set(2 * LARGE_BYTES);
    let mut first = house.welcome().await;
    let value = wait_for_change(&mut first, 20).await;
    let (stored, bytes) = store(&mut first, value, LONG);
    first.raw.write(&bytes).await.unwrap();
    until(|| house.context.arriving.waiters() == 1).await;
    let mut second = house.welcome_in_memory().await;
    let theirs = answer_all(&house, &mut second).await;
    let (seq, bytes) = store(&mut second, theirs, LONG);
    let writing = actix_rt::spawn(async move {
        second.raw.write(&bytes).await.unwrap();
        second
    });
    until(|| house.context.arriving.waiters() >= 1).await;
    drop(all);
    let mut second = patiently(writing).await.unwrap();
    is_answered(&mut second, seq).await;
    // Once the client reads, its message is served as well.
    while !matches!(first.hear().await, Heard::Reply(seq, _) if seq == stored) {}
    house.is_at_rest().await;
}

#[actix_rt::test]
async fn slow_reader_that_does_not_complete_a_message_is_hung_up_while_others_wait() {
    tokio::time::pause();
    let unread_time = Duration::from_secs(1);
    let house = narrow_house(unread_time);
    let mut first = house.welcome_in_memory().await;
    let value = wait_for_change(&mut first, 60).await;
    let (_, bytes) = store(&mut first, value, LONG);
    first.raw.write(&bytes[..LONG / 2]).await.unwrap();
    until(|| house.context.arriving.used() >= LONG - 4096).await;
    let mut second = house.welcome_in_memory().await;
    let theirs = answer_all(&house, &mut second).await;
    let served = actix_rt::spawn(async move {
        let (seq, bytes) = store(&mut second, theirs, LONG);
        second.raw.write(&bytes).await.unwrap();
        is_answered(&mut second, seq).await;
    });
    let mut replies = 0;
    let reason = loop {
        // The client reads enough for its answers alone.
        if !served.is_finished() {
            tokio::time::sleep(unread_time / 5).await;
        }
        match first.hear().await {
            Heard::Reply(..) => replies += 1,
            other => break format!("{other:?}"),
        }
    };
    // Its session was full until then, and some answers were dropped.
    assert!(replies < 60, "{replies}");
    let expected = "a message of it has been incomplete for 1s";
    assert!(reason.contains(expected), "{reason}");
    served.await.unwrap();
    house.is_at_rest().await;
}

#[actix_rt::test]
async fn hello_that_has_arrived_in_part_counts() {
    let house = narrow_house(AN_HOUR);
    let program = "x".repeat(LONG);
    let hello = Request::Hello {
        version: lockkeeper_protocol::frame::VERSION,
        pid: 1,
        program: &program,
        label: "",
        capabilities: lockkeeper_protocol::frame::Capabilities::ALL,
        former: None,
    };
    let bytes = frame(&hello);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = house.let_in();
        client.raw.write(&bytes[..LONG]).await.unwrap();
        clients.push(client);
    }
    until(|| house.context.arriving.waiters() >= 3).await;
    assert!(house.context.arriving.used() < LARGE_BYTES);
    for client in &mut clients {
        client.raw.write(&bytes[LONG..]).await.unwrap();
        assert!(client.raw.hear().await.is_some(), "a welcome");
    }
    house.is_at_rest().await;
}
