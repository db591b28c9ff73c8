//! The lifeline: the socket between a parent process and a child of it, and the frames on it. The
//! descriptors that the parent gives the child come with the first frame.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use lockkeeper_protocol::{
    codec::Blob,
    frame::{self, Inbox},
    operations::JobOutcome,
};
use lockkeeper_sys::{Private, without_forks};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

#[cfg(feature = "net")]
use crate::{certificate_files::HandedCertificates, keys::HandedKeys};

/// The most bytes of one message over a lifeline.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// The second frame of the parent: the role. A child decodes it only after it has checked that both
/// run the same build.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) role: String,
    pub(super) config: Blob,
    /// The keys with which the parent reaches managers over a network.
    #[cfg(feature = "net")]
    pub(super) keys: HandedKeys,
    /// The certificate files with which it does.
    #[cfg(feature = "net")]
    pub(super) certificates: HandedCertificates,
}

/// A message from the child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ChildReport {
    /// The child begins a step before its work, of this name, whose code may end the process.
    Begun(String),
    /// The child waits for that long before its work.
    Waits(Duration),
    /// The child begins its work.
    Ready,
    /// The child cannot do its work, and another child could not either. The role's owner in the parent may
    /// be able to read more from the bytes.
    Failed(String, Option<Blob>),
    /// The child lacks a resource of the system. Another child may get it later.
    Lacking(String),
    /// The child has run the task that was all of its work, with that outcome.
    Outcome(JobOutcome),
    /// The child has done its work.
    Done,
}

/// The byte by which the parent asks the child to stop. The parent sends nothing else after the first message.
pub(super) const STOP: u8 = 1;

/// The child's end of the lifeline. Processes that the child forks do not inherit it.
#[derive(Debug)]
pub(crate) struct Lifeline(Private<UnixStream>);

impl Lifeline {
    /// Makes the child's end from this process's standard input.
    pub(super) fn of_input() -> io::Result<Self> {
        Private::open(|| Ok(io::stdin().as_fd().try_clone_to_owned()?.into())).map(Self)
    }

    /// Reports that a step before the work begins, such as the initializer.
    pub(crate) fn begun(&mut self, step: &str) {
        self.tell(&ChildReport::Begun(step.to_owned()));
    }

    /// Reports a wait of that length before the work, and waits. Returns false if the parent has ended meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> bool {
        self.tell(&ChildReport::Waits(time));
        let (Ok(stream), Ok(timeout)) = (self.0.get(), Timespec::try_from(time)) else {
            return false;
        };
        loop {
            // No child that waits is asked to stop, so the stream is readable once the parent has ended.
            let mut ended = [PollFd::new(stream, PollFlags::IN)];
            match poll(&mut ended, Some(&timeout)) {
                Ok(0) => return true,
                Ok(_) => return false,
                // A wait that is too long does no harm.
                Err(Errno::INTR) => {}
                Err(_) => {
                    thread::sleep(time);
                    return true;
                }
            }
        }
    }

    /// Reports that the work begins.
    pub(crate) fn ready(&mut self) {
        self.tell(&ChildReport::Ready);
    }

    /// Reports that the child cannot do its work.
    pub(crate) fn failed(&mut self, why: String) {
        self.tell(&ChildReport::Failed(why, None));
    }

    /// Reports that the child cannot do its work, with bytes from which the role's owner reads more.
    pub(crate) fn failed_with(&mut self, why: String, detail: Blob) {
        self.tell(&ChildReport::Failed(why, Some(detail)));
    }

    /// Reports that the work needs a resource that the system lacks.
    pub(crate) fn lacking(&mut self, why: String) {
        self.tell(&ChildReport::Lacking(why));
    }

    /// Reports the outcome of the task that was all of the work. Returns false if the report cannot be written.
    pub(crate) fn outcome(&mut self, outcome: JobOutcome) -> bool {
        self.try_tell(&ChildReport::Outcome(outcome)).is_ok()
    }

    /// Reports that the work is done.
    pub(crate) fn done(&mut self) {
        self.tell(&ChildReport::Done);
    }

    /// Starts a thread that runs `stop` whenever the parent asks for the end of the work, and `end` once the parent
    /// has ended.
    pub(crate) fn watch(
        &self,
        stop: impl FnMut() + Send + 'static,
        end: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let stream = Private::open(|| self.0.get()?.try_clone())?;
        let watch = move || {
            if let Ok(stream) = stream.get() {
                outlast(stream, stop);
            }
            end();
        };
        thread::Builder::new()
            .name("lockkeeper-lifeline".to_owned())
            .spawn(watch)
            .map(drop)
    }

    fn tell(&mut self, report: &ChildReport) {
        // An error means that the parent has ended. It needs no report then, and `watch` ends this process.
        let _ = self.try_tell(report);
    }

    fn try_tell(&mut self, report: &ChildReport) -> io::Result<()> {
        let mut message = Vec::new();
        frame::append(&mut message, report, MOST_BYTES).map_err(io::Error::other)?;
        self.0.get()?.write_all(&message)
    }
}

/// The most descriptors that a parent passes to a child.
const MOST_HANDED: usize = 4;

/// Sends as many bytes of a child's first message as the socket takes, together with the descriptors, and
/// returns their number. If the child has already ended, it returns zero: the parent notices the end when it
/// waits for the child.
pub(super) fn send_first(
    lifeline: impl AsFd,
    message: &[u8],
    handed: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_HANDED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(handed)) {
        return Err(io::Error::other("a child is handed too many descriptors"));
    }
    let message = [IoSlice::new(message)];
    // A program may have SIGPIPE end it, and the child may have ended.
    match sendmsg(lifeline, &message, &mut control, SendFlags::NOSIGNAL) {
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(0),
        sent => Ok(sent?),
    }
}

/// Sets close-on-exec on the received descriptors in the same system call, where the system supports it.
const AT_ONCE_CLOSED: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// Reads the first message from the parent, and collects the descriptors that come with it.
#[derive(Debug)]
pub(super) struct Receiver<'a> {
    lifeline: &'a Lifeline,
    /// The descriptors that were received so far.
    pub(super) handed: Vec<Private<OwnedFd>>,
}

impl<'a> Receiver<'a> {
    pub(super) const fn new(lifeline: &'a Lifeline) -> Self {
        Self {
            lifeline,
            handed: Vec::new(),
        }
    }
}

impl Read for Receiver<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let lifeline = self.lifeline.0.get()?;
        poll(&mut [PollFd::new(lifeline, PollFlags::IN)], None)?;
        // A forked child must not inherit a received descriptor, and a fork must not wait for the
        // message: the read does not block.
        without_forks(|| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_HANDED))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let read = recvmsg(
                lifeline,
                &mut [IoSliceMut::new(bytes)],
                &mut control,
                AT_ONCE_CLOSED | RecvFlags::DONTWAIT,
            )?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(handed) = message {
                    for descriptor in handed {
                        self.handed.push(Private::open(|| Ok(descriptor))?);
                    }
                }
            }
            Ok(read.bytes)
        })
    }
}

/// Reads exactly two frames: the parent's build and the assignment. The parent sends nothing else.
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
            // A signal interrupted the read, such as SIGCONT after a stop, or no bytes have arrived yet.
            Err(error) if is_passing(error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
}

const fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Blocks until the other side of a stream is closed. Calls `stop` for each request to stop.
pub(super) fn outlast(mut stream: impl Read, mut stop: impl FnMut()) {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1..) => stop(),
            Err(error) if is_passing(error.kind()) => {}
            // Another error also means that the other side is closed.
            Ok(0) | Err(_) => return,
        }
    }
}
