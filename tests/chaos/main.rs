//! Processes use all kinds at once while they are killed and stopped at random. The results are
//! checked through files.
//!
//! The test takes six seconds, or the number of seconds in `LOCKKEEPER_CHAOS_SECONDS`, and longer
//! on a machine so slow that an event of `MUST_OCCUR` has not occurred by then. The seed determines
//! what each process tries and when it is killed, but not how fast it runs, so a seed repeats the
//! load and not the exact schedule.
//!
//! Invariant: the checks (notes, ledgers, logs) do not depend on the library. They use files, which
//! a killed process leaves intact: each record is one write within one page.

mod barrier_check;
mod barriers;
mod conditions;
mod coordinator;
mod environment;
mod events;
mod exclusive;
mod hold_record;
mod items;
mod keyed;
mod latches;
mod log;
mod notes;
mod permits;
mod queues;
mod rw_locks;
mod setup;
mod several;
mod values;
mod worker;

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{Latch, Manager};
use lockkeeper_test_support::{Role, Roles, is_running, kill, run, seeded, signal};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use tokio::{sync::oneshot, task::JoinHandle};

use barrier_check::BarrierCheck;
use coordinator::{coordinate, describe, find_all_fresh};
use items::Items;
use latches::find_right;
use notes::Notes;
use setup::{Named, Setup};
use worker::work;

/// The number of processes at a time.
const PROCESSES: usize = 8;

/// The number of processes that are stopped but never killed: they detect a call without an answer.
const NEVER_KILLED: usize = 2;

/// The length of the test, unless `LOCKKEEPER_CHAOS_SECONDS` is set.
const SECONDS: u64 = 6;

/// The events that must occur, because the test would otherwise not have tested them.
const MUST_OCCUR: [&str; 22] = [
    "kills",
    "stops",
    "timeouts",
    "dropped calls",
    "lock: abandoned",
    "lock: into_ticket",
    "forced lock: lost",
    "reentrant lock: enter again",
    "semaphore: split",
    "bounded semaphore: release",
    "event: seen",
    "condition: woken by notification",
    "barrier: passed",
    "rw lock: upgraded",
    "rw lock: downgraded",
    "keyed lock: lock_all",
    "keyed semaphore: into_ticket",
    "several locks: lock_all",
    "several locks: lock_some",
    "queue: abandoned",
    "value: seen",
    "latch: seen open",
];

/// How much longer the test may take until every event of `MUST_OCCUR` has occurred.
const EXTRA_TIME: Duration = Duration::from_secs(60);

/// The time limit for the end of the processes.
const END_LIMIT: Duration = Duration::from_secs(30);

fn program() {
    environment::register(lockkeeper::program()).in_test("children");
}

/// The entry of child processes: a manager, or a role.
#[test]
fn children() {
    program();
    let mut roles = Roles::new();
    roles.add("worker", work);
    environment::roles(&mut roles);
    roles.end();
}

#[test]
fn no_kind_breaks_a_promise_while_processes_are_killed_and_stopped() {
    program();
    let seconds = env::var("LOCKKEEPER_CHAOS_SECONDS").map_or(SECONDS, |seconds| {
        seconds
            .parse()
            .expect("LOCKKEEPER_CHAOS_SECONDS is a number")
    });
    let length = Duration::from_secs(seconds);
    run(chaos_of(length));
}

async fn chaos_of(length: Duration) {
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    // All checks hold for any number of shards.
    let shards = random.random_range(1..=3);
    println!("{shards} shards");
    let manager = Manager::builder().shards(shards).spawn().await.unwrap();
    let setup = Arc::new(Setup::set(&manager, PROCESSES, folder.path()).await);
    let notes = Notes::in_folder(folder.path());

    let ended = Arc::new(AtomicBool::new(false));
    let coordinator = coordinate(
        Arc::clone(&setup),
        manager.clone(),
        StdRng::from_rng(&mut random),
        Arc::clone(&ended),
    );
    let coordinator = tokio::spawn(coordinator);
    let mut processes = Processes::start(random, &setup, &notes);
    // On a blocking thread: a task that waits for a file lock of a stopped process blocks its
    // thread, and possibly the runtime's timers.
    let done = tokio::task::spawn_blocking(move || {
        processes.kill_and_stop(length);
        processes
    });
    let processes = done.await.unwrap();

    notes.end_all();
    let Some(processes) = processes.ended().await else {
        let now = current_actions(&notes);
        let (objects, violations) = (describe(&setup).await, notes.violations());
        panic!("not all have ended:\n{now}\n{objects}\n{violations}");
    };
    ended.store(true, Ordering::Relaxed);
    let latches = coordinator.await.unwrap();
    let generations = generations(&setup).await;
    // The processes still exist, so that a leaked hold is found.
    let mut faults = Vec::new();
    if let Err(error) = check_all(&setup, latches, &notes).await {
        faults.push(error.to_string());
    }
    let killed = processes.killed.clone();
    drop(processes);

    for (barrier, generations) in setup.barriers.iter().zip(generations) {
        let barrier_check = BarrierCheck::read(&notes, &barrier.name, barrier.most, generations);
        println!(
            "{}: {generations} generations, {} passes seen",
            barrier.name,
            barrier_check.passes()
        );
        faults.extend(barrier_check.faults(&killed));
    }
    for queue in &setup.queues {
        let items = Items::read(&notes, &queue.name, &killed);
        println!("{}: {} items done", queue.name, items.done());
        faults.extend(items.faults());
    }
    faults.extend(notes.repeated_fences());
    let counts = notes.counts();
    let lines: Vec<_> = counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    println!("{}", lines.join(", "));
    for what in never_occurred(&notes) {
        faults.push(format!("never: {what}"));
    }
    faults.push(notes.violations());
    assert_eq!(faults.join("\n").trim(), "");
}

/// Returns the events of `MUST_OCCUR` that have not occurred yet.
fn never_occurred(notes: &Notes) -> Vec<&'static str> {
    let names = notes.names("counts");
    let never = |what: &&str| !names.iter().any(|name| name == what);
    MUST_OCCUR.into_iter().filter(never).collect()
}

/// Checks all objects in a task, so that a panic is reported with all other faults.
fn check_all(setup: &Arc<Setup>, latches: Vec<Named<Latch>>, notes: &Notes) -> JoinHandle<()> {
    let (setup, notes) = (Arc::clone(setup), notes.clone());
    tokio::spawn(async move {
        find_all_fresh(&setup, &notes).await;
        find_right(&latches, &notes).await;
    })
}

async fn generations(setup: &Setup) -> Vec<u64> {
    let mut generations = Vec::new();
    for barrier in &setup.barriers {
        generations.push(barrier.object.status().await.unwrap().generation);
    }
    generations
}

/// Returns the last action of each task of each process.
fn current_actions(notes: &Notes) -> String {
    let mut words = Vec::new();
    for name in notes.names("now") {
        if name.parse().is_ok_and(is_running) {
            let now = fs::read_to_string(notes.path("now", &name)).unwrap();
            let now: Vec<_> = now.lines().map(str::trim_end).collect();
            words.push(format!("{name}: {}", now.join(", ")));
        }
    }
    words.join("\n")
}

/// The processes, and the ids of killed ones.
struct Processes {
    random: StdRng,
    setup: Arc<Setup>,
    notes: Notes,
    processes: Vec<Role>,
    /// The stopped processes, and when each is resumed.
    stopped: Vec<(u32, Instant)>,
    killed: BTreeSet<u32>,
}

impl Processes {
    fn start(random: StdRng, setup: &Arc<Setup>, notes: &Notes) -> Self {
        let mut processes = Self {
            random,
            setup: Arc::clone(setup),
            notes: notes.clone(),
            processes: Vec::new(),
            stopped: Vec::new(),
            killed: BTreeSet::new(),
        };
        processes.processes = (0..PROCESSES)
            .map(|place| processes.start_at(place))
            .collect();
        processes
    }

    fn start_at(&mut self, place: usize) -> Role {
        let seed: u64 = self.random.random();
        Role::start("worker", &(&*self.setup, place, seed))
    }

    /// Kills and stops processes at random times, for `length` and until every event of
    /// `MUST_OCCUR` has occurred.
    fn kill_and_stop(&mut self, length: Duration) {
        let end = Instant::now() + length;
        let last = end + EXTRA_TIME;
        let notes = self.notes.clone();
        let goes_on = |now| now < end || (now < last && !never_occurred(&notes).is_empty());
        while goes_on(Instant::now()) {
            let pause = Duration::from_micros(self.random.random_range(0..30_000));
            thread::sleep(pause);
            self.resume(Instant::now());
            match self.random.random_range(0..20) {
                0 => self.kill(1),
                1 => self.kill(2),
                2..6 => self.stop(),
                _ => {}
            }
        }
        // Later than the end of each pause.
        self.resume(Instant::now() + END_LIMIT);
    }

    /// Kills some processes at a time, and starts replacements.
    fn kill(&mut self, many: usize) {
        let mortal = PROCESSES - NEVER_KILLED;
        let first = self.random.random_range(0..mortal);
        let places = (0..many).map(|next| NEVER_KILLED + (first + next) % mortal);
        let places: Vec<_> = places.collect();
        for &place in &places {
            let pid = self.processes[place].pid();
            if !is_running(pid) {
                let words = format!("process {pid} has ended unexpectedly");
                self.notes.violation(&words);
            }
            self.notes.mark_killed(pid);
            kill(pid);
            self.killed.insert(pid);
            self.stopped.retain(|(stopped, _)| *stopped != pid);
            self.notes.count("kills");
        }
        for place in places {
            self.processes[place].kill();
            self.processes[place] = self.start_at(place);
        }
    }

    fn stop(&mut self) {
        let pid = self.processes[self.random.random_range(0..PROCESSES)].pid();
        signal(pid, Signal::STOP);
        let pause = Duration::from_millis(self.random.random_range(1..150));
        self.stopped.push((pid, Instant::now() + pause));
        self.notes.count("stops");
    }

    /// Resumes the stopped processes whose time is over.
    fn resume(&mut self, now: Instant) {
        self.stopped.retain(|(pid, until)| {
            let waits = *until > now;
            if !waits {
                signal(*pid, Signal::CONT);
            }
            waits
        });
    }

    /// Waits until every process has reported its end, or returns `None` if one takes too long.
    async fn ended(mut self) -> Option<Self> {
        let patience = tokio::time::Instant::now() + END_LIMIT;
        let waiting: Vec<_> = self.processes.drain(..).map(last_report_of).collect();
        for process in waiting {
            let process = tokio::time::timeout_at(patience, process).await.ok()?;
            self.processes
                .push(process.expect("a process ended without a report"));
        }
        Some(self)
    }
}

/// Waits for the last report on another thread, which may still wait when the test ends.
fn last_report_of(mut process: Role) -> oneshot::Receiver<Role> {
    let (done, ended) = oneshot::channel();
    thread::spawn(move || {
        assert_eq!(process.next_report(), "done");
        // An error means that the test has stopped waiting.
        let _ = done.send(process);
    });
    ended
}
