//! `Marks`: the numbers in the files of a state folder, and how they say that the previous manager ended.
//!
//! A manager reserves higher fences before it serves, and stores the end of its reservation as `ended` once it
//! has ended all sessions. So the two numbers are equal only after a clean end, and the reservation of the next
//! manager makes them differ without another write.

use std::{fmt, time::Duration};

/// The names of the files. Each has the format of a `FenceFile`, and its number only rises.
pub(super) const FENCES: &str = "fences";

pub(super) const ENDED: &str = "ended";

pub(super) const LONGEST_LEASE: &str = "longest-lease";

/// How the previous manager of a state folder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// There was no manager.
    Absent,
    /// It ended all sessions, so no client believes that it holds something.
    Clean,
    /// It was killed, or could not write that it ended.
    Unclean {
        /// The longest time for which a client may still believe that it holds something.
        longest_lease: Duration,
    },
}

/// The numbers in the files of a state folder. `None` stands for a missing file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// All fences that were given out are lower.
    pub(super) fences: Option<u64>,
    /// The value of `fences` at the last clean end, and 0 before the first.
    pub(super) ended: Option<u64>,
    /// The longest lease that a manager has promised to a client, in milliseconds.
    pub(super) longest_lease: Option<u64>,
}

/// A reason why the files of a state folder cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// A file is missing that a manager has written.
    Missing(&'static str),
    /// The fences are lower than those of an earlier manager.
    Lower,
}

impl Marks {
    /// Returns how the previous manager ended.
    ///
    /// A new folder gets `fences` first and `ended` last, so a folder with `ended` has had all three.
    pub(super) fn previous(self) -> Result<Previous, Damage> {
        match self {
            Self {
                fences: None,
                ended: None,
                longest_lease: None,
            } => Ok(Previous::Absent),
            Self { fences: None, .. } => Err(Damage::Missing(FENCES)),
            Self {
                fences: Some(_),
                ended: Some(_),
                longest_lease: None,
            } => Err(Damage::Missing(LONGEST_LEASE)),
            Self {
                fences: Some(fences),
                ended: Some(ended),
                longest_lease: Some(_),
            } if ended > fences => Err(Damage::Lower),
            Self { fences, ended, .. } if fences == ended => Ok(Previous::Clean),
            Self { longest_lease, .. } => Ok(Previous::Unclean {
                longest_lease: Duration::from_millis(longest_lease.unwrap_or(0)),
            }),
        }
    }
}

impl fmt::Display for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Clean => f.write_str("clean"),
            Self::Unclean { longest_lease } if longest_lease.is_zero() => f.write_str("unclean"),
            Self::Unclean { longest_lease } => {
                write!(f, "unclean, with leases of up to {longest_lease:?}")
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(file) => write!(f, "its file {file} is missing"),
            Self::Lower => write!(
                f,
                "its file {FENCES} has a lower number than {ENDED}, so it is an older copy"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn previous(
        fences: Option<u64>,
        ended: Option<u64>,
        longest_lease: Option<u64>,
    ) -> Result<Previous, Damage> {
        let marks = Marks {
            fences,
            ended,
            longest_lease,
        };
        marks.previous()
    }

    const fn unclean(milliseconds: u64) -> Result<Previous, Damage> {
        Ok(Previous::Unclean {
            longest_lease: Duration::from_millis(milliseconds),
        })
    }

    #[test]
    fn only_equal_numbers_are_a_clean_end() {
        assert_eq!(previous(Some(9), Some(9), Some(10)), Ok(Previous::Clean));
        assert_eq!(previous(Some(9), Some(8), Some(10)), unclean(10));
        assert_eq!(previous(Some(9), Some(0), Some(0)), unclean(0));
    }

    #[test]
    fn manager_that_was_killed_in_a_new_folder_was_not_clean() {
        assert_eq!(previous(None, None, None), Ok(Previous::Absent));
        assert_eq!(previous(Some(9), None, None), unclean(0));
        assert_eq!(previous(Some(9), None, Some(0)), unclean(0));
    }

    #[test]
    fn missing_and_older_files_are_damage_and_never_a_lower_number() {
        let fences = Err(Damage::Missing("fences"));
        assert_eq!(previous(None, Some(0), Some(0)), fences);
        assert_eq!(previous(None, Some(9), None), fences);
        assert_eq!(previous(None, None, Some(0)), fences);
        let lease = Err(Damage::Missing("longest-lease"));
        assert_eq!(previous(Some(9), Some(9), None), lease);
        assert_eq!(previous(Some(9), Some(0), None), lease);
        assert_eq!(previous(Some(8), Some(9), Some(0)), Err(Damage::Lower));
    }
}
