//! `Count`: how many parts a value has announced, and how many of them are written.
//!
//! Invariant: a value that writes another number of parts than its header says is an error of the sender.

use crate::codec::{error::Failure, output::Output};

/// How many parts there are.
#[derive(Debug)]
pub(crate) enum Count {
    /// So many are to come.
    Left(usize),
    /// Their number is told behind the last.
    Unknown {
        /// Where it is told.
        place: usize,
        /// How many of them count as one.
        per_element: u64,
        written: u64,
    },
}

impl Count {
    /// Counts one more.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        match self {
            Self::Left(left) => *left = left.checked_sub(1).ok_or_else(wrong_count)?,
            Self::Unknown { written, .. } => *written += 1,
        }
        Ok(())
    }

    /// Makes sure that the last one is written, and tells their number where that is to be told.
    #[inline]
    pub(crate) fn finish(self, output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Left(0) => Ok(()),
            Self::Left(_) => Err(wrong_count()),
            Self::Unknown {
                place,
                per_element,
                written,
            } => {
                if written % per_element != 0 {
                    return Err(wrong_count());
                }
                output.close(place, written / per_element)
            }
        }
    }
}

#[cold]
fn wrong_count() -> Failure {
    Failure::new(
        &"it has another number of elements, entries or fields than its `Serialize` has announced",
    )
}
