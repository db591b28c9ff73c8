//! The guarantees of a lock, through its proxy and from other processes.

pub(crate) mod keyed;
pub(crate) mod keyed_scale;
pub(crate) mod reentrant;
pub(crate) mod several;
pub(crate) mod waiting;

use std::time::{Duration, Instant};

use futures::FutureExt;
use lockkeeper::{
    CallError, Limits, Lock, LockGuard, Manager, Permit, Semaphore, Ticket,
    errors::{AbandonedGuard, Fault, Refusal},
};
use lockkeeper_test_support::{Role, Roles, report, until};

use crate::{lock::waiting::until_waiting, run};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("lock::adopter", adopt);
    roles.add(
        "lock::releaser",
        |(lock, ticket): (Lock, Ticket)| async move {
            lock.release_ticket(ticket).await.unwrap();
            report("released");
        },
    );
    roles.add("lock::holder", hold);
    roles.add("lock::seated", |semaphore: Semaphore| async move {
        let permit = semaphore.acquire().await.unwrap();
        assert!(permit.is_valid());
        report("seated");
        std::future::pending::<()>().await;
    });
}

/// Adopts the hold and keeps it.
async fn adopt((lock, ticket): (Lock, Ticket)) {
    let guard = lock.adopt(ticket.clone()).await.unwrap();
    assert!(guard.is_valid() && guard.fence() > ticket.fence());
    report("adopted");
    std::future::pending::<()>().await;
}

/// Acquires the lock and keeps it until the hold is lost.
async fn hold(lock: Lock) {
    let guard = lock.acquire().await.unwrap();
    assert!(guard.is_valid());
    report("held");
    guard.lost().await;
    assert!(!guard.is_valid());
    assert_eq!(guard.release().await, Err(NOT_HELD));
    report("lost");
}

async fn manager_and_lock() -> (Manager, Lock) {
    let manager = Manager::start().await.unwrap();
    let lock = manager.lock().await.unwrap();
    (manager, lock)
}

async fn is_free(lock: &Lock) -> bool {
    let status = lock.status().await.unwrap();
    !status.is_held && status.waiting == 0
}

/// Makes another process acquire the lock and die with it.
async fn die_inside(lock: &Lock) -> u32 {
    let mut holder = Role::start("lock::holder", lock);
    assert_eq!(holder.next_report(), "held");
    holder.kill();
    until("the death was noticed", || is_free(lock)).await;
    holder.pid()
}

#[test]
fn lock_is_granted_in_order_of_arrival_and_a_try_never_overtakes() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let guard = lock.acquire().await.unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(lock.acquire())).collect();
        for call in &mut waiting {
            assert!(call.now_or_never().is_none());
        }
        assert!(lock.try_acquire().await.unwrap().is_none());
        // The try call is sent after the release, and comes after the waiters.
        drop(guard);
        assert!(lock.try_acquire().await.unwrap().is_none());
        let mut last = None;
        for call in waiting {
            let guard: LockGuard = call.await.unwrap();
            assert!(Some(guard.fence()) > last);
            last = Some(guard.fence());
            assert!(lock.try_acquire().await.unwrap().is_none());
        }
        assert!(lock.try_acquire().await.unwrap().is_some());
    });
}

#[test]
fn waiter_is_granted_although_others_have_left() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        for _ in 0..100 {
            let guard = lock.acquire().await.unwrap();
            let waiting = tokio::spawn(lock.acquire());
            until_waiting(&lock, 1).await;
            drop(guard);
            drop(waiting.await.unwrap().unwrap());
        }
    });
}

#[test]
fn manager_enforces_the_timeout_and_nothing_is_left() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let guard = lock.acquire().await.unwrap();
        // This test measures time.
        let (begin, patience) = (Instant::now(), Duration::from_millis(30));
        let outcome = lock.acquire().timeout(patience).await.map(drop);
        assert_eq!(outcome, Err(CallError::timed_out()));
        assert!(begin.elapsed() >= patience);
        assert_eq!(lock.status().await.unwrap().waiting, 0);
        drop(guard);
        let long = Duration::MAX;
        drop(lock.acquire().timeout(long).await.unwrap());
        let zero = lock.acquire().timeout(Duration::ZERO).await;
        assert!(zero.unwrap().is_valid());
    });
}

#[test]
fn owned_futures_can_be_spawned_and_aborted() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let guard = lock.acquire().await.unwrap();
        let aborted = tokio::spawn(lock.acquire());
        until_waiting(&lock, 1).await;
        let next = tokio::spawn(lock.acquire());
        until_waiting(&lock, 2).await;
        aborted.abort();
        aborted.await.map(drop).unwrap_err();
        assert_eq!(lock.status().await.unwrap().waiting, 1);
        drop(guard);
        drop(next.await.unwrap().unwrap());
        assert!(is_free(&lock).await);
    });
}

#[test]
fn abandoned_lock_reports_the_dead_holder_until_marked_consistent() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let begin = Instant::now();
        let dead = die_inside(&lock).await;
        for _ in 0..2 {
            let guard = lock.acquire().await.unwrap();
            let abandoned = guard.abandoned().unwrap();
            assert_eq!(abandoned.holder.pid, dead);
            assert!(abandoned.holder.program.starts_with("it-"));
            assert!(abandoned.held > Duration::ZERO && abandoned.held < begin.elapsed());
            assert!(abandoned.fence < guard.fence());
        }
        let mut guard = lock.acquire().await.unwrap();
        guard.mark_consistent();
        assert_eq!(guard.abandoned(), None);
        drop(guard);
        assert_eq!(lock.acquire().await.unwrap().abandoned(), None);
    });
}

/// Returns the guard of a strict wait that found the mark of a dead holder.
fn marked<G>(outcome: Result<G, AbandonedGuard<G>>, dead: u32) -> G {
    let Err(error) = outcome else {
        panic!("the guard has no mark");
    };
    assert_eq!(error.abandoned.holder.pid, dead);
    let shown = error.to_string();
    assert!(shown.contains(&format!("process {dead} (it-")), "{shown}");
    error.guard
}

#[test]
fn strict_guard_of_an_abandoned_lock_is_an_error_that_holds_it() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        drop(lock.acquire().await.unwrap().strict().unwrap());
        let dead = die_inside(&lock).await;
        let guard = lock.acquire().await.unwrap();
        let mut guard = marked(guard.strict(), dead);
        assert!(guard.is_valid() && lock.status().await.unwrap().is_held);
        drop(guard.strict().unwrap_err());
        assert!(is_free(&lock).await);
        let again = lock.acquire().await.unwrap();
        let told = CallError::from(again.strict().unwrap_err());
        assert!(matches!(&told, CallError::Abandoned(mark, _) if mark.holder.pid == dead));
        let told = told.to_string();
        let named = format!(
            "lock {:?} was abandoned by process {dead} ",
            lock.token().name
        );
        assert!(told.starts_with(&named), "{told}");
        assert!(is_free(&lock).await);

        let timeout = Duration::from_secs(9);
        guard = marked(
            lock.acquire().timeout(timeout).await.unwrap().strict(),
            dead,
        );
        drop(guard);
        let tried = lock.try_acquire().await.unwrap();
        guard = marked(tried.map(LockGuard::strict).unwrap(), dead);
        drop(guard);
        let owned = lock.acquire().await.unwrap();
        guard = marked(owned.strict(), dead);
        guard.mark_consistent();
        drop(guard.strict().unwrap());
        drop(lock.acquire().await.unwrap().strict().unwrap());
    });
}

#[test]
fn strict_permit_of_an_abandoned_semaphore_is_an_error_that_holds_it() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let semaphore = manager.semaphore(2).await.unwrap();
        drop(semaphore.acquire_many(2).await.unwrap().strict().unwrap());
        let mut seated = Role::start("lock::seated", &semaphore);
        assert_eq!(seated.next_report(), "seated");
        seated.kill();
        let both = semaphore.acquire_many(2).await.unwrap();
        let mut both: Permit = marked(both.strict(), seated.pid());
        assert!(both.is_valid() && both.permits() == 2);
        both.mark_consistent();
        drop(both.strict().unwrap());
        drop(semaphore.acquire().await.unwrap().strict().unwrap());
    });
}

#[test]
fn release_is_served_at_the_limit_of_waiting_calls() {
    run(async {
        let limits = Limits {
            calls_in_flight: 1,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let mut waiting = Box::pin(lock.acquire());
        assert!((&mut waiting).now_or_never().is_none());
        let limit = CallError::Fault(Fault::limit("calls in flight", 1));
        assert_eq!(lock.acquire().await.map(drop), Err(limit));
        assert_eq!(guard.release().await, Ok(()));
        drop(waiting.await.unwrap());
        assert!(is_free(&lock).await);
    });
}

#[test]
fn release_that_is_dropped_at_any_point_frees_the_lock_once() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        drop(lock.acquire().await.unwrap().release());
        assert!(is_free(&lock).await);
        let mut begun = Box::pin(lock.acquire().await.unwrap().release());
        // After one poll the release is sent or already complete.
        let _ = (&mut begun).now_or_never();
        let next = lock.acquire().await.unwrap();
        drop(begun);
        assert!(next.is_valid() && lock.status().await.unwrap().is_held);
    });
}

#[test]
fn ticket_is_still_valid_after_an_unpolled_adoption() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let ticket = lock.acquire().await.unwrap().into_ticket();
        drop(lock.adopt(ticket.clone()));
        drop(lock.release_ticket(ticket.clone()));
        assert!(lock.status().await.unwrap().is_held);
        lock.release_ticket(ticket).await.unwrap();
        assert!(is_free(&lock).await);
    });
}

#[test]
fn lock_that_was_released_before_its_holder_died_has_no_mark() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let ticket = lock.acquire().await.unwrap().into_ticket();
        let mut releaser = Role::start("lock::releaser", &(lock.clone(), ticket.clone()));
        assert_eq!(releaser.next_report(), "released");
        assert!(is_free(&lock).await);
        assert_eq!(lock.release_ticket(ticket.clone()).await, Err(NOT_HELD));
        assert_eq!(lock.adopt(ticket).await.map(drop), Err(NOT_HELD));
        assert_eq!(lock.acquire().await.unwrap().abandoned(), None);
    });
}

#[test]
fn another_process_may_adopt_a_hold() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let ticket = lock.acquire().await.unwrap().into_ticket();
        let mut adopter = Role::start("lock::adopter", &(lock.clone(), ticket.clone()));
        assert_eq!(adopter.next_report(), "adopted");
        assert_eq!(lock.release_ticket(ticket.clone()).await, Err(NOT_HELD));
        assert_eq!(lock.adopt(ticket).await.map(drop), Err(NOT_HELD));
        assert!(lock.try_acquire().await.unwrap().is_none());
        adopter.kill();
        let guard = lock.acquire().await.unwrap();
        assert_eq!(guard.abandoned().unwrap().holder.pid, adopter.pid());
    });
}

#[test]
fn unused_ticket_holds_the_lock_until_the_session_ends() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let ticket = lock.acquire().await.unwrap().into_ticket();
        assert!(lock.try_acquire().await.unwrap().is_none());
        let guard = lock.adopt(ticket.clone()).await.unwrap();
        assert!(guard.is_valid());
        drop(guard);
        assert!(is_free(&lock).await);
        assert_eq!(lock.release_ticket(ticket).await, Err(NOT_HELD));
    });
}

#[test]
fn force_unlock_ends_the_hold_and_grants_the_next_waiter() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        assert!(!lock.force_unlock().await.unwrap());
        let guard = lock.acquire().await.unwrap();
        let mut next = Box::pin(lock.acquire());
        assert!((&mut next).now_or_never().is_none());
        let lost = guard.lost();
        assert!(lock.force_unlock().await.unwrap());
        lost.await;
        assert!(!guard.is_valid());
        let next = next.await.unwrap();
        assert!(next.is_valid() && next.fence() > guard.fence());
        assert_eq!(guard.release().await, Err(NOT_HELD));
        assert!(next.is_valid() && lock.status().await.unwrap().is_held);
        next.release().await.unwrap();
    });
}

#[test]
fn late_drop_of_a_lost_guard_does_not_release_the_next_hold() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let guard = lock.acquire().await.unwrap();
        assert!(lock.force_unlock().await.unwrap());
        let _next = lock.acquire().await.unwrap();
        drop(guard);
        assert!(lock.status().await.unwrap().is_held);
        assert!(lock.try_acquire().await.unwrap().is_none());
    });
}

#[test]
fn process_learns_that_its_hold_was_ended_by_force() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let mut holder = Role::start("lock::holder", &lock);
        assert_eq!(holder.next_report(), "held");
        assert!(lock.force_unlock().await.unwrap());
        assert_eq!(holder.next_report(), "lost");
        assert!(is_free(&lock).await);
    });
}

#[test]
fn clones_and_deserialized_proxies_refer_to_one_lock() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let token = serde_json::to_string(&lock).unwrap();
        let copy: Lock = serde_json::from_str(&token).unwrap();
        let _guard = copy.acquire().await.unwrap();
        assert!(lock.clone().try_acquire().await.unwrap().is_none());
        assert_eq!(copy.token(), lock.token());
    });
}
