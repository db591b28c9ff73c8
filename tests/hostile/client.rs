//! A hostile client: a plain socket, to which an attack writes any bytes.
//!
//! Invariant: every call in this file has a time limit.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::{
    pack::Pack,
    protocol::{self, Grant, Response},
};

/// The time limit for an immediate answer. It is long because the machine may be busy.
const ANSWER: Duration = Duration::from_secs(15);

/// The time after which a blocked write means that the manager does not read.
const WRITE: Duration = Duration::from_secs(1);

/// A number without an operation.
pub(crate) const NO_OPERATION: u64 = 1 << 31;

/// The state of an attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    pub(crate) address: String,
    /// The process id of the honest client.
    pub(crate) honest: u32,
    pub(crate) random: StdRng,
    /// The end of the current attack.
    pub(crate) until: Instant,
    pub(crate) found: Findings,
}

/// The counts of the attackers, and the manager's faults that they noticed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) faults: Vec<String>,
}

/// The reason why an attack cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The manager has closed the connection, which is permitted.
    HungUp,
    /// The manager does not read, which is permitted while its answers are unread.
    NotRead,
    /// The manager has not answered a request that it must answer.
    NotAnswered,
    /// The manager has sent an invalid frame.
    NotAFrame,
    /// The manager could not decode a request that the attack made as a valid one, so the attack does not reach what
    /// it attacks.
    Malformed,
    /// No manager accepts connections at the address.
    NoManager,
}

impl Findings {
    /// Adds the findings of another attacker.
    pub(crate) fn add(&mut self, other: Self) {
        self.faults.extend(other.faults);
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

impl Attacker {
    pub(crate) fn is_running(&self) -> bool {
        Instant::now() < self.until
    }

    pub(crate) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &str, count: u64) {
        *self.found.counts.entry(what.to_owned()).or_default() += count;
    }

    pub(crate) fn fault(&mut self, fault: String) {
        self.found.faults.push(fault);
    }

    /// Connects without sending anything.
    pub(crate) fn connect(&self) -> Result<UnixStream, Ended> {
        let stream = UnixStream::connect(&self.address).map_err(|_| Ended::NoManager)?;
        let set = stream.set_write_timeout(Some(WRITE));
        set.expect("a socket has timeouts");
        Ok(stream)
    }

    /// Connects and sends a hello.
    pub(crate) fn client(&mut self) -> Result<Client, Ended> {
        self.client_as(std::process::id(), "hostile", "")
    }

    /// Connects and sends hellos until the manager has room for one more session.
    pub(crate) fn client_with_retry(&mut self) -> Result<Client, Ended> {
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.client() {
                Err(Ended::HungUp) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn client_as(
        &mut self,
        pid: u32,
        program: &str,
        label: &str,
    ) -> Result<Client, Ended> {
        let mut client = Client {
            stream: self.connect()?,
            inbox: Vec::new(),
            taken: 0,
            session: 0,
            incarnation: 0,
            seq: 0,
        };
        client.send(&protocol::hello(pid.into(), program, label))?;
        match client.receive(ANSWER)? {
            Some(Response::Welcome {
                incarnation,
                session,
            }) => {
                client.incarnation = incarnation;
                client.session = session;
                self.count("sessions");
                Ok(client)
            }
            Some(Response::Bye(_)) => {
                self.count("refused sessions");
                Err(Ended::HungUp)
            }
            Some(_) => Err(Ended::NotAFrame),
            None => Err(Ended::NotAnswered),
        }
    }
}

/// A session.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    inbox: Vec<u8>,
    taken: usize,
    pub(crate) session: u64,
    pub(crate) incarnation: u64,
    seq: u64,
}

/// An object that a session has opened.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) number: u64,
    operations: Vec<String>,
}

impl Object {
    /// The names of the operations.
    pub(crate) fn operations(&self) -> &[String] {
        &self.operations
    }

    /// The number of an operation, or [`NO_OPERATION`].
    pub(crate) fn operation(&self, name: &str) -> u64 {
        let numbered = (0..).zip(&self.operations);
        let mut of_the_name = numbered.filter(|(_, other)| *other == name);
        of_the_name
            .next()
            .map_or(NO_OPERATION, |(number, _)| number)
    }
}

/// Returns the answer to a request that the attack made as a valid one, unless the manager could not decode it.
pub(crate) fn decoded(response: Response) -> Result<Response, Ended> {
    let is_malformed = match &response {
        Response::Fault { fault, .. } => ["BadArguments", "UnknownOperation"]
            .iter()
            .any(|name| fault.variant_name() == Some(name)),
        _ => false,
    };
    if is_malformed {
        return Err(Ended::Malformed);
    }
    Ok(response)
}

/// Returns a message with its header.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("the message is short");
    [&length.to_be_bytes(), message].concat()
}

impl Client {
    /// Returns the next sequence number.
    pub(crate) fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Returns the last sequence number.
    pub(crate) fn last(&self) -> u64 {
        self.seq
    }

    pub(crate) fn own(&self, seq: u64) -> Grant {
        Grant {
            session: self.session,
            seq,
        }
    }

    pub(crate) fn send(&mut self, message: &Pack) -> Result<(), Ended> {
        self.send_bytes(&framed(&message.encoded()))
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.stream.write_all(bytes).map_err(|error| ended(&error))
    }

    /// Receives the next frame, if there is one in time.
    pub(crate) fn receive(&mut self, patience: Duration) -> Result<Option<Response>, Ended> {
        let deadline = Instant::now() + patience;
        loop {
            let rest = self.inbox.get(self.taken..).unwrap_or_default();
            if let Some((header, rest)) = rest.split_first_chunk::<4>() {
                let length = usize::try_from(u32::from_be_bytes(*header)).expect("32 bits fit");
                if let Some(frame) = rest.get(..length) {
                    let response = Response::read(frame).ok_or(Ended::NotAFrame)?;
                    self.taken += 4 + length;
                    return Ok(Some(response));
                }
            }
            self.inbox.drain(..self.taken);
            self.taken = 0;
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_micros(100));
            let set = self.stream.set_read_timeout(Some(left));
            set.expect("a socket has timeouts");
            let mut chunk = [0; 1 << 16];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Ended::HungUp),
                Ok(length) => self.inbox.extend_from_slice(&chunk[..length]),
                Err(error) if is_timeout(&error) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(ended(&error)),
            }
        }
    }

    /// Receives frames until none arrives within `patience`, and returns the number of answers.
    pub(crate) fn receive_all(&mut self, patience: Duration) -> Result<u64, Ended> {
        let mut answers = 0;
        while let Some(response) = self.receive(patience)? {
            answers += u64::from(response.answers().is_some());
        }
        Ok(answers)
    }

    /// Sends a request that is answered at once, and returns the answer. It skips other answers.
    pub(crate) fn ask(&mut self, seq: u64, message: &Pack) -> Result<Response, Ended> {
        self.send(message)?;
        self.answer(seq)
    }

    /// Receives until the answer to a request.
    pub(crate) fn answer(&mut self, seq: u64) -> Result<Response, Ended> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                Some(Response::Bye(_)) => return Err(Ended::HungUp),
                Some(response) if response.answers() == Some(seq) => return Ok(response),
                Some(_) => {}
                None => return Err(Ended::NotAnswered),
            }
        }
    }

    /// Opens an object, unless the manager refuses it.
    pub(crate) fn open(
        &mut self,
        kind: &str,
        name: Option<&str>,
        spec: Option<&Pack>,
    ) -> Result<Option<Object>, Ended> {
        let seq = self.next();
        let response = self.ask(seq, &protocol::open(seq, kind, name, spec))?;
        Ok(match response {
            Response::Opened {
                object, operations, ..
            } => Some(Object {
                number: object,
                operations,
            }),
            _ => None,
        })
    }

    /// Calls an operation that is answered at once, with valid arguments.
    pub(crate) fn call(
        &mut self,
        object: &Object,
        operation: &str,
        arguments: &Pack,
    ) -> Result<Response, Ended> {
        let seq = self.next();
        let operation = object.operation(operation);
        let call = protocol::call(seq, object.number, operation, Some(0), arguments);
        decoded(self.ask(seq, &call)?)
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Response, Ended> {
        let seq = self.next();
        self.ask(seq, &protocol::remove(seq, name))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn ended(error: &io::Error) -> Ended {
    if is_timeout(error) {
        Ended::NotRead
    } else {
        Ended::HungUp
    }
}
