//! Clients fork at random moments while they hold objects, and parents and children are killed.
//!
//! The check uses files, because a killed process leaves them intact: they list the holders, and the put and done
//! items. Each record is one write. The seed determines what each client tries and when the kills happen, but not
//! how fast the clients run.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    panic,
    path::PathBuf,
    process, thread,
    time::{Duration, Instant},
};

use lockkeeper::{Lock, LockGuard, Manager, Permit, Queue, Semaphore, Taken, Value, block_on};
use lockkeeper_test_forks::{Fork, Named, exit, pause, until_within, watch};
use lockkeeper_test_support::seeded;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{Test, managers::folder};

pub(crate) const TESTS: &[Test] = &[(
    "chaos::no_promise_is_broken_while_holders_fork_and_parents_and_children_are_killed",
    chaos,
)];

/// The number of clients at a time, without their forks.
const CLIENTS: usize = 4;

/// The number of permits.
const SEATS: u32 = 2;

/// The length of the test, unless `LOCKKEEPER_CHAOS_SECONDS` is set.
const SECONDS: u64 = 4;

/// How long a call may take beside others, and how long the end of a process may take to be noticed.
///
/// A call waits for the turns of all processes before it, some tens, which are a few milliseconds each: it took at most
/// 0.8 s in five minutes on two processors under a load of seven. The end of a process took at most 28 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// The timeout of a call that may find nothing.
const A_WHILE: Duration = Duration::from_millis(10);

/// The events that must occur, because the test would otherwise not have tested them.
const MUST_OCCUR: [&str; 8] = [
    "kill of a parent",
    "kill of a child",
    "fork with a lock",
    "fork with a permit",
    "fork with an item",
    "raw clone",
    "client of a child",
    "abandoned",
];

/// How much longer the test may take until every event of `MUST_OCCUR` has occurred.
const EXTRA_TIME: Duration = Duration::from_secs(60);

/// Returns the length of the test.
pub(crate) fn length() -> Duration {
    let seconds = env::var("LOCKKEEPER_CHAOS_SECONDS");
    let seconds = seconds.map_or(SECONDS, |it| it.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// The files of the test.
struct Scene {
    folder: PathBuf,
    address: String,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Adds a line to a file.
    fn note(&self, file: &str, line: impl ToString) {
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(file));
        let line = format!("{}\n", line.to_string());
        let written = opened.expect("a file").write_all(line.as_bytes());
        written.expect("it takes a line");
    }

    /// Notes the name of a child, which is there until its parent, this process, waits for it.
    fn note_fork(&self, fork: &Fork) {
        self.note("names", Named::of(fork.pid()).expect("it is there"));
    }

    /// The processes of all clients.
    fn names(&self) -> BTreeSet<Named> {
        let lines = self.lines("names");
        lines.iter().filter_map(|it| it.parse().ok()).collect()
    }

    fn occurs(&self, what: &str) {
        self.note("occurred", what);
    }

    /// Returns the events of `MUST_OCCUR` that have not occurred yet.
    fn never_occurred(&self) -> Vec<&'static str> {
        let occurred = self.lines("occurred");
        let never = |what: &&str| !occurred.iter().any(|it| it == what);
        MUST_OCCUR.into_iter().filter(never).collect()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn is_over(&self) -> bool {
        self.path("over").exists()
    }
}

/// A client, with its proxies.
struct Client<'a> {
    scene: &'a Scene,
    /// Its process.
    name: Named,
    random: StdRng,
    lock: Lock,
    steps: Value<u64>,
    seats: Semaphore,
    items: Queue<u64>,
    /// The number of items that it has put.
    put: u64,
    /// Its forked children.
    children: Vec<Fork>,
}

impl<'a> Client<'a> {
    fn new(scene: &'a Scene, seed: u64) -> Self {
        let manager = block_on(Manager::connect(&*scene.address)).expect("it is there");
        let (named, random) = (|name| manager.named(name), StdRng::seed_from_u64(seed));
        Self {
            scene,
            name: Named::this(),
            random,
            lock: block_on(named("lock").lock()).expect("a lock"),
            steps: block_on(named("steps").value(0)).expect("a value"),
            seats: block_on(named("seats").semaphore(SEATS)).expect("a semaphore"),
            items: block_on(named("items").unbounded_queue()).expect("a queue"),
            put: 0,
            children: Vec::new(),
        }
    }

    /// Performs one action, and may fork meanwhile.
    fn act(&mut self) {
        match self.random.random_range(0..4) {
            0 | 1 => self.enter(),
            2 => self.sit(),
            _ => self.pass_items(),
        }
        if self.children.len() > 3 {
            let at = self.random.random_range(0..self.children.len());
            self.children.swap_remove(at).kill();
        }
    }

    /// Performs one step under the lock. The length of a file and a value count the steps.
    fn enter(&mut self) {
        let acquired = block_on(self.lock.acquire().timeout(PATIENCE));
        let mut guard = acquired.expect("its turn");
        let inside = self.scene.path("inside");
        let is_abandoned = guard.abandoned().is_some();
        if is_abandoned {
            self.scene.occurs("abandoned");
        }
        match File::create_new(&inside) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let other = fs::read_to_string(&inside).expect("the name of a process");
                assert!(is_abandoned, "{other:?} is inside");
                // A process that was killed before it wrote has left nothing. The system closes the sockets of one
                // that is killed some time before it has ended.
                let is_there = || other.parse().is_ok_and(Named::is_running);
                until_within(PATIENCE, "the process inside has ended", || !is_there());
            }
            Err(error) => panic!("{error}"),
        }
        fs::write(&inside, self.name.to_string()).expect("a file");
        let counted = block_on(self.steps.get()).expect("a value");
        let steps = self.scene.lines("steps").len() as u64;
        assert!(
            is_abandoned || counted == steps,
            "{counted} of {steps} steps"
        );
        guard.mark_consistent();
        let mut held = Some(guard);
        self.may_fork("fork with a lock", &mut held, LockGuard::is_valid);
        self.scene.note("steps", process::id());
        block_on(self.steps.set(steps + 1)).expect("a value");
        self.may_fork("fork with a lock", &mut held, LockGuard::is_valid);
        fs::remove_file(&inside).expect("it is there");
        block_on(held.expect("the parent's").release()).expect("it is held");
    }

    /// Holds a permit for a while.
    fn sit(&mut self) {
        let permit = block_on(self.seats.acquire().timeout(PATIENCE)).expect("its turn");
        let seat = format!("seat {}", self.name);
        fs::write(self.scene.path(&seat), "").expect("a file");
        let all = fs::read_dir(&self.scene.folder).expect("a folder");
        let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let seated = names.filter_map(|name| name.strip_prefix("seat ")?.parse().ok());
        let seated: Vec<Named> = seated.collect();
        let live = || seated.iter().filter(|other| other.is_running()).count();
        let what = "no more live ones have a permit than there are";
        until_within(PATIENCE, what, || live() <= SEATS as usize);
        let mut held = Some(permit);
        self.may_fork("fork with a permit", &mut held, Permit::is_valid);
        fs::remove_file(self.scene.path(&seat)).expect("it is there");
        block_on(held.expect("the parent's").release()).expect("it is held");
    }

    /// Puts an item, and takes one.
    fn pass_items(&mut self) {
        self.put += 1;
        // No two processes that have one id put the same.
        let item = self.random.random::<u64>() << 16 | self.put;
        block_on(self.items.put(item)).expect("it has no bound");
        self.scene.note("put", item);
        let taken = block_on(self.items.try_get()).expect("an answer");
        let mut held = taken;
        if held.is_some() {
            self.may_fork("fork with an item", &mut held, Taken::is_valid);
            let taken = held.expect("the parent's");
            self.scene.note("done", *taken);
            block_on(taken.done()).expect("it is held");
        }
    }

    /// Forks sometimes, and checks that the hold belongs to the parent and not to the child.
    fn may_fork<G>(&mut self, what: &str, held: &mut Option<G>, is_valid: fn(&G) -> bool) {
        if self.random.random_ratio(2, 3) {
            return;
        }
        let seed = self.random.random();
        let scene = self.scene;
        let fork = match self.random.random_range(0..6) {
            // This child never uses lockkeeper, so it keeps the sockets of its parent. It must not allocate, because
            // another thread may have locked the allocator.
            0 => {
                scene.occurs("raw clone");
                Fork::raw(|| pause())
            }
            1 => Fork::new(|| pause()),
            2 => Fork::new(|| drop(foreign(held, is_valid))),
            3 => Fork::new(|| {
                drop(foreign(held, is_valid));
                exit(0)
            }),
            _ => Fork::new(|| {
                // Its parent may be killed before it notes it.
                scene.note("names", Named::this());
                let _kept = foreign(held, is_valid);
                // The inherited list of children belongs to the parent.
                let mut client = Client::new(scene, seed);
                for _ in 0..5 {
                    client.act();
                }
                scene.occurs("client of a child");
            }),
        };
        scene.note_fork(&fork);
        scene.occurs(what);
        self.children.push(fork);
        let held = held.as_ref().expect("the parent's");
        assert!(is_valid(held), "a child has taken what its parent holds");
    }
}

/// Returns a child's copy of its parent's guard.
fn foreign<G>(held: &mut Option<G>, is_valid: fn(&G) -> bool) -> G {
    let copy = held.take().expect("a copy");
    assert!(!is_valid(&copy), "a child holds what is its parent's");
    copy
}

/// Kills a process, and waits until it is gone.
fn end(name: Named) {
    name.kill();
    let deadline = Instant::now() + PATIENCE;
    while name.is_running() {
        assert!(Instant::now() < deadline, "{name} was killed and lives");
        thread::sleep(Duration::from_millis(1));
    }
}

fn chaos() {
    let mut random = seeded();
    let (files, address) = folder();
    let scene = Scene {
        folder: files.path().to_owned(),
        address: address.clone(),
    };
    let failures = scene.path("failures");
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let opened = OpenOptions::new().create(true).append(true).open(&failures);
        // The hook of the standard library prints it too.
        let _ = opened.and_then(|mut file| writeln!(file, "{} {info}", process::id()));
        default(info);
    }));
    let start = Manager::builder().address(address.as_str()).start();
    let manager = block_on(start).expect("a manager");
    let life =
        u32::try_from((length() + EXTRA_TIME + 2 * PATIENCE).as_secs()).expect("some seconds");
    let begin = |random: &mut StdRng| {
        let seed = random.random();
        let scene = &scene;
        let client = Fork::new(move || {
            watch(life);
            let mut client = Client::new(scene, seed);
            while !scene.is_over() {
                client.act();
            }
        });
        scene.note_fork(&client);
        client
    };
    let mut clients: Vec<Fork> = (0..CLIENTS).map(|_| begin(&mut random)).collect();
    let over = Instant::now() + length();
    let last = over + EXTRA_TIME;
    let goes_on = |now| now < over || (now < last && !scene.never_occurred().is_empty());
    while goes_on(Instant::now()) {
        // The sleep has a random length.
        thread::sleep(Duration::from_millis(random.random_range(0..80)));
        if random.random() {
            let at = random.random_range(0..CLIENTS);
            let other = begin(&mut random);
            std::mem::replace(&mut clients[at], other).kill();
            scene.occurs("kill of a parent");
        } else {
            let parents: BTreeSet<_> = clients.iter().map(|it| Named::of(it.pid())).collect();
            let names = scene.names().into_iter();
            let others = names.filter(|it| it.is_running() && !parents.contains(&Some(*it)));
            let children: Vec<Named> = others.collect();
            if !children.is_empty() {
                end(children[random.random_range(0..children.len())]);
                scene.occurs("kill of a child");
            }
        }
    }
    fs::write(scene.path("over"), "").expect("a file");
    clients.into_iter().for_each(Fork::join);
    while let Some(name) = scene.names().into_iter().find(|it| it.is_running()) {
        end(name);
    }
    assert_eq!(scene.lines("failures"), [""; 0]);
    find_all_free(&scene, &manager);
    assert_eq!(scene.never_occurred(), [""; 0]);
    println!(
        "{} processes, {} steps, {} items",
        scene.names().len(),
        scene.lines("steps").len(),
        scene.lines("put").len()
    );
}

/// Checks that dead processes hold nothing, and that no item was lost.
fn find_all_free(scene: &Scene, manager: &Manager) {
    let lock = block_on(manager.named("lock").lock()).expect("a lock");
    drop(block_on(lock.acquire().timeout(PATIENCE)).expect("its holders are dead"));
    let seats = block_on(manager.named("seats").semaphore(SEATS)).expect("a semaphore");
    let all = seats.acquire_many(SEATS).timeout(PATIENCE);
    drop(block_on(all).expect("their holders are dead"));
    let items = block_on(manager.named("items").unbounded_queue::<u64>()).expect("a queue");
    let mut done: BTreeSet<_> = scene.lines("done").into_iter().collect();
    // Items that dead processes had taken return once the manager notices their ends.
    let deadline = Instant::now() + PATIENCE;
    while block_on(items.join().timeout(A_WHILE)).is_err() {
        assert!(Instant::now() < deadline, "the dead keep their items");
        while let Some(item) = block_on(items.try_get()).expect("an answer") {
            let item = block_on(item.done()).expect("it is held");
            done.insert(item.to_string());
        }
    }
    let lost: Vec<_> = scene
        .lines("put")
        .into_iter()
        .filter(|it| !done.contains(it))
        .collect();
    assert_eq!(lost, [""; 0], "these items were lost");
}
