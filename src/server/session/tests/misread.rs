//! Malformed frames and withdrawals: which of them fail one call, and which are ignored.

use lockkeeper_protocol::{
    Fault, Operation, Proof, Refusal,
    codec::{self, BlobRef},
    frame::Request,
    operations::{Acquire, Adopt, Granted, Release},
};
use serde::de::DeserializeOwned;

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, KIND, encoded, operation},
};

async fn client() -> (House, Client) {
    let house = House::new(Limits::default());
    let client = house.welcome().await;
    (house, client)
}

#[actix_rt::test]
async fn a_frame_that_does_not_fit_fails_its_own_call_and_no_other() {
    let (house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.expect("it is free");
    let arguments = BlobRef(&[0x90]);
    let deep = [&[0x93, 6, 0][..], &[0x91; 100]].concat();
    let not_utf8 = [0x93, 6, 0, 0xa1, 0xff];
    let behind = [&encoded(&(6, 0, "jobs"))[..], &[0xc0]].concat();
    for message in [
        // Unknown questions.
        encoded(&(7, 0, "Everything")),
        encoded(&(7, 0, Some(7))),
        encoded(&(7, 0)),
        // Waits that are not a number of microseconds.
        encoded(&(3, 0, lock, 0, -1, arguments)),
        encoded(&(3, 0, lock, 0, i64::MIN, arguments)),
        encoded(&(3, 0, lock, 0, 1e30, arguments)),
        encoded(&(8, 0, lock, 0, "soon", arguments, 1)),
        // Numbers that are too large, and values that are no numbers.
        encoded(&(3, 0, 1_u64 << 32, 0, (), arguments)),
        encoded(&(3, 0, lock, u64::MAX, (), arguments)),
        encoded(&(8, 0, lock, 0, (), arguments, -1)),
        encoded(&(9, 0, lock, 0, "the first")),
        // Arguments and names of the wrong type.
        encoded(&(3, 0, lock, 0, (), "none")),
        encoded(&(3, 0, lock, 0, (), [0; 0])),
        encoded(&(2, 0, 7, (), ())),
        encoded(&(2, 0, KIND, 7, ())),
        encoded(&(2, 0, KIND, (), "spec")),
        encoded(&(6, 0, ())),
        not_utf8.to_vec(),
        deep,
        // Too few and too many elements, and bytes behind the last element.
        encoded(&(3, 0, lock, 0)),
        encoded(&(3, 0, lock, 0, (), arguments, 7)),
        encoded(&(6, 0, "jobs", "again")),
        behind,
    ] {
        let seq = client.seq();
        let mut bad = message.clone();
        bad[2] = u8::try_from(seq).expect("a short number");
        let length = u32::try_from(bad.len()).expect("a short frame");
        let bytes = [&length.to_be_bytes(), &bad[..]].concat();
        client.raw.write(&bytes).await.unwrap();
        let Heard::Fault(answered, Fault::BadArguments(why)) = client.hear().await else {
            panic!("a fault of the call: {message:?}");
        };
        assert_eq!(answered, seq, "{message:?}");
        assert!(!why.is_empty());
    }
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    assert_eq!(other.try_acquire(theirs).await, Err(Fault::TimedOut));
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn a_fault_of_a_frame_tells_which_element_does_not_fit() {
    let (_house, mut client) = client().await;
    let seq = client.seq();
    let negative = (3, seq, 0, 0, -1, BlobRef(&[0x90]));
    client.raw.send(&negative).await;
    let why = "element 5: expected a number that is not negative".to_owned();
    let fault = Fault::BadArguments(why);
    assert_eq!(client.hear().await, Heard::Fault(seq, fault));
}

/// Sends an operation, and returns its answer with the number of the call.
async fn done<O, R>(client: &mut Client, lock: u32, request: &O) -> (u64, Result<R, Refusal>)
where
    O: Operation<Reply = Result<R, Refusal>>,
    R: DeserializeOwned,
{
    let (number, arguments) = operation(request);
    let answer = client.call(lock, number, None, &arguments).await;
    (client.last_seq, answer.expect("a reply"))
}

#[actix_rt::test]
async fn a_withdrawal_undoes_what_is_held_by_that_call_and_nothing_else() {
    let (house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    let other = client.open_lock("others").await;
    let (first, granted) = done(&mut client, lock, &Acquire).await;
    assert!(granted.is_ok());
    let held = Proof::Own(first);
    // A status, a refusal, a fault, an opened object, and a call of another object.
    assert!(client.status(lock).await.is_held);
    let look = client.last_seq;
    let stale = Proof::Own(look);
    let (refused, not_held) = done(&mut client, lock, &Release { grant: stale }).await;
    assert_eq!(not_held, Err(Refusal::NotHeld));
    let none: Result<(), Fault> = client.call(lock, 99, None, &[0x90]).await;
    assert!(matches!(none, Err(Fault::UnknownOperation(_))));
    let fault = client.last_seq;
    for (object, seq) in [
        (lock, look),
        (lock, refused),
        (lock, fault),
        (lock, 1),
        (other, first),
        (lock, first + 100),
    ] {
        client.raw.send(&Request::Withdraw { object, seq }).await;
    }
    assert!(client.status(lock).await.is_held);

    // After an adoption, another call holds the lock.
    let (adopted, granted) = {
        let (number, arguments) = operation(&Adopt { grant: held });
        let adopt = client.send(lock, number, None, &arguments).await;
        let heard = [client.hear().await, client.hear().await];
        let is_reply = |heard: &Heard| matches!(heard, Heard::Reply(seq, _) if *seq == adopt);
        (adopt, heard.iter().any(is_reply))
    };
    assert!(granted);
    let withdraw = |seq| Request::Withdraw { object: lock, seq };
    client.raw.send(&withdraw(first)).await;
    assert!(client.status(lock).await.is_held);
    // A withdrawn grant passes to the next in line, unmarked, and only once.
    let mut next = house.welcome().await;
    let theirs = next.open_lock("jobs").await;
    let (number, arguments) = operation(&Acquire);
    let waiting = next.send(theirs, number, None, &arguments).await;
    assert!(next.is_served().await);
    client.raw.send(&withdraw(adopted)).await;
    client.raw.send(&withdraw(adopted)).await;
    let Heard::Reply(answered, body) = next.hear().await else {
        panic!("the next in line is granted it");
    };
    let granted: Result<Granted, Refusal> = codec::decode(&body).unwrap();
    assert_eq!((answered, granted.unwrap().abandoned), (waiting, None));

    // A release takes effect although it and the call that it released are withdrawn.
    let theirs_held = Proof::Own(waiting);
    let (released, _) = done(&mut next, theirs, &Release { grant: theirs_held }).await;
    let (again, _) = done(&mut client, lock, &Acquire).await;
    for seq in [released, waiting] {
        next.raw
            .send(&Request::Withdraw {
                object: theirs,
                seq,
            })
            .await;
    }
    assert!(next.status(theirs).await.is_held);
    client.raw.send(&withdraw(again)).await;
    assert!(!client.status(lock).await.is_held);
    assert!(client.is_served().await && next.is_served().await);
}
