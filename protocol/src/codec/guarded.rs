//! Encoding and decoding by code of users, whose panic is an error of that value alone.

use crate::{
    codec::{error::CodecError, form::Form},
    panics::caught,
};

/// Runs code that encodes or decodes a user's value: its `Serialize` or `Deserialize` may panic.
///
/// What was appended to a buffer before a panic stays there, as after an error of
/// [`encode_into`](crate::codec::encode_into).
///
/// # Errors
///
/// Returns the error of the code, and one with the message of its panic.
pub fn guarded<T>(code: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    caught(code)
        .unwrap_or_else(|message| Err(CodecError::new(format!("its code panicked: {message}"))))
}

/// Does the same for the arguments or the reply of an operation of a kind that has a form. Those of the built-in
/// kinds, which have the compact form, have no code of users.
///
/// # Errors
///
/// As [`guarded`].
#[inline]
pub fn guarded_in<T>(
    form: Form,
    code: impl FnOnce() -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    match form {
        Form::Compact => code(),
        Form::Named => guarded(code),
    }
}
