//! `Request`: the messages of a client.

use crate::{
    codec::{blob::BlobRef, elements::Elements, error::CodecError, fields::Fields},
    frame::{
        capabilities::Capabilities,
        framing::Encode,
        messages::{MAGIC, VERSION, secret},
    },
    inspection::Question,
    proof::SessionSecret,
};

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
        /// The earlier session of the client with a lease, which the manager ends first.
        former: Option<FormerSession>,
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
    /// Renews the lease of the session.
    Beat {
        /// The client's number for the call.
        seq: u64,
        /// The bytes that the client has read of the stream since the handshake.
        received: u64,
    },
    /// Ends the session once the stream ends, without waiting for the end of its lease.
    Goodbye,
}

/// A session with a lease that its client has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerSession {
    /// The number of the session.
    pub number: u64,
    /// The secret of the session, which proves that the sender had it.
    pub secret: SessionSecret,
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
                former,
            } => {
                let all = all.number(1u8).value(MAGIC).number(version);
                let all = all.number(pid).value(program).value(label);
                let all = all.value(capabilities);
                match former {
                    Some(FormerSession { number, secret }) => {
                        all.number(number).bytes(secret.bytes())
                    }
                    None => all,
                }
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
            Self::Beat { seq, received } => all.number(10u8).number(seq).number(received),
            Self::Goodbye => all.number(11u8),
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
                        former: None,
                    });
                }
                let hello = Self::Hello {
                    version,
                    pid: f.number()?,
                    program: f.text()?,
                    label: f.text()?,
                    capabilities: if f.has_more() {
                        f.optional(Capabilities::read)?.unwrap_or_default()
                    } else {
                        Capabilities::NONE
                    },
                    former: if f.has_more() {
                        let number = f.number()?;
                        let secret = secret(f.bytes()?)?;
                        Some(FormerSession { number, secret })
                    } else {
                        None
                    },
                };
                fields.end_of_known()?;
                return Ok(hello);
            }
            2 => Self::Open {
                seq: f.number()?,
                kind: f.short_text()?,
                name: f.optional(Fields::short_text)?,
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
                name: f.short_text()?,
            },
            7 => {
                return Ok(Self::Inspect {
                    seq: f.number()?,
                    question: fields.short_last()?,
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
            10 => Self::Beat {
                seq: f.number()?,
                received: f.number()?,
            },
            11 => Self::Goodbye,
            other => return Err(CodecError::new(format!("there is no request {other}"))),
        };
        fields.end()?;
        Ok(request)
    }
}
