//! `Worker`: the actor that supervises one place of a pool, which runs one process after another.
//!
//! It reports the state of each process to the supervisor, which decides when the next one starts.

use std::{
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    time::Duration,
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{GetTaskQueueStatus, WorkerExit};
use tokio::{sync::oneshot, time};

use crate::{
    error::{CallError, StartError, lack},
    pool::{
        initializer::Initializer,
        worker::{Config, ROLE},
    },
    process::{
        child::{Child, END_PATIENCE, Ending},
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

/// The actor that supervises one place of the pool: its process, and the later ones.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) supervisor: Recipient<NewsFrom>,
    pub(super) place: usize,
    pub(super) config: Config,
    /// Kills the current process.
    pub(super) kill: Option<oneshot::Sender<After>>,
}

/// Starts a process in the place.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Fill;

/// Kills the process.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Kill(pub(super) After);

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
        let (kill, killed) = oneshot::channel();
        self.kill = Some(kill);
        let (supervisor, place) = (self.supervisor.clone(), self.place);
        match start(&self.config) {
            Ok(child) => {
                supervisor.do_send(NewsFrom(place, News::Started(child.pid())));
                let initializer = self.config.initializer.clone();
                actix_rt::spawn(watch_over(child, initializer, killed, move |news| {
                    supervisor.do_send(NewsFrom(place, news));
                }));
            }
            Err(error) => {
                let not_ready = NotReady::NotNow(error);
                supervisor.do_send(NewsFrom(place, News::NotReady(not_ready)));
            }
        }
    }
}

impl Handler<Kill> for Worker {
    type Result = ();

    fn handle(&mut self, Kill(after): Kill, _: &mut Context<Self>) {
        if let Some(kill) = self.kill.take() {
            // The kill channel is closed if the process has ended on its own.
            let _ = kill.send(after);
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
        let address = config.queue.token().address();
        manager.hand_over(address, pid).map_err(lacking)?;
    }
    Ok(child)
}

/// Follows one process from its start to its end.
async fn watch_over(
    mut child: Child,
    initializer: Option<Initializer>,
    killed: oneshot::Receiver<After>,
    tell: impl Fn(News),
) {
    let live = async {
        match child.ready().await {
            Ok(()) => {
                tell(News::Ready);
                News::Ended(child.ended().await)
            }
            Err(NotReady::Refused(output)) => {
                let why = initializer.map(|initializer| initializer.error(&output.0));
                let why = StartError::Child(why.unwrap_or_default());
                News::NotReady(NotReady::Cannot(why))
            }
            Err(error) => News::NotReady(error),
        }
    };
    let last = tokio::select! {
        last = live => Ok(last),
        Ok(after) = killed => Err(after),
    };
    let last = match last {
        Ok(last) => last,
        Err(after) => {
            let ending = child.end_now().await;
            News::Ended(Ending {
                is_done: matches!(after, After::Empty),
                ..ending
            })
        }
    };
    tell(last);
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
