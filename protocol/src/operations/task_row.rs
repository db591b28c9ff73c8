//! `Row`: the arguments of tasks that are sent together and run separately.
//!
//! Invariant: a row reads no bytes beyond its own, regardless of the lengths that a peer declares.

use std::{collections::VecDeque, mem};

use serde::{Deserialize, Serialize};

use crate::codec::{blob::Blob, short::short_list};

/// The arguments of tasks with one name, in one buffer, without an allocation for each task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    bytes: Blob,
    /// The number of bytes of each task.
    #[serde(deserialize_with = "short_list::<{ Row::MOST_TASKS }, _, u32, _>")]
    lengths: VecDeque<u32>,
}

impl Row {
    /// The most tasks of a received row, so that no step takes long.
    pub const MOST_TASKS: usize = 1 << 16;

    /// Creates a row of as many tasks as there are lengths.
    #[must_use]
    pub fn new(bytes: Blob, lengths: Vec<u32>) -> Self {
        let lengths = lengths.into();
        Self { bytes, lengths }
    }

    /// Creates the row of one task.
    #[must_use]
    pub fn of_one(bytes: Blob) -> Self {
        // A message cannot contain more bytes than this.
        let length = u32::try_from(bytes.0.len()).unwrap_or(u32::MAX);
        Self::new(bytes, vec![length])
    }

    /// Returns the number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Returns whether the row has no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Returns the number of bytes of all tasks.
    pub fn bytes(&self) -> usize {
        self.bytes.0.len()
    }

    /// Takes the first task.
    pub fn pop_front(&mut self) -> Option<Blob> {
        let length = self.lengths.pop_front()?;
        Some(self.split_bytes(length.into()))
    }

    /// Returns how many of the first tasks fit: at most `most` tasks and `most_bytes` bytes.
    #[must_use]
    pub fn fit(&self, most: usize, most_bytes: usize) -> usize {
        let mut bytes: u64 = 0;
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let fit = self.lengths.iter().take(most).take_while(|length| {
            bytes += u64::from(**length);
            bytes <= most_bytes
        });
        fit.count()
    }

    /// Takes the first `count` tasks.
    ///
    /// The shorter part is copied and the longer one keeps the buffer. A row that is split repeatedly
    /// therefore takes no more memory than before, and the time of a split does not depend on the rest.
    pub fn split_front(&mut self, count: usize) -> Self {
        let count = count.min(self.lengths.len());
        let (lengths, bytes) = if count <= self.lengths.len() / 2 {
            let lengths: VecDeque<u32> = self.lengths.drain(..count).collect();
            let bytes = sum(&lengths);
            (lengths, bytes)
        } else {
            let rest: VecDeque<u32> = self.lengths.drain(count..).collect();
            let all = u64::try_from(self.bytes()).unwrap_or(u64::MAX);
            let bytes = all.saturating_sub(sum(&rest));
            (mem::replace(&mut self.lengths, rest), bytes)
        };
        let bytes = self.split_bytes(bytes);
        Self { bytes, lengths }
    }

    fn split_bytes(&mut self, length: u64) -> Blob {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Blob(self.bytes.0.split_to(length.min(self.bytes())))
    }
}

fn sum(lengths: &VecDeque<u32>) -> u64 {
    lengths.iter().copied().map(u64::from).sum()
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
        assert_eq!((all.fit(9, 4), all.fit(9, 1), all.fit(0, 9)), (1, 0, 0));
        assert_eq!(all.split_front(1), row(&[2, 2], &[2]));
        assert_eq!(all.split_front(0), Row::default());
        assert_eq!(all.split_front(9), row(&[3, 3, 3], &[3]));
        assert!(all.is_empty() && all.pop_front().is_none());
    }

    #[test]
    fn lengths_that_lie_give_no_other_bytes() {
        for lengths in [&[9, 9][..], &[u32::MAX; 3], &[0; 5]] {
            for count in 0..=lengths.len() {
                let mut rest = row(&[1, 2, 3], lengths);
                let front = rest.split_front(count);
                assert_eq!((front.len(), rest.len()), (count, lengths.len() - count));
                assert_eq!(front.bytes() + rest.bytes(), 3);
            }
        }
    }

    #[test]
    fn the_parts_of_a_row_take_no_more_room_than_the_row() {
        const TASKS: usize = 10_000;
        let all = || row(&[7; TASKS], &[1; TASKS]);
        let most = 2 * all().lengths.capacity();
        for front in [true, false] {
            let mut rest = all();
            let mut room = 0;
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let part = if front {
                    rest.split_front(1)
                } else {
                    let before = rest.split_front(rest.len() - 1);
                    mem::replace(&mut rest, before)
                };
                assert_eq!((part.len(), part.bytes()), (1, 1));
                room += part.lengths.capacity();
                parts.push(part);
            }
            assert!(room <= 4 * most, "{room} places for {TASKS} tasks");
        }
    }
}
