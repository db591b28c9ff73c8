//! Runs users' `Serialize` and `Deserialize` code, and turns a panic into an error of that value.

use crate::{
    codec::{error::CodecError, form::Form},
    panics::caught,
};

/// Runs code that encodes or decodes a user's value, whose `Serialize` or `Deserialize` may panic.
///
/// Bytes that were appended to a buffer before a panic stay there, as after an error of
/// [`encode_into`](crate::codec::encode_into).
///
/// # Errors
///
/// Returns the error of the code, or an error with the message of its panic.
pub fn guarded<T>(code: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    caught(code)
        .unwrap_or_else(|message| Err(CodecError::new(format!("its code panicked: {message}"))))
}

/// Runs code that encodes or decodes the arguments or the reply of an operation, in the form of its kind. Values
/// in the compact form belong to built-in kinds and run no users' code, so they are not guarded.
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
