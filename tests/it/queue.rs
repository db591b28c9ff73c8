//! The guarantees of a queue, through its proxy.
//!
//! Queues whose users are killed are tested in `deaths`.

pub(crate) mod deaths;

use std::{future::Future, thread, time::Duration};

use futures::{FutureExt, future::join_all};
use lockkeeper::{
    CallError, GetError, Limits, Manager, Pool, PutError, Queue, Semaphore, Task, block_on,
    builders::Program,
    errors::{Fault, Refusal, WrongSpec},
};
use lockkeeper_test_support::{Watchdog, for_turns, run_in_turns, sweep, until};
use serde::{Deserialize, Serialize};

use crate::{program, run};

/// Polls calls once, so that they are sent and wait.
fn begin<F: Future + Unpin>(calls: &mut [F]) {
    for call in calls {
        assert!(call.now_or_never().is_none());
    }
}

async fn queue(capacity: u32) -> (Manager, Queue<u32>) {
    let manager = Manager::start().await.unwrap();
    let queue = manager.queue(capacity).await.unwrap();
    (manager, queue)
}

/// An unbounded queue of the numbers from 1.
async fn filled(items: u32) -> (Manager, Queue<u32>) {
    let manager = Manager::start().await.unwrap();
    let queue = manager.unbounded_queue().await.unwrap();
    for item in 1..=items {
        queue.put(item).await.unwrap();
    }
    (manager, queue)
}

/// Returns the numbers of waiting and taken items, and of waiting puts and gets.
async fn state(queue: &Queue<u32>) -> [u64; 4] {
    let status = queue.status().await.unwrap();
    [status.len, status.taken, status.putting, status.getting]
}

/// Takes all items, and reports them as done.
async fn rest(queue: &Queue<u32>) -> Vec<u32> {
    let mut rest = Vec::new();
    while let Some(item) = queue.try_get().await.unwrap() {
        rest.push(item.done().await.unwrap());
    }
    rest
}

/// Returns the outcome of a get without the item.
fn describe<T>(outcome: Result<T, GetError>) -> Result<(), CallError> {
    Ok(outcome.map(drop)?)
}

fn refused<T>(refusal: Refusal) -> Result<T, CallError> {
    Err(CallError::refused(refusal))
}

fn closed(item: u32) -> Result<(), PutError<u32>> {
    let error = CallError::refused(Refusal::Closed);
    Err(PutError { item, error })
}

#[test]
fn items_arrive_in_order_with_increasing_fences() {
    run(async {
        let (_manager, queue) = filled(3).await;
        assert_eq!(queue.len().await, Ok(3));
        let first = queue.get().await.unwrap();
        let second = queue.get().timeout(Duration::MAX).await.unwrap();
        let third = queue.get().await.unwrap();
        assert_eq!([*first, *second, *third], [1, 2, 3]);
        assert!(first.fence() < second.fence() && second.fence() < third.fence());
        assert!(first.is_valid() && first.attempts() == 1 && first.abandoned().is_none());
        assert!(queue.try_get().await.unwrap().is_none());
        assert_eq!(queue.len().await, Ok(0));
        assert_eq!(first.done().await, Ok(1));
        assert_eq!(second.into_inner(), 2);
        third.strict().unwrap().put_back().await.unwrap();
        assert_eq!(state(&queue).await, [1, 0, 0, 0]);
        assert_eq!(rest(&queue).await, [3]);
    });
}

#[test]
fn puts_wait_for_room_in_order_of_arrival_and_a_try_never_overtakes() {
    run(async {
        let (_manager, queue) = queue(1).await;
        queue.put(1).await.unwrap();
        let mut puts = [2, 3].map(|item| Box::pin(queue.put(item)));
        begin(&mut puts);
        let full = queue.try_put(4).await.unwrap_err();
        assert!(
            full.error.is_timeout() && !full.error.is_closed() && full.item == 4,
            "{full}"
        );
        assert!(full.to_string().contains("no room"), "{full}");
        let late = queue.put(5).timeout(Duration::from_millis(5)).await;
        assert_eq!(
            late.map_err(|late| (late.item, late.error)),
            Err((5, CallError::timed_out()))
        );
        assert_eq!(state(&queue).await, [1, 0, 2, 0]);
        for item in 1..=3 {
            assert_eq!(queue.get().await.unwrap().done().await, Ok(item));
        }
        for put in puts {
            put.await.unwrap();
        }
        queue.try_put(6).await.unwrap();
        assert_eq!(rest(&queue).await, [6]);
    });
}

#[test]
fn waiting_gets_are_served_in_order_of_arrival() {
    run(async {
        let (_manager, queue) = queue(10).await;
        let mut gets = [(); 3].map(|()| Box::pin(queue.get()));
        begin(&mut gets);
        for item in 1..=3 {
            queue.put(item).await.unwrap();
        }
        for (get, item) in gets.into_iter().zip(1..) {
            assert_eq!(*get.await.unwrap(), item);
        }
        let late = queue.get().timeout(Duration::from_millis(5)).await;
        assert_eq!(*late.unwrap(), 1, "the dropped item returned");
        assert_eq!(rest(&queue).await, [1, 2, 3]);
        let none = queue.get().timeout(Duration::from_millis(5)).await;
        assert_eq!(describe(none), Err(CallError::timed_out()));
    });
}

#[test]
fn dropped_item_goes_back_to_its_place_and_counts_its_attempts() {
    run(async {
        let (_manager, queue) = filled(4).await;
        let [first, second, third] =
            [queue.get(), queue.get(), queue.get()].map(|get| get.map(Result::unwrap));
        let (first, second, third) = (first.await, second.await, third.await);
        drop(second);
        drop(third);
        drop(first);
        for (item, attempts) in [(1, 2), (2, 2), (3, 2), (4, 1)] {
            let taken = queue.get().await.unwrap();
            assert_eq!((*taken, taken.attempts()), (item, attempts));
            assert!(taken.abandoned().is_none(), "no process has died");
            taken.done().await.unwrap();
        }
    });
}

#[test]
fn item_of_a_task_that_panics_is_not_lost() {
    run(async {
        let (_manager, queue) = filled(1).await;
        let task = tokio::spawn({
            let queue = queue.clone();
            async move {
                let item = queue.get().await.unwrap();
                panic!("in the middle of {}", *item);
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        let again = queue.get().await.unwrap();
        assert_eq!((*again, again.attempts()), (1, 2));
    });
}

#[test]
fn join_waits_until_every_item_is_done() {
    run(async {
        let (_manager, queue) = filled(2).await;
        let mut joins = [Box::pin(queue.join())];
        begin(&mut joins);
        let brief = Duration::from_millis(5);
        assert_eq!(
            queue.join().timeout(brief).await,
            Err(CallError::timed_out())
        );
        let first = queue.get().await.unwrap();
        queue.get().await.unwrap().done().await.unwrap();
        assert_eq!(state(&queue).await, [0, 1, 0, 0]);
        begin(&mut joins);
        first.put_back().await.unwrap();
        begin(&mut joins);
        queue.get().await.unwrap().done().await.unwrap();
        let [joined] = joins;
        joined.await.unwrap();
        queue.join().timeout(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn closed_queue_delivers_its_items_and_then_refuses() {
    run(async {
        let (_manager, queue) = queue(1).await;
        queue.put(1).await.unwrap();
        let mut puts = [Box::pin(queue.put(2))];
        begin(&mut puts);
        queue.close().await.unwrap();
        let [put] = puts;
        assert_eq!(put.await, closed(2));
        let late = queue.put(3).await;
        assert!(late.as_ref().is_err_and(|put| put.error.is_closed()));
        assert_eq!(late, closed(3));
        assert_eq!(queue.try_put(4).await, closed(4));
        let first = queue.get().await.unwrap();
        // The item may return, so no waiter is refused.
        assert!(queue.try_get().await.unwrap().is_none());
        let mut gets = [(); 2].map(|()| Box::pin(queue.get()));
        begin(&mut gets);
        let mut joins = [Box::pin(queue.join())];
        begin(&mut joins);
        drop(first);
        let [again, other] = gets;
        again.await.unwrap().done().await.unwrap();
        assert_eq!(describe(other.await), refused(Refusal::Closed));
        assert_eq!(describe(queue.try_get().await), refused(Refusal::Closed));
        let [joined] = joins;
        joined.await.unwrap();
        assert!(queue.status().await.unwrap().is_closed);
    });
}

#[test]
fn get_that_is_dropped_at_any_point_takes_nothing() {
    run_in_turns(async {
        let (_manager, queue) = filled(1).await;
        let mut attempts = 0;
        sweep(async |turns| {
            let taken = for_turns(turns, queue.get()).await;
            let has_taken = taken.is_some();
            if let Some(taken) = taken {
                let taken = taken.unwrap();
                attempts += 1;
                // Deliveries that were dropped on their way do not count as attempts.
                assert_eq!(taken.attempts(), attempts);
                assert_eq!(taken.put_back().await, Ok(()));
            }
            assert_eq!(state(&queue).await, [1, 0, 0, 0], "after {turns} turns");
            has_taken
        })
        .await;
    });
}

#[test]
fn put_that_is_dropped_at_any_point_puts_nothing() {
    run_in_turns(async {
        let (_manager, queue) = queue(1).await;
        sweep(async |turns| {
            let put = for_turns(turns, queue.put(7)).await;
            let expected = if put.is_some() { vec![7] } else { Vec::new() };
            assert_eq!(rest(&queue).await, expected, "after {turns} turns");
            put.is_some()
        })
        .await;
    });
}

#[test]
fn done_that_is_dropped_at_any_point_leaves_the_item_done_or_returned() {
    run_in_turns(async {
        let (_manager, queue) = queue(1).await;
        sweep(async |turns| {
            queue.put(7).await.unwrap();
            let done = for_turns(turns, queue.get().await.unwrap().done()).await;
            let left = rest(&queue).await;
            assert!(left.is_empty() || (done.is_none() && left == [7]));
            assert!(turns > 0 || left == [7]);
            queue.join().await.unwrap();
            done.is_some()
        })
        .await;
    });
}

#[test]
fn capacity_of_zero_is_refused_with_the_allowed_range() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for capacity in [0, 1_000_000_001] {
            let made = manager.queue::<u32>(capacity).await;
            let Err(CallError::Refused(Refusal::Invalid(why), _)) = made else {
                panic!("the capacity was not refused: {made:?}");
            };
            assert!(why.contains("1 to 1000000000 items"), "{why}");
        }
        let status = manager.unbounded_queue::<u32>().await.unwrap();
        assert_eq!(status.status().await.unwrap().capacity, 1_000_000_000);
    });
}

#[test]
fn queue_of_another_type_is_refused_with_both_types_and_nothing_changes() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let jobs = manager.named("jobs");
        let queue = jobs.queue::<u32>(7).await.unwrap();
        queue.put(1).await.unwrap();
        assert_eq!(jobs.queue::<u32>(7).await.unwrap().len().await, Ok(1));
        let both = CallError::refused(Refusal::WrongType {
            is: "u32".to_owned(),
            asked: "String".to_owned(),
        });
        let wrong = jobs.queue::<String>(7).await.map(drop);
        assert_eq!(wrong, Err(both.clone()));
        let wrong = jobs.queue::<u32>(8).await.map(drop);
        let spec = CallError::Fault(Fault::WrongSpec(Box::new(WrongSpec {
            name: "jobs".to_owned(),
            kind: "queue".to_owned(),
            is: r#"{capacity: 7, schema: "u32"}"#.to_owned(),
            asked: r#"{capacity: 8, schema: "u32"}"#.to_owned(),
        })));
        assert_eq!(wrong, Err(spec));
        let unnamed = jobs.schema("").queue::<u32>(7).await.map(drop);
        assert!(unnamed.unwrap_err().to_string().contains("1 to 4096 bytes"));
        // A proxy can be deserialized as another type, and its first use fails.
        let token = serde_json::to_string(&queue).unwrap();
        let wrong: Queue<String> = serde_json::from_str(&token).unwrap();
        let put = wrong.put("one".to_owned()).await.unwrap_err();
        assert_eq!((put.error, put.item.as_str()), (both.clone(), "one"));
        assert_eq!(describe(wrong.get().await), Err(both.clone()));
        assert_eq!(wrong.close().await, Err(both));
        let lock = jobs.lock().await.map(drop);
        assert!(matches!(
            lock,
            Err(CallError::Fault(Fault::WrongKind { .. }))
        ));
        assert_eq!(state(&queue).await, [1, 0, 0, 0]);
        let right: Queue<u32> = serde_json::from_str(&token).unwrap();
        assert_eq!(rest(&right).await, [1]);
    });
}

#[test]
fn item_above_the_limit_of_a_message_is_returned_and_one_below_is_sent() {
    run(async {
        let frame_bytes = 1 << 16;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let queue = manager.queue::<String>(2).await.unwrap();
        let most = frame_bytes - 2048;
        let large = "x".repeat(most);
        let error = queue.put(large.clone()).await.unwrap_err();
        assert_eq!(error.item, large);
        let limit = CallError::Fault(Fault::limit("bytes of an item", most));
        assert_eq!(CallError::from(error), limit);
        let fits = "x".repeat(most - 3);
        queue.put(fits.clone()).await.unwrap();
        assert_eq!(*queue.get().await.unwrap(), fits);
        assert_eq!(queue.get().await.unwrap().done().await, Ok(fits));
        queue.join().await.unwrap();
    });
}

#[test]
fn calls_fail_when_the_queue_or_its_manager_ends() {
    run(async {
        let (manager, queue) = filled(1).await;
        let taken = queue.get().await.unwrap();
        let lost = taken.lost();
        let mut gets = [Box::pin(queue.get())];
        begin(&mut gets);
        let mut joins = [Box::pin(queue.join())];
        begin(&mut joins);
        assert!(taken.is_valid());
        manager.remove(&queue.token().name).await.unwrap();
        lost.await;
        assert!(!taken.is_valid());
        assert_eq!(taken.done().await, Err(CallError::gone()));
        let ([get], [join]) = (gets, joins);
        assert_eq!(describe(get.await), Err(CallError::gone()));
        assert_eq!(join.await, Err(CallError::gone()));
        let put = queue.put(1).await.unwrap_err();
        assert_eq!((put.item, put.error), (1, CallError::gone()));

        let queue = manager.queue::<u32>(1).await.unwrap();
        queue.put(1).await.unwrap();
        let mut puts = [Box::pin(queue.put(2))];
        begin(&mut puts);
        manager.shutdown().await;
        let [put] = puts;
        let PutError { item, error } = put.await.unwrap_err();
        assert!(matches!(error, CallError::Disconnected { .. }) && item == 2);
        let get = describe(queue.get().await);
        assert!(matches!(get, Err(CallError::Disconnected { .. })));
    });
}

#[test]
fn plain_threads_put_take_and_join() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let queue = block_on(manager.queue::<u32>(1)).unwrap();
    let taker = {
        let queue = queue.clone();
        thread::spawn(move || {
            let mut sum = 0;
            loop {
                match queue.get().blocking() {
                    Ok(item) => sum += item.into_inner(),
                    Err(GetError::Call(CallError::Refused(Refusal::Closed, _))) => return sum,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    for item in 1..=50 {
        queue.put(item).blocking().unwrap();
    }
    queue.put(51).timeout(Duration::MAX).blocking().unwrap();
    queue.join().blocking().unwrap();
    queue.join().timeout(Duration::ZERO).blocking().unwrap();
    block_on(queue.close()).unwrap();
    assert_eq!(taker.join().unwrap(), 51 * 52 / 2);
    let error = queue.try_put(1).blocking().unwrap_err();
    assert!(error.error.is_closed());
    let brief = Duration::from_millis(1);
    let outcome = describe(queue.get().timeout(brief).blocking());
    assert_eq!(outcome, refused(Refusal::Closed));
    let outcome = describe(queue.try_get().blocking());
    assert_eq!(outcome, refused(Refusal::Closed));
    block_on(manager.shutdown());
}

#[test]
fn a_thousand_takers_get_each_item_once() {
    run(async {
        let (_manager, queue) = queue(10).await;
        let takers = (0..1000).map(|_| tokio::spawn(queue.get()));
        let takers: Vec<_> = takers.collect();
        until("all takers wait", || async {
            state(&queue).await[3] == 1000
        })
        .await;
        let puts = (0..1000).map(|item| queue.put(item));
        for put in join_all(puts).await {
            put.unwrap();
        }
        let mut items = Vec::new();
        for taker in takers {
            items.push(taker.await.unwrap().unwrap().done().await.unwrap());
        }
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
        queue.join().await.unwrap();
    });
}

/// Moves a number of items from one queue to another.
#[derive(Serialize, Deserialize)]
struct Move {
    from: Queue<u32>,
    to: Queue<(u32, Semaphore)>,
    /// A task may also have other proxies.
    along: Semaphore,
}

impl Task for Move {
    const NAME: &'static str = "carry";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        let mut carried = 0;
        loop {
            match self.from.get().await {
                Ok(item) => {
                    self.to.put((*item, self.along.clone())).await?;
                    item.done().await?;
                    carried += 1;
                }
                Err(GetError::Call(CallError::Refused(Refusal::Closed, _))) => return Ok(carried),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[test]
fn tasks_of_a_pool_take_queues_as_arguments() {
    program();
    run(async {
        let (manager, from) = filled(100).await;
        let to = manager.unbounded_queue().await.unwrap();
        let along = manager.semaphore(0).await.unwrap();
        from.close().await.unwrap();
        let pool = Pool::new(2).await.unwrap();
        let carriers = [(); 2].map(|()| Move {
            from: from.clone(),
            to: to.clone(),
            along: along.clone(),
        });
        let carried = pool.try_map(carriers).await.unwrap();
        let carried = carried.into_iter().map(Result::unwrap);
        assert_eq!(carried.sum::<u32>(), 100);
        let mut items = Vec::new();
        while let Some(item) = to.try_get().await.unwrap() {
            let (item, along) = item.into_inner();
            along.add_permits(1).await.unwrap();
            items.push(item);
        }
        items.sort_unstable();
        assert!(items.into_iter().eq(1..=100));
        assert_eq!(along.status().await.unwrap().available, 100);
        pool.join().await.unwrap();
    });
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Move>()
}
