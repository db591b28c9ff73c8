//! `Reports`: the parent's end of the lifeline. It writes the first message and requests to stop, and reads what
//! the child reports.
//!
//! Invariant: what the socket did not take at once is written while the parent waits for the next report.

use std::io;

use bytes::{Buf, Bytes};
use lockkeeper_protocol::{codec, frame::Inbox};
use lockkeeper_sys::Private;
use tokio::io::Interest;

use crate::process::lifeline::{ChildReport, MOST_BYTES, STOP};

/// The bytes that are read at a time.
const READ_BYTES: usize = 1 << 14;

/// The parent's end of the lifeline.
#[derive(Debug)]
pub(super) struct Reports {
    lifeline: Private<tokio::net::UnixStream>,
    inbox: Inbox,
    /// What was not written yet.
    unsent: Bytes,
}

impl Reports {
    /// Makes the reports of a child that was sent all of its first message but `unsent`.
    pub(super) fn new(lifeline: Private<tokio::net::UnixStream>, unsent: Bytes) -> Self {
        Self {
            lifeline,
            inbox: Inbox::new(MOST_BYTES),
            unsent,
        }
    }

    /// Asks the child to stop, once it has read its first message.
    pub(super) fn ask_to_stop(&mut self) {
        self.unsent = [&*self.unsent, &[STOP]].concat().into();
        self.write();
    }

    /// Waits for the next report; `None` is the end of the lifeline. Meanwhile this writes the rest
    /// of the first message, which may be more than the socket takes at once.
    pub(super) async fn next(&mut self) -> io::Result<Option<ChildReport>> {
        loop {
            if let Some(frame) = self.inbox.next_message().map_err(io::Error::other)? {
                return codec::decode(&frame).map(Some).map_err(io::Error::other);
            }
            let interest = if self.unsent.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.lifeline.get()?.ready(interest).await?;
            if ready.is_writable() {
                self.write();
            }
            if ready.is_readable() && self.read()? == Some(0) {
                return Ok(None);
            }
        }
    }

    /// Writes as many of the unsent bytes as the socket takes.
    fn write(&mut self) {
        while !self.unsent.is_empty() {
            let written = self
                .lifeline
                .get()
                .and_then(|it| it.try_write(&self.unsent));
            match written {
                Ok(written) => self.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The child may have ended. Reports that it wrote before can still be read.
                Err(_) => break,
            }
        }
        // Frees the buffer, which may have megabytes, before the end of the child.
        self.unsent = Bytes::new();
    }

    /// Reads the available bytes, and returns their number: zero at the end, `None` if there are none yet.
    fn read(&mut self) -> io::Result<Option<usize>> {
        let mut bytes = [0; READ_BYTES];
        match self.lifeline.get()?.try_read(&mut bytes) {
            Ok(length) => {
                self.inbox.feed(bytes.get(..length).unwrap_or_default());
                Ok(Some(length))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                // The child ended without reading all of its first message.
                io::ErrorKind::ConnectionReset => Ok(Some(0)),
                _ => Err(error),
            },
        }
    }
}
