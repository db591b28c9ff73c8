//! What a connection makes of the first that it hears.

use super::*;
use crate::wire::tests::raw::frame;

/// What becomes of a client that hears these bytes and then the end.
async fn greeted_with(bytes: &[u8]) -> CallError {
    let (manager, socket) = Raw::pair();
    manager.write(bytes).await.unwrap();
    drop(manager);
    let greeted = patiently(Connection::greet(address(), socket)).await;
    greeted.expect_err("no connection comes of it")
}

#[tokio::test]
async fn a_client_says_hello_first() {
    let (mut manager, socket) = Raw::pair();
    let greet = tokio::spawn(Connection::greet(address(), socket));
    let frame = manager.hear().await.unwrap();
    let request = Request::decode(&frame).unwrap();
    let Request::Hello {
        version: wire::VERSION,
        pid,
        program,
        ..
    } = request
    else {
        panic!("no hello: {request:?}");
    };
    assert_eq!(pid, std::process::id());
    assert!(program.starts_with("lockkeeper"), "{program}");
    manager.say(&welcome()).await;
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
        frame(&reply(1, &[1])),
    ] {
        let error = greeted_with(&garbage).await;
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
    }
}

fn hello() -> Request<'static> {
    Request::Hello {
        version: wire::VERSION,
        pid: 1,
        program: "",
        label: "",
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
        frame_bytes: 1,
        asks_who_calls: false,
    }))
    .await;
    assert_eq!(
        error.to_string(),
        "the manager broke the protocol: it speaks version 9, not 1"
    );
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
