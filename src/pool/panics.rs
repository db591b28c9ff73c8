//! Panics in the code of tasks: where they run, are encoded and decoded, and are dropped.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use lockkeeper_actors::panic_message;

/// Runs code of a task's own. Returns the message of a panic.
pub(super) fn caught<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Returns the message of a panic. Drops its payload, whose drop may panic as well.
pub(super) fn message(panic: Box<dyn Any + Send>) -> String {
    let message = panic_message(&*panic);
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // The drop of this payload may panic again.
        mem::forget(another);
    }
    message
}
