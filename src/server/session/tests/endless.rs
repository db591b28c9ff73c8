//! A forked child of a client that has ended keeps writing, and the session ends nevertheless.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use lockkeeper_protocol::frame::Request;
use rustix::event::{EventfdFlags, eventfd};

use super::{House, hello};
use crate::{
    limits::Limits,
    tests::raw::{Raw, frame},
    transport::stream::{AttachedStream, Stream},
};

/// The number of unread bytes that the stream reports each time.
const UNREAD: usize = 100_000;

/// A stream that is never empty, from a client whose process has ended.
#[derive(Debug)]
struct Endless(Mutex<Sent>);

#[derive(Debug)]
struct Sent {
    /// The first bytes of the stream.
    hello: Vec<u8>,
    /// The bytes that follow, repeated for ever.
    frame: Vec<u8>,
    /// How many bytes were read.
    read: usize,
    /// The number of bytes that the session read after it knew that the client had ended.
    read_last: usize,
    is_turn_of_others: bool,
}

impl Endless {
    fn read(&self, buffer: &mut [u8]) -> (usize, bool) {
        let sent = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = sent.hello.iter().chain(sent.frame.iter().cycle());
        // The frames are equal, so only the position within one is kept.
        let first = sent.hello.len();
        let skipped = match sent.read.checked_sub(first) {
            Some(read) => first + read % sent.frame.len(),
            None => sent.read,
        };
        let pairs = buffer.iter_mut().zip(all.skip(skipped));
        pairs.for_each(|(byte, sent)| *byte = *sent);
        sent.read += buffer.len();
        sent.is_turn_of_others = !sent.is_turn_of_others;
        (buffer.len(), sent.is_turn_of_others)
    }
}

impl Stream for Endless {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = self.read(buffer);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read_last += length;
        Ok(length)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn shutdown(&self) {}

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        Ok(Box::new(Attached(self)))
    }

    fn is_trusted(&self) -> bool {
        true
    }

    fn peer_pid(&self) -> Option<u32> {
        Some(1)
    }

    fn peer_end(&self) -> Option<OwnedFd> {
        eventfd(1, EventfdFlags::NONBLOCK).ok()
    }

    fn unread(&self) -> Option<usize> {
        Some(UNREAD)
    }
}

#[derive(Debug)]
struct Attached(Arc<Endless>);

impl AttachedStream for Attached {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.read(buffer) {
            (length, false) => Poll::Ready(Ok(length)),
            (length, true) => {
                // The peer watch runs in between.
                self.0.0.lock().unwrap_or_else(PoisonError::into_inner).read -= length;
                task.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_write(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.try_write(bytes))
    }
}

#[actix_rt::test]
async fn session_of_an_ended_process_ends_although_its_stream_never_does() {
    let house = House::new(Limits::default());
    let withdraw = Request::Withdraw { object: 7, seq: 1 };
    let stream = Arc::new(Endless(Mutex::new(Sent {
        hello: frame(&hello(1)),
        frame: frame(&withdraw),
        read: 0,
        read_last: 0,
        is_turn_of_others: false,
    })));
    let (raw, _) = Raw::client();
    let client = house.let_in_over(raw, Arc::clone(&stream) as Arc<dyn Stream>);
    client.end().await;
    let sent = stream.0.lock().unwrap();
    // One byte more is read, which tells whether the client has read all that was written.
    assert_eq!(sent.read_last, UNREAD + 1);
}
