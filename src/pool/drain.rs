//! The drain of a pool: its tasks end, are given back, or are ended when a time is over.
//!
//! The supervisor keeps the time, so a drain ends even if no caller waits for it. Drains may overlap: each counts its own
//! time, and the first one whose time is over ends all.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};
use lockkeeper_protocol::operations::DrainTasks;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    error::CallError,
    pool::{
        place::Order,
        pool::Pool,
        supervisor::{PoolSupervisor, Terminate},
    },
};

/// Drains the pool. The channel learns that all workers have ended.
#[derive(Debug)]
struct Drain {
    limit: Duration,
    drained: oneshot::Sender<()>,
}

impl Message for Drain {
    type Result = ();
}

impl Pool {
    /// Ends the pool within a time limit: it accepts no more tasks, and gives back those that wait.
    ///
    /// A task that no worker has begun fails with [`TaskFault::NotRun`](crate::errors::TaskFault::NotRun), as do tasks
    /// that are submitted later. In the workers [`stopping`](crate::task::stopping) resolves, so that a long task can
    /// end itself. Tasks that still run when the time is over are ended, and fail with
    /// [`TaskFault::Terminated`](crate::errors::TaskFault::Terminated). So each task has one outcome, and a task with
    /// another outcome than `NotRun` was begun. No task is run again. The future resolves when the workers have ended.
    ///
    /// A pool may be drained while it is being drained, for example on a second Ctrl-C: each call counts its own time,
    /// and the first one whose time is over ends the tasks. After [`close`](Self::close) a drain gives back the tasks
    /// that still wait. A time of zero ends all tasks at once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use lockkeeper::{Pool, Task, errors::TaskFault};
    /// # async fn end<T: Task + Clone>(pool: Pool, task: T) -> Result<(), Box<dyn std::error::Error>> {
    /// let handle = pool.spawn(task.clone());
    /// tokio::signal::ctrl_c().await?;
    /// pool.drain(Duration::from_secs(10)).await?;
    /// match handle.await {
    ///     Ok(_) => println!("done"),
    ///     Err(error) if error.fault() == Some(&TaskFault::NotRun) => println!("to be submitted again"),
    ///     Err(error) => println!("begun, and then: {error}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::close`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the drain goes on, and its time limit holds.
    #[doc(alias = "shutdown")]
    pub async fn drain(&self, limit: Duration) -> Result<(), CallError> {
        let drain = async {
            let (drained, told) = oneshot::channel();
            self.supervisor()?.do_send(Drain { limit, drained });
            told.await.map_err(|_| self.thread_ended())
        };
        self.entry.here(drain).await
    }
}

impl Handler<Drain> for PoolSupervisor {
    type Result = ();

    fn handle(&mut self, Drain { limit, drained }: Drain, context: &mut Context<Self>) {
        // No task will wait for a worker.
        self.end_refills(context);
        self.kill_idle_once_done(context);
        let (queue, workers, emptied) = (self.queue.clone(), self.workers(), self.emptied());
        let supervisor = context.address();
        actix_rt::spawn(async move {
            if let Some(queue) = queue {
                // If the queue is unreachable, it has no callers left.
                let _ = queue.call(DrainTasks).await;
            }
            // A worker that is asked to stop asks for more work, and must get none.
            for worker in workers {
                worker.do_send(Order::Stop);
            }
            if timeout(limit, emptied).await.is_err() {
                // The supervisor ends with its thread, which ends all workers.
                let _ = supervisor.send(Terminate).await;
            }
            // The caller may be gone.
            let _ = drained.send(());
        });
    }
}
