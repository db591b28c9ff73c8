//! A scripted session, cut at every byte: whatever part of it arrives, the next session finds everything
//! free.

use lockkeeper_actors::{Primitive, sync::Semaphore};
use lockkeeper_protocol::{
    Proof,
    codec::BlobRef,
    frame::Request,
    operations::{
        Acquire, AcquireMany, LockStatus, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
    },
};

use crate::{
    limits::Limits,
    server::session::tests::{
        Client, Heard, House, KIND, SPEC, encoded, hello, number_of, operation, release,
    },
    tests::raw::{frame, patiently},
};

const SEATS: u32 = 3;

/// The frames of a client that opens, acquires, waits, withdraws and releases.
fn script() -> Vec<Vec<u8>> {
    let spec = encoded(&SemaphoreSpec::from(SEATS));
    let open = |seq, kind, name, spec| Request::Open {
        seq,
        kind,
        name: Some(name),
        spec: Some(BlobRef(spec)),
    };
    let call = |seq, object, micros, arguments: &[u8]| {
        frame(&Request::Call {
            seq,
            object,
            operation: 0,
            micros,
            arguments: BlobRef(arguments),
        })
    };
    let acquire = encoded(&Acquire);
    let permits = |permits| encoded(&AcquireMany { permits });
    let give_back = encoded(&ReleasePermits {
        grant: Proof::Own(5),
        permits: 1,
    });
    let release_permit = Request::Call {
        seq: 11,
        object: 1,
        operation: number_of::<Semaphore>("release"),
        micros: None,
        arguments: BlobRef(&give_back),
    };
    vec![
        frame(&hello(1)),
        frame(&open(1, KIND, "jobs", SPEC)),
        frame(&open(2, Semaphore::KIND, "seats", &spec)),
        call(3, 0, None, &acquire),
        // One call waits behind its own session's hold, and another one does so for a limited time.
        call(4, 0, None, &acquire),
        call(5, 1, None, &permits(2)),
        call(6, 1, Some(60_000_000), &permits(2)),
        frame(&Request::Withdraw { object: 0, seq: 4 }),
        call(8, 0, Some(0), &acquire),
        release(0, 3),
        call(10, 0, None, &acquire),
        frame(&release_permit),
        frame(&Request::Withdraw { object: 1, seq: 6 }),
        frame(&Request::Withdraw { object: 0, seq: 10 }),
        call(12, 0, None, &acquire),
    ]
}

/// Asserts that a new session finds both objects unused.
async fn all_is_free(house: &House) {
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    assert_eq!(client.status(lock).await, LockStatus::default());
    let spec = encoded(&SemaphoreSpec::from(SEATS));
    let seats = client.open(Semaphore::KIND, Some("seats"), Some(&spec));
    let seats = seats.await.unwrap();
    let number = number_of::<Semaphore>("status");
    let count: SemaphoreStatus = client.call(seats, number, None, &[0x90]).await.unwrap();
    let mut free = SemaphoreStatus::default();
    free.available = 3;
    assert_eq!(count, free);
    client.close().await;
}

/// When a client closes its stream.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// At once: its session may have read nothing yet.
    AtOnce,
    /// After its answers are written, without reading them.
    Answered,
}

async fn cut(bytes: &[u8], leaves: Leaves) {
    let house = House::new(Limits::default());
    let client = house.let_in();
    client.raw.write(bytes).await.unwrap();
    match leaves {
        Leaves::AtOnce => {}
        Leaves::Answered => {
            // The answers of another session show that this session has had its turns.
            all_is_still_served(&house).await;
        }
    }
    client.close().await;
    all_is_free(&house).await;
}

async fn all_is_still_served(house: &House) {
    let mut bystander = house.welcome().await;
    assert!(bystander.is_served().await);
    bystander.close().await;
}

#[actix_rt::test]
async fn a_session_cut_at_any_byte_leaves_everything_free() {
    let script = script().concat();
    for end in 0..=script.len() {
        for leaves in [Leaves::AtOnce, Leaves::Answered] {
            cut(&script[..end], leaves).await;
        }
    }
}

#[actix_rt::test]
async fn a_session_cut_after_any_frame_lets_the_next_in_line_in() {
    let script = script();
    for frames in 0..=script.len() {
        let house = House::new(Limits::default());
        let client = house.let_in();
        client.raw.write(&script[..frames].concat()).await.unwrap();
        let mut waiting = house.welcome().await;
        let lock = waiting.open_lock("jobs").await;
        let (number, arguments) = operation(&Acquire);
        let seq = waiting.send(lock, number, None, &arguments).await;
        client.close().await;
        let Heard::Reply(answered, _) = waiting.hear().await else {
            panic!("{frames} frames: the lock is not passed on");
        };
        assert_eq!(answered, seq, "{frames} frames");
    }
}

#[actix_rt::test]
async fn the_whole_script_is_answered_once_a_call() {
    let house = House::new(Limits::default());
    let client = house.let_in();
    client.raw.write(&script().concat()).await.unwrap();
    is_answered_once_a_call(client).await;
}

#[actix_rt::test]
async fn a_script_that_comes_byte_by_byte_is_answered_as_ever() {
    let house = House::new(Limits::default());
    let client = house.let_in();
    let received = &house.context.shell.tallies().received;
    for (read, byte) in (1..).zip(script().concat()) {
        client.raw.write(&[byte]).await.unwrap();
        let take = async {
            while received.get() < read {
                tokio::task::yield_now().await;
            }
        };
        patiently(take).await;
    }
    is_answered_once_a_call(client).await;
}

/// Asserts that each call of the script gets exactly one answer.
async fn is_answered_once_a_call(mut client: Client) {
    client.raw.hear().await.expect("a welcome");
    let mut answered = Vec::new();
    for _ in 0..10 {
        answered.push(match client.hear().await {
            Heard::Opened(seq, _) | Heard::Reply(seq, _) | Heard::Fault(seq, _) => seq,
            Heard::Other(other) => panic!("{other}"),
        });
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6, 8, 10, 11, 12]);
    client.last_seq = 12;
    let number = number_of::<Semaphore>("status");
    let count: SemaphoreStatus = client.call(1, number, None, &[0x90]).await.unwrap();
    // One of two permits was released; the call behind it was granted both permits and was withdrawn.
    assert_eq!((count.held, count.available), (1, 2));
}
