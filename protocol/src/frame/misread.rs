//! What can be read of messages that are no requests or responses: the number of the call that they are
//! about. So one that does not fit is the error of that call alone.

use crate::codec::{error::CodecError, fields::Fields};

/// What a message is that [`Request::decode`](super::Request::decode) does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misread {
    /// A call with this number, which is to be answered.
    Call(u64),
    /// A cast, or a withdrawal with numbers that no call has: neither has an answer.
    OneWay,
    /// None of these: what follows it in the stream may be of no use either.
    Stream,
}

impl Misread {
    /// Reads what a message is.
    #[cold]
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        Self::read(message).unwrap_or(Self::Stream)
    }

    fn read(message: &[u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        Ok(match f.number::<u8>()? {
            2 | 3 | 6 | 7 | 8 | 9 => Self::Call(f.number()?),
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

/// Reads the number of the call in a [`Response::Fault`](super::Response::Fault) that
/// [`Response::decode`](super::Response::decode) does not read, such as one that only later managers send.
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
        for number in [2, 3, 6, 7, 8, 9] {
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
            encode(&(10, 5)).unwrap(),
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
