//! Messages that have arrived in part: their bytes are limited, and sessions wait for room.

use std::time::Duration;

use lockkeeper_actors::{Primitive, data::Value};
use lockkeeper_protocol::{
    Operation, SessionId,
    codec::{Blob, BlobRef},
    frame::Request,
    operations::{Store, ValueSpec},
};

use crate::{
    limits::Limits,
    server::session::{
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
    let elsewhere = house.context.arriving.account(SessionId::new(1), Some(1));
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
    // A session that ends leaves the line.
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
        reason.contains("it has sent only a part of a message in 100ms"),
        "{reason}"
    );
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
