//! Shows what a fence is for: a holder that is paused, loses its lock, and goes on writing.
//!
//!     cargo run --release --example paused_holder
//!
//! Two worker processes write to a file and to a table of a database, under one lock. The first is
//! stopped with SIGSTOP before it writes, and an administrator forces its lock open. The second
//! takes over and writes. Then the first goes on, with SIGCONT: it looks at nothing and writes. The
//! mark beside the file refuses it, and so does the condition of the table's row:
//!
//!     process 4711 has the lock with token 1795384507341834506, and is paused
//!     process 4712 has the lock with token 1795384507341834507
//!       file: written
//!       table: 1 row
//!     process 4711 goes on
//!       file: stale: the token 1795384507341834506 is lower than ...
//!       table: 0 rows
//!     file and table say that process 4712 was here

use std::{error::Error, fs, path::PathBuf, process};

use gluesql::prelude::{Glue, MemoryStorage, Payload};
use lockkeeper::{
    Call, CallError, Event, Fence, FenceFile, Lock, Manager, Operation, Operations, Pool,
    Primitive, Proxy, Refusal, Serve, Task,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Stands for a database: it knows SQL, and neither locks nor who holds them.
struct Database(Glue<MemoryStorage>);

/// Executes a statement. The reply is a count of rows, or the one value that was selected.
#[derive(Serialize, Deserialize)]
struct Execute(String);

impl Operation for Execute {
    const NAME: &'static str = "execute";
    type Reply = Result<String, String>;
}

impl Primitive for Database {
    const KIND: &'static str = "database";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        let mut engine = Glue::new(MemoryStorage::default());
        engine
            .execute(
                "CREATE TABLE page (id INTEGER PRIMARY KEY, words TEXT, fence INTEGER);
                 INSERT INTO page VALUES (1, '', 0)",
            )
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        Ok(Self(engine))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Execute>();
    }
}

impl Serve<Execute> for Database {
    fn serve(&mut self, Execute(statement): Execute, call: Call<<Execute as Operation>::Reply>) {
        let outcome = self.0.execute(statement);
        call.reply(match outcome.as_deref() {
            Ok([Payload::Update(rows)]) => Ok(rows.to_string()),
            Ok([Payload::Select { rows, .. }]) => {
                let value = rows.first().and_then(|row| row.first());
                value.map(String::from).ok_or_else(|| "no row".to_owned())
            }
            Ok(other) => Err(format!("neither update nor select: {other:?}")),
            Err(error) => Err(error.to_string()),
        });
    }
}

/// Writes who was here, under the lock.
#[derive(Clone, Serialize, Deserialize)]
struct Sign {
    lock: Lock,
    page: PathBuf,
    table: Proxy<Database>,
    /// Set by whoever has the lock.
    inside: Event,
    /// What it does before it writes takes until this is set.
    done: Event,
}

/// What became of one process's writes.
#[derive(Serialize, Deserialize)]
struct Signed {
    pid: u32,
    fence: Fence,
    /// What the mark beside the file said.
    file: Result<(), String>,
    /// How many rows were changed.
    rows: String,
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

        // It believes that it has the lock. Only the resources can know better.
        let words = format!("process {pid} was here");
        let mark = FenceFile::beside(&self.page);
        let file = match mark.write(fence, || fs::write(&self.page, &words)) {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(refused) => Err(refused.to_string()),
        };
        let update = format!(
            "UPDATE page SET words = '{words}', fence = {fence} WHERE id = 1 AND fence <= {fence}"
        );
        let rows = self.table.call(Execute(update)).await?;
        Ok(Signed {
            pid,
            fence,
            file,
            rows: rows.unwrap_or_else(|error| error),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let program = lockkeeper::program().task::<Sign>().kind::<Database>();
    program.run(async {
        let folder = tempfile::tempdir()?;
        let page = folder.path().join("page");
        let manager = Manager::start().await?;
        let table = manager.open::<Database>(()).await?;
        let sign = Sign {
            lock: manager.lock().await?,
            page: page.clone(),
            table: table.clone(),
            inside: manager.event().await?,
            done: manager.event().await?,
        };
        // One worker each, so that it is known whom to stop.
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

        println!(
            "process {paused} has the lock with token {}, and is paused",
            late.fence
        );
        println!(
            "process {} has the lock with token {}",
            in_time.pid, in_time.fence
        );
        tell(&in_time);
        println!("process {paused} goes on");
        tell(&late);
        first.join().await?;
        second.join().await?;

        let select = Execute("SELECT words FROM page WHERE id = 1".to_owned());
        let (in_file, in_table) = (fs::read_to_string(&page)?, table.call(select).await??);
        println!("file and table say that {in_file}");
        let is_right = in_file == in_table && in_file.contains(&in_time.pid.to_string());
        if !is_right || late.file.is_ok() || late.rows != "0" || in_time.rows != "1" {
            return Err("the late write was not refused".into());
        }
        Ok(())
    })
}

fn signal(process: u32, signal: Signal) -> Result<(), Box<dyn Error>> {
    let process = Pid::from_raw(process.try_into()?).ok_or("no process has the id 0")?;
    Ok(kill_process(process, signal)?)
}

fn tell(Signed { file, rows, .. }: &Signed) {
    match file {
        Ok(()) => println!("  file: written"),
        Err(why) => println!("  file: {why}"),
    }
    println!(
        "  table: {rows} {}",
        if rows == "1" { "row" } else { "rows" }
    );
}
