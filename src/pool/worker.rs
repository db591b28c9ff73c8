//! What a worker process does: takes tasks from the pool's queue until there are none.

use std::process;

use lockkeeper_actors::{
    codec::{self, Blob},
    data::{Finished, Job, Next, TaskFault, TaskQueue},
};
use serde::{Deserialize, Serialize};

use crate::{
    CallError, Proxy,
    client::keep_connections,
    process::{Lifeline, Role},
    program,
    task::Tasks,
};

/// The role of a worker.
pub(crate) const ROLE: &str = "worker";

/// The exit code of a worker whose pool is gone.
const EXIT_ORPHAN: i32 = 71;

/// How many bytes the outcomes of one job have at the most, so that they fit a message.
const MOST_OUTCOME_BYTES: usize = (64 << 20) - (64 << 10);

/// What an outcome takes beside its output, at the most.
const OUTCOME_BYTES: usize = 16;

/// What there is always room for: a fault that says [`NO_ROOM`].
const LEAST_OUTCOME_BYTES: usize = 32;

/// What is said of an outcome when there is no room to say more.
const NO_ROOM: &str = "no room for it";

/// How many tasks a chunk has at the most, so that there is room for an outcome of each.
pub(super) const MOST_TASKS: usize = MOST_OUTCOME_BYTES / 2 / LEAST_OUTCOME_BYTES;

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) queue: Proxy<TaskQueue>,
    /// The name and the arguments of the task that comes before all others.
    pub(crate) initializer: Option<(String, Blob)>,
    /// After how many tasks the worker makes room for another.
    pub(crate) max_tasks: Option<u32>,
}

/// What a process that was started as a worker does.
pub(crate) fn work(mut role: Role) {
    let config = match role.config::<Config>() {
        Ok(config) => config,
        Err(error) => return role.lifeline.failed(error.to_string()),
    };
    // A task may be in the middle of anything; nothing of it is to outlive the pool.
    if let Err(error) = role.lifeline.watch(|| process::exit(EXIT_ORPHAN)) {
        return role.lifeline.failed(error.to_string());
    }
    // Its tasks would connect anew each otherwise.
    keep_connections();
    let tasks = program::tasks();
    actix_rt::System::new().block_on(async {
        if let Err(why) = prepare(&config, &tasks).await {
            return role.lifeline.failed(why);
        }
        role.lifeline.ready();
        let served = serve(&config, &tasks, &mut role.lifeline).await;
        // The end of the runtime would wait for whatever a task left behind on a blocking thread.
        process::exit(if served.is_ok() { 0 } else { EXIT_ORPHAN });
    });
}

/// Connects, and runs the initializer.
async fn prepare(config: &Config, tasks: &Tasks) -> Result<(), String> {
    config
        .queue
        .bound()
        .await
        .map_err(|error| error.to_string())?;
    if let Some((name, Blob(arguments))) = &config.initializer {
        tasks
            .run(name, arguments.clone())
            .await
            .map_err(|fault| format!("the initializer: {fault}"))?;
    }
    Ok(())
}

/// Runs tasks until there are none, or until it has run its number of them.
async fn serve(config: &Config, tasks: &Tasks, lifeline: &mut Lifeline) -> Result<(), CallError> {
    let mut finished = None;
    let mut run: u64 = 0;
    loop {
        if config.max_tasks.is_some_and(|most| run >= u64::from(most)) {
            // Without a report that the work is done another worker takes the place.
            return match finished {
                Some(finished) => config.queue.call::<Finished>(finished).await,
                None => Ok(()),
            };
        }
        let Some(job) = config.queue.call(Next { finished }).await? else {
            lifeline.done();
            return Ok(());
        };
        let Job {
            id,
            task,
            arguments,
        } = job;
        let mut outcomes = Vec::with_capacity(arguments.len());
        let mut room = room_beside(arguments.len());
        for Blob(arguments) in arguments {
            let outcome = tasks.run(&task, arguments).await;
            outcomes.push(fit(outcome, &mut room, &task));
            run += 1;
        }
        finished = Some(Finished { job: id, outcomes });
    }
}

/// The outcome of one task.
type Outcome = Result<Blob, TaskFault>;

/// The room that there is beside the least that each of so many outcomes takes.
const fn room_beside(outcomes: usize) -> usize {
    MOST_OUTCOME_BYTES.saturating_sub(outcomes.saturating_mul(LEAST_OUTCOME_BYTES))
}

/// Takes room for an outcome. One that there is no room for becomes a fault that says so.
fn fit(outcome: Outcome, room: &mut usize, task: &str) -> Outcome {
    let bytes = bytes(&outcome);
    if take(bytes, room) {
        return outcome;
    }
    let refusal = Err(TaskFault::Unreadable(format!(
        "output of {task:?}: {bytes} bytes are more than fit, \
         the outputs of a chunk have at most {MOST_OUTCOME_BYTES} together"
    )));
    if take(self::bytes(&refusal), room) {
        return refusal;
    }
    Err(TaskFault::Unreadable(NO_ROOM.to_owned()))
}

/// How many bytes an outcome has in a message, at the most.
fn bytes(outcome: &Outcome) -> usize {
    match outcome {
        Ok(Blob(output)) => output.len().saturating_add(OUTCOME_BYTES),
        // It is short, so it is cheap to see.
        Err(_) => codec::encode(outcome).map_or(usize::MAX, |encoded| encoded.len()),
    }
}

/// Takes that much room, less what each outcome has anyway, if it is there.
fn take(bytes: usize, room: &mut usize) -> bool {
    let rest = room.checked_sub(bytes.saturating_sub(LEAST_OUTCOME_BYTES));
    *room = rest.unwrap_or(*room);
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of as many outcomes as were asked for, all alike.
    fn message_of(count: usize, outcome: &Outcome) -> usize {
        let mut room = room_beside(count);
        let outcomes: Vec<Outcome> = (0..count)
            .map(|_| fit(outcome.clone(), &mut room, "task"))
            .collect();
        let kept = outcomes.iter().filter(|fitted| *fitted == outcome).count();
        assert!(kept > 0, "there is room for some");
        codec::encode(&outcomes).unwrap().len()
    }

    #[test]
    fn faults_of_a_chunk_fit_a_message_however_many_and_long() {
        let fault = Err(TaskFault::Panicked("\u{1f480}".repeat(1000)));
        let slack = 16;
        assert!(message_of(20_000, &fault) <= MOST_OUTCOME_BYTES + slack);
        let fault = Err(TaskFault::Panicked("\u{1f480}".repeat(30)));
        assert!(message_of(MOST_TASKS, &fault) <= MOST_OUTCOME_BYTES + slack);
    }

    #[test]
    fn outputs_of_a_chunk_fit_a_message_however_many_and_long() {
        let slack = 16;
        for length in [0, 20, 300] {
            let output = Ok(Blob(vec![7; length]));
            assert!(message_of(MOST_TASKS, &output) <= MOST_OUTCOME_BYTES + slack);
        }
        let output = Ok(Blob(vec![7; 1 << 20]));
        assert!(message_of(70, &output) <= MOST_OUTCOME_BYTES + slack);
    }

    #[test]
    fn last_refusal_takes_no_room() {
        let refusal = Err(TaskFault::Unreadable(NO_ROOM.to_owned()));
        assert!(bytes(&refusal) <= LEAST_OUTCOME_BYTES);
    }
}
