//! The end of a session with more objects than one slice.

use lockkeeper_actors::{
    Proof,
    sync::{Acquire, Granted, Lock, Release, ReleaseBy},
};

use crate::host::shard::{Hosted, Recorder, Shard, id};

/// More objects than hang up in one turn.
const MANY: u32 = 2_000;

/// The session that ends.
const ENDS: u64 = 1;

/// Makes the locks that the session has opened.
async fn opened(shard: &Shard) -> Vec<Hosted<Lock>> {
    let mut locks = Vec::new();
    for number in 0..MANY {
        let lock = shard.host::<Lock>(ReleaseBy::Holder);
        lock.open(ENDS, number).await;
        locks.push(lock);
    }
    locks
}

fn granted(recorder: &Recorder, seq: u64) -> Granted {
    let granted = recorder.reply::<Acquire>(id(2, seq));
    granted.expect("an answer").expect("a grant")
}

#[actix::test]
async fn calls_after_the_end_find_nothing_of_the_session_whether_its_object_hung_up_or_not() {
    let shard = Shard::new();
    let (_ends, other) = (shard.join(ENDS), shard.join(2));
    let locks = opened(&shard).await;
    for lock in &locks {
        lock.call(ENDS, 1, Acquire).await;
    }
    // No object after the first slice hangs up, because `keep_hanging_up` was not called.
    shard.end(ENDS, &locks);
    for (seq, lock) in (1..).zip(&locks) {
        lock.call(2, seq, Acquire).await;
        assert!(granted(&other, seq).abandoned.is_some(), "lock {seq}");
    }
}

#[actix::test]
async fn call_of_an_ended_session_is_never_granted_before_its_object_hangs_up() {
    let shard = Shard::new();
    let (ends, other) = (shard.join(ENDS), shard.join(2));
    let locks = opened(&shard).await;
    let last = locks.last().expect("the list is not empty");
    let grant = last.call(2, 1, Acquire).await;
    last.call(ENDS, 1, Acquire).await;
    last.call(2, 2, Acquire).await;
    shard.end(ENDS, &locks);
    last.call(
        2,
        3,
        Release {
            grant: Proof::own(grant),
        },
    )
    .await;
    assert_eq!(granted(&other, 2).abandoned, None);
    assert!(ends.order().is_empty());
}

#[actix::test]
async fn calls_that_the_session_sent_before_its_end_are_served_first() {
    let shard = Shard::new();
    let (_ends, other) = (shard.join(ENDS), shard.join(2));
    let locks = opened(&shard).await;
    let last = locks.last().expect("the list is not empty");
    let grant = last.call(ENDS, 1, Acquire).await;
    last.put(2, 1, &Acquire);
    last.put(
        ENDS,
        2,
        &Release {
            grant: Proof::own(grant),
        },
    );
    shard.end(ENDS, &locks);
    last.call(2, 2, Acquire).await;
    assert_eq!(granted(&other, 1).abandoned, None);
}

#[actix::test]
async fn waiters_are_granted_one_slice_after_the_other() {
    let shard = Shard::new();
    let (_ends, other) = (shard.join(ENDS), shard.join(2));
    let locks = opened(&shard).await;
    for (seq, lock) in (1..).zip(&locks) {
        lock.call(ENDS, seq, Acquire).await;
        lock.call(2, seq, Acquire).await;
    }
    shard.keep_hanging_up();
    shard.end(ENDS, &locks);
    let all = u64::from(MANY);
    other.until_answered(1).await;
    assert!(
        other.order().len() < locks.len(),
        "all objects hung up in one turn"
    );
    other.until_answered(all).await;
    assert!(other.order().into_iter().eq(1..=all));
    for seq in 1..=all {
        assert!(granted(&other, seq).abandoned.is_some());
    }
}

#[actix::test]
async fn holds_of_ended_sessions_are_found_whether_ended_or_open_sessions_are_fewer() {
    for others in [0, 1, 5] {
        let shard = Shard::new();
        let (_ends, other) = (shard.join(ENDS), shard.join(2));
        let locks = opened(&shard).await;
        let last = locks.last().expect("the list is not empty");
        for session in 10..10 + others {
            last.open(session, 0).await;
        }
        last.call(ENDS, 1, Acquire).await;
        shard.end(ENDS, &locks);
        last.call(2, 1, Acquire).await;
        assert!(granted(&other, 1).abandoned.is_some(), "{others} others");
    }
}
