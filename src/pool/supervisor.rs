//! `PoolSupervisor`: the actor that supervises the worker processes of a pool, with one `Worker` for each place.
//!
//! Invariant: when the process of a place ends, the place starts another one, unless the process reported
//! that there is no more work, or the pool is closing. The supervisor kills a process that has left its session. A
//! place whose processes do not get ready tries again, after increasing pauses; it stays empty only after
//! processes have reported repeatedly that they cannot work. While no place has a process, waiting tasks
//! fail.

use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, StreamHandler};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{CloseTasks, FailTasks, TaskFault};
use tokio::sync::{oneshot, watch};

use crate::{
    error::StartError,
    pool::{
        deaths::Deaths,
        place::{
            After, Fill, KillWorker, Leave, News, NewsFrom, Order, Setup, Worker, all_done, exit,
            tend,
        },
        slot::{MOST_FAILURES, WorkerSlot},
    },
    process::{child::MOST_SIGNALLED, descendants::Descendants, not_ready::NotReady},
    proxy::proxy::Proxy,
    server::session::context::LeftClient,
    telemetry::pool,
};

/// The pause after the first failure. It doubles after each further one, because a missing system resource
/// may become available soon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause of a place.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The actor that supervises all workers of a pool.
#[derive(Debug)]
pub(crate) struct PoolSupervisor {
    deaths: Deaths,
    pub(super) queue: Option<Proxy<TaskQueue>>,
    places: Vec<WorkerSlot>,
    /// The number of first workers that are not ready yet, and the channel for the result of the start.
    starting: Option<(usize, oneshot::Sender<Result<(), StartError>>)>,
    /// The number of places that are not permanently empty.
    filled: watch::Sender<usize>,
    /// Whether places are no longer refilled.
    is_ending: bool,
    /// Whether the pool is closed and a caller waits for its end.
    is_joined: bool,
}

/// Fills `workers` places, and answers once all workers are ready or one of them has failed.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) setup: Setup,
    pub(crate) workers: usize,
}

/// Answers once all workers have ended.
#[derive(Debug)]
pub(crate) struct Join;

/// Fails all tasks, kills all workers, and answers once they have ended.
#[derive(Debug)]
pub(crate) struct Terminate;

/// Kills the workers that have not ended although there is no work, such as stopped ones.
#[derive(Debug)]
pub(super) struct KillIdle;

/// Asks for the process ids of the running workers.
#[derive(Debug)]
pub(crate) struct Pids;

/// Asks how many places are empty, because their processes do not get ready.
#[derive(Debug)]
pub(crate) struct Missing;

impl Message for Start {
    type Result = Result<(), StartError>;
}

impl Message for Join {
    type Result = ();
}

impl Message for Terminate {
    type Result = ();
}

impl Message for KillIdle {
    type Result = ();
}

impl Message for Pids {
    type Result = Vec<u32>;
}

impl Message for Missing {
    type Result = usize;
}

impl Actor for PoolSupervisor {
    type Context = Context<Self>;
}

impl Handler<Start> for PoolSupervisor {
    type Result = ResponseFuture<Result<(), StartError>>;

    fn handle(&mut self, start: Start, context: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        let Start { setup, workers } = start;
        self.starting = Some((workers, tell));
        self.filled.send_replace(workers);
        self.places = (0..workers)
            .map(|place| {
                let worker = Worker {
                    supervisor: context.address().recipient(),
                    place,
                    setup: setup.clone(),
                    orders: None,
                };
                WorkerSlot::new(worker.start())
            })
            .collect();
        let kill = context.address().recipient();
        actix_rt::spawn(tend(setup.config.queue.clone(), kill));
        self.queue = Some(setup.config.queue);
        Box::pin(async move {
            told.await
                .unwrap_or_else(|_| Err(StartError::ChildFailed("the pool has ended".to_owned())))
        })
    }
}

impl Handler<NewsFrom> for PoolSupervisor {
    type Result = ();

    fn handle(&mut self, NewsFrom(number, news): NewsFrom, context: &mut Context<Self>) {
        let Some(place) = self.places.get_mut(number) else {
            return;
        };
        match news {
            News::Started(pid) => {
                pool::worker_started(number, pid);
                if let Some(pid) = pid {
                    self.deaths.is_started(pid);
                }
                place.pid = pid;
            }
            News::Ready => {
                pool::worker_ready(number, place.pid);
                (place.failures, place.refusals, place.signalled) = (0, 0, 0);
                place.is_ready = true;
                place.kill_if_left();
                self.count_ready();
            }
            News::NotReady(not_ready) => {
                (place.pid, place.left) = (None, None);
                match &not_ready {
                    NotReady::Signalled(error) if place.signalled < MOST_SIGNALLED => {
                        place.signalled += 1;
                        pool::worker_not_ready(number, error);
                        return self.refill(number);
                    }
                    NotReady::Cannot(_, _) => place.refusals += 1,
                    NotReady::NotNow(_) | NotReady::Signalled(_) => place.refusals = 0,
                }
                place.failures = place.failures.saturating_add(1);
                let error = StartError::from(not_ready);
                pool::worker_not_ready(number, &error);
                self.give_up_or_retry(number, error, context);
            }
            News::Ended(ending) => {
                if ending.work.is_done || ending.is_well {
                    pool::worker_ended(number, place.pid, &ending.status);
                } else {
                    pool::worker_died(number, place.pid, &ending.status);
                }
                let is_done = ending.work.is_done;
                place.is_ready = false;
                if let Some(pid) = place.pid.take() {
                    self.deaths.has_ended(pid, exit(&ending));
                }
                place.left = None;
                if is_done {
                    self.leave_empty(number);
                } else {
                    self.refill(number);
                }
            }
        }
    }
}

impl PoolSupervisor {
    pub(super) fn new(deaths: Deaths) -> Self {
        Self {
            deaths,
            queue: None,
            places: Vec::new(),
            starting: None,
            filled: watch::Sender::default(),
            is_ending: false,
            is_joined: false,
        }
    }

    /// Counts a ready worker, and answers [`Start`] after the last of the first ones.
    fn count_ready(&mut self) {
        if let Some((missing, tell)) = self.starting.take() {
            if missing > 1 {
                self.starting = Some((missing - 1, tell));
            } else {
                // The future that starts the pool may be gone.
                let _ = tell.send(Ok(()));
            }
        }
    }

    fn refill(&mut self, number: usize) {
        if self.is_ending {
            // The process ended by itself before the kill.
            self.leave_empty(number);
        } else if let Some(place) = self.places.get(number) {
            place.worker.do_send(Fill);
        }
    }

    fn leave_empty(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number) {
            place.is_left = true;
            place.worker.do_send(Leave);
        }
        self.filled
            .send_modify(|filled| *filled = filled.saturating_sub(1));
    }

    /// Handles a process that ended before it was ready. While the pool starts, the start fails; later
    /// the place tries again, unless too many processes have reported that they cannot work.
    fn give_up_or_retry(&mut self, number: usize, error: StartError, context: &mut Context<Self>) {
        let Some(place) = self.places.get(number) else {
            return;
        };
        let (failures, refusals) = (place.failures, place.refusals);
        if self.is_ending {
            return self.leave_empty(number);
        }
        if let Some((_, tell)) = self.starting.take() {
            // The future that starts the pool may be gone.
            let _ = tell.send(Err(error));
            return self.leave_empty(number);
        }
        if refusals >= MOST_FAILURES {
            pool::place_given_up(number);
            self.leave_empty(number);
        } else if self.is_joined && failures >= MOST_FAILURES {
            // Waiting tasks fail below, unless another place has a process.
            self.leave_empty(number);
        } else {
            self.try_later(number, failures, context);
        }
        let reason = TaskFault::Broken(error.to_string());
        if *self.filled.borrow() == 0 {
            self.close_queue(reason);
        } else if self.places.iter().all(WorkerSlot::has_failed) {
            self.fail_waiting(reason);
        }
    }

    /// Schedules another attempt after a pause, which doubles with each failure.
    fn try_later(&mut self, number: usize, failures: u32, context: &mut Context<Self>) {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
        pool::place_is_empty(number, pause);
        let retry = context.run_later(pause, move |supervisor, _| {
            if let Some(place) = supervisor.places.get_mut(number) {
                place.retry = None;
            }
            supervisor.refill(number);
        });
        if let Some(place) = self.places.get_mut(number) {
            place.retry = Some(retry);
        }
    }

    /// Fails all waiting and future tasks, because no worker is left and none will start.
    fn close_queue(&self, reason: TaskFault) {
        if let Some(queue) = self.queue.clone() {
            let reason = Some(reason);
            // If the queue is unreachable, it has no callers either.
            actix_rt::spawn(async move { queue.call(CloseTasks { reason }).await });
        }
    }

    /// Fails all waiting tasks, because there is no worker now.
    fn fail_waiting(&self, reason: TaskFault) {
        if let Some(queue) = self.queue.clone() {
            // The result is ignored for the same reason as above.
            actix_rt::spawn(async move { queue.call(FailTasks { reason }).await });
        }
    }

    /// Starts the next attempt of all pausing places now.
    fn end_pauses_early(&mut self, context: &mut Context<Self>) {
        for number in 0..self.places.len() {
            let place = self.places.get_mut(number);
            if let Some(retry) = place.and_then(|place| place.retry.take()) {
                context.cancel_future(retry);
                self.refill(number);
            }
        }
    }

    /// The actors of all places.
    pub(super) fn workers(&self) -> Vec<Addr<Worker>> {
        let places = self.places.iter();
        places.map(|place| place.worker.clone()).collect()
    }

    /// Ends the refills of places, and cancels the pauses before them.
    pub(super) fn end_refills(&mut self, context: &mut Context<Self>) {
        self.is_ending = true;
        for number in 0..self.places.len() {
            let place = self.places.get_mut(number);
            if let Some(retry) = place.and_then(|place| place.retry.take()) {
                context.cancel_future(retry);
                self.leave_empty(number);
            }
        }
    }

    /// Kills the workers of a closed pool that do not end although there is no work.
    pub(super) fn kill_idle_once_done(&self, context: &Context<Self>) {
        if let Some(queue) = self.queue.clone() {
            let idle = context.address().recipient();
            actix_rt::spawn(async move {
                // If the queue is unreachable, its server has ended, and the supervisor ends with it.
                if all_done(&queue).await.is_ok() {
                    idle.do_send(KillIdle);
                }
            });
        }
    }

    /// Waits until all places are empty.
    pub(super) fn emptied(&self) -> ResponseFuture<()> {
        let mut filled = self.filled.subscribe();
        Box::pin(async move {
            // The sender is dropped only with the supervisor.
            let _ = filled.wait_for(|filled| *filled == 0).await;
        })
    }
}

impl Handler<Join> for PoolSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Join, context: &mut Context<Self>) -> Self::Result {
        self.is_joined = true;
        self.end_pauses_early(context);
        self.kill_idle_once_done(context);
        self.emptied()
    }
}

impl Handler<KillIdle> for PoolSupervisor {
    type Result = ();

    fn handle(&mut self, _: KillIdle, context: &mut Context<Self>) {
        // There is no work for another process in the place of one that ends by itself now. That process could be
        // stopped, too, and no later message would kill it.
        self.end_refills(context);
        for place in &self.places {
            place.worker.do_send(Order::Kill(After::Empty));
        }
    }
}

impl Handler<Terminate> for PoolSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Terminate, context: &mut Context<Self>) -> Self::Result {
        self.end_refills(context);
        let workers = self.workers();
        let (queue, emptied) = (self.queue.clone(), self.emptied());
        Box::pin(async move {
            if let Some(queue) = queue {
                let reason = Some(TaskFault::Terminated);
                // The waiting callers are told first; otherwise they would see the deaths of workers instead.
                // If the queue is unreachable, it has no callers left.
                let _ = queue.call(CloseTasks { reason }).await;
            }
            for worker in workers {
                worker.do_send(Order::Kill(After::Empty));
            }
            emptied.await;
        })
    }
}

/// The workers that have left their sessions. One that lives, because a task has closed the connection, is killed.
impl StreamHandler<LeftClient> for PoolSupervisor {
    fn handle(&mut self, left: LeftClient, _: &mut Context<Self>) {
        let mut places = self.places.iter_mut();
        if let Some(place) = places.find(|place| place.pid == Some(left.pid)) {
            place.left = Some(left);
            place.kill_if_left();
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The server has ended, so the supervisor is about to end.
    }
}

impl Handler<KillWorker> for PoolSupervisor {
    type Result = ();

    fn handle(&mut self, KillWorker(pid): KillWorker, _: &mut Context<Self>) {
        let mut places = self.places.iter();
        if let Some(place) = places.find(|place| place.pid == Some(pid)) {
            // What the task has started ends with it.
            let descendants = Descendants::stop(pid);
            place.worker.do_send(Order::Kill(After::Refill));
            descendants.kill();
        }
    }
}

impl Handler<Pids> for PoolSupervisor {
    type Result = Vec<u32>;

    fn handle(&mut self, _: Pids, _: &mut Context<Self>) -> Self::Result {
        self.places.iter().filter_map(|place| place.pid).collect()
    }
}

impl Handler<Missing> for PoolSupervisor {
    type Result = usize;

    fn handle(&mut self, _: Missing, _: &mut Context<Self>) -> Self::Result {
        self.places.iter().filter(|place| place.is_empty()).count()
    }
}
