//! What processes do with conditions: they put goods on a shelf, and take them from it.

use std::{fs, path::PathBuf, time::Instant};

use lockkeeper::{CallError, Condition, ConditionGuard, guards::Wake};
use rand::Rng;

use super::{
    exclusive::{self, come_in, enter, go_out},
    scene::{Known, NOT_EMPTY, NOT_FULL},
    worker::Hand,
};

/// How much there is room for.
const ROOM: u8 = 3;

/// What stands on a shelf, as the condition's lock protects it.
#[derive(Clone, Debug)]
struct Shelf(PathBuf);

impl Shelf {
    /// Who died while he put something down left nothing.
    fn goods(&self) -> u8 {
        let goods = fs::read(&self.0).unwrap_or_default();
        goods.first().copied().unwrap_or(0)
    }

    fn set(&self, goods: u8) {
        fs::write(&self.0, [goods]).expect("a file can be written");
    }
}

/// Puts something down or takes something up, after a wait if need be.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<Condition>) {
    if hand.chance(6) {
        return exclusive::visit(hand, known).await;
    }
    let shelf = Shelf(hand.notes.path("now", &known.name));
    let puts = hand.random.random();
    let (mine, theirs) = if puts {
        (NOT_FULL, NOT_EMPTY)
    } else {
        (NOT_EMPTY, NOT_FULL)
    };
    let must_wait = {
        let shelf = shelf.clone();
        move || shelf.goods() == if puts { ROOM } else { 0 }
    };
    let Some((mut guard, mut entry)) = come_in(hand, known).await else {
        return;
    };
    for _ in 0..3 {
        if !must_wait() {
            let goods = shelf.goods();
            shelf.set(if puts { goods + 1 } else { goods - 1 });
            notify(hand, known, theirs, &guard).await;
            break;
        }
        let ledger = known.ledger(&hand.notes);
        ledger.leave(entry.clone());
        match sleep(hand, known, mine, guard, must_wait.clone()).await {
            None => return,
            Some(Slept::NotAtAll(same)) => {
                ledger.come_back(&entry);
                guard = same;
            }
            Some(Slept::Well(woken)) => (guard, entry) = enter(hand, known, woken).await,
        }
    }
    hand.linger().await;
    go_out(hand, known, guard, entry).await;
}

/// The guard after a wait.
enum Slept {
    Well(ConditionGuard),
    /// The time was over before the first sleep, and the lock was held all the time.
    NotAtAll(ConditionGuard),
}

/// Waits in one of the ways that there are.
async fn sleep(
    hand: &mut Hand,
    known: &Known<Condition>,
    set: &str,
    guard: ConditionGuard,
    must_wait: impl Fn() -> bool + Send + 'static,
) -> Option<Slept> {
    let fence = guard.fence();
    let mut may_stay_awake = false;
    let condition = known.object.wait_set(set);
    let (begun, brief) = (Instant::now(), hand.brief());
    let woken = match hand.random.random_range(0..6) {
        0 => {
            hand.does(known, "wait");
            Some(condition.wait(guard).await)
        }
        1 | 2 => {
            hand.does(known, "wait with a timeout");
            Some(condition.wait(guard).timeout(brief).await)
        }
        3 => {
            hand.does(known, "wait_while with a timeout");
            may_stay_awake = true;
            let woken = condition.wait_while(guard, must_wait).timeout(brief);
            Some(woken.await)
        }
        4 => {
            hand.does(known, "wait_while and drop");
            hand.give_up(condition.wait_while(guard, must_wait)).await
        }
        _ => {
            hand.does(known, "wait and drop");
            hand.give_up(condition.wait(guard)).await
        }
    };
    if let Some(Err(CallError::TimedOut(_))) = woken {
        hand.notes
            .violation(&format!("{}: the end of the time is no error", known.name));
    }
    let guard = hand.granted(&known.name, woken)?;
    let wake = if guard.timed_out() {
        Wake::TimedOut
    } else {
        Wake::Notified
    };
    let has_stayed_awake = may_stay_awake && wake == Wake::TimedOut && guard.fence() == fence;
    match wake {
        Wake::Notified => hand.count(known, "woken by notification"),
        Wake::TimedOut => {
            hand.count(known, "woken by timeout");
            let waited = begun.elapsed();
            if waited < brief {
                hand.notes
                    .violation(&format!("{brief:?} were over after {waited:?}"));
            }
        }
    }
    Some(if has_stayed_awake {
        hand.count(known, "no time to sleep");
        Slept::NotAtAll(guard)
    } else {
        Slept::Well(guard)
    })
}

/// Notifies some of a wait set. No other task falls asleep meanwhile, since the lock is held.
async fn notify(hand: &mut Hand, known: &Known<Condition>, set: &str, guard: &ConditionGuard) {
    let condition = known.object.wait_set(set);
    let asleep = hand.granted(&known.name, Some(condition.sleepers().await));
    let some = hand.random.random_range(0..4);
    let (most, woken) = match hand.random.random_range(0..4) {
        0 | 1 => {
            hand.does(known, "notify_one");
            (1, Some(condition.notify_one(guard).await))
        }
        2 => {
            hand.does(known, "notify");
            (some, Some(condition.notify(guard, some).await))
        }
        _ => {
            hand.does(known, "notify_all");
            let woken = condition.notify_all(guard);
            (u64::MAX, hand.give_up(woken).await)
        }
    };
    if let Some(woken) = hand.granted(&known.name, woken)
        && let Some(asleep) = asleep
        && woken > most.min(asleep)
    {
        let words = format!("{}: {woken} of {asleep} woken, not {most}", known.name);
        hand.notes.violation(&words);
    }
}
