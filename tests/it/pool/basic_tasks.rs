//! Tasks that return or end their worker.

use std::{future, process, time::Duration};

use lockkeeper::{CallError, Lock, Retry, Task, builders::Program};
use lockkeeper_test_support::kill;
use serde::{Deserialize, Serialize};

/// Returns the worker's process id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Who;

impl Task for Who {
    const NAME: &'static str = "who";
    type Output = u32;

    async fn run(self) -> u32 {
        process::id()
    }
}

/// Returns a number, or ends the worker while it holds the lock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ReturnOrDie {
    Return(u64),
    Die(Lock),
}

impl Task for ReturnOrDie {
    const NAME: &'static str = "fate";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        match self {
            Self::Return(number) => Ok(number),
            Self::Die(lock) => {
                let _guard = lock.acquire().await?;
                kill(process::id());
                future::pending().await
            }
        }
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Who>().task::<ReturnOrDie>()
}

/// Runs tasks whose workers die again at once.
pub(crate) const fn at_once(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff(Duration::ZERO, Duration::ZERO)
}
