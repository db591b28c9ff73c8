//! A client that is not ours, as PROTOCOL.md tells strangers to write one: blocking, and with no memory of its calls.
//!
//! So one process can have any number of sessions, and a million calls under way, without measuring itself.

use crate::contest::Side;
use crate::ours;
use crate::party::{self, Failure};
use lockkeeper_actors::codec::{self, Blob, BlobRef};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// The role of a stranger that does what `ours::PIPELINED` or `ours::KEYED` says.
pub(crate) const STRANGER: &str = "stranger";

/// What a manager does when its client takes next to no time.
pub(crate) const STRANGERS: Side = Side {
    name: "its manager alone",
    worker: STRANGER,
    ..ours::CLIENTS
};

/// Frames are written together once they have so many bytes.
const TOGETHER: usize = 1 << 16;

/// The first element of each frame that is an answer.
const WELCOME: u8 = 65;
const OPENED: u8 = 66;
const REPLY: u8 = 67;

/// A session, and what it has not sent yet.
pub(crate) struct Stranger {
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

/// To which call an answer was.
#[derive(PartialEq)]
pub(crate) enum Replied {
    Earlier,
    Last,
}

impl Stranger {
    /// Connects, says hello, and is welcomed.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let mut stranger = Self {
            manager: BufReader::with_capacity(TOGETHER, UnixStream::connect(address)?),
            unsent: Vec::new(),
            seq: 0,
        };
        stranger.send(&(1, "lockkeeper", 1, std::process::id(), "stranger", ""))?;
        stranger.answer(WELCOME)?;
        Ok(stranger)
    }

    /// Opens a lock: a new one without a name, or the one of that name. To be followed by [`Self::opened`].
    pub(crate) fn open_lock(&mut self, name: Option<&str>) -> Result<(), Failure> {
        self.open("lock", name)
    }

    /// The same with an object of any kind whose spec says who may release, and nothing else.
    fn open(&mut self, kind: &str, name: Option<&str>) -> Result<(), Failure> {
        let spec = Blob::from(codec::encode("Holder")?);
        self.seq += 1;
        self.send(&(2, self.seq, kind, name, spec))
    }

    /// Reads the answer to the earliest [`Self::open_lock`] that it was not read of.
    pub(crate) fn opened(&mut self) -> Result<Object, Failure> {
        let frame = self.answer(OPENED)?;
        let (_, _, number, _, operations): (u8, u64, u32, String, Vec<String>) =
            codec::decode(&frame)?;
        Ok(Object { number, operations })
    }

    /// Calls an operation that has no arguments. It may wait so many microseconds, or for ever.
    pub(crate) fn call(
        &mut self,
        object: &Object,
        operation: &str,
        micros: Option<u64>,
    ) -> Result<(), Failure> {
        self.call_with(object, operation, micros, &[0x90])
    }

    /// The same with arguments.
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

    /// Releases a lock that the call of that number was granted. There is no answer.
    fn release(&mut self, object: &Object, call: u64) -> Result<(), Failure> {
        let number = object.operation("release")?;
        let grant = Blob::from(codec::encode(&(call,))?);
        self.send(&(4, object.number, number, grant))
    }

    /// Reads the next answer to a call, which must be no fault, and tells which call it was.
    fn granted(&mut self) -> Result<u64, Failure> {
        let (_, seq, _): (u8, u64, Blob) = codec::decode(&self.answer(REPLY)?)?;
        Ok(seq)
    }

    /// Reads the next answer to a call, which must be no fault, and tells whether it is that to the last call of all.
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

    /// Reads the next frame, which must have that number. What is unsent is sent once all that has come was read.
    fn answer(&mut self, number: u8) -> Result<Vec<u8>, Failure> {
        if self.manager.buffer().is_empty() {
            self.flush()?;
        }
        let mut length = [0; 4];
        self.manager.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        self.manager.read_exact(&mut frame)?;
        // A short array has one byte, and its first element another one.
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

/// Plays a stranger that has so many cycles under way at once, each with a lock or a key of its own, and counts them.
pub(crate) async fn pipeline(address: &str, cycle: &str) -> Result<(), Failure> {
    let mut stranger = Stranger::connect(address)?;
    // The objects, and for each place what is acquired of which of them.
    let (mut objects, mut seats) = (Vec::new(), Vec::new());
    match cycle {
        ours::PIPELINED => {
            for place in 0..ours::OUTSTANDING {
                stranger.open_lock(None)?;
                objects.push(stranger.opened()?);
                seats.push((place, vec![0x90]));
            }
        }
        ours::KEYED => {
            stranger.open("keyed_lock", None)?;
            objects.push(stranger.opened()?);
            for place in 0..ours::OUTSTANDING {
                seats.push((0, codec::encode(&(ours::key(place),))?));
            }
        }
        other => return Err(format!("no stranger repeats {other:?}").into()),
    }
    let mut under_way = HashMap::new();
    for (place, (object, arguments)) in seats.iter().enumerate() {
        stranger.call_with(&objects[*object], "acquire", None, arguments)?;
        under_way.insert(stranger.seq, place);
    }
    party::repeat(async || {
        for _ in 0..ours::OUTSTANDING {
            let call = stranger.granted()?;
            let place = under_way.remove(&call).ok_or("a grant of no call")?;
            let (object, arguments) = &seats[place];
            stranger.release(&objects[*object], call)?;
            stranger.call_with(&objects[*object], "acquire", None, arguments)?;
            under_way.insert(stranger.seq, place);
        }
        Ok(u64::try_from(ours::OUTSTANDING)?)
    })
    .await
}
