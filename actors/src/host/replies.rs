//! Encodes and measures large replies, which runs code of their kinds.
//!
//! Invariant: an error or a panic of that code is a fault of that answer, and the object continues.

use lockkeeper_protocol::{Fault, caught, codec::Fit};

use crate::kind::large_reply::LargeReply;

/// Appends an encoded reply if it takes at most `most` bytes.
///
/// # Errors
///
/// Returns a fault when the reply does not encode.
pub fn encode_reply(reply: &LargeReply, buffer: &mut Vec<u8>, most: usize) -> Result<Fit, Fault> {
    let mut encoded = Ok(Fit::TooLong);
    match caught(|| encoded = reply.encode(buffer, most)) {
        Ok(()) => encoded.map_err(|error| Fault::Unencodable(error.to_string())),
        Err(why) => Err(Fault::Unencodable(format!("its code panicked: {why}"))),
    }
}

/// Counts the bytes of a reply that waits for room in its session.
pub fn keep_reply(reply: &mut LargeReply) {
    // A reply whose code panics here becomes a fault when it is encoded.
    let _ = caught(|| reply.keep());
}

/// Encodes a reply into bytes of its own, including shared bytes.
///
/// # Errors
///
/// Returns the errors of [`encode_reply`].
pub fn encode_whole(reply: &LargeReply) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    if let Fit::Fits(Some((place, lent))) = encode_reply(reply, &mut bytes, usize::MAX)? {
        bytes.splice(place..place, lent);
    }
    Ok(bytes)
}
