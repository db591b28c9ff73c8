//! Random schedules for the model tests and the laws.
//!
//! A schedule has sessions, calls and time, but knows no kind. It is drawn from one seed, so a
//! failure is repeated step by step with `LOCKKEEPER_SEED=<seed>`.

use lockkeeper_actors::{
    Bench, CallId, Operation, Proof, Serve, SessionId,
    sync::{Lock, ReleaseBy},
};
use std::{fmt::Debug, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::seeds::{self, Tally};

/// Runs a test over many schedules, and fails it as well when something that it is about has
/// never occurred.
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

/// Makes a call, with a deadline or without.
pub(crate) fn put<P: Serve<O>, O: Operation>(
    bench: &mut Bench<P>,
    session: u64,
    operation: O,
    timeout: Option<Duration>,
) -> CallId {
    match timeout {
        Some(timeout) => bench.call_timeout(session, operation, timeout),
        None => bench.call(session, operation),
    }
}

/// What happens next.
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
    /// Comes once at the most; what follows it finds no object.
    Remove,
}

/// A source of steps, and the sessions and calls that they are about.
pub(crate) struct Schedule {
    pub(crate) random: StdRng,
    /// How likely a call asks for something that others may have to wait for.
    greed: f64,
    aloud: bool,
    steps: u32,
    /// The likelihood of each step but the removal; some schedules pile up calls, others drain.
    weights: [u32; 4],
    /// The one step in which the object is removed, if any.
    removal: Option<u32>,
    /// Sessions that have not hung up. Their numbers are never used again.
    live: Vec<u64>,
    born: u64,
    sent: Vec<CallId>,
}

/// More sessions than that are never there at once.
const CROWD: usize = 6;

/// The grain of all times, so coarse that many deadlines fall together.
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

    /// The next step, until the schedule is over.
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
        let place = self.random.random_range(0..CROWD);
        let session = self.live.get(place).copied();
        let session = session.unwrap_or_else(|| self.join());
        let timeout = match self.random.random_range(0..10) {
            0 => Some(Duration::ZERO),
            1..=3 => Some(TICK * self.random.random_range(1..=6)),
            _ => None,
        };
        Step::Call { session, timeout }
    }

    /// A session that was not there before.
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
            // A session may end without a call to the object.
            self.born += 1;
            return Step::HangUp(self.born);
        }
        let place = self.random.random_range(0..self.live.len());
        Step::HangUp(self.live.remove(place))
    }

    fn draw_advance(&mut self) -> Step {
        Step::Advance(TICK * self.random.random_range(0..=5))
    }

    /// Whether the next call asks for something that others may have to wait for.
    pub(crate) fn asks(&mut self) -> bool {
        self.random.random_bool(self.greed)
    }

    /// Any call, whatever became of it, or now and then one that was never made.
    pub(crate) fn any_call(&mut self) -> CallId {
        let count = self.sent.len();
        // Recent calls are more likely to be of interest.
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

    /// Takes note of a call that was made.
    pub(crate) fn sent(&mut self, id: CallId) {
        self.sent.push(id);
    }

    pub(crate) fn is_live(&self, session: SessionId) -> bool {
        self.live.contains(&session.number())
    }

    /// The sessions that have not hung up. From now on they have.
    pub(crate) fn end_all(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.live)
    }

    /// Prints what happens when only one seed is run.
    pub(crate) fn tell(&self, what: &impl Debug) {
        if self.aloud {
            eprintln!("{what:?}");
        }
    }
}

/// Names a grant in a call of that session: another one than the grant's needs a ticket.
pub(crate) fn proof(session: u64, grant: CallId) -> Proof {
    if grant.session().number() == session {
        return Proof::own(grant);
    }
    // The secret is that of all benches.
    let bench = Bench::<Lock>::new(ReleaseBy::Holder);
    bench.expect("a lock needs nothing").signed(grant)
}
