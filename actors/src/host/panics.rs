//! The message of a panic as text.

use std::any::Any;

/// How many characters of a panic's message are told.
const MESSAGE_CHARS: usize = 1000;

/// The message of a panic. It may quote anything, which has no end, so it is cut.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.as_str()
    } else {
        "(not a text)"
    };
    match text.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
