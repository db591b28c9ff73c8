//! Identifiers: sessions, calls, fences and the names of objects.
//!
//! Invariant: no session id, call id or fence is ever used again, not even by a later manager.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A client's session with a manager. The id is never reused, not even by later managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(u64);

impl SessionId {
    /// Creates an id from a number that no other session has.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// One call of one session. It is the position in line while the call waits, the grant once the call is
/// answered, and the key for a withdrawal.
///
/// It cannot be serialized, because a client could forge the id of another session. In the arguments of an
/// operation, a [`Proof`](crate::Proof) names the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    session: SessionId,
    /// The client's number; the top bit marks a call without a waiting caller.
    seq: u64,
}

impl CallId {
    /// The bit that marks one-way calls. Sequence numbers stay below it.
    pub const ONE_WAY: u64 = 1 << 63;

    /// Creates the id of the call with number `seq` in its session, whose caller waits for the answer.
    #[must_use]
    pub const fn new(session: SessionId, seq: u64) -> Self {
        Self {
            session,
            seq: seq & !Self::ONE_WAY,
        }
    }

    /// Creates the id of a call without a waiting caller. Its answer is dropped.
    #[must_use]
    pub const fn one_way(session: SessionId, seq: u64) -> Self {
        Self {
            session,
            seq: seq | Self::ONE_WAY,
        }
    }

    /// Returns the session of the call.
    #[must_use]
    pub const fn session(self) -> SessionId {
        self.session
    }

    /// Returns the client's number for the call.
    #[must_use]
    pub const fn seq(self) -> u64 {
        self.seq & !Self::ONE_WAY
    }

    /// Returns whether the call has no waiting caller.
    #[must_use]
    pub const fn is_one_way(self) -> bool {
        self.seq & Self::ONE_WAY != 0
    }

    /// Returns the least and the greatest id of a session.
    pub const fn span(session: SessionId) -> (Self, Self) {
        (
            Self { session, seq: 0 },
            Self {
                session,
                seq: u64::MAX,
            },
        )
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one_way() {
            f.write_str("one-way ")?;
        }
        write!(f, "call {} of {}", self.seq(), self.session)
    }
}

/// A job of a task queue.
///
/// It is no proof of a right: the queue looks it up among the jobs that it gave to the session that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId {
    session: SessionId,
    number: u64,
}

impl JobId {
    /// Creates the id of a job of a series that a session has submitted. The queue assigns these numbers, and
    /// no call has one of them.
    #[must_use]
    pub const fn of_series(session: SessionId, number: u64) -> Self {
        Self {
            session,
            number: number | CallId::ONE_WAY,
        }
    }

    /// Returns the least and the greatest id of the series' jobs that a session has submitted.
    #[must_use]
    pub const fn span_of_series(session: SessionId) -> (Self, Self) {
        (
            Self::of_series(session, 0),
            Self::of_series(session, u64::MAX),
        )
    }

    /// Returns the job whose number is `count` higher.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self {
            session: self.session,
            number: self.number.saturating_add(count),
        }
    }

    /// Returns how far this job is behind `first`, if both belong to one session.
    #[must_use]
    pub fn behind(self, first: Self) -> Option<usize> {
        let is_sibling = self.session == first.session;
        let count = is_sibling.then(|| self.number.checked_sub(first.number))?;
        count?.try_into().ok()
    }
}

impl From<CallId> for JobId {
    /// The job that a call has submitted.
    fn from(CallId { session, seq }: CallId) -> Self {
        Self {
            session,
            number: seq,
        }
    }
}

impl From<JobId> for CallId {
    /// The call that has submitted the job. For a job of a series, the id may equal that of a one-way call.
    fn from(JobId { session, number }: JobId) -> Self {
        Self {
            session,
            seq: number,
        }
    }
}

/// A fencing token. Each grant of an object has a higher one than all earlier grants, even across removals of
/// the object and restarts of its manager.
///
/// A resource that refuses every fence lower than the highest it has seen is safe from a holder that was
/// paused, lost its lock, and continues to write (M. Kleppmann, "How to do distributed locking"). The number
/// fits a signed 64-bit column. Fences count up from the wall clock of the manager's start, in nanoseconds. If the
/// clock of the machine may be set back before a restart, the manager needs a state folder to keep the guarantee.
#[doc(alias = "fencing_token")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(u64);

impl Fence {
    /// Creates a fence from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Checks the fence at the resource, and raises the high-water mark to it.
    ///
    /// Returns whether the holder with this fence may proceed.
    ///
    /// ```
    /// use lockkeeper::Fence;
    ///
    /// let mut high_water = Fence::new(0);
    /// assert!(Fence::new(34).check(&mut high_water));
    /// assert!(!Fence::new(33).check(&mut high_water), "a late write of an earlier holder");
    /// assert!(Fence::new(34).check(&mut high_water), "the holder itself goes on");
    /// ```
    #[must_use = "a holder whose fence fails the check must not write"]
    pub fn check(self, high_water: &mut Self) -> bool {
        let fresh = self >= *high_water;
        if fresh {
            *high_water = self;
        }
        fresh
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number and the name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    number: u64,
    origin: Origin,
}

/// The origin of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// The client chose the name.
    Given(Arc<str>),
    /// The object is anonymous: its name consists of the manager's incarnation and the object's number.
    Incarnation(u64),
}

impl ObjectName {
    /// The first character of the names of anonymous objects, and of no others.
    pub const ANONYMOUS: char = '#';

    /// The most bytes in the name of an anonymous object: a mark, two numbers and a separator.
    pub const MOST_ANONYMOUS_BYTES: usize = 40;

    /// Creates a name that a client chose.
    #[must_use]
    pub const fn given(name: Arc<str>, number: u64) -> Self {
        Self {
            number,
            origin: Origin::Given(name),
        }
    }

    /// Creates the name of an anonymous object.
    #[must_use]
    pub const fn anonymous(incarnation: u64, number: u64) -> Self {
        Self {
            number,
            origin: Origin::Incarnation(incarnation),
        }
    }

    /// Parses the name of an anonymous object.
    #[must_use]
    pub fn read_anonymous(text: &str) -> Option<Self> {
        let (incarnation, number) = text.strip_prefix(Self::ANONYMOUS)?.split_once('.')?;
        let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
        let name = Self::anonymous(incarnation, number.parse().ok()?);
        // The parser also accepts other notations of a number, such as leading zeros, which are no names.
        (name.text() == text).then_some(name)
    }

    /// Returns the number, which no other object of the manager has or will have.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the name as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.origin {
            Origin::Given(name) => Cow::Borrowed(name),
            Origin::Incarnation(incarnation) => {
                let (mark, number) = (Self::ANONYMOUS, self.number);
                Cow::Owned(format!("{mark}{incarnation:x}.{number}"))
            }
        }
    }
}

impl Default for ObjectName {
    /// Returns the name of an object without a manager, as in tests.
    fn default() -> Self {
        Self::anonymous(0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_calls_name_their_session() {
        let session = SessionId::new(7);
        assert_eq!(CallId::new(session, 3).to_string(), "call 3 of session 7");
        let one_way = CallId::one_way(session, 3).to_string();
        assert_eq!(one_way, "one-way call 3 of session 7");
    }

    #[test]
    fn name_that_nobody_gave_is_read_as_it_is_written_and_in_no_other_way() {
        let name = ObjectName::anonymous(0x186c_c6ac, 7);
        assert_eq!(name.text(), "#186cc6ac.7");
        let longest = ObjectName::anonymous(u64::MAX, u64::MAX);
        assert!(longest.text().len() <= ObjectName::MOST_ANONYMOUS_BYTES);
        assert_eq!(ObjectName::read_anonymous("#186cc6ac.7"), Some(name));
        for other in [
            "186cc6ac.7",
            "#186CC6AC.7",
            "#186cc6ac.07",
            "#186cc6ac.+7",
            "#0186cc6ac.7",
            "#186cc6ac.",
            "#.7",
            "#186cc6ac",
            "#186cc6ac.7.7",
            "#186cc6ac.18446744073709551616",
            "#",
            "",
        ] {
            assert_eq!(ObjectName::read_anonymous(other), None, "{other:?}");
        }
    }

    #[test]
    fn name_takes_three_words_in_each_object() {
        assert_eq!(size_of::<ObjectName>(), 24);
    }

    #[test]
    fn given_name_is_told_as_it_is() {
        let name = ObjectName::given("jobs".into(), 7);
        assert_eq!((name.text().as_ref(), name.number()), ("jobs", 7));
    }
}
