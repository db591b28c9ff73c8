//! Shows ten processes that share one lock: "Synchronization between processes" of the tutorial of Python's
//! `multiprocessing`, line by line.
//!
//!     cargo run --release --example shared_lock
//!
//! The Python program is
//!
//!     from multiprocessing import Process, Lock
//!
//!     def f(l, i):
//!         l.acquire()
//!         try:
//!             print('hello world', i)
//!         finally:
//!             l.release()
//!
//!     if __name__ == '__main__':
//!         lock = Lock()
//!
//!         for num in range(10):
//!             Process(target=f, args=(lock, num)).start()
//!
//! Both print ten lines, `hello world 0` to `hello world 9`, in any order. Python waits for the processes when it
//! exits. Here a process ends with its handle, so main joins each.

use std::error::Error;

use lockkeeper::{CallError, Lock, Manager, Process, Task};
use serde::{Deserialize, Serialize};

/// The function `f`, with its arguments.
#[derive(Serialize, Deserialize)]
struct F {
    l: Lock,
    i: u32,
}

impl Task for F {
    const NAME: &'static str = "f";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        // The guard releases the lock whatever follows, as `finally` does, and even if the process is killed.
        let guard = self.l.acquire().await?;
        println!("hello world {}", self.i);
        guard.release().await
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<F>().run(async {
        let manager = Manager::start().await?;
        let lock = manager.lock().await?;

        let mut processes = Vec::new();
        for num in 0..10 {
            let l = lock.clone();
            processes.push(Process::spawn(F { l, i: num }).await?);
        }
        for process in processes {
            process.join().await??;
        }
        Ok(())
    })
}
