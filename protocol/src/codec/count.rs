//! `Count`: the number of parts of a value that are announced and not written yet.
//!
//! Invariant: if a value writes a different number of parts than its header states, encoding fails.

use crate::codec::{error::Failure, output::Output};

/// The number of parts of a value.
#[derive(Debug)]
pub(crate) enum Count {
    /// The length is known, and this many parts are missing.
    Left(usize),
    /// The length is written after the last part.
    Unknown {
        /// The place of the length.
        place: usize,
        /// How many parts are one element.
        per_element: u64,
        written: u64,
    },
}

impl Count {
    /// Counts one part.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        match self {
            Self::Left(left) => *left = left.checked_sub(1).ok_or_else(wrong_count)?,
            Self::Unknown { written, .. } => *written += 1,
        }
        Ok(())
    }

    /// Checks that no part is missing, and writes the length if it was not known.
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
