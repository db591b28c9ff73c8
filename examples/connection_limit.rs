//! Shows a bounded semaphore: a server that supports three connections at a time, and six
//! processes.
//!
//!     cargo run --release --example connection_limit
//!
//! The server is a thread of the main process with a socket in a temporary folder. It counts its
//! connections. Each worker acquires a permit before it connects, and releases it after it has
//! disconnected. The bound refuses a release of more permits than were acquired. The program prints
//! one line per worker, and the server's count:
//!
//!     worker 3 had 40 answers
//!     ...
//!     240 connections of 6 workers, at most 3 at a time

use std::{
    error::Error,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use lockkeeper::{BoundedSemaphore, CallError, Manager, Pool, Task, errors::Refusal};
use serde::{Deserialize, Serialize};

const WORKERS: usize = 6;
const CALLS: usize = 40;
const CONNECTIONS: u32 = 3;

/// Connects to the server repeatedly.
#[derive(Serialize, Deserialize)]
struct Ask {
    worker: usize,
    server: PathBuf,
    connections: BoundedSemaphore,
}

impl Task for Ask {
    const NAME: &'static str = "ask";
    type Output = Result<usize, CallError>;

    async fn run(self) -> Self::Output {
        let mut answers = 0;
        for _ in 0..CALLS {
            let permit = self.connections.acquire().await?;
            answers += self.call().expect("the server answers");
            drop(permit);
        }
        println!("worker {} had {answers} answers", self.worker);
        Ok(answers)
    }
}

impl Ask {
    /// Connects, reads one byte from the server, shuts down, and waits until the server has
    /// disconnected.
    fn call(&self) -> std::io::Result<usize> {
        let mut connection = UnixStream::connect(&self.server)?;
        let mut answer = [0];
        connection.read_exact(&mut answer)?;
        connection.write_all(b"!")?;
        connection.read_to_end(&mut Vec::new())?;
        Ok(1)
    }
}

/// The counts of the server.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    most: AtomicUsize,
}

fn serve(listener: &UnixListener, seen: &Arc<Seen>) {
    for connection in listener.incoming().take(WORKERS * CALLS) {
        let Ok(mut connection) = connection else {
            return;
        };
        let seen = Arc::clone(seen);
        let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(open, Ordering::SeqCst);
        thread::spawn(move || {
            // Simulates the work of a request.
            thread::sleep(Duration::from_millis(1));
            let talk = connection
                .write_all(b"?")
                .and_then(|()| connection.read_exact(&mut [0]));
            seen.open.fetch_sub(1, Ordering::SeqCst);
            // The connection is dropped after the count is updated, so that the worker continues
            // only then.
            drop((talk, connection));
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Ask>().run(async {
        let folder = tempfile::tempdir()?;
        let server = folder.path().join("server");
        let listener = UnixListener::bind(&server)?;
        let seen = Arc::new(Seen::default());
        let serving = {
            let seen = Arc::clone(&seen);
            thread::spawn(move || serve(&listener, &seen))
        };

        let manager = Manager::start().await?;
        let connections = manager.bounded_semaphore(CONNECTIONS).await?;
        let pool = Pool::new(WORKERS).await?;
        let workers = (0..WORKERS).map(|worker| Ask {
            worker,
            server: server.clone(),
            connections: connections.clone(),
        });
        let mut answers = 0;
        for worker in pool.try_map(workers).await? {
            answers += worker?;
        }
        pool.join().await?;
        serving.join().map_err(|_| "the server panicked")?;

        let over = connections.add_permits(1).await;
        if !matches!(
            over,
            Err(CallError::Refused(Refusal::OverRelease { .. }, _))
        ) {
            return Err(format!("the bound was exceeded: {over:?}").into());
        }
        let most = seen.most.load(Ordering::SeqCst);
        println!("{answers} connections of {WORKERS} workers, at most {most} at a time");
        if answers != WORKERS * CALLS || most > usize::try_from(CONNECTIONS)? {
            return Err("that is not what the semaphore lets in".into());
        }
        Ok::<(), Box<dyn Error>>(())
    })
}
