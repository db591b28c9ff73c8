//! Queues whose takers and senders are killed.

use std::future::pending;

use futures::{FutureExt, future::join_all};
use lockkeeper::{Manager, Queue};
use lockkeeper_test_support::{Role, Roles, report, until};

use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "queue::deaths::taker",
        |(queue, items): (Queue<u32>, usize)| async move {
            // Connects first, because thousands of concurrent first uses would each try to connect.
            queue.status().await.unwrap();
            let gets = (0..items).map(|_| queue.get());
            let taken = join_all(gets).await;
            let failed = taken.iter().find(|taken| taken.is_err());
            assert!(failed.is_none(), "{failed:?}");
            report("has them");
            pending::<()>().await;
        },
    );
    roles.add(
        "queue::deaths::putter",
        |(queue, item): (Queue<u32>, u32)| async move {
            queue.put(item).await.unwrap();
            report("has put");
            pending::<()>().await;
        },
    );
    roles.add("queue::deaths::finisher", |queue: Queue<u32>| async move {
        let item = queue.get().await.unwrap();
        report(&item.done().await.unwrap().to_string());
        pending::<()>().await;
    });
    roles.add(
        "queue::deaths::quick_finisher",
        |queue: Queue<u32>| async move {
            report(&queue.get().await.unwrap().into_inner().to_string());
        },
    );
}

/// A bounded queue of the numbers from 1.
async fn filled(items: u32) -> (Manager, Queue<u32>) {
    let manager = Manager::start().await.unwrap();
    let queue = manager.queue(items.max(1)).await.unwrap();
    for put in join_all((1..=items).map(|item| queue.put(item))).await {
        put.unwrap();
    }
    (manager, queue)
}

/// Waits until the queue has the expected numbers of waiting and taken items, and of waiting puts
/// and gets.
async fn until_state(queue: &Queue<u32>, expected: [u64; 4]) {
    until("the queue has the expected state", || async {
        let status = queue.status().await.unwrap();
        [status.len, status.taken, status.putting, status.getting] == expected
    })
    .await;
}

#[test]
fn items_of_a_killed_taker_go_to_the_next_takers_in_order() {
    run(async {
        let (_manager, queue) = filled(4).await;
        let mut doomed = Role::start("queue::deaths::taker", &(&queue, 3));
        assert_eq!(doomed.next_report(), "has them");
        let own = queue.get().await.unwrap();
        let mut next = Box::pin(queue.get());
        assert!((&mut next).now_or_never().is_none());
        until_state(&queue, [0, 4, 0, 1]).await;
        doomed.kill();
        let first = next.await.unwrap();
        assert_eq!((*first, first.attempts()), (1, 2));
        let fence = first.fence();
        let marked = first.strict().unwrap_err();
        let mark = &marked.abandoned;
        assert!(mark.holder.pid == doomed.pid() && mark.fence < fence);
        // The fourth item, which was put later, returns to its place after the two others.
        drop(own);
        let mut items = vec![marked.guard.done().await.unwrap()];
        for _ in 0..3 {
            items.push(queue.get().await.unwrap().done().await.unwrap());
        }
        assert_eq!(items, [1, 2, 3, 4]);
        queue.join().await.unwrap();
    });
}

#[test]
fn items_that_were_done_stay_so_when_their_taker_is_killed() {
    run(async {
        let (_manager, queue) = filled(2).await;
        for role in ["queue::deaths::finisher", "queue::deaths::quick_finisher"] {
            let mut finisher = Role::start(role, &queue);
            finisher.next_report();
            if role == "queue::deaths::finisher" {
                finisher.kill();
            } else {
                // The taker has reported the items as done with one-way calls, and has ended.
                until_state(&queue, [0, 0, 0, 0]).await;
            }
        }
        queue.join().await.unwrap();
        assert!(queue.try_get().await.unwrap().is_none());
    });
}

#[test]
fn item_outlives_its_sender_and_a_waiting_put_ends_with_it() {
    run(async {
        let (_manager, queue) = filled(0).await;
        let mut putter = Role::start("queue::deaths::putter", &(&queue, 1));
        assert_eq!(putter.next_report(), "has put");
        let mut waiting = Role::start("queue::deaths::putter", &(&queue, 2));
        until_state(&queue, [1, 0, 1, 0]).await;
        putter.kill();
        waiting.kill();
        until_state(&queue, [1, 0, 0, 0]).await;
        assert_eq!(queue.get().await.unwrap().done().await, Ok(1));
        assert!(queue.try_get().await.unwrap().is_none());
    });
}

#[test]
fn dead_taker_gets_no_item() {
    run(async {
        let (_manager, queue) = filled(0).await;
        let mut doomed = Role::start("queue::deaths::taker", &(&queue, 1));
        until_state(&queue, [0, 0, 0, 1]).await;
        let mut next = Box::pin(queue.get());
        assert!((&mut next).now_or_never().is_none());
        doomed.kill();
        until_state(&queue, [0, 0, 0, 1]).await;
        queue.put(7).await.unwrap();
        let item = next.await.unwrap();
        assert_eq!((*item, item.attempts()), (7, 1));
    });
}

#[test]
fn ten_thousand_items_of_a_killed_taker_return_in_order() {
    run(async {
        const ITEMS: u32 = 10_000;
        let (_manager, queue) = filled(ITEMS).await;
        let mut doomed = Role::start("queue::deaths::taker", &(&queue, ITEMS));
        assert_eq!(doomed.next_report(), "has them");
        let mut joined = Box::pin(queue.join());
        assert!((&mut joined).now_or_never().is_none());
        doomed.kill();
        for item in 1..=ITEMS {
            let taken = queue.get().await.unwrap();
            assert_eq!((*taken, taken.attempts()), (item, 2));
            taken.into_inner();
        }
        joined.await.unwrap();
    });
}
