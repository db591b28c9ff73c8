//! What clients have the manager keep, beside what its kinds count: messages that come in, names and opened
//! objects.

use lockkeeper_actors::{Primitive, data::Value};
use lockkeeper_protocol::{
    Fault, Operation,
    codec::{Blob, BlobRef},
    frame::Request,
    operations::{Store, ValueSpec},
};

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, KIND, SPEC, encoded, number_of},
    tests::raw::frame,
};

const MOST: usize = 1 << 20;

fn house() -> House {
    House::new(Limits {
        stored_bytes: MOST,
        ..Limits::default()
    })
}

fn limit() -> Fault {
    Fault::limit("bytes of stored data", MOST)
}

async fn open_value(client: &mut Client) -> u32 {
    let spec = encoded(&ValueSpec {
        value: Blob::default(),
        holds: "bytes".to_owned(),
    });
    let opened = client.open(Value::KIND, Some("value"), Some(&spec));
    opened.await.expect("a value")
}

/// The frame of a call that sets a value of that many bytes.
fn store(client: &mut Client, value: u32, bytes: usize) -> (u64, Vec<u8>) {
    let arguments = encoded(&Store {
        value: Blob::from(vec![7; bytes]),
    });
    let seq = client.seq();
    let call = Request::Call {
        seq,
        object: value,
        operation: number_of::<Value>(Store::NAME),
        micros: None,
        arguments: BlobRef(&arguments),
    };
    (seq, frame(&call))
}

#[actix_rt::test]
async fn large_messages_that_come_in_count_and_those_without_room_are_refused() {
    let house = house();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client).await;
    let theirs = open_value(&mut other).await;
    let (first, bytes) = store(&mut client, value, MOST / 10 * 7);
    let (begin, rest) = bytes.split_at(bytes.len() - 1);
    client.raw.write(begin).await.unwrap();
    while house.context.shell.outbox().store(MOST / 2).is_ok() {
        tokio::task::yield_now().await;
    }
    // As often as it tries, and whatever follows.
    for _ in 0..3 {
        let (seq, bytes) = store(&mut other, theirs, MOST / 2);
        other.raw.write(&bytes).await.unwrap();
        assert_eq!(other.hear().await, Heard::Fault(seq, limit()));
        assert!(other.is_served().await);
    }
    client.raw.write(rest).await.unwrap();
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == first));
    // A value in place of another needs no room of its own once the message is there.
    let (seq, bytes) = store(&mut other, theirs, MOST / 10);
    other.raw.write(&bytes).await.unwrap();
    assert!(matches!(other.hear().await, Heard::Reply(answered, _) if answered == seq));
    // What came in of a client that has gone counts no more.
    let (_, bytes) = store(&mut client, value, MOST / 10 * 7);
    client.raw.write(&bytes[..bytes.len() - 1]).await.unwrap();
    client.close().await;
    let (seq, bytes) = store(&mut other, theirs, MOST / 10 * 7);
    other.raw.write(&bytes).await.unwrap();
    assert!(matches!(other.hear().await, Heard::Reply(answered, _) if answered == seq));
}

#[actix_rt::test]
async fn objects_that_sessions_open_count_until_they_are_removed_or_the_session_ends() {
    let house = house();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let mut made = 0;
    let refused = loop {
        let name = format!("{made:0>250}");
        match client.open(KIND, Some(&name), Some(SPEC)).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, limit());
    assert!((2_000..3_000).contains(&made), "{made}");
    // Without a name they take less, and there is room for two at the most.
    let mut unnamed = Ok(0);
    for _ in 0..3 {
        unnamed = unnamed.and(other.open(KIND, None, Some(SPEC)).await);
    }
    assert_eq!(unnamed, Err(limit()));
    // Those that are open are served, and can be removed.
    assert!(!client.status(0).await.held);
    client.remove(&format!("{:0>250}", 1)).await.unwrap();
    assert!(other.open(KIND, None, Some(SPEC)).await.is_ok());
    client.close().await;
    assert!(other.open(KIND, Some("another"), Some(SPEC)).await.is_ok());
    let large = vec![7; MOST];
    let large = other.open(KIND, Some("large"), Some(&large)).await;
    assert_eq!(large, Err(limit()));
}
