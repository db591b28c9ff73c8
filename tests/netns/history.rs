//! What a client records: one line a record, in a file of its own.
//!
//! Moments are those of CLOCK_MONOTONIC, which is the same for all processes of the machine.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of CLOCK_MONOTONIC.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("the clock begins at zero");
    let rest = u32::try_from(now.tv_nsec).expect("less than a second");
    Duration::new(seconds, rest)
}

/// A record of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A call has acquired the lock.
    Granted { fence: u64, at: Duration },
    /// The client keeps the lock until it is told to release it.
    Keeps { fence: u64 },
    /// The resource has refused a write of the holder.
    Refused { fence: u64, is_valid: bool },
    /// The hold has ended. `lost` tells whether the client has lost it.
    Held { hold: Hold, lost: bool },
    /// A call was sent. The same task then records its answer, if it gets one.
    Sent(Call),
    /// The call was answered.
    Done { call: Call, at: Duration },
    /// A call has failed, so the client does not know whether it was done.
    Failed(String),
}

/// A time in which a guard was valid: from after the grant until before the last check that found it valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) fence: u64,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

/// A call that changes an object whenever it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Puts the item with this number into the queue.
    Put(u64),
    /// Adds one to the value, for the time of this number.
    Add(u64),
}

/// The client's side of its history.
#[derive(Debug)]
pub(crate) struct Recorder(File);

impl Recorder {
    pub(crate) fn new(folder: &Path, client: &str) -> Self {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path(folder, client));
        Self(file.expect("the history can be written"))
    }

    pub(crate) fn add(&self, record: &Record) {
        let line = serde_json::to_string(record).expect("a record is plain data");
        let written = (&self.0).write_all(format!("{line}\n").as_bytes());
        written.expect("the history can be written");
    }
}

/// The test's side of the history of a client.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) client: &'static str,
    pub(crate) records: Vec<Record>,
    path: PathBuf,
    /// The length of what was read.
    read: usize,
}

impl History {
    pub(crate) fn new(folder: &Path, client: &'static str) -> Self {
        Self {
            client,
            records: Vec::new(),
            path: path(folder, client),
            read: 0,
        }
    }

    /// Reads what the client has recorded since.
    pub(crate) fn refresh(&mut self) {
        let text = fs::read(&self.path).unwrap_or_default();
        let new = &text[self.read..];
        // The client may be writing the last line.
        let complete = new.iter().rposition(|byte| *byte == b'\n');
        let new = &new[..complete.map_or(0, |end| end + 1)];
        self.read += new.len();
        let lines = new
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let records = lines.map(|line| serde_json::from_slice(line).expect("a line is a record"));
        self.records.extend(records);
    }

    /// The fence of the lock that the client keeps, if it has recorded no end of this hold.
    pub(crate) fn kept(&self) -> Option<u64> {
        let mut latest = self.records.iter().rev();
        latest.find_map(|record| match record {
            Record::Keeps { fence } => Some(Some(*fence)),
            Record::Held { .. } => Some(None),
            _ => None,
        })?
    }

    /// Shows the last records, for a test that fails.
    pub(crate) fn last(&self) -> String {
        let few = self.records.len().saturating_sub(6);
        let last = self.records[few..]
            .iter()
            .map(|record| format!("  {record:?}"));
        let last = last.collect::<Vec<_>>().join("\n");
        format!("{} at {:?}:\n{last}", self.client, now())
    }
}

fn path(folder: &Path, client: &str) -> PathBuf {
    folder.join(format!("{client}.history"))
}
