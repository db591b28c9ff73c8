//! Frames: what a client and a manager say to each other.
//!
//! A frame is an array of MessagePack whose first element says which frame it is. PROTOCOL.md
//! tells it to strangers; the two are held against each other by a test.
//!
//! Invariant: nothing that a peer sends makes this room panic, or allocate more than it has sent.

mod framing;
mod socket;

use lockkeeper_actors::{
    Fault,
    codec::{BlobRef, CodecError, Fields},
};
use serde::{Serialize, Serializer};

use crate::inspect::survey::Question;

pub(crate) use self::{
    framing::{Inbox, Message, append, append_with, frames},
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
    /// Says that there are records for an operation of an object in the pipe that the client's
    /// process has by that descriptor, now and later.
    Tray {
        seq: u64,
        object: u32,
        operation: u32,
        descriptor: u32,
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
            Self::Tray {
                seq,
                object,
                operation,
                descriptor,
            } => (9, seq, object, operation, descriptor).serialize(serializer),
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

impl<'a> Request<'a> {
    /// Reads what a client said.
    ///
    /// # Errors
    ///
    /// Returns an error when it is no request.
    pub(crate) fn decode(message: &'a [u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        let request = match f.number::<u8>()? {
            1 => {
                if f.text()? != MAGIC {
                    let text = "the first frame does not say lockkeeper".to_owned();
                    return Err(CodecError::new(text));
                }
                let version = f.number()?;
                if version != VERSION {
                    // Only what stands before is the same in all versions.
                    return Ok(Self::Hello {
                        version,
                        pid: 0,
                        program: "",
                        label: "",
                    });
                }
                Self::Hello {
                    version,
                    pid: f.number()?,
                    program: f.text()?,
                    label: f.text()?,
                }
            }
            2 => Self::Open {
                seq: f.number()?,
                kind: f.text()?,
                name: f.optional(Fields::text)?,
                spec: f.optional(Fields::bytes)?.map(BlobRef),
            },
            3 => Self::Call {
                seq: f.number()?,
                object: f.number()?,
                operation: f.number()?,
                micros: f.optional(Fields::number)?,
                arguments: BlobRef(f.bytes()?),
            },
            4 => Self::Cast {
                seq: f.number()?,
                object: f.number()?,
                operation: f.number()?,
                arguments: BlobRef(f.bytes()?),
            },
            5 => Self::Withdraw {
                object: f.number()?,
                seq: f.number()?,
            },
            6 => Self::Remove {
                seq: f.number()?,
                name: f.text()?,
            },
            7 => {
                return Ok(Self::Inspect {
                    seq: f.number()?,
                    question: fields.last()?,
                });
            }
            8 => Self::CallBy {
                seq: f.number()?,
                object: f.number()?,
                operation: f.number()?,
                micros: f.optional(Fields::number)?,
                arguments: BlobRef(f.bytes()?),
                caller: f.number()?,
            },
            9 => Self::Tray {
                seq: f.number()?,
                object: f.number()?,
                operation: f.number()?,
                descriptor: f.number()?,
            },
            other => return Err(CodecError::new(format!("there is no request {other}"))),
        };
        fields.end()?;
        Ok(request)
    }
}

impl<'a> Response<'a> {
    /// Reads what a manager said.
    ///
    /// # Errors
    ///
    /// Returns an error when it is no response.
    pub(crate) fn decode(message: &'a [u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        let response = match f.number::<u8>()? {
            65 => Self::Welcome {
                version: f.number()?,
                incarnation: f.number()?,
                session: f.number()?,
                frame_bytes: f.number()?,
                asks_who_calls: f.truth()?,
            },
            66 => {
                return Ok(Self::Opened {
                    seq: f.number()?,
                    object: f.number()?,
                    name: f.text()?.to_owned(),
                    operations: fields.last()?,
                });
            }
            67 => Self::Reply {
                seq: f.number()?,
                body: BlobRef(f.bytes()?),
            },
            68 => {
                return Ok(Self::Fault {
                    seq: f.number()?,
                    fault: fields.last()?,
                });
            }
            69 => Self::Revoked { seq: f.number()? },
            70 => Self::Gone {
                object: f.number()?,
            },
            71 => Self::Bye {
                reason: f.text()?.to_owned(),
            },
            other => return Err(CodecError::new(format!("there is no response {other}"))),
        };
        fields.end()?;
        Ok(response)
    }
}

#[cfg(test)]
pub(crate) mod tests;
