//! Waits at queues and for values whose manager is killed.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use lockkeeper::{CallError, Manager, Queue, Value};
use lockkeeper_test_support::{kill, until};

use crate::{manager::process::pid_of, run};

/// A timeout that never ends in a test.
const HOUR: Duration = Duration::from_secs(3600);

type Outcome = Result<(), CallError>;

/// Waits in every way for an item, for room, and until all items are done.
fn at_queues(empty: &Queue<u32>, full: &Queue<u32>) -> Vec<BoxFuture<'static, Outcome>> {
    let empties = [(); 2].map(|()| empty.clone());
    let fulls = [(); 4].map(|()| full.clone());
    let ([get, get_timeout], [put, put_timeout, join, join_timeout]) = (empties, fulls);
    vec![
        async move { Ok(get.get().await.map(drop)?) }.boxed(),
        async move { Ok(get_timeout.get().timeout(HOUR).await.map(drop)?) }.boxed(),
        async move { Ok(put.put(2).await?) }.boxed(),
        async move { Ok(put_timeout.put(2).timeout(HOUR).await?) }.boxed(),
        async move { join.join().await }.boxed(),
        async move { join_timeout.join().timeout(HOUR).await }.boxed(),
    ]
}

/// Waits in every way for a change.
fn for_changes(value: &Value<u32>) -> Vec<BoxFuture<'static, Outcome>> {
    let [since, since_timeout, wait, wait_timeout] = [(); 4].map(|()| value.clone());
    vec![
        async move { since.changed_since(0).await.map(drop) }.boxed(),
        async move { since_timeout.changed_since(0).timeout(HOUR).await.map(drop) }.boxed(),
        async move { wait.wait_for(|_| false).await.map(drop) }.boxed(),
        async move {
            wait_timeout
                .wait_for(|_| false)
                .timeout(HOUR)
                .await
                .map(drop)
        }
        .boxed(),
    ]
}

#[test]
fn waits_fail_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let empty = manager.queue::<u32>(1).await.unwrap();
        let full = manager.queue::<u32>(1).await.unwrap();
        // One item is taken and one waits, so there is no room for another.
        full.put(0).await.unwrap();
        let taken = full.get().await.unwrap();
        full.put(1).await.unwrap();
        let value = manager.value(0).await.unwrap();
        let waits = || {
            at_queues(&empty, &full)
                .into_iter()
                .chain(for_changes(&value))
        };
        let waiting: Vec<_> = waits().map(tokio::spawn).collect();
        until("all wait", || async {
            let gets = empty.status().await.unwrap().getting;
            let full = full.status().await.unwrap();
            let watchers = value.status().await.unwrap().waiting;
            [gets, full.putting, full.joining, watchers] == [2, 2, 2, 4]
        })
        .await;
        let lost = taken.lost();
        kill(pid_of(&manager).await);
        lost.await;
        assert!(!taken.is_valid());
        for wait in waiting {
            let shown = wait.await.unwrap();
            let is_over = matches!(shown, Err(CallError::Disconnected { .. }));
            assert!(is_over, "{shown:?}");
        }
        let done = taken.done().await;
        assert!(
            matches!(done, Err(CallError::Disconnected { .. })),
            "{done:?}"
        );
        for wait in waits() {
            let shown = wait.await;
            let is_over = matches!(shown, Err(CallError::Disconnected { .. }));
            assert!(is_over, "{shown:?}");
        }
    });
}
