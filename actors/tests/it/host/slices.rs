//! The end of a session with more holds or waiting calls at one object than one turn ends.

use std::sync::Arc;

use lockkeeper_actors::{
    Bench, BreakReason, CallId, Input, Primitive, Proof, Refusal, Serve, SessionId, codec,
    data::{Chunk, Get, Next, Put, Queue, QueueSpec, Submit, TaskQueue},
    sync::{
        Access, Acquire, AcquireFor, AcquireKey, AcquireKeyMany, AcquireMany, Arrive, Barrier,
        BarrierSpec, Condition, CountSleepers, Event, GetEventStatus, GetKeyedStatus,
        GetRwLockStatus, KeyedLock, KeyedSemaphore, ReleaseBy, RwLock, Semaphore, SemaphoreSpec,
        Sleep, WaitSet,
    },
};

use crate::host::shard::{Hosted, Shard, call, id, peer};

/// More than a slice, and not a multiple of one.
const MANY: u64 = 5_000;

/// The session that ends, and another one.
const ENDS: u64 = 1;
const OTHER: u64 = 2;

fn key(number: u64) -> AcquireKey {
    let key = format!("key {number}").as_str().into();
    AcquireKey { key }
}

fn permits(permits: u64) -> SemaphoreSpec {
    SemaphoreSpec {
        permits: permits.into(),
        release_by: ReleaseBy::Holder,
    }
}

/// Makes the session that ends hold all keys, and the other one wait for the last.
async fn hold_all(keys: &Hosted<KeyedLock>) {
    for seq in 1..=MANY {
        keys.call(ENDS, seq, key(seq)).await;
    }
    keys.call(OTHER, 1, key(MANY)).await;
}

#[actix::test]
async fn other_tasks_run_between_slices_and_calls_find_nothing_of_the_session() {
    let shard = Shard::new();
    let (_ends, other) = (shard.join(ENDS), shard.join(OTHER));
    let keys = shard.host::<KeyedLock>(ReleaseBy::Holder);
    hold_all(&keys).await;
    let hang_up = Input::HangUp(SessionId::new(ENDS), Arc::new(peer(ENDS)));
    let count = |seq| call::<KeyedLock, _>(id(OTHER, seq), &GetKeyedStatus, None);
    // One call is in the same message, and one in the next.
    keys.post_all([hang_up, count(2), count(3)]);
    keys.post_all([count(4)]);
    let mut turns = 0;
    while other.answers(4).is_empty() {
        tokio::task::yield_now().await;
        turns += 1;
        assert!(turns < 1_000, "the calls are never served");
    }
    assert!(turns >= 4, "{turns} turns for {MANY} keys");
    assert_eq!(other.order(), [1, 2, 3, 4]);
    for seq in 2..=4 {
        let count = other
            .reply::<GetKeyedStatus>(id(OTHER, seq))
            .expect("a reply");
        let observed = (count.keys, count.grants, count.waiting, count.abandoned);
        assert_eq!(observed, (1, 1, 0, MANY - 1));
    }
}

#[actix::test]
async fn object_that_is_removed_meanwhile_answers_its_callers() {
    let shard = Shard::new();
    let (_ends, other) = (shard.join(ENDS), shard.join(OTHER));
    let keys = shard.host::<KeyedLock>(ReleaseBy::Holder);
    hold_all(&keys).await;
    keys.call(OTHER, 2, key(MANY)).await;
    let hang_up = Input::HangUp(SessionId::new(ENDS), Arc::new(peer(ENDS)));
    keys.post_all([hang_up, Input::Remove]);
    // The last address is dropped before the session's holds have ended.
    drop(keys);
    other.until_answered(2).await;
    assert!(other.reply::<AcquireKey>(id(OTHER, 1)).is_ok());
    assert!(other.reply::<AcquireKey>(id(OTHER, 2)).is_err());
}

/// Ends the session, and checks which calls of the other one were granted.
fn end<P: Primitive>(bench: &mut Bench<P>, theirs: &[CallId], others: &[CallId]) {
    assert!(others.iter().all(|id| !bench.is_answered(*id)));
    bench.hang_up(ENDS);
    let answered = |id: &&CallId| bench.is_answered(**id);
    assert_eq!(theirs.iter().filter(answered).count(), 0);
    assert_eq!(others.iter().filter(answered).count(), others.len());
}

#[test]
fn waiting_keys_are_never_the_sessions_own() {
    let mut bench = Bench::<KeyedSemaphore>::new(permits(2)).unwrap();
    let mut acquire = |session, number: u64, permits| {
        let key = format!("key {number}").as_str().into();
        bench.call(session, AcquireKeyMany { key, permits })
    };
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for number in 0..MANY {
        // The session and another one hold half of each key. The waiting calls need the whole key.
        acquire(ENDS, number, 1);
        acquire(3, number, 1);
        theirs.push(acquire(ENDS, number, 2));
        theirs.push(acquire(ENDS, number, 1));
        others.push(acquire(OTHER, number, 1));
    }
    end(&mut bench, &theirs, &others);
    let count = bench.call(9, GetKeyedStatus);
    let count = bench.reply::<GetKeyedStatus>(count).unwrap().unwrap();
    assert_eq!((count.grants, count.waiting), (2 * MANY, 0));
    for other in others {
        let granted = bench.reply::<AcquireKeyMany>(other).unwrap().unwrap();
        assert!(granted.unwrap().abandoned.is_some());
    }
}

#[test]
fn permits_go_to_the_next_waiter_once_all_are_released() {
    let mut bench = Bench::<Semaphore>::new(permits(MANY)).unwrap();
    for _ in 0..MANY {
        bench.call(ENDS, AcquireMany { permits: 1 });
    }
    let theirs: Vec<CallId> = (0..MANY)
        .map(|_| bench.call(ENDS, AcquireMany { permits: 1 }))
        .collect();
    let all = AcquireMany {
        permits: MANY.into(),
    };
    let other = bench.call(OTHER, all);
    end(&mut bench, &theirs, &[other]);
    let granted = bench.reply::<AcquireMany>(other).unwrap().unwrap();
    // The mark names the last grant of the session.
    let abandoned = granted.unwrap().abandoned.expect("a mark");
    assert_eq!(abandoned.fence.number(), MANY);
}

#[test]
fn readers_leave_before_a_writer_enters() {
    let mut bench = Bench::<RwLock>::new(ReleaseBy::Holder).unwrap();
    let enter = |access| AcquireFor { access };
    for _ in 0..MANY {
        bench.call(ENDS, enter(Access::Read));
    }
    let theirs: Vec<CallId> = (0..MANY)
        .map(|_| bench.call(ENDS, enter(Access::Write)))
        .collect();
    let other = bench.call(OTHER, enter(Access::Write));
    end(&mut bench, &theirs, &[other]);
    let status = bench.call(9, GetRwLockStatus);
    let status = bench.reply::<GetRwLockStatus>(status).unwrap().unwrap();
    assert_eq!(
        (status.readers, status.has_writer, status.waiting),
        (0, true, 0)
    );
}

fn item(number: u64) -> codec::Blob {
    codec::Blob::from(number.to_be_bytes().to_vec())
}

#[test]
fn items_come_back_to_their_places() {
    let mut bench = Bench::<Queue>::new(QueueSpec {
        capacity: None,
        schema: "u64".to_owned(),
    })
    .unwrap();
    for number in 0..MANY + 1 {
        let item = item(number);
        bench.call(OTHER, Put { item });
    }
    let taken: Vec<CallId> = (0..MANY).map(|_| bench.call(ENDS, Get)).collect();
    assert!(taken.iter().all(|id| bench.is_answered(*id)));
    bench.hang_up(ENDS);
    for number in 0..MANY + 1 {
        let got = bench.call(OTHER, Get);
        let got = bench.reply::<Get>(got).unwrap().unwrap().unwrap();
        assert_eq!(got.item, item(number));
        assert_eq!(got.abandoned.is_some(), number < MANY);
    }
}

#[test]
fn tasks_of_a_worker_return_in_order_and_only_the_first_fails() {
    let mut bench = Bench::<TaskQueue>::new(()).unwrap();
    let tasks: Vec<CallId> = (0..MANY)
        .map(|number| {
            let chunk = Chunk {
                task: "double".to_owned(),
                arguments: item(number),
            };
            bench.call(
                OTHER,
                Submit {
                    chunk,
                    rule: None,
                    series: None,
                },
            )
        })
        .collect();
    let next = |bench: &mut Bench<TaskQueue>, session| {
        let finished = None;
        let next = bench.call(session, Next { finished, most: 1 });
        let jobs = bench.reply::<Next>(next).unwrap().unwrap().unwrap();
        jobs.into_iter().map(|job| CallId::from(job.id)).next()
    };
    for task in &tasks {
        assert_eq!(next(&mut bench, ENDS), Some(*task));
    }
    bench.hang_up(ENDS);
    let failed = bench.reply::<Submit>(tasks[0]).unwrap().unwrap();
    assert!(failed.is_err());
    for task in &tasks[1..] {
        assert!(!bench.is_answered(*task));
        assert_eq!(next(&mut bench, OTHER), Some(*task));
    }
}

/// Checks that no call of a session is counted any more.
fn all_leave<P, O>(bench: &mut Bench<P>, count: O) -> O::Reply
where
    P: Serve<O>,
    O: lockkeeper_actors::Operation,
{
    bench.hang_up(ENDS);
    let count = bench.call(9, count);
    bench.reply::<O>(count).expect("a reply").expect("no fault")
}

#[test]
fn waiting_calls_leave_all_other_kinds() {
    let mut event = Bench::<Event>::new(()).unwrap();
    let mut condition = Bench::<Condition>::new(ReleaseBy::Holder).unwrap();
    let mut barrier = Bench::<Barrier>::new(BarrierSpec::from(u32::MAX)).unwrap();
    let survivor = barrier.call(OTHER, Arrive { acts: false });
    for _ in 0..MANY {
        event.call(ENDS, WaitSet { since: None });
        let grant = Proof::own(condition.call(ENDS, Acquire));
        let set = String::new();
        condition.call(ENDS, Sleep { grant, set });
        barrier.call(ENDS, Arrive { acts: false });
    }
    let holder = condition.call(OTHER, Acquire);
    for _ in 0..MANY {
        condition.call(ENDS, Acquire);
    }
    assert!(condition.is_answered(holder));
    assert_eq!(all_leave(&mut event, GetEventStatus).waiting, 0);
    let set = String::new();
    assert_eq!(all_leave(&mut condition, CountSleepers { set }), Ok(0));
    let survey = condition.primitive().expect("the object exists").survey();
    assert_eq!(survey.parts[0].waiters.len(), 0);
    barrier.hang_up(ENDS);
    let observed = barrier.reply::<Arrive>(survivor).unwrap().unwrap();
    let Err(Refusal::Broken(BreakReason::Died(_))) = observed else {
        panic!("{observed:?}");
    };
}
