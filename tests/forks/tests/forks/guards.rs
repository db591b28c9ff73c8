//! Holds and waits of a process in its forked child.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, poll};
use lockkeeper::{
    CallError, Manager, Permit, Taken, block_on,
    guards::{Guard, Guarded},
    lock_all,
};
use lockkeeper_test_forks::{Fork, end, hear, tell};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    (
        "guards::what_a_child_drops_stays_its_parents",
        what_a_child_drops_stays_its_parents,
    ),
    (
        "guards::what_is_the_parents_fails_in_a_child_at_once",
        what_is_the_parents_fails_in_a_child_at_once,
    ),
    (
        "guards::child_competes_with_its_parent_over_a_connection_of_its_own",
        child_competes_with_its_parent,
    ),
    (
        "guards::child_has_the_client_settings_of_its_parent",
        child_has_the_client_settings,
    ),
    (
        "guards::wait_of_the_parent_fails_in_a_child_and_goes_on_in_the_parent",
        wait_of_the_parent,
    ),
    (
        "guards::ticket_that_a_child_has_a_copy_of_is_good_once",
        ticket_is_good_once,
    ),
    (
        "guards::watch_and_call_in_flight_of_a_child_end_with_an_error",
        watch_and_call_in_flight,
    ),
];

/// A guard of any kind.
trait Held {
    fn is_valid(&self) -> bool;
    fn lost(&self) -> Pin<Box<dyn Future<Output = CallError>>>;
    fn release(self: Box<Self>) -> Result<(), CallError>;
}

impl<P: Guarded + 'static> Held for Guard<P> {
    fn is_valid(&self) -> bool {
        Self::is_valid(self)
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = CallError>>> {
        Box::pin(Self::lost(self))
    }

    fn release(self: Box<Self>) -> Result<(), CallError> {
        block_on(Self::release(*self))
    }
}

impl Held for Permit {
    fn is_valid(&self) -> bool {
        Self::is_valid(self)
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = CallError>>> {
        Box::pin(Self::lost(self))
    }

    fn release(self: Box<Self>) -> Result<(), CallError> {
        block_on(Self::release(*self))
    }
}

impl Held for Taken<u32> {
    fn is_valid(&self) -> bool {
        Self::is_valid(self)
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = CallError>>> {
        Box::pin(Self::lost(self))
    }

    fn release(self: Box<Self>) -> Result<(), CallError> {
        block_on(self.put_back())
    }
}

/// Acquires one hold of each kind.
async fn holds(manager: &Manager) -> Result<Vec<(&'static str, Box<dyn Held>)>, CallError> {
    let queue = manager.queue(4).await?;
    queue.put(7).await.map_err(CallError::from)?;
    let rw_locks = [
        manager.rw_lock().await?,
        manager.rw_lock().await?,
        manager.rw_lock().await?,
    ];
    let [one, other] = [manager.lock().await?, manager.lock().await?];
    let mut several = lock_all([&one, &other]).await?;
    let permit = manager.semaphore(5).await?.acquire_many(3).await?;
    let mut split = permit;
    let part = split.split(1).expect("one of three");
    let [second, first] = [several.pop(), several.pop()].map(|it| it.expect("a guard"));
    Ok(vec![
        ("lock", Box::new(manager.lock().await?.acquire().await?)),
        (
            "reentrant",
            Box::new(manager.reentrant_lock().await?.acquire().await?),
        ),
        (
            "condition",
            Box::new(manager.condition().await?.acquire().await?),
        ),
        ("read", Box::new(rw_locks[0].read().await?)),
        ("upgradable", Box::new(rw_locks[1].upgradable_read().await?)),
        ("write", Box::new(rw_locks[2].write().await?)),
        (
            "key",
            Box::new(manager.keyed_lock().await?.acquire("a").await?),
        ),
        (
            "key permit",
            Box::new(manager.keyed_semaphore(2).await?.acquire("a").await?),
        ),
        ("permits", Box::new(split)),
        ("part of permits", Box::new(part)),
        (
            "bounded",
            Box::new(manager.bounded_semaphore(1).await?.acquire().await?),
        ),
        ("item", Box::new(queue.get().await?)),
        ("first of several", Box::new(first)),
        ("second of several", Box::new(second)),
    ])
}

pub(crate) fn spawned() -> Manager {
    block_on(Manager::builder().spawn()).expect("a manager")
}

pub(crate) fn is_forked<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Forked { .. }))
}

fn what_a_child_drops_stays_its_parents() {
    let manager = spawned();
    let held = block_on(holds(&manager)).expect("all are free");
    let mut held = Some(held);
    Fork::new(|| drop(held.take())).join();
    // Also with two children at a time, one of which runs longer.
    let [one, other] = [(); 2].map(|()| Fork::new(|| drop(held.take())));
    one.join();
    other.join();
    for (kind, held) in held.into_iter().flatten() {
        assert!(held.is_valid(), "{kind}");
        held.release()
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    block_on(holds(&manager)).expect("calls work on");
}

fn what_is_the_parents_fails_in_a_child_at_once() {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let mut held = Some(block_on(holds(&manager)).expect("all are free"));
    let copy = manager.clone();
    let fork = Fork::new(|| {
        for (kind, held) in held.take().into_iter().flatten() {
            assert!(!held.is_valid(), "{kind}");
            let why = block_on(held.lost());
            assert!(is_forked::<()>(&Err(why.clone())), "{kind}: {why}");
            let released = held.release();
            assert!(is_forked(&released), "{kind}: {released:?}");
        }
        let opened = block_on(manager.lock()).map(drop);
        let why = opened.expect_err("it is the parent's").to_string();
        assert!(why.contains("this process was forked"), "{why}");
        assert!(is_forked(&block_on(manager.remove(&lock.token().name))));
        assert!(is_forked(&block_on(manager.inspect()).map(drop)));
        block_on(copy.shutdown());
    });
    fork.join();
    assert!(held.iter().flatten().all(|(_, held)| held.is_valid()));
}

fn child_competes_with_its_parent() {
    let manager = spawned();
    let lock = block_on(manager.named("it").lock()).expect("a lock");
    let counter = block_on(manager.value(0)).expect("a value");
    let guard = block_on(lock.acquire()).expect("it is free");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let child = Fork::new(|| {
        // A proxy contains an address, so it works in a child.
        assert!(block_on(lock.try_acquire()).expect("an answer").is_none());
        let anew = block_on(Manager::connect(manager.address().clone())).expect("it is there");
        let same = block_on(anew.named("it").lock()).expect("it is there");
        assert!(block_on(same.try_acquire()).expect("an answer").is_none());
        tell(&writer, 1);
        let guard = block_on(same.acquire()).expect("the parent lets go");
        assert_eq!(block_on(counter.get()).expect("a value"), 1);
        block_on(counter.set(2)).expect("it is set");
        tell(&writer, 2);
        block_on(guard.release()).expect("it is the child's");
        let _kept = block_on(same.acquire()).expect("it is free");
        tell(&writer, 3);
        lockkeeper_test_forks::pause();
    });
    assert_eq!(hear(&mut reader), 1);
    block_on(counter.set(1)).expect("it is set");
    drop(guard);
    assert_eq!(hear(&mut reader), 2);
    assert_eq!(hear(&mut reader), 3);
    assert_eq!(block_on(counter.get()).expect("a value"), 2);
    assert!(block_on(lock.try_acquire()).expect("an answer").is_none());
    child.kill();
    let guard = block_on(lock.acquire()).expect("the child is dead");
    assert!(guard.abandoned().is_some());
}

fn child_has_the_client_settings() {
    let owner = spawned();
    let client = Manager::client().label("family");
    let manager = block_on(client.connect(owner.address())).expect("it is there");
    let lock = block_on(manager.named("it").lock()).expect("a lock");
    let guard = block_on(lock.acquire()).expect("it is free");
    let label = || {
        let info = block_on(lock.info()).expect("an answer");
        info.parts[0].holders[0].process.label.clone()
    };
    assert_eq!(label(), "family");
    drop(guard);
    let child = Fork::new(|| {
        let _guard = block_on(lock.acquire()).expect("the parent lets go");
        assert_eq!(label(), "family");
    });
    child.join();
}

fn wait_of_the_parent() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let manager = spawned();
    runtime.block_on(async {
        let lock = manager.lock().await.expect("a lock");
        let guard = lock.acquire().await.expect("it is free");
        let mut lost = Box::pin(guard.lost());
        let waits = (0..3).map(|_| lock.acquire());
        let mut waits: Vec<_> = waits.map(Box::pin).collect();
        let mut patient = Box::pin(lock.acquire().timeout(Duration::from_secs(60)));
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        assert!(poll!(&mut patient).is_pending());
        assert!(poll!(&mut lost).is_pending());
        let Some(fork) = Fork::split() else {
            // This runs on the copy of the parent's runtime, which is still current on this thread.
            assert!(is_forked::<()>(&Err(lost.await)));
            let abandoned = waits.pop();
            for wait in waits {
                assert!(is_forked(&wait.await.map(drop)));
            }
            drop(abandoned);
            assert!(is_forked(&patient.await.map(drop)));
            assert!(is_forked(&guard.release().await));
            end(0);
        };
        fork.join();
        assert!(guard.is_valid());
        drop(guard);
        for wait in waits {
            let guard = wait.await.expect("its turn");
            guard.release().await.expect("it is held");
        }
        patient
            .await
            .expect("its turn")
            .release()
            .await
            .expect("it is held");
    });
}

fn ticket_is_good_once() {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let ticket = block_on(lock.acquire()).expect("it is free").into_ticket();
    let mut copy = Some(ticket.clone());
    Fork::new(|| {
        let adopted = block_on(lock.adopt(copy.take().expect("once"))).expect("it has the ticket");
        block_on(adopted.release()).expect("it is the child's");
    })
    .join();
    let late = block_on(lock.release_ticket(ticket));
    assert!(matches!(late, Err(CallError::Refused(_, _))), "{late:?}");
    drop(block_on(lock.acquire()).expect("it is free"));
}

fn watch_and_call_in_flight() {
    let manager = spawned();
    let value = block_on(manager.value(1)).expect("a value");
    let event = block_on(manager.event()).expect("an event");
    let mut watch = value.watch();
    let mut wait = Box::pin(event.wait());
    block_on(async {
        watch.next().await.expect("the first").expect("a value");
        // Both are in flight now.
        assert!(poll!(watch.next()).is_pending());
        assert!(poll!(&mut wait).is_pending());
    });
    Fork::new(|| {
        assert!(is_forked(
            &block_on(watch.next()).expect("an error").map(drop)
        ));
        assert!(block_on(watch.next()).is_none());
        assert!(is_forked(&block_on(&mut wait).map(drop)));
        block_on(value.set(2)).expect("a proxy works in a child");
        block_on(event.set()).expect("a proxy works in a child");
    })
    .join();
    assert_eq!(
        block_on(watch.next())
            .expect("an item")
            .expect("a value")
            .value,
        2
    );
    block_on(wait).expect("the event is set");
}
