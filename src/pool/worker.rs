//! What a worker process does: takes tasks from the pool's queue until there are none.

use std::process;

use lockkeeper_actors::{
    codec::Blob,
    data::{Finished, Job, Next, TaskFault, TaskQueue},
};
use serde::{Deserialize, Serialize};

use crate::{
    CallError, Proxy,
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
    let tasks = program::tasks();
    actix_rt::System::new().block_on(async {
        if let Err(why) = prepare(&config, &tasks).await {
            return role.lifeline.failed(why);
        }
        role.lifeline.ready();
        if serve(&config, &tasks, &mut role.lifeline).await.is_err() {
            process::exit(EXIT_ORPHAN);
        }
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
            .run(name, arguments)
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
        let mut outcomes: Vec<Result<Blob, TaskFault>> = Vec::with_capacity(arguments.len());
        let mut room = MOST_OUTCOME_BYTES;
        for Blob(arguments) in arguments {
            let outcome = tasks.run(&task, &arguments).await;
            outcomes.push(outcome.and_then(|output| fit(output, &mut room, &task)));
            run += 1;
        }
        finished = Some(Finished { job: id, outcomes });
    }
}

/// Takes room for an output, and refuses one that there is no room for.
fn fit(Blob(output): Blob, room: &mut usize, task: &str) -> Result<Blob, TaskFault> {
    let bytes = output.len();
    match room.checked_sub(bytes.saturating_add(OUTCOME_BYTES)) {
        Some(rest) => {
            *room = rest;
            Ok(Blob(output))
        }
        None => Err(TaskFault::Unreadable(format!(
            "output of {task:?}: {bytes} bytes are more than fit, \
             the outputs of a chunk have at most {MOST_OUTCOME_BYTES} together"
        ))),
    }
}
