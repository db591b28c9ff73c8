//! All kinds at once, used by processes that are killed and stopped at random, and watched by files.
//!
//! Takes some seconds, or as many as `LOCKKEEPER_CHAOS_SECONDS` says. The seed decides what each
//! process tries and when it is killed, but not how fast it runs: a seed that failed is the same
//! throng once more, and no exact replay.

#[path = "support/chaos/mod.rs"]
mod chaos;
#[path = "support/parts.rs"]
mod parts;
#[path = "support/seed.rs"]
mod seed;
#[path = "support/signals.rs"]
mod signals;
mod support;
#[path = "support/until.rs"]
mod until;

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

use chaos::{
    caretaker::{care, describe, find_all_fresh},
    items::Items,
    latches::find_right,
    notes::Notes,
    scene::{Known, Scene},
    verdict::Verdict,
    worker::work,
};
use lockkeeper::{Latch, Manager};
use parts::{Part, play};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use seed::seeded;
use signals::{is_running, kill, signal};
use tokio::{sync::oneshot, task::JoinHandle};

/// How many processes there are at a time.
const PROCESSES: usize = 8;

/// How many of these are stopped but never killed: a call of theirs that gets no answer is seen.
const SPARED: usize = 2;

/// How long the chaos lasts unless something else is asked for.
const SECONDS: u64 = 6;

/// Without these the test has missed its subject.
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
    lockkeeper::program().in_test("children");
}

#[test]
fn children() {
    program();
    play("worker", work);
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
    support::run(chaos_of(length));
}

async fn chaos_of(length: Duration) {
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    // What is promised does not depend on how many there are.
    let arbiters = random.random_range(1..=3);
    println!("{arbiters} arbiters");
    let manager = Manager::builder().arbiters(arbiters).spawn().await.unwrap();
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
    let mut company = Company::gather(random, &scene, &notes);
    // On a thread of its own: a task that waits for a file which a stopped process has locked
    // stands still, and may take the runtime's timers with it.
    let stirred = tokio::task::spawn_blocking(move || {
        company.stir_up(length);
        company
    });
    let company = stirred.await.unwrap();

    notes.call_off();
    let Some(company) = company.ended().await else {
        let now = what_they_do(&notes);
        let (objects, violations) = (describe(&scene).await, notes.violations());
        panic!("not all have ended:\n{now}\n{objects}\n{violations}");
    };
    ended.store(true, Ordering::Relaxed);
    let latches = caretaker.await.unwrap();
    let generations = generations(&scene).await;
    // The processes live still, so that whatever one of them holds by mistake is seen.
    let mut faults = Vec::new();
    if let Err(error) = look_at_all(&scene, latches, &notes).await {
        faults.push(error.to_string());
    }
    let killed = company.killed.clone();
    drop(company);

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

/// Looks at what is left, in a task: what is wrong there is told with all that is wrong elsewhere.
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

/// The processes, and those who were of them.
struct Company {
    random: StdRng,
    scene: Arc<Scene>,
    notes: Notes,
    parts: Vec<Part>,
    /// Until when each one is stopped that is.
    stopped: Vec<(u32, Instant)>,
    killed: BTreeSet<u32>,
}

impl Company {
    fn gather(random: StdRng, scene: &Arc<Scene>, notes: &Notes) -> Self {
        let mut company = Self {
            random,
            scene: Arc::clone(scene),
            notes: notes.clone(),
            parts: Vec::new(),
            stopped: Vec::new(),
            killed: BTreeSet::new(),
        };
        company.parts = (0..PROCESSES).map(|place| company.hire(place)).collect();
        company
    }

    fn hire(&mut self, place: usize) -> Part {
        let seed: u64 = self.random.random();
        Part::start("worker", &(&*self.scene, place, seed))
    }

    /// Kills and stops at random. The times themselves are what is random here.
    fn stir_up(&mut self, length: Duration) {
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
            let pid = self.parts[place].pid();
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
            self.parts[place].kill();
            self.parts[place] = self.hire(place);
        }
    }

    fn stop(&mut self) {
        let pid = self.parts[self.random.random_range(0..PROCESSES)].pid();
        signal(pid, Signal::STOP);
        let pause = Duration::from_millis(self.random.random_range(1..150));
        self.stopped.push((pid, Instant::now() + pause));
        self.notes.count("stops");
    }

    /// Lets those go on whose time has come.
    fn wake(&mut self, now: Instant) {
        self.stopped.retain(|(pid, until)| {
            let waits = *until > now;
            if !waits {
                signal(*pid, Signal::CONT);
            }
            waits
        });
    }

    /// Waits until every process has said that it is done; none where one takes too long.
    async fn ended(mut self) -> Option<Self> {
        let patience = tokio::time::Instant::now() + ENDING;
        let waiting: Vec<_> = self.parts.drain(..).map(hear_the_last_of).collect();
        for part in waiting {
            let part = tokio::time::timeout_at(patience, part).await.ok()?;
            self.parts
                .push(part.expect("it did not end without a word"));
        }
        Some(self)
    }
}

/// Listens on a thread of its own, which nobody needs to wait for.
fn hear_the_last_of(mut part: Part) -> oneshot::Receiver<Part> {
    let (done, heard) = oneshot::channel();
    thread::spawn(move || {
        assert_eq!(part.hear(), "done");
        // Nobody listens any more if others took too long.
        let _ = done.send(part);
    });
    heard
}
