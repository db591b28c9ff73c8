//! The actions of processes on several locks at once: all of them, or any n of them.

use lockkeeper::{Lock, lock_all, lock_some, try_lock_all, try_lock_some};
use rand::{Rng, seq::SliceRandom};

use super::{
    exclusive::{enter, leave_and_release},
    setup::Named,
    worker::Runner,
};

/// Holds several locks, in random order of their names.
pub(crate) async fn act_on(runner: &mut Runner, locks: &[Named<Lock>]) {
    let mut named: Vec<&Named<Lock>> = locks.iter().collect();
    named.shuffle(&mut runner.random);
    named.truncate(runner.random.random_range(2..=locks.len()));
    let several = || named.iter().map(|named| &named.object);
    let guards = if runner.random.random() {
        let (wait, attempt) = (|| lock_all(several()), || try_lock_all(several()));
        let limit = |time| lock_all(several()).timeout(time);
        let guards = runner.obtain(named[0], "lock_all", wait, limit, attempt);
        let guards = guards.await;
        guards.map(|guards| guards.into_iter().enumerate().collect())
    } else {
        let number = runner.random.random_range(1..named.len());
        let wait = || lock_some(number, several());
        let limit = |time| lock_some(number, several()).timeout(time);
        let attempt = || try_lock_some(number, several());
        let guards = runner.obtain(named[0], "lock_some", wait, limit, attempt);
        let guards = guards.await;
        if guards.as_ref().is_some_and(|guards| guards.len() != number) {
            runner
                .notes
                .violation(&format!("{number} locks were not granted"));
        }
        guards
    };
    let mut held = Vec::new();
    for (place, guard) in guards.unwrap_or_default() {
        let (guard, entry) = enter(runner, named[place], guard).await;
        held.push((named[place], guard, entry));
    }
    runner.pause().await;
    held.shuffle(&mut runner.random);
    for (named, guard, entry) in held {
        leave_and_release(runner, named, guard, entry).await;
    }
}
