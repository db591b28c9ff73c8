//! The initializer: the task that each worker runs before its first one, and the error that it may return.
//!
//! The worker knows only the names of tasks, so it hands the output of one that has failed back to the
//! parent, which knows the type and so has the text of the error.
//!
//! Invariant: users' code in the parent, such as the `Display` of an error, runs guarded. Its panic is
//! part of the text and ends no task of the pool.

use std::fmt::{Display, Write};

use lockkeeper_protocol::{
    codec::{self, Blob, CodecError, guarded},
    operations::{Chunk, TaskFault},
};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::{
    error::StartError,
    pool::{chunk, task::Task},
    process::not_ready::NotReady,
};

/// The output of a pool's [initializer](crate::builders::PoolBuilder::initializer): `()`, or a `Result<(), E>`
/// whose error keeps the pool from starting. Other types cannot implement it.
#[diagnostic::on_unimplemented(
    message = "a task with the output `{Self}` cannot be the initializer of a pool",
    note = "its `Output` has to be `()` or `Result<(), E>` with an `E` that has `Display`"
)]
pub trait InitializerOutput: ReadableOutput {}

impl InitializerOutput for () {}

impl<E: Display> InitializerOutput for Result<(), E> where Self: DeserializeOwned {}

/// Seals [`InitializerOutput`]: this module does not export the trait.
#[expect(unnameable_types, reason = "other crates must not implement the trait")]
pub trait ReadableOutput {
    /// Returns the text of the error in an encoded output; `None` if there are no errors.
    const READ_ERROR: Option<ReadError>;
}

impl ReadableOutput for () {
    const READ_ERROR: Option<ReadError> = None;
}

impl<E: Display> ReadableOutput for Result<(), E>
where
    Self: DeserializeOwned,
{
    const READ_ERROR: Option<ReadError> = Some(read::<E>);
}

/// Returns the text of the error in an encoded output.
pub(crate) type ReadError = fn(&[u8]) -> Result<String, CodecError>;

/// The initializer of a pool: its task, and how the parent reads its error, if it can return one.
#[derive(Clone, Debug)]
pub(super) struct Initializer {
    pub(super) task: Chunk,
    pub(super) read_error: Option<ReadError>,
}

impl Initializer {
    pub(super) fn new<T: Task<Output: InitializerOutput>>(task: T) -> Result<Self, TaskFault> {
        Ok(Self {
            task: chunk::pack(&[task])?,
            read_error: <T::Output as ReadableOutput>::READ_ERROR,
        })
    }
}

/// Returns whether an encoded output is an error.
pub(super) fn is_error(output: &Blob) -> bool {
    type Output = Result<Result<IgnoredAny, IgnoredAny>, TaskFault>;
    matches!(codec::decode::<Output>(&output.0), Ok(Ok(Err(_))))
}

/// Returns the sentence of a worker whose initializer has returned an error. [`explain`] completes it.
pub(super) fn refusal(initializer: &Chunk) -> String {
    format!("the initializer {:?} returned an error", initializer.task)
}

/// Adds the text of the initializer's error to the reason of a worker that did not get ready.
pub(super) fn explain(mut not_ready: NotReady, read_error: ReadError) -> NotReady {
    if let NotReady::Cannot(StartError::ChildFailed(why), Some(output)) = &mut not_ready {
        why.push_str(&match read_error(&output.0) {
            Ok(text) => format!(": {text}"),
            Err(error) => format!(", whose text cannot be read: {error}"),
        });
    }
    not_ready
}

fn read<E: Display>(output: &[u8]) -> Result<String, CodecError>
where
    Result<(), E>: DeserializeOwned,
{
    let output = guarded(|| codec::decode::<Result<Result<(), E>, TaskFault>>(output))?;
    let Ok(Err(error)) = output else {
        return Err(CodecError::new("it is no error".to_owned()));
    };
    let text = guarded(|| {
        let mut text = String::new();
        let failed = |_| CodecError::new("its Display returned an error".to_owned());
        write!(text, "{error}").map_err(failed)?;
        Ok(text)
    });
    // The drop has a guard of its own: a second panic while the first unwinds would end the process.
    let dropped = guarded(|| {
        drop(error);
        Ok(())
    });
    dropped.and(text)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::{Deserialize, Serialize};

    use super::*;

    /// An error whose `Display` or drop misbehaves.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Odd {
        Panics,
        Fails,
        PanicsTwice,
        PanicsOnDrop,
    }

    impl Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Panics | Self::PanicsTwice => panic!("no text"),
                Self::Fails => Err(fmt::Error),
                Self::PanicsOnDrop => f.write_str("odd"),
            }
        }
    }

    impl Drop for Odd {
        fn drop(&mut self) {
            if matches!(self, Self::PanicsTwice | Self::PanicsOnDrop) {
                panic!("no drop");
            }
        }
    }

    fn explained(variant: &str) -> String {
        let output = codec::encode(&Ok::<_, TaskFault>(Err::<(), _>(variant))).unwrap();
        assert!(is_error(&Blob::from(output.clone())));
        let cannot = NotReady::Cannot(
            StartError::ChildFailed("it".to_owned()),
            Some(Box::new(output.into())),
        );
        StartError::from(explain(cannot, read::<Odd>)).to_string()
    }

    #[test]
    fn panic_of_an_error_is_part_of_the_reason() {
        for (variant, expected) in [
            ("Panics", "its code panicked: no text"),
            ("Fails", "its Display returned an error"),
            ("PanicsTwice", "its code panicked: no drop"),
            ("PanicsOnDrop", "its code panicked: no drop"),
        ] {
            let told = explained(variant);
            assert!(told.contains(expected), "{variant}: {told}");
        }
    }
}
