//! What a session trusts: the grants of other sessions need a MAC, and the kernel supplies its process id.

use lockkeeper_actors::{
    Primitive,
    sync::{Barrier, Lock},
};
use lockkeeper_protocol::{
    BreakReason, CallId, Fault, ManagerSecret, Operation, Page, Proof, Question, Refusal,
    SECRET_BYTES, WrongSpec,
    codec::{self, BlobRef},
    frame::{Request, Response},
    operations::{
        Adopt, Arrival, Arrive, BarrierSpec, Granted, MarkConsistent, Release, ReleaseAny,
        ReleaseBy,
    },
};

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, KIND, encoded, number_of, operation},
    tests::{protocol::SECRET, raw::frame},
};

/// A process id that no process has.
const FORGED: u32 = 3_999_999;

/// The holder of a lock, a second client, and the number of the lock in both sessions.
async fn holder_and_stranger() -> (House, Client, Client, u32) {
    let house = House::new(Limits::default());
    let (mut holder, mut stranger) = (house.welcome().await, house.welcome().await);
    let lock = holder.open_lock("jobs").await;
    assert_eq!(stranger.open_lock("jobs").await, lock);
    holder.try_acquire(lock).await.unwrap();
    (house, holder, stranger, lock)
}

impl Client {
    async fn released(&mut self, lock: u32, grant: Proof) -> Result<(), Refusal> {
        let (number, arguments) = operation(&Release { grant });
        let told = self.call(lock, number, None, &arguments).await;
        told.expect("no fault")
    }

    /// Sends many calls together, and returns their answers.
    async fn flood(&mut self, lock: u32, calls: Vec<(u32, Vec<u8>)>) -> Vec<Heard> {
        let count = calls.len();
        let mut bytes = Vec::new();
        for (operation, arguments) in calls {
            bytes.extend(frame(&Request::Call {
                seq: self.seq(),
                object: lock,
                operation,
                micros: Some(0),
                arguments: BlobRef(&arguments),
            }));
        }
        self.raw.write(&bytes).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.push(self.hear().await);
        }
        heard
    }
}

/// All operations that take a grant, with the given one.
fn acts(grant: Proof) -> [(u32, Vec<u8>); 3] {
    [
        operation(&Release { grant }),
        operation(&Adopt { grant }),
        operation(&MarkConsistent { grant }),
    ]
}

#[actix_rt::test]
async fn a_stranger_that_tries_every_number_takes_nothing() {
    let (_house, mut holder, mut stranger, lock) = holder_and_stranger().await;
    let victim = holder.id;
    // The stranger knows its own secret and the ids of all sessions.
    let own = SECRET.of_session(stranger.id);
    let guesses = (0..700).flat_map(|seq| {
        let call = CallId::new(victim, seq);
        acts(Proof::Own(seq))
            .into_iter()
            .chain(acts(Proof::Signed(own.sign(call))))
    });
    let refused = encoded(&Err::<(), _>(Refusal::NotHeld));
    for heard in stranger.flood(lock, guesses.collect()).await {
        assert!(
            matches!(&heard, Heard::Reply(_, body) if *body == refused),
            "{heard:?}"
        );
    }
    assert!(holder.status(lock).await.is_held);
    // The next answer is that of the holder's own release.
    let own = Proof::Own(2);
    assert_eq!(holder.released(lock, own).await, Ok(()));
}

#[actix_rt::test]
async fn a_call_id_without_a_mac_is_no_argument() {
    let (_house, mut holder, mut stranger, lock) = holder_and_stranger().await;
    // The encoding of an earlier version: a record of a session and a number.
    let mut bare = vec![0x91, 0x92, 0xcf];
    bare.extend(holder.id.number().to_be_bytes());
    bare.push(2);
    for name in [Release::NAME, Adopt::NAME, MarkConsistent::NAME] {
        let number = number_of::<Lock>(name);
        let told: Result<(), Fault> = stranger.call(lock, number, None, &bare).await;
        assert!(matches!(told, Err(Fault::BadArguments(_))), "{told:?}");
    }
    assert!(holder.status(lock).await.is_held);
}

#[actix_rt::test]
async fn a_ticket_ends_the_hold_once_and_the_holder_is_told() {
    let (_house, mut holder, mut stranger, lock) = holder_and_stranger().await;
    let ticket = Proof::Signed(holder.sign(2));
    assert_eq!(stranger.released(lock, ticket).await, Ok(()));
    let frame = holder.raw.hear().await.expect("a frame");
    assert_eq!(Response::decode(&frame), Ok(Response::Revoked { seq: 2 }));
    // A replayed ticket fails, even when the same session holds the lock again.
    assert_eq!(stranger.released(lock, ticket).await, Err(Refusal::NotHeld));
    holder.try_acquire(lock).await.unwrap();
    assert_eq!(stranger.released(lock, ticket).await, Err(Refusal::NotHeld));
    assert!(holder.status(lock).await.is_held);
}

#[actix_rt::test]
async fn a_ticket_of_an_ended_session_or_another_manager_is_good_for_nothing() {
    let (house, holder, mut stranger, lock) = holder_and_stranger().await;
    let (ticket, id) = (Proof::Signed(holder.sign(2)), holder.id);
    holder.close().await;
    stranger.try_acquire(lock).await.unwrap();
    let mut other = house.welcome().await;
    other.open_lock("jobs").await;
    assert_eq!(other.released(lock, ticket).await, Err(Refusal::NotHeld));
    // Another incarnation of the manager may have had sessions with the same numbers.
    let secret = ManagerSecret::new([8; SECRET_BYTES]);
    for session in [id, stranger.id] {
        let call = CallId::new(session, stranger.last_seq);
        let foreign = Proof::Signed(secret.of_session(session).sign(call));
        assert_eq!(other.released(lock, foreign).await, Err(Refusal::NotHeld));
    }
    assert!(other.status(lock).await.is_held);
}

#[actix_rt::test]
async fn each_session_is_told_a_secret_of_its_own() {
    let house = House::new(Limits::default());
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let mut client = house.let_in();
        client.raw.send(&super::hello(1)).await;
        let frame = client.raw.hear().await.expect("a welcome");
        let Ok(Response::Welcome { secret, .. }) = Response::decode(&frame) else {
            panic!("no welcome");
        };
        assert_eq!(secret, SECRET.of_session(client.id));
        assert!(!secrets.contains(&secret));
        secrets.push(secret);
    }
}

#[actix_rt::test]
async fn what_was_made_for_anyone_is_released_by_a_stranger_and_opened_as_that_alone() {
    let house = House::new(Limits::default());
    let (mut holder, mut stranger) = (house.welcome().await, house.welcome().await);
    let spec = encoded(&ReleaseBy::Anyone);
    let lock = holder.open(KIND, Some("jobs"), Some(&spec)).await.unwrap();
    let holders = encoded(&ReleaseBy::Holder);
    let wrong = stranger.open(KIND, Some("jobs"), Some(&holders)).await;
    assert_eq!(
        wrong,
        Err(Fault::WrongSpec(Box::new(WrongSpec {
            name: "jobs".to_owned(),
            kind: KIND.to_owned(),
            is: "{release_by: Anyone}".to_owned(),
            asked: "{release_by: Holder}".to_owned(),
        })))
    );
    let theirs = stranger.open(KIND, Some("jobs"), None).await.unwrap();
    holder.try_acquire(lock).await.unwrap();
    let (number, arguments) = operation(&ReleaseAny);
    for expected in [Ok(()), Err(Refusal::NotHeld)] {
        let told: Result<Result<(), Refusal>, Fault> =
            stranger.call(theirs, number, None, &arguments).await;
        assert_eq!(told, Ok(expected));
    }
    let frame = holder.raw.hear().await.expect("a frame");
    assert_eq!(Response::decode(&frame), Ok(Response::Revoked { seq: 2 }));
}

#[actix_rt::test]
async fn a_forged_process_id_is_in_no_mark_no_inspection_and_no_breach() {
    let house = House::new(Limits::default());
    let mut witness = house.welcome().await;
    let mut liar = house.welcome_as(FORGED).await;
    let lock = liar.open_lock("jobs").await;
    liar.try_acquire(lock).await.unwrap();
    let barrier = encoded(&BarrierSpec::from(3));
    let barrier = Some(barrier.as_slice());
    let theirs = liar.open(Barrier::KIND, Some("line"), barrier).await;
    let arrive = encoded(&Arrive { acts: false });
    liar.send(theirs.unwrap(), 0, None, &arrive).await;
    let ours = witness.open(Barrier::KIND, Some("line"), barrier).await;
    let waits = witness.send(ours.unwrap(), 0, None, &arrive).await;

    let seq = witness.seq();
    let question = Question::Named("jobs".to_owned());
    witness.raw.send(&Request::Inspect { seq, question }).await;
    let Heard::Reply(_, body) = witness.hear().await else {
        panic!("no answer");
    };
    let page: Page = codec::decode(&body).unwrap();
    let holder = &page.objects[0].parts[0].holders[0];
    assert_eq!(holder.process.pid, std::process::id());
    assert_eq!(holder.process.program, "test");

    liar.close().await;
    let Heard::Reply(answered, body) = witness.hear().await else {
        panic!("no answer");
    };
    assert_eq!(answered, waits);
    let told: Result<Arrival, Refusal> = codec::decode(&body).unwrap();
    let Err(Refusal::Broken(BreakReason::Died(peer))) = told else {
        panic!("{told:?}");
    };
    assert_eq!(peer.pid, std::process::id());
    let lock = witness.open_lock("jobs").await;
    let Granted { abandoned, .. } = witness.try_acquire(lock).await.unwrap();
    let holder = abandoned.expect("it is marked").holder;
    assert_eq!(holder.pid, std::process::id());
}
