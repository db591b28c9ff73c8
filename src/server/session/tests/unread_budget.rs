//! Sessions that share the manager's budget of unread bytes.

use std::time::Duration;

use lockkeeper_actors::{Primitive, data::Value};
use lockkeeper_test_support::seeded;
use rand::Rng;
use tokio::time;

use crate::{
    limits::Limits,
    server::session::tests::{
        Client, Heard, House, release,
        unread::{answer_at_once, answer_named_at_once, open_named_value, reads, until_served},
    },
};

/// A manager that has room for the unread answer of one client only.
fn narrow_house() -> House {
    House::new(Limits {
        unread_bytes: 1 << 16,
        ..Limits::default()
    })
}

/// Has a client that does not read take the whole budget.
async fn exhaust(client: &mut Client, other: &mut Client) {
    let value = open_named_value(client, "large", 2 << 20).await;
    let bytes = reads(client, value, 1);
    client.raw.write(&bytes).await.unwrap();
    until_served(other).await;
}

async fn hear_replies(client: &mut Client, count: usize) {
    for _ in 0..count {
        assert!(matches!(client.hear().await, Heard::Reply(..)));
    }
}

#[actix_rt::test]
async fn session_whose_answers_fit_its_own_share_after_all_blocks_no_other() {
    let house = narrow_house();
    let (mut first, mut second) = (house.welcome().await, house.welcome().await);
    let mut other = house.welcome().await;
    exhaust(&mut first, &mut other).await;
    // One answer fits the own share. The next one does not fit beside it, and does once it is written.
    answer_at_once(&mut second, &mut other, 10_000, 3).await;
    hear_replies(&mut second, 3).await;
    hear_replies(&mut first, 1).await;
    let value = other.open(Value::KIND, Some("large"), None).await.unwrap();
    let bytes = reads(&mut other, value, 1);
    other.raw.write(&bytes).await.unwrap();
    hear_replies(&mut other, 1).await;
    house.is_at_rest().await;
}

#[actix_rt::test]
async fn session_whose_client_does_not_read_is_served_again_once_there_is_room() {
    let house = House::new(Limits {
        unread_bytes: 1 << 20,
        ..Limits::default()
    });
    let (mut first, mut second) = (house.welcome().await, house.welcome().await);
    let mut other = house.welcome().await;
    let jobs = second.open_lock("jobs").await;
    second.try_acquire(jobs).await.unwrap();
    let held = second.last_seq;
    // The stream takes a part of the first answer, and the rest counts in the budget.
    let value = open_named_value(&mut second, "value", 600_000).await;
    let bytes = reads(&mut second, value, 1);
    second.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    exhaust(&mut first, &mut other).await;
    let mut bytes = reads(&mut second, value, 1);
    second.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    bytes = release(jobs, held);
    second.raw.write(&bytes).await.unwrap();
    until_served(&mut other).await;
    let theirs = other.open_lock("jobs").await;
    assert!(other.status(theirs).await.is_held);
    // The other client reads, and this one does not.
    hear_replies(&mut first, 1).await;
    time::timeout(Duration::from_secs(20), async {
        while other.status(theirs).await.is_held {}
    })
    .await
    .expect("the release is served");
    hear_replies(&mut second, 2).await;
    house.is_at_rest().await;
}

#[actix_rt::test]
async fn each_client_that_reads_gets_all_answers_beside_clients_that_do_not() {
    time::pause();
    let mut random = seeded();
    for _ in 0..20 {
        let house = House::new(Limits {
            unread_bytes: 1 << random.random_range(14..18),
            unread_time: Duration::from_secs(1),
            ..Limits::default()
        });
        let mut owner = house.welcome_in_memory().await;
        let mut values = Vec::new();
        for size in [
            5_000,
            10_000,
            200,
            random.random_range(200..100_000),
            100_000,
        ] {
            let name = format!("value of {size} bytes");
            open_named_value(&mut owner, &name, size).await;
            values.push(name);
        }
        let (mut idle, mut reading) = (Vec::new(), Vec::new());
        for place in 0..8 {
            let mut client = house.welcome_in_memory().await;
            let mut opened = Vec::new();
            for name in &values {
                let value = client.open(Value::KIND, Some(name), None).await;
                opened.push(value.unwrap());
            }
            let is_idle = place % 4 == 0;
            if !is_idle {
                // A client of short answers may need only its own share.
                opened.truncate(random.random_range(1..=opened.len()));
            }
            let mut bytes = Vec::new();
            let count = random.random_range(1..60);
            for _ in 0..count {
                let value = opened[random.random_range(0..opened.len())];
                bytes.extend(reads(&mut client, value, 1));
            }
            client.raw.write(&bytes).await.unwrap();
            let mut count = count;
            if !is_idle && random.random_bool(0.5) {
                hear_replies(&mut client, count).await;
                // Several answers of one turn wait at the same time.
                let (size, name) = (random.random_range(200..16_000), format!("own {place}"));
                count = random.random_range(2..8);
                answer_named_at_once(&mut client, &mut owner, &name, size, count).await;
            }
            if random.random_bool(0.3) {
                until_served(&mut owner).await;
            }
            if is_idle {
                idle.push(client);
            } else {
                let pause = Duration::from_micros(random.random_range(0..2_000));
                reading.push(actix_rt::spawn(async move {
                    for _ in 0..count {
                        time::sleep(pause).await;
                        hear_replies(&mut client, 1).await;
                    }
                    client
                }));
            }
        }
        for client in &mut reading {
            client.await.expect("it has all answers");
        }
        for client in idle {
            client.close().await;
        }
        house.is_at_rest().await;
    }
}
