//! Errors that cross the wire: [`Fault`] is the reason why a call has no reply, [`Refusal`] why a primitive
//! refused it, and [`BreakReason`] what broke a barrier.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    deadlock::Deadlock,
    peer::Peer,
    printable::{Printable, PrintableText},
};

/// The reason why the manager gave a call no reply.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// The object was removed, or its code panicked.
    Gone,
    /// The call's deadline passed before it could be granted.
    TimedOut,
    /// The caller withdrew the call.
    Withdrawn,
    /// The manager has no object with that name.
    UnknownObject(String),
    /// The manager hosts no such kind.
    UnknownKind(String),
    /// The kind has no operation with that name or number.
    UnknownOperation(String),
    /// The name belongs to an object of another kind.
    WrongKind(Box<WrongKind>),
    /// The name belongs to an object with another spec.
    WrongSpec(Box<WrongSpec>),
    /// The name is not allowed.
    BadName(String),
    /// The name belongs to another shard of the manager. Only that shard may have an object with the name.
    WrongShard {
        /// The requested name.
        name: String,
        /// The shard of the name, counted from 0.
        shard: u32,
    },
    /// The arguments do not fit the operation, the spec does not fit the kind, or a part of the request does
    /// not conform to the protocol.
    BadArguments(String),
    /// The kind refused the spec of a new object, or the object refused the call.
    Refused(Refusal),
    /// The reply could not be encoded.
    Unencodable(String),
    /// The kind of the object, which this names, dropped the call without an answer.
    Unanswered(String),
    /// A limit of the manager is reached.
    Limit {
        /// The limited quantity.
        what: String,
        /// The limit.
        most: u64,
    },
    /// The client's user or key may not make the call. The text names the call, and says who may.
    NotAllowed(String),
    /// The part of the manager that opens and finds objects has ended. A manager that is shut down ends the
    /// session instead.
    ShuttingDown,
    /// The call would have waited for ever. The deadlock lists the callers that wait for each other.
    Deadlock(Box<Deadlock>),
}

/// The name, and the two kinds, of a [`Fault::WrongKind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongKind {
    /// The name that was opened.
    pub name: String,
    /// The kind of the existing object.
    pub is: String,
    /// The requested kind.
    pub asked: String,
}

/// The name, and the two specs, of a [`Fault::WrongSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongSpec {
    /// The name that was opened.
    pub name: String,
    /// The kind of the existing object.
    pub kind: String,
    /// What the object was made with, as text, cut if it is long.
    pub is: String,
    /// What the call asked for, as text, cut if it is long.
    pub asked: String,
}

/// How a call ended that has a fault instead of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// Its deadline passed.
    TimedOut,
    /// Its caller withdrew it.
    Withdrawn,
    /// The manager could not let the object answer.
    Failed,
}

impl Fault {
    /// Returns how the call ended, for counters.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            Self::TimedOut => FaultClass::TimedOut,
            Self::Withdrawn => FaultClass::Withdrawn,
            Self::Gone
            | Self::Deadlock(_)
            | Self::UnknownObject(_)
            | Self::UnknownKind(_)
            | Self::UnknownOperation(_)
            | Self::WrongKind(_)
            | Self::WrongSpec(_)
            | Self::BadName(_)
            | Self::BadArguments(_)
            | Self::Refused(_)
            | Self::WrongShard { .. }
            | Self::Unencodable(_)
            | Self::Unanswered(_)
            | Self::Limit { .. }
            | Self::NotAllowed(_)
            | Self::ShuttingDown => FaultClass::Failed,
        }
    }

    /// The quantity in [`Self::Limit`] if the manager has no room to store more. A later attempt may succeed.
    pub const STORED: &str = "bytes of stored data";

    /// Creates the fault for a value above a limit.
    #[must_use]
    pub fn limit(what: &str, most: usize) -> Self {
        Self::Limit {
            what: what.to_owned(),
            most: most.try_into().unwrap_or(u64::MAX),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str(
                "the object is gone: it was removed, or its code panicked: open it again",
            ),
            Self::TimedOut => f.write_str("timed out: no answer came in time: wait longer"),
            Self::Withdrawn => f.write_str("the call was withdrawn"),
            Self::UnknownObject(name) => write!(
                f,
                "no object named {name:?} is hosted: it was removed, or never made"
            ),
            Self::UnknownKind(kind) => {
                write!(
                    f,
                    "the manager hosts no kind {kind:?}: register it where the manager starts, by .register::<K>() of \
                     Manager::builder() for start(), or by program().register::<K>() for spawn()"
                )
            }
            Self::UnknownOperation(name) => {
                write!(
                    f,
                    "the kind has no operation {}: its `operations` may lack .on::<Op>(), or the manager's \
                     program has another version of the kind",
                    Printable(name)
                )
            }
            Self::WrongKind(wrong) => {
                let WrongKind { name, is, asked } = &**wrong;
                let (is, asked) = (Printable(is), Printable(asked));
                write!(
                    f,
                    "{name:?} is {} {is}, not {} {asked}: open it as what it is, or use another name",
                    article(is.0),
                    article(asked.0)
                )
            }
            Self::WrongSpec(wrong) => write!(
                f,
                "{} {:?} was made with {}, and this call asks for {}: open it with what it was made \
                 with, or use another name",
                Printable(&wrong.kind),
                wrong.name,
                PrintableText(&wrong.is),
                PrintableText(&wrong.asked)
            ),
            Self::WrongShard { name, shard } => write!(
                f,
                "{name:?} belongs to shard {shard} of the manager: open it by a handle of the manager, \
                 or ask that shard"
            ),
            Self::BadName(why) => write!(f, "bad name: {}", PrintableText(why)),
            Self::BadArguments(why) => {
                write!(f, "the arguments do not fit: {}", PrintableText(why))
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unencodable(why) => {
                write!(f, "the reply could not be encoded: {}", PrintableText(why))
            }
            Self::Unanswered(kind) => write!(
                f,
                "the code of kind {kind:?} dropped the call without an answer: let it end each call by reply or fail"
            ),
            Self::Limit { what, most } => {
                write!(f, "limit reached: at most {most} {}: ", PrintableText(what))?;
                f.write_str(remedy(what))
            }
            Self::NotAllowed(what) => write!(f, "not allowed {}", PrintableText(what)),
            Self::ShuttingDown => f.write_str("the manager was shut down"),
            Self::Deadlock(deadlock) => deadlock.fmt(f),
        }
    }
}

/// What to do about a [`Fault::Limit`] of a quantity, with the setting that raises it.
fn remedy(what: &str) -> &'static str {
    match what {
        Fault::STORED => {
            "take or remove something first, or raise `stored_bytes` of Manager::builder().limits(..)"
        }
        "calls in flight" => {
            "await some of them first, or raise `calls_in_flight` of Manager::builder().limits(..)"
        }
        "hosted objects" => {
            "remove some first, or raise `objects` of Manager::builder().limits(..)"
        }
        "keys at a time" => "release some first",
        "bytes of a task of this pool" => {
            "send less at a time, such as the path of a file, or raise `PoolBuilder::stored_bytes`"
        }
        what if what.starts_with("calls in flight for the key") => {
            "await some of them first, or raise `calls` in the manager's key file"
        }
        what if what.starts_with("bytes") => {
            "send less at a time, such as the path of a file, or raise `frame_bytes` of Manager::builder().limits(..)"
        }
        _ => "ask for less at a time",
    }
}

/// The article before the name of a kind.
fn article(kind: &str) -> &'static str {
    match kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => "an",
        false => "a",
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Fault {}

/// The reason why an object refused a call, or a kind the spec of a new object. The object is unchanged. A kind of
/// one's own refuses with [`Self::Invalid`] and a text, or with another reason that fits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller does not hold the grant of the operation: it was released or revoked, it belongs to another
    /// object, or the ticket is forged.
    NotHeld,
    /// Releasing that many would exceed the bound.
    OverRelease {
        /// The bound of the semaphore.
        bound: u64,
    },
    /// The request exceeds the number that can ever be available.
    TooMany {
        /// The requested number.
        asked: u64,
        /// The largest possible number.
        most: u64,
    },
    /// The object was closed.
    Closed,
    /// An argument is out of range. The text states the valid range.
    Invalid(String),
    /// The owner of a reentrant lock has acquired it too often.
    TooDeep {
        /// The most entries of one owner at a time.
        most: u64,
    },
    /// A reentrant lock cannot be moved while its owner has acquired it more than once.
    StillInside {
        /// The current number of entries.
        entries: u64,
    },
    /// The barrier is broken.
    Broken(BreakReason),
    /// The object's values have another schema id than the caller requested.
    WrongType {
        /// The schema id of the object's values.
        is: String,
        /// The caller's schema id.
        asked: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld => f.write_str(
                "not held: it was released before, was taken away, or is another object's: acquire it again",
            ),
            Self::OverRelease { bound } => {
                write!(
                    f,
                    "over-release: the bound of {bound} permits would be exceeded: add only what was taken"
                )
            }
            Self::TooMany { asked, most } => {
                write!(
                    f,
                    "{asked} permits can never be granted: there are at most {most}: ask for fewer"
                )
            }
            Self::Closed => f.write_str("closed: it grants and takes nothing any more: end the work with it, or open another one"),
            Self::Invalid(why) => write!(f, "invalid: {}", PrintableText(why)),
            Self::TooDeep { most } => write!(
                f,
                "too deep: its owner is inside {most} times, which is the limit: drop a guard first"
            ),
            Self::StillInside { entries } => write!(
                f,
                "still inside: its owner has entered {entries} times, \
                 and can hand the lock on once it is inside once"
            ),
            Self::Broken(reason) => reason.fmt(f),
            Self::WrongType { is, asked } => write!(
                f,
                "wrong type: its values have the schema id {is:?}, and this program asked for {asked:?}: use \
                 the same type, or give both programs one id by .schema(\"..\")"
            ),
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refusal {}

/// The reason why a barrier broke.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BreakReason {
    /// The timeout of a waiting party has passed.
    TimedOut,
    /// A party called `abort`.
    Aborted,
    /// A party called `reset` while others waited. The barrier can be used again.
    Reset,
    /// The action of the last party failed, panicked or was dropped.
    ActionFailed,
    /// This process died at the barrier, or during its action.
    Died(Arc<Peer>),
}

impl fmt::Display for BreakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "no party passed the barrier: ",
            Self::TimedOut | Self::Aborted | Self::ActionFailed | Self::Died(_) => {
                "the barrier is broken until reset() is called: "
            }
        })?;
        match self {
            Self::TimedOut => f.write_str("the timeout of a waiting party has passed"),
            Self::Aborted => f.write_str("it was aborted"),
            Self::Reset => f.write_str("it was reset while others waited, and can be used again"),
            Self::ActionFailed => f.write_str("its action failed"),
            Self::Died(peer) => write!(f, "{peer} died at it"),
        }
    }
}

impl std::error::Error for BreakReason {}

impl fmt::Debug for BreakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_says_how_to_raise_it() {
        for (what, setting) in [
            (Fault::STORED, "`stored_bytes` of Manager::builder()"),
            ("calls in flight", "`calls_in_flight` of Manager::builder()"),
            (
                "calls in flight for the key \"ci\"",
                "`calls` in the manager's key file",
            ),
            ("hosted objects", "`objects` of Manager::builder()"),
            (
                "bytes of arguments",
                "the path of a file, or raise `frame_bytes` of Manager::builder()",
            ),
            (
                "bytes of a task of this pool",
                "`PoolBuilder::stored_bytes`",
            ),
        ] {
            let words = Fault::limit(what, 2).to_string();
            let begin = format!("limit reached: at most 2 {what}: ");
            assert!(
                words.starts_with(&begin) && words.contains(setting),
                "{words}"
            );
        }
    }
}
