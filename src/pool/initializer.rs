//! `Initializer`: the task that each worker runs before its first one, and the error that it may return.
//!
//! The worker knows only the names of tasks, so it hands the output of one that has failed back to the
//! parent, which knows the type and so has the text of the error.

use std::fmt::{self, Display};

use lockkeeper_protocol::{
    codec::{self, Blob},
    operations::{Chunk, TaskFault},
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::pool::{chunk, task::Task};

/// The output of a pool's [initializer](crate::builders::PoolBuilder::initializer): `()`, or a `Result<(), E>`
/// whose error keeps the pool from starting.
#[diagnostic::on_unimplemented(
    message = "a task with the output `{Self}` cannot be the initializer of a pool",
    note = "its `Output` has to be `()` or `Result<(), E>` with an `E` that has `Display`"
)]
pub trait InitializerOutput {
    /// Returns why the worker may not start.
    #[doc(hidden)]
    fn error(self) -> Option<String>;
}

impl InitializerOutput for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display> InitializerOutput for Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Returns the text of the error in an encoded output, if it has one.
type ReadError = fn(&[u8]) -> Option<String>;

/// The task, and how the parent reads an output that says that it has failed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Initializer {
    pub(super) task: Chunk,
    #[serde(skip)]
    read: Option<ReadError>,
}

impl Initializer {
    pub(super) fn new<T: Task<Output: InitializerOutput>>(task: T) -> Result<Self, TaskFault> {
        Ok(Self {
            task: chunk::pack(&[task])?,
            read: Some(read::<T::Output>),
        })
    }

    /// Returns the sentence for an output of a worker that refused its work.
    pub(super) fn error(&self, output: &[u8]) -> String {
        let error = self.read.and_then(|read| read(output));
        let error = error.unwrap_or_else(|| "it failed".to_owned());
        format!(
            "the initializer {:?} returned an error: {error}",
            self.task.task
        )
    }
}

fn read<O: InitializerOutput + DeserializeOwned>(output: &[u8]) -> Option<String> {
    let output = codec::guarded(|| codec::decode::<Result<O, TaskFault>>(output));
    output.ok()?.ok()?.error()
}

/// Returns whether an encoded output is an error.
pub(super) fn is_error(output: &Blob) -> bool {
    type Output = Result<Result<IgnoredAny, IgnoredAny>, TaskFault>;
    matches!(codec::decode::<Output>(&output.0), Ok(Ok(Err(_))))
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Initializer").field(&self.task.task).finish()
    }
}
