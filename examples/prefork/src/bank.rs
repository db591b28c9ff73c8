//! The bank: an outside resource, which sees each charge and knows nothing of locks.
//!
//! A charge is a connection. The caller sends its process id and the customer, and gets a receipt. The charge is over
//! before the receipt is sent, so the bank never sees more charges at a time than there are permits in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How long a charge takes.
const CHARGE: Duration = Duration::from_millis(5);

/// A bank, which runs until it is dropped.
#[derive(Debug)]
pub struct Bank {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
    server: JoinHandle<()>,
}

/// What the bank has seen.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The charges that run, by their numbers: of each the process and the customer.
    running: BTreeMap<u64, (u32, String)>,
    /// The number of charges that were begun.
    pub begun: u64,
    /// The most charges that ran at a time.
    pub most: usize,
    /// The charges that were begun while another one of the customer ran.
    pub doubled: u64,
    /// The processes that were killed. They call no more, but a call of theirs may still be on its way.
    dead: BTreeSet<u32>,
}

impl Bank {
    /// Opens a bank on this machine.
    ///
    /// # Errors
    ///
    /// Returns the system's error when no port can be bound.
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let books = Arc::new(Mutex::new(Books::default()));
        let server = {
            let books = Arc::clone(&books);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let books = Arc::clone(&books);
                    // A caller that has died needs no receipt.
                    tokio::spawn(async move { serve(stream, &books).await });
                }
            })
        };
        Ok(Self {
            address,
            books,
            server,
        })
    }

    /// Returns where the bank is called.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what the bank has seen so far.
    #[must_use]
    pub fn books(&self) -> Books {
        lock(&self.books).clone()
    }

    /// Kills a process, and ends its charges in the same moment: a dead process charges nothing, but the bank would
    /// see the end of its connections a little later than others see that of its holds.
    ///
    /// # Panics
    ///
    /// Panics when the number is not a process id.
    pub fn kill(&self, process: u32) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process id is above zero");
        let mut books = lock(&self.books);
        // It fails only when the process has ended.
        let _ = kill_process(pid, Signal::KILL);
        books.dead.insert(process);
        books.running.retain(|_, (of, _)| *of != process);
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one charge.
async fn serve(stream: TcpStream, books: &Mutex<Books>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let malformed = || io::Error::other("a charge is a process id and a customer");
    let (process, customer) = line.trim_end().split_once(' ').ok_or_else(malformed)?;
    let process = process.parse().map_err(|_| malformed())?;
    let Some(number) = lock(books).begin(process, customer) else {
        return Ok(());
    };
    tokio::time::sleep(CHARGE).await;
    lock(books).running.remove(&number);
    stream.write_all(b"receipt\n").await
}

impl Books {
    /// Begins a charge, and returns its number; `None` if the process is dead.
    fn begin(&mut self, process: u32, customer: &str) -> Option<u64> {
        if self.dead.contains(&process) {
            return None;
        }
        let mut others = self.running.values();
        self.doubled += u64::from(others.any(|(_, of)| of == customer));
        let number = self.begun;
        self.begun += 1;
        self.running.insert(number, (process, customer.to_owned()));
        self.most = self.most.max(self.running.len());
        Some(number)
    }
}

/// Makes a charge, and waits for the receipt.
pub(crate) async fn charge(bank: SocketAddr, customer: &str) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(bank).await?);
    let charge = format!("{} {customer}\n", std::process::id());
    stream.write_all(charge.as_bytes()).await?;
    let mut receipt = String::new();
    stream.read_line(&mut receipt).await?;
    match &*receipt {
        "receipt\n" => Ok(()),
        _ => Err(io::Error::other("the bank has closed the connection")),
    }
}
