//! All kinds at once, used by processes that are killed and stopped at random, and checked through
//! files.
//!
//! Takes six seconds, or as many as `LOCKKEEPER_CHAOS_SECONDS` says. The seed decides what each
//! process tries and when it is killed, but not how fast it runs, so a seed repeats the load and
//! not the exact schedule.
//!
//! Invariant: what judges (notes, ledgers, logs) does not rest on the library. It rests on files,
//! which a killed process leaves whole: each record is one write within one page.

mod barriers;
mod caretaker;
mod conditions;
mod events;
mod exclusive;
mod items;
mod keyed;
mod latches;
mod ledger;
mod log;
mod notes;
mod permits;
mod queues;
mod rw_locks;
mod scene;
mod several;
mod surroundings;
mod values;
mod verdict;
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

use caretaker::{care, describe, find_all_fresh};
use items::Items;
use latches::find_right;
use notes::Notes;
use scene::{Known, Scene};
use verdict::Verdict;
use worker::work;

/// How many processes there are at a time.
const PROCESSES: usize = 8;

/// How many of these are stopped but never killed: they notice a call without an answer.
const SPARED: usize = 2;

/// How long the chaos lasts unless `LOCKKEEPER_CHAOS_SECONDS` is set.
const SECONDS: u64 = 6;

/// What must occur, or the test has missed its subject.
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

/// How long the processes may take to end once they are told to.
const ENDING: Duration = Duration::from_secs(30);

fn program() {
    surroundings::register(lockkeeper::program()).in_test("children");
}

/// What child processes run: a manager, or a role.
#[test]
fn children() {
    program();
    let mut roles = Roles::new();
    roles.add("worker", work);
    surroundings::roles(&mut roles);
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
    // The promises do not depend on the number of shards.
    let shards = random.random_range(1..=3);
    println!("{shards} shards");
    let manager = Manager::builder().shards(shards).spawn().await.unwrap();
    let scene = Arc::new(Scene::set(&manager, PROCESSES, folder.path()).await);
    let notes = Notes::in_folder(folder.path());

    let ended = Arc::new(AtomicBool::new(false));
    let caretaker = care(
        Arc::clone(&scene),
        manager.clone(),
        StdRng::from_rng(&mut random),
        Arc::clone(&ended),
    );
    let caretaker = tokio::spawn(caretaker);
    let mut processes = Processes::start(random, &scene, &notes);
    // On a thread of its own: a task that waits for a file which a stopped process has locked
    // stands still, and may take the runtime's timers with it.
    let disturbed = tokio::task::spawn_blocking(move || {
        processes.disturb(length);
        processes
    });
    let processes = disturbed.await.unwrap();

    notes.call_off();
    let Some(processes) = processes.ended().await else {
        let now = what_they_do(&notes);
        let (objects, violations) = (describe(&scene).await, notes.violations());
        panic!("not all have ended:\n{now}\n{objects}\n{violations}");
    };
    ended.store(true, Ordering::Relaxed);
    let latches = caretaker.await.unwrap();
    let generations = generations(&scene).await;
    // The processes still live, so that a hold by mistake is seen.
    let mut faults = Vec::new();
    if let Err(error) = look_at_all(&scene, latches, &notes).await {
        faults.push(error.to_string());
    }
    let killed = processes.killed.clone();
    drop(processes);

    for (barrier, generations) in scene.barriers.iter().zip(generations) {
        let verdict = Verdict::read(&notes, &barrier.name, barrier.most, generations);
        println!(
            "{}: {generations} generations, {} passes seen",
            barrier.name,
            verdict.passes()
        );
        faults.extend(verdict.faults(&killed));
    }
    for queue in &scene.queues {
        let items = Items::read(&notes, &queue.name, &killed);
        println!("{}: {} items done", queue.name, items.done());
        faults.extend(items.faults());
    }
    faults.extend(notes.repeated_fences());
    let counts = notes.counts();
    let told: Vec<_> = counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    println!("{}", told.join(", "));
    for what in MUST_OCCUR {
        if !counts.iter().any(|(name, _)| name == what) {
            faults.push(format!("never: {what}"));
        }
    }
    faults.push(notes.violations());
    assert_eq!(faults.join("\n").trim(), "");
}

/// Checks all objects, in a task: its panic is reported with all other faults.
fn look_at_all(scene: &Arc<Scene>, latches: Vec<Known<Latch>>, notes: &Notes) -> JoinHandle<()> {
    let (scene, notes) = (Arc::clone(scene), notes.clone());
    tokio::spawn(async move {
        find_all_fresh(&scene, &notes).await;
        find_right(&latches, &notes).await;
    })
}

async fn generations(scene: &Scene) -> Vec<u64> {
    let mut generations = Vec::new();
    for barrier in &scene.barriers {
        generations.push(barrier.object.status().await.unwrap().generation);
    }
    generations
}

/// What each task of each process has begun last.
fn what_they_do(notes: &Notes) -> String {
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

/// The processes, and those that were killed.
struct Processes {
    random: StdRng,
    scene: Arc<Scene>,
    notes: Notes,
    processes: Vec<Role>,
    /// The stopped processes, and until when each is.
    stopped: Vec<(u32, Instant)>,
    killed: BTreeSet<u32>,
}

impl Processes {
    fn start(random: StdRng, scene: &Arc<Scene>, notes: &Notes) -> Self {
        let mut processes = Self {
            random,
            scene: Arc::clone(scene),
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
        Role::start("worker", &(&*self.scene, place, seed))
    }

    /// Kills and stops at random times.
    fn disturb(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            let pause = Duration::from_micros(self.random.random_range(0..30_000));
            thread::sleep(pause);
            self.wake(Instant::now());
            match self.random.random_range(0..20) {
                0 => self.kill(1),
                1 => self.kill(2),
                2..6 => self.stop(),
                _ => {}
            }
        }
        self.wake(end + length);
    }

    /// Kills some at a time, and starts others in their place.
    fn kill(&mut self, many: usize) {
        let mortal = PROCESSES - SPARED;
        let first = self.random.random_range(0..mortal);
        let places = (0..many).map(|next| SPARED + (first + next) % mortal);
        let places: Vec<_> = places.collect();
        for &place in &places {
            let pid = self.processes[place].pid();
            if !is_running(pid) {
                let words = format!("process {pid} has ended by itself");
                self.notes.violation(&words);
            }
            self.notes.condemn(pid);
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

    /// Continues the stopped processes whose time has come.
    fn wake(&mut self, now: Instant) {
        self.stopped.retain(|(pid, until)| {
            let waits = *until > now;
            if !waits {
                signal(*pid, Signal::CONT);
            }
            waits
        });
    }

    /// Waits until every process has reported that it is done; `None` when one takes too long.
    async fn ended(mut self) -> Option<Self> {
        let patience = tokio::time::Instant::now() + ENDING;
        let waiting: Vec<_> = self.processes.drain(..).map(last_report_of).collect();
        for process in waiting {
            let process = tokio::time::timeout_at(patience, process).await.ok()?;
            self.processes
                .push(process.expect("it ended without a report"));
        }
        Some(self)
    }
}

/// Waits for the last report on a thread of its own, which may be left behind.
fn last_report_of(mut process: Role) -> oneshot::Receiver<Role> {
    let (done, ended) = oneshot::channel();
    thread::spawn(move || {
        assert_eq!(process.next_report(), "done");
        // The receiver is gone if other processes took too long.
        let _ = done.send(process);
    });
    ended
}
