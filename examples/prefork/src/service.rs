//! The main program's side of the service: it starts the processes, replaces those that end, and ends them.

use std::{
    error::Error,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lockkeeper::{Manager, Process, StartError, builders::Program};
use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    listener::Giver,
    worker::{Orders, Serve},
};

/// The pause before a process is replaced that could not be started.
const PAUSE: Duration = Duration::from_millis(200);

/// Returns the program of this service, with which main or a test begins.
pub fn program() -> Program {
    lockkeeper::program().task::<Serve>()
}

/// A service whose processes run until its end.
#[derive(Debug)]
pub struct Service {
    _manager: Manager,
    _giver: Giver,
    processes: JoinSet<()>,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
    /// Once set, how long requests have to end.
    end: watch::Sender<Option<Duration>>,
}

impl Service {
    /// Starts the processes of a service, which accept from the socket. At most `charges` charges run at a time.
    ///
    /// # Errors
    ///
    /// Returns the error of the manager, of the folder for the socket or of the first process.
    pub async fn start(
        listener: TcpListener,
        bank: SocketAddr,
        charges: u32,
        processes: usize,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let manager = Manager::start().await?;
        let giver = Giver::start(listener)?;
        let serve = Serve {
            listener: giver.path(),
            orders: Orders {
                bank,
                charges: manager.semaphore(charges).await?,
                customers: manager.keyed_lock().await?,
            },
        };
        let mut service = Self {
            _manager: manager,
            _giver: giver,
            processes: JoinSet::new(),
            pids: Arc::new(Mutex::new(vec![None; processes])),
            end: watch::Sender::new(None),
        };
        for place in 0..processes {
            let process = Process::spawn(serve.clone()).await?;
            let pids = Arc::clone(&service.pids);
            let place = Place {
                number: place,
                pids,
            };
            place.tell(Some(process.pid()));
            let keep = place.keep(process, serve.clone(), service.end.subscribe());
            service.processes.spawn(keep);
        }
        Ok(service)
    }

    /// Returns the ids of the processes that run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        pids.iter().copied().flatten().collect()
    }

    /// Ends the service: the processes end their requests, and are killed if that takes longer than the limit.
    pub async fn end(mut self, limit: Duration) {
        self.end.send_replace(Some(limit));
        while self.processes.join_next().await.is_some() {}
    }
}

/// The place of a process, and of those that replace it.
struct Place {
    number: usize,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
}

impl Place {
    fn tell(&self, pid: Option<u32>) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = pids.get_mut(self.number) {
            *place = pid;
        }
    }

    /// Replaces the process whenever it has ended, until the service ends.
    async fn keep(
        self,
        mut process: Process<Result<(), String>>,
        serve: Serve,
        mut end: watch::Receiver<Option<Duration>>,
    ) {
        loop {
            let is_over = tokio::select! {
                _ = process.wait() => false,
                // The sender lives as long as the service.
                _ = end.wait_for(Option::is_some) => true,
            };
            if is_over {
                let limit = end.borrow().unwrap_or_default();
                return self.end(process, limit).await;
            }
            let pid = process.pid();
            self.tell(None);
            if let Err(error) = process.join().await {
                eprintln!("process {pid} is replaced: {error}");
            }
            process = loop {
                match Process::spawn(serve.clone()).await {
                    Ok(process) => break process,
                    Err(error) => self.pause(error).await,
                }
            };
            self.tell(Some(process.pid()));
        }
    }

    async fn pause(&self, error: StartError) {
        eprintln!("no process can be started: {error}");
        time::sleep(PAUSE).await;
    }

    async fn end(&self, process: Process<Result<(), String>>, limit: Duration) {
        // The calls fail only in a forked child.
        let _ = process.terminate();
        if time::timeout(limit, process.wait()).await.is_err() {
            let _ = process.kill();
        }
        match process.join().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("a process has failed: {error}"),
            Err(error) => eprintln!("a process has not ended its requests: {error}"),
        }
        self.tell(None);
    }
}
