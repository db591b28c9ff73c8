//! An attacker: a process that runs all attacks in a random order, several at a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use lockkeeper_test_support::report;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::{
    attacks::chosen,
    client::{Attacker, Ended, Findings},
};

/// The number of concurrent attacks in one process.
const AT_A_TIME: usize = 2;

/// The maximum time of one attack.
const LONGEST: Duration = Duration::from_millis(900);

/// The configuration of an attacker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttackerConfig {
    address: String,
    honest: u32,
    seed: u64,
    length: Duration,
}

impl AttackerConfig {
    pub(crate) fn new(address: &str, honest: u32, seed: u64, length: Duration) -> Self {
        Self {
            address: address.to_owned(),
            honest,
            seed,
            length,
        }
    }
}

/// Attacks for the configured time, and reports its findings.
pub(crate) async fn attacker(config: AttackerConfig) {
    let end = Instant::now() + config.length;
    let mut random = StdRng::seed_from_u64(config.seed);
    let threads = (0..AT_A_TIME).map(|_| {
        let attacker = Attacker {
            address: config.address.clone(),
            honest: config.honest,
            random: StdRng::from_rng(&mut random),
            until: end,
            found: Findings::default(),
        };
        thread::spawn(move || attack(attacker, end))
    });
    let threads: Vec<_> = threads.collect();
    let mut all = Findings::default();
    for thread in threads {
        match thread.join() {
            Ok(found) => all.add(found),
            Err(_) => all.faults.push("an attack has panicked".to_owned()),
        }
    }
    report(&serde_json::to_string(&all).expect("plain data"));
}

/// Runs all attacks, then all again in another order, and so on.
fn attack(mut attacker: Attacker, end: Instant) -> Findings {
    let mut deck = chosen();
    loop {
        deck.shuffle(&mut attacker.random);
        for (name, attack) in &deck {
            if Instant::now() >= end {
                return attacker.found;
            }
            let length = attacker.random.random_range(LONGEST / 3..LONGEST);
            attacker.until = end.min(Instant::now() + length);
            let begun = Instant::now();
            let outcome = attack(&mut attacker);
            let took = u64::try_from(begun.elapsed().as_millis()).expect("the attack is short");
            attacker.add(&format!("{name}: milliseconds"), took);
            attacker.count(&format!("{name}: runs"));
            match outcome {
                Ok(()) => {}
                Err(Ended::HungUp) => attacker.count(&format!("{name}: ended by the manager")),
                Err(Ended::NotRead) => attacker.count(&format!("{name}: not read")),
                Err(
                    ended @ (Ended::NotAnswered
                    | Ended::NotAFrame
                    | Ended::Malformed
                    | Ended::NoManager),
                ) => {
                    attacker.fault(format!("{name}: {ended:?}"));
                    if ended == Ended::NoManager {
                        return attacker.found;
                    }
                }
            }
        }
    }
}
