//! A minimal client that is written from PROTOCOL.md: it blocks, and keeps no state of its calls.
//!
//! So one process can have any number of sessions and a million calls in progress, and its own cost is
//! negligible.

use crate::contest::Side;
use crate::ours;
use crate::party::{self, Failure};
use lockkeeper_actors::codec::{self, Blob, BlobRef};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// The role of a raw client that runs the cycle `ours::PIPELINED` or `ours::KEYED`.
pub(crate) const RAW_CLIENT: &str = "raw-client";

/// Raw clients, whose own cost is negligible, so the figure is the manager's cost.
pub(crate) const RAW_CLIENTS: Side = Side {
    name: "its manager alone",
    worker: RAW_CLIENT,
    ..ours::CLIENTS
};

/// Frames are buffered until they have this many bytes.
const TOGETHER: usize = 1 << 16;

/// The first element of each frame that is an answer.
const WELCOME: u8 = 65;
const OPENED: u8 = 66;
const REPLY: u8 = 67;

/// A session, and its unsent frames.
pub(crate) struct RawClient {
    manager: BufReader<UnixStream>,
    unsent: Vec<u8>,
    /// The last sequence number that was used.
    seq: u64,
}

/// An object that a session has opened.
pub(crate) struct Object {
    number: u32,
    operations: Vec<String>,
}

/// Whether an answer belongs to the last call.
#[derive(PartialEq)]
pub(crate) enum Replied {
    Earlier,
    Last,
}

impl RawClient {
    /// Connects, sends a hello, and reads the welcome.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let mut raw_client = Self {
            manager: BufReader::with_capacity(TOGETHER, UnixStream::connect(address)?),
            unsent: Vec::new(),
            seq: 0,
        };
        raw_client.send(&(1, "lockkeeper", 1, std::process::id(), "raw-client", ""))?;
        raw_client.answer(WELCOME)?;
        Ok(raw_client)
    }

    /// Sends a request to open a lock: an anonymous one, or the one of that name. [`Self::opened`] reads
    /// the answer.
    pub(crate) fn open_lock(&mut self, name: Option<&str>) -> Result<(), Failure> {
        self.open("lock", name)
    }

    /// Sends a request to open an object of any kind whose spec is only the release rule.
    fn open(&mut self, kind: &str, name: Option<&str>) -> Result<(), Failure> {
        let spec = Blob::from(codec::encode("Holder")?);
        self.seq += 1;
        self.send(&(2, self.seq, kind, name, spec))
    }

    /// Reads the answer to the earliest unanswered [`Self::open_lock`].
    pub(crate) fn opened(&mut self) -> Result<Object, Failure> {
        let frame = self.answer(OPENED)?;
        let (_, _, number, _, operations): (u8, u64, u32, String, Vec<String>) =
            codec::decode(&frame)?;
        Ok(Object { number, operations })
    }

    /// Sends a call of an operation without arguments. It may wait for `micros`, or for ever.
    pub(crate) fn call(
        &mut self,
        object: &Object,
        operation: &str,
        micros: Option<u64>,
    ) -> Result<(), Failure> {
        self.call_with(object, operation, micros, &[0x90])
    }

    /// Sends a call with arguments.
    fn call_with(
        &mut self,
        object: &Object,
        operation: &str,
        micros: Option<u64>,
        arguments: &[u8],
    ) -> Result<(), Failure> {
        let number = object.operation(operation)?;
        self.seq += 1;
        let arguments = BlobRef(arguments);
        self.send(&(3, self.seq, object.number, number, micros, arguments))
    }

    /// Releases the lock that was granted to a call. There is no answer.
    fn release(&mut self, object: &Object, call: u64) -> Result<(), Failure> {
        let number = object.operation("release")?;
        let grant = Blob::from(codec::encode(&(call,))?);
        self.send(&(4, object.number, number, grant))
    }

    /// Reads the next answer, which must not be a fault, and returns the number of its call.
    fn granted(&mut self) -> Result<u64, Failure> {
        let (_, seq, _): (u8, u64, Blob) = codec::decode(&self.answer(REPLY)?)?;
        Ok(seq)
    }

    /// Reads the next answer, which must not be a fault, and returns whether it belongs to the last call.
    pub(crate) fn replied(&mut self) -> Result<Replied, Failure> {
        Ok(if self.granted()? == self.seq {
            Replied::Last
        } else {
            Replied::Earlier
        })
    }

    fn send(&mut self, frame: &impl Serialize) -> Result<(), Failure> {
        let begins = self.unsent.len();
        self.unsent.extend_from_slice(&[0; 4]);
        codec::encode_into(&mut self.unsent, frame)?;
        let length = u32::try_from(self.unsent.len() - begins - 4)?;
        self.unsent[begins..begins + 4].copy_from_slice(&length.to_be_bytes());
        if self.unsent.len() >= TOGETHER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.manager.get_mut().write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Reads the next frame, which must have the given number. Unsent frames are sent when no received bytes are
    /// left.
    fn answer(&mut self, number: u8) -> Result<Vec<u8>, Failure> {
        if self.manager.buffer().is_empty() {
            self.flush()?;
        }
        let mut length = [0; 4];
        self.manager.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        self.manager.read_exact(&mut frame)?;
        // The header of a short array and its first element have one byte each.
        if frame.get(1) == Some(&number) {
            return Ok(frame);
        }
        let text = String::from_utf8_lossy(&frame);
        Err(format!("expected frame {number}, not {text:?}").into())
    }
}

impl Object {
    fn operation(&self, name: &str) -> Result<usize, Failure> {
        let number = self.operations.iter().position(|one| one == name);
        number.ok_or_else(|| format!("a lock has no operation {name}").into())
    }
}

/// Runs a raw client with many concurrent cycles, each with its own lock or key, and counts them.
pub(crate) async fn pipeline(address: &str, cycle: &str) -> Result<(), Failure> {
    let mut raw_client = RawClient::connect(address)?;
    // The objects, and for each place the object and the arguments.
    let (mut objects, mut seats) = (Vec::new(), Vec::new());
    match cycle {
        ours::PIPELINED => {
            for place in 0..ours::OUTSTANDING {
                raw_client.open_lock(None)?;
                objects.push(raw_client.opened()?);
                seats.push((place, vec![0x90]));
            }
        }
        ours::KEYED => {
            raw_client.open("keyed_lock", None)?;
            objects.push(raw_client.opened()?);
            for place in 0..ours::OUTSTANDING {
                seats.push((0, codec::encode(&(ours::key(place),))?));
            }
        }
        other => return Err(format!("no raw client repeats {other:?}").into()),
    }
    let mut under_way = HashMap::new();
    for (place, (object, arguments)) in seats.iter().enumerate() {
        raw_client.call_with(&objects[*object], "acquire", None, arguments)?;
        under_way.insert(raw_client.seq, place);
    }
    party::repeat(async || {
        for _ in 0..ours::OUTSTANDING {
            let call = raw_client.granted()?;
            let place = under_way.remove(&call).ok_or("a grant without a call")?;
            let (object, arguments) = &seats[place];
            raw_client.release(&objects[*object], call)?;
            raw_client.call_with(&objects[*object], "acquire", None, arguments)?;
            under_way.insert(raw_client.seq, place);
        }
        Ok(u64::try_from(ours::OUTSTANDING)?)
    })
    .await
}
