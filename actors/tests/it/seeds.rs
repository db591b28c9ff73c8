//! Runs a test over many seeds, and reports the seed of a failure.
//!
//! To see each step of a failure, run the test again with `LOCKKEEPER_SEED=<seed>`.

use std::{
    collections::BTreeMap,
    env,
    panic::{self, AssertUnwindSafe},
};

/// How often each case occurred in all schedules of a test.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// Returns the only seed to run, if `LOCKKEEPER_SEED` is set.
pub(crate) fn only() -> Option<u64> {
    let seed = env::var("LOCKKEEPER_SEED").ok()?;
    Some(seed.parse().expect("LOCKKEEPER_SEED is a number"))
}

/// Runs a test over many seeds. It also fails if one of the cases in `must_occur` never occurred,
/// because the test would not have checked it.
pub(crate) fn each(
    test: &str,
    seeds: u64,
    must_occur: &[&'static str],
    run: impl Fn(u64, &mut Tally),
) {
    let only = only();
    let mut tally = Tally::default();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(seed, &mut tally)));
        if let Err(payload) = outcome {
            let why = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a message");
            panic!("{why}\nto see each step, run {test} again with LOCKKEEPER_SEED={seed}");
        }
    }
    for what in must_occur {
        let occurred = only.is_some() || tally.0.contains_key(what);
        assert!(occurred, "{what:?} never occurred in {test}: {tally:?}");
    }
}
