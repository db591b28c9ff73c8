//! `LargeReply`: a reply that is encoded when its session has room for it.
//!
//! Invariant: the bytes of a waiting reply are counted in `Limits::stored_bytes`: by the object that shares
//! them, until both have dropped them, or by the reply itself.

use std::{fmt, rc::Rc};

use lockkeeper_protocol::{
    caught,
    codec::{CodecError, Fit, Form},
};
use serde::Serialize;

use crate::kind::budget::{Account, CALL_BYTES, StoredBytes};

/// A reply that is stored until its session has room for it. Shared data, such as a value that many calls
/// wait for, is in memory once.
pub struct LargeReply {
    form: Form,
    reply: Box<dyn EncodeReply>,
    kept: Kept,
}

/// Where the bytes of a reply are counted.
enum Kept {
    /// Not counted yet: the reply may be encoded at once.
    Nowhere(Rc<Account>),
    /// Counted by the object.
    #[expect(dead_code, reason = "its drop gives the bytes back")]
    Shared(Rc<StoredBytes>),
    /// Counted by the reply itself.
    #[expect(dead_code, reason = "its drop gives the bytes back")]
    Alone(StoredBytes),
}

/// A reply of any type.
trait EncodeReply {
    fn encode(&self, form: Form, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, CodecError>;

    fn measure(&self, form: Form) -> Result<usize, CodecError>;
}

/// A reply that exists until its drop. The drop runs code of the kind, whose panic would end the host or the
/// session.
struct Reply<R>(Option<R>);

impl<R: Serialize> EncodeReply for Reply<R> {
    fn encode(&self, form: Form, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, CodecError> {
        match &self.0 {
            Some(reply) => form.encode_within(buffer, reply, most),
            None => Ok(Fit::TooLong),
        }
    }

    fn measure(&self, form: Form) -> Result<usize, CodecError> {
        self.0.as_ref().map_or(Ok(0), |reply| form.measure(reply))
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        let reply = self.0.take();
        // The answer is encoded by now, or no client waits for it.
        let _ = caught(|| drop(reply));
    }
}

impl LargeReply {
    /// Creates a reply whose bytes are counted in an account if it has to wait.
    pub(crate) fn new<R: Serialize + 'static>(form: Form, reply: R, account: &Rc<Account>) -> Self {
        Self {
            form,
            reply: Box::new(Reply(Some(reply))),
            kept: Kept::Nowhere(Rc::clone(account)),
        }
    }

    /// Creates a reply whose bytes an object counts.
    pub(crate) fn sharing<R: Serialize + 'static>(
        form: Form,
        reply: R,
        stored: &Rc<StoredBytes>,
    ) -> Self {
        Self {
            form,
            reply: Box::new(Reply(Some(reply))),
            kept: Kept::Shared(Rc::clone(stored)),
        }
    }

    /// Counts the bytes of a reply that has to wait, even beyond the limit, so that no answer is lost. This
    /// runs code of the kind, which may panic.
    pub(crate) fn keep(&mut self) {
        if let Kept::Nowhere(account) = &self.kept {
            // A reply that does not encode becomes a fault later.
            let bytes = self.reply.measure(self.form).unwrap_or_default();
            self.kept = Kept::Alone(StoredBytes::beyond(account, bytes + CALL_BYTES));
        }
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
