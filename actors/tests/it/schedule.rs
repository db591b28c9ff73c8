//! Random schedules for the model tests and the laws.
//!
//! A schedule has sessions, calls and time, and works for every kind. It is drawn from one seed, so
//! `LOCKKEEPER_SEED=<seed>` repeats a failure step by step.

use lockkeeper_actors::{
    Bench, CallId, Operation, Proof, Serve, SessionId,
    sync::{Lock, ReleaseBy},
};
use std::{fmt::Debug, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::seeds::{self, Tally};

/// Runs a test over many schedules. It also fails if one of the cases in `must_occur` never
/// occurred.
pub(crate) fn each_seed(
    test: &str,
    schedules: u64,
    must_occur: &[&'static str],
    run: impl Fn(Schedule, &mut Tally),
) {
    seeds::each(test, schedules, must_occur, |seed, tally| {
        run(Schedule::new(seed, seeds::only().is_some()), tally);
    });
}

/// Makes a call with or without a deadline.
pub(crate) fn put<P: Serve<O>, O: Operation>(
    bench: &mut Bench<P>,
    session: u64,
    operation: O,
    timeout: Option<Duration>,
) -> CallId {
    match timeout {
        Some(timeout) => bench.call_within(session, operation, timeout),
        None => bench.call(session, operation),
    }
}

/// One step of a schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A session makes a call; the kind chooses which.
    Call {
        session: u64,
        timeout: Option<Duration>,
    },
    Withdraw(CallId),
    HangUp(u64),
    Advance(Duration),
    /// The object is removed, at most once. Later calls find no object.
    Remove,
}

/// A source of steps, with the sessions and calls that exist.
pub(crate) struct Schedule {
    pub(crate) random: StdRng,
    /// The probability that a call acquires something for which others may have to wait.
    greed: f64,
    aloud: bool,
    steps: u32,
    /// The weight of each step except the removal. Some schedules accumulate calls, others drain
    /// them.
    weights: [u32; 4],
    /// The step in which the object is removed, if any.
    removal: Option<u32>,
    /// The sessions that have not hung up. Numbers are never reused.
    live: Vec<u64>,
    born: u64,
    sent: Vec<CallId>,
}

/// The maximum number of sessions at a time.
const MAX_SESSIONS: usize = 6;

/// The granularity of all times, so coarse that many deadlines are equal.
const TICK: Duration = Duration::from_millis(10);

impl Schedule {
    fn new(seed: u64, aloud: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let steps = random.random_range(10..=200);
        let removal = random
            .random_bool(0.1)
            .then(|| random.random_range(0..steps));
        let weights = [
            random.random_range(40..=90),
            random.random_range(0..=25),
            random.random_range(0..=6),
            random.random_range(0..=12),
        ];
        let greed = random.random_range(0.3..=0.95);
        Self {
            random,
            greed,
            aloud,
            steps,
            weights,
            removal,
            live: Vec::new(),
            born: 0,
            sent: Vec::new(),
        }
    }

    /// Returns the next step, or `None` at the end of the schedule.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let left = self.steps.checked_sub(1)?;
        self.steps = left;
        let step = if self.removal == Some(left) {
            Step::Remove
        } else {
            self.draw()
        };
        Some(step)
    }

    fn draw(&mut self) -> Step {
        let [call, withdraw, hang_up, advance] = self.weights;
        let mut lot = self
            .random
            .random_range(0..call + withdraw + hang_up + advance);
        for (weight, draw) in [
            (withdraw, Self::draw_withdrawal as fn(&mut Self) -> Step),
            (hang_up, Self::draw_hang_up),
            (advance, Self::draw_advance),
        ] {
            if lot < weight {
                return draw(self);
            }
            lot -= weight;
        }
        self.draw_call()
    }

    fn draw_call(&mut self) -> Step {
        let place = self.random.random_range(0..MAX_SESSIONS);
        let session = self.live.get(place).copied();
        let session = session.unwrap_or_else(|| self.join());
        let timeout = match self.random.random_range(0..10) {
            0 => Some(Duration::ZERO),
            1..=3 => Some(TICK * self.random.random_range(1..=6)),
            _ => None,
        };
        Step::Call { session, timeout }
    }

    /// Adds a new session.
    pub(crate) fn join(&mut self) -> u64 {
        self.born += 1;
        self.live.push(self.born);
        self.born
    }

    fn draw_withdrawal(&mut self) -> Step {
        Step::Withdraw(self.any_call())
    }

    fn draw_hang_up(&mut self) -> Step {
        if self.live.is_empty() {
            // A session may end without having called the object.
            self.born += 1;
            return Step::HangUp(self.born);
        }
        let place = self.random.random_range(0..self.live.len());
        Step::HangUp(self.live.remove(place))
    }

    fn draw_advance(&mut self) -> Step {
        Step::Advance(TICK * self.random.random_range(0..=5))
    }

    /// Draws whether the next call acquires something for which others may have to wait.
    pub(crate) fn asks(&mut self) -> bool {
        self.random.random_bool(self.greed)
    }

    /// Draws any call, ended or not, or sometimes one that was never made.
    pub(crate) fn any_call(&mut self) -> CallId {
        let count = self.sent.len();
        // Recent calls are drawn more often.
        let from = match self.random.random_range(0..10) {
            0 => count,
            1..=5 => count.saturating_sub(6),
            _ => 0,
        };
        if from == count {
            let stranger = SessionId::new(self.random.random_range(1..=self.born + 1));
            return CallId::new(stranger, 1 << 40);
        }
        self.sent[self.random.random_range(from..count)]
    }

    /// Records a call.
    pub(crate) fn sent(&mut self, id: CallId) {
        self.sent.push(id);
    }

    pub(crate) fn is_live(&self, session: SessionId) -> bool {
        self.live.contains(&session.number())
    }

    /// Ends all sessions, and returns those that had not hung up.
    pub(crate) fn end_all(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.live)
    }

    /// Prints a step if only one seed is run.
    pub(crate) fn trace(&self, what: &impl Debug) {
        if self.aloud {
            eprintln!("{what:?}");
        }
    }
}

/// Makes the proof of a grant in a call of a session. Another session than the grant's needs a
/// signed ticket.
pub(crate) fn proof(session: u64, grant: CallId) -> Proof {
    if grant.session().number() == session {
        return Proof::own(grant);
    }
    // All benches have the same secret.
    let bench = Bench::<Lock>::new(ReleaseBy::Holder);
    bench.expect("every spec is valid").signed(grant)
}
