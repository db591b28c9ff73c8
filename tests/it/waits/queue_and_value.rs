//! Waits at queues and for values whose manager is killed or stopped.

use std::time::Duration;

use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, join_all},
};
use lockkeeper::{CallError, Manager, Queue, Value};
use lockkeeper_test_support::{kill, signal, stop, until};
use rustix::process::Signal;

use crate::{manager::process::pid_of, run};

/// A timeout that never ends in a test.
const HOUR: Duration = Duration::from_secs(3600);

/// A timeout that ends while the manager is stopped.
const SHORT: Duration = Duration::from_millis(1);

/// Longer than the client waits for a stopped manager after a timeout, and shorter than a test may take.
const PATIENCE: Duration = Duration::from_secs(30);

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
        async move { since.wait_since(0).await.map(drop) }.boxed(),
        async move { since_timeout.wait_since(0).timeout(HOUR).await.map(drop) }.boxed(),
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

/// Makes each call of several rounds, with a short timeout.
fn of_several_rounds(value: &Value<u32>) -> Vec<BoxFuture<'static, Outcome>> {
    vec![
        value
            .update(|value| value)
            .timeout(SHORT)
            .map_ok(drop)
            .boxed(),
        value.try_update(Some).timeout(SHORT).map_ok(drop).boxed(),
        value.fetch_add(1).timeout(SHORT).map_ok(drop).boxed(),
        value
            .compare_exchange(0, 1)
            .timeout(SHORT)
            .map_ok(drop)
            .boxed(),
        value
            .compare_exchange(0, 1)
            .timeout(Duration::ZERO)
            .map_ok(drop)
            .boxed(),
        value.wait_for(|_| true).timeout(SHORT).map_ok(drop).boxed(),
    ]
}

#[test]
fn calls_of_several_rounds_time_out_while_the_manager_is_stopped() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let value = manager.value(0).await.unwrap();
        let keys = manager.keyed_lock().await.unwrap();
        let _guard = keys.acquire("a").await.unwrap();
        let process = pid_of(&manager).await;
        stop(process).await;
        let mut calls = of_several_rounds(&value);
        calls.push(keys.keys().timeout(SHORT).map_ok(drop).boxed());
        let ended = tokio::time::timeout(PATIENCE, join_all(calls)).await;
        signal(process, Signal::CONT);
        let outcomes = ended.expect("all calls end");
        assert_eq!(outcomes, vec![Err(CallError::timed_out()); outcomes.len()]);
        assert_eq!(keys.keys().await.unwrap(), ["a".into()]);
        value.get().await.unwrap();
    });
}

#[test]
fn zero_timeout_permits_the_first_round() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let value = manager.value(1).await.unwrap();
        let zero = Duration::ZERO;
        assert_eq!(value.update(|value| value + 1).timeout(zero).await, Ok(1));
        assert_eq!(value.fetch_add(1).timeout(zero).await, Ok(2));
        assert_eq!(value.compare_exchange(3, 4).timeout(zero).await, Ok(Ok(3)));
        let seen = value.wait_for(|value| *value == 4).timeout(zero).await;
        assert_eq!(seen.unwrap().value, 4);
        let keys = manager.keyed_lock().await.unwrap();
        assert_eq!(keys.keys().timeout(zero).await, Ok(vec![]));
    });
}
