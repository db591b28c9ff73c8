//! `Row`: the arguments of tasks that travel together, each of which runs by itself.
//!
//! Invariant: whatever lengths a peer declares, a row reads no bytes outside of its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::codec::blob::Blob;

/// The arguments of tasks of one name, one behind the other, without an allocation for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    bytes: Blob,
    /// How many of the bytes each task has.
    lengths: VecDeque<u32>,
}

impl Row {
    /// A row of as many as there are lengths.
    #[must_use]
    pub fn new(bytes: Blob, lengths: Vec<u32>) -> Self {
        let lengths = lengths.into();
        Self { bytes, lengths }
    }

    /// The row of one.
    #[must_use]
    pub fn of_one(bytes: Blob) -> Self {
        // What is longer came in no message.
        let length = u32::try_from(bytes.0.len()).unwrap_or(u32::MAX);
        Self::new(bytes, vec![length])
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.bytes.0.len()
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<Blob> {
        let length = self.lengths.pop_front()?;
        Some(self.split_bytes(length.into()))
    }

    /// Takes the first ones: so many, but no more than fit in so many bytes.
    pub fn split_front(&mut self, most: usize, most_bytes: usize) -> Self {
        let mut bytes: u64 = 0;
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let fit = self.lengths.iter().take(most).take_while(|length| {
            bytes += u64::from(**length);
            bytes <= most_bytes
        });
        let fit = fit.count();
        let rest = self.lengths.split_off(fit);
        let lengths = std::mem::replace(&mut self.lengths, rest);
        let bytes = self.split_bytes(lengths.iter().copied().map(u64::from).sum());
        Self { bytes, lengths }
    }

    fn split_bytes(&mut self, length: u64) -> Blob {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Blob(self.bytes.0.split_to(length.min(self.bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: &[u8], lengths: &[u32]) -> Row {
        Row::new(Blob::from(bytes.to_vec()), lengths.to_vec())
    }

    #[test]
    fn a_row_is_taken_apart_from_its_front() {
        let mut all = row(&[1, 2, 2, 3, 3, 3], &[1, 2, 3]);
        assert_eq!(all.pop_front(), Some(Blob::from(vec![1])));
        assert_eq!(all.split_front(9, 4), row(&[2, 2], &[2]));
        assert_eq!(all.split_front(0, 9), Row::default());
        assert_eq!(all.split_front(9, 2), Row::default());
        assert_eq!(all.split_front(1, 9), row(&[3, 3, 3], &[3]));
        assert!(all.is_empty() && all.pop_front().is_none());
    }

    #[test]
    fn lengths_that_lie_give_no_other_bytes() {
        for lengths in [&[9, 9][..], &[u32::MAX; 3]] {
            let mut lie = row(&[1, 2, 3], lengths);
            let front = lie.split_front(2, usize::MAX);
            assert_eq!((front.len(), front.bytes()), (2, 3));
            assert!(lie.pop_front().is_none_or(|rest| rest.0.is_empty()));
        }
    }
}
