//! The actions of processes on each kind with one holder at a time.

use std::fs;

use lockkeeper::{
    CallError, Lock, Owner, ReentrantLock, ReentrantLockGuard, Ticket,
    errors::Refusal,
    guards::{Guard, Guarded},
    proxies::{LockKind, LockOf},
};
use rand::Rng;

use super::{hold_record::Entry, setup::Named, worker::Runner};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

/// Acquires and releases, or uses the ticket of another task.
pub(crate) async fn act_on<P: LockKind>(runner: &mut Runner, named: &Named<LockOf<P>>) {
    if runner.chance(6) {
        return use_ticket(runner, named).await;
    }
    if let Some((guard, entry)) = acquire_randomly(runner, named).await {
        runner.pause().await;
        leave_and_release(runner, named, guard, entry).await;
    }
}

/// Acquires and releases a lock that any process may force open, or forces it open. A holder may
/// have lost the lock long ago, so only the fences are checked, and whether the guard reports the
/// loss.
pub(crate) async fn act_on_forced(runner: &mut Runner, named: &Named<Lock>) {
    let lock = &named.object;
    if runner.chance(4) {
        runner.trace(named, "force_unlock");
        runner.granted(&named.name, Some(lock.force_unlock().await));
        return;
    }
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let outcome = if runner.random.random() {
        runner.trace(named, "acquire");
        Some(lock.acquire().await)
    } else {
        runner.trace(named, "acquire and drop");
        runner.give_up(lock.acquire()).await
    };
    let Some(mut guard) = runner.granted(&named.name, outcome) else {
        return;
    };
    hold_record.pass(guard.fence().number(), highest);
    runner.inspect(named, guard.abandoned());
    guard.mark_consistent();
    // Long enough that another process forces the lock open in some of these holds.
    for _ in 0..4 {
        runner.pause().await;
    }
    let was_lost = !guard.is_valid();
    match guard.release().await {
        Ok(()) if !was_lost => runner.count(named, "released"),
        Err(CallError::Refused(Refusal::NotHeld, _)) => runner.count(named, "lost"),
        outcome => {
            let words = format!("{}: {outcome:?}, lost: {was_lost}", named.name);
            runner.notes.violation(&words);
        }
    }
}

/// Holds two locks at a time. All processes acquire them in the same order.
pub(crate) async fn act_on_two(runner: &mut Runner, locks: &[Named<Lock>]) {
    let second = runner.random.random_range(1..locks.len());
    let first = &locks[runner.random.random_range(0..second)];
    if let Some((guard, entry)) = acquire_randomly(runner, first).await {
        act_on(runner, &locks[second]).await;
        leave_and_release(runner, first, guard, entry).await;
    }
}

/// Acquires several times, and releases in any order.
pub(crate) async fn act_on_again(runner: &mut Runner, named: &Named<ReentrantLock>) {
    let mut named = named.clone();
    if runner.random.random() {
        named.object = named.object.owned_by(Owner::new());
    }
    if runner.chance(4) {
        return act_on(runner, &named).await;
    }
    let Some((guard, entry)) = acquire_randomly(runner, &named).await else {
        return;
    };
    let mut guards = vec![guard];
    for _ in 0..runner.random.random_range(0..4) {
        guards.extend(enter_again(runner, &named, &entry).await);
        runner.pause().await;
    }
    while guards.len() > 1 {
        let guard = guards.swap_remove(runner.random.random_range(0..guards.len()));
        release(runner, &named, guard).await;
        named
            .hold_record(&runner.notes)
            .enter_again(&entry, guards[0].fence());
    }
    if let Some(guard) = guards.pop() {
        leave_and_release(runner, &named, guard, entry).await;
    }
}

async fn enter_again(
    runner: &mut Runner,
    named: &Named<ReentrantLock>,
    entry: &Entry,
) -> Option<ReentrantLockGuard> {
    runner.trace(named, "enter again");
    let lock = &named.object;
    let outcome = match runner.random.random_range(0..3) {
        0 => Some(lock.acquire().await),
        1 => match lock.try_acquire().await {
            // An owner that holds the lock may always acquire it again.
            Ok(None) => Some(Err(NOT_HELD)),
            outcome => outcome.transpose(),
        },
        _ => runner.give_up(lock.acquire()).await,
    };
    let guard = runner.granted(&named.name, outcome)?;
    named
        .hold_record(&runner.notes)
        .enter_again(entry, guard.fence());
    Some(guard)
}

/// Acquires in a randomly chosen way.
pub(crate) async fn acquire_randomly<P: LockKind>(
    runner: &mut Runner,
    named: &Named<LockOf<P>>,
) -> Option<(Guard<P>, Entry)> {
    let lock = &named.object;
    let outcome = match runner.random.random_range(0..7) {
        0 | 1 => {
            runner.trace(named, "acquire");
            Some(lock.acquire().await)
        }
        2 => {
            runner.trace(named, "acquire with a timeout");
            let brief = runner.brief();
            Some(runner.within(brief, lock.acquire().timeout(brief)).await)
        }
        3 => {
            runner.trace(named, "try_acquire");
            lock.try_acquire().await.transpose()
        }
        4 => {
            // Not in another task, because that task would own a reentrant lock.
            runner.trace(named, "acquire later");
            let acquire = lock.acquire();
            tokio::task::yield_now().await;
            Some(acquire.await)
        }
        5 => {
            runner.trace(named, "acquire twice");
            Some(tokio::select! {
                outcome = lock.acquire() => outcome,
                outcome = lock.acquire() => outcome,
            })
        }
        _ => {
            runner.trace(named, "acquire and drop");
            runner.give_up(lock.acquire()).await
        }
    };
    let guard = runner.granted(&named.name, outcome)?;
    Some(enter(runner, named, guard).await)
}

/// Enters the hold into the hold record.
pub(crate) async fn enter<P: LockKind>(
    runner: &mut Runner,
    named: &Named<LockOf<P>>,
    guard: Guard<P>,
) -> (Guard<P>, Entry) {
    let entry = named.hold_record(&runner.notes).enter(1, guard.fence(), 0);
    check_grant(runner, named, guard, entry)
}

/// Checks a grant that was entered into the hold record.
pub(crate) fn check_grant<T, P: Guarded>(
    runner: &mut Runner,
    named: &Named<T>,
    mut guard: Guard<P>,
    entry: Entry,
) -> (Guard<P>, Entry) {
    if !guard.is_valid() {
        runner
            .notes
            .violation(&format!("{}: {entry:?} is not valid", named.name));
    }
    runner.inspect(named, guard.abandoned());
    if guard.abandoned().is_some() && runner.random.random() {
        guard.mark_consistent();
    }
    (guard, entry)
}

/// Removes the hold from the hold record, and releases in a randomly chosen way.
pub(crate) async fn leave_and_release<P: LockKind>(
    runner: &mut Runner,
    named: &Named<LockOf<P>>,
    guard: Guard<P>,
    entry: Entry,
) {
    named.hold_record(&runner.notes).leave(entry);
    if runner.chance(6) {
        publish_ticket(runner, named, guard.into_ticket()).await;
    } else {
        release(runner, named, guard).await;
    }
}

/// Releases in a randomly chosen way.
pub(crate) async fn release<T, P: Guarded>(runner: &mut Runner, named: &Named<T>, guard: Guard<P>) {
    let outcome = match runner.random.random_range(0..3) {
        0 => {
            runner.trace(named, "release");
            Some(guard.release().await)
        }
        1 => {
            runner.trace(named, "release and drop");
            runner.give_up(guard.release()).await
        }
        _ => {
            drop(guard);
            None
        }
    };
    if let Some(Err(error)) = outcome {
        runner.notes.violation(&format!("{}: {error}", named.name));
    }
}

/// Publishes the ticket for other tasks, and releases with it later unless another task has used
/// it.
async fn publish_ticket<P: LockKind>(
    runner: &mut Runner,
    named: &Named<LockOf<P>>,
    ticket: Ticket,
) {
    runner.trace(named, "into_ticket");
    let name = format!("{}#{}", named.name, ticket.fence());
    let draft = runner.notes.path("now", &name);
    let bytes = serde_json::to_vec(&ticket).expect("a ticket is plain data");
    fs::write(&draft, bytes).expect("a ticket can be written");
    fs::rename(draft, runner.notes.path("tickets", &name)).expect("a file can be renamed");
    tokio::time::sleep(runner.brief()).await;
    release_by(runner, named, &name, ticket).await;
}

/// Releases or adopts a hold with a published ticket.
async fn use_ticket<P: LockKind>(runner: &mut Runner, named: &Named<LockOf<P>>) {
    let mut names = runner.notes.names("tickets");
    names.retain(|name| name.starts_with(&format!("{}#", named.name)));
    let Some(name) = names.pop() else { return };
    // Another task may have used the ticket meanwhile.
    let Ok(bytes) = fs::read(runner.notes.path("tickets", &name)) else {
        return;
    };
    let ticket: Ticket = serde_json::from_slice(&bytes).expect("the ticket is complete");
    if runner.random.random() {
        return release_by(runner, named, &name, ticket).await;
    }
    runner.trace(named, "adopt");
    let adopt = named.object.adopt(ticket.clone());
    let adopted = if runner.chance(4) {
        runner.give_up(adopt).await
    } else {
        Some(adopt.await)
    };
    match adopted {
        Some(Ok(guard)) => {
            runner.count(named, "adopted");
            use_up(runner, &name);
            if guard.fence() <= ticket.fence() {
                runner
                    .notes
                    .violation(&format!("{name} is adopted with {}", guard.fence()));
            }
            let (guard, entry) = enter(runner, named, guard).await;
            runner.pause().await;
            leave_and_release(runner, named, guard, entry).await;
        }
        // An inner release by the other session may still be on its way.
        Some(Err(CallError::Refused(Refusal::NotHeld | Refusal::StillInside { .. }, _))) | None => {
        }
        Some(Err(error)) => runner.notes.violation(&format!("{name}: {error}")),
    }
}

async fn release_by<P: LockKind>(
    runner: &mut Runner,
    named: &Named<LockOf<P>>,
    name: &str,
    ticket: Ticket,
) {
    match named.object.release_ticket(ticket).await {
        Ok(()) => {
            runner.count(named, "released by ticket");
            use_up(runner, name);
        }
        Err(CallError::Refused(Refusal::NotHeld, _)) => runner.count(named, "released too late"),
        Err(error) => runner.notes.violation(&format!("{name}: {error}")),
    }
    // An error means that another task has removed the file.
    let _ = fs::remove_file(runner.notes.path("tickets", name));
}

/// Records that a ticket was accepted, which may happen only once.
fn use_up(runner: &Runner, name: &str) {
    runner.notes.once(name);
    let _ = fs::remove_file(runner.notes.path("tickets", name));
}
