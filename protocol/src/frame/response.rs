//! `Response`: the messages of a manager.

use crate::{
    codec::{blob::BlobRef, elements::Elements, error::CodecError, fields::Fields},
    fault::Fault,
    frame::{capabilities::Capabilities, framing::Encode, messages::secret},
    proof::SessionSecret,
    shard::Shard,
};

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
        /// The shard of the session. A manager of one shard without endpoints and leases omits it.
        shard: Shard,
        /// The addresses at which clients on other machines reach the manager. A manager without any omits them.
        endpoints: Vec<String>,
        /// The lease of the session, in milliseconds, if the session has one.
        lease_millis: Option<u64>,
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
                lease_millis,
            } => {
                let all = all.number(65u8).number(*version).number(*incarnation);
                let all = all.number(*session).bytes(secret.bytes());
                let all = all.number(*frame_bytes).value(capabilities);
                let has_endpoints = !endpoints.is_empty() || lease_millis.is_some();
                let all = if *shard != Shard::ALONE || has_endpoints {
                    all.number(shard.index()).number(shard.of())
                } else {
                    all
                };
                let all = if has_endpoints {
                    all.value(endpoints)
                } else {
                    all
                };
                match lease_millis {
                    Some(millis) => all.number(*millis),
                    None => all,
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
                    lease_millis: if f.has_more() {
                        Some(f.number()?)
                    } else {
                        None
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

/// Returns the shard with that index.
pub(crate) fn shard(index: u32, of: u32) -> Result<Shard, CodecError> {
    Shard::new(index, of)
        .ok_or_else(|| CodecError::new(format!("there is no shard {index} of {of}")))
}
