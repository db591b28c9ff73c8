//! A reference of the condition, with plain lists: the holder, the line, the sleepers, and the
//! notification that each of them carries.
//!
//! Written from SEMANTICS.md. Invariant: a call carries the set of a counted notification that it
//! was woken by and has not used; a notification of all is carried by no call.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Condition, LockStatus, ReleaseBy, Wake},
};
use rand::{Rng, seq::IndexedRandom};

use crate::{
    condition::calls::{ConditionCall, ConditionTold, SETS, TOO_LONG},
    models::{
        Reference, Said,
        grants::{Grants, Left},
    },
    schedule::Schedule,
};

type Carried = Option<&'static str>;

/// One that waits for the lock.
#[derive(Clone, Copy)]
struct Comer {
    id: CallId,
    carries: Carried,
    /// What has woken it, if it has slept.
    wake: Option<Wake>,
}

#[derive(Default)]
pub(crate) struct ConditionReference {
    holder: Option<(CallId, Duration, Carried)>,
    line: Vec<Comer>,
    asleep: Vec<(CallId, &'static str)>,
    left: Option<Left>,
}

impl ConditionReference {
    fn let_in(&mut self, said: &mut Said<'_, ConditionTold>) {
        if self.holder.is_some() || self.line.is_empty() {
            return;
        }
        let Comer { id, carries, wake } = self.line.remove(0);
        self.holder = Some((id, said.now, carries));
        said.reply(
            id,
            match wake {
                None => ConditionTold::Granted(self.left),
                Some(wake) => ConditionTold::Woken(self.left, wake),
            },
        );
    }

    /// The holder leaves and has used what it carries.
    fn leave(&mut self, said: &mut Said<'_, ConditionTold>) {
        if let Some((_, _, Some(_))) = self.holder {
            said.tally.note("notification used");
        }
        self.holder = None;
        self.let_in(said);
    }

    /// The holder is taken out, and has not used what it carries.
    fn take_out(&mut self, said: &mut Said<'_, ConditionTold>) {
        let carried = self.holder.take().and_then(|(_, _, carries)| carries);
        self.let_in(said);
        if let Some(set) = carried {
            said.tally.note("notification of a holder handed on");
            self.hand_on(set, said);
        }
    }

    fn hand_on(&mut self, set: &'static str, said: &mut Said<'_, ConditionTold>) {
        let woken = self.wake(set, Some(1), said);
        said.tally.note(if woken == 1 {
            "notification that wakes another one"
        } else {
            "notification that nobody is left for"
        });
    }

    fn wake(
        &mut self,
        set: &'static str,
        most: Option<u64>,
        said: &mut Said<'_, ConditionTold>,
    ) -> u64 {
        let mut woken = 0;
        while most.is_none_or(|most| woken < most)
            && let Some(place) = self.asleep.iter().position(|(_, of)| *of == set)
        {
            woken += 1;
            let (id, set) = self.asleep.remove(place);
            self.line.push(Comer {
                id,
                carries: most.map(|_| set),
                wake: Some(Wake::Notified),
            });
            self.let_in(said);
        }
        woken
    }

    fn sleep(
        &mut self,
        id: CallId,
        grant: CallId,
        set: &'static str,
        said: &mut Said<'_, ConditionTold>,
    ) {
        if set == TOO_LONG {
            said.tally.note("sleep in a set of too long a name");
            said.reply(id, ConditionTold::TooLong);
        } else if self.holds(grant) {
            said.tally.note("sleep");
            said.end(id, grant);
            self.asleep.push((id, set));
            self.leave(said);
        } else {
            said.tally.note("sleep without the lock");
            said.reply(id, ConditionTold::Refused(Refusal::NotHeld));
        }
    }

    fn notify(
        &mut self,
        id: CallId,
        grant: CallId,
        (set, most): (&'static str, Option<u64>),
        said: &mut Said<'_, ConditionTold>,
    ) {
        if !self.holds(grant) {
            said.tally.note("notification without the lock");
            said.reply(id, ConditionTold::Refused(Refusal::NotHeld));
            return;
        }
        let woken = self.wake(set, most, said);
        said.tally.note(match (woken, most) {
            (0, _) => "notification without a sleeper",
            (_, None) => "notification of all",
            (1, Some(_)) => "notification of one",
            (_, Some(_)) => "notification of several",
        });
        said.reply(id, ConditionTold::Count(woken));
    }

    fn adopt(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, ConditionTold>) {
        match self.holder {
            Some((holder, _, carries)) if holder == grant => {
                said.tally.note(match carries {
                    Some(_) => "adoption with a notification",
                    None => "adoption without one",
                });
                said.revoked.push(grant);
                self.holder = Some((id, said.now, carries));
                said.reply(id, ConditionTold::Granted(self.left));
            }
            Some(_) | None => said.reply(id, ConditionTold::Refused(Refusal::NotHeld)),
        }
    }

    fn force_unlock(&mut self, id: CallId, said: &mut Said<'_, ConditionTold>) {
        said.reply(id, ConditionTold::WasHeld(self.holder.is_some()));
        if let Some((grant, _, _)) = self.holder {
            said.tally.note("force_unlock");
            said.revoked.push(grant);
            self.take_out(said);
        }
    }

    /// The end of its time wakes a sleeper and faults one that came for the lock. It is nothing to
    /// one that was woken.
    fn run_out(&mut self, id: CallId, said: &mut Said<'_, ConditionTold>) {
        if let Some(place) = self.asleep.iter().position(|(sleeper, _)| *sleeper == id) {
            said.tally.note("sleeper woken by the end of its time");
            self.asleep.remove(place);
            self.line.push(Comer {
                id,
                carries: None,
                wake: Some(Wake::TimedOut),
            });
            self.let_in(said);
        } else if let Some(place) = self.line.iter().position(|comer| comer.id == id) {
            if self.line[place].wake.is_some() {
                said.tally.note("end of the time of one that was woken");
            } else {
                said.tally
                    .note("end of the time of one that came for the lock");
                self.line.remove(place);
                said.fail(id, Fault::TimedOut);
            }
        }
    }
}

impl Reference for ConditionReference {
    type Kind = Condition;
    type Call = ConditionCall;
    type Told = ConditionTold;
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
            // A condition is about its sleepers: who holds the lock sleeps as often as not.
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
    ) -> Result<ConditionTold, Fault> {
        call.read(bench, id, grants)
    }

    fn serve(&mut self, id: CallId, call: &ConditionCall, said: &mut Said<'_, ConditionTold>) {
        match *call {
            ConditionCall::Acquire => {
                self.line.push(Comer {
                    id,
                    carries: None,
                    wake: None,
                });
                self.let_in(said);
            }
            ConditionCall::Release(grant) => {
                if self.holds(grant) {
                    said.end(id, grant);
                    said.reply(id, ConditionTold::Done);
                    self.leave(said);
                } else {
                    said.reply(id, ConditionTold::Refused(Refusal::NotHeld));
                }
            }
            ConditionCall::Adopt(grant) => self.adopt(id, grant, said),
            ConditionCall::MarkConsistent(grant) => {
                if self.holds(grant) {
                    self.left = None;
                    said.reply(id, ConditionTold::Done);
                } else {
                    said.reply(id, ConditionTold::Refused(Refusal::NotHeld));
                }
            }
            ConditionCall::ForceUnlock => self.force_unlock(id, said),
            ConditionCall::Status => {
                let mut status = LockStatus::default();
                status.held = self.holder.is_some();
                status.depth = u64::from(status.held);
                status.waiting = u64::try_from(self.line.len()).expect("a short line");
                said.reply(id, ConditionTold::Status(status));
            }
            ConditionCall::Sleep(grant, set) => self.sleep(id, grant, set, said),
            ConditionCall::Notify(grant, set, most) => self.notify(id, grant, (set, most), said),
            ConditionCall::CountSleepers(set) => {
                let count = self.asleep.iter().filter(|(_, of)| *of == set).count();
                let count = u64::try_from(count).expect("few sleep");
                said.reply(id, ConditionTold::Count(count));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, ConditionTold>) {
        if fault == Fault::TimedOut {
            self.run_out(id, said);
        } else if let Some(place) = self.asleep.iter().position(|(sleeper, _)| *sleeper == id) {
            said.tally.note("withdrawn sleeper");
            self.asleep.remove(place);
            said.fail(id, fault);
        } else if let Some(place) = self.line.iter().position(|comer| comer.id == id) {
            let comer = self.line.remove(place);
            said.fail(id, fault);
            if let Some(set) = comer.carries {
                said.tally
                    .note("notification of one withdrawn in the line handed on");
                self.hand_on(set, said);
            }
        } else if self.holds(id) {
            self.take_out(said);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, ConditionTold>) {
        let is_theirs = |id: CallId| id.session().number() == session;
        self.asleep.retain(|(sleeper, _)| !is_theirs(*sleeper));
        let line = std::mem::take(&mut self.line).into_iter();
        let (mut gone, stays): (Vec<Comer>, _) = line.partition(|comer| is_theirs(comer.id));
        self.line = stays;
        // Which set comes first is not promised: that of the call that was made first.
        gone.sort_by_key(|comer| comer.id);
        let carried = match self.holder {
            Some((grant, since, carries)) if is_theirs(grant) => {
                said.tally.note("mark left");
                let held = said.now - since;
                self.left = Some(Left { grant, held });
                self.holder = None;
                self.let_in(said);
                carries
            }
            Some(_) | None => None,
        };
        for set in gone.iter().filter_map(|comer| comer.carries) {
            said.tally
                .note("notification of one dead in the line handed on");
            self.hand_on(set, said);
        }
        if let Some(set) = carried {
            said.tally.note("notification of a dead holder handed on");
            self.hand_on(set, said);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.line.iter().any(|comer| comer.id == id)
            || self.asleep.iter().any(|(sleeper, _)| *sleeper == id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holder.is_some_and(|(grant, _, _)| grant == id)
    }
}
