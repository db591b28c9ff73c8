//! `Tasks`: the table of registered tasks by name, and how a worker runs one of them.

use std::{
    any::{TypeId, type_name},
    collections::hash_map::Entry,
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, future::LocalBoxFuture};
use lockkeeper_protocol::{
    codec::{self, Blob, CodecError, guarded},
    frame,
    operations::{Chunk, JobOutcome, TaskFault, UndecodedTask},
    panic_message,
};
use lockkeeper_sys::{Inherited, Origin};
use rustc_hash::FxHashMap;
use serde::de::IgnoredAny;

use crate::{
    pool::{chunk::Outcomes, task::Task},
    process::stop,
};

type Run = for<'a> fn(&'a Bytes, &'a mut Outcomes) -> LocalBoxFuture<'a, ()>;

/// A registered task.
#[derive(Clone, Copy)]
struct Registered {
    run: Run,
    id: TypeId,
    type_name: &'static str,
}

/// The tasks of a program, by name.
#[derive(Clone, Default)]
pub(crate) struct Tasks(FxHashMap<&'static str, Registered>);

impl Tasks {
    /// Adds a task.
    ///
    /// # Panics
    ///
    /// Panics when another type has the name.
    #[track_caller]
    pub(crate) fn add<T: Task>(&mut self) {
        let task = Registered {
            run: run::<T>,
            id: TypeId::of::<T>(),
            type_name: type_name::<T>(),
        };
        if let Err(why) = self.insert(T::NAME, task) {
            panic!("{why}");
        }
    }

    /// Adds all tasks of another table.
    ///
    /// # Errors
    ///
    /// Returns an error when another type has the name of one.
    pub(super) fn extend(&mut self, other: &Self) -> Result<(), String> {
        let mut tasks = other.0.iter();
        tasks.try_for_each(|(name, task)| self.insert(name, *task))
    }

    fn insert(&mut self, name: &'static str, task: Registered) -> Result<(), String> {
        match self.0.entry(name) {
            Entry::Vacant(place) => {
                place.insert(task);
            }
            // With both, a worker could run one task with the arguments of the other.
            Entry::Occupied(place) if place.get().id != task.id => {
                let (former, latter) = (place.get().type_name, task.type_name);
                return Err(format!(
                    "two tasks have the name {name:?}: {former} and {latter}"
                ));
            }
            Entry::Occupied(_) => {}
        }
        Ok(())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Runs the tasks of a chunk one after the other, and counts them.
    pub(crate) async fn run(&self, task: &str, Blob(row): &Blob, run: &mut u64) -> JobOutcome {
        let count = frame::frames(row).count();
        *run += u64::try_from(count).unwrap_or(u64::MAX);
        let Some(registered) = self.0.get(task) else {
            return JobOutcome::Failed(TaskFault::NotRegistered(task.to_owned()));
        };
        let mut outcomes = Outcomes::of(count);
        (registered.run)(row, &mut outcomes).await;
        outcomes.into_outcome()
    }

    /// Runs the only task of a chunk, and returns its encoded outcome.
    pub(crate) async fn run_one(&self, chunk: &Chunk) -> Result<Blob, TaskFault> {
        let Blob(row) = match self.run(&chunk.task, &chunk.arguments, &mut 0).await {
            JobOutcome::Done(row) | JobOutcome::Transient(row) => row,
            JobOutcome::Failed(fault) => return Err(fault),
        };
        let unreadable = |error: CodecError| TaskFault::Unreadable(error.to_string());
        let Some(outcome) = frame::frames(&row).next() else {
            return Err(TaskFault::Unreadable("there is no task".to_owned()));
        };
        let outcome = outcome.map_err(unreadable)?;
        codec::decode::<Result<IgnoredAny, TaskFault>>(outcome).map_err(unreadable)??;
        Ok(outcome.to_vec().into())
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

pub(super) fn run<'a, T: Task>(
    row: &'a Bytes,
    outcomes: &'a mut Outcomes,
) -> LocalBoxFuture<'a, ()> {
    let work = async move {
        let mut frames = frame::frames(row);
        let mut begun = outcomes.count();
        let origin = Origin::here();
        // Decoding the arguments and encoding the output is code of the task too, and may panic. After a
        // panic the tasks behind it continue.
        while let Err(panic) = AssertUnwindSafe(run_each::<T>(
            row,
            &mut frames,
            outcomes,
            &mut begun,
            origin,
        ))
        .catch_unwind()
        .await
        {
            let fault = TaskFault::Panicked(panic_message(panic));
            // A task that already has its outcome keeps it: the drop of its output has panicked.
            if outcomes.count() < begun {
                outcomes.push(&Err::<(), _>(fault), T::NAME);
            }
        }
    };
    work.boxed_local()
}

async fn run_each<'a, T: Task>(
    row: &Bytes,
    frames: &mut impl Iterator<Item = Result<&'a [u8], CodecError>>,
    outcomes: &mut Outcomes,
    begun: &mut usize,
    origin: Origin,
) {
    for arguments in frames {
        // The tasks behind one that has forked are run by the worker, and not by its copy too.
        if !origin.is_here() {
            return;
        }
        *begun += 1;
        if *begun > 1 && stop::is_asked() {
            outcomes.push(&Err::<(), _>(TaskFault::NotRun), T::NAME);
            continue;
        }
        let arguments =
            arguments.and_then(|bytes| guarded(|| codec::decode_within::<T>(row, bytes)));
        let outcome = match arguments {
            Ok(task) => Ok(task.run().await),
            Err(error) => Err(TaskFault::Undecoded(Box::new(UndecodedTask {
                task: T::NAME.to_owned(),
                // The submitter runs the same program, and adds its type.
                sent: type_name::<T>().to_owned(),
                wanted: type_name::<T>().to_owned(),
                why: error.to_string(),
            }))),
        };
        outcomes.push(&outcome, T::NAME);
        if outcome.is_ok_and(|output| T::is_transient(&output)) {
            outcomes.last_is_transient();
        }
    }
}

/// The tasks of this program. They are shared, because each chunk of a pool looks them up.
static REGISTERED: Inherited<Option<Arc<Tasks>>> = Inherited::new(None);

/// Adds tasks to this program.
///
/// # Panics
///
/// Panics when another type has the name of one.
#[track_caller]
pub(crate) fn register(tasks: &Tasks) {
    let added = REGISTERED.with(|all| Arc::make_mut(all.get_or_insert_default()).extend(tasks));
    if let Err(why) = added {
        panic!("{why}");
    }
}

/// Returns the tasks of this program.
pub(crate) fn tasks() -> Arc<Tasks> {
    REGISTERED.with(|all| Arc::clone(all.get_or_insert_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_into_the_tasks_copies_none() {
        assert!(Arc::ptr_eq(&tasks(), &tasks()));
    }
}
