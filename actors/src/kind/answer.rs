//! `Answer`: what an outbox gives for a call, in the order in which it was put in.

use std::ops::Range;

use lockkeeper_protocol::{CallId, Fault};

use crate::kind::large_reply::LargeReply;

/// One entry of an outbox.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The call that is answered, or the grant that is revoked.
    pub call: CallId,
    /// The content of the answer.
    pub outcome: Outcome<'a>,
}

/// The content of an answer.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The encoded reply.
    Reply(&'a [u8]),
    /// A reply that is to be encoded when there is room for it.
    Large(LargeReply),
    /// Why there is no reply.
    Fault(Fault),
    /// The grant of the call is void from now on.
    Revoked,
}

/// An answer as the outbox keeps it.
pub(super) enum Parcel {
    /// The range of its body in `bodies`.
    Reply(Range<usize>),
    Fault(Fault),
    /// A reply that is too long to be encoded before its session has room for it.
    Large(LargeReply),
    Revoked,
}
