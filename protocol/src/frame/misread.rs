//! The readable part of messages that are no requests or responses: the number of their call. A malformed
//! message is thus an error of that call alone.

use crate::codec::{error::CodecError, fields::Fields};

/// The type of a message that [`Request::decode`](super::Request::decode) cannot decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misread {
    /// A call with this number, which has to be answered.
    Call(u64),
    /// A cast, or a withdrawal whose numbers belong to no call. Neither has an answer.
    OneWay,
    /// Any other message. The rest of the stream may be unusable too.
    Stream,
}

impl Misread {
    /// Determines the type of a message.
    #[cold]
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        Self::read(message).unwrap_or(Self::Stream)
    }

    fn read(message: &[u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        Ok(match f.number::<u8>()? {
            2 | 3 | 6..=10 => Self::Call(f.number()?),
            4 => Self::OneWay,
            5 => {
                let _: (u64, u64) = (f.number()?, f.number()?);
                fields.end()?;
                Self::OneWay
            }
            _ => Self::Stream,
        })
    }
}

/// Reads the call number of a [`Response::Fault`](super::Response::Fault) that
/// [`Response::decode`](super::Response::decode) cannot decode, such as one that only later managers send.
#[cold]
#[must_use]
pub fn faulted(message: &[u8]) -> Option<u64> {
    let mut fields = Fields::of(message).ok()?;
    let is_fault = fields.number::<u8>().ok()? == 68;
    is_fault.then(|| fields.number().ok())?
}

#[cfg(test)]
mod tests {
    use crate::codec::value::encode;

    use super::*;

    #[test]
    fn number_is_read_of_each_message_that_has_one() {
        for number in [2, 3, 6, 7, 8, 9, 10] {
            let message = encode(&(number, 5, "what", -1)).unwrap();
            assert_eq!(Misread::of(&message), Misread::Call(5));
        }
        assert_eq!(Misread::of(&encode(&(4, 5)).unwrap()), Misread::OneWay);
        let far = encode(&(5, u64::MAX, u64::MAX)).unwrap();
        assert_eq!(Misread::of(&far), Misread::OneWay);
        assert_eq!(faulted(&encode(&(68, 5, "Novel")).unwrap()), Some(5));
    }

    #[test]
    fn what_has_no_number_of_a_call_is_of_no_use() {
        let messages = [
            encode(&(1, 5)).unwrap(),
            encode(&(12, 5)).unwrap(),
            encode(&(3, -5)).unwrap(),
            encode(&(3, "five")).unwrap(),
            encode(&(5, 5)).unwrap(),
            encode(&(5, 5, 5, 5)).unwrap(),
            encode(&[3]).unwrap(),
            encode(&"text").unwrap(),
            Vec::new(),
        ];
        for message in messages {
            assert_eq!(Misread::of(&message), Misread::Stream, "{message:?}");
            assert_eq!(faulted(&message), None, "{message:?}");
        }
    }
}
