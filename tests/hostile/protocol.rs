//! Makes the frames of the protocol and proofs of grants. Only this file and `kinds` depend on
//! PROTOCOL.md.

use rand::{Rng, rngs::StdRng};

use super::pack::Pack;

/// The version of the protocol.
pub(crate) const VERSION: u64 = 1;

/// The numbers of the frames that a client sends.
pub(crate) mod request {
    pub(crate) const HELLO: u64 = 1;
    pub(crate) const OPEN: u64 = 2;
    pub(crate) const CALL: u64 = 3;
    pub(crate) const CAST: u64 = 4;
    pub(crate) const WITHDRAW: u64 = 5;
    pub(crate) const REMOVE: u64 = 6;
    pub(crate) const INSPECT: u64 = 7;
    pub(crate) const CALL_BY: u64 = 8;
    pub(crate) const REPORT_PIPE: u64 = 9;
    pub(crate) const BEAT: u64 = 10;
    pub(crate) const GOODBYE: u64 = 11;
}

/// A frame that a manager sends.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    Welcome {
        incarnation: u64,
        session: u64,
    },
    Opened {
        seq: u64,
        object: u64,
        operations: Vec<String>,
    },
    Reply {
        seq: u64,
        body: Vec<u8>,
    },
    Fault {
        seq: u64,
        fault: Pack,
    },
    Revoked,
    Gone,
    Bye(String),
}

impl Response {
    /// Decodes a frame, or returns `None` if a manager never sends it.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let frame = Pack::read(frame)?;
        let elements = frame.elements();
        let number = |place: usize| elements.get(place)?.number();
        Some(match number(0)? {
            65 => Self::Welcome {
                incarnation: number(2)?,
                session: number(3)?,
            },
            66 => Self::Opened {
                seq: number(1)?,
                object: number(2)?,
                operations: {
                    let names = elements.get(4)?.elements().iter();
                    names
                        .map(|name| Some(name.as_text()?.to_owned()))
                        .collect::<Option<_>>()?
                },
            },
            67 => Self::Reply {
                seq: number(1)?,
                body: match elements.get(2)? {
                    Pack::Bytes(bytes) => bytes.clone(),
                    _ => return None,
                },
            },
            68 => Self::Fault {
                seq: number(1)?,
                fault: elements.get(2)?.clone(),
            },
            69 => Self::Revoked,
            70 => Self::Gone,
            71 => Self::Bye(elements.get(1)?.as_text()?.to_owned()),
            _ => return None,
        })
    }

    /// Returns the number of the answered request.
    pub(crate) fn answers(&self) -> Option<u64> {
        match self {
            Self::Opened { seq, .. } | Self::Reply { seq, .. } | Self::Fault { seq, .. } => {
                Some(*seq)
            }
            Self::Welcome { .. } | Self::Revoked | Self::Gone | Self::Bye(_) => None,
        }
    }
}

pub(crate) fn hello(pid: u64, program: &str, label: &str) -> Pack {
    let [program, label] = [program, label].map(Pack::text);
    Pack::list([
        Pack::Number(request::HELLO),
        Pack::text("lockkeeper"),
        Pack::Number(VERSION),
        Pack::Number(pid),
        program,
        label,
    ])
}

pub(crate) fn open(seq: u64, kind: &str, name: Option<&str>, spec: Option<&Pack>) -> Pack {
    Pack::list([
        Pack::Number(request::OPEN),
        Pack::Number(seq),
        Pack::text(kind),
        name.map_or(Pack::Nil, Pack::text),
        spec.map_or(Pack::Nil, Pack::wrapped),
    ])
}

/// Makes a call that may wait for a number of microseconds.
pub(crate) fn call(
    seq: u64,
    object: u64,
    operation: u64,
    micros: Option<u64>,
    arguments: &Pack,
) -> Pack {
    Pack::list([
        Pack::Number(request::CALL),
        Pack::Number(seq),
        Pack::Number(object),
        Pack::Number(operation),
        micros.map_or(Pack::Nil, Pack::Number),
        arguments.wrapped(),
    ])
}

pub(crate) fn call_by(
    seq: u64,
    object: u64,
    operation: u64,
    micros: Option<u64>,
    arguments: &Pack,
    caller: u64,
) -> Pack {
    Pack::list([
        Pack::Number(request::CALL_BY),
        Pack::Number(seq),
        Pack::Number(object),
        Pack::Number(operation),
        micros.map_or(Pack::Nil, Pack::Number),
        arguments.wrapped(),
        Pack::Number(caller),
    ])
}

pub(crate) fn cast(object: u64, operation: u64, arguments: &Pack) -> Pack {
    Pack::list([
        Pack::Number(request::CAST),
        Pack::Number(object),
        Pack::Number(operation),
        arguments.wrapped(),
    ])
}

pub(crate) fn withdraw(object: u64, seq: u64) -> Pack {
    Pack::list([request::WITHDRAW, object, seq].map(Pack::Number))
}

pub(crate) fn remove(seq: u64, name: &str) -> Pack {
    Pack::list([
        Pack::Number(request::REMOVE),
        Pack::Number(seq),
        Pack::text(name),
    ])
}

pub(crate) fn inspect(seq: u64, question: Pack) -> Pack {
    Pack::list([Pack::Number(request::INSPECT), Pack::Number(seq), question])
}

pub(crate) fn report_pipe(seq: u64, object: u64, operation: u64) -> Pack {
    Pack::list([request::REPORT_PIPE, seq, object, operation].map(Pack::Number))
}

/// Renews a lease, which the sessions of this manager do not have.
pub(crate) fn beat(seq: u64, received: u64) -> Pack {
    Pack::list([request::BEAT, seq, received].map(Pack::Number))
}

/// Ends the session.
pub(crate) fn goodbye() -> Pack {
    Pack::list([Pack::Number(request::GOODBYE)])
}

/// Returns the question of `Inspect` for all objects.
pub(crate) fn all_above(number: u64) -> Pack {
    Pack::variant("All", Pack::Number(number))
}

pub(crate) fn named(name: &str) -> Pack {
    Pack::variant("Named", Pack::text(name))
}

/// A granted call, as its session knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) session: u64,
    pub(crate) seq: u64,
}

/// Returns the proof of a grant for its own session.
pub(crate) fn proof(grant: Grant) -> Pack {
    Pack::Number(grant.seq)
}

/// Makes a guessed proof of another session's grant.
pub(crate) fn guessed_proof(random: &mut StdRng, grant: Grant) -> Pack {
    let Grant { session, seq } = grant;
    match random.random_range(0..6) {
        0 => Pack::Number(seq),
        1 => {
            let secret: [u8; 16] = random.random();
            let [session, seq] = [session, seq].map(Pack::Number);
            Pack::list([session, seq, Pack::Bytes(secret.to_vec())])
        }
        2 => Pack::list([session, seq, random.random()].map(Pack::Number)),
        _ => Pack::list([session, seq].map(Pack::Number)),
    }
}
