//! Shows a fence: a holder is paused, loses its lock, and writes after it resumes.
//!
//!     cargo run --release --example paused_holder
//!
//! Two worker processes write to a file and to a store, under one lock. The first one is stopped
//! with SIGSTOP before it writes, and an administrator forces its lock open. The second one
//! acquires the lock and writes. Then the first one is continued with SIGCONT and writes without a
//! check by the manager. The file's mark refuses the write, and so does the store, which compares
//! fences itself:
//!
//!     process 4711 has the lock with fence 1795384507341834506, and is paused
//!     process 4712 has the lock with fence 1795384507341834507
//!       file: written
//!       store: written
//!     process 4711 goes on
//!       file: stale: the fence 1795384507341834506 is lower than ...
//!       store: stale
//!     file and store say that process 4712 was here
//!
//! The example in `examples/sql` does the same with a table of a SQL database.

use std::{error::Error, fs, path::PathBuf, process};

use lockkeeper::{
    CallError, Event, Fence, FenceFile, Lock, Manager, Pool, Proxy, Task,
    errors::Refusal,
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A store of one line, which stands for any service that keeps data. It stores the highest fence
/// that it has seen, and has no access to locks or holders.
struct Store {
    words: String,
    highest: Fence,
}

/// Writes the words, unless a higher fence was seen. The reply is whether they were written.
#[derive(Serialize, Deserialize)]
struct Write {
    words: String,
    fence: Fence,
}

/// Reads the words.
#[derive(Serialize, Deserialize)]
struct Read;

impl Operation for Write {
    const NAME: &'static str = "write";
    type Reply = bool;
}

impl Operation for Read {
    const NAME: &'static str = "read";
    type Reply = String;
}

impl Primitive for Store {
    const KIND: &'static str = "store";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self {
            words: String::new(),
            highest: Fence::new(0),
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Write>().on::<Read>();
    }
}

impl Serve<Write> for Store {
    fn serve(&mut self, Write { words, fence }: Write, call: Call<bool>) {
        let is_fresh = fence.check(&mut self.highest);
        if is_fresh {
            self.words = words;
        }
        call.reply(is_fresh);
    }
}

impl Serve<Read> for Store {
    fn serve(&mut self, Read: Read, call: Call<String>) {
        call.reply(self.words.clone());
    }
}

/// Writes the process's id, under the lock.
#[derive(Clone, Serialize, Deserialize)]
struct Sign {
    lock: Lock,
    page: PathBuf,
    store: Proxy<Store>,
    /// Set by the holder of the lock.
    inside: Event,
    /// The holder waits for this before it writes.
    done: Event,
}

/// The results of one process's writes.
#[derive(Serialize, Deserialize)]
struct Signed {
    pid: u32,
    fence: Fence,
    /// The answer of the file's mark.
    file: Result<(), String>,
    /// Whether the store accepted the words.
    store: bool,
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

        // The lock may have been forced open meanwhile. Only the file and the store detect this.
        let words = format!("process {pid} was here");
        let mark = FenceFile::beside(&self.page);
        let file = match mark.write(fence, || fs::write(&self.page, &words)) {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(refused) => Err(refused.to_string()),
        };
        let store = self.store.call(Write { words, fence }).await?;
        Ok(Signed {
            pid,
            fence,
            file,
            store,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let program = lockkeeper::program().task::<Sign>().register::<Store>();
    program.run(async {
        let folder = tempfile::tempdir()?;
        let page = folder.path().join("page");
        let manager = Manager::start().await?;
        let store = manager.open::<Store>(()).await?;
        let sign = Sign {
            lock: manager.lock().await?,
            page: page.clone(),
            store: store.clone(),
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

        println!(
            "process {paused} has the lock with fence {}, and is paused",
            late.fence
        );
        println!(
            "process {} has the lock with fence {}",
            in_time.pid, in_time.fence
        );
        tell(&in_time);
        println!("process {paused} goes on");
        tell(&late);
        first.join().await?;
        second.join().await?;

        let (in_file, in_store) = (fs::read_to_string(&page)?, store.call(Read).await?);
        println!("file and store say that {in_file}");
        let is_right = in_file == in_store && in_file.contains(&in_time.pid.to_string());
        if !is_right || late.file.is_ok() || late.store || !in_time.store {
            return Err("the late write was not refused".into());
        }
        Ok(())
    })
}

fn signal(process: u32, signal: Signal) -> Result<(), Box<dyn Error>> {
    let process = Pid::from_raw(process.try_into()?).ok_or("no process has the id 0")?;
    Ok(kill_process(process, signal)?)
}

fn tell(Signed { file, store, .. }: &Signed) {
    match file {
        Ok(()) => println!("  file: written"),
        Err(why) => println!("  file: {why}"),
    }
    println!("  store: {}", if *store { "written" } else { "stale" });
}
