//! The encoding of a chunk: tasks or outcomes in one payload, each in a frame of its own.
//!
//! The queue forwards a payload without decoding it. Invariant: a value that cannot be decoded does not
//! affect the other values of its chunk.

use std::any::type_name;

use bytes::Bytes;
use lockkeeper_protocol::{
    codec::{self, Blob, CodecError, guarded},
    frame::{self, Encode},
    operations::{Chunk, JobOutcome, TaskFailure, TaskFault},
};
use serde::Serialize;

use crate::{
    pool::task::Task,
    task_error::TaskError,
    undecoded::{Encoder, Undecoded},
};

/// The most bytes of a row, so that it fits into a message both to and from the queue.
const MOST_ROW_BYTES: usize = (64 << 20) - (64 << 10);

/// The room that is always reserved for an outcome: a framed fault that says [`NO_ROOM`].
const LEAST_OUTCOME_BYTES: usize = 36;

/// The text of the fault that replaces an outcome without room.
const NO_ROOM: &str = "no room for it";

/// The most tasks of a chunk, so that each outcome has its reserved room.
pub(crate) const MOST_TASKS: usize = MOST_ROW_BYTES / 2 / LEAST_OUTCOME_BYTES;

/// Encodes tasks into a row.
pub(crate) fn pack<T: Task>(tasks: &[T]) -> Result<Chunk, TaskFault> {
    let mut row = Vec::new();
    for task in tasks {
        pack_one(task, &mut row)?;
    }
    check::<T>(row.len())?;
    Ok(Chunk {
        task: T::NAME.to_owned(),
        arguments: row.into(),
    })
}

/// Encodes tasks into a row. Returns the indices of those that fail, in order, each with its fault.
pub(super) fn pack_each<T: Task>(tasks: &[T]) -> (Chunk, Vec<(usize, TaskFault)>) {
    let mut row = Vec::new();
    let mut failed = Vec::new();
    for (place, task) in tasks.iter().enumerate() {
        if let Err(fault) = pack_one(task, &mut row) {
            failed.push((place, fault));
        }
    }
    let arguments = row.into();
    (
        Chunk {
            arguments,
            ..empty::<T>()
        },
        failed,
    )
}

/// A chunk without tasks.
pub(super) fn empty<T: Task>() -> Chunk {
    Chunk {
        task: T::NAME.to_owned(),
        arguments: Vec::new().into(),
    }
}

/// Appends a task to a row, and returns the bytes that it takes. After an error the row is unchanged.
pub(crate) fn pack_one<T: Task>(task: &T, row: &mut Vec<u8>) -> Result<u32, TaskFault> {
    let start = row.len();
    let packed = guarded(|| frame::append(row, &frame::Named(task), MOST_ROW_BYTES));
    let packed = packed.map_err(|error| unreadable_arguments::<T>(&error.to_string()));
    let length = row.len() - start;
    packed
        .and_then(|_| check::<T>(length))
        .and_then(|()| {
            let length = u32::try_from(length);
            length.map_err(|error| unreadable_arguments::<T>(&error.to_string()))
        })
        .inspect_err(|_| row.truncate(start))
}

/// Checks that arguments of that many bytes fit into a message.
#[inline]
pub(super) fn check<T: Task>(bytes: usize) -> Result<(), TaskFault> {
    if bytes <= MOST_ROW_BYTES {
        return Ok(());
    }
    Err(unreadable_arguments::<T>(&format!(
        "{bytes} bytes are more than fit, those of a chunk have at most {MOST_ROW_BYTES} together"
    )))
}

fn unreadable_arguments<T: Task>(why: &str) -> TaskFault {
    TaskFault::Unreadable(format!("arguments of {:?}: {why}", T::NAME))
}

/// Decodes the outcomes of `count` tasks.
pub(crate) fn unpack<T: Task>(Blob(row): &Blob, count: usize) -> Vec<Outcome<T>> {
    let outcomes = frame::frames(row).count();
    if outcomes != count {
        let fault = TaskFault::Unreadable(format!("{outcomes} outcomes of {count} tasks"));
        return fail_all(count, &fault.into());
    }
    let frames = frame::frames(row);
    frames.map(|frame| read::<T>(row, frame)).collect()
}

/// Decodes the outcome of one task.
pub(crate) fn unpack_one<T: Task>(Blob(row): &Blob) -> Outcome<T> {
    let mut frames = frame::frames(row);
    match (frames.next(), frames.next()) {
        (Some(frame), None) => read::<T>(row, frame),
        (_, _) => {
            let fault = TaskFault::Unreadable("it has not one outcome".to_owned());
            Err(fault.into())
        }
    }
}

#[inline]
fn read<T: Task>(row: &Bytes, frame: Result<&[u8], CodecError>) -> Result<T::Output, TaskError> {
    let unreadable =
        |error: CodecError| TaskFault::Unreadable(format!("output of {:?}: {error}", T::NAME));
    let frame = frame.map_err(unreadable)?;
    let Some(output) = frame.strip_prefix(codec::OK) else {
        let outcome = guarded(|| codec::decode::<Result<T::Output, TaskFault>>(frame));
        let outcome = outcome.map_err(unreadable)?.map_err(sent_as::<T>);
        return outcome.map_err(|fault| TaskError::from(fault).begun());
    };
    guarded(|| codec::decode_within(row, output)).map_err(|error| {
        let what = format!("the output of task {:?}", T::NAME);
        let types = [type_name::<T::Output>(); 2].map(str::to_owned);
        let bytes = Blob(row.slice_ref(output));
        let undecoded = Undecoded::new(Encoder::Worker, what, types, error.to_string(), bytes);
        TaskError::from(undecoded).begun()
    })
}

/// The error of a task that the queue calls failed.
pub(super) fn failed<T: Task>(mut failure: Box<TaskFailure>) -> TaskError {
    failure.fault = sent_as::<T>(failure.fault);
    failure.into()
}

/// Adds the type of the submitted task to a fault that names the task.
fn sent_as<T: Task>(mut fault: TaskFault) -> TaskFault {
    if let TaskFault::Undecoded(undecoded) = &mut fault {
        undecoded.sent = type_name::<T>().to_owned();
    }
    fault
}

/// The outcome of one task.
pub(crate) type Outcome<T> = Result<<T as Task>::Output, TaskError>;

/// Returns `count` copies of an error.
pub(crate) fn fail_all<R>(count: usize, error: &TaskError) -> Vec<Result<R, TaskError>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

/// An outcome that is encoded without the intermediate value of a derived implementation.
struct Direct<'a, R>(&'a Result<R, TaskFault>);

impl<R: Serialize> Encode for Direct<'_, R> {
    #[inline]
    fn encode_into(&self, buffer: &mut Vec<u8>, most: usize) -> Result<(), CodecError> {
        match self.0 {
            Ok(output) => {
                buffer.extend_from_slice(codec::OK);
                frame::Named(output).encode_into(buffer, most.saturating_sub(codec::OK.len()))
            }
            Err(_) => codec::encode_into(buffer, self.0),
        }
    }
}

/// The outcomes of a chunk, in the order of its tasks.
#[derive(Debug)]
pub(super) struct Outcomes {
    row: Vec<u8>,
    count: usize,
    /// The end of the last complete outcome; bytes behind it are part of an incomplete one.
    whole: usize,
    /// The room beyond the reserved room of each outcome.
    room: usize,
    /// What became of the task, if it is the only one.
    only: Only,
}

/// What became of the only task of a chunk. The queue may run it again.
#[derive(Debug, PartialEq, Eq)]
enum Only {
    /// There are other tasks.
    None,
    /// Nothing that is worth another attempt.
    Done,
    Transient,
    Failed(TaskFault),
}

impl Outcomes {
    /// Reserves room for `count` outcomes.
    pub(super) const fn of(count: usize) -> Self {
        Self {
            only: if count == 1 { Only::Done } else { Only::None },
            row: Vec::new(),
            count: 0,
            whole: 0,
            room: MOST_ROW_BYTES.saturating_sub(count.saturating_mul(LEAST_OUTCOME_BYTES)),
        }
    }

    /// Adds an outcome. If there is no room for it, adds a fault that says so.
    ///
    /// The queue is told the fault of the only task of a chunk, so that it may run the task again. The faults of
    /// several tasks are among their outcomes.
    pub(super) fn push<R: Serialize>(&mut self, outcome: &Result<R, TaskFault>, task: &str) {
        if let (Only::Done, Err(fault)) = (&self.only, outcome) {
            return self.fail_only(fault.clone());
        }
        let Err(why) = self.try_push(outcome) else {
            return;
        };
        let refusal = TaskFault::Unreadable(format!("output of {task:?}: {why}"));
        if self.only == Only::Done {
            return self.fail_only(refusal);
        }
        if self.try_push(&Err::<(), _>(refusal)).is_err() {
            let refusal = TaskFault::Unreadable(NO_ROOM.to_owned());
            // The refusal fits into the reserved room.
            let _ = self.try_push(&Err::<(), _>(refusal));
        }
    }

    /// Adds an outcome, or returns a fault if there is no room for it.
    fn try_push<R: Serialize>(&mut self, outcome: &Result<R, TaskFault>) -> Result<(), String> {
        self.row.truncate(self.whole);
        let most = self.room.saturating_add(LEAST_OUTCOME_BYTES);
        guarded(|| frame::append(&mut self.row, &Direct(outcome), most))
            .map_err(|error| error.to_string())?;
        let bytes = self.row.len() - self.whole;
        match self
            .room
            .checked_sub(bytes.saturating_sub(LEAST_OUTCOME_BYTES))
        {
            Some(room) => {
                self.room = room;
                self.count += 1;
                self.whole = self.row.len();
                Ok(())
            }
            None => Err(format!(
                "{bytes} bytes are more than fit, \
                 the outputs of a chunk have at most {MOST_ROW_BYTES} together"
            )),
        }
    }

    fn fail_only(&mut self, fault: TaskFault) {
        self.only = Only::Failed(fault);
        self.count += 1;
    }

    /// Records that the task calls its output transient.
    pub(super) fn last_is_transient(&mut self) {
        if self.only == Only::Done {
            self.only = Only::Transient;
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn into_outcome(mut self) -> JobOutcome {
        self.row.truncate(self.whole);
        match self.only {
            Only::None | Only::Done => JobOutcome::Done(self.row.into()),
            Only::Transient => JobOutcome::Transient(self.row.into()),
            Only::Failed(fault) => JobOutcome::Failed(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding of as many equal outcomes as `count`.
    fn row_of<R: Serialize>(count: usize, outcome: &Result<R, TaskFault>) -> Blob {
        let mut outcomes = Outcomes::of(count);
        for _ in 0..count {
            outcomes.push(outcome, "task");
        }
        let JobOutcome::Done(Blob(row)) = outcomes.into_outcome() else {
            panic!("several tasks have no common fault");
        };
        let first = frame::frames(&row).next().unwrap().unwrap();
        assert_eq!(
            first,
            codec::encode(outcome).unwrap(),
            "there is room for some"
        );
        assert_eq!(frame::frames(&row).count(), count);
        Blob(row)
    }

    #[test]
    fn faults_of_a_chunk_fit_a_message_however_many_and_long() {
        for (count, length) in [(20_000, 1000), (MOST_TASKS, 30)] {
            let fault = TaskFault::Panicked("\u{1f480}".repeat(length));
            assert!(row_of::<()>(count, &Err(fault)).0.len() <= MOST_ROW_BYTES);
        }
    }

    #[test]
    fn outputs_of_a_chunk_fit_a_message_however_many_and_long() {
        for (count, length) in [
            (MOST_TASKS, 0),
            (MOST_TASKS, 20),
            (MOST_TASKS, 300),
            (70, 1 << 20),
        ] {
            let output = Blob::from(vec![7; length]);
            assert!(row_of(count, &Ok(output)).0.len() <= MOST_ROW_BYTES);
        }
    }

    #[test]
    fn outcome_of_a_short_task_takes_two_words() {
        assert_eq!(size_of::<Result<i64, TaskError>>(), 16);
        // The results between the steps of an encoding have room for a fault.
        assert!(size_of::<TaskFault>() <= 32);
    }

    #[test]
    fn last_refusal_takes_no_room() {
        let mut outcomes = Outcomes::of(2);
        outcomes.room = 0;
        outcomes.push(&Ok("x".repeat(LEAST_OUTCOME_BYTES)), "task");
        let JobOutcome::Done(Blob(row)) = outcomes.into_outcome() else {
            panic!("several tasks have no common fault");
        };
        let last = frame::frames(&row).next().unwrap().unwrap();
        let refusal = Err(TaskFault::Unreadable(NO_ROOM.to_owned()));
        assert_eq!(codec::decode::<Result<(), TaskFault>>(last), Ok(refusal));
    }
}
