//! Framing: each message is preceded by its length, as four big-endian bytes.

use std::iter;

use serde::Serialize;

use crate::codec::{error::CodecError, form::Form};

/// The content of a frame: a message of the protocol, or a value in the compact form.
pub trait Encode {
    /// Appends the content to a buffer. After an error the buffer may contain a part of it. A message of
    /// unlimited size fails at the first part beyond `most` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error when the content does not encode.
    fn encode_into(&self, buffer: &mut Vec<u8>, most: usize) -> Result<(), CodecError>;
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode_into(&self, buffer: &mut Vec<u8>, most: usize) -> Result<(), CodecError> {
        bounded(Form::Compact, buffer, self, most)
    }
}

/// A value of a user's type in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a, T>(pub &'a T);

impl<T: Serialize> Encode for Named<'_, T> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>, most: usize) -> Result<(), CodecError> {
        bounded(Form::Named, buffer, self.0, most)
    }
}

#[inline]
fn bounded<T: Serialize + ?Sized>(
    form: Form,
    buffer: &mut Vec<u8>,
    value: &T,
    most: usize,
) -> Result<(), CodecError> {
    if form.encode_bounded(buffer, value, most)? {
        return Ok(());
    }
    Err(CodecError::new(format!(
        "it has more than {most} bytes, which is all that there is room for"
    )))
}

/// Appends a frame to a buffer. After an error the buffer is unchanged.
///
/// # Errors
///
/// Returns an error when the message does not encode, or has more than `most` bytes.
#[inline]
pub fn append<T: Encode>(buffer: &mut Vec<u8>, message: &T, most: usize) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let encoded = message.encode_into(buffer, most).and_then(|()| {
        let length = buffer.len() - start - HEADER;
        match u32::try_from(length) {
            Ok(header) if length <= most => Ok(header),
            Ok(_) | Err(_) => Err(CodecError::new(format!(
                "a message of {length} bytes is above the limit of {most}"
            ))),
        }
    });
    match encoded {
        Ok(header) => {
            if let Some(place) = buffer.get_mut(start..start + HEADER) {
                place.copy_from_slice(&header.to_be_bytes());
            }
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// Iterates over the messages of a row of complete frames. An incomplete frame is an error, and the last
/// item.
pub fn frames(mut row: &[u8]) -> impl Iterator<Item = Result<&[u8], CodecError>> {
    iter::from_fn(move || {
        if row.is_empty() {
            return None;
        }
        let split = row
            .split_first_chunk::<HEADER>()
            .and_then(|(header, rest)| {
                let length = usize::try_from(u32::from_be_bytes(*header)).ok()?;
                rest.split_at_checked(length)
            });
        Some(match split {
            Some((message, rest)) => {
                row = rest;
                Ok(message)
            }
            None => {
                row = &[];
                Err(CodecError::new("a frame breaks off".to_owned()))
            }
        })
    })
}

/// The bytes of a frame before its message.
pub(crate) const HEADER: usize = 4;
