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

/// The shards of a manager. The caller runs the first one; the others have threads of their own.
#[derive(Debug)]
pub(crate) struct Shards {
    first: Option<(Server, ServerRuntime)>,
    others: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Threads {
    first: JoinHandle<()>,
    others: Vec<ThreadId>,
    stop: CancellationToken,
    /// Cancelled when all shards have ended.
    ended: CancellationToken,
}

impl Shards {
    /// Starts the threads of all shards but the first, which gets the given runtime.
    ///
    /// # Errors
    ///
    /// Returns an error when the system cannot create a thread. The threads that were started have ended
    /// then.
    pub(crate) fn start(servers: Vec<Server>, first: ServerRuntime) -> Result<Self, StartError> {
        let mut servers = servers.into_iter();
        let mut shards = Self {
            first: servers.next().map(|server| (server, first)),
            others: Vec::new(),
            stop: CancellationToken::new(),
        };
        for (server, index) in servers.zip(1..) {
            let stop = shards.stop.clone();
            let runtime = ServerRuntime::of_another_shard()?;
            let other = start(format!("lockkeeper-{index}"), move || {
                let _all_end = stop.clone().drop_guard();
                server.run(runtime, stop.cancelled_owned());
            });
            shards.others.push(other?);
        }
        Ok(shards)
    }

    /// The token that ends all shards.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves the first shard on this thread, until all shards have ended.
    pub(crate) fn run(mut self) {
        if let Some((first, runtime)) = self.first.take() {
            first.run(runtime, self.stop().cancelled_owned());
        }
    }

    /// Serves the first shard on a thread of its own.
    ///
    /// # Errors
    ///
    /// Returns an error when the system cannot create a thread.
    pub(crate) fn run_on_thread(self) -> Result<Threads, StartError> {
        let stop = self.stop();
        let others = self
            .others
            .iter()
            .map(|other| other.thread().id())
            .collect();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let first = start("lockkeeper".to_owned(), move || {
            let _end = end;
            self.run();
        })?;
        Ok(Threads {
            first,
            others,
            stop,
            ended,
        })
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop.cancel();
        for other in self.others.drain(..) {
            // The panic hook has already printed a panic.
            let _ = other.join();
        }
    }
}

impl Threads {
    /// Ends all shards, and waits for the current turn of each thread. A shard never joins its own thread.
    pub(crate) fn end(self) {
        self.stop.cancel();
        let own = thread::current().id();
        if self.first.thread().id() != own && !self.others.contains(&own) {
            // The first thread joins the others. The panic hook has already printed a panic.
            let _ = self.first.join();
        }
    }

    /// Does the same without blocking this thread.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
        // The first thread only has to exit.
        self.end();
    }
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let started = thread::Builder::new().name(name).spawn(work);
    started.map_err(|error| StartError::System(lack(&error)))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{self, RecvTimeoutError},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn shutdown_lets_other_tasks_of_its_thread_run_until_the_shards_have_ended() {
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let first = start("turn".to_owned(), move || {
            let _end = end;
            let _ = tell.send(released.recv_timeout(Duration::from_secs(20)));
        });
        let threads = Threads {
            first: first.expect("the system has a thread"),
            others: Vec::new(),
            stop: CancellationToken::new(),
            ended,
        };
        let stop = threads.stop.clone();
        let other = async {
            assert!(stop.is_cancelled(), "the shutdown has begun");
            drop(release);
        };
        tokio::join!(threads.shutdown(), other);
        assert_eq!(told.try_recv(), Ok(Err(RecvTimeoutError::Disconnected)));
    }
}
