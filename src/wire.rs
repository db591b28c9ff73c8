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
    codec::{BlobRef, CodecError, Elements, Fields},
};

use crate::{inspect::survey::Question, part::Part};

pub(crate) use self::{
    framing::{Encode, Inbox, Message, append, frames},
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
        /// Which arbiter it is. A manager that has one alone says nothing of it.
        part: Part,
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

impl Encode for Request<'_> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        let all = Elements::begin(buffer);
        let all = match *self {
            Self::Hello {
                version,
                pid,
                program,
                label,
            } => {
                let all = all.number(1u8).value(MAGIC).number(version);
                all.number(pid).value(program).value(label)
            }
            Self::Open {
                seq,
                kind,
                name,
                spec,
            } => {
                let all = all.number(2u8).number(seq).value(kind);
                all.value(&name).value(&spec)
            }
            Self::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            } => {
                let all = all.number(3u8).number(seq).number(object);
                all.number(operation).optional(micros).bytes(arguments.0)
            }
            Self::Cast {
                seq,
                object,
                operation,
                arguments,
            } => {
                let all = all.number(4u8).number(seq).number(object);
                all.number(operation).bytes(arguments.0)
            }
            Self::Withdraw { object, seq } => all.number(5u8).number(object).number(seq),
            Self::Remove { seq, name } => all.number(6u8).number(seq).value(name),
            Self::Inspect { seq, ref question } => all.number(7u8).number(seq).value(question),
            Self::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            } => {
                let all = all.number(8u8).number(seq).number(object);
                let all = all.number(operation).optional(micros);
                all.bytes(arguments.0).number(caller)
            }
            Self::Tray {
                seq,
                object,
                operation,
                descriptor,
            } => {
                let all = all.number(9u8).number(seq).number(object);
                all.number(operation).number(descriptor)
            }
        };
        all.end()
    }
}

impl Encode for Response<'_> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        let all = Elements::begin(buffer);
        let all = match self {
            Self::Welcome {
                version,
                incarnation,
                session,
                frame_bytes,
                asks_who_calls,
                part,
            } => {
                let all = all.number(65u8).number(*version).number(*incarnation);
                let all = all.number(*session).number(*frame_bytes);
                let all = all.value(asks_who_calls);
                if *part == Part::ALONE {
                    all
                } else {
                    all.number(part.index()).number(part.of())
                }
            }
            Self::Opened {
                seq,
                object,
                name,
                operations,
            } => {
                let all = all.number(66u8).number(*seq).number(*object);
                all.value(name).value(operations)
            }
            Self::Reply { seq, body } => all.number(67u8).number(*seq).bytes(body.0),
            Self::Fault { seq, fault } => all.number(68u8).number(*seq).value(fault),
            Self::Revoked { seq } => all.number(69u8).number(*seq),
            Self::Gone { object } => all.number(70u8).number(*object),
            Self::Bye { reason } => all.number(71u8).value(reason),
        };
        all.end()
    }
}

impl<'a> Request<'a> {
    /// Reads what a client said.
    ///
    /// # Errors
    ///
    /// Returns an error when it is no request.
    #[inline]
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
    #[inline]
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
                part: match f.end() {
                    Ok(()) => Part::ALONE,
                    Err(_) => part(f.number()?, f.number()?)?,
                },
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

/// One of several arbiters.
fn part(index: u32, of: u32) -> Result<Part, CodecError> {
    let part = Part::new(index, of).filter(|part| *part != Part::ALONE);
    part.ok_or_else(|| CodecError::new(format!("there is no arbiter {index} of {of}")))
}

#[cfg(test)]
pub(crate) mod tests;
