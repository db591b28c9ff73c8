//! Frames: what a client and a manager say to each other.
//!
//! A frame is an array of MessagePack whose first element says which frame it is. PROTOCOL.md
//! tells it to strangers; the two are held against each other by a test.
//!
//! Invariant: nothing that a peer sends makes this room panic, or allocate more than it has sent.

mod framing;
mod socket;

use std::fmt;

use crate::inspect::survey::Question;
use lockkeeper_actors::{Fault, codec::BlobRef};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

pub(crate) use self::{
    framing::{Inbox, append, frames},
    socket::{Door, Link, OpenDoor, Socket},
};

/// The first word of every session.
pub(crate) const MAGIC: &str = "lockkeeper";

/// The version of the protocol. Both sides must speak the same.
pub(crate) const VERSION: u32 = 1;

/// The largest frame that is sent before the manager has said how much it takes.
pub(crate) const FIRST_FRAME_BYTES: usize = 1 << 16;

/// What a client says.
#[derive(Debug, PartialEq)]
pub(crate) enum Request<'a> {
    /// The first frame of a session.
    Hello {
        version: u32,
        pid: u32,
        program: &'a str,
        label: &'a str,
    },
    /// Opens an object: a new one without a name, or the one of that name, which is made if there
    /// is a spec.
    Open {
        seq: u64,
        kind: &'a str,
        name: Option<&'a str>,
        spec: Option<BlobRef<'a>>,
    },
    /// Calls an object.
    Call {
        seq: u64,
        object: u32,
        operation: u32,
        micros: Option<u64>,
        arguments: BlobRef<'a>,
    },
    /// Calls an object and wants no answer.
    Cast {
        seq: u64,
        object: u32,
        operation: u32,
        arguments: BlobRef<'a>,
    },
    /// Undoes an earlier call.
    Withdraw { object: u32, seq: u64 },
    /// Ends the object of that name.
    Remove { seq: u64, name: &'a str },
    /// Asks who holds objects and who waits for them.
    Inspect { seq: u64, question: Question },
    /// Calls an object, by that caller of the session: a task or a thread.
    CallBy {
        seq: u64,
        object: u32,
        operation: u32,
        micros: Option<u64>,
        arguments: BlobRef<'a>,
        caller: u64,
    },
}

/// What a manager says.
#[derive(Debug, PartialEq)]
pub(crate) enum Response<'a> {
    /// The answer to `Hello`.
    Welcome {
        version: u32,
        incarnation: u64,
        session: u64,
        frame_bytes: u64,
        /// Whether calls should say by whom they are.
        asks_who_calls: bool,
    },
    /// The answer to `Open`: the object's number and name, and its operations in order.
    Opened {
        seq: u64,
        object: u32,
        name: String,
        operations: Vec<String>,
    },
    /// The answer to a call, or to `Remove`.
    Reply { seq: u64, body: BlobRef<'a> },
    /// Why there is no such answer.
    Fault { seq: u64, fault: Fault },
    /// The grant that the call got is void.
    Revoked { seq: u64 },
    /// The object is no more.
    Gone { object: u32 },
    /// Why the manager ends the session.
    Bye { reason: String },
}

impl Serialize for Request<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hello {
                version,
                pid,
                program,
                label,
            } => (1, MAGIC, version, pid, program, label).serialize(serializer),
            Self::Open {
                seq,
                kind,
                name,
                spec,
            } => (2, seq, kind, name, spec).serialize(serializer),
            Self::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            } => (3, seq, object, operation, micros, arguments).serialize(serializer),
            Self::Cast {
                seq,
                object,
                operation,
                arguments,
            } => (4, seq, object, operation, arguments).serialize(serializer),
            Self::Withdraw { object, seq } => (5, object, seq).serialize(serializer),
            Self::Remove { seq, name } => (6, seq, name).serialize(serializer),
            Self::Inspect { seq, question } => (7, seq, question).serialize(serializer),
            Self::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            } => (8, seq, object, operation, micros, arguments, caller).serialize(serializer),
        }
    }
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Welcome {
                version,
                incarnation,
                session,
                frame_bytes,
                asks_who_calls,
            } => (
                65,
                version,
                incarnation,
                session,
                frame_bytes,
                asks_who_calls,
            )
                .serialize(serializer),
            Self::Opened {
                seq,
                object,
                name,
                operations,
            } => (66, seq, object, name, operations).serialize(serializer),
            Self::Reply { seq, body } => (67, seq, body).serialize(serializer),
            Self::Fault { seq, fault } => (68, seq, fault).serialize(serializer),
            Self::Revoked { seq } => (69, seq).serialize(serializer),
            Self::Gone { object } => (70, object).serialize(serializer),
            Self::Bye { reason } => (71, reason).serialize(serializer),
        }
    }
}

/// Reads the next element of a frame, which must be there.
fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(sequence: &mut A) -> Result<T, A::Error> {
    sequence
        .next_element()?
        .ok_or_else(|| de::Error::custom("the frame ends too early"))
}

struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request: an array that begins with its number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let s = &mut seq;
        Ok(match field::<u8, _>(s)? {
            1 => {
                if field::<&str, _>(s)? != MAGIC {
                    return Err(de::Error::custom("the first frame does not say lockkeeper"));
                }
                let version = field(s)?;
                if version != VERSION {
                    // Only what stands before is the same in all versions.
                    while s.next_element::<de::IgnoredAny>()?.is_some() {}
                    return Ok(Request::Hello {
                        version,
                        pid: 0,
                        program: "",
                        label: "",
                    });
                }
                Request::Hello {
                    version,
                    pid: field(s)?,
                    program: field(s)?,
                    label: field(s)?,
                }
            }
            2 => Request::Open {
                seq: field(s)?,
                kind: field(s)?,
                name: field(s)?,
                spec: field(s)?,
            },
            3 => Request::Call {
                seq: field(s)?,
                object: field(s)?,
                operation: field(s)?,
                micros: field(s)?,
                arguments: field(s)?,
            },
            4 => Request::Cast {
                seq: field(s)?,
                object: field(s)?,
                operation: field(s)?,
                arguments: field(s)?,
            },
            5 => Request::Withdraw {
                object: field(s)?,
                seq: field(s)?,
            },
            6 => Request::Remove {
                seq: field(s)?,
                name: field(s)?,
            },
            7 => Request::Inspect {
                seq: field(s)?,
                question: field(s)?,
            },
            8 => Request::CallBy {
                seq: field(s)?,
                object: field(s)?,
                operation: field(s)?,
                micros: field(s)?,
                arguments: field(s)?,
                caller: field(s)?,
            },
            other => return Err(de::Error::custom(format!("there is no request {other}"))),
        })
    }
}

impl<'de> Deserialize<'de> for Request<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RequestVisitor)
    }
}

struct ResponseVisitor;

impl<'de> Visitor<'de> for ResponseVisitor {
    type Value = Response<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response: an array that begins with its number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let s = &mut seq;
        Ok(match field::<u8, _>(s)? {
            65 => Response::Welcome {
                version: field(s)?,
                incarnation: field(s)?,
                session: field(s)?,
                frame_bytes: field(s)?,
                asks_who_calls: field(s)?,
            },
            66 => Response::Opened {
                seq: field(s)?,
                object: field(s)?,
                name: field(s)?,
                operations: field(s)?,
            },
            67 => Response::Reply {
                seq: field(s)?,
                body: field(s)?,
            },
            68 => Response::Fault {
                seq: field(s)?,
                fault: field(s)?,
            },
            69 => Response::Revoked { seq: field(s)? },
            70 => Response::Gone { object: field(s)? },
            71 => Response::Bye { reason: field(s)? },
            other => return Err(de::Error::custom(format!("there is no response {other}"))),
        })
    }
}

impl<'de> Deserialize<'de> for Response<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ResponseVisitor)
    }
}

#[cfg(test)]
pub(crate) mod tests;
