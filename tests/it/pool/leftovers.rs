//! Effects that outlive a task or leave its worker: threads, programs that read their input,
//! tickets, large outputs, and tasks that are spawned just before the pool closes.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use futures::{StreamExt, future};
use lockkeeper::{
    Blocking, BlockingTask, CallError, Lock, Manager, Pool, Task, Ticket, builders::Program,
};
use serde::{Deserialize, Serialize};

use crate::run;

/// Starts a thread that ends long after the test.
#[derive(Debug, Serialize, Deserialize)]
struct LeaveThread;

impl Task for LeaveThread {
    const NAME: &'static str = "leave_thread";
    type Output = ();

    async fn run(self) {
        let asleep = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(600)));
        tokio::time::timeout(Duration::from_millis(1), asleep)
            .await
            .unwrap_err();
    }
}

/// Starts a program that reads its input to the end.
#[derive(Debug, Serialize, Deserialize)]
struct Sort;

impl BlockingTask for Sort {
    const NAME: &'static str = "sort";
    type Output = bool;

    fn run(self) -> bool {
        Command::new("sort")
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

/// Acquires the lock and returns a ticket.
#[derive(Debug, Serialize, Deserialize)]
struct IntoTicket(Lock);

impl Task for IntoTicket {
    const NAME: &'static str = "hand_on";
    type Output = Result<Ticket, CallError>;

    async fn run(self) -> Self::Output {
        Ok(self.0.acquire().await?.into_ticket())
    }
}

/// Returns a text of a number of bytes.
#[derive(Debug, Serialize, Deserialize)]
struct LongText(usize);

impl Task for LongText {
    const NAME: &'static str = "talk";
    type Output = String;

    async fn run(self) -> String {
        "x".repeat(self.0)
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<LeaveThread>()
        .task::<Blocking<Sort>>()
        .task::<IntoTicket>()
        .task::<LongText>()
}

#[test]
fn remaining_thread_of_a_task_does_not_delay_the_pool() {
    run(async {
        let pool = Pool::builder(1)
            .max_tasks_per_child(1)
            .start()
            .await
            .unwrap();
        pool.try_map([LeaveThread, LeaveThread]).await.unwrap();
        pool.join().await.unwrap();
    });
}

#[test]
fn program_that_a_task_starts_has_an_empty_standard_input() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        assert!(pool.apply(Blocking(Sort)).await.unwrap());
        pool.join().await.unwrap();
    });
}

#[test]
fn ticket_may_be_the_output_of_a_task() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let ticket = pool.apply(IntoTicket(lock.clone())).await.unwrap().unwrap();
        let guard = lock.adopt(ticket).await.unwrap();
        assert!(guard.abandoned().is_none());
        // The hold no longer belongs to the worker.
        pool.terminate().await;
        assert!(guard.is_valid());
    });
}

#[test]
fn large_outputs_may_be_read_late() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        let bytes = 20 << 20;
        let mut outputs = pool.imap((0..10).map(|_| LongText(bytes)));
        assert_eq!(outputs.next().await.unwrap().unwrap().len(), bytes);
        // The sleep is part of the test: the reader is busy while more arrives than a client may leave unread.
        std::thread::sleep(Duration::from_millis(300));
        while let Some(output) = outputs.next().await {
            assert_eq!(output.unwrap().len(), bytes);
        }
    });
}

#[test]
fn spawned_tasks_are_submitted_before_the_pool_closes() {
    run(async {
        for _ in 0..30 {
            let pool = Pool::new(1).await.unwrap();
            let spawned: Vec<_> = (0..3).map(|bytes| pool.spawn(LongText(bytes))).collect();
            pool.close().await.unwrap();
            for (bytes, output) in future::join_all(spawned).await.into_iter().enumerate() {
                assert_eq!(output.unwrap().len(), bytes);
            }
        }
    });
}
