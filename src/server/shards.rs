//! The threads of a manager, one for each shard.
//!
//! Invariant: if one shard ends, for whatever reason, all shards end. A partial manager would keep its
//! address but fail for some names.

use std::thread::{self, JoinHandle, ThreadId};

use tokio_util::sync::CancellationToken;

use crate::{
    error::{StartError, lack},
    server::server::{Server, ServerRuntime},
};

/// The shards of a manager. The first one is to be run; the others have threads of their own.
#[derive(Debug)]
pub(crate) struct Shards {
    first: Option<(Server, ServerRuntime)>,
    others: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// A manager on threads of this process.
#[derive(Debug)]
pub(crate) struct Threads {
    first: JoinHandle<()>,
    others: Vec<ThreadId>,
    stop: CancellationToken,
}

impl Shards {
    /// Starts the threads of all but the first.
    ///
    /// # Errors
    ///
    /// Returns an error when the system gives no thread. None is left then.
    pub(crate) fn start(servers: Vec<Server>) -> Result<Self, StartError> {
        let mut servers = servers.into_iter();
        let first = match servers.next() {
            Some(server) => Some((server, ServerRuntime::new()?)),
            None => None,
        };
        let mut shards = Self {
            first,
            others: Vec::new(),
            stop: CancellationToken::new(),
        };
        for (server, index) in servers.zip(1..) {
            let stop = shards.stop.clone();
            let runtime = ServerRuntime::new()?;
            let other = start(format!("lockkeeper-{index}"), move || {
                let _all_end = stop.clone().drop_guard();
                server.run(runtime, stop.cancelled_owned());
            });
            shards.others.push(other?);
        }
        Ok(shards)
    }

    /// What ends all of them.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves on this thread as the first one, until all have ended.
    pub(crate) fn run(mut self) {
        if let Some((first, runtime)) = self.first.take() {
            first.run(runtime, self.stop().cancelled_owned());
        }
    }

    /// Has a thread of its own serve as the first one.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub(crate) fn run_on_thread(self) -> Result<Threads, StartError> {
        let stop = self.stop();
        let others = self
            .others
            .iter()
            .map(|other| other.thread().id())
            .collect();
        let first = start("lockkeeper".to_owned(), move || self.run())?;
        Ok(Threads {
            first,
            others,
            stop,
        })
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop.cancel();
        for other in self.others.drain(..) {
            // A panic has been printed where it happened.
            let _ = other.join();
        }
    }
}

impl Threads {
    /// Ends all shards, and waits until the current turn of each thread is over. A shard never joins its
    /// own thread.
    pub(crate) fn end(self) {
        self.stop.cancel();
        let own = thread::current().id();
        if self.first.thread().id() != own && !self.others.contains(&own) {
            // It waits for the others. A panic has been printed where it happened.
            let _ = self.first.join();
        }
    }
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let started = thread::Builder::new().name(name).spawn(work);
    started.map_err(|error| StartError::System(lack(&error)))
}
