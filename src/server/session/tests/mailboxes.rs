//! What sessions put into the mailbox of an object that is busy is bounded, however they do it.

use std::cell::Cell;

use lockkeeper_actors::{Call, HangUp, Operations, Primitive, Serve};
use lockkeeper_protocol::{
    Operation, Refusal,
    codec::{Blob, BlobRef},
    frame::{Request, append},
};
use serde::{Deserialize, Serialize};
use tokio::task;

use crate::{
    limits::Limits,
    server::session::{
        sizes::{CHUNK_BYTES, MOST_IN_MAILBOXES, OWN_IN_MAILBOXES, SMALL_READ_BYTES},
        tests::{Client, Heard, House, encoded},
    },
    tests::raw::patiently,
};

thread_local! {
    /// Whether the objects of this thread stay busy with the end of a session.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
    /// The turns of the end of a session.
    static TURNS: Cell<u64> = const { Cell::new(0) };
    /// The calls that were served.
    static SERVED: Cell<u64> = const { Cell::new(0) };
}

/// An object that is busy with the end of a session for as long as the test wants.
#[derive(Debug)]
pub(super) struct Busy;

/// Has bytes, and is counted.
#[derive(Debug, Serialize, Deserialize)]
struct Take(Blob);

impl Operation for Take {
    const NAME: &'static str = "take";
    type Reply = ();
}

impl Primitive for Busy {
    const KIND: &'static str = "busy";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Take>();
    }

    fn hang_up(&mut self, session: &HangUp) {
        TURNS.set(TURNS.get() + 1);
        if IS_BUSY.get() {
            session.continue_next_turn();
        }
    }
}

impl Serve<Take> for Busy {
    fn serve(&mut self, _: Take, call: Call<()>) {
        SERVED.set(SERVED.get() + 1);
        call.reply(());
    }
}

async fn open(client: &mut Client) -> u32 {
    let opened = client.open(Busy::KIND, Some("busy"), Some(&[0xc0])).await;
    opened.expect("an object")
}

/// Yields until the object has had many more turns, in each of which a session could read.
async fn turns(count: u64) {
    let until = TURNS.get() + count;
    patiently(async {
        while TURNS.get() < until {
            task::yield_now().await;
        }
    })
    .await;
}

/// Makes the object busy.
async fn occupy(house: &House) {
    let mut holder = house.welcome().await;
    open(&mut holder).await;
    IS_BUSY.set(true);
    drop(holder);
    turns(1).await;
}

/// Writes as much as the stream takes during many turns, and returns how much.
async fn flood(clients: &[Client], bytes: &[u8], turns: u64) -> Vec<usize> {
    let mut written = vec![0; clients.len()];
    let until = TURNS.get() + turns;
    patiently(async {
        while TURNS.get() < until {
            for (client, written) in clients.iter().zip(&mut written) {
                *written += client.raw.write_some(&bytes[*written..]);
            }
            task::yield_now().await;
        }
    })
    .await;
    written
}

/// The bytes that a stream may take although the session does not read.
const BUFFERED: usize = 1 << 20;

/// Many frames, each with one of the calls `from..`.
fn frames(count: u64, frame: impl Fn(u64) -> Request<'static>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        append(&mut bytes, &frame(number), usize::MAX).expect("it encodes");
    }
    bytes
}

#[actix_rt::test]
async fn session_does_not_read_on_before_a_busy_object_has_received_its_messages() {
    let arguments: &'static [u8] = encoded(&Take(Blob::from(vec![7]))).leak();
    let arguments = BlobRef(arguments);
    let casts = frames(500_000, |_| Request::Cast {
        object: 0,
        operation: 0,
        arguments,
    });
    let withdrawals = frames(500_000, |number| Request::Withdraw {
        object: 0,
        seq: number + 1_000_000,
    });
    let calls = frames(300_000, |number| Request::Call {
        seq: number + 2,
        object: 0,
        operation: 0,
        micros: None,
        arguments,
    });
    for (bytes, served) in [(casts, 500_000), (withdrawals, 0), (calls, 300_000)] {
        assert!(bytes.len() > 3 * BUFFERED, "{} bytes", bytes.len());
        let house = House::new(Limits::default());
        SERVED.set(0);
        let mut client = house.welcome().await;
        open(&mut client).await;
        occupy(&house).await;
        let written = flood(std::slice::from_ref(&client), &bytes, 2_000).await[0];
        assert!(written < BUFFERED, "{written} of {} bytes", bytes.len());
        let kept = house.context.in_mailboxes.bytes();
        assert!(kept <= 2 * OWN_IN_MAILBOXES, "{kept} bytes in the mailbox");

        // Other objects and other clients are served meanwhile.
        let mut other = house.welcome().await;
        assert!(other.is_served().await);

        // Nothing is lost.
        IS_BUSY.set(false);
        let answers = task::spawn_local(async move {
            let rest = client.raw.write(&bytes[written..]);
            rest.await.expect("the session reads");
            client
        });
        // The answers to the calls are small, and are not read meanwhile, so the client may have to read them.
        patiently(async {
            while SERVED.get() < served.min(10_000) {
                task::yield_now().await;
            }
        })
        .await;
        answers.abort();
    }
}

#[actix_rt::test]
async fn many_sessions_together_keep_few_bytes_in_mailboxes() {
    const SESSIONS: usize = 100;
    let arguments: &'static [u8] = encoded(&Take(Blob::from(vec![7]))).leak();
    let bytes = frames(10_000, |_| Request::Cast {
        object: 0,
        operation: 0,
        arguments: BlobRef(arguments),
    });
    let house = House::new(Limits::default());
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = house.welcome().await;
        open(&mut client).await;
        clients.push(client);
    }
    occupy(&house).await;
    flood(&clients, &bytes, 200).await;
    let kept = house.context.in_mailboxes.bytes();
    let most = MOST_IN_MAILBOXES + CHUNK_BYTES + SESSIONS * SMALL_READ_BYTES;
    assert!(kept <= most, "{kept} bytes in the mailbox");

    let mut other = house.welcome().await;
    assert!(other.is_served().await);
    IS_BUSY.set(false);
    patiently(async {
        while house.context.in_mailboxes.bytes() > 0 {
            task::yield_now().await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn message_counts_until_a_busy_object_has_received_it() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let object = open(&mut client).await;
    occupy(&house).await;
    // Both sorts of messages that are counted while they arrive.
    for bytes in [1 << 15, 1 << 20] {
        IS_BUSY.set(true);
        let before = house.stored();
        let arguments = encoded(&Take(Blob::from(vec![7; bytes])));
        let call = client.send(object, 0, None, &arguments).await;
        let counted = || house.stored() - before + house.context.arriving.used();
        patiently(async {
            while counted() < bytes / 2 {
                task::yield_now().await;
            }
        })
        .await;
        turns(1_000).await;
        assert!(counted() > bytes * 3 / 4, "{} of {bytes}", counted());
        IS_BUSY.set(false);
        assert_eq!(client.hear().await, Heard::Reply(call, vec![0xc0]));
        assert_eq!(counted(), 0, "{bytes}");
        occupy(&house).await;
    }
    IS_BUSY.set(false);
}
