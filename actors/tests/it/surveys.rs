//! The survey of each kind: its holders and its waiters, in order.

use crate::schedule::proof;
use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Primitive, Proof, Survey,
    codec::Blob,
    data::{Chunk, Next, Submit, TaskQueue},
    sync::{
        Acquire, AcquireAs, AcquireKey, AcquireMany, AddPermits, Arrive, Barrier, BarrierSpec,
        Close, Condition, Event, Forget, KeyedLock, Lock, Notify, ReentrantLock, ReleaseBy,
        Semaphore, SemaphoreSpec, Set, Sleep, WaitSet,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn survey<P: Primitive>(bench: &Bench<P>) -> Survey {
    bench.primitive().expect("the object exists").survey()
}

/// Returns the holders of a part: the call, the units and the mode.
fn holders(survey: &Survey, part: usize) -> Vec<(CallId, u64, &'static str)> {
    let holders = survey.parts[part].holders.iter();
    holders
        .map(|holder| (holder.call, holder.units, holder.mode))
        .collect()
}

/// Returns the waiters of a part: the call, the units and the mode.
fn waiters(survey: &Survey, part: usize) -> Vec<(CallId, u64, &'static str)> {
    let waiters = survey.parts[part].waiters.iter();
    waiters
        .map(|waiter| (waiter.call, waiter.units, waiter.mode))
        .collect()
}

#[test]
fn lock_lists_its_holder_and_its_waiters_in_order_with_times() {
    let mut bench = Bench::<Lock>::new(ReleaseBy::Holder).unwrap();
    assert_eq!(survey(&bench).state, "free");
    bench.advance(SECOND);
    let first = bench.call(1, Acquire);
    bench.advance(SECOND);
    let [second, third] = [3, 2].map(|session| bench.call(session, Acquire));
    bench.advance(SECOND);
    let observed = survey(&bench);
    assert_eq!(observed.state, "held");
    assert_eq!(observed.parts[0].units, Some(1));
    assert_eq!(holders(&observed, 0), [(first, 1, "")]);
    assert_eq!(waiters(&observed, 0), [(second, 1, ""), (third, 1, "")]);
    assert_eq!(observed.parts[0].holders[0].since, SECOND);
    assert_eq!(observed.parts[0].waiters[0].since, 2 * SECOND);
    let fence = bench.reply::<Acquire>(first).unwrap().unwrap().unwrap();
    assert_eq!(observed.parts[0].holders[0].fence, Some(fence.fence));
    bench.hang_up(1);
    let observed = survey(&bench);
    assert_eq!(observed.state, "held, abandoned");
    assert_eq!(holders(&observed, 0), [(second, 1, "")]);
    assert_eq!(observed.parts[0].holders[0].since, 3 * SECOND);
}

#[test]
fn reentrant_lock_lists_each_entry_and_only_the_first_has_the_lock() {
    let mut bench = Bench::<ReentrantLock>::new(ReleaseBy::Holder).unwrap();
    let owner = 7;
    let [first, again] = [(); 2].map(|()| bench.call(1, AcquireAs { owner }));
    let other = bench.call(2, AcquireAs { owner });
    let observed = survey(&bench);
    assert_eq!(observed.state, "held, entered 2 times");
    assert_eq!(holders(&observed, 0), [(first, 1, ""), (again, 0, "again")]);
    assert_eq!(waiters(&observed, 0), [(other, 1, "")]);
}

#[test]
fn condition_lists_its_lock_and_each_wait_set() {
    let mut bench = Bench::<Condition>::new(ReleaseBy::Holder).unwrap();
    let mut sleep = |session, set: &str| {
        let grant = bench.call(session, Acquire);
        let set = set.to_owned();
        bench.call(
            session,
            Sleep {
                grant: proof(session, grant),
                set,
            },
        )
    };
    let [empty, full, later] = [(1, "empty"), (2, "full"), (3, "empty")].map(|(n, s)| sleep(n, s));
    let holder = bench.call(4, Acquire);
    let waiter = bench.call(5, Acquire);
    let observed = survey(&bench);
    assert_eq!(holders(&observed, 0), [(holder, 1, "")]);
    assert_eq!(waiters(&observed, 0), [(waiter, 1, "")]);
    let parts = observed
        .parts
        .iter()
        .map(|part| (part.key.as_deref(), part.units));
    let sets = [(None, Some(1)), (Some("empty"), None), (Some("full"), None)];
    assert_eq!(Vec::from_iter(parts), sets);
    let asleep = [(empty, 1, "notification"), (later, 1, "notification")];
    assert_eq!(waiters(&observed, 1), asleep);
    assert_eq!(waiters(&observed, 2), [(full, 1, "notification")]);
    let (set, most) = ("full".to_owned(), Some(1));
    bench.call(
        4,
        Notify {
            grant: Proof::own(holder),
            set,
            most,
        },
    );
    let observed = survey(&bench);
    assert_eq!(waiters(&observed, 0), [(waiter, 1, ""), (full, 1, "")]);
    assert_eq!(observed.parts.len(), 2, "the other set has no sleeper");
}

#[test]
fn semaphore_lists_the_permits_of_each_holder_and_waiter() {
    let mut bench = Bench::<Semaphore>::new(SemaphoreSpec {
        permits: 4,
        release_by: ReleaseBy::Holder,
    })
    .unwrap();
    let [many, one] = [2, 1].map(|permits| bench.call(1, AcquireMany { permits }));
    let waiting = bench.call(2, AcquireMany { permits: 3 });
    let observed = survey(&bench);
    assert_eq!(observed.state, "1 of 4 permits free");
    assert_eq!(observed.parts[0].units, Some(4));
    assert_eq!(holders(&observed, 0), [(many, 2, ""), (one, 1, "")]);
    assert_eq!(waiters(&observed, 0), [(waiting, 3, "")]);
    bench.call(2, Close);
    assert_eq!(survey(&bench).state, "1 of 4 permits free, closed");
}

#[test]
fn semaphore_with_added_or_split_permits_lists_no_units() {
    let full = SemaphoreSpec {
        permits: 2,
        release_by: ReleaseBy::Holder,
    };
    let mut bench = Bench::<Semaphore>::new(full).unwrap();
    let grant = bench.call(1, AcquireMany { permits: 2 });
    let permits = 1;
    bench.call(
        1,
        Forget {
            grant: Proof::own(CallId::new(grant.session(), 99)),
            permits,
        },
    );
    assert_eq!(survey(&bench).parts[0].units, Some(2), "no grant was split");
    bench.call(
        1,
        Forget {
            grant: Proof::own(grant),
            permits,
        },
    );
    assert_eq!(survey(&bench).parts[0].units, None);
    let mut bench = Bench::<Semaphore>::new(full).unwrap();
    bench.call(1, AddPermits { permits: 1 });
    assert_eq!(survey(&bench).parts[0].units, None);
    assert_eq!(survey(&bench).state, "3 of 3 permits free");
}

#[test]
fn event_lists_the_waiters_for_its_flag() {
    let mut bench = Bench::<Event>::new(()).unwrap();
    let calls = [(); 2].map(|()| bench.call(1, WaitSet { since: None }));
    let observed = survey(&bench);
    assert_eq!(observed.state, "not set, generation 0");
    assert_eq!(observed.parts[0].units, None);
    assert_eq!(waiters(&observed, 0), calls.map(|call| (call, 1, "set")));
    bench.call(1, Set);
    assert_eq!(survey(&bench).state, "set, generation 1");
}

#[test]
fn barrier_lists_its_arrivals_and_the_party_that_runs_the_action_with_times() {
    let mut bench = Bench::<Barrier>::new(BarrierSpec::from(2)).unwrap();
    let first = bench.call(1, Arrive { acts: true });
    assert_eq!(survey(&bench).state, "1 of 2 arrived, generation 0");
    bench.advance(SECOND);
    let last = bench.call(2, Arrive { acts: true });
    let early = bench.call(3, Arrive { acts: true });
    let observed = survey(&bench);
    assert_eq!(
        waiters(&observed, 0),
        [(first, 1, "others"), (early, 1, "others")]
    );
    assert_eq!(holders(&observed, 0), [(last, 1, "action")]);
    assert_eq!(observed.parts[0].holders[0].since, SECOND);
    bench.hang_up(2);
    assert_eq!(survey(&bench).state, "0 of 2 arrived, generation 0, broken");
}

#[test]
fn task_queue_lists_unfinished_tasks_and_idle_workers() {
    let mut bench = Bench::<TaskQueue>::new(()).unwrap();
    let next = || Next {
        finished: None,
        most: 1,
    };
    let idle = bench.call(1, next());
    let observed = survey(&bench);
    assert_eq!(waiters(&observed, 1), [(idle, 1, "task")]);
    let mut submit = || {
        let chunk = Chunk {
            task: "double".to_owned(),
            arguments: Blob::from(vec![7]),
        };
        bench.call(
            2,
            Submit {
                chunk,
                rule: None,
                series: None,
            },
        )
    };
    let [given, waiting] = [(); 2].map(|()| submit());
    let observed = survey(&bench);
    assert_eq!(observed.state, "1 tasks given out");
    assert_eq!(
        waiters(&observed, 0),
        [(given, 1, "outcome"), (waiting, 1, "worker")]
    );
    assert_eq!(waiters(&observed, 1), []);
}

/// Returns the numbers of all holders and waiters, and of the listed ones.
fn counted(survey: &Survey) -> [u64; 4] {
    let mut counted = [0; 4];
    for part in &survey.parts {
        let listed = [part.holders.len(), part.waiters.len()].map(|listed| listed as u64);
        counted[0] += listed[0] + part.more_holders;
        counted[1] += listed[1] + part.more_waiters;
        counted[2] += listed[0];
        counted[3] += listed[1];
    }
    counted
}

#[test]
fn survey_lists_the_first_of_many_calls_and_counts_all() {
    const MANY: u64 = Survey::MOST as u64 + 77;
    const MOST: u64 = Survey::MOST as u64;
    let mut event = Bench::<Event>::new(()).unwrap();
    let mut permits = Bench::<Semaphore>::new(SemaphoreSpec::from(0)).unwrap();
    let mut keys = Bench::<KeyedLock>::new(ReleaseBy::Holder).unwrap();
    for number in 0..MANY {
        event.call(1, WaitSet { since: None });
        permits.call(1, AcquireMany { permits: 1 });
        let key = number.to_string();
        let key = || key.as_str().into();
        keys.call(1, AcquireKey { key: key() });
        if number >= MOST {
            keys.call(1, AcquireKey { key: key() });
        }
    }
    assert_eq!(counted(&survey(&event)), [0, MANY, 0, MOST]);
    assert_eq!(counted(&survey(&permits)), [0, MANY, 0, MOST]);
    permits.call(
        1,
        AddPermits {
            permits: u32::try_from(MANY).unwrap().into(),
        },
    );
    assert_eq!(counted(&survey(&permits)), [MANY, 0, MOST, 0]);
    // The keys with waiters are among the listed keys.
    let observed = survey(&keys);
    assert_eq!(counted(&observed), [MANY, MANY - MOST, MOST, MANY - MOST]);
    assert_eq!(observed.parts.len(), Survey::MOST + 1);
}
