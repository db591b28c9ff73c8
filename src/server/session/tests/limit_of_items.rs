//! What is put fits into the answer that gives it back, up to the exact limit.

use lockkeeper_actors::{
    Primitive,
    data::{Queue, Value},
};
use lockkeeper_protocol::{
    Fault, Operation, Refusal,
    codec::Blob,
    frame::{ANSWER_MARGIN_BYTES, Capabilities, FIRST_FRAME_BYTES, Request, VERSION},
    operations::{
        Delivery, Get, GetQueueStatus, Put, QueueSpec, QueueStatus, Read, Store, Swap, ValueSpec,
        Versioned,
    },
};

use crate::{
    limits::Limits,
    server::session::tests::{Client, House, encoded, number_of},
};

const LIMIT: usize = 2 * FIRST_FRAME_BYTES;

/// The most bytes of a call's arguments, or of a spec.
const MOST: usize = LIMIT - ANSWER_MARGIN_BYTES;

fn house() -> House {
    House::new(Limits {
        frame_bytes: LIMIT,
        ..Limits::default()
    })
}

/// A client whose peer takes as many bytes in an answer as a peer can.
async fn welcome(house: &House) -> Client {
    let mut client = house.let_in();
    let text = "p".repeat(1000);
    let hello = Request::Hello {
        version: VERSION,
        pid: u32::MAX,
        program: &text,
        label: &text,
        capabilities: Capabilities::ALL,
        former: None,
    };
    client.raw.send(&hello).await;
    client.raw.hear().await.expect("a welcome");
    client
}

/// Bytes that make `wrap` encode to that many bytes.
fn of_size(size: usize, wrap: impl Fn(Blob) -> Vec<u8>) -> Vec<u8> {
    let blob = |bytes: usize| wrap(Blob::from(vec![7; bytes]));
    let around = blob(MOST - 100).len() - (MOST - 100);
    let encoded = blob(size - around);
    assert_eq!(encoded.len(), size);
    encoded
}

fn put(item: Blob) -> Vec<u8> {
    encoded(&Put { item })
}

fn limit(what: &str) -> Fault {
    Fault::limit(what, MOST)
}

#[actix_rt::test]
async fn item_of_the_exact_limit_is_delivered_also_after_its_taker_died_and_a_larger_one_is_refused()
 {
    let house = house();
    let mut taker = welcome(&house).await;
    let spec = encoded(&QueueSpec {
        capacity: None,
        schema: "bytes".to_owned(),
    });
    let queue = taker
        .open(Queue::KIND, Some("q"), Some(&spec))
        .await
        .unwrap();
    let number = number_of::<Queue>(Put::NAME);
    let fits: Result<Result<(), Refusal>, Fault> =
        taker.call(queue, number, None, &of_size(MOST, put)).await;
    assert_eq!(fits, Ok(Ok(())));
    let larger: Result<Result<(), Refusal>, Fault> = taker
        .call(queue, number, None, &of_size(MOST + 1, put))
        .await;
    assert_eq!(larger, Err(limit("bytes of arguments")));
    let get = number_of::<Queue>(Get::NAME);
    for attempts in 1..=2 {
        let got: Result<Result<Delivery, Refusal>, Fault> =
            taker.call(queue, get, None, &encoded(&Get)).await;
        let delivery = got.unwrap().unwrap();
        assert_eq!(delivery.attempts, attempts);
        assert_eq!(delivery.abandoned.is_some(), attempts > 1);
        assert!(delivery.item.0.len() > MOST - 10);
        taker.close().await;
        taker = welcome(&house).await;
        taker.open(Queue::KIND, Some("q"), None).await.unwrap();
    }
    let count = number_of::<Queue>(GetQueueStatus::NAME);
    let counted: Result<QueueStatus, Fault> = taker
        .call(queue, count, None, &encoded(&GetQueueStatus))
        .await;
    assert_eq!(counted.map(|status| status.len), Ok(1));
}

#[actix_rt::test]
async fn value_of_the_exact_limit_is_read_and_a_larger_one_is_refused() {
    let house = house();
    let mut client = welcome(&house).await;
    let spec = |value| {
        encoded(&ValueSpec {
            value,
            schema: "item".to_owned(),
        })
    };
    let larger = of_size(MOST + 1, spec);
    let refused = client.open(Value::KIND, None, Some(&larger)).await;
    assert_eq!(refused, Err(limit("bytes of a spec")));
    let fits = of_size(MOST, spec);
    let opened = client.open(Value::KIND, None, Some(&fits));
    let value = opened.await.unwrap();
    let read = number_of::<Value>(Read::NAME);
    let store = |value| encoded(&Store { value });
    let larger: Result<u64, Fault> = client
        .call(
            value,
            number_of::<Value>(Store::NAME),
            None,
            &of_size(MOST + 1, store),
        )
        .await;
    assert_eq!(larger, Err(limit("bytes of arguments")));
    let swap = number_of::<Value>(Swap::NAME);
    for _ in 0..2 {
        let was: Result<Versioned<Blob>, Fault> =
            client.call(value, read, None, &encoded(&Read)).await;
        assert!(was.unwrap().value.0.len() > MOST - 20);
        let arguments = of_size(MOST, |value| encoded(&Swap { value }));
        let was: Result<Versioned<Blob>, Fault> = client.call(value, swap, None, &arguments).await;
        assert!(was.unwrap().value.0.len() > MOST - 20);
    }
}
