//! The worker process: takes tasks from the queue of the pool until the queue is closed.

use std::{mem, os::fd::OwnedFd, process};

use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Chunk, Finished, TaskFault};
use lockkeeper_sys::Private;
use serde::{Deserialize, Serialize};
use tokio::runtime;

use crate::{
    background,
    client::{connect::keep_connections, connection::Connection},
    error::{CallError, lack},
    pool::{
        stock::{Pace, Stock},
        tasks::{self, Tasks},
    },
    process::{lifeline::Lifeline, role::Role},
    proxy::{binding::Bind, proxy::Proxy},
};

/// The role of a worker.
pub(crate) const ROLE: &str = "worker";

/// The exit code of a worker whose pool is gone.
const EXIT_ORPHAN: i32 = 71;

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) queue: Proxy<TaskQueue>,
    /// The task that comes before all others.
    pub(crate) initializer: Option<Chunk>,
    /// After how many tasks the worker makes room for another.
    pub(crate) max_tasks: Option<u32>,
}

/// What a process that was started as a worker does.
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
    // A task may be in the middle of anything; nothing of it is to outlive the pool.
    if let Err(error) = role.lifeline.watch(|| process::exit(EXIT_ORPHAN)) {
        return role.lifeline.lacking(lack(&error));
    }
    // Its tasks would connect anew each otherwise.
    keep_connections();
    let tasks = tasks::tasks();
    let runtime = match background::build(&mut runtime::Builder::new_current_thread()) {
        Ok(runtime) => runtime,
        Err(error) => return role.lifeline.lacking(lack(&error)),
    };
    actix_rt::System::with_tokio_rt(|| runtime).block_on(async {
        let connected = Connection::over(socket, config.queue.token().address()).await;
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => return role.lifeline.lacking(error.to_string()),
        };
        if let Err(error) = config.queue.bound().await {
            return role.lifeline.lacking(error.to_string());
        }
        drop(connection);
        if let Err(fault) = initialize(&config, &tasks).await {
            return role.lifeline.failed(format!("the initializer: {fault}"));
        }
        role.lifeline.ready();
        let served = serve(&config, reports, &tasks, &mut role.lifeline).await;
        // The end of the runtime would wait for whatever a task left behind on a blocking thread.
        process::exit(if served.is_ok() { 0 } else { EXIT_ORPHAN });
    });
}

/// Runs the initializer, if there is one.
async fn initialize(config: &Config, tasks: &Tasks) -> Result<(), TaskFault> {
    match &config.initializer {
        Some(initializer) => tasks.run_one(initializer).await,
        None => Ok(()),
    }
}

/// Runs tasks until there are none, or until it has run its number of them.
async fn serve(
    config: &Config,
    reports: Option<Private<OwnedFd>>,
    tasks: &Tasks,
    lifeline: &mut Lifeline,
) -> Result<(), CallError> {
    let stock = Stock::new(config.queue.clone(), reports).await;
    let mut pace = Pace::new();
    let mut finished = None;
    let mut run: u64 = 0;
    loop {
        if config.max_tasks.is_some_and(|most| run >= u64::from(most)) {
            stock.hand_back();
            // Without a report that the work is done another worker takes the place.
            return match finished {
                Some(finished) => config.queue.call_patiently(&finished).await,
                None => Ok(()),
            };
        }
        let Some(todo) = stock.next(finished, &mut pace).await? else {
            lifeline.done();
            return Ok(());
        };
        let outcome = tasks.run(&todo.task, &todo.arguments, &mut run).await;
        finished = Some(Finished {
            job: todo.id,
            outcome,
        });
    }
}
