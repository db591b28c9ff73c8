//! `LargeReply`: a reply that is encoded when its session has room for it.

use std::fmt;

use lockkeeper_protocol::codec::{CodecError, Fit, Form};
use serde::Serialize;

/// A reply that is kept as it is until its session has room for it. What is shared,
/// as a value that many wait for, is in memory once.
pub struct LargeReply {
    form: Form,
    reply: Box<dyn EncodeReply>,
}

/// A reply of whatever type.
trait EncodeReply {
    fn encode(&self, form: Form, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, CodecError>;
}

impl<R: Serialize> EncodeReply for R {
    fn encode(&self, form: Form, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, CodecError> {
        form.encode_within(buffer, self, most)
    }
}

impl LargeReply {
    pub(crate) fn new<R: Serialize + 'static>(form: Form, reply: R) -> Self {
        let reply = Box::new(reply);
        Self { form, reply }
    }

    /// Appends the encoded reply if it takes at most `most` bytes. This runs code of the kind, which may
    /// panic.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, CodecError> {
        self.reply.encode(self.form, buffer, most)
    }
}

impl fmt::Debug for LargeReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LargeReply")
    }
}
