//! Panics in code of others, caught and returned as text.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The most characters of a panic's message that are kept.
const MESSAGE_CHARS: usize = 1000;

/// Runs code of a user, or of a library that says by a panic what it cannot do.
///
/// # Errors
///
/// Returns the message of a panic.
pub fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panic_message)
}

/// Returns the message of a panic, at most 1,000 characters of it. Drops its payload, whose drop may
/// panic as well.
#[must_use]
pub fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.as_str()
    } else {
        "(not a text)"
    };
    let message = match text.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    };
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // The drop of this payload may panic again.
        mem::forget(another);
    }
    message
}
