//! The lifeline: the socket between a parent process and a child of it, and the frames on it.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    thread,
};

use bytes::Bytes;
use lockkeeper_protocol::{
    codec::Blob,
    frame::{self, Inbox},
};
use lockkeeper_sys::Private;
use serde::{Deserialize, Serialize};

/// The most bytes of one message over a lifeline.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// What a child is told once it knows that it runs the same build as its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) role: String,
    pub(super) config: Blob,
}

/// What a child tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// It does its work from now on.
    Ready,
    /// It cannot do its work, and no other child could.
    Failed(String),
    /// The system does not give it what it needs. Another child may have it later.
    Lacking(String),
    /// It has done its work.
    Done,
}

/// The child's end of the lifeline. Processes that the child forks do not keep it.
#[derive(Debug)]
pub(crate) struct Lifeline(Private<UnixStream>);

impl Lifeline {
    /// Makes the end of a socket.
    pub(super) fn over(stream: UnixStream) -> io::Result<Self> {
        Private::open(|| Ok(stream)).map(Self)
    }

    /// Reports that the work begins.
    pub(crate) fn ready(&mut self) {
        self.tell(&Report::Ready);
    }

    /// Reports that there can be no work.
    pub(crate) fn failed(&mut self, why: String) {
        self.tell(&Report::Failed(why));
    }

    /// Reports that the system does not give what the work needs.
    pub(crate) fn lacking(&mut self, why: String) {
        self.tell(&Report::Lacking(why));
    }

    /// Reports that the work is done.
    pub(crate) fn done(&mut self) {
        self.tell(&Report::Done);
    }

    /// Runs `end` on a thread of its own once the parent is gone.
    pub(crate) fn watch(&self, end: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let stream = Private::open(|| self.0.get()?.try_clone())?;
        let watch = move || {
            if let Ok(stream) = stream.get() {
                outlast(stream);
            }
            end();
        };
        thread::Builder::new()
            .name("lockkeeper-lifeline".to_owned())
            .spawn(watch)
            .map(drop)
    }

    fn tell(&mut self, report: &Report) {
        let mut message = Vec::new();
        if frame::append(&mut message, report, MOST_BYTES).is_ok() {
            // A parent that is gone needs no report, and the watch ends this process.
            let _ = self
                .0
                .get()
                .and_then(|mut stream| stream.write_all(&message));
        }
    }
}

/// Reads exactly two frames, the parent's build and the assignment: nothing else comes.
pub(super) fn read_frames(mut stream: impl Read) -> io::Result<(Bytes, Bytes)> {
    let mut inbox = Inbox::new(MOST_BYTES);
    let first = read_frame(&mut inbox, &mut stream)?;
    Ok((first, read_frame(&mut inbox, &mut stream)?))
}

fn read_frame(inbox: &mut Inbox, mut stream: impl Read) -> io::Result<Bytes> {
    let mut bytes = [0; 4096];
    loop {
        if let Some(frame) = inbox.next_message().map_err(io::Error::other)? {
            return Ok(Bytes::copy_from_slice(&frame));
        }
        match stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => inbox.feed(bytes.get(..length).unwrap_or_default()),
            // A signal came in between, such as the one that continues a stopped process.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns once the other side of a stream is gone.
pub(super) fn outlast(mut stream: impl Read) {
    // A stream that fails has no other side any more. A signal in between is no failure to it.
    let _ = io::copy(&mut stream, &mut io::sink());
}
