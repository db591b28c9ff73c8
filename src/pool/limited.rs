//! `LimitedSeries`: the series of a stream at the queue, with the stream's share of the room.
//!
//! The queue keeps at most the reserved bytes of outcomes for it. Invariant: a stream that waits has released
//! the outcomes that it gave out, or the queue is not at the limit.

use lockkeeper_protocol::operations::{Leave, LimitSeries};

use crate::pool::{room::Share, submit::Entry};

/// A series. Its drop leaves it.
pub(super) struct LimitedSeries {
    pub(super) entry: Entry,
    pub(super) share: Share,
    /// The number of the series, once it has a task.
    number: Option<u64>,
}

impl LimitedSeries {
    pub(super) const fn new(entry: Entry, share: Share) -> Self {
        Self {
            entry,
            share,
            number: None,
        }
    }

    /// Returns whether the series has had a task.
    pub(super) const fn is_begun(&self) -> bool {
        self.number.is_some()
    }

    /// Begins the series if it has had no task, and returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        if let Some(number) = self.number {
            return number;
        }
        let series = self.entry.queue.reserve(1);
        self.number = Some(series);
        let most = self.share.reserve();
        self.entry.queue.cast(LimitSeries { series, most });
        series
    }

    /// Returns the number; the series has had a task.
    pub(super) fn number(&self) -> u64 {
        self.number.unwrap_or_default()
    }

    /// Counts an outcome of the queue that is given out, and releases it with others if they are many bytes.
    pub(super) fn give_out(&mut self, bytes: usize) {
        self.share.give_out(bytes);
        if let Some(released) = self.share.take_much(self.number()) {
            self.entry.queue.cast(released);
        }
    }

    /// Releases the outcomes that were given out, because the stream begins to wait.
    pub(super) fn release(&mut self) {
        if let Some(released) = self.share.take_given(self.number()) {
            self.entry.queue.cast(released);
        }
    }
}

impl Drop for LimitedSeries {
    fn drop(&mut self) {
        if let Some(series) = self.number {
            self.entry.queue.cast(Leave { series });
        }
    }
}
