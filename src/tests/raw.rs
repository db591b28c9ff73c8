//! The peer in tests of sessions and of connections. It sends any bytes, valid or not, and receives
//! frames as bytes.
//!
//! Those tests run over Unix sockets, and again over each other transport: a test here starts their
//! suites in another process, with the transport in an environment variable.
//!
//! Invariant: every wait has a time limit, so a test fails instead of hanging.

use std::{
    env, future, io,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use lockkeeper_protocol::frame::{Encode, Inbox, append};
use tokio::time;
use tokio_util::bytes::Bytes;

use crate::transport::{
    memory::MemoryStream,
    stream::{AttachedStream, Stream},
    unix::UnixStream,
};

/// The environment variable with the transport of the suites. Without it they run over Unix
/// sockets.
const TRANSPORT: &str = "LOCKKEEPER_TEST_TRANSPORT";

/// The prefixes of the tests that run over each transport.
const SUITES: [&str; 2] = ["client::tests::", "server::session::tests::"];

/// Connects a pair, and returns the client's end and the manager's end.
fn pair() -> (Arc<dyn Stream>, Arc<dyn Stream>) {
    match env::var(TRANSPORT).as_deref() {
        Err(_) => {
            let (client, manager) = UnixStream::pair().expect("the system has sockets");
            (Arc::new(client), Arc::new(manager))
        }
        Ok("memory") => {
            let (client, manager) = MemoryStream::pair();
            (Arc::new(client), Arc::new(manager))
        }
        Ok(other) => panic!("the tests do not support the transport {other:?}"),
    }
}

/// The time limit for each event that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a pair. Dropping it ends the stream for the other end.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: Box<dyn AttachedStream>,
    inbox: Inbox,
}

impl Raw {
    /// Connects a pair, and returns the client's end and the manager's end, which is under test.
    pub(crate) fn client() -> (Self, Arc<dyn Stream>) {
        let (client, manager) = pair();
        (Self::over(client), manager)
    }

    /// The same over the memory transport.
    pub(crate) fn client_in_memory() -> (Self, Arc<dyn Stream>) {
        let (client, manager) = MemoryStream::pair();
        (Self::over(Arc::new(client)), Arc::new(manager))
    }

    /// Connects a pair, and returns the manager's end and the client's end, which is under test.
    pub(crate) fn manager() -> (Self, Arc<dyn Stream>) {
        let (client, manager) = pair();
        (Self::over(manager), client)
    }

    /// Makes the peer at the other end of a stream.
    pub(crate) fn over(stream: Arc<dyn Stream>) -> Self {
        Self {
            stream: stream.attach().expect("the test has a runtime"),
            inbox: Inbox::new(usize::MAX),
        }
    }

    /// Writes bytes without a header. An error means that the other end is closed.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = patiently(future::poll_fn(|task| self.stream.poll_write(task, rest)));
            rest = rest.get(written.await?..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes as many bytes as fit now, and returns their number.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> usize {
        let mut no_task = Context::from_waker(Waker::noop());
        match self.stream.poll_write(&mut no_task, bytes) {
            Poll::Ready(written) => written.expect("the other end is open"),
            Poll::Pending => 0,
        }
    }

    /// Writes one frame of any size.
    pub(crate) async fn send<T: Encode>(&self, message: &T) {
        self.write(&frame(message))
            .await
            .expect("the other end is open");
    }

    /// Reads and discards at most `most` bytes, and returns their number: zero at the end.
    pub(crate) async fn read_some(&mut self, most: usize) -> usize {
        let mut chunk = vec![0; most];
        let read = patiently(future::poll_fn(|task| {
            self.stream.poll_read(task, &mut chunk)
        }));
        read.await.unwrap_or_default()
    }

    /// Reads the next frame, or `None` when the other end has closed.
    pub(crate) async fn hear(&mut self) -> Option<Bytes> {
        self.hear_within(PATIENCE).await
    }

    /// Reads the next frame as [`Self::hear`] does, with a time limit of `patience`.
    pub(crate) async fn hear_within(&mut self, patience: Duration) -> Option<Bytes> {
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some(message) = self.inbox.next_message().expect("no message is too long") {
                return Some(Bytes::copy_from_slice(&message));
            }
            let read = future::poll_fn(|task| self.stream.poll_read(task, &mut chunk));
            let read = time::timeout(patience, read).await;
            match read.expect("the event happens within the time limit") {
                // A peer that closes with unread bytes resets the stream.
                Ok(0) | Err(_) => return None,
                Ok(length) => self.inbox.feed(&chunk[..length]),
            }
        }
    }
}

/// Returns one message as bytes, without its header.
pub(crate) fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message
        .encode_into(&mut bytes, usize::MAX)
        .expect("it encodes");
    bytes
}

/// Returns one frame as bytes.
pub(crate) fn frame<T: Encode>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, message, usize::MAX).expect("it encodes");
    bytes
}

/// Waits for a future with the test's time limit.
pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, future)
        .await
        .expect("the event happens within the time limit")
}

#[test]
fn suites_pass_over_memory() {
    let output = Command::new(env::current_exe().expect("a test has a file"))
        .args(SUITES)
        // The limits of a turn do not depend on the transport.
        .args(["--skip", "turns"])
        // This test needs a stream that takes a part of an answer, and memory takes all of it.
        .args(["--skip", "session_whose_client_does_not_read"])
        // Memory takes more bytes than this test writes, whether or not the session reads.
        .args(["--skip", "session_does_not_read_on"])
        .env(TRANSPORT, "memory")
        .stdin(Stdio::null())
        .output()
        .expect("a process can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !stdout.contains("running 0 tests"),
        "{}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
