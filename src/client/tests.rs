//! Connections against a scripted manager that may send anything, or nothing. The suite runs over each
//! transport: see `tests::raw`.

mod beats;
mod ends;
mod greeting;
mod stalls;
mod untrusted;

use std::{
    fmt,
    future::{self, Future},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use lockkeeper_protocol::{
    CallId, Fault, Question, SessionId, Shard,
    codec::{BlobRef, Payload},
    frame::{self, Capabilities, Capability, Request, Response},
};
use serde::Serialize;
use tokio::time;

use crate::{
    address::Address,
    client::{calls::SentCall, connection::Connection, deadline::Deadline, state::LOCKS},
    error::CallError,
    tests::{
        protocol::SECRET,
        raw::{Raw, patiently},
    },
};

pub(super) const SESSION: SessionId = SessionId::new(77);

pub(super) fn address() -> Address {
    Address::try_from("/nowhere/at/all.sock").unwrap()
}

pub(super) fn welcome() -> Response<'static> {
    Response::Welcome {
        version: frame::VERSION,
        incarnation: 1,
        session: SESSION.number(),
        secret: SECRET.of_session(SESSION),
        frame_bytes: 8 << 20,
        capabilities: Capabilities::ALL.without(Capability::Callers),
        shard: Shard::ALONE,
        endpoints: Vec::new(),
        lease_millis: None,
    }
}

/// A welcomed connection, and the manager's end of it.
pub(super) async fn connected() -> (Arc<Connection>, Raw) {
    let (mut manager, socket) = Raw::manager();
    let greet = tokio::spawn(Connection::greet(address(), socket));
    manager.hear().await.expect("a hello");
    manager.send(&welcome()).await;
    let connection = patiently(greet).await.unwrap().expect("welcomed");
    (connection, manager)
}

/// Calls operation 3 of object 2, whose reply is a number.
pub(super) async fn call(connection: &Arc<Connection>) -> Result<(CallId, u64), CallError> {
    let read = |body: &Payload| {
        body.decode()
            .map_err(|error| CallError::Protocol(error.to_string()))
    };
    answer(send_call(connection, &[0x90])?, read).await
}

/// Waits for the answer to a call, which `read` decodes.
pub(super) async fn answer<T>(
    mut call: SentCall,
    read: impl Fn(&Payload) -> Result<T, CallError>,
) -> Result<(CallId, T), CallError> {
    future::poll_fn(|task| call.poll_reply(task, &read)).await
}

/// Sends a call of operation 3 of object 2.
pub(super) fn send_call(
    connection: &Arc<Connection>,
    arguments: &[u8],
) -> Result<SentCall, CallError> {
    connection.send_call(2, 3, Deadline::Never, arguments, None)
}

/// Calls in a task of its own, and returns once the frame is written.
pub(super) async fn spawned_call(
    connection: &Arc<Connection>,
    manager: &mut Raw,
) -> (
    u64,
    tokio::task::JoinHandle<Result<(CallId, u64), CallError>>,
) {
    let connection = Arc::clone(connection);
    let task = tokio::spawn(async move { call(&connection).await });
    (hear_call(manager).await, task)
}

/// Receives a call, as [`call`] makes it, and returns its number.
pub(super) async fn hear_call(manager: &mut Raw) -> u64 {
    let frame = manager.hear().await.expect("a call");
    let request = Request::decode(&frame).expect("a request");
    let Request::Call { seq, .. } = request else {
        panic!("no call: {request:?}");
    };
    let expected = Request::Call {
        seq,
        object: 2,
        operation: 3,
        micros: None,
        arguments: BlobRef(&[0x90]),
    };
    assert_eq!(request, expected);
    seq
}

/// Receives a withdrawal, and returns the number of the call.
pub(super) async fn hear_withdraw(manager: &mut Raw) -> u64 {
    let frame = manager.hear().await.expect("a withdrawal");
    match Request::decode(&frame).expect("a request") {
        Request::Withdraw { object: 2, seq } => seq,
        other => panic!("no withdrawal: {other:?}"),
    }
}

pub(super) fn reply(seq: u64, body: &[u8]) -> Response<'_> {
    Response::Reply {
        seq,
        body: BlobRef(body),
    }
}

/// The reason why the connection was lost.
#[track_caller]
pub(super) fn why<T: fmt::Debug>(outcome: Result<T, CallError>) -> String {
    match outcome {
        Err(CallError::Disconnected { why, .. }) => why,
        other => panic!("not disconnected: {other:?}"),
    }
}

#[tokio::test]
async fn answers_find_their_callers_in_any_order() {
    let (connection, mut manager) = connected().await;
    let (first, one) = spawned_call(&connection, &mut manager).await;
    let (second, two) = spawned_call(&connection, &mut manager).await;
    assert!(second > first);
    manager.send(&reply(second, &[22])).await;
    manager.send(&reply(first, &[11])).await;
    let id = |seq| CallId::new(SESSION, seq);
    assert_eq!(patiently(one).await.unwrap(), Ok((id(first), 11)));
    assert_eq!(patiently(two).await.unwrap(), Ok((id(second), 22)));
}

#[tokio::test]
async fn a_call_takes_the_lock_once_to_send_and_once_for_each_poll() {
    let (connection, mut manager) = connected().await;
    let mut fewest = usize::MAX;
    // The first call attaches the runtime.
    for _ in 0..10 {
        let before = LOCKS.get();
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&reply(seq, &[1])).await;
        patiently(task).await.unwrap().expect("a reply");
        fewest = fewest.min(LOCKS.get() - before);
    }
    assert_eq!(fewest, 3);
}

/// A waker that counts its wakes.
#[derive(Default)]
struct CountedWakes(AtomicUsize);

impl Wake for CountedWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_caller_that_reads_its_own_answer_does_not_wake_itself() {
    let (connection, mut manager) = connected().await;
    let wakes = Arc::new(CountedWakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut task = Context::from_waker(&waker);
    let mut call = pin!(call(&connection));
    assert!(call.as_mut().poll(&mut task).is_pending());
    let seq = hear_call(&mut manager).await;
    manager.send(&reply(seq, &[1])).await;
    let is_readable = async {
        while wakes.0.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently(is_readable).await;
    assert!(call.as_mut().poll(&mut task).is_ready());
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

/// A task that only its wakers own, as in some executors.
struct OwnedByWakers(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for OwnedByWakers {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn a_task_that_is_dropped_with_its_last_waker_blocks_no_other_call() {
    let (connection, mut manager) = connected().await;
    let future = {
        let connection = Arc::clone(&connection);
        async move { drop(call(&connection).await) }
    };
    let task = Arc::new(OwnedByWakers(Mutex::new(Some(Box::pin(future)))));
    let waker = Waker::from(Arc::clone(&task));
    {
        let mut future = task.0.lock().unwrap();
        let future = future.as_mut().expect("it is there");
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    drop((task, waker));
    let first = hear_call(&mut manager).await;
    // The next call reads the answer of the first one, wakes it, and thereby drops it.
    let (second, next) = spawned_call(&connection, &mut manager).await;
    manager.send(&reply(first, &[1])).await;
    manager.send(&reply(second, &[2])).await;
    assert_eq!(patiently(next).await.unwrap().unwrap().1, 2);
    assert_eq!(hear_withdraw(&mut manager).await, first);
}

#[tokio::test]
async fn an_answer_to_an_unknown_call_is_ignored() {
    let (connection, mut manager) = connected().await;
    let (seq, task) = spawned_call(&connection, &mut manager).await;
    for stranger in [0, seq + 1, u64::MAX] {
        manager.send(&reply(stranger, &[9])).await;
        let fault = Fault::Gone;
        let fault = Response::Fault {
            seq: stranger,
            fault,
        };
        manager.send(&fault).await;
    }
    manager.send(&Response::Revoked { seq: 1 << 40 }).await;
    manager.send(&Response::Gone { object: 99 }).await;
    manager.send(&reply(seq, &[5])).await;
    manager.send(&reply(seq, &[6])).await;
    let (_, answer) = patiently(task).await.unwrap().unwrap();
    assert_eq!((answer, connection.ended()), (5, None));
}

#[tokio::test]
async fn an_answer_of_another_type_is_an_error_and_what_it_granted_is_withdrawn() {
    let (connection, mut manager) = connected().await;
    let opened = |seq| Response::Opened {
        seq,
        object: 2,
        name: "x".to_owned(),
        operations: vec![],
    };
    let (seq, task) = spawned_call(&connection, &mut manager).await;
    manager.send(&opened(seq)).await;
    let outcome = patiently(task).await.unwrap();
    assert!(matches!(outcome, Err(CallError::Protocol(_))));
    assert_eq!(hear_withdraw(&mut manager).await, seq);
    for body in [&[][..], &[0xc1], &[0xa1, b'x'], &[5, 5], &[0x91; 100]] {
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&reply(seq, body)).await;
        let outcome = patiently(task).await.unwrap();
        assert!(matches!(outcome, Err(CallError::Protocol(_))), "{body:?}");
        assert_eq!(hear_withdraw(&mut manager).await, seq);
    }
    let task = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.open("lock", None, Some(&[0xc0])).await }
    });
    let frame = manager.hear().await.unwrap();
    let Ok(Request::Open { seq, .. }) = Request::decode(&frame) else {
        panic!("no open");
    };
    manager.send(&reply(seq, &[0xc0])).await;
    let outcome = patiently(task).await.unwrap();
    assert!(matches!(outcome, Err(CallError::Protocol(_))));
    assert_eq!(connection.ended(), None);
}

#[tokio::test]
async fn a_fault_is_the_error_of_its_call_and_nothing_is_withdrawn() {
    let (connection, mut manager) = connected().await;
    for (fault, error) in [
        (Fault::TimedOut, CallError::timed_out()),
        (Fault::Gone, CallError::gone()),
        (Fault::Withdrawn, CallError::Fault(Fault::Withdrawn)),
    ] {
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&Response::Fault { seq, fault }).await;
        assert_eq!(patiently(task).await.unwrap(), Err(error));
    }
    // The next frame is a call and no withdrawal.
    spawned_call(&connection, &mut manager).await;
}

#[tokio::test]
async fn a_fault_that_is_not_known_here_fails_its_call_alone() {
    #[derive(Serialize)]
    enum Later {
        Moved,
        Slower(u64),
        Priced { coins: u64, note: &'static str },
    }

    let (connection, mut manager) = connected().await;
    for fault in [
        Later::Moved,
        Later::Slower(7),
        Later::Priced {
            coins: 7,
            note: "each",
        },
    ] {
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&(68, seq, fault)).await;
        let outcome = patiently(task).await.unwrap();
        assert!(
            matches!(outcome, Err(CallError::Protocol(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(connection.ended(), None);
}

#[tokio::test]
async fn a_revoked_grant_and_a_gone_object_are_lost() {
    let (connection, mut manager) = connected().await;
    let mut lost = Vec::new();
    for _ in 0..2 {
        let (seq, task) = spawned_call(&connection, &mut manager).await;
        manager.send(&reply(seq, &[1])).await;
        let (grant, _) = patiently(task).await.unwrap().unwrap();
        assert!(connection.is_valid(2, grant));
        let connection = Arc::clone(&connection);
        let task = tokio::spawn(async move { connection.lost(2, grant).await });
        lost.push((grant, task));
    }
    let (second, second_lost) = lost.pop().unwrap();
    let (first, first_lost) = lost.pop().unwrap();
    let revoked = Response::Revoked { seq: first.seq() };
    manager.send(&revoked).await;
    patiently(first_lost).await.unwrap();
    assert!(!connection.is_valid(2, first) && connection.is_valid(2, second));
    assert!(!second_lost.is_finished());
    manager.send(&Response::Gone { object: 2 }).await;
    patiently(second_lost).await.unwrap();
    assert!(!connection.is_valid(2, second));
}

#[tokio::test]
async fn a_dropped_call_is_withdrawn_and_its_late_answer_is_nobodys() {
    let (connection, mut manager) = connected().await;
    let patience = Duration::from_millis(20);
    let outcome = time::timeout(patience, call(&connection)).await;
    assert!(outcome.is_err());
    let seq = hear_call(&mut manager).await;
    assert_eq!(hear_withdraw(&mut manager).await, seq);
    manager.send(&reply(seq, &[1])).await;
    let (next, task) = spawned_call(&connection, &mut manager).await;
    manager.send(&reply(next, &[2])).await;
    assert_eq!(patiently(task).await.unwrap().unwrap().1, 2);
    let shared = connection.lock().expect("of this process");
    assert!(shared.session.in_flight.is_empty());
}

#[tokio::test]
async fn a_call_dropped_after_its_answer_came_is_withdrawn_all_the_same() {
    let (connection, mut manager) = connected().await;
    let mut dropped = Box::pin(call(&connection));
    assert!(futures::poll!(&mut dropped).is_pending());
    let seq = hear_call(&mut manager).await;
    manager.send(&reply(seq, &[1])).await;
    // A later call reads for both.
    let (next, task) = spawned_call(&connection, &mut manager).await;
    manager.send(&reply(next, &[2])).await;
    patiently(task).await.unwrap().unwrap();
    drop(dropped);
    assert_eq!(hear_withdraw(&mut manager).await, seq);
}

#[tokio::test]
async fn what_is_above_the_managers_limit_is_refused_here_and_harms_nobody() {
    let (connection, mut manager) = connected().await;
    let large = vec![0; 8 << 20];
    let most = (8 << 20) - frame::ANSWER_MARGIN_BYTES;
    let limit = CallError::from(Fault::limit("bytes of arguments", most));
    let above = large.get(..=most).expect("it is longer");
    for arguments in [&large, above] {
        let outcome = send_call(&connection, arguments).map(drop);
        assert_eq!(outcome, Err(limit.clone()));
        assert_eq!(connection.cast(2, 3, arguments), Err(limit.clone()));
    }
    let limit = CallError::from(Fault::limit("bytes in a call", 8 << 20));
    let kind = "k".repeat(8 << 20);
    for outcome in [
        connection.open(&kind, None, None).await.map(drop),
        connection.open("lock", None, Some(&large)).await.map(drop),
        connection.remove(&kind).await,
        connection.ask::<()>(Question::Named(kind.clone())).await,
    ] {
        assert_eq!(outcome, Err(limit.clone()));
    }
    let (seq, task) = spawned_call(&connection, &mut manager).await;
    manager.send(&reply(seq, &[1])).await;
    patiently(task).await.unwrap().unwrap();
}
