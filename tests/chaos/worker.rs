//! A process of a chaos test: tasks and a plain thread that perform random actions.

use std::{
    fmt,
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{CallError, LockGuard, block_on, guards::Abandoned};
use lockkeeper_test_support::{is_running, report};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    barriers, conditions, events, exclusive, keyed, latches,
    log::Line,
    notes::{Notes, Now},
    permits, queues, rw_locks,
    setup::{Named, Setup},
    several, values,
};

/// The number of tasks of a process, in addition to the thread.
const TASKS: u64 = 3;

/// Performs actions until the test ends, reports, and keeps running, so that a leaked hold stays
/// visible.
pub(crate) async fn work((setup, place, seed): (Setup, usize, u64)) {
    let mut random = StdRng::seed_from_u64(seed);
    let notes = Notes::in_folder(&setup.folder);
    let _life = join(&setup, &notes, place).await;
    let setup = Arc::new(setup);
    let mut run_task = |task| {
        let runner = Runner::new(StdRng::from_rng(&mut random), &notes, task);
        run_task(runner, Arc::clone(&setup))
    };
    let plain = run_task(TASKS);
    let plain = thread::spawn(|| block_on(plain));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(run_task(task)))
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            notes.violation(&error.to_string());
        }
    }
    let joined = tokio::task::spawn_blocking(|| plain.join());
    if joined.await.expect("a thread can be joined").is_err() {
        notes.violation("the thread panicked");
    }
    report("done");
    pending::<()>().await;
}

/// Replaces a killed process, once the manager has noticed its death.
async fn join(setup: &Setup, notes: &Notes, place: usize) -> LockGuard {
    let mut life = setup.process_locks[place]
        .acquire()
        .await
        .expect("no refusal");
    let Some(pid) = life.abandoned().map(|left| left.holder.pid) else {
        return life;
    };
    for barrier in &setup.barriers {
        // An ended session leaves all objects at once, so the answer to this call comes after that.
        barrier.object.status().await.expect("no refusal");
        notes.record(&barrier.name, &Line::KnownDead(pid).to_string());
    }
    life.mark_consistent();
    life
}

async fn run_task(mut runner: Runner, setup: Arc<Setup>) {
    while !runner.notes.is_over() {
        act(&mut runner, &setup).await;
        tokio::task::yield_now().await;
    }
    runner.now.is("ended");
}

/// Polls a call repeatedly.
async fn poll_until<F: Future>(end: Instant, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    loop {
        if let Poll::Ready(output) = futures::poll!(call.as_mut()) {
            return Some(output);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::task::yield_now().await;
    }
}

async fn act(runner: &mut Runner, setup: &Setup) {
    let lot = runner.random.random();
    match runner.random.random_range(0..18) {
        0 => exclusive::act_on(runner, one_of(lot, &setup.locks)).await,
        1 if lot % 3 == 0 => exclusive::act_on_forced(runner, &setup.forced_locks[0]).await,
        1 => exclusive::act_on_two(runner, &setup.locks).await,
        2 => exclusive::act_on_again(runner, one_of(lot, &setup.reentrant_locks)).await,
        3 => permits::act_on(runner, one_of(lot, &setup.semaphores)).await,
        4 => permits::act_on(runner, one_of(lot, &setup.bounded_semaphores)).await,
        5 => events::act_on(runner, one_of(lot, &setup.events)).await,
        6 => conditions::act_on(runner, one_of(lot, &setup.conditions)).await,
        7 | 8 => rw_locks::act_on(runner, one_of(lot, &setup.rw_locks)).await,
        9 => keyed::act_on_locks(runner, one_of(lot, &setup.keyed_locks)).await,
        10 => keyed::act_on_semaphores(runner, one_of(lot, &setup.keyed_semaphores)).await,
        11 if lot % 3 == 0 => exclusive::act_on(runner, one_of(lot, &setup.several_locks)).await,
        11 => several::act_on(runner, &setup.several_locks).await,
        12 | 13 => queues::act_on(runner, one_of(lot, &setup.queues)).await,
        14 => values::act_on(runner, one_of(lot, &setup.values)).await,
        15 => latches::act_on(runner).await,
        _ => barriers::act_on(runner, one_of(lot, &setup.barriers)).await,
    }
}

fn one_of<T>(lot: u32, objects: &[T]) -> &T {
    let most = u32::try_from(objects.len()).expect("few objects");
    &objects[usize::try_from(lot % most).expect("a small number")]
}

/// The state of a task or a thread that performs actions.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) random: StdRng,
    pub(crate) notes: Notes,
    now: Now,
}

impl Runner {
    pub(crate) fn new(random: StdRng, notes: &Notes, task: u64) -> Self {
        Self {
            random,
            notes: notes.clone(),
            now: Now::of_task(task, notes),
        }
    }

    /// Records the next action.
    pub(crate) fn trace<T>(&self, named: &Named<T>, what: &str) {
        self.now.is(&format!("{what} {}", named.name));
        self.count(named, what);
    }

    /// Counts an event of an object's kind.
    pub(crate) fn count<T>(&self, named: &Named<T>, what: &str) {
        let kind = named
            .name
            .trim_end_matches(|letter: char| !letter.is_alphabetic());
        self.notes.count(&format!("{kind}: {what}"));
    }

    /// Returns `true` once in `times` calls on average.
    pub(crate) fn chance(&mut self, times: u32) -> bool {
        self.random.random_ratio(1, times)
    }

    /// Draws a timeout that is often too short.
    pub(crate) fn brief(&mut self) -> Duration {
        Duration::from_micros(self.random.random_range(1..3000))
    }

    /// Holds for a random time.
    pub(crate) async fn pause(&mut self) {
        match self.random.random_range(0..4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => thread::sleep(Duration::from_micros(self.random.random_range(0..100))),
            _ => tokio::time::sleep(self.brief() / 4).await,
        }
    }

    /// Makes a call in one of the forms that most kinds have: without a timeout, with a timeout, as
    /// a try, and dropped.
    pub(crate) async fn obtain<T, G, W, L, A>(
        &mut self,
        named: &Named<T>,
        what: &str,
        wait: impl Fn() -> W,
        limit: impl Fn(Duration) -> L,
        attempt: impl Fn() -> A,
    ) -> Option<G>
    where
        W: Future<Output = Result<G, CallError>>,
        L: Future<Output = Result<G, CallError>>,
        A: Future<Output = Result<Option<G>, CallError>>,
    {
        let outcome = match self.random.random_range(0..5) {
            0 | 1 => {
                self.trace(named, what);
                Some(wait().await)
            }
            2 => {
                self.trace(named, &format!("{what} with a timeout"));
                let brief = self.brief();
                Some(self.within(brief, limit(brief)).await)
            }
            3 => {
                self.trace(named, &format!("try {what}"));
                attempt().await.transpose()
            }
            _ => {
                self.trace(named, &format!("{what} and drop"));
                self.give_up(wait()).await
            }
        };
        self.granted(&named.name, outcome)
    }

    /// Awaits a call for a limited time, and drops it if it has no answer by then.
    pub(crate) async fn give_up<F: Future>(&mut self, call: F) -> Option<F::Output> {
        let patience = self.brief();
        let output = if self.random.random() {
            tokio::time::timeout(patience, call).await.ok()
        } else {
            poll_until(Instant::now() + patience / 4, call).await
        };
        if output.is_none() {
            self.notes.count("dropped calls");
        }
        output
    }

    /// Awaits a call with a timeout, and checks that the timeout does not end early.
    pub(crate) async fn within<F, T, E>(&self, timeout: Duration, call: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: PartialEq + From<CallError>,
    {
        let begun = Instant::now();
        let outcome = call.await;
        let is_over = matches!(&outcome, Err(error) if *error == CallError::timed_out().into());
        if is_over {
            self.notes.count("timeouts");
            let waited = begun.elapsed();
            if waited < timeout {
                let words = format!("a timeout of {timeout:?} ended after {waited:?}");
                self.notes.violation(&words);
            }
        }
        outcome
    }

    /// Returns the grant of a call that may have been dropped or timed out. Any other outcome is a
    /// violation.
    pub(crate) fn granted<T>(
        &self,
        what: impl fmt::Display,
        outcome: Option<Result<T, CallError>>,
    ) -> Option<T> {
        match outcome {
            Some(Ok(granted)) => return Some(granted),
            Some(Err(CallError::TimedOut(_))) => {}
            Some(Err(error)) => self.notes.violation(&format!("{what}: {error}")),
            None => {}
        }
        None
    }

    /// Checks the mark of an earlier holder, which must be dead.
    pub(crate) fn inspect<T>(&self, named: &Named<T>, left: Option<&Abandoned>) {
        if let Some(Abandoned { holder, .. }) = left {
            self.count(named, "abandoned");
            self.must_be_dead(&named.name, holder.pid);
        }
    }

    /// A process that is reported dead may still run for a moment, but was marked before its kill.
    pub(crate) fn must_be_dead(&self, name: &str, pid: u32) {
        if is_running(pid) && !self.notes.is_marked_killed(pid) {
            self.notes
                .violation(&format!("{name}: process {pid} is reported dead"));
        }
    }
}
