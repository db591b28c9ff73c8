//! Reads frames from a client, and counts them.

use std::task::{self, Poll, ready};

use lockkeeper_protocol::frame::Inbox;

use crate::{
    server::session::{
        context::{Context, End},
        sizes::{CHUNK_BYTES, SHORT_CHUNK_BYTES},
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// Reads at most `most` bytes, and fewer while frames are short. Returns their number.
#[inline]
pub(super) fn poll_receive(
    task: &mut task::Context<'_>,
    stream: &dyn AttachedStream,
    most: usize,
    inbox: &mut Inbox,
    context: &Context,
) -> Poll<Result<usize, End>> {
    let scratch = &mut *context.scratch.borrow_mut();
    let is_short = inbox.missing() <= SHORT_CHUNK_BYTES;
    let most = most.min(if is_short {
        SHORT_CHUNK_BYTES
    } else {
        CHUNK_BYTES
    });
    let room = scratch.get_mut(..most).unwrap_or_default();
    let length = ready!(stream.poll_read(task, room))?;
    Poll::Ready(take_in(length, scratch, inbox, context))
}

/// Reads one chunk from a client that no longer reads: takes at most `left` bytes, and counts them down. It
/// does not wait for the runtime's readiness, which may be late for the last bytes.
pub(super) fn receive_last(
    stream: &dyn Stream,
    left: &mut usize,
    inbox: &mut Inbox,
    context: &Context,
) -> Result<usize, End> {
    let scratch = &mut *context.scratch.borrow_mut();
    if *left == 0 {
        // The error tells whether the client has read all that was written. Bytes that a forked child adds
        // are dropped.
        stream.try_read(&mut [0])?;
        return Err(End::Left);
    }
    let most = scratch.len().min(*left);
    let room = scratch.get_mut(..most).unwrap_or_default();
    let length = stream.try_read(room)?;
    *left = left.saturating_sub(length);
    take_in(length, scratch, inbox, context)
}

fn take_in(length: usize, read: &[u8], inbox: &mut Inbox, context: &Context) -> Result<usize, End> {
    if length == 0 {
        return Err(End::Left);
    }
    session::received(&context.shell, length);
    inbox.feed(read.get(..length).unwrap_or_default());
    Ok(length)
}
