//! `Answer`: an entry of an outbox. Entries leave the outbox in the order in which they were added.

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
    /// A reply that is encoded when its session has room for it.
    Large(LargeReply),
    /// The reason why there is no reply.
    Fault(Fault),
    /// The grant of the call is void from now on.
    Revoked,
}

/// An answer in the form in which the outbox stores it.
pub(super) enum Parcel {
    /// The range of its body in `bodies`.
    Reply(Range<usize>),
    Fault(Fault),
    /// A reply that is not encoded before its session has room for it.
    Large(LargeReply),
    Revoked,
}
