//! `Worker`: the actor that supervises one place of a pool, which runs one process after another.
//!
//! It reports the state of each process to the supervisor, which decides when the next one starts.

use std::{
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    pin::pin,
    time::Duration,
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Due, GetTaskQueueStatus, Tend, WorkerExit};
use tokio::{sync::mpsc, time};

use crate::{
    error::{CallError, StartError, lack},
    pool::{
        initializer::{Initializer, ReadError, explain},
        worker::{Config, ROLE},
    },
    process::{
        child::{Child, END_PATIENCE, Ending, Work},
        not_ready::NotReady,
    },
    proxy::proxy::Proxy,
    transport::handed::{ChildEnds, connect_child},
};

/// What a place reports about its process.
#[derive(Debug)]
pub(super) enum News {
    Started(Option<u32>),
    Ready,
    NotReady(NotReady),
    Ended(Ending),
}

/// News of the place with this number.
#[derive(Debug)]
pub(super) struct NewsFrom(pub(super) usize, pub(super) News);

impl Message for NewsFrom {
    type Result = ();
}

/// What the processes of all places have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(super) config: Config,
    read_error: Option<ReadError>,
}

impl Setup {
    pub(super) fn new(
        queue: Proxy<TaskQueue>,
        initializer: Option<Initializer>,
        max_tasks: Option<u32>,
    ) -> Self {
        let read_error = initializer.as_ref().and_then(|it| it.read_error);
        let initializer = initializer.map(|it| it.task);
        Self {
            config: Config {
                queue,
                initializer,
                max_tasks,
            },
            read_error,
        }
    }
}

/// The actor that supervises one place of the pool: its process, and the later ones.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) supervisor: Recipient<NewsFrom>,
    pub(super) place: usize,
    pub(super) setup: Setup,
    /// The orders to the current process.
    pub(super) orders: Option<mpsc::UnboundedSender<Order>>,
}

/// Starts a process in the place.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Fill;

/// An order to the process of a place, if it has one.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Order {
    /// Asks the tasks of the process to end.
    Stop,
    /// Kills the process.
    Kill(After),
}

/// Kills the worker with this process id, because its task is to be killed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct KillWorker(pub(super) u32);

/// What follows in a place after its process was killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    /// The place stays empty.
    Empty,
    /// Another process starts in the place.
    Refill,
}

/// Ends the actor of a place that stays empty.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Leave;

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.notify(Fill);
    }
}

impl Handler<Fill> for Worker {
    type Result = ();

    fn handle(&mut self, _: Fill, _: &mut Context<Self>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        self.orders = Some(orders);
        let (supervisor, place) = (self.supervisor.clone(), self.place);
        match start(&self.setup.config) {
            Ok(child) => {
                supervisor.do_send(NewsFrom(place, News::Started(child.pid())));
                let watch = Watch::new(move |news| supervisor.do_send(NewsFrom(place, news)));
                actix_rt::spawn(watch_over(child, self.setup.read_error, ordered, watch));
            }
            Err(error) => {
                let not_ready = NotReady::NotNow(error);
                supervisor.do_send(NewsFrom(place, News::NotReady(not_ready)));
            }
        }
    }
}

impl Handler<Order> for Worker {
    type Result = ();

    fn handle(&mut self, order: Order, _: &mut Context<Self>) {
        if let Some(orders) = &self.orders {
            // The channel is closed if the process has ended.
            let _ = orders.send(order);
        }
    }
}

impl Handler<Leave> for Worker {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Context<Self>) {
        context.stop();
    }
}

/// The exit status that the submitter of a task receives.
pub(super) fn exit(ending: &Ending) -> WorkerExit {
    let Some(status) = ending.exit else {
        return WorkerExit::Unknown;
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => WorkerExit::Code(code),
        (None, Some(signal)) => WorkerExit::Signal(signal),
        (None, None) => WorkerExit::Unknown,
    }
}

/// Starts a worker, and passes one end of a connection to it and the other end to the pool's manager.
fn start(config: &Config) -> Result<Child, StartError> {
    let lacking = |error: io::Error| StartError::System(lack(&error));
    let (manager, ChildEnds { socket, reports }) = connect_child().map_err(lacking)?;
    let handed = [socket.as_fd(), reports.as_fd()];
    let child = Child::start(ROLE, config, &handed)?;
    if let Some(pid) = child.pid() {
        let address = &config.queue.token().address;
        manager.hand_over(address, pid).map_err(lacking)?;
    }
    Ok(child)
}

/// Follows one process from its start to its end.
async fn watch_over(
    mut child: Child,
    read_error: Option<ReadError>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut watch: Watch<impl Fn(News)>,
) {
    let last = match until_ready(&mut child, &mut orders).await {
        Ok(Ok(())) => {
            watch.ready();
            until_ended(&mut child, &mut orders).await.map(News::Ended)
        }
        Ok(Err(not_ready)) => Ok(News::NotReady(match read_error {
            Some(read_error) => explain(not_ready, read_error),
            None => not_ready,
        })),
        Err(after) => Err(after),
    };
    let last = match last {
        Ok(last) => last,
        Err(after) => {
            let mut ending = child.end_now().await;
            ending.work.is_done |= matches!(after, After::Empty);
            News::Ended(ending)
        }
    };
    watch.end(last);
}

/// Waits until a process is ready, or is to be killed. A request to stop reaches the process once it is ready.
async fn until_ready(
    child: &mut Child,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Result<Result<(), NotReady>, After> {
    let mut is_asked = false;
    let ready = {
        let mut ready = pin!(child.ready());
        loop {
            tokio::select! {
                ready = &mut ready => break ready,
                Some(order) = orders.recv() => match order {
                    Order::Stop => is_asked = true,
                    Order::Kill(after) => return Err(after),
                },
            }
        }
    };
    if is_asked {
        child.ask_to_stop();
    }
    Ok(ready)
}

/// Waits until a process has ended, or is to be killed.
async fn until_ended(
    child: &mut Child,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Result<Ending, After> {
    loop {
        tokio::select! {
            ending = child.ended() => return Ok(ending),
            Some(order) = orders.recv() => match order {
                Order::Stop => child.ask_to_stop(),
                Order::Kill(after) => return Err(after),
            },
        }
    }
}

/// The reports about one process. Its drop without a last one reports the end of the process, which is
/// killed then: the supervisor waits for a last report of each process.
struct Watch<T: Fn(News)> {
    tell: T,
    is_ready: bool,
    has_ended: bool,
}

impl<T: Fn(News)> Watch<T> {
    const fn new(tell: T) -> Self {
        Self {
            tell,
            is_ready: false,
            has_ended: false,
        }
    }

    fn ready(&mut self) {
        self.is_ready = true;
        (self.tell)(News::Ready);
    }

    fn end(mut self, last: News) {
        self.has_ended = true;
        (self.tell)(last);
    }
}

impl<T: Fn(News)> Drop for Watch<T> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let why = "its supervision has ended early";
        (self.tell)(match self.is_ready {
            true => News::Ended(Ending {
                ran: None,
                work: Work::default(),
                is_well: false,
                exit: None,
                status: why.to_owned(),
            }),
            false => News::NotReady(NotReady::NotNow(StartError::ChildFailed(why.to_owned()))),
        });
    }
}

/// The interval at which a joined pool checks whether its tasks are done.
const JOIN_LOOK: Duration = Duration::from_secs(1);

/// Waits until a closed queue has no task, and then for as long as idle workers have to end.
pub(super) async fn all_done(queue: &Proxy<TaskQueue>) -> Result<(), CallError> {
    loop {
        let status = queue.call(GetTaskQueueStatus).await?;
        if (status.waiting, status.running) == (0, 0) {
            break;
        }
        time::sleep(JOIN_LOOK).await;
    }
    time::sleep(END_PATIENCE).await;
    Ok(())
}

/// Asks the queue which workers to kill, for as long as the queue exists.
pub(super) async fn tend(queue: Proxy<TaskQueue>, kill: Recipient<KillWorker>) {
    let mut next: Option<Due> = None;
    loop {
        let call = queue.call(Tend {
            returns_at: next.map(|next| next.at),
        });
        let tended = match next {
            Some(Due { micros, .. }) => time::timeout(Duration::from_micros(micros), call).await,
            None => Ok(call.await),
        };
        next = match tended {
            Ok(Ok(tended)) => {
                for pid in tended.kill {
                    kill.do_send(KillWorker(pid));
                }
                tended.next
            }
            // The time is over, so the queue has to look.
            Err(_) => None,
            // The pool has ended.
            Ok(Err(_)) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Returns the reports of a watch that `used` drops or ends.
    fn reports(used: impl FnOnce(Watch<&dyn Fn(News)>)) -> Vec<News> {
        let reports = RefCell::new(Vec::new());
        used(Watch::new(&|news| reports.borrow_mut().push(news)));
        reports.into_inner()
    }

    #[test]
    fn supervision_that_ends_early_reports_the_end_of_its_process() {
        let told = reports(|watch| drop(watch));
        assert!(matches!(told[..], [News::NotReady(NotReady::NotNow(_))]));
        let told = reports(|mut watch| watch.ready());
        let [News::Ready, News::Ended(ending)] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(!ending.work.is_done);
    }

    #[test]
    fn supervision_reports_one_end() {
        let not_ready = || NotReady::NotNow(StartError::ChildFailed("late".to_owned()));
        let told = reports(|watch| watch.end(News::NotReady(not_ready())));
        assert!(
            matches!(&told[..], [News::NotReady(why)] if *why == not_ready()),
            "{told:?}"
        );
    }
}
