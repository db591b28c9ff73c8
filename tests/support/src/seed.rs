//! Random numbers of one seed, which is printed, and taken from `LOCKKEEPER_SEED` to repeat a run.

use std::env;

use rand::{SeedableRng, rngs::StdRng};

/// Random numbers of a new seed, or of the one in `LOCKKEEPER_SEED`.
///
/// # Panics
///
/// Panics when `LOCKKEEPER_SEED` is no number.
pub fn seeded() -> StdRng {
    let seed = match env::var("LOCKKEEPER_SEED") {
        Ok(seed) => seed.parse().expect("LOCKKEEPER_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("to repeat: LOCKKEEPER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
