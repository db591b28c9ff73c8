//! Above the limit of stored bytes, calls that would store more fail and change nothing. All other calls
//! succeed, and freed bytes can be used again.

use lockkeeper_actors::{
    Bench, CallId, Fault, JobId, Operation, Primitive, Proof, Serve, SessionId,
    codec::Blob,
    data::{
        Chunk, Collect, Done, Feed, Finished, Get, GetQueueStatus, JobOutcome, Join, Next, Put,
        Queue, QueueSpec, Read, Row, Store, Submit, TaskQueue, Value, ValueSpec,
    },
    sync::{
        Acquire, AcquireAs, AcquireKey, Arrive, Barrier, BarrierSpec, Condition, Event,
        ForceUnlock, GetBarrierStatus, GetKeyedStatus, GetLockStatus, KeyedLock, Lock, Notify,
        OnDeath, ReentrantLock, Release, ReleaseBy, Sleep, WaitSet,
    },
};

/// The bytes that a waiting call and a hold count.
const CALL: usize = 256;

fn limit(most: usize) -> Fault {
    Fault::Limit {
        what: "bytes of stored data".to_owned(),
        most: most.try_into().unwrap(),
    }
}

fn ask<P: Serve<O>, O: Operation>(bench: &mut Bench<P>, operation: O) -> Result<O::Reply, Fault> {
    let id = bench.call(9, operation);
    bench.reply::<O>(id).expect("the call is answered")
}

/// Makes calls until the limit refuses one, and returns the accepted ones.
fn fill<P: Primitive + Serve<O>, O: Operation>(
    bench: &mut Bench<P>,
    most: usize,
    mut operation: impl FnMut(usize) -> O,
) -> Vec<CallId> {
    let mut made = Vec::new();
    loop {
        let id = bench.call(1, operation(made.len()));
        match bench.reply::<O>(id) {
            Some(Err(fault)) => {
                assert_eq!(fault, limit(most));
                return made;
            }
            Some(Ok(_)) | None => made.push(id),
        }
        assert!(made.len() < 1_000, "no call is refused");
    }
}

#[test]
fn items_beyond_the_limit_are_refused_until_others_are_done() {
    // An eighth of the limit is reserved for calls and holds.
    let most = 10 * (CALL + 1000) * 8 / 7 + 100;
    let spec = QueueSpec {
        capacity: None,
        schema: "bytes".to_owned(),
    };
    let mut bench = Bench::<Queue>::within(spec, most).unwrap();
    let put = |_| Put {
        item: Blob::from(vec![7; 1000]),
    };
    assert_eq!(fill(&mut bench, most, put).len(), 10);
    assert_eq!(ask(&mut bench, GetQueueStatus).unwrap().len, 10);
    // Taking an item always succeeds. It counts until it is done.
    let delivery = bench.call(2, Get);
    assert!(matches!(bench.reply::<Get>(delivery), Some(Ok(Ok(_)))));
    assert!(fill(&mut bench, most, put).is_empty());
    let delivery = Proof::own(delivery);
    let done = bench.call(2, Done { delivery });
    assert_eq!(bench.reply::<Done>(done), Some(Ok(Ok(()))));
    assert_eq!(fill(&mut bench, most, put).len(), 1);
    bench.hang_up(2);
    assert_eq!(ask(&mut bench, GetQueueStatus).unwrap().len, 10);
}

#[test]
fn puts_that_wait_for_room_in_their_queue_count_too() {
    let most = 20 * (CALL + 1000);
    let spec = QueueSpec {
        capacity: Some(1),
        schema: "bytes".to_owned(),
    };
    let mut bench = Bench::<Queue>::within(spec, most).unwrap();
    let put = |_| Put {
        item: Blob::from(vec![7; 1000]),
    };
    let puts = fill(&mut bench, most, put);
    assert!((15..20).contains(&puts.len()), "{}", puts.len());
    let status = ask(&mut bench, GetQueueStatus).unwrap();
    assert_eq!((status.len, status.putting), (1, puts.len() as u64 - 1));
}

#[test]
fn value_beyond_the_limit_is_refused_and_one_that_is_no_larger_never() {
    let most = 10_000;
    let spec = ValueSpec {
        value: Blob::from(vec![1]),
        schema: "bytes".to_owned(),
    };
    let mut bench = Bench::<Value>::within(spec, most).unwrap();
    let store = |bytes: usize| Store {
        value: Blob::from(vec![7; bytes]),
    };
    assert_eq!(ask(&mut bench, store(8_000)), Ok(1));
    assert_eq!(ask(&mut bench, store(11_000)), Err(limit(most)));
    let now = ask(&mut bench, Read).unwrap();
    assert_eq!((now.version, now.value.0.len()), (1, 8_000));
    assert_eq!(ask(&mut bench, store(8_000)), Ok(2));
    assert_eq!(ask(&mut bench, store(10)), Ok(3));
}

#[test]
fn grants_and_waiting_calls_beyond_the_limit_are_refused_and_nothing_is_held() {
    let most = 20 * CALL;
    let mut bench = Bench::<KeyedLock>::within(ReleaseBy::Holder, most).unwrap();
    let key = |number: usize| AcquireKey {
        key: format!("key {number}").as_str().into(),
    };
    // A session has at most as many as are left for the others.
    let held = fill(&mut bench, most, key);
    assert_eq!(held.len(), 10);
    // Waiting calls take what the others have left, until that is less than the session's own.
    let waiting = fill(&mut bench, most, |_| key(0));
    assert!(waiting.len() < 3, "{}", waiting.len());
    // A call that only reads counts while it is served.
    assert_eq!(ask(&mut bench, GetKeyedStatus).unwrap().keys, 10);
    bench.hang_up(1);
    let held = fill(&mut bench, most, key);
    assert_eq!(held.len(), 10);
}

#[test]
fn nested_entries_of_a_reentrant_lock_are_holds_that_the_limit_refuses() {
    let most = 20 * CALL;
    let mut bench = Bench::<ReentrantLock>::within(ReleaseBy::Holder, most).unwrap();
    let enter = |_| AcquireAs { owner: 1 };
    let mut entries = fill(&mut bench, most, enter);
    // A session has at most as many as are left for the others.
    assert_eq!(entries.len(), 10);
    assert_eq!(ask(&mut bench, GetLockStatus).unwrap().depth, 10);
    // The first entry is released too, whose place another one takes.
    for released in [5, 0] {
        let grant = Proof::own(entries.remove(released));
        let id = bench.call(1, Release { grant });
        assert_eq!(bench.reply::<Release>(id), Some(Ok(Ok(()))));
        let again = fill(&mut bench, most, enter);
        assert_eq!(again.len(), 1);
        entries.extend(again);
    }
    assert!(ask(&mut bench, ForceUnlock).unwrap());
    assert_eq!(fill(&mut bench, most, enter).len(), 10);
    bench.hang_up(1);
    assert_eq!(fill(&mut bench, most, enter).len(), 10);
}

/// Sleeps in wait sets with these names until the limit refuses a call, and returns how many sleep.
fn fill_with_sleepers(
    bench: &mut Bench<Condition>,
    most: usize,
    name: impl Fn(usize) -> String,
) -> usize {
    for asleep in 0..1_000 {
        let acquired = bench.call(1, Acquire);
        if let Err(fault) = bench.reply::<Acquire>(acquired).expect("it is free") {
            assert_eq!(fault, limit(most));
            return asleep;
        }
        let sleep = Sleep {
            grant: Proof::own(acquired),
            set: name(asleep),
        };
        let slept = bench.call(1, sleep);
        if let Some(answer) = bench.reply::<Sleep>(slept) {
            assert_eq!(answer, Err(limit(most)));
            return asleep;
        }
    }
    panic!("no call is refused")
}

#[test]
fn names_of_wait_sets_count_while_calls_sleep_there() {
    let most = 40 * CALL;
    let mut bench = Bench::<Condition>::within(ReleaseBy::Holder, most).unwrap();
    let in_one = fill_with_sleepers(&mut bench, most, |_| String::new());
    for _ in 0..2 {
        bench.hang_up(1);
        let in_many = fill_with_sleepers(&mut bench, most, |set| format!("{set:0>255}"));
        assert!(
            (3..=in_one * 3 / 4).contains(&in_many),
            "{in_many} and {in_one}"
        );
    }
    bench.hang_up(1);
    let again = fill_with_sleepers(&mut bench, most, |_| String::new());
    assert_eq!(again, in_one);
}

/// Fills a queue with items, and returns how many there are.
fn full_of_items(most: usize) -> Bench<Queue> {
    let spec = QueueSpec {
        capacity: None,
        schema: "bytes".to_owned(),
    };
    let mut bench = Bench::<Queue>::within(spec, most).unwrap();
    let put = |_| Put {
        item: Blob::from(vec![7; 1000]),
    };
    fill(&mut bench, most, put);
    bench
}

#[test]
fn items_leave_an_eighth_of_the_limit_for_waiting_calls_and_taken_items() {
    let most = 100 * (CALL + 1000);
    let share = most / 8 / CALL;
    // Joins wait while there are items.
    let mut bench = full_of_items(most);
    let waiting = fill(&mut bench, most, |_| Join);
    assert!(
        (share..share + 6).contains(&waiting.len()),
        "{}",
        waiting.len()
    );
    // A taken item counts as a hold.
    let mut bench = full_of_items(most);
    let items = ask(&mut bench, GetQueueStatus).unwrap().len;
    for _ in 0..items {
        let taken = bench.call(2, Get);
        assert!(matches!(bench.reply::<Get>(taken), Some(Ok(Ok(_)))));
    }
}

#[test]
fn lock_at_the_limit_of_waiters_still_serves_them() {
    let most = 20 * CALL;
    let mut bench = Bench::<Lock>::within(ReleaseBy::Holder, most).unwrap();
    let calls = fill(&mut bench, most, |_| Acquire);
    assert_eq!(calls.len(), 20);
    for (grant, next) in calls.iter().zip(&calls[1..]) {
        assert!(!bench.is_answered(*next));
        bench.call(
            1,
            Release {
                grant: Proof::own(*grant),
            },
        );
        assert!(bench.is_answered(*next));
    }
    assert_eq!(ask(&mut bench, GetLockStatus).unwrap().waiting, 0);
}

#[test]
fn holder_of_a_condition_may_sleep_and_is_woken_although_the_limit_is_reached() {
    let most = 20 * CALL;
    let mut bench = Bench::<Condition>::within(ReleaseBy::Holder, most).unwrap();
    let calls = fill(&mut bench, most, |_| Acquire);
    let sleep = bench.call(
        1,
        Sleep {
            grant: Proof::own(calls[0]),
            set: String::new(),
        },
    );
    assert!(bench.is_answered(calls[1]) && !bench.is_answered(sleep));
    let wake = Notify {
        grant: Proof::own(calls[1]),
        set: String::new(),
        most: None,
    };
    let wake = bench.call(1, wake);
    assert_eq!(bench.reply::<Notify>(wake), Some(Ok(Ok(1))));
    for grant in &calls[1..] {
        assert!(!bench.is_answered(sleep));
        bench.call(
            1,
            Release {
                grant: Proof::own(*grant),
            },
        );
    }
    assert!(bench.is_answered(sleep));
}

#[test]
fn arrival_beyond_the_limit_does_not_count() {
    let most = 20 * CALL;
    let spec = BarrierSpec {
        parties: 50,
        on_death: OnDeath::Break,
    };
    let mut bench = Bench::<Barrier>::within(spec, most).unwrap();
    let arrived = fill(&mut bench, most, |_| Arrive { acts: false });
    let counted = ask(&mut bench, GetBarrierStatus).unwrap();
    assert_eq!(counted.arrived, arrived.len() as u64);
    let mut bench = Bench::<Event>::within((), most).unwrap();
    let waiting = fill(&mut bench, most, |_| WaitSet { since: None });
    assert_eq!(waiting.len(), 20);
}

#[test]
fn outcomes_of_tasks_are_reported_although_the_limit_is_reached() {
    let most = 100_000;
    let mut bench = Bench::<TaskQueue>::within((), most).unwrap();
    let submit = |_| Submit {
        chunk: Chunk {
            task: "double".to_owned(),
            arguments: Blob::from(vec![7; 10_000]),
        },
        rule: None,
        series: None,
    };
    let feed = |series, first, bytes: u32| Feed {
        series,
        first,
        task: "double".to_owned(),
        row: Row::new(vec![7; 2 * bytes as usize].into(), vec![bytes; 2]),
        rule: None,
    };
    bench.call(5, feed(1_000, 2_000, 1));
    let submitted = fill(&mut bench, most, submit);
    assert!((8..10).contains(&submitted.len()), "{}", submitted.len());
    bench.call(5, feed(1_001, 3_000, 10_000));
    let collected = bench.call(5, Collect { series: 1_001 });
    assert_eq!(
        bench
            .reply::<Collect>(collected)
            .map(|observed| observed.map(drop)),
        Some(Err(limit(most)))
    );
    // A worker takes all tasks, and its outcomes are far above the limit.
    let next = Next {
        finished: None,
        most: 99,
    };
    bench.call(7, next);
    for number in 0..2 {
        let job = JobId::of_series(SessionId::new(5), number);
        let outcome = JobOutcome::Done(Blob::from(vec![7; most]));
        bench.call(7, Finished { job, outcome });
    }
    for job in &submitted {
        let outcome = JobOutcome::Done(Blob::from(vec![7; 10]));
        bench.call(
            7,
            Finished {
                job: (*job).into(),
                outcome,
            },
        );
        assert!(matches!(bench.reply::<Submit>(*job), Some(Ok(Ok(_)))));
    }
    let collected = bench.call(5, Collect { series: 1_000 });
    let observed = bench.reply::<Collect>(collected).expect("answered");
    assert_eq!(observed.expect("no fault").len(), 2);
    assert!(!fill(&mut bench, most, submit).is_empty());
}
