//! A process of a chaos test: tasks and a plain thread that do one random thing after another.

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
    scene::{Known, Scene},
    several, values,
};

/// How many tasks a process has, beside the thread.
const TASKS: u64 = 3;

/// Works until all are told to end, says so, and stays: what is held by mistake is held still.
pub(crate) async fn work((scene, place, seed): (Scene, usize, u64)) {
    let mut random = StdRng::seed_from_u64(seed);
    let notes = Notes::in_folder(&scene.folder);
    let _life = come_to_life(&scene, &notes, place).await;
    let scene = Arc::new(scene);
    let mut toil = |task| {
        let hand = Hand::new(StdRng::from_rng(&mut random), &notes, task);
        toil(hand, Arc::clone(&scene))
    };
    let plain = toil(TASKS);
    let plain = thread::spawn(|| block_on(plain));
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(toil(task))).collect();
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

/// Takes the place of a process that was killed, once the manager knows that it is dead.
async fn come_to_life(scene: &Scene, notes: &Notes, place: usize) -> LockGuard {
    let mut life = scene.lives[place].acquire().await.expect("no refusal");
    let Some(pid) = life.abandoned().map(|left| left.holder.pid) else {
        return life;
    };
    for barrier in &scene.barriers {
        // A session leaves all its objects at once. What this is told comes after that.
        barrier.object.status().await.expect("no refusal");
        notes.record(&barrier.name, &Line::Buried(pid).to_string());
    }
    life.mark_consistent();
    life
}

async fn toil(mut hand: Hand, scene: Arc<Scene>) {
    while !hand.notes.is_over() {
        operate(&mut hand, &scene).await;
        tokio::task::yield_now().await;
    }
    hand.now.is("ended");
}

/// Polls a call again and again.
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

async fn operate(hand: &mut Hand, scene: &Scene) {
    let lot = hand.random.random();
    match hand.random.random_range(0..18) {
        0 => exclusive::visit(hand, one_of(lot, &scene.locks)).await,
        1 if lot % 3 == 0 => exclusive::visit_forced(hand, &scene.forced_locks[0]).await,
        1 => exclusive::visit_two(hand, &scene.locks).await,
        2 => exclusive::visit_again(hand, one_of(lot, &scene.reentrant_locks)).await,
        3 => permits::visit(hand, one_of(lot, &scene.semaphores)).await,
        4 => permits::visit(hand, one_of(lot, &scene.bounded_semaphores)).await,
        5 => events::visit(hand, one_of(lot, &scene.events)).await,
        6 => conditions::visit(hand, one_of(lot, &scene.conditions)).await,
        7 | 8 => rw_locks::visit(hand, one_of(lot, &scene.rw_locks)).await,
        9 => keyed::visit_locks(hand, one_of(lot, &scene.keyed_locks)).await,
        10 => keyed::visit_semaphores(hand, one_of(lot, &scene.keyed_semaphores)).await,
        11 if lot % 3 == 0 => exclusive::visit(hand, one_of(lot, &scene.several_locks)).await,
        11 => several::visit(hand, &scene.several_locks).await,
        12 | 13 => queues::visit(hand, one_of(lot, &scene.queues)).await,
        14 => values::visit(hand, one_of(lot, &scene.values)).await,
        15 => latches::visit(hand).await,
        _ => barriers::visit(hand, one_of(lot, &scene.barriers)).await,
    }
}

fn one_of<T>(lot: u32, objects: &[T]) -> &T {
    let most = u32::try_from(objects.len()).expect("few objects");
    &objects[usize::try_from(lot % most).expect("a small number")]
}

/// One that does things: a task or a thread of a process.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) random: StdRng,
    pub(crate) notes: Notes,
    now: Now,
}

impl Hand {
    pub(crate) fn new(random: StdRng, notes: &Notes, task: u64) -> Self {
        Self {
            random,
            notes: notes.clone(),
            now: Now::of_task(task, notes),
        }
    }

    /// Takes note of what is done next.
    pub(crate) fn does<T>(&self, known: &Known<T>, what: &str) {
        self.now.is(&format!("{what} {}", known.name));
        self.count(known, what);
    }

    /// Counts what has happened at an object of a kind.
    pub(crate) fn count<T>(&self, known: &Known<T>, what: &str) {
        let kind = known
            .name
            .trim_end_matches(|letter: char| !letter.is_alphabetic());
        self.notes.count(&format!("{kind}: {what}"));
    }

    /// True once in so many times.
    pub(crate) fn chance(&mut self, times: u32) -> bool {
        self.random.random_ratio(1, times)
    }

    /// A time that is often too short.
    pub(crate) fn brief(&mut self) -> Duration {
        Duration::from_micros(self.random.random_range(1..3000))
    }

    /// Stays inside for a moment. The time itself is what is random here.
    pub(crate) async fn linger(&mut self) {
        match self.random.random_range(0..4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => thread::sleep(Duration::from_micros(self.random.random_range(0..100))),
            _ => tokio::time::sleep(self.brief() / 4).await,
        }
    }

    /// Awaits a call in one of the forms that most kinds have: without an end, with a timeout, at a
    /// try, and dropped.
    pub(crate) async fn obtain<T, G, W, L, A>(
        &mut self,
        known: &Known<T>,
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
                self.does(known, what);
                Some(wait().await)
            }
            2 => {
                self.does(known, &format!("{what} with a timeout"));
                let brief = self.brief();
                Some(self.within(brief, limit(brief)).await)
            }
            3 => {
                self.does(known, &format!("try {what}"));
                attempt().await.transpose()
            }
            _ => {
                self.does(known, &format!("{what} and drop"));
                self.give_up(wait()).await
            }
        };
        self.granted(&known.name, outcome)
    }

    /// Awaits a call for a while, and drops it if it has no answer by then.
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

    /// Awaits a call that has a timeout, which must not come early.
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
                let words = format!("{timeout:?} were over after {waited:?}");
                self.notes.violation(&words);
            }
        }
        outcome
    }

    /// What was granted by a call that may have been dropped, or whose time may have been over.
    /// Nothing else is in order.
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

    /// Checks what an earlier holder has left, who must be dead.
    pub(crate) fn inspect<T>(&self, known: &Known<T>, left: Option<&Abandoned>) {
        if let Some(Abandoned { holder, .. }) = left {
            self.count(known, "abandoned");
            self.must_be_dead(&known.name, holder.pid);
        }
    }

    /// A process that is reported dead may still run for a moment, but was marked before its kill.
    pub(crate) fn must_be_dead(&self, name: &str, pid: u32) {
        if is_running(pid) && !self.notes.is_condemned(pid) {
            self.notes
                .violation(&format!("{name}: process {pid} is said to be dead"));
        }
    }
}
