//! The messages of client and manager: [`Request`] and [`Response`].
//!
//! A frame is a MessagePack array whose first element is the number of the message. PROTOCOL.md
//! documents all of them, and a test compares the document with this code.
//!
//! Invariant: no input of a peer causes a panic, or an allocation larger than the input.

use crate::{
    codec::{blob::BlobRef, elements::Elements, error::CodecError, fields::Fields},
    fault::Fault,
    frame::{capabilities::Capabilities, framing::Encode},
    inspection::Question,
    proof::SessionSecret,
    shard::Shard,
};

/// The first element of every session's first frame.
pub const MAGIC: &str = "lockkeeper";

/// The version of the protocol's base, which both sides must use. Additions to it are
/// [capabilities](Capabilities).
pub const VERSION: u32 = 1;

/// The largest frame, in bytes, before the manager has sent its own limit.
pub const FIRST_FRAME_BYTES: usize = 1 << 16;

/// The difference between the limit of a message and that of a call's arguments and of a spec. What an object
/// keeps of them therefore fits into an answer, with all that goes along with it, such as the peer that
/// abandoned an item.
pub const ANSWER_MARGIN_BYTES: usize = 1 << 10;

/// A message of a client.
#[derive(Debug, PartialEq)]
pub enum Request<'a> {
    /// The first frame of a session.
    Hello {
        /// The version of the protocol that the sender speaks.
        version: u32,
        /// The id of the client's process.
        pid: u32,
        /// The name of the client's program.
        program: &'a str,
        /// The label of the client's process, which may be empty.
        label: &'a str,
        /// The client's capabilities beyond the base.
        capabilities: Capabilities,
    },
    /// Opens an object: a new one without a name, or the one with that name. A spec creates the object if it
    /// does not exist.
    Open {
        /// The client's number for the call.
        seq: u64,
        /// The kind of the object.
        kind: &'a str,
        /// The name of the object; `None` for a new one without a name.
        name: Option<&'a str>,
        /// The encoded spec, with which the object is created if it does not exist.
        spec: Option<BlobRef<'a>>,
    },
    /// Calls an object.
    Call {
        /// The client's number for the call.
        seq: u64,
        /// The session's number for the object.
        object: u32,
        /// The index of the operation among those of the kind.
        operation: u32,
        /// The time until the deadline, in microseconds; `None` without a deadline.
        micros: Option<u64>,
        /// The encoded arguments.
        arguments: BlobRef<'a>,
    },
    /// Calls an object without an answer.
    Cast {
        /// The session's number for the object.
        object: u32,
        /// The index of the operation among those of the kind.
        operation: u32,
        /// The encoded arguments.
        arguments: BlobRef<'a>,
    },
    /// Undoes an earlier call.
    Withdraw {
        /// The session's number for the object.
        object: u32,
        /// The client's number for the call.
        seq: u64,
    },
    /// Removes the object with that name.
    Remove {
        /// The client's number for the call.
        seq: u64,
        /// The name of the object.
        name: &'a str,
    },
    /// Asks for the holders and waiters of objects.
    Inspect {
        /// The client's number for the call.
        seq: u64,
        /// The question.
        question: Question,
    },
    /// Calls an object, with the caller in the session: a task or a thread.
    CallBy {
        /// The client's number for the call.
        seq: u64,
        /// The session's number for the object.
        object: u32,
        /// The index of the operation among those of the kind.
        operation: u32,
        /// The time until the deadline, in microseconds; `None` without a deadline.
        micros: Option<u64>,
        /// The encoded arguments.
        arguments: BlobRef<'a>,
        /// The client's number for the task or thread that calls.
        caller: u64,
    },
    /// Assigns the pipe that came with the stream to an operation of an object. The manager reads records for
    /// that operation from it, now and later.
    ReportPipe {
        /// The client's number for the call.
        seq: u64,
        /// The session's number for the object.
        object: u32,
        /// The index of the operation among those of the kind.
        operation: u32,
    },
}

/// A message of a manager.
#[derive(Debug, PartialEq)]
pub enum Response<'a> {
    /// The answer to `Hello`.
    Welcome {
        /// The version of the protocol that the sender speaks.
        version: u32,
        /// The incarnation of the manager.
        incarnation: u64,
        /// The id of the session.
        session: u64,
        /// The secret with which the session signs its calls.
        secret: SessionSecret,
        /// The size of the largest message that the manager takes, in bytes.
        frame_bytes: u64,
        /// The manager's capabilities beyond the base.
        capabilities: Capabilities,
        /// The shard of the session. A manager of one shard without endpoints omits it.
        shard: Shard,
        /// The addresses at which clients on other machines reach the manager. A manager without any omits them.
        endpoints: Vec<String>,
    },
    /// The answer to `Open`: the object's number and name, and its operations in order.
    Opened {
        /// The client's number for the call.
        seq: u64,
        /// The session's number for the object.
        object: u32,
        /// The name of the object.
        name: String,
        /// The names of its operations, in order.
        operations: Vec<String>,
    },
    /// The answer to a call, or to `Remove`.
    Reply {
        /// The client's number for the call.
        seq: u64,
        /// The encoded reply.
        body: BlobRef<'a>,
    },
    /// The fault of a request, in place of its answer.
    Fault {
        /// The client's number for the call.
        seq: u64,
        /// The fault.
        fault: Fault,
    },
    /// The grant that the call got is void.
    Revoked {
        /// The client's number for the call.
        seq: u64,
    },
    /// The object was removed or has failed.
    Gone {
        /// The session's number for the object.
        object: u32,
    },
    /// The end of the session, with the reason.
    Bye {
        /// The reason.
        reason: String,
    },
}

impl Encode for Request<'_> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer);
        let all = match *self {
            Self::Hello {
                version,
                pid,
                program,
                label,
                ref capabilities,
            } => {
                let all = all.number(1u8).value(MAGIC).number(version);
                let all = all.number(pid).value(program).value(label);
                all.value(capabilities)
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
                object,
                operation,
                arguments,
            } => {
                let all = all.number(4u8).number(object);
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
            Self::ReportPipe {
                seq,
                object,
                operation,
            } => {
                let all = all.number(9u8).number(seq).number(object);
                all.number(operation)
            }
        };
        all.end()
    }
}

impl Encode for Response<'_> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer);
        let all = match self {
            Self::Welcome {
                version,
                incarnation,
                session,
                secret,
                frame_bytes,
                capabilities,
                shard,
                endpoints,
            } => {
                let all = all.number(65u8).number(*version).number(*incarnation);
                let all = all.number(*session).bytes(secret.bytes());
                let all = all.number(*frame_bytes).value(capabilities);
                if endpoints.is_empty() && *shard == Shard::ALONE {
                    all
                } else if endpoints.is_empty() {
                    all.number(shard.index()).number(shard.of())
                } else {
                    let all = all.number(shard.index()).number(shard.of());
                    all.value(endpoints)
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
    /// Decodes a message of a client.
    ///
    /// # Errors
    ///
    /// Returns an error when the bytes are no request. [`Misread::of`](super::Misread::of) then returns what
    /// can be read of them.
    #[inline]
    pub fn decode(message: &'a [u8]) -> Result<Self, CodecError> {
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
                    // Only the elements before this one are the same in all versions.
                    return Ok(Self::Hello {
                        version,
                        pid: 0,
                        program: "",
                        label: "",
                        capabilities: Capabilities::NONE,
                    });
                }
                let hello = Self::Hello {
                    version,
                    pid: f.number()?,
                    program: f.text()?,
                    label: f.text()?,
                    capabilities: if f.has_more() {
                        Capabilities::read(f)?
                    } else {
                        Capabilities::NONE
                    },
                };
                fields.end_of_known()?;
                return Ok(hello);
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
            9 => Self::ReportPipe {
                seq: f.number()?,
                object: f.number()?,
                operation: f.number()?,
            },
            other => return Err(CodecError::new(format!("there is no request {other}"))),
        };
        fields.end()?;
        Ok(request)
    }
}

impl<'a> Response<'a> {
    /// Decodes a message of a manager.
    ///
    /// # Errors
    ///
    /// Returns an error when the bytes are not a response.
    #[inline]
    pub fn decode(message: &'a [u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        let response = match f.number::<u8>()? {
            65 => {
                let welcome = Self::Welcome {
                    version: f.number()?,
                    incarnation: f.number()?,
                    session: f.number()?,
                    secret: secret(f.bytes()?)?,
                    frame_bytes: f.number()?,
                    capabilities: Capabilities::read(f)?,
                    shard: if f.has_more() {
                        shard(f.number()?, f.number()?)?
                    } else {
                        Shard::ALONE
                    },
                    endpoints: if f.has_more() {
                        f.list_of_texts()?
                    } else {
                        Vec::new()
                    },
                };
                fields.end_of_known()?;
                return Ok(welcome);
            }
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

/// Decodes the secret of a session.
fn secret(bytes: &[u8]) -> Result<SessionSecret, CodecError> {
    let secret = SessionSecret::read(bytes);
    secret.ok_or_else(|| CodecError::new(format!("a secret is not {} bytes", bytes.len())))
}

/// Returns the shard with that index.
pub(crate) fn shard(index: u32, of: u32) -> Result<Shard, CodecError> {
    Shard::new(index, of)
        .ok_or_else(|| CodecError::new(format!("there is no shard {index} of {of}")))
}
