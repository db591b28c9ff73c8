//! Writes a reply whose body is encoded in its frame, without a copy of the bytes that it lends.

use crate::{
    codec::{elements::Elements, encoding::Fit},
    frame::framing::HEADER,
};

/// Appends a frame with a reply. `encode` appends the body, and gets the most bytes that it may have. Bytes
/// that the body lends belong at the returned position of the buffer.
///
/// The buffer is unchanged unless the frame fits into `most` bytes.
///
/// # Errors
///
/// Returns the errors of `encode`.
pub fn append_reply<E>(
    buffer: &mut Vec<u8>,
    seq: u64,
    most: usize,
    encode: impl FnOnce(&mut Vec<u8>, usize) -> Result<Fit, E>,
) -> Result<Fit, E> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let length_of = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let most = most.min(length_of(usize::MAX).try_into().unwrap_or(usize::MAX));
    let mut lent = None;
    let body = |buffer: &mut Vec<u8>| {
        let body = buffer.len();
        let used = body - start - HEADER;
        match encode(buffer, most.saturating_sub(used)) {
            Ok(Fit::Fits(part)) => {
                let length = buffer.len() - body + part.as_ref().map_or(0, |(_, part)| part.len());
                lent = part;
                Ok(length_of(length))
            }
            Ok(Fit::TooLong) => Err(None),
            Err(error) => Err(Some(error)),
        }
    };
    let all = Elements::begin(buffer).number(67u8).number(seq);
    let written = all.bytes_by(body).map(|all| all.end().is_ok());
    match written {
        Ok(true) => {
            let length = buffer.len() - start - HEADER;
            let length = length + lent.as_ref().map_or(0, |(_, part)| part.len());
            if let Some(place) = buffer.get_mut(start..start + HEADER) {
                place.copy_from_slice(&length_of(length).to_be_bytes());
            }
            Ok(Fit::Fits(lent))
        }
        // Three elements never exceed the limit.
        Ok(false) | Err(None) => {
            buffer.truncate(start);
            Ok(Fit::TooLong)
        }
        Err(Some(error)) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}
