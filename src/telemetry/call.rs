//! The client's record of a call: a span for its duration, and its result.
//!
//! Invariant: without a subscriber a call contains one null pointer, and no allocation.

use std::{fmt::Display, time::Instant};

use lockkeeper_protocol::SessionId;
use tracing::{Level, Span, field};

use crate::{error::CallError, telemetry::target};

/// The span of a call in progress.
#[derive(Debug)]
pub(crate) struct Calling(Option<Box<RecordedCall>>);

#[derive(Debug)]
struct RecordedCall {
    span: Span,
    begun: Instant,
    has_ended: bool,
}

const SPAN: &str = "call";

impl Calling {
    /// Begins the span of a call to an object.
    pub(crate) fn begin(kind: &str, name: &str, operation: &str) -> Self {
        let span = tracing::debug_span!(
            target: target::CALL,
            "call",
            kind,
            name,
            operation,
            session = field::Empty,
            seq = field::Empty,
            outcome = field::Empty,
            micros = field::Empty
        );
        Self((!span.is_disabled()).then(|| {
            Box::new(RecordedCall {
                span,
                begun: Instant::now(),
                has_ended: false,
            })
        }))
    }

    /// Returns whether a subscriber records calls.
    #[cfg(test)]
    pub(super) const fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Runs a part of the call inside its span.
    pub(crate) fn within<T>(&self, part: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(recorded) => recorded.span.in_scope(part),
            None => part(),
        }
    }

    /// Records how the call ended.
    pub(crate) fn ended(&mut self, outcome: &dyn Display) {
        if let Some(mut recorded) = self.0.take() {
            recorded.end(outcome);
        }
    }
}

impl RecordedCall {
    fn end(&mut self, outcome: &dyn Display) {
        self.has_ended = true;
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.span.record("outcome", field::display(outcome));
        self.span.record("micros", micros);
        self.span.in_scope(|| {
            tracing::trace!(target: target::CALL, %outcome, micros, "call ended");
        });
    }
}

impl Drop for RecordedCall {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(&"dropped");
        }
    }
}

/// Records the number of the call in the current span.
pub(crate) fn numbered(session: SessionId, seq: u64) {
    if !tracing::level_enabled!(Level::DEBUG) {
        return;
    }
    let span = Span::current();
    // The current span may be one of the program's, with a field of that name.
    if span
        .metadata()
        .is_some_and(|span| span.target() == target::CALL && span.name() == SPAN)
    {
        span.record("session", session.number());
        span.record("seq", seq);
    }
}

/// Records that a one-way call could not be sent.
#[cold]
pub(crate) fn not_cast(kind: &str, name: &str, operation: &str, why: &CallError) {
    tracing::warn!(target: target::CALL, kind, name, operation, %why, "call not sent");
}

/// Records that a one-way call was sent.
pub(crate) fn cast(kind: &str, name: &str, operation: &str) {
    tracing::trace!(target: target::CALL, kind, name, operation, "call sent one way");
}
