//! What processes do with several locks at once: all of them, or any n of them.

use lockkeeper::{Lock, lock_all, lock_some, try_lock_all, try_lock_some};
use rand::{Rng, seq::SliceRandom};

use super::{
    exclusive::{enter, go_out},
    scene::Known,
    worker::Hand,
};

/// Holds several, whose names come in any order.
pub(crate) async fn visit(hand: &mut Hand, locks: &[Known<Lock>]) {
    let mut named: Vec<&Known<Lock>> = locks.iter().collect();
    named.shuffle(&mut hand.random);
    named.truncate(hand.random.random_range(2..=locks.len()));
    let several = || named.iter().map(|known| &known.object);
    let guards = if hand.random.random() {
        let (wait, attempt) = (|| lock_all(several()), || try_lock_all(several()));
        let limit = |time| lock_all(several()).timeout(time);
        let guards = hand.obtain(named[0], "lock_all", wait, limit, attempt);
        let guards = guards.await;
        guards.map(|guards| guards.into_iter().enumerate().collect())
    } else {
        let number = hand.random.random_range(1..named.len());
        let wait = || lock_some(number, several());
        let limit = |time| lock_some(number, several()).timeout(time);
        let attempt = || try_lock_some(number, several());
        let guards = hand.obtain(named[0], "lock_some", wait, limit, attempt);
        let guards = guards.await;
        if guards.as_ref().is_some_and(|guards| guards.len() != number) {
            hand.notes.violation(&format!("{number} locks are not had"));
        }
        guards
    };
    let mut held = Vec::new();
    for (place, guard) in guards.unwrap_or_default() {
        let (guard, entry) = enter(hand, named[place], guard).await;
        held.push((named[place], guard, entry));
    }
    hand.linger().await;
    held.shuffle(&mut hand.random);
    for (known, guard, entry) in held {
        go_out(hand, known, guard, entry).await;
    }
}
