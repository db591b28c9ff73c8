//! `Sent`: the last bytes that were written to a stream, which may have to be written again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::transport::tls::stream::MOST_AT_ONCE;

/// The most bytes that are kept for another connection. If the other side lacks more, the stream cannot be
/// resumed.
const MOST_KEPT: usize = 1 << 20;

/// The capacity that an empty buffer keeps.
const KEPT_ROOM: usize = 1 << 12;

/// The bytes that all streams of a manager, or of a client, keep together.
#[derive(Clone, Debug)]
pub(crate) struct KeptBudget(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    used: AtomicUsize,
    most: usize,
}

impl KeptBudget {
    pub(crate) fn new(most: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self(Arc::new(Kept { used, most }))
    }

    /// Changes the bytes that a stream keeps. Returns false if all streams together then keep too many.
    fn change(&self, from: usize, to: usize) -> bool {
        let kept = &self.0;
        let before = if to < from {
            kept.used.fetch_sub(from - to, Ordering::Relaxed)
        } else {
            kept.used.fetch_add(to - from, Ordering::Relaxed)
        };
        before.saturating_add(to).saturating_sub(from) <= kept.most
    }
}

/// The bytes that were written, and those that another connection has to write again.
#[derive(Debug)]
pub(super) struct Sent {
    budget: KeptBudget,
    /// The number of bytes that were written since the beginning of the stream.
    written: u64,
    /// The last of them.
    kept: VecDeque<u8>,
    /// How many of the last ones have to be written again.
    again: usize,
    /// How many bytes of the next write the other side has read already. A connection may end when the other side
    /// has read bytes of a write that was not complete.
    ahead: usize,
}

impl Sent {
    pub(super) const fn new(budget: KeptBudget) -> Self {
        Self {
            budget,
            written: 0,
            kept: VecDeque::new(),
            again: 0,
            ahead: 0,
        }
    }

    /// Records bytes that were written.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.written = self.written.saturating_add(bytes.len() as u64);
        let before = self.kept.len();
        let last = bytes.get(bytes.len().saturating_sub(MOST_KEPT)..);
        self.kept.extend(last.unwrap_or_default());
        let surplus = self.kept.len().saturating_sub(MOST_KEPT);
        self.kept.drain(..surplus);
        if !self.budget.change(before, self.kept.len()) {
            // The stream can then be resumed only if the other side lacks no bytes.
            self.forget(self.kept.len());
        }
    }

    /// Forgets the first `count` bytes that are kept.
    fn forget(&mut self, count: usize) {
        let before = self.kept.len();
        self.kept.drain(..count);
        self.budget.change(before, self.kept.len());
        if self.kept.is_empty() {
            self.kept.shrink_to(KEPT_ROOM);
        }
    }

    /// Records the beginning of a write that the other side has read already, and returns its length.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.ahead == 0 {
            return None;
        }
        let known = bytes.get(..self.ahead).unwrap_or(bytes);
        self.ahead -= known.len();
        self.push(known);
        Some(known.len())
    }

    /// Forgets what the other side has read.
    pub(super) fn acknowledge(&mut self, received: u64) {
        let read = received.saturating_sub(self.first());
        let read = usize::try_from(read).unwrap_or(usize::MAX);
        self.forget(read.min(self.kept.len() - self.again));
    }

    /// The position in the stream of the first byte that is kept.
    fn first(&self) -> u64 {
        self.written.saturating_sub(self.kept.len() as u64)
    }

    /// Returns why the stream cannot be resumed if the other side has read that many bytes.
    pub(super) fn gap(&self, received: u64) -> Option<String> {
        if received < self.first() {
            let lost = self.first() - received;
            return Some(format!(
                "{lost} bytes that were sent before the connection was lost are not kept any more"
            ));
        }
        let ahead = received.saturating_sub(self.written);
        (ahead > MOST_AT_ONCE as u64)
            .then(|| format!("the other side has read {ahead} bytes more than it was sent"))
    }

    /// Begins to write to another connection, whose other side has read that many bytes. There is no
    /// [`gap`](Self::gap).
    pub(super) fn resume(&mut self, received: u64) {
        let count = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.again = count(self.written.saturating_sub(received)).min(self.kept.len());
        self.ahead = count(received.saturating_sub(self.written));
        self.acknowledge(received);
    }

    /// Returns the next bytes to write again, which are empty if there are none.
    pub(super) fn rest(&self) -> &[u8] {
        let (first, second) = self.kept.as_slices();
        let done = self.kept.len() - self.again;
        match first.get(done..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => second
                .get(done.saturating_sub(first.len())..)
                .unwrap_or_default(),
        }
    }

    /// Records that the next bytes were written again.
    pub(super) fn wrote_again(&mut self, count: usize) {
        self.again = self.again.saturating_sub(count);
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.budget.change(self.kept.len(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        Sent::new(KeptBudget::new(usize::MAX))
    }

    #[test]
    fn streams_keep_no_more_than_their_budget_together() {
        let budget = KeptBudget::new(10);
        let [mut one, mut other] = [(); 2].map(|()| Sent::new(budget.clone()));
        one.push(b"123456");
        other.push(b"1234");
        assert!(one.gap(0).is_none() && other.gap(0).is_none());
        other.push(b"5");
        assert!(one.gap(0).is_none());
        assert!(other.gap(4).is_some() && other.gap(5).is_none());
        drop(one);
        other.push(b"67890");
        assert!(other.gap(5).is_none());
        other.acknowledge(10);
        drop(other);
        assert_eq!(budget.0.used.load(Ordering::Relaxed), 0);
    }

    fn rest(sent: &mut Sent) -> Vec<u8> {
        let mut all = Vec::new();
        while !sent.rest().is_empty() {
            // A connection takes a few bytes at a time.
            let some = sent.rest().iter().copied().take(3).collect::<Vec<_>>();
            sent.wrote_again(some.len());
            all.extend(some);
        }
        all
    }

    #[test]
    fn other_side_gets_what_it_lacks() {
        let mut sent = sent();
        sent.push(b"one two three");
        assert!(sent.rest().is_empty());
        for (received, lacking) in [(0, &b"one two three"[..]), (4, b"two three"), (13, b"")] {
            assert_eq!(sent.gap(received), None);
            sent.resume(received);
            assert_eq!(rest(&mut sent), lacking);
        }
        sent.push(b" four");
        sent.resume(13);
        assert_eq!(rest(&mut sent), b" four");
        assert!(sent.gap(12).expect("they are gone").starts_with("1 bytes"));
    }

    #[test]
    fn connection_that_ends_in_the_middle_leaves_the_rest() {
        let mut sent = sent();
        sent.push(b"abcdef");
        sent.resume(2);
        sent.wrote_again(1);
        // An acknowledgement of what was read does not touch what is still to be written.
        sent.acknowledge(6);
        assert_eq!(rest(&mut sent), b"def");
        sent.resume(6);
        assert_eq!(rest(&mut sent), b"");
    }

    #[test]
    fn bytes_of_a_write_that_was_not_complete_are_not_written_twice() {
        let mut sent = sent();
        sent.push(b"ab");
        assert_eq!(sent.skip(b"cdef"), None);
        sent.resume(5);
        assert_eq!(sent.skip(b"cd"), Some(2));
        assert_eq!(sent.skip(b"ef"), Some(1));
        assert_eq!(sent.skip(b"f"), None);
        sent.push(b"f");
        sent.resume(5);
        assert_eq!(rest(&mut sent), b"f");
        assert!(sent.gap(6 + 1 + MOST_AT_ONCE as u64).is_some());
    }

    #[test]
    fn only_the_last_bytes_are_kept() {
        let mut sent = sent();
        sent.push(&vec![1; MOST_KEPT - 1]);
        sent.push(&[2; 3]);
        assert_eq!(sent.kept.len(), MOST_KEPT);
        assert!(sent.gap(1).is_some() && sent.gap(2).is_none());
        sent.push(&vec![3; 2 * MOST_KEPT]);
        assert_eq!(sent.kept.len(), MOST_KEPT);
        sent.acknowledge(sent.written);
        assert!(sent.kept.is_empty() && sent.kept.capacity() <= 2 * KEPT_ROOM);
    }
}
