//! Compares the barrier with a reference, which is a list of arrivals.
//!
//! The model uses only the barrier's calls and answers.

mod calls;

use std::time::Duration;

use lockkeeper_actors::{
    Bench, BreakReason, CallId, Fault, Peer, Refusal,
    sync::{Barrier, BarrierSpec, OnDeath},
};
use rand::Rng;

use crate::{
    models::{
        Effects, Reference, agree,
        barrier::calls::{BarrierAnswer, BarrierCall, By},
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
            "passage without the party that ran the action",
            "passage of several generations at once",
            "action",
            "action of parties that arrived early",
            "action repeated because all its parties have left",
            "arrival while the action runs",
            "arrival after the action that replaces another",
            "arrival at a broken barrier",
            "withdrawn arrival",
            "withdrawn arrival while the action runs",
            "withdrawn arrival after the action",
            "withdrawn turn",
            "withdrawn turn that goes to an early party",
            "withdrawn turn that was finished",
            "finish",
            "finish that has to wait",
            "withdrawn finish",
            "finish by another session",
            "finish of a broken generation",
            "finish of a finished generation",
            "finish of an earlier generation",
            "failure",
            "failure reported by another session",
            "failure reported too late",
            "deadline that breaks the barrier",
            "deadline while the action runs",
            "deadline after the action",
            "abort",
            "abort while the action runs",
            "abort of a broken barrier",
            "reset",
            "reset while the action runs",
            "reset of a broken barrier",
            "death that breaks the barrier",
            "death that withdraws an arrival",
            "death that withdraws an arrival while the action runs",
            "death after the action that withdraws the arrival",
            "death in the action that breaks the barrier",
            "death in the action that breaks the barrier although other deaths withdraw arrivals",
            "death elsewhere",
            "many parties",
        ],
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Waits,
    /// The party runs the action.
    Acts,
    /// The party has run the action, and waits with this call.
    HasActed(CallId),
}

#[derive(Clone, Copy)]
struct Party {
    id: CallId,
    brings_action: bool,
    stage: Stage,
}

impl Party {
    /// Returns the call with which the party waits.
    fn waits_by(&self) -> Option<CallId> {
        match self.stage {
            Stage::Waits => Some(self.id),
            Stage::Acts => None,
            Stage::HasActed(finish) => Some(finish),
        }
    }
}

/// Once enough parties have arrived, the last of the generation runs the action, and then the
/// generation passes.
struct BarrierReference {
    parties: usize,
    on_death: OnDeath,
    arrived: Vec<Party>,
    /// Whether the action of this generation has run.
    was_run: bool,
    generation: u64,
    broken: Option<BreakReason>,
    /// Whether few calls come while an action runs, so that a party that leaves is not replaced.
    calm: bool,
}

impl BarrierReference {
    fn acting(&self) -> Option<CallId> {
        let acting = self.arrived.iter().find(|party| party.stage == Stage::Acts);
        acting.map(|party| party.id)
    }

    /// Starts the action or lets generations pass, as far as possible. Returns the number of
    /// generations that passed.
    fn settle(&mut self, effects: &mut Effects<'_, BarrierAnswer>) -> u64 {
        let before = self.generation;
        while self.arrived.len() >= self.parties && self.acting().is_none() {
            let last = &mut self.arrived[self.parties - 1];
            if last.brings_action && !self.was_run {
                last.stage = Stage::Acts;
                effects.reply(last.id, BarrierAnswer::Act);
                effects.tally.note(if self.generation > before {
                    "action of parties that arrived early"
                } else {
                    "action"
                });
            } else {
                self.pass(effects);
            }
        }
        if self.arrived.is_empty() {
            // No remaining party needs the action.
            self.was_run = false;
        }
        let passed = self.generation - before;
        if passed > 1 {
            effects.tally.note("passage of several generations at once");
        }
        passed
    }

    fn pass(&mut self, effects: &mut Effects<'_, BarrierAnswer>) {
        let passing: Vec<Party> = self.arrived.drain(..self.parties).collect();
        let has_acted = |party: &Party| matches!(party.stage, Stage::HasActed(_));
        let ran = passing.iter().position(has_acted);
        effects.tally.note(match (ran, self.was_run) {
            (Some(_), _) => "passage after an action",
            (None, true) => "passage without the party that ran the action",
            (None, false) => "passage without an action",
        });
        let leader = ran.unwrap_or(self.parties - 1);
        let generation = self.generation;
        for (place, party) in passing.into_iter().enumerate() {
            let id = party.waits_by().expect("no action is running");
            effects.reply(
                id,
                BarrierAnswer::Passed {
                    index: u32::try_from(place).expect("few parties"),
                    is_leader: place == leader,
                    generation,
                },
            );
        }
        self.generation += 1;
        self.was_run = false;
    }

    /// Answers all waiters with the reason why the barrier broke.
    fn fail_waiters(&mut self, reason: &BreakReason, effects: &mut Effects<'_, BarrierAnswer>) {
        for id in self.arrived.drain(..).filter_map(|party| party.waits_by()) {
            effects.reply(id, BarrierAnswer::Refused(Refusal::Broken(reason.clone())));
        }
        self.was_run = false;
    }

    fn break_barrier(&mut self, reason: BreakReason, effects: &mut Effects<'_, BarrierAnswer>) {
        self.fail_waiters(&reason, effects);
        self.broken = Some(reason);
    }

    fn arrive(
        &mut self,
        id: CallId,
        brings_action: bool,
        effects: &mut Effects<'_, BarrierAnswer>,
    ) {
        if let Some(reason) = &self.broken {
            effects.tally.note("arrival at a broken barrier");
            let reason = reason.clone();
            effects.reply(id, BarrierAnswer::Refused(Refusal::Broken(reason)));
            return;
        }
        if self.acting().is_some() {
            effects.tally.note("arrival while the action runs");
        } else if self.was_run {
            effects
                .tally
                .note("arrival after the action that replaces another");
        }
        self.arrived.push(Party {
            id,
            brings_action,
            stage: Stage::Waits,
        });
        if self.arrived.len() > 64 {
            effects.tally.note("many parties");
        }
        self.settle(effects);
    }

    /// Returns whether a call reports on an action that its own session runs.
    fn reports_on(&self, id: CallId, turn: CallId) -> bool {
        self.acting() == Some(turn) && id.session() == turn.session()
    }

    fn finish(&mut self, id: CallId, turn: CallId, effects: &mut Effects<'_, BarrierAnswer>) {
        if self.reports_on(id, turn) {
            for party in &mut self.arrived {
                if party.id == turn {
                    party.stage = Stage::HasActed(id);
                }
            }
            self.was_run = true;
            let passed = self.settle(effects);
            effects.tally.note(match passed {
                0 => "finish that has to wait",
                _ => "finish",
            });
        } else if id.session() == turn.session() {
            effects.tally.note(match self.broken {
                Some(_) => "finish of a broken generation",
                None if self.was_run => "finish of a finished generation",
                None => "finish of an earlier generation",
            });
            // The session that had the turn learns here how the generation ended.
            let reason = self.broken.clone().unwrap_or(BreakReason::Reset);
            effects.reply(id, BarrierAnswer::Refused(Refusal::Broken(reason)));
        } else {
            effects.tally.note("finish by another session");
            effects.reply(id, BarrierAnswer::Refused(Refusal::NotHeld));
        }
    }

    fn fail(&mut self, id: CallId, turn: CallId, effects: &mut Effects<'_, BarrierAnswer>) {
        if self.reports_on(id, turn) {
            effects.tally.note("failure");
            self.break_barrier(BreakReason::ActionFailed, effects);
        } else {
            effects.tally.note(match self.acting() {
                Some(acting) if acting == turn => "failure reported by another session",
                Some(_) | None => "failure reported too late",
            });
        }
        effects.reply(id, BarrierAnswer::Done);
    }

    /// Removes an arrival without a trace.
    fn take_back(&mut self, party: Party, effects: &mut Effects<'_, BarrierAnswer>) {
        effects.tally.note(match party.stage {
            Stage::Acts => "withdrawn turn",
            Stage::HasActed(_) => "withdrawn finish",
            Stage::Waits if self.acting().is_some() => "withdrawn arrival while the action runs",
            Stage::Waits if self.was_run => "withdrawn arrival after the action",
            Stage::Waits => "withdrawn arrival",
        });
        let was_run = self.was_run;
        self.arrived.retain(|other| other.id != party.id);
        self.settle(effects);
        if party.stage == Stage::Acts && self.acting().is_some() {
            effects
                .tally
                .note("withdrawn turn that goes to an early party");
        }
        if was_run && !self.was_run {
            effects
                .tally
                .note("action repeated because all its parties have left");
        }
    }
}

impl Reference for BarrierReference {
    type Kind = Barrier;
    type Call = BarrierCall;
    type Answer = BarrierAnswer;
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
        (reference, Bench::new(spec).expect("the spec is valid"))
    }

    /// If there are many parties, most arrive before the schedule: in a random schedule the barrier
    /// would break first.
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
    ) -> Result<BarrierAnswer, Fault> {
        call.read(bench, id)
    }

    fn serve(&mut self, id: CallId, call: &BarrierCall, effects: &mut Effects<'_, BarrierAnswer>) {
        match *call {
            BarrierCall::Arrive { acts } => self.arrive(id, acts, effects),
            BarrierCall::Finish { turn, .. } => self.finish(id, turn, effects),
            BarrierCall::Fail { turn, .. } => self.fail(id, turn, effects),
            BarrierCall::Abort => {
                effects.tally.note(match (&self.broken, self.acting()) {
                    (Some(_), _) => "abort of a broken barrier",
                    (None, Some(_)) => "abort while the action runs",
                    (None, None) => "abort",
                });
                self.break_barrier(BreakReason::Aborted, effects);
                effects.reply(id, BarrierAnswer::Done);
            }
            BarrierCall::Reset => {
                effects.tally.note(match (&self.broken, self.acting()) {
                    (Some(_), _) => "reset of a broken barrier",
                    (None, Some(_)) => "reset while the action runs",
                    (None, None) => "reset",
                });
                self.fail_waiters(&BreakReason::Reset, effects);
                self.broken = None;
                effects.reply(id, BarrierAnswer::Done);
            }
            BarrierCall::Count => effects.reply(
                id,
                BarrierAnswer::State {
                    parties: u32::try_from(self.parties).expect("few parties"),
                    arrived: u64::try_from(self.arrived.len()).expect("few parties"),
                    generation: self.generation,
                    broken: self.broken.clone(),
                },
            ),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, BarrierAnswer>) {
        let of = |party: &&Party| party.id == id || party.waits_by() == Some(id);
        let Some(party) = self.arrived.iter().find(of).copied() else {
            return;
        };
        match party.waits_by() {
            Some(waiting) if waiting == id => effects.fail(id, fault.clone()),
            Some(finish) => {
                effects.tally.note("withdrawn turn that was finished");
                effects.reply(finish, BarrierAnswer::Refused(Refusal::NotHeld));
            }
            None => {}
        }
        if fault == Fault::TimedOut {
            effects.tally.note(if self.acting().is_some() {
                "deadline while the action runs"
            } else if self.was_run {
                "deadline after the action"
            } else {
                "deadline that breaks the barrier"
            });
            self.arrived.retain(|other| other.id != party.id);
            self.break_barrier(BreakReason::TimedOut, effects);
        } else {
            self.take_back(party, effects);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, BarrierAnswer>) {
        let is_theirs = |party: &Party| party.id.session().number() == session;
        let (gone, left): (Vec<Party>, _) = self.arrived.drain(..).partition(is_theirs);
        self.arrived = left;
        let acted = gone.iter().any(|party| party.stage == Stage::Acts);
        let has_acted = |party: &Party| matches!(party.stage, Stage::HasActed(_));
        effects.tally.note(match self.on_death {
            _ if gone.is_empty() => "death elsewhere",
            OnDeath::Break if acted => "death in the action that breaks the barrier",
            OnDeath::Break => "death that breaks the barrier",
            OnDeath::Retract if acted => {
                "death in the action that breaks the barrier although other deaths withdraw arrivals"
            }
            OnDeath::Retract if gone.iter().any(has_acted) => {
                "death after the action that withdraws the arrival"
            }
            OnDeath::Retract if self.acting().is_some() => {
                "death that withdraws an arrival while the action runs"
            }
            OnDeath::Retract => "death that withdraws an arrival",
        });
        if acted || (!gone.is_empty() && self.on_death == OnDeath::Break) {
            self.break_barrier(BreakReason::Died(Peer::default().into()), effects);
        } else {
            self.settle(effects);
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
