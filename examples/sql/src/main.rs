//! Shows a fence for a SQL table: a holder is paused, loses its lock, and writes after it resumes.
//!
//!     cargo run --release --manifest-path examples/sql/Cargo.toml
//!
//! Two worker processes write to a row of a table, under one lock. The first one is stopped with
//! SIGSTOP before it writes, and an administrator forces its lock open. The second one acquires the
//! lock and writes. Then the first one is continued with SIGCONT and writes without a check by the
//! manager. The condition of its statement, `UPDATE .. WHERE .. AND fence <= ..`, matches no row:
//!
//!     process 4711 has the lock with fence 1795384507341834506, and is paused
//!     process 4712 has the lock with fence 1795384507341834507, and writes: 1 row
//!     process 4711 goes on, and writes: 0 rows
//!     the table says that process 4712 was here

mod table;

use std::{error::Error, process};

use lockkeeper::{
    CallError, Event, Fence, Lock, Manager, Pool, Proxy, Task,
    errors::Refusal,
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use table::Table;

/// The row that both processes write.
const PAGE: u64 = 1;

/// Stands for a database server: it executes statements, and has no access to locks or holders.
struct Database(Table);

/// Writes the row. The reply is the count of rows that were changed.
#[derive(Serialize, Deserialize)]
struct Write {
    words: String,
    fence: Fence,
}

/// Reads the row.
#[derive(Serialize, Deserialize)]
struct Read;

impl Operation for Write {
    const NAME: &'static str = "write";
    type Reply = Result<usize, String>;
}

impl Operation for Read {
    const NAME: &'static str = "read";
    type Reply = Result<Option<String>, String>;
}

impl Primitive for Database {
    const KIND: &'static str = "database";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        let table = Table::new().map_err(|error| Refusal::Invalid(error.to_string()))?;
        Ok(Self(table))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Write>().on::<Read>();
    }
}

impl Serve<Write> for Database {
    fn serve(&mut self, Write { words, fence }: Write, call: Call<<Write as Operation>::Reply>) {
        let rows = self.0.write(PAGE, &words, fence);
        call.reply(rows.map_err(|error| error.to_string()));
    }
}

impl Serve<Read> for Database {
    fn serve(&mut self, Read: Read, call: Call<<Read as Operation>::Reply>) {
        let words = self.0.words(PAGE);
        call.reply(words.map_err(|error| error.to_string()));
    }
}

/// Writes the process's id to the row, under the lock.
#[derive(Clone, Serialize, Deserialize)]
struct Sign {
    lock: Lock,
    database: Proxy<Database>,
    /// Set by the process that has the lock.
    inside: Event,
    /// The holder works until this is set, and then writes.
    done: Event,
}

/// The result of one process's write.
#[derive(Serialize, Deserialize)]
struct Signed {
    pid: u32,
    fence: Fence,
    rows: Result<usize, String>,
}

impl Task for Sign {
    const NAME: &'static str = "sign";
    type Output = Result<Signed, CallError>;

    async fn run(self) -> Self::Output {
        let pid = process::id();
        let guard = self.lock.acquire().await?;
        let fence = guard.fence();
        self.inside.set().await?;
        self.done.wait().await?;

        // The lock may have been forced open meanwhile. Only the statement's condition detects
        // this.
        let words = format!("process {pid} was here");
        let rows = self.database.call(Write { words, fence }).await?;
        Ok(Signed { pid, fence, rows })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let program = lockkeeper::program().task::<Sign>().register::<Database>();
    program.run(async {
        let manager = Manager::start().await?;
        let database = manager.open::<Database>(()).await?;
        let sign = Sign {
            lock: manager.lock().await?,
            database: database.clone(),
            inside: manager.event().await?,
            done: manager.event().await?,
        };
        // Two pools of one worker each, so that the process to stop is known.
        let (first, second) = (Pool::new(1).await?, Pool::new(1).await?);
        let paused = *first.pids().await.first().ok_or("there is no worker")?;

        let late = first.spawn(sign.clone());
        sign.inside.wait().await?;
        signal(paused, Signal::STOP)?;
        sign.lock.force_unlock().await?;

        sign.done.set().await?;
        let in_time = second.apply(sign).await??;
        signal(paused, Signal::CONT)?;
        let late = late.await??;
        first.join().await?;
        second.join().await?;

        let (pid, fence, rows) = (in_time.pid, in_time.fence, in_time.rows?);
        println!(
            "process {paused} has the lock with fence {}, and is paused",
            late.fence
        );
        println!(
            "process {pid} has the lock with fence {fence}, and writes: {}",
            count(rows)
        );
        let late_rows = late.rows?;
        println!("process {paused} goes on, and writes: {}", count(late_rows));
        let words = database.call(Read).await??.ok_or("the row is missing")?;
        println!("the table says that {words}");
        if rows != 1 || late_rows != 0 || words != format!("process {pid} was here") {
            return Err("the late write was not refused".into());
        }
        Ok(())
    })
}

fn signal(process: u32, signal: Signal) -> Result<(), Box<dyn Error>> {
    let process = Pid::from_raw(process.try_into()?).ok_or("no process has the id 0")?;
    Ok(kill_process(process, signal)?)
}

fn count(rows: usize) -> String {
    format!("{rows} {}", if rows == 1 { "row" } else { "rows" })
}
