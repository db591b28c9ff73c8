//! How a connection handles its first frames.

use std::{
    future, io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lockkeeper_protocol::{
    Page, Question, Shard,
    codec::{self, BlobRef},
    frame::{self, Capabilities, Capability, Request, Response},
};
use lockkeeper_sys::Private;
use serde::Serialize;
use tokio::time;

use crate::{
    address::Address,
    client::{
        connection::Connection,
        tests::{SESSION, address, reply, welcome, why},
    },
    error::CallError,
    tests::{
        protocol::SECRET,
        raw::{Raw, frame, patiently},
    },
    transport::{
        listener::{Acceptor, Listener},
        stream::Stream,
        unix::{UnixListener, UnixStream},
    },
};

/// The error of a client that receives these bytes and then the end.
async fn greeted_with(bytes: &[u8]) -> CallError {
    let (manager, socket) = Raw::manager();
    manager.write(bytes).await.unwrap();
    drop(manager);
    let greeted = patiently(Connection::greet(address(), socket)).await;
    greeted.expect_err("no connection comes of it")
}

#[tokio::test]
async fn a_client_says_hello_first() {
    let (mut manager, socket) = Raw::manager();
    let greet = tokio::spawn(Connection::greet(address(), socket));
    let frame = manager.hear().await.unwrap();
    let request = Request::decode(&frame).unwrap();
    let Request::Hello {
        version: frame::VERSION,
        pid,
        program,
        ..
    } = request
    else {
        panic!("no hello: {request:?}");
    };
    assert_eq!(pid, std::process::id());
    assert!(program.starts_with("lockkeeper"), "{program}");
    manager.send(&welcome()).await;
    patiently(greet).await.unwrap().unwrap();
}

#[tokio::test]
async fn garbage_instead_of_a_welcome_is_an_error() {
    let http = greeted_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(why(Err::<(), _>(http)).contains("above the limit of 65536"));
    let mut large = vec![0, 1, 0, 1];
    large.resize(70_000, 0);
    let large = greeted_with(&large).await;
    assert!(why(Err::<(), _>(large)).contains("above the limit of 65536"));
    for garbage in [
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 1, 0xc1],
        frame(&hello()),
        frame(&(65, 1)),
        welcome_with(&[false], &[]),
        welcome_with(&["callers"], &[2, 2]),
        welcome_with(&["callers"], &[0, u32::MAX]),
        welcome_with(&["callers"], &[0]),
        frame(&reply(1, &[1])),
    ] {
        let error = greeted_with(&garbage).await;
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
    }
}

/// A welcome with arbitrary capabilities and shard.
fn welcome_with<T: Serialize>(capabilities: &[T], shard: &[u32]) -> Vec<u8> {
    let secret = SECRET.of_session(SESSION);
    let (version, secret) = (frame::VERSION, BlobRef(secret.bytes()));
    let mut bytes =
        codec::encode(&(65, version, 1, 1, secret, 1, capabilities)).expect("plain data");
    for number in shard {
        bytes[0] += 1;
        bytes.extend(codec::encode(number).expect("a number"));
    }
    let length = u32::try_from(bytes.len()).expect("a short frame");
    [&length.to_be_bytes()[..], &bytes].concat()
}

fn hello() -> Request<'static> {
    Request::Hello {
        version: frame::VERSION,
        pid: 1,
        program: "",
        label: "",
        capabilities: Capabilities::NONE,
        former: None,
    }
}

#[tokio::test]
async fn a_welcome_that_is_cut_anywhere_is_a_lost_connection() {
    let welcome = frame(&welcome());
    for end in 0..welcome.len() {
        let error = greeted_with(&welcome[..end]).await;
        assert_eq!(
            why(Err::<(), _>(error)),
            "the manager has closed the connection"
        );
    }
}

#[tokio::test]
async fn another_version_is_named() {
    let error = greeted_with(&frame(&Response::Welcome {
        version: 9,
        incarnation: 1,
        session: 1,
        secret: SECRET.of_session(SESSION),
        frame_bytes: 1,
        capabilities: Capabilities::ALL.without(Capability::Callers),
        shard: Shard::ALONE,
        endpoints: Vec::new(),
        lease_millis: None,
    }))
    .await;
    assert_eq!(
        error.to_string(),
        "the manager broke the protocol: it speaks version 9, not 1: \
         use the same version of lockkeeper on both sides"
    );
}

#[tokio::test]
async fn a_manager_of_an_earlier_release_gets_no_frame_that_it_does_not_know() {
    let (mut manager, socket) = Raw::manager();
    let greet = tokio::spawn(Connection::greet(address(), socket));
    manager.hear().await.expect("a hello");
    let capabilities = Capabilities::NONE;
    manager
        .send(&Response::Welcome {
            version: frame::VERSION,
            incarnation: 1,
            session: SESSION.number(),
            secret: SECRET.of_session(SESSION),
            frame_bytes: 8 << 20,
            capabilities,
            shard: Shard::ALONE,
            endpoints: Vec::new(),
            lease_millis: None,
        })
        .await;
    let connection = patiently(greet).await.unwrap().unwrap();
    assert_eq!(connection.capabilities, capabilities);
    let (_reader, pipe) = Private::<OwnedFd>::open_pair(|| {
        let (reader, writer) = io::pipe()?;
        Ok((OwnedFd::from(reader), OwnedFd::from(writer)))
    })
    .expect("a pipe");
    let pipe = patiently(connection.report_pipe(0, 0, pipe)).await;
    assert!(pipe.is_none(), "calls carry the reports");
    let asking = tokio::spawn(async move { connection.ask::<Page>(Question::All(0)).await });
    let first = patiently(manager.hear()).await.expect("a request");
    let first = Request::decode(&first).expect("a request");
    assert!(matches!(first, Request::Inspect { .. }), "{first:?}");
    drop(manager);
    patiently(asking)
        .await
        .unwrap()
        .expect_err("the manager is gone");
}

#[tokio::test]
async fn the_reason_of_a_bye_is_told_although_the_manager_has_hung_up_before_the_hello() {
    let reason = "limit reached: at most 1 sessions".to_owned();
    let bye = frame(&Response::Bye {
        reason: reason.clone(),
    });
    let error = greeted_with(&bye).await;
    assert_eq!(why(Err::<(), _>(error)), reason);
}

/// A socket in a folder of its own, with a scripted manager.
async fn accept(listener: &dyn Acceptor) -> io::Result<Arc<dyn Stream>> {
    future::poll_fn(|task| listener.poll_accept(task)).await
}

fn listener() -> (tempfile::TempDir, Address, Box<dyn Acceptor>) {
    let folder = tempfile::tempdir().expect("a folder");
    let address = Address::try_from(folder.path().join("m.sock")).expect("a path");
    let listener = Box::new(UnixListener::bind(address.path().unwrap()).expect("a socket"));
    (
        folder,
        address,
        listener.attach().expect("there is a runtime"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_call_at_once_have_one_connection() {
    let (_folder, address, listener) = listener();
    let callers: Vec<_> = (0..3_000)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { Connection::to(&address).await })
        })
        .collect();
    let mut manager = Raw::over(patiently(accept(&*listener)).await.expect("a client"));
    manager.hear().await.expect("a hello");
    manager.send(&welcome()).await;
    let mut connections = Vec::new();
    for caller in callers {
        connections.push(patiently(caller).await.unwrap().expect("welcomed"));
    }
    let first = &connections[0];
    assert!(connections.iter().all(|other| Arc::ptr_eq(first, other)));
    let another = accept(&*listener);
    assert!(futures::poll!(Box::pin(another)).is_pending());
}

#[tokio::test]
async fn who_joined_an_attempt_that_failed_has_one_that_began_after_him() {
    let (_folder, address, listener) = listener();
    let first = tokio::spawn({
        let address = address.clone();
        async move { Connection::to(&address).await }
    });
    let refusing = patiently(accept(&*listener)).await.expect("the first");
    let second = tokio::spawn({
        let address = address.clone();
        async move { Connection::to(&address).await }
    });
    // The call has joined the attempt once it was polled.
    tokio::task::yield_now().await;
    let reason = "limit reached: at most 1 sessions".to_owned();
    Raw::over(refusing)
        .send(&Response::Bye {
            reason: reason.clone(),
        })
        .await;
    assert_eq!(why(patiently(first).await.unwrap()), reason);
    let mut manager = Raw::over(patiently(accept(&*listener)).await.expect("the second"));
    manager.hear().await.expect("a hello");
    manager.send(&welcome()).await;
    patiently(second).await.unwrap().expect("welcomed");
}

/// Connects until the queue is full.
fn fill(path: &Path) -> Vec<UnixStream> {
    let connect = || UnixStream::connect(path, Duration::from_millis(20)).ok();
    std::iter::from_fn(connect).take(10_000).collect()
}

#[tokio::test]
async fn a_full_queue_is_named_and_waited_for() {
    let (_folder, address, listener) = listener();
    let waiting = fill(address.path().unwrap());
    let full = UnixStream::connect(address.path().unwrap(), Duration::ZERO);
    let full = full.expect_err("the queue is full").to_string();
    assert!(full.contains("queue of clients was full"), "{full}");
    let late = thread::spawn({
        let path = address.path().unwrap().to_owned();
        move || UnixStream::connect(&path, Duration::from_secs(10)).map(drop)
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) && !late.is_finished() {
        if let Ok(client) = time::timeout(Duration::from_millis(5), accept(&*listener)).await {
            drop(client);
        }
    }
    late.join().expect("no panic").expect("there is room");
    assert!(waiting.iter().all(|stream| stream.peer_user().is_some()));
}
