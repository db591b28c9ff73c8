//! Answers that a client does not read take little memory, other clients are served meanwhile, and all
//! answers arrive once the client reads.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use lockkeeper::{Limits, Manager, Value, kind::Primitive};
use lockkeeper_protocol::{
    Operation, Question, codec,
    frame::{self, Request},
    operations::{Read, WaitChange},
};

use super::{Host, Raw};
use crate::guards::{Fetch, Payloads};
use crate::run;
use lockkeeper_test_support::{Role, report};

const MEGABYTE: usize = 1 << 20;

/// The limit of the manager's additional memory.
const MOST_MORE: usize = 80 * MEGABYTE;

/// The limit of a round trip of another client, on any machine.
const MOST_STALL: Duration = Duration::from_secs(2);

/// Acquires and releases a lock `count` times, and returns the longest time of an acquire.
async fn longest_round_trip(manager: &Manager, count: usize) -> Duration {
    let lock = manager.lock().await.unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let begun = Instant::now();
        lock.acquire().await.unwrap().release().await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[test]
fn reads_of_a_large_value_in_one_write_take_no_memory_and_delay_no_client() {
    run(async {
        let host = Host::start(Limits::default());
        let manager = host.connect().await;
        let value = manager.named("large").value("x".repeat(20 * MEGABYTE));
        let _value = value.await.unwrap();
        let mut greedy = Raw::connect(&host.address);
        let read = greedy.open("value", "large", Read::NAME);
        let before = host.peak();
        greedy.call(read, &codec::encode(&Read).unwrap(), 40);
        assert!(longest_round_trip(&manager, 200).await < MOST_STALL);
        let all = greedy.receive_replies(40);
        assert!(all > 800 * MEGABYTE, "{all}");
        let more = host.peak() - before;
        assert!(more < MOST_MORE, "{more} bytes more");
    });
}

#[test]
fn program_that_reads_many_large_values_at_once_gets_them_and_keeps_its_lock() {
    run(async {
        let host = Host::start(Limits::default());
        let manager = host.connect().await;
        let guard = manager.lock().await.unwrap().acquire().await.unwrap();
        let value = manager.value("x".repeat(10 * MEGABYTE)).await.unwrap();
        let before = host.peak();
        let gets = (0..20).map(|_| value.get());
        for got in join_all(gets).await {
            assert_eq!(got.unwrap().len(), 10 * MEGABYTE);
        }
        assert!(guard.is_valid());
        guard.release().await.unwrap();
        let more = host.peak() - before;
        assert!(more < MOST_MORE, "{more} bytes more");
    });
}

#[test]
fn answers_to_many_watchers_share_a_large_value() {
    run(async {
        let host = Host::start(Limits::default());
        let manager = host.connect().await;
        let value = manager.named("large").value(String::new()).await.unwrap();
        let mut greedy = Raw::connect(&host.address);
        let wait = greedy.open("value", "large", WaitChange::NAME);
        let arguments = codec::encode(&WaitChange { since: 0 }).unwrap();
        greedy.call(wait, &arguments, 200);
        while value.status().await.unwrap().waiting < 200 {
            tokio::task::yield_now().await;
        }
        let before = host.peak();
        value.set("x".repeat(2 * MEGABYTE)).await.unwrap();
        assert!(longest_round_trip(&manager, 50).await < MOST_STALL);
        assert!(greedy.receive_replies(200) > 400 * MEGABYTE);
        let more = host.peak() - before;
        assert!(more < MOST_MORE, "{more} bytes more");
    });
}

#[test]
fn unshared_replies_are_encoded_as_they_are_read() {
    run(async {
        let host = Host::start(Limits::default());
        let manager = host.connect().await;
        let _spring = manager.named("spring").open::<Payloads>(()).await;
        let mut greedy = Raw::connect(&host.address);
        let pour = greedy.open(Payloads::KIND, "spring", Fetch::NAME);
        let before = host.peak();
        let arguments = codec::encode(&Fetch {
            bytes: 4 * MEGABYTE,
        });
        greedy.call(pour, &arguments.unwrap(), 100);
        assert!(longest_round_trip(&manager, 50).await < MOST_STALL);
        assert!(greedy.receive_replies(100) > 400 * MEGABYTE);
        let more = host.peak() - before;
        assert!(more < MOST_MORE, "{more} bytes more");
    });
}

#[test]
fn inspections_in_one_write_are_answered_as_they_are_read() {
    run(async {
        let host = Host::start(Limits::default());
        let manager = host.connect().await;
        for number in 0..500 {
            let name = format!("{number:0>250}");
            manager.named(&name).lock().await.unwrap();
        }
        let mut greedy = Raw::connect(&host.address);
        let before = host.peak();
        let mut bytes = Vec::new();
        for _ in 0..1_200 {
            let inspect = Request::Inspect {
                seq: greedy.seq(),
                question: Question::All(0),
            };
            frame::append(&mut bytes, &inspect, usize::MAX).unwrap();
        }
        greedy.write(&bytes);
        assert!(longest_round_trip(&manager, 50).await < MOST_STALL);
        assert!(greedy.receive_replies(1_200) > 140 * MEGABYTE);
        let more = host.peak() - before;
        assert!(more < MOST_MORE / 2, "{more} bytes more");
    });
}

/// Reads a large value many times, and reports the number of bytes.
pub(crate) async fn read_much(value: Value<String>) {
    let mut all = 0;
    for _ in 0..20 {
        all += value.get().await.unwrap().len();
    }
    report(&all.to_string());
}

#[test]
fn slow_readers_of_one_process_do_not_delay_the_answers_of_another() {
    run(async {
        let unread_time = Duration::from_secs(40);
        let host = Host::start(Limits {
            unread_bytes: 8 * MEGABYTE,
            unread_time,
            ..Limits::default()
        });
        let manager = host.connect().await;
        let value = manager.named("large").value("x".repeat(MEGABYTE));
        let value = value.await.unwrap();
        // Together they ask for much more than the manager keeps, and read nothing.
        let mut slow: Vec<Raw> = (0..60).map(|_| Raw::connect(&host.address)).collect();
        for client in &mut slow {
            let read = client.open("value", "large", Read::NAME);
            client.call(read, &codec::encode(&Read).unwrap(), 3);
        }
        longest_round_trip(&manager, 50).await;
        let begun = Instant::now();
        let mut reader = Role::start("resources::reader", &value);
        let read = tokio::task::spawn_blocking(move || reader.next_report());
        assert_eq!(read.await.unwrap(), (20 * MEGABYTE).to_string());
        let took = begun.elapsed();
        assert!(took < unread_time / 2, "{took:?}");
        // The slow ones read now, and get all of their answers.
        thread::scope(|scope| {
            for client in &mut slow {
                scope.spawn(|| assert!(client.receive_replies(3) > 3 * MEGABYTE));
            }
        });
    });
}
