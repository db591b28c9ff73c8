//! Random numbers from one seed, which is printed. `LOCKKEEPER_SEED` sets the seed to repeat a run.

use std::env;

use rand::{SeedableRng, rngs::StdRng};

/// Makes a generator with a new seed, or the one in `LOCKKEEPER_SEED`.
///
/// # Panics
///
/// Panics when `LOCKKEEPER_SEED` is not a number.
pub fn seeded() -> StdRng {
    let seed = match env::var("LOCKKEEPER_SEED") {
        Ok(seed) => seed.parse().expect("LOCKKEEPER_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("to repeat: LOCKKEEPER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
