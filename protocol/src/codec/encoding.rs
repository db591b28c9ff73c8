//! Encodes values in either form, into a new or an existing buffer.

use bytes::Bytes;
use serde::Serialize;

use crate::codec::{
    error::{CodecError, Failure},
    form::Form,
    lent,
    output::Output,
    serializer::Serializer,
};

/// The initial capacity of a new buffer: most values take less.
const USUAL_BYTES: usize = 64;

impl Form {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// Returns an error when the value's `Serialize` fails or announces a wrong number of parts, when the
    /// value nests deeper than [`MAX_DEPTH`](crate::codec::MAX_DEPTH), and when a compact struct skips a
    /// field.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        let mut buffer = Vec::with_capacity(USUAL_BYTES);
        self.encode_into(&mut buffer, value)?;
        Ok(buffer)
    }

    /// Appends the encoded value to a buffer. After an error the buffer may have a part of the
    /// value: truncate it to its former length.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    #[inline]
    pub fn encode_into<T: Serialize + ?Sized>(
        self,
        buffer: &mut Vec<u8>,
        value: &T,
    ) -> Result<(), CodecError> {
        let mut serializer = Serializer::new(self, Output::new(buffer, usize::MAX));
        value.serialize(&mut serializer).map_err(Failure::into)
    }

    /// Appends the encoded value to a buffer if it takes at most `most` bytes, and returns whether it does.
    ///
    /// The encoding stops at the first part that exceeds `most`, so an endless value takes no more memory than
    /// one that fits. If the value does not fit, the buffer has a part of it: truncate it to its former length.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    #[inline]
    pub fn encode_bounded<T: Serialize + ?Sized>(
        self,
        buffer: &mut Vec<u8>,
        value: &T,
        most: usize,
    ) -> Result<bool, CodecError> {
        let mut serializer = Serializer::new(self, Output::new(buffer, most));
        let encoded = value.serialize(&mut serializer);
        let is_over = serializer.into_output().is_over();
        match encoded {
            Err(error) if !is_over => Err(error.into()),
            Ok(()) | Err(_) => Ok(!is_over),
        }
    }

    /// Appends the encoded value to a buffer if it takes at most `most` bytes. A long [`Blob`] in the value
    /// is not copied but returned, with the place where it belongs.
    ///
    /// The encoding stops at the first part that exceeds `most`. If the value does not fit, the buffer is
    /// unchanged.
    ///
    /// [`Blob`]: crate::codec::Blob
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn encode_within<T: Serialize + ?Sized>(
        self,
        buffer: &mut Vec<u8>,
        value: &T,
        most: usize,
    ) -> Result<Fit, CodecError> {
        let start = buffer.len();
        let mut serializer = Serializer::new(self, Output::within(buffer, most));
        let mut encode = || value.serialize(&mut serializer);
        let encoded = if most < lent::LEAST_BYTES {
            encode()
        } else {
            lent::lending(encode)
        };
        let output = serializer.into_output();
        let is_over = output.is_over();
        let lent = output.into_lent();
        match encoded {
            Ok(()) if !is_over => return Ok(Fit::Fits(lent)),
            Ok(()) | Err(_) => buffer.truncate(start),
        }
        match encoded {
            Err(error) if !is_over => Err(error.into()),
            Ok(()) | Err(_) => Ok(Fit::TooLong),
        }
    }

    /// Returns the length of the encoded value. A long [`Blob`](crate::codec::Blob) in it is not copied.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn measure<T: Serialize + ?Sized>(self, value: &T) -> Result<usize, CodecError> {
        let mut buffer = Vec::new();
        match self.encode_within(&mut buffer, value, usize::MAX)? {
            Fit::Fits(lent) => Ok(buffer.len() + lent.map_or(0, |(_, bytes)| bytes.len())),
            // This cannot happen: no value has that many bytes.
            Fit::TooLong => Ok(usize::MAX),
        }
    }
}

/// The result of encoding a value with a limit.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// The value fits. A long byte string of it is not in the buffer, but belongs at this place in
    /// it.
    Fits(Option<(usize, Bytes)>),
    /// The value takes more bytes than the limit.
    TooLong,
}

#[cfg(test)]
mod tests {
    use crate::codec::blob::Blob;

    use super::*;

    #[test]
    fn value_that_does_not_fit_leaves_the_buffer_as_it_was() {
        let value = ("text", vec![1u8; 40], Blob::from(vec![7; 30]));
        let encoded = Form::Compact.encode(&value).unwrap();
        for most in 0..encoded.len() {
            let mut buffer = vec![9];
            assert_eq!(
                Form::Compact.encode_within(&mut buffer, &value, most),
                Ok(Fit::TooLong)
            );
            assert_eq!(buffer, [9]);
        }
        let mut buffer = Vec::new();
        let fit = Form::Compact.encode_within(&mut buffer, &value, encoded.len());
        assert_eq!((fit, buffer), (Ok(Fit::Fits(None)), encoded));
    }

    #[test]
    fn endless_value_is_encoded_only_up_to_the_limit() {
        #[derive(Clone, Copy, Debug)]
        enum Endless {
            List,
            Map,
            Texts,
        }
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    Self::List => serializer.collect_seq(std::iter::repeat(7_u8)),
                    Self::Map => serializer.collect_map(std::iter::repeat((1_u8, [2_u8; 3]))),
                    Self::Texts => serializer.collect_seq(std::iter::repeat("x".repeat(300))),
                }
            }
        }
        for form in [Form::Compact, Form::Named] {
            for endless in [Endless::List, Endless::Map, Endless::Texts] {
                let mut buffer = vec![9];
                let fits = form.encode_bounded(&mut buffer, &Some(endless), 1000);
                assert_eq!(fits, Ok(false), "{endless:?}");
                assert!(buffer.len() < 1020, "{endless:?}: {}", buffer.len());
                let within = form.encode_within(&mut buffer, &endless, 1000);
                assert_eq!(within, Ok(Fit::TooLong));
            }
        }
        let value = ("text", vec![1u8; 40], Blob::from(vec![7; 1 << 17]));
        let encoded = Form::Named.encode(&value).unwrap();
        for (most, fits) in [(encoded.len() - 1, false), (encoded.len(), true)] {
            let mut buffer = Vec::new();
            let bounded = Form::Named.encode_bounded(&mut buffer, &value, most);
            assert_eq!(bounded, Ok(fits));
            assert!(!fits || buffer == encoded);
        }
    }

    #[test]
    fn first_long_byte_string_is_lent_and_not_copied() {
        let long = Blob::from(vec![7; lent::LEAST_BYTES]);
        let value = (1, Blob::from(vec![6; 9]), long.clone(), long.clone(), 2);
        let mut buffer = vec![9];
        let fit = Form::Compact
            .encode_within(&mut buffer, &value, usize::MAX)
            .unwrap();
        let Fit::Fits(Some((place, lent))) = fit else {
            panic!("{fit:?}");
        };
        assert_eq!(lent.as_ptr(), long.0.as_ptr());
        buffer.splice(place..place, lent.iter().copied());
        assert_eq!(buffer[1..], Form::Compact.encode(&value).unwrap());
        // Outside `lending` all bytes are copied.
        assert_eq!(Form::Compact.encode(&long).unwrap().len(), long.0.len() + 5);
    }

    #[test]
    fn lent_bytes_count_and_belong_at_their_place() {
        #[derive(Serialize)]
        struct Held {
            skipped: Option<Option<()>>,
            rows: Vec<Blob>,
            last: Option<Option<()>>,
        }
        let long = Blob::from(vec![7; lent::LEAST_BYTES]);
        let held = Held {
            skipped: Some(Some(())),
            rows: vec![long.clone(), long],
            last: Some(None),
        };
        let encoded = Form::Named.encode(&held).unwrap();
        for (most, is_enough) in [(encoded.len() - 1, false), (encoded.len(), true)] {
            let mut buffer = vec![9];
            match Form::Named.encode_within(&mut buffer, &held, most).unwrap() {
                Fit::TooLong => assert!(!is_enough && buffer == [9]),
                Fit::Fits(lent) => {
                    let (place, lent) = lent.expect("the byte string is long");
                    buffer.splice(place..place, lent);
                    assert!(is_enough && buffer[1..] == encoded);
                }
            }
        }
    }

    #[test]
    fn value_that_is_encoded_inside_another_takes_none_of_its_bytes() {
        struct Inner(Blob);
        impl Serialize for Inner {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let bytes = Form::Named.encode(&self.0).expect("it encodes");
                serializer.serialize_bytes(&bytes)
            }
        }
        let inner = Inner(Blob::from(vec![7; lent::LEAST_BYTES]));
        let mut buffer = Vec::new();
        let fit = Form::Named.encode_within(&mut buffer, &inner, usize::MAX);
        assert_eq!(fit, Ok(Fit::Fits(None)));
        assert_eq!(buffer, Form::Named.encode(&inner).unwrap());
    }
}
