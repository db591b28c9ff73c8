//! The attacks: each has a file and a line in `ATTACKS`.
//!
//! An attack may connect any number of times, draws its choices from the attacker's random numbers,
//! and ends soon after `until`. It may use only objects whose names begin with `hostile`, except for
//! calls that an honest client's objects must refuse.

mod connections;
mod contention;
mod lengths;
mod mutated;
mod names;
mod numbers;
mod opens;
mod pipes;
mod replaced;
mod stores;
mod thefts;
mod turns;
mod unread;
mod valid;
mod waits;

use std::env;

use super::client::{Attacker, Ended};

/// Attacks until `until`, or until the manager ends the session.
pub(crate) type Attack = fn(&mut Attacker) -> Result<(), Ended>;

const ATTACKS: [(&str, Attack); 15] = [
    ("valid", valid::attack),
    ("mutated", mutated::attack),
    ("lengths", lengths::attack),
    ("opens", opens::attack),
    ("unread", unread::attack),
    ("connections", connections::attack),
    ("thefts", thefts::attack),
    ("stores", stores::attack),
    ("numbers", numbers::attack),
    ("pipes", pipes::attack),
    ("names", names::attack),
    ("waits", waits::attack),
    ("turns", turns::attack),
    ("replaced", replaced::attack),
    ("crowds", contention::attack),
];

/// Returns the attacks in `LOCKKEEPER_HOSTILE_ATTACKS`, separated by commas, or all attacks.
///
/// # Panics
///
/// Panics when it contains an unknown name.
pub(crate) fn chosen() -> Vec<(&'static str, Attack)> {
    let Ok(names) = env::var("LOCKKEEPER_HOSTILE_ATTACKS") else {
        return ATTACKS.to_vec();
    };
    let names: Vec<_> = names.split(',').map(str::trim).collect();
    let chosen = ATTACKS.iter().filter(|(name, _)| names.contains(name));
    let chosen: Vec<_> = chosen.copied().collect();
    assert_eq!(chosen.len(), names.len(), "some of {names:?} are unknown");
    chosen
}
