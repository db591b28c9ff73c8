//! The removal of an object with more entries than one turn drops.

use lockkeeper_actors::{
    Fault, Input, Primitive, Proof, Serve,
    codec::Blob,
    data::{Get, Put, Queue, QueueSpec},
    sync::{
        Access, Acquire, AcquireFor, AcquireKey, AcquireMany, Arrive, Barrier, BarrierSpec,
        Condition, Event, KeyedLock, Latch, LatchSpec, Lock, ReleaseBy, RwLock, Semaphore,
        SemaphoreSpec, Sleep, WaitOpen, WaitSet,
    },
};

use crate::host::shard::{Hosted, Shard, call, id};

/// Several slices, and not a multiple of one.
const MANY: u64 = 5_000;

const FILLS: u64 = 1;
const OTHER: u64 = 2;

/// Removes an object with many entries, and checks that other tasks run meanwhile, that no later call finds it, and that
/// all calls that waited are answered.
async fn is_dropped_in_slices<P, O>(shard: &Shard, object: Hosted<P>, waiting: u64, last: O)
where
    P: Primitive + Serve<O>,
    O: lockkeeper_actors::Operation,
{
    let (fills, other) = (shard.join(FILLS), shard.join(OTHER));
    let call = |seq| call::<P, O>(id(OTHER, seq), &last, None);
    // One call is in the same message, and one in the next.
    object.post_all([Input::Remove, call(1)]);
    object.post_all([call(2)]);
    // The address of the object does not outlast its removal.
    drop(object);
    let mut turns = 0;
    while other.answers(2).is_empty() {
        tokio::task::yield_now().await;
        turns += 1;
        assert!(turns < 1_000, "{}: the calls are never answered", P::KIND);
    }
    assert!(turns >= 4, "{}: dropped in {turns} turns", P::KIND);
    for seq in 1..=2 {
        let observed = other.reply::<O>(id(OTHER, seq)).map(drop);
        assert_eq!(observed, Err(Fault::Gone), "{}", P::KIND);
    }
    let answered = fills.order();
    assert_eq!(answered.len() as u64, waiting, "{}", P::KIND);
    for seq in answered {
        let observed = fills.reply::<O>(id(FILLS, seq)).map(drop);
        assert_eq!(observed, Err(Fault::Gone), "{}", P::KIND);
    }
}

#[actix::test]
async fn holds_of_a_removed_object_are_dropped_in_slices() {
    let shard = Shard::new();
    let keys = shard.host::<KeyedLock>(ReleaseBy::Holder);
    let key = |number: u64| AcquireKey {
        key: format!("key {number}").as_str().into(),
    };
    for seq in 1..=MANY {
        keys.call(FILLS, seq, key(seq)).await;
    }
    is_dropped_in_slices(&shard, keys, 0, key(1)).await;

    for release_by in [ReleaseBy::Holder, ReleaseBy::Anyone] {
        let semaphore = shard.host::<Semaphore>(SemaphoreSpec {
            permits: MANY.into(),
            release_by,
        });
        for seq in 1..=MANY {
            semaphore.call(FILLS, seq, AcquireMany { permits: 1 }).await;
        }
        is_dropped_in_slices(&shard, semaphore, 0, AcquireMany { permits: 1 }).await;

        let readers = shard.host::<RwLock>(release_by);
        let access = Access::Read;
        for seq in 1..=MANY {
            readers.call(FILLS, seq, AcquireFor { access }).await;
        }
        is_dropped_in_slices(&shard, readers, 0, AcquireFor { access }).await;
    }
}

#[actix::test]
async fn items_of_a_removed_queue_are_dropped_in_slices() {
    let shard = Shard::new();
    for taken in [0, MANY] {
        let queue = shard.host::<Queue>(QueueSpec {
            capacity: None,
            schema: "u64".to_owned(),
        });
        for seq in 1..=MANY {
            let item = Blob::from(vec![7]);
            queue.call(FILLS, seq, Put { item }).await;
        }
        for seq in 1..=taken {
            queue.call(FILLS, MANY + seq, Get).await;
        }
        is_dropped_in_slices(&shard, queue, 0, Get).await;
    }
}

/// Makes as many calls wait at an object as take several slices, and removes it.
async fn removed_with_waiters<P, O>(spec: P::Spec, first: Option<O>, operation: impl Fn() -> O)
where
    P: Primitive + Serve<O>,
    O: lockkeeper_actors::Operation,
{
    let shard = Shard::new();
    let object = shard.host::<P>(spec);
    if let Some(first) = first {
        object.call(3, 1, first).await;
    }
    for seq in 1..=MANY {
        object.call(FILLS, seq, operation()).await;
    }
    is_dropped_in_slices(&shard, object, MANY, operation()).await;
}

#[actix::test]
async fn waiting_calls_of_a_removed_object_are_dropped_in_slices() {
    let acquire = || Acquire;
    removed_with_waiters::<Lock, _>(ReleaseBy::Holder, Some(Acquire), acquire).await;
    removed_with_waiters::<Condition, _>(ReleaseBy::Holder, Some(Acquire), acquire).await;
    removed_with_waiters::<Event, _>((), None, || WaitSet { since: None }).await;
    removed_with_waiters::<Latch, _>(LatchSpec { count: 1 }, None, || WaitOpen).await;
    let arrive = || Arrive { acts: false };
    removed_with_waiters::<Barrier, _>(BarrierSpec::from(u32::MAX), None, arrive).await;
    let none = SemaphoreSpec {
        permits: 0.into(),
        release_by: ReleaseBy::Holder,
    };
    removed_with_waiters::<Semaphore, _>(none, None, || AcquireMany { permits: 1 }).await;
    let spec = QueueSpec {
        capacity: None,
        schema: "u64".to_owned(),
    };
    removed_with_waiters::<Queue, _>(spec, None, || Get).await;
}

#[actix::test]
async fn sleepers_of_a_removed_condition_are_dropped_in_slices() {
    // All in one set, and each in a set of its own.
    for sets in [1, MANY] {
        let shard = Shard::new();
        let condition = shard.host::<Condition>(ReleaseBy::Holder);
        for number in 0..MANY {
            let grant = Proof::own(condition.call(FILLS, 2 * number + 1, Acquire).await);
            let set = format!("set {}", number % sets);
            let sleep = Sleep { grant, set };
            condition.call(FILLS, 2 * number + 2, sleep).await;
        }
        is_dropped_in_slices(&shard, condition, MANY, Acquire).await;
    }
}
