//! What processes do with each kind that has one holder at a time.

use std::fs;

use lockkeeper::{
    CallError, Lock, Owner, ReentrantGuard, ReentrantLock, Ticket,
    errors::Refusal,
    guards::{Guard, Guarded},
    proxies::{LockKind, LockOf},
};
use rand::Rng;

use super::{ledger::Entry, scene::Known, worker::Hand};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

/// Goes in and out, or uses the ticket of another task.
pub(crate) async fn visit<P: LockKind>(hand: &mut Hand, known: &Known<LockOf<P>>) {
    if hand.chance(6) {
        return use_ticket(hand, known).await;
    }
    if let Some((guard, entry)) = come_in(hand, known).await {
        hand.linger().await;
        go_out(hand, known, guard, entry).await;
    }
}

/// Goes in and out of a lock that anybody may force open, or does so. Who is inside may have lost it
/// long ago, so only its fences are witnessed, and whether a loss is told.
pub(crate) async fn visit_forced(hand: &mut Hand, known: &Known<Lock>) {
    let lock = &known.object;
    if hand.chance(4) {
        hand.does(known, "force_unlock");
        hand.granted(&known.name, Some(lock.force_unlock().await));
        return;
    }
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let outcome = if hand.random.random() {
        hand.does(known, "acquire");
        Some(lock.acquire().await)
    } else {
        hand.does(known, "acquire and drop");
        hand.give_up(lock.acquire()).await
    };
    let Some(mut guard) = hand.granted(&known.name, outcome) else {
        return;
    };
    ledger.pass(guard.fence().number(), highest);
    hand.inspect(known, guard.abandoned());
    guard.mark_consistent();
    // Long enough that it is forced open meanwhile in some of the visits.
    for _ in 0..4 {
        hand.linger().await;
    }
    let was_lost = !guard.is_valid();
    match guard.release().await {
        Ok(()) if !was_lost => hand.count(known, "released"),
        Err(CallError::Refused(Refusal::NotHeld, _)) => hand.count(known, "lost"),
        outcome => {
            let words = format!("{}: {outcome:?}, lost: {was_lost}", known.name);
            hand.notes.violation(&words);
        }
    }
}

/// Holds two locks at a time. All processes take them in the same order.
pub(crate) async fn visit_two(hand: &mut Hand, locks: &[Known<Lock>]) {
    let second = hand.random.random_range(1..locks.len());
    let first = &locks[hand.random.random_range(0..second)];
    if let Some((guard, entry)) = come_in(hand, first).await {
        visit(hand, &locks[second]).await;
        go_out(hand, first, guard, entry).await;
    }
}

/// Enters several times, and leaves in any order.
pub(crate) async fn visit_again(hand: &mut Hand, known: &Known<ReentrantLock>) {
    let mut known = known.clone();
    if hand.random.random() {
        known.object = known.object.owned_by(Owner::new());
    }
    if hand.chance(4) {
        return visit(hand, &known).await;
    }
    let Some((guard, entry)) = come_in(hand, &known).await else {
        return;
    };
    let mut guards = vec![guard];
    for _ in 0..hand.random.random_range(0..4) {
        guards.extend(enter_again(hand, &known, &entry).await);
        hand.linger().await;
    }
    while guards.len() > 1 {
        let guard = guards.swap_remove(hand.random.random_range(0..guards.len()));
        release(hand, &known, guard).await;
        known
            .ledger(&hand.notes)
            .enter_again(&entry, guards[0].fence());
    }
    if let Some(guard) = guards.pop() {
        go_out(hand, &known, guard, entry).await;
    }
}

async fn enter_again(
    hand: &mut Hand,
    known: &Known<ReentrantLock>,
    entry: &Entry,
) -> Option<ReentrantGuard> {
    hand.does(known, "enter again");
    let lock = &known.object;
    let outcome = match hand.random.random_range(0..3) {
        0 => Some(lock.acquire().await),
        1 => match lock.try_acquire().await {
            // An owner that is inside may always enter.
            Ok(None) => Some(Err(NOT_HELD)),
            outcome => outcome.transpose(),
        },
        _ => hand.give_up(lock.acquire()).await,
    };
    let guard = hand.granted(&known.name, outcome)?;
    known.ledger(&hand.notes).enter_again(entry, guard.fence());
    Some(guard)
}

/// Acquires in one of the ways that there are.
pub(crate) async fn come_in<P: LockKind>(
    hand: &mut Hand,
    known: &Known<LockOf<P>>,
) -> Option<(Guard<P>, Entry)> {
    let lock = &known.object;
    let outcome = match hand.random.random_range(0..7) {
        0 | 1 => {
            hand.does(known, "acquire");
            Some(lock.acquire().await)
        }
        2 => {
            hand.does(known, "acquire with a timeout");
            let brief = hand.brief();
            Some(hand.within(brief, lock.acquire().timeout(brief)).await)
        }
        3 => {
            hand.does(known, "try_acquire");
            lock.try_acquire().await.transpose()
        }
        4 => {
            // Not in a task of its own, which would be the owner of a reentrant lock.
            hand.does(known, "acquire later");
            let acquire = lock.acquire();
            tokio::task::yield_now().await;
            Some(acquire.await)
        }
        5 => {
            hand.does(known, "acquire twice");
            Some(tokio::select! {
                outcome = lock.acquire() => outcome,
                outcome = lock.acquire() => outcome,
            })
        }
        _ => {
            hand.does(known, "acquire and drop");
            hand.give_up(lock.acquire()).await
        }
    };
    let guard = hand.granted(&known.name, outcome)?;
    Some(enter(hand, known, guard).await)
}

/// Enters the ledger.
pub(crate) async fn enter<P: LockKind>(
    hand: &mut Hand,
    known: &Known<LockOf<P>>,
    guard: Guard<P>,
) -> (Guard<P>, Entry) {
    let entry = known.ledger(&hand.notes).enter(1, guard.fence(), 0);
    look_at(hand, known, guard, entry)
}

/// Looks at what was granted, and entered into the ledger.
pub(crate) fn look_at<T, P: Guarded>(
    hand: &mut Hand,
    known: &Known<T>,
    mut guard: Guard<P>,
    entry: Entry,
) -> (Guard<P>, Entry) {
    if !guard.is_valid() {
        hand.notes
            .violation(&format!("{}: {entry:?} is not valid", known.name));
    }
    hand.inspect(known, guard.abandoned());
    if guard.abandoned().is_some() && hand.random.random() {
        guard.mark_consistent();
    }
    (guard, entry)
}

/// Leaves the ledger, and releases in one of the ways that there are.
pub(crate) async fn go_out<P: LockKind>(
    hand: &mut Hand,
    known: &Known<LockOf<P>>,
    guard: Guard<P>,
    entry: Entry,
) {
    known.ledger(&hand.notes).leave(entry);
    if hand.chance(6) {
        hand_on(hand, known, guard.into_ticket()).await;
    } else {
        release(hand, known, guard).await;
    }
}

/// Releases in one of the ways that there are.
pub(crate) async fn release<T, P: Guarded>(hand: &mut Hand, known: &Known<T>, guard: Guard<P>) {
    let outcome = match hand.random.random_range(0..3) {
        0 => {
            hand.does(known, "release");
            Some(guard.release().await)
        }
        1 => {
            hand.does(known, "release and drop");
            hand.give_up(guard.release()).await
        }
        _ => {
            drop(guard);
            None
        }
    };
    if let Some(Err(error)) = outcome {
        hand.notes.violation(&format!("{}: {error}", known.name));
    }
}

/// Lays the ticket out for others, and releases by it later unless another task has.
async fn hand_on<P: LockKind>(hand: &mut Hand, known: &Known<LockOf<P>>, ticket: Ticket) {
    hand.does(known, "into_ticket");
    let name = format!("{}#{}", known.name, ticket.fence());
    let draft = hand.notes.path("now", &name);
    let bytes = serde_json::to_vec(&ticket).expect("a ticket is plain data");
    fs::write(&draft, bytes).expect("a ticket can be written");
    fs::rename(draft, hand.notes.path("tickets", &name)).expect("a file can be renamed");
    tokio::time::sleep(hand.brief()).await;
    release_by(hand, known, &name, ticket).await;
}

/// Releases or takes over a hold by a ticket that was laid out.
async fn use_ticket<P: LockKind>(hand: &mut Hand, known: &Known<LockOf<P>>) {
    let mut names = hand.notes.names("tickets");
    names.retain(|name| name.starts_with(&format!("{}#", known.name)));
    let Some(name) = names.pop() else { return };
    // It may be used up meanwhile.
    let Ok(bytes) = fs::read(hand.notes.path("tickets", &name)) else {
        return;
    };
    let ticket: Ticket = serde_json::from_slice(&bytes).expect("a ticket is whole");
    if hand.random.random() {
        return release_by(hand, known, &name, ticket).await;
    }
    hand.does(known, "adopt");
    let adopt = known.object.adopt(ticket.clone());
    let adopted = if hand.chance(4) {
        hand.give_up(adopt).await
    } else {
        Some(adopt.await)
    };
    match adopted {
        Some(Ok(guard)) => {
            hand.count(known, "adopted");
            use_up(hand, &name);
            if guard.fence() <= ticket.fence() {
                hand.notes
                    .violation(&format!("{name} is adopted with {}", guard.fence()));
            }
            let (guard, entry) = enter(hand, known, guard).await;
            hand.linger().await;
            go_out(hand, known, guard, entry).await;
        }
        // What was released inside by the other session may still be on its way.
        Some(Err(CallError::Refused(Refusal::NotHeld | Refusal::StillInside { .. }, _))) | None => {
        }
        Some(Err(error)) => hand.notes.violation(&format!("{name}: {error}")),
    }
}

async fn release_by<P: LockKind>(
    hand: &mut Hand,
    known: &Known<LockOf<P>>,
    name: &str,
    ticket: Ticket,
) {
    match known.object.release(ticket).await {
        Ok(()) => {
            hand.count(known, "released by ticket");
            use_up(hand, name);
        }
        Err(CallError::Refused(Refusal::NotHeld, _)) => hand.count(known, "released too late"),
        Err(error) => hand.notes.violation(&format!("{name}: {error}")),
    }
    // Another task may have done so.
    let _ = fs::remove_file(hand.notes.path("tickets", name));
}

/// Takes note that a ticket was good, which it is once.
fn use_up(hand: &Hand, name: &str) {
    hand.notes.once(name);
    let _ = fs::remove_file(hand.notes.path("tickets", name));
}
