//! Hostile clients attack a manager, while an honest client must be served correctly.
//!
//! The test takes sixteen seconds, or the number of seconds in `LOCKKEEPER_HOSTILE_SECONDS`. The seed
//! determines what each attacker tries, but not how fast the processes run, so a seed repeats the
//! load and not the exact schedule. `LOCKKEEPER_HOSTILE_ATTACKS=valid,mutated` runs only these
//! attacks.
//!
//! Invariant: attackers use plain sockets and a separate codec, so that no check of the library
//! prevents invalid input.

mod attacker;
mod attacks;
mod budget;
mod client;
mod honest;
mod kinds;
mod manager;
mod pack;
mod protocol;
mod verdict;

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use lockkeeper::{CallError, Manager};
use lockkeeper_test_support::{Role, Roles, is_running, run, seeded, signal};
use rand::Rng;
use rustix::process::Signal;
use tokio::{sync::oneshot, time};

use attacker::AttackerConfig;
use client::Findings;
use honest::{HonestConfig, HonestReport};
use manager::{ManagerConfig, peak_bytes, processor_share};

/// The number of attacking processes, each with at least two sessions.
const ATTACKERS: usize = 3;

/// The length of the attacks, unless `LOCKKEEPER_HOSTILE_SECONDS` is set.
const SECONDS: u64 = 16;

/// The interval between two checks of the manager.
const PAUSE: Duration = Duration::from_millis(5);

/// The number of concurrent calls when there may be thousands in total.
const MANY: usize = 500;

/// The time limit for the end of the processes after the attacks.
const END_LIMIT: Duration = Duration::from_secs(20);

fn program() {
    lockkeeper::program().in_test("children");
}

/// The entry of child processes.
#[test]
fn children() {
    program();
    let mut roles = Roles::new();
    roles.add("manager", manager::manager);
    roles.add("honest", honest::honest);
    roles.add("attacker", attacker::attacker);
    roles.end();
}

#[test]
fn no_hostile_client_hurts_an_honest_one_or_the_manager() {
    program();
    let seconds = env::var("LOCKKEEPER_HOSTILE_SECONDS").map_or(SECONDS, |seconds| {
        seconds
            .parse()
            .expect("LOCKKEEPER_HOSTILE_SECONDS is a number")
    });
    run(hostile_run_of(Duration::from_secs(seconds)));
}

#[test]
fn each_operation_of_the_attacks_is_one_that_the_manager_decodes() {
    program();
    run(async {
        let manager = Manager::start().await.unwrap();
        let address = manager.address().path().expect("a socket").to_owned();
        let checked = tokio::task::spawn_blocking(move || kinds::check(&address));
        checked.await.unwrap();
    });
}

async fn hostile_run_of(length: Duration) {
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("attacked.sock");
    let address = address.display().to_string();
    let (errors, over) = (folder.path().join("errors"), folder.path().join("over"));
    let manager_args = ManagerConfig {
        address: address.clone(),
        errors: errors.clone(),
    };
    let mut manager = Role::start("manager", &manager_args);
    assert_eq!(manager.next_report(), "serves");
    let pid = manager.pid();
    let at_first = peak_bytes(pid).expect("the manager runs");
    let config = HonestConfig {
        address: address.clone(),
        over: over.clone(),
    };
    let mut honest = Role::start("honest", &config);
    assert_eq!(honest.next_report(), "holds");
    let attackers = (0..ATTACKERS).map(|_| {
        let seed = random.random();
        let config = AttackerConfig::new(&address, honest.pid(), seed, length);
        last_report_of(Role::start("attacker", &config))
    });
    let attackers: Vec<_> = attackers.collect();

    let (mut faults, mut found) = (Vec::new(), Findings::default());
    let most = at_first + budget::most_bytes();
    let watched = tokio::task::spawn_blocking(move || watch(pid, most, length));
    let (peak, share) = watched.await.unwrap();
    println!(
        "the manager had {} at first, {} at the most, of {}",
        mega(at_first),
        mega(peak),
        mega(most)
    );
    if peak > most {
        // The manager could use all memory of the machine.
        manager.kill();
        faults.push(format!(
            "the manager used {}, more than the limit of {}",
            mega(peak),
            mega(most)
        ));
    }
    let patience = time::Instant::now() + END_LIMIT;
    for attacker in attackers {
        match time::timeout_at(patience, attacker).await {
            Ok(Ok(report)) => found.add(serde_json::from_str(&report).expect("plain data")),
            Ok(Err(_)) => faults.push("an attacker has ended without a report".to_owned()),
            Err(_) => faults.push("an attacker has not ended".to_owned()),
        }
    }
    honest::end_attacks(&over);
    match time::timeout_at(patience, last_report_of(honest)).await {
        Ok(Ok(report)) => {
            let report: HonestReport = serde_json::from_str(&report).expect("plain data");
            faults.extend(verdict::of_the_honest_client(report, share));
        }
        Ok(Err(_)) => faults.push("the honest client has ended without a report".to_owned()),
        Err(_) => faults.push("the honest client has not ended".to_owned()),
    }
    if peak <= most {
        faults.extend(end_of_the_manager(manager, &address).await);
    }
    let errors = fs::read_to_string(&errors).unwrap();
    if errors.contains("panicked") {
        faults.push(errors);
    }
    faults.extend(verdict::of_the_attackers(found));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Waits until the attacks end, or a process has used more than `most` bytes of memory. Returns its
/// peak memory and its share of the processor.
fn watch(pid: u32, most: usize, length: Duration) -> (usize, f64) {
    let end = Instant::now() + length;
    loop {
        let peak = peak_bytes(pid).unwrap_or_default();
        if peak > most || Instant::now() > end || !is_running(pid) {
            return (peak, processor_share(pid));
        }
        thread::sleep(PAUSE);
    }
}

/// Checks that the manager serves a new client, and ends at SIGTERM.
async fn end_of_the_manager(manager: Role, address: &str) -> Vec<String> {
    let served = time::timeout(END_LIMIT, serves_new_client(address));
    let mut faults = Vec::new();
    match served.await {
        Ok(Ok(())) => {}
        served => faults.push(format!(
            "the manager does not serve a new client: {served:?}"
        )),
    }
    signal(manager.pid(), Signal::TERM);
    match time::timeout(END_LIMIT, last_report_of(manager)).await {
        Ok(Ok(report)) if report == "ended" => {}
        _ => faults.push("the manager has not ended at SIGTERM".to_owned()),
    }
    if Path::new(address).exists() {
        faults.push("the socket was not removed".to_owned());
    }
    faults
}

async fn serves_new_client(address: &str) -> Result<(), CallError> {
    let client = Manager::connect(address).await?;
    let lock = client.named(honest::HELD_OBJECTS[0].1).lock().await?;
    lock.acquire().await?.release().await?;
    // Inspects and removes the attackers' objects, which must free their bytes.
    let mut objects = client.inspect().await?.objects;
    objects.retain(|object| object.name.starts_with("hostile"));
    for some in objects.chunks(MANY) {
        let removed = some.iter().map(|object| client.remove(&object.name));
        try_join_all(removed).await?;
    }
    let large = client.value("n".repeat(budget::LARGE)).await?;
    large.get().await.map(drop)
}

/// Waits for a report on another thread, which may still wait when the test ends.
fn last_report_of(mut process: Role) -> oneshot::Receiver<String> {
    let (done, ended) = oneshot::channel();
    thread::spawn(move || {
        // An error means that the test has stopped waiting.
        let _ = done.send(process.next_report());
    });
    ended
}

fn mega(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}
