//! Violations of the protocol: the client gets the reason in a `Bye`, its session ends and releases all
//! that it held, and other sessions are not affected.

use std::time::Duration;

use lockkeeper_protocol::{
    CallId, Question, Refusal,
    codec::{self, BlobRef},
    frame::{self, Request, Response},
    operations::{Acquire, Granted},
};
use lockkeeper_test_support::seeded;
use rand::Rng;

use crate::{
    limits::Limits,
    server::session::{
        farewell::refuse,
        tests::{Heard, House, KIND, hello, operation, release},
    },
    tests::raw::{Raw, frame},
};

/// The manager's reply to a client whose stream begins with these bytes.
async fn bye_to_stranger(bytes: &[u8]) -> String {
    let house = House::new(Limits::default());
    let stranger = house.let_in();
    stranger.raw.write(bytes).await.unwrap();
    let reason = stranger.hear_bye().await;
    assert!(house.welcome().await.is_served().await);
    reason
}

/// The manager's reply to a client that sends these bytes after its hello, while it holds a lock that another
/// client waits for.
async fn bye_to_holder(bytes: &[u8]) -> String {
    bye_to_holder_of(Limits::default(), bytes).await
}

async fn bye_to_holder_of(limits: Limits, bytes: &[u8]) -> String {
    let house = House::new(limits);
    let (mut holder, mut other) = (house.welcome().await, house.welcome().await);
    let lock = holder.open_lock("jobs").await;
    holder.try_acquire(lock).await.unwrap();
    let (number, arguments) = operation(&Acquire);
    let lock = other.open_lock("jobs").await;
    let waiting = other.send(lock, number, None, &arguments).await;
    holder.raw.write(bytes).await.unwrap();
    let reason = holder.hear_bye().await;
    let Heard::Reply(answered, body) = other.hear().await else {
        panic!("the lock is passed on");
    };
    assert_eq!(answered, waiting);
    let granted: Result<Granted, Refusal> = codec::decode(&body).unwrap();
    let grant = granted.unwrap();
    assert!(grant.abandoned.is_some());
    reason
}

fn withdraw() -> Vec<u8> {
    frame(&Request::Withdraw { object: 0, seq: 1 })
}

fn remove(seq: u64) -> Vec<u8> {
    frame(&Request::Remove { seq, name: "none" })
}

#[actix_rt::test]
async fn garbage_instead_of_a_hello_is_told_so() {
    let http = bye_to_stranger(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(http.contains("above the limit of 65536"), "{http}");
    let empty = bye_to_stranger(&[0, 0, 0, 0]).await;
    assert!(empty.starts_with("bad frame: "), "{empty}");
    let other = bye_to_stranger(&frame(&(1, "lockpicker", 1, 1, "", ""))).await;
    assert!(other.contains("does not say lockkeeper"), "{other}");
    let early = bye_to_stranger(&withdraw()).await;
    assert_eq!(early, "the first frame is no hello");
}

#[actix_rt::test]
async fn another_version_is_told_which_is_spoken_here_whatever_its_hello_looks_like() {
    let theirs = bye_to_stranger(&frame(&(1, frame::MAGIC, 2, 1, "", ""))).await;
    assert_eq!(
        theirs,
        "version 2 of the protocol is not spoken here, only 1"
    );
    let later = bye_to_stranger(&frame(&(1, frame::MAGIC, 99, [1, 2], ()))).await;
    assert!(later.starts_with("version 99 "), "{later}");
}

#[actix_rt::test]
async fn a_first_frame_above_its_limit_is_refused() {
    let program = "x".repeat(frame::FIRST_FRAME_BYTES);
    let reason = bye_to_stranger(&frame(&(1, frame::MAGIC, 1, 1, program, ""))).await;
    assert!(reason.contains("above the limit of 65536"), "{reason}");
}

#[actix_rt::test]
async fn a_client_that_says_no_hello_in_time_is_hung_up() {
    for said in [&[][..], &frame(&hello(1))[..9]] {
        let house = House::new(Limits {
            handshake_time: Duration::from_millis(20),
            ..Limits::default()
        });
        let silent = house.let_in();
        silent.raw.write(said).await.unwrap();
        assert_eq!(silent.hear_bye().await, "no hello came in time");
    }
}

#[actix_rt::test]
async fn a_client_that_leaves_in_its_hello_leaves_no_session() {
    let hello = frame(&hello(1));
    for cut in 0..hello.len() {
        let house = House::new(Limits::default());
        let client = house.let_in();
        client.raw.write(&hello[..cut]).await.unwrap();
        client.close().await;
    }
}

#[actix_rt::test]
async fn a_refused_client_is_told_why_before_it_says_anything() {
    let (mut raw, stream) = Raw::client();
    refuse(&*stream, "limit reached".to_owned(), Limits::default());
    drop(stream);
    let frame = raw.hear().await.expect("a bye");
    let Ok(Response::Bye { reason }) = Response::decode(&frame) else {
        panic!("no bye");
    };
    assert_eq!((reason.as_str(), raw.hear().await), ("limit reached", None));
}

#[actix_rt::test]
async fn a_second_hello_ends_the_session() {
    assert_eq!(bye_to_holder(&frame(&hello(1))).await, "a second hello");
}

#[actix_rt::test]
async fn what_is_no_request_ends_the_session() {
    let mut nested = vec![0, 0, 0x10, 0];
    nested.extend_from_slice(&[0x91; 0x1000]);
    let response = frame(&Response::Revoked { seq: 1 });
    let short = frame(&(5, 0));
    let long = frame(&(5, 0, 1, 2));
    let map = [0, 0, 0, 1, 0x80];
    let negative = frame(&(5, -1, 1));
    let unknown = frame(&(12, 3, 0));
    let nameless = frame(&(3, "three", 0, 0, (), BlobRef(&[0x90])));
    let unnumbered = frame(&(3, -3, 0, 0, (), BlobRef(&[0x90])));
    for bytes in [
        &nested,
        &response,
        &short,
        &long,
        &negative,
        &unknown,
        &nameless,
        &unnumbered,
        &map[..],
    ] {
        let reason = bye_to_holder(bytes).await;
        assert!(reason.starts_with("bad frame: "), "{reason}");
    }
}

#[actix_rt::test]
async fn a_frame_above_the_limit_ends_the_session_before_it_is_sent() {
    let limits = Limits {
        frame_bytes: 1 << 16,
        ..Limits::default()
    };
    let reason = bye_to_holder_of(limits, &[0, 1, 0, 1]).await;
    assert_eq!(reason, "a frame of 65537 bytes is above the limit of 65536");
}

#[actix_rt::test]
async fn a_number_that_does_not_rise_ends_the_session() {
    // The holder has used the numbers 1 and 2.
    for (seq, last) in [(0, 2), (1, 2), (2, 2), (CallId::ONE_WAY, 2), (u64::MAX, 2)] {
        let reason = bye_to_holder(&remove(seq)).await;
        assert_eq!(reason, format!("call {seq} does not count up from {last}"));
    }
    for request in [
        Request::Call {
            seq: 2,
            object: 0,
            operation: 0,
            micros: None,
            arguments: BlobRef(&[0x90]),
        },
        Request::CallBy {
            seq: 2,
            object: 0,
            operation: 0,
            micros: None,
            arguments: BlobRef(&[0x90]),
            caller: 7,
        },
        Request::Inspect {
            seq: 2,
            question: Question::All(0),
        },
        Request::ReportPipe {
            seq: 2,
            object: 0,
            operation: 0,
        },
        Request::Open {
            seq: 2,
            kind: KIND,
            name: None,
            spec: None,
        },
    ] {
        let reason = bye_to_holder(&frame(&request)).await;
        assert!(reason.ends_with("does not count up from 2"), "{reason}");
    }
    // Another error in the frame does not excuse its number.
    for bad in [frame(&(7, 2, "Nothing")), frame(&(3, 2))] {
        let reason = bye_to_holder(&bad).await;
        assert_eq!(reason, "call 2 does not count up from 2");
    }
}

#[actix_rt::test]
async fn what_stands_before_an_offence_is_done() {
    let house = House::new(Limits::default());
    let (mut holder, mut other) = (house.welcome().await, house.welcome().await);
    let lock = holder.open_lock("jobs").await;
    holder.try_acquire(lock).await.unwrap();
    let mut bytes = release(lock, 2);
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    holder.raw.write(&bytes).await.unwrap();
    holder.hear_bye().await;
    let lock = other.open_lock("jobs").await;
    assert_eq!(other.try_acquire(lock).await.unwrap().abandoned, None);
}

#[actix_rt::test]
async fn random_bytes_end_only_the_session_that_they_came_from() {
    let mut random = seeded();
    let house = House::new(Limits::default());
    let mut bystander = house.welcome().await;
    for _ in 0..200 {
        let mut culprit = house.welcome().await;
        culprit.open_lock("theirs").await;
        for _ in 0..random.random_range(1..20) {
            let mut bytes = match random.random_range(0..4) {
                0 => withdraw(),
                1 => remove(random.random_range(0..40)),
                2 => release(0, 2),
                _ => frame(&hello(1)),
            };
            for _ in 0..random.random_range(0..3) {
                let place = random.random_range(0..bytes.len());
                bytes[place] = random.random();
            }
            // The session may have ended before.
            if culprit.raw.write(&bytes).await.is_err() {
                break;
            }
        }
        culprit.close().await;
        assert!(bystander.is_served().await);
    }
}
