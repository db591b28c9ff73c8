//! The barrier against a reference: a list of arrivals.
//!
//! The model knows the barrier only through its calls and their answers.

mod calls;

use std::time::Duration;

use lockkeeper_actors::{
    Bench, Breach, CallId, Fault, Peer, Refusal,
    sync::{Barrier, BarrierSpec, OnDeath},
};
use rand::Rng;

use crate::{
    models::{
        Reference, Said, agree,
        barrier::calls::{BarrierCall, BarrierTold, By},
    },
    schedule::Schedule,
};

#[test]
fn barrier_agrees_with_its_reference() {
    agree::<BarrierReference>(
        "barrier_agrees_with_its_reference",
        2_000,
        &[
            "passage without an action",
            "passage after an action",
            "passage without the one who ran the action",
            "passage of several generations at once",
            "action",
            "action of those who were early",
            "action anew, since all have left whom it was run for",
            "arrival while the action runs",
            "arrival after the action in the place of another",
            "arrival at a broken barrier",
            "arrival taken back",
            "arrival taken back while the action runs",
            "arrival taken back after the action",
            "turn taken back",
            "turn taken back that goes to one who was early",
            "turn taken back that was finished",
            "finish",
            "finish that has to wait",
            "finish that is taken back",
            "finish by a stranger",
            "finish of what broke",
            "finish of what was finished",
            "finish of what is over",
            "failure",
            "failure told by a stranger",
            "failure told too late",
            "time over that breaks it",
            "time over while the action runs",
            "time over after the action",
            "abort",
            "abort while the action runs",
            "abort of what is broken",
            "reset",
            "reset while the action runs",
            "reset of what is broken",
            "death that breaks it",
            "death that takes an arrival back",
            "death that takes an arrival back while the action runs",
            "death after the action that takes the arrival back",
            "death in the action that breaks it",
            "death in the action that breaks it where others take arrivals back",
            "death elsewhere",
            "many parties",
        ],
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Waits,
    /// It runs the action.
    Acts,
    /// It has run the action, and waits by this call.
    HasActed(CallId),
}

#[derive(Clone, Copy)]
struct Party {
    id: CallId,
    brings_action: bool,
    stage: Stage,
}

impl Party {
    /// The call that it waits by.
    fn waits_by(&self) -> Option<CallId> {
        match self.stage {
            Stage::Waits => Some(self.id),
            Stage::Acts => None,
            Stage::HasActed(finish) => Some(finish),
        }
    }
}

/// Once enough have arrived the first of them are let pass, after the action of the last of these.
struct BarrierReference {
    parties: usize,
    on_death: OnDeath,
    arrived: Vec<Party>,
    /// Whether the action of this generation was run.
    was_run: bool,
    generation: u64,
    broken: Option<Breach>,
    /// Whether few calls come while an action runs, so that a call that leaves is missed.
    calm: bool,
}

impl BarrierReference {
    fn acting(&self) -> Option<CallId> {
        let acting = self.arrived.iter().find(|party| party.stage == Stage::Acts);
        acting.map(|party| party.id)
    }

    /// Has the action run if it is time, or lets pass who may. Tells how many generations passed.
    fn settle(&mut self, said: &mut Said<'_, BarrierTold>) -> u64 {
        let before = self.generation;
        while self.arrived.len() >= self.parties && self.acting().is_none() {
            let last = &mut self.arrived[self.parties - 1];
            if last.brings_action && !self.was_run {
                last.stage = Stage::Acts;
                said.reply(last.id, BarrierTold::Act);
                said.tally.note(if self.generation > before {
                    "action of those who were early"
                } else {
                    "action"
                });
            } else {
                self.pass(said);
            }
        }
        if self.arrived.is_empty() {
            // No remaining party needs it.
            self.was_run = false;
        }
        let passed = self.generation - before;
        if passed > 1 {
            said.tally.note("passage of several generations at once");
        }
        passed
    }

    fn pass(&mut self, said: &mut Said<'_, BarrierTold>) {
        let passing: Vec<Party> = self.arrived.drain(..self.parties).collect();
        let has_acted = |party: &Party| matches!(party.stage, Stage::HasActed(_));
        let ran = passing.iter().position(has_acted);
        said.tally.note(match (ran, self.was_run) {
            (Some(_), _) => "passage after an action",
            (None, true) => "passage without the one who ran the action",
            (None, false) => "passage without an action",
        });
        let leader = ran.unwrap_or(self.parties - 1);
        let generation = self.generation;
        for (place, party) in passing.into_iter().enumerate() {
            let id = party.waits_by().expect("nobody runs an action now");
            said.reply(
                id,
                BarrierTold::Passed {
                    index: u32::try_from(place).expect("few parties"),
                    is_leader: place == leader,
                    generation,
                },
            );
        }
        self.generation += 1;
        self.was_run = false;
    }

    /// Tells all who wait what broke the barrier.
    fn turn_away(&mut self, breach: &Breach, said: &mut Said<'_, BarrierTold>) {
        for id in self.arrived.drain(..).filter_map(|party| party.waits_by()) {
            said.reply(id, BarrierTold::Refused(Refusal::Broken(breach.clone())));
        }
        self.was_run = false;
    }

    fn shatter(&mut self, breach: Breach, said: &mut Said<'_, BarrierTold>) {
        self.turn_away(&breach, said);
        self.broken = Some(breach);
    }

    fn arrive(&mut self, id: CallId, brings_action: bool, said: &mut Said<'_, BarrierTold>) {
        if let Some(breach) = &self.broken {
            said.tally.note("arrival at a broken barrier");
            let breach = breach.clone();
            said.reply(id, BarrierTold::Refused(Refusal::Broken(breach)));
            return;
        }
        if self.acting().is_some() {
            said.tally.note("arrival while the action runs");
        } else if self.was_run {
            said.tally
                .note("arrival after the action in the place of another");
        }
        self.arrived.push(Party {
            id,
            brings_action,
            stage: Stage::Waits,
        });
        if self.arrived.len() > 64 {
            said.tally.note("many parties");
        }
        self.settle(said);
    }

    /// Whether a call tells of an action that its own session runs.
    fn tells_of(&self, id: CallId, turn: CallId) -> bool {
        self.acting() == Some(turn) && id.session() == turn.session()
    }

    fn finish(&mut self, id: CallId, turn: CallId, said: &mut Said<'_, BarrierTold>) {
        if self.tells_of(id, turn) {
            for party in &mut self.arrived {
                if party.id == turn {
                    party.stage = Stage::HasActed(id);
                }
            }
            self.was_run = true;
            let passed = self.settle(said);
            said.tally.note(match passed {
                0 => "finish that has to wait",
                _ => "finish",
            });
        } else if id.session() == turn.session() {
            said.tally.note(match self.broken {
                Some(_) => "finish of what broke",
                None if self.was_run => "finish of what was finished",
                None => "finish of what is over",
            });
            // To whom it is still a turn learns here what has become of it.
            let breach = self.broken.clone().unwrap_or(Breach::Reset);
            said.reply(id, BarrierTold::Refused(Refusal::Broken(breach)));
        } else {
            said.tally.note("finish by a stranger");
            said.reply(id, BarrierTold::Refused(Refusal::NotHeld));
        }
    }

    fn fail(&mut self, id: CallId, turn: CallId, said: &mut Said<'_, BarrierTold>) {
        if self.tells_of(id, turn) {
            said.tally.note("failure");
            self.shatter(Breach::ActionFailed, said);
        } else {
            said.tally.note(match self.acting() {
                Some(acting) if acting == turn => "failure told by a stranger",
                Some(_) | None => "failure told too late",
            });
        }
        said.reply(id, BarrierTold::Done);
    }

    /// The arrival is as if it had never been.
    fn take_back(&mut self, party: Party, said: &mut Said<'_, BarrierTold>) {
        said.tally.note(match party.stage {
            Stage::Acts => "turn taken back",
            Stage::HasActed(_) => "finish that is taken back",
            Stage::Waits if self.acting().is_some() => "arrival taken back while the action runs",
            Stage::Waits if self.was_run => "arrival taken back after the action",
            Stage::Waits => "arrival taken back",
        });
        let was_run = self.was_run;
        self.arrived.retain(|other| other.id != party.id);
        self.settle(said);
        if party.stage == Stage::Acts && self.acting().is_some() {
            said.tally
                .note("turn taken back that goes to one who was early");
        }
        if was_run && !self.was_run {
            said.tally
                .note("action anew, since all have left whom it was run for");
        }
    }
}

impl Reference for BarrierReference {
    type Kind = Barrier;
    type Call = BarrierCall;
    type Told = BarrierTold;
    type Memory = ();

    fn make(schedule: &mut Schedule) -> (Self, Bench<Barrier>) {
        let parties: u32 = if schedule.random.random_bool(0.05) {
            schedule.random.random_range(60..=80)
        } else {
            schedule.random.random_range(1..=5)
        };
        let on_death = if schedule.random.random() {
            OnDeath::Break
        } else {
            OnDeath::Retract
        };
        let spec = BarrierSpec::from(parties).on_death(on_death);
        let reference = Self {
            parties: usize::try_from(parties).expect("few parties"),
            on_death,
            arrived: Vec::new(),
            was_run: false,
            generation: 0,
            broken: None,
            calm: schedule.random.random_bool(0.7),
        };
        (reference, Bench::new(spec).expect("it has parties"))
    }

    /// Of many parties, all but a few have arrived already: chance would break it before.
    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, BarrierCall)> {
        if self.parties < 60 {
            return Vec::new();
        }
        let sessions = [(); 4].map(|()| schedule.join());
        let arrivals = (3..self.parties).zip(sessions.into_iter().cycle());
        arrivals
            .map(|(_, session)| (session, BarrierCall::Arrive { acts: true }))
            .collect()
    }

    fn draw(&self, schedule: &mut Schedule) -> BarrierCall {
        if self.broken.is_some() && schedule.random.random_bool(0.8) {
            return BarrierCall::Reset;
        }
        let few = self.calm && (self.was_run || self.acting().is_some());
        if schedule.asks() && (!few || schedule.random.random_bool(0.1)) {
            let acts = schedule.random.random_bool(0.7);
            return BarrierCall::Arrive { acts };
        }
        let turn = match self.acting() {
            Some(turn) if schedule.random.random_bool(0.9) => turn,
            Some(_) | None => schedule.any_call(),
        };
        let by = if schedule.random.random_bool(0.8) && schedule.is_live(turn.session()) {
            By::Itself
        } else {
            By::Anyone
        };
        match schedule.random.random_range(0..20) {
            0..=7 => BarrierCall::Finish { turn, by },
            8 => BarrierCall::Fail { turn, by },
            9 => BarrierCall::Abort,
            10 => BarrierCall::Reset,
            _ => BarrierCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<Barrier>,
        session: u64,
        call: &BarrierCall,
        timeout: Option<Duration>,
    ) -> CallId {
        call.send(bench, session, timeout)
    }

    fn read(
        bench: &Bench<Barrier>,
        id: CallId,
        call: &BarrierCall,
        (): &mut (),
    ) -> Result<BarrierTold, Fault> {
        call.read(bench, id)
    }

    fn serve(&mut self, id: CallId, call: &BarrierCall, said: &mut Said<'_, BarrierTold>) {
        match *call {
            BarrierCall::Arrive { acts } => self.arrive(id, acts, said),
            BarrierCall::Finish { turn, .. } => self.finish(id, turn, said),
            BarrierCall::Fail { turn, .. } => self.fail(id, turn, said),
            BarrierCall::Abort => {
                said.tally.note(match (&self.broken, self.acting()) {
                    (Some(_), _) => "abort of what is broken",
                    (None, Some(_)) => "abort while the action runs",
                    (None, None) => "abort",
                });
                self.shatter(Breach::Aborted, said);
                said.reply(id, BarrierTold::Done);
            }
            BarrierCall::Reset => {
                said.tally.note(match (&self.broken, self.acting()) {
                    (Some(_), _) => "reset of what is broken",
                    (None, Some(_)) => "reset while the action runs",
                    (None, None) => "reset",
                });
                self.turn_away(&Breach::Reset, said);
                self.broken = None;
                said.reply(id, BarrierTold::Done);
            }
            BarrierCall::Count => said.reply(
                id,
                BarrierTold::State {
                    parties: u32::try_from(self.parties).expect("few parties"),
                    arrived: u64::try_from(self.arrived.len()).expect("few parties"),
                    generation: self.generation,
                    broken: self.broken.clone(),
                },
            ),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, BarrierTold>) {
        let of = |party: &&Party| party.id == id || party.waits_by() == Some(id);
        let Some(party) = self.arrived.iter().find(of).copied() else {
            return;
        };
        match party.waits_by() {
            Some(waiting) if waiting == id => said.fail(id, fault.clone()),
            Some(finish) => {
                said.tally.note("turn taken back that was finished");
                said.reply(finish, BarrierTold::Refused(Refusal::NotHeld));
            }
            None => {}
        }
        if fault == Fault::TimedOut {
            said.tally.note(if self.acting().is_some() {
                "time over while the action runs"
            } else if self.was_run {
                "time over after the action"
            } else {
                "time over that breaks it"
            });
            self.arrived.retain(|other| other.id != party.id);
            self.shatter(Breach::TimedOut, said);
        } else {
            self.take_back(party, said);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, BarrierTold>) {
        let is_theirs = |party: &Party| party.id.session().number() == session;
        let (gone, left): (Vec<Party>, _) = self.arrived.drain(..).partition(is_theirs);
        self.arrived = left;
        let acted = gone.iter().any(|party| party.stage == Stage::Acts);
        let has_acted = |party: &Party| matches!(party.stage, Stage::HasActed(_));
        said.tally.note(match self.on_death {
            _ if gone.is_empty() => "death elsewhere",
            OnDeath::Break if acted => "death in the action that breaks it",
            OnDeath::Break => "death that breaks it",
            OnDeath::Retract if acted => {
                "death in the action that breaks it where others take arrivals back"
            }
            OnDeath::Retract if gone.iter().any(has_acted) => {
                "death after the action that takes the arrival back"
            }
            OnDeath::Retract if self.acting().is_some() => {
                "death that takes an arrival back while the action runs"
            }
            OnDeath::Retract => "death that takes an arrival back",
        });
        if acted || (!gone.is_empty() && self.on_death == OnDeath::Break) {
            self.shatter(Breach::Died(Peer::default()), said);
        } else {
            self.settle(said);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        let mut waiting = self.arrived.iter().filter_map(Party::waits_by);
        waiting.any(|waiting| waiting == id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.acting() == Some(id)
    }
}
