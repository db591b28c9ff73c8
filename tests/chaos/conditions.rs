//! The actions of processes on conditions: they add items to a buffer, and remove items.

use std::{fs, path::PathBuf, time::Instant};

use lockkeeper::{CallError, Condition, ConditionGuard, guards::Wake};
use rand::Rng;

use super::{
    exclusive::{self, acquire_randomly, enter, leave_and_release},
    setup::{NOT_EMPTY, NOT_FULL, Named},
    worker::Runner,
};

/// The capacity of a buffer.
const CAPACITY: u8 = 3;

/// The number of items in a buffer, which the condition's lock protects.
#[derive(Clone, Debug)]
struct Buffer(PathBuf);

impl Buffer {
    /// A process that died while it wrote left an empty file.
    fn items(&self) -> u8 {
        let items = fs::read(&self.0).unwrap_or_default();
        items.first().copied().unwrap_or(0)
    }

    fn set(&self, items: u8) {
        fs::write(&self.0, [items]).expect("a file can be written");
    }
}

/// Adds or removes an item, after a wait if necessary.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<Condition>) {
    if runner.chance(6) {
        return exclusive::act_on(runner, named).await;
    }
    let buffer = Buffer(runner.notes.path("now", &named.name));
    let puts = runner.random.random();
    let (mine, theirs) = if puts {
        (NOT_FULL, NOT_EMPTY)
    } else {
        (NOT_EMPTY, NOT_FULL)
    };
    let must_wait = {
        let buffer = buffer.clone();
        move || buffer.items() == if puts { CAPACITY } else { 0 }
    };
    let Some((mut guard, mut entry)) = acquire_randomly(runner, named).await else {
        return;
    };
    for _ in 0..3 {
        if !must_wait() {
            let items = buffer.items();
            buffer.set(if puts { items + 1 } else { items - 1 });
            notify(runner, named, theirs, &guard).await;
            break;
        }
        let hold_record = named.hold_record(&runner.notes);
        hold_record.leave(entry.clone());
        match sleep(runner, named, mine, guard, must_wait.clone()).await {
            None => return,
            Some(Slept::NotAtAll(same)) => {
                hold_record.come_back(&entry);
                guard = same;
            }
            Some(Slept::Well(woken)) => (guard, entry) = enter(runner, named, woken).await,
        }
    }
    runner.pause().await;
    leave_and_release(runner, named, guard, entry).await;
}

/// The outcome of a wait.
enum Slept {
    Well(ConditionGuard),
    /// The timeout ended before the first sleep, and the lock was held throughout.
    NotAtAll(ConditionGuard),
}

/// Waits in a randomly chosen way.
async fn sleep(
    runner: &mut Runner,
    named: &Named<Condition>,
    set: &str,
    guard: ConditionGuard,
    must_wait: impl Fn() -> bool + Send + 'static,
) -> Option<Slept> {
    let fence = guard.fence();
    let mut may_stay_awake = false;
    let condition = named.object.wait_set(set);
    let (begun, brief) = (Instant::now(), runner.brief());
    let woken = match runner.random.random_range(0..6) {
        0 => {
            runner.trace(named, "wait");
            Some(condition.wait(guard).await)
        }
        1 | 2 => {
            runner.trace(named, "wait with a timeout");
            Some(condition.wait(guard).timeout(brief).await)
        }
        3 => {
            runner.trace(named, "wait_while with a timeout");
            may_stay_awake = true;
            let woken = condition.wait_while(guard, must_wait).timeout(brief);
            Some(woken.await)
        }
        4 => {
            runner.trace(named, "wait_while and drop");
            runner.give_up(condition.wait_while(guard, must_wait)).await
        }
        _ => {
            runner.trace(named, "wait and drop");
            runner.give_up(condition.wait(guard)).await
        }
    };
    if let Some(Err(CallError::TimedOut(_))) = woken {
        runner.notes.violation(&format!(
            "{}: a timeout is not an error of this call",
            named.name
        ));
    }
    let guard = runner.granted(&named.name, woken)?;
    let wake = if guard.timed_out() {
        Wake::TimedOut
    } else {
        Wake::Notified
    };
    let has_stayed_awake = may_stay_awake && wake == Wake::TimedOut && guard.fence() == fence;
    match wake {
        Wake::Notified => runner.count(named, "woken by notification"),
        Wake::TimedOut => {
            runner.count(named, "woken by timeout");
            let waited = begun.elapsed();
            if waited < brief {
                runner
                    .notes
                    .violation(&format!("a timeout of {brief:?} ended after {waited:?}"));
            }
        }
    }
    Some(if has_stayed_awake {
        runner.count(named, "timed out before the first sleep");
        Slept::NotAtAll(guard)
    } else {
        Slept::Well(guard)
    })
}

/// Notifies some sleepers of a wait set. No other task begins to sleep meanwhile, because this one
/// holds the lock.
async fn notify(runner: &mut Runner, named: &Named<Condition>, set: &str, guard: &ConditionGuard) {
    let condition = named.object.wait_set(set);
    let asleep = runner.granted(&named.name, Some(condition.sleepers().await));
    let some = runner.random.random_range(0..4);
    let (most, woken) = match runner.random.random_range(0..4) {
        0 | 1 => {
            runner.trace(named, "notify_one");
            (1, Some(condition.notify_one(guard).await))
        }
        2 => {
            runner.trace(named, "notify");
            (some, Some(condition.notify(guard, some).await))
        }
        _ => {
            runner.trace(named, "notify_all");
            let woken = condition.notify_all(guard);
            (u64::MAX, runner.give_up(woken).await)
        }
    };
    if let Some(woken) = runner.granted(&named.name, woken)
        && let Some(asleep) = asleep
        && woken > most.min(asleep)
    {
        let words = format!("{}: {woken} of {asleep} woken, not {most}", named.name);
        runner.notes.violation(&words);
    }
}
