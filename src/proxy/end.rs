//! `End`: a time limit that several calls share.

use std::time::Duration;

use lockkeeper_protocol::Operation;
use tokio::time::Instant;

use crate::{
    error::CallError,
    subject::{Asked, Subject},
};

/// The common time limit of several calls. One beyond the range of the clock never passes.
pub(super) struct End {
    end: Option<Instant>,
    /// Whether the timeout was zero, so that the caller does not wait.
    is_try: bool,
}

impl End {
    /// Returns the end of a timeout that begins now.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self {
            end: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            is_try: timeout.is_some_and(|timeout| timeout.is_zero()),
        }
    }

    /// Returns the remaining time, which is the timeout of the next call. Each call needs it, also one that the
    /// manager answers at once, because the manager may be stopped.
    pub(super) fn left(&self) -> Option<Duration> {
        let end = self.end?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Fails between two calls once the time is over, as a timeout of operation `O`.
    pub(super) fn check<O: Operation>(
        &self,
        subject: impl FnOnce() -> Subject,
    ) -> Result<(), CallError> {
        if !self.is_over() {
            return Ok(());
        }
        let operation = O::NAME.to_owned();
        let asked = match self.is_try {
            true => Asked::Try(operation),
            false => Asked::Call(operation),
        };
        Err(CallError::TimedOut(subject().asked(asked)))
    }
}
