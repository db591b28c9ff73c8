//! A reference of the condition with plain lists: the holder, the waiters, the sleepers, and the
//! notification that each of them carries.
//!
//! It is written from SEMANTICS.md. Invariant: a call carries the set of a counted notification
//! that woke it and that it has not used. No call carries a notification of all.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Condition, LockStatus, ReleaseBy, Wake},
};
use rand::{Rng, seq::IndexedRandom};

use crate::{
    condition::calls::{ConditionAnswer, ConditionCall, SETS, TOO_LONG},
    models::{
        Effects, Reference,
        grants::{Grants, Left},
    },
    schedule::Schedule,
};

type Carried = Option<&'static str>;

/// A call that waits for the lock.
#[derive(Clone, Copy)]
struct LockWaiter {
    id: CallId,
    carries: Carried,
    /// What woke it, if it slept.
    wake: Option<Wake>,
}

#[derive(Default)]
pub(crate) struct ConditionReference {
    holder: Option<(CallId, Duration, Carried)>,
    line: Vec<LockWaiter>,
    asleep: Vec<(CallId, &'static str)>,
    left: Option<Left>,
}

impl ConditionReference {
    fn grant_waiters(&mut self, effects: &mut Effects<'_, ConditionAnswer>) {
        if self.holder.is_some() || self.line.is_empty() {
            return;
        }
        let LockWaiter { id, carries, wake } = self.line.remove(0);
        self.holder = Some((id, effects.now, carries));
        effects.reply(
            id,
            match wake {
                None => ConditionAnswer::Granted(self.left),
                Some(wake) => ConditionAnswer::Woken(self.left, wake),
            },
        );
    }

    /// The holder leaves, and has used its notification.
    fn leave(&mut self, effects: &mut Effects<'_, ConditionAnswer>) {
        if let Some((_, _, Some(_))) = self.holder {
            effects.tally.note("notification used");
        }
        self.holder = None;
        self.grant_waiters(effects);
    }

    /// The holder is removed, and has not used its notification.
    fn take_out(&mut self, effects: &mut Effects<'_, ConditionAnswer>) {
        let carried = self.holder.take().and_then(|(_, _, carries)| carries);
        self.grant_waiters(effects);
        if let Some(set) = carried {
            effects.tally.note("notification of a holder passed on");
            self.hand_on(set, effects);
        }
    }

    fn hand_on(&mut self, set: &'static str, effects: &mut Effects<'_, ConditionAnswer>) {
        let woken = self.wake(set, Some(1), effects);
        effects.tally.note(if woken == 1 {
            "passed-on notification that wakes a sleeper"
        } else {
            "passed-on notification that wakes no sleeper"
        });
    }

    fn wake(
        &mut self,
        set: &'static str,
        most: Option<u64>,
        effects: &mut Effects<'_, ConditionAnswer>,
    ) -> u64 {
        let mut woken = 0;
        while most.is_none_or(|most| woken < most)
            && let Some(place) = self.asleep.iter().position(|(_, of)| *of == set)
        {
            woken += 1;
            let (id, set) = self.asleep.remove(place);
            self.line.push(LockWaiter {
                id,
                carries: most.map(|_| set),
                wake: Some(Wake::Notified),
            });
            self.grant_waiters(effects);
        }
        woken
    }

    fn sleep(
        &mut self,
        id: CallId,
        grant: CallId,
        set: &'static str,
        effects: &mut Effects<'_, ConditionAnswer>,
    ) {
        if set == TOO_LONG {
            effects.tally.note("sleep in a set with too long a name");
            effects.reply(id, ConditionAnswer::TooLong);
        } else if self.holds(grant) {
            effects.tally.note("sleep");
            effects.end(id, grant);
            self.asleep.push((id, set));
            self.leave(effects);
        } else {
            effects.tally.note("sleep without the lock");
            effects.reply(id, ConditionAnswer::Refused(Refusal::NotHeld));
        }
    }

    fn notify(
        &mut self,
        id: CallId,
        grant: CallId,
        (set, most): (&'static str, Option<u64>),
        effects: &mut Effects<'_, ConditionAnswer>,
    ) {
        if !self.holds(grant) {
            effects.tally.note("notification without the lock");
            effects.reply(id, ConditionAnswer::Refused(Refusal::NotHeld));
            return;
        }
        let woken = self.wake(set, most, effects);
        effects.tally.note(match (woken, most) {
            (0, _) => "notification that wakes no sleeper",
            (_, None) => "notification of all",
            (1, Some(_)) => "notification of one",
            (_, Some(_)) => "notification of several",
        });
        effects.reply(id, ConditionAnswer::Count(woken));
    }

    fn adopt(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, ConditionAnswer>) {
        match self.holder {
            Some((holder, _, carries)) if holder == grant => {
                effects.tally.note(match carries {
                    Some(_) => "adoption with a notification",
                    None => "adoption without a notification",
                });
                effects.revoked.push(grant);
                self.holder = Some((id, effects.now, carries));
                effects.reply(id, ConditionAnswer::Granted(self.left));
            }
            Some(_) | None => effects.reply(id, ConditionAnswer::Refused(Refusal::NotHeld)),
        }
    }

    fn force_unlock(&mut self, id: CallId, effects: &mut Effects<'_, ConditionAnswer>) {
        effects.reply(id, ConditionAnswer::WasHeld(self.holder.is_some()));
        if let Some((grant, _, _)) = self.holder {
            effects.tally.note("force_unlock");
            effects.revoked.push(grant);
            self.take_out(effects);
        }
    }

    /// The deadline wakes a sleeper, fails a waiter for the lock, and has no effect on a woken
    /// sleeper.
    fn run_out(&mut self, id: CallId, effects: &mut Effects<'_, ConditionAnswer>) {
        if let Some(place) = self.asleep.iter().position(|(sleeper, _)| *sleeper == id) {
            effects.tally.note("sleeper woken by its deadline");
            self.asleep.remove(place);
            self.line.push(LockWaiter {
                id,
                carries: None,
                wake: Some(Wake::TimedOut),
            });
            self.grant_waiters(effects);
        } else if let Some(place) = self.line.iter().position(|waiter| waiter.id == id) {
            if self.line[place].wake.is_some() {
                effects.tally.note("deadline of a woken sleeper");
            } else {
                effects.tally.note("deadline of a waiter for the lock");
                self.line.remove(place);
                effects.fail(id, Fault::TimedOut);
            }
        }
    }
}

impl Reference for ConditionReference {
    type Kind = Condition;
    type Call = ConditionCall;
    type Answer = ConditionAnswer;
    type Memory = Grants;

    fn make(_: &mut Schedule) -> (Self, Bench<Condition>) {
        let bench = Bench::new(ReleaseBy::Holder).expect("a condition needs nothing");
        (Self::default(), bench)
    }

    fn draw(&self, schedule: &mut Schedule) -> ConditionCall {
        let grant = match self.holder {
            Some((grant, _, _)) if schedule.random.random_bool(0.8) => grant,
            Some(_) | None => schedule.any_call(),
        };
        let set = SETS.choose(&mut schedule.random).expect("three sets");
        let random = &mut schedule.random;
        let most = [None, Some(0), Some(1), Some(1), Some(2), Some(u64::MAX)];
        let most = *most.choose(random).expect("some numbers");
        let lot = random.random_range(0..24);
        if schedule.asks() {
            // The holder of the lock sleeps in half of the steps, so that there are many sleepers.
            return match lot {
                0 => ConditionCall::Sleep(grant, TOO_LONG),
                1..=11 => ConditionCall::Sleep(grant, set),
                _ => ConditionCall::Acquire,
            };
        }
        match lot {
            0..=8 => ConditionCall::Notify(grant, set, most),
            9..=16 => ConditionCall::Release(grant),
            17..=18 => ConditionCall::Adopt(grant),
            19 => ConditionCall::MarkConsistent(grant),
            20 => ConditionCall::ForceUnlock,
            21 => ConditionCall::Status,
            _ => ConditionCall::CountSleepers(set),
        }
    }

    fn send(
        bench: &mut Bench<Condition>,
        session: u64,
        call: &ConditionCall,
        timeout: Option<Duration>,
    ) -> CallId {
        call.send(bench, session, timeout)
    }

    fn read(
        bench: &Bench<Condition>,
        id: CallId,
        call: &ConditionCall,
        grants: &mut Grants,
    ) -> Result<ConditionAnswer, Fault> {
        call.read(bench, id, grants)
    }

    fn serve(
        &mut self,
        id: CallId,
        call: &ConditionCall,
        effects: &mut Effects<'_, ConditionAnswer>,
    ) {
        match *call {
            ConditionCall::Acquire => {
                self.line.push(LockWaiter {
                    id,
                    carries: None,
                    wake: None,
                });
                self.grant_waiters(effects);
            }
            ConditionCall::Release(grant) => {
                if self.holds(grant) {
                    effects.end(id, grant);
                    effects.reply(id, ConditionAnswer::Done);
                    self.leave(effects);
                } else {
                    effects.reply(id, ConditionAnswer::Refused(Refusal::NotHeld));
                }
            }
            ConditionCall::Adopt(grant) => self.adopt(id, grant, effects),
            ConditionCall::MarkConsistent(grant) => {
                if self.holds(grant) {
                    self.left = None;
                    effects.reply(id, ConditionAnswer::Done);
                } else {
                    effects.reply(id, ConditionAnswer::Refused(Refusal::NotHeld));
                }
            }
            ConditionCall::ForceUnlock => self.force_unlock(id, effects),
            ConditionCall::Status => {
                let mut status = LockStatus::default();
                status.is_held = self.holder.is_some();
                status.depth = u64::from(status.is_held);
                status.waiting = u64::try_from(self.line.len()).expect("a short line");
                effects.reply(id, ConditionAnswer::Status(status));
            }
            ConditionCall::Sleep(grant, set) => self.sleep(id, grant, set, effects),
            ConditionCall::Notify(grant, set, most) => self.notify(id, grant, (set, most), effects),
            ConditionCall::CountSleepers(set) => {
                let count = self.asleep.iter().filter(|(_, of)| *of == set).count();
                let count = u64::try_from(count).expect("few sleep");
                effects.reply(id, ConditionAnswer::Count(count));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, ConditionAnswer>) {
        if fault == Fault::TimedOut {
            self.run_out(id, effects);
        } else if let Some(place) = self.asleep.iter().position(|(sleeper, _)| *sleeper == id) {
            effects.tally.note("withdrawn sleeper");
            self.asleep.remove(place);
            effects.fail(id, fault);
        } else if let Some(place) = self.line.iter().position(|waiter| waiter.id == id) {
            let waiter = self.line.remove(place);
            effects.fail(id, fault);
            if let Some(set) = waiter.carries {
                effects
                    .tally
                    .note("notification of a withdrawn waiter passed on");
                self.hand_on(set, effects);
            }
        } else if self.holds(id) {
            self.take_out(effects);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, ConditionAnswer>) {
        let is_theirs = |id: CallId| id.session().number() == session;
        self.asleep.retain(|(sleeper, _)| !is_theirs(*sleeper));
        let line = std::mem::take(&mut self.line).into_iter();
        let (mut gone, stays): (Vec<LockWaiter>, _) = line.partition(|waiter| is_theirs(waiter.id));
        self.line = stays;
        // The order of the sets is not promised. The condition takes the order in which the calls
        // were made.
        gone.sort_by_key(|waiter| waiter.id);
        let carried = match self.holder {
            Some((grant, since, carries)) if is_theirs(grant) => {
                effects.tally.note("mark left");
                let held = effects.now - since;
                self.left = Some(Left { grant, held });
                self.holder = None;
                self.grant_waiters(effects);
                carries
            }
            Some(_) | None => None,
        };
        for set in gone.iter().filter_map(|waiter| waiter.carries) {
            effects
                .tally
                .note("notification of a dead waiter passed on");
            self.hand_on(set, effects);
        }
        if let Some(set) = carried {
            effects
                .tally
                .note("notification of a dead holder passed on");
            self.hand_on(set, effects);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.line.iter().any(|waiter| waiter.id == id)
            || self.asleep.iter().any(|(sleeper, _)| *sleeper == id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holder.is_some_and(|(grant, _, _)| grant == id)
    }
}
