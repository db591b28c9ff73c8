//! The worker process: takes tasks from the queue of the pool until the queue is closed.

use std::{mem, os::fd::OwnedFd, process};

use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Chunk, Enlist, Finished};
use lockkeeper_sys::{Origin, Private};
use serde::{Deserialize, Serialize};

use crate::{
    client::connection::Connection,
    error::CallError,
    pool::{
        begin::{EXIT_ORPHAN, begin},
        forked::forked,
        initializer::{is_error, refusal},
        job_buffer::{JobBuffer, Pace},
        retry::begin_attempt,
        tasks::{self, Tasks},
    },
    process::{exit::exit, lifeline::Lifeline, role::Role, stop},
    proxy::{ask::Bind, proxy::Proxy},
};

/// The role name of a worker process.
pub(crate) const ROLE: &str = "worker";

/// The configuration of a worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) queue: Proxy<TaskQueue>,
    /// The task that runs before all others.
    pub(crate) initializer: Option<Chunk>,
    /// The number of tasks after which the worker ends to be replaced.
    pub(crate) max_tasks: Option<u32>,
}

/// The main function of a worker process.
pub(crate) fn work(mut role: Role) {
    let config = match role.config::<Config>() {
        Ok(config) => config,
        Err(error) => return role.lifeline.failed(error.to_string()),
    };
    let mut handed = mem::take(&mut role.handed).into_iter();
    let (Some(socket), reports) = (handed.next(), handed.next()) else {
        let why =
            "it has no room for the descriptors that it is handed: raise its limit of open files";
        return role.lifeline.lacking(why.to_owned());
    };
    let Some(system) = begin(&mut role.lifeline, || _ = stop::ask()) else {
        return;
    };
    let tasks = tasks::tasks();
    system.block_on(async {
        let connected = Connection::over(socket, &config.queue.token().address).await;
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => return role.lifeline.lacking(error.to_string()),
        };
        if let Err(error) = config.queue.bound().await {
            return role.lifeline.lacking(error.to_string());
        }
        drop(connection);
        if let Some(initializer) = &config.initializer {
            role.lifeline.begun("the initializer");
            match tasks.run_one(initializer).await {
                Ok(output) if is_error(&output) => {
                    return role.lifeline.failed_with(refusal(initializer), output);
                }
                Ok(_) => {}
                Err(fault) => return role.lifeline.failed(format!("the initializer: {fault}")),
            }
        }
        role.lifeline.ready();
        let served = serve(&config, reports, &tasks, &mut role.lifeline).await;
        // A shutdown of the runtime would wait for everything that a task left on a blocking thread.
        exit(if served.is_ok() { 0 } else { EXIT_ORPHAN });
    });
}

/// Runs tasks until there are no more, or until it has run `max_tasks`.
async fn serve(
    config: &Config,
    reports: Option<Private<OwnedFd>>,
    tasks: &Tasks,
    lifeline: &mut Lifeline,
) -> Result<(), CallError> {
    let origin = Origin::here();
    let pid = process::id();
    config.queue.cast(Enlist { pid });
    let buffer = JobBuffer::new(config.queue.clone(), reports).await;
    let mut pace = Pace::new();
    let mut finished = None;
    let mut run: u64 = 0;
    loop {
        if config.max_tasks.is_some_and(|most| run >= u64::from(most)) {
            buffer.hand_back();
            // If the worker ends without the report that there is no more work, another one takes its place.
            return match finished {
                Some(finished) => config.queue.call_patiently(&finished).await,
                None => Ok(()),
            };
        }
        let Some(todo) = buffer.next(finished, &mut pace).await? else {
            lifeline.done();
            return Ok(());
        };
        begin_attempt(todo.attempt);
        let outcome = tasks.run(&todo.task, &todo.arguments, &mut run).await;
        // The task may have forked. The copy has no connection, and the tasks that it has a copy of are the worker's.
        if !origin.is_here() {
            return Err(forked());
        }
        finished = Some(Finished {
            job: todo.id,
            outcome,
        });
    }
}
