//! `Marks`: the numbers in the files of a state folder, and how they say that the previous manager ended.
//!
//! A manager reserves higher fences before it serves, and stores the end of its reservation as `ended` once it
//! has ended all sessions. So the two numbers are equal only after a clean end, and the reservation of the next
//! manager makes them differ without another write.

use std::fmt;

/// The names of the files. Each has the format of a `FenceFile`, and its number only rises.
pub(super) const FENCES: &str = "fences";

pub(super) const ENDED: &str = "ended";

pub(super) const LEASE: &str = "lease";

/// How the previous manager of a state folder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PreviousEnd {
    /// There was no manager.
    Absent,
    /// It ended all sessions, so no client has a valid lease.
    Clean,
    /// It was killed, or could not write that it ended.
    Unclean,
}

/// The numbers in the files of a state folder. `None` stands for a missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// All fences that were given out are lower.
    pub(super) fences: Option<u64>,
    /// The value of `fences` at the last clean end, and 0 before the first.
    pub(super) ended: Option<u64>,
    /// The longest lease that was promised, in milliseconds, and 0 before the first.
    pub(super) lease: Option<u64>,
}

/// A reason why the files of a state folder cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The file of the fences is missing, although a manager has started in the folder.
    NoFences,
    /// The fences are lower than those of an earlier manager.
    Lower,
    /// The file of the longest lease is missing, although a manager has started in the folder.
    NoLease,
}

impl Marks {
    /// Returns how the previous manager ended.
    ///
    /// A new folder gets `fences` first, then `lease`, and then `ended`, so a folder with `ended` has had all.
    pub(super) fn previous_end(self) -> Result<PreviousEnd, Damage> {
        match (self.fences, self.ended) {
            (None, None) => Ok(PreviousEnd::Absent),
            (None, Some(_)) => Err(Damage::NoFences),
            (Some(_), Some(_)) if self.lease.is_none() => Err(Damage::NoLease),
            (Some(fences), Some(ended)) if ended > fences => Err(Damage::Lower),
            (Some(fences), Some(ended)) if ended == fences => Ok(PreviousEnd::Clean),
            // A manager was killed before it had written `ended`, or the file was removed.
            (Some(_), Some(_) | None) => Ok(PreviousEnd::Unclean),
        }
    }
}

impl fmt::Display for PreviousEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Clean => "clean",
            Self::Unclean => "unclean",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFences => write!(f, "its file {FENCES} is missing"),
            Self::Lower => write!(
                f,
                "its file {FENCES} has a lower number than {ENDED}, so it is an older copy"
            ),
            Self::NoLease => write!(f, "its file {LEASE} is missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn previous(fences: Option<u64>, ended: Option<u64>) -> Result<PreviousEnd, Damage> {
        let lease = Some(0);
        let marks = Marks {
            fences,
            ended,
            lease,
        };
        marks.previous_end()
    }

    #[test]
    fn only_equal_numbers_are_a_clean_end() {
        assert_eq!(previous(Some(9), Some(9)), Ok(PreviousEnd::Clean));
        assert_eq!(previous(Some(9), Some(8)), Ok(PreviousEnd::Unclean));
        assert_eq!(previous(Some(9), Some(0)), Ok(PreviousEnd::Unclean));
    }

    #[test]
    fn manager_that_was_killed_in_a_new_folder_was_not_clean() {
        assert_eq!(previous(None, None), Ok(PreviousEnd::Absent));
        assert_eq!(previous(Some(9), None), Ok(PreviousEnd::Unclean));
    }

    #[test]
    fn missing_and_older_files_are_damage_and_never_a_lower_number() {
        assert_eq!(previous(None, Some(0)), Err(Damage::NoFences));
        assert_eq!(previous(None, Some(9)), Err(Damage::NoFences));
        assert_eq!(previous(Some(8), Some(9)), Err(Damage::Lower));
        let (fences, ended, lease) = (Some(9), Some(9), None);
        let marks = Marks {
            fences,
            ended,
            lease,
        };
        assert_eq!(marks.previous_end(), Err(Damage::NoLease));
    }
}
