//! The actors that supervise a pool's worker processes: one for the crew, one for each place in it.
//!
//! Invariant: a place whose process ends is filled again, unless the process said that there is no
//! more work, or the pool ends. Processes that never get ready are not started without end.

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use lockkeeper_actors::data::{CloseTasks, TaskFault};
use tokio::sync::{oneshot, watch};

use super::worker::{Config, ROLE};
use crate::{
    StartError,
    process::{Child, Ending},
};

/// How many processes in a row may fail to get ready before the pool gives up.
const MOST_FAILURES: u32 = 3;

/// The actor that supervises all workers of a pool.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    config: Option<Config>,
    workers: Vec<Addr<Worker>>,
    pids: Vec<Option<u32>>,
    /// Processes in a row that did not get ready.
    failures: u32,
    /// Those who wait for the first workers, and for how many more.
    starting: Option<(usize, oneshot::Sender<Result<(), StartError>>)>,
    /// How many places are not empty for good.
    filled: watch::Sender<usize>,
    /// Whether no place is to be filled again.
    is_ending: bool,
}

/// Fills that many places, and answers once all of them are ready or one is not.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) config: Config,
    pub(crate) workers: usize,
}

/// Answers once all workers have gone home.
#[derive(Debug)]
pub(crate) struct Join;

/// Kills all workers, and answers once they have ended.
#[derive(Debug)]
pub(crate) struct Terminate;

/// Asks for the process ids of the workers that live.
#[derive(Debug)]
pub(crate) struct Pids;

/// What a place says of its process.
#[derive(Debug)]
enum News {
    Started(Option<u32>),
    Ready,
    NotReady(StartError),
    Ended(Ending),
}

/// News of the place of that number.
#[derive(Debug)]
struct From(usize, News);

impl Message for Start {
    type Result = Result<(), StartError>;
}

impl Message for Join {
    type Result = ();
}

impl Message for Terminate {
    type Result = ();
}

impl Message for Pids {
    type Result = Vec<u32>;
}

impl Message for From {
    type Result = ();
}

impl Actor for Crew {
    type Context = Context<Self>;
}

impl Handler<Start> for Crew {
    type Result = ResponseFuture<Result<(), StartError>>;

    fn handle(&mut self, start: Start, context: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.starting = Some((start.workers, tell));
        self.pids = vec![None; start.workers];
        self.filled.send_replace(start.workers);
        self.workers = (0..start.workers)
            .map(|place| {
                let (crew, config) = (context.address(), start.config.clone());
                Worker {
                    crew,
                    place,
                    config,
                    kill: None,
                }
                .start()
            })
            .collect();
        self.config = Some(start.config);
        Box::pin(async move {
            told.await
                .unwrap_or_else(|_| Err(StartError::Child("the pool has ended".to_owned())))
        })
    }
}

impl Handler<From> for Crew {
    type Result = ();

    fn handle(&mut self, From(place, news): From, _: &mut Context<Self>) {
        match news {
            News::Started(pid) => self.set_pid(place, pid),
            News::Ready => {
                self.failures = 0;
                if let Some((missing, tell)) = self.starting.take() {
                    if missing > 1 {
                        self.starting = Some((missing - 1, tell));
                    } else {
                        // Whoever started the pool may have lost interest.
                        let _ = tell.send(Ok(()));
                    }
                }
            }
            News::NotReady(error) => self.give_up_or_retry(place, error),
            News::Ended(Ending { is_done, .. }) => {
                self.set_pid(place, None);
                if is_done {
                    self.leave_empty(place);
                } else {
                    self.refill(place);
                }
            }
        }
    }
}

impl Crew {
    fn set_pid(&mut self, place: usize, pid: Option<u32>) {
        if let Some(entry) = self.pids.get_mut(place) {
            *entry = pid;
        }
    }

    fn refill(&self, place: usize) {
        if self.is_ending {
            // The process ended by itself when it was about to be killed.
            self.leave_empty(place);
        } else if let Some(worker) = self.workers.get(place) {
            worker.do_send(Fill);
        }
    }

    fn leave_empty(&self, place: usize) {
        if let Some(worker) = self.workers.get(place) {
            worker.do_send(Leave);
        }
        self.filled
            .send_modify(|filled| *filled = filled.saturating_sub(1));
    }

    /// What becomes of a place whose process did not get ready: while the pool starts it fails,
    /// later it is tried a few times before all waiting tasks fail.
    fn give_up_or_retry(&mut self, place: usize, error: StartError) {
        self.set_pid(place, None);
        self.failures += 1;
        if let Some((_, tell)) = self.starting.take() {
            // As above.
            let _ = tell.send(Err(error));
            self.leave_empty(place);
        } else if self.failures < MOST_FAILURES {
            self.refill(place);
        } else {
            self.leave_empty(place);
            if let Some(config) = &self.config {
                let queue = config.queue.clone();
                let reason = Some(TaskFault::Broken(error.to_string()));
                // A queue that cannot be told has no callers left.
                actix_rt::spawn(async move { queue.call(CloseTasks { reason }).await });
            }
        }
    }

    /// Waits until all places are empty.
    fn emptied(&self) -> ResponseFuture<()> {
        let mut filled = self.filled.subscribe();
        Box::pin(async move {
            // The sender goes only with the crew.
            let _ = filled.wait_for(|filled| *filled == 0).await;
        })
    }
}

impl Handler<Join> for Crew {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Join, _: &mut Context<Self>) -> Self::Result {
        self.emptied()
    }
}

impl Handler<Terminate> for Crew {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Terminate, _: &mut Context<Self>) -> Self::Result {
        self.is_ending = true;
        for worker in &self.workers {
            worker.do_send(Kill);
        }
        self.emptied()
    }
}

impl Handler<Pids> for Crew {
    type Result = Vec<u32>;

    fn handle(&mut self, _: Pids, _: &mut Context<Self>) -> Self::Result {
        self.pids.iter().flatten().copied().collect()
    }
}

/// The actor that supervises one place in the crew: its process, and those that come after it.
#[derive(Debug)]
pub(crate) struct Worker {
    crew: Addr<Crew>,
    place: usize,
    config: Config,
    /// Kills the process that is in the place now.
    kill: Option<oneshot::Sender<()>>,
}

/// Starts a process in the place.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Fill;

/// Kills the process, and lets no other take its place.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Kill;

/// Ends the actor of a place that stays empty.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Leave;

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.notify(Fill);
    }
}

impl Handler<Fill> for Worker {
    type Result = ();

    fn handle(&mut self, _: Fill, _: &mut Context<Self>) {
        let (kill, killed) = oneshot::channel();
        self.kill = Some(kill);
        let (crew, place) = (self.crew.clone(), self.place);
        match Child::start(ROLE, &self.config) {
            Ok(child) => {
                crew.do_send(From(place, News::Started(child.pid())));
                actix_rt::spawn(watch_over(child, killed, move |news| {
                    crew.do_send(From(place, news));
                }));
            }
            Err(error) => crew.do_send(From(place, News::NotReady(error))),
        }
    }
}

impl Handler<Kill> for Worker {
    type Result = ();

    fn handle(&mut self, _: Kill, _: &mut Context<Self>) {
        if let Some(kill) = self.kill.take() {
            // A process that ended on its own needs no killing.
            let _ = kill.send(());
        }
    }
}

impl Handler<Leave> for Worker {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Context<Self>) {
        context.stop();
    }
}

/// Follows one process from its start to its end.
async fn watch_over(mut child: Child, killed: oneshot::Receiver<()>, tell: impl Fn(News)) {
    let live = async {
        match child.ready().await {
            Ok(()) => {
                tell(News::Ready);
                News::Ended(child.ended().await)
            }
            Err(error) => News::NotReady(error),
        }
    };
    let last = tokio::select! {
        last = live => Some(last),
        Ok(()) = killed => None,
    };
    let last = match last {
        Some(last) => last,
        None => {
            child.kill();
            let ending = child.ended().await;
            // Killed on purpose: the place stays empty.
            News::Ended(Ending {
                is_done: true,
                ..ending
            })
        }
    };
    tell(last);
}
