//! `TaskRule`: the time limit of a task, and when another attempt follows a failed one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The time limit and the retries of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRule {
    /// How long an attempt may run, in microseconds.
    pub limit: Option<u64>,
    /// When another attempt follows.
    pub retry: Option<RetryRule>,
}

impl TaskRule {
    /// The time limit.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.limit.map(Duration::from_micros)
    }
}

/// Which failures another attempt follows, and after which pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRule {
    /// The most attempts, with the first one.
    pub attempts: u32,
    /// Whether another attempt follows the death of a worker.
    pub deaths: bool,
    /// Whether another attempt follows a panic.
    pub panics: bool,
    /// Whether another attempt follows an output that the task calls transient.
    pub transient: bool,
    /// The greatest pause after the first attempt, in microseconds. It doubles with each further one.
    pub first_pause: u64,
    /// The greatest pause of all, in microseconds.
    pub longest_pause: u64,
}

impl RetryRule {
    /// The pause after that many attempts: between a half of the greatest and the greatest one, as `random` says.
    #[must_use]
    pub fn pause(&self, attempts: u32, random: u64) -> Duration {
        let doubled = 2_u64.saturating_pow(attempts.saturating_sub(1));
        let most = self.first_pause.saturating_mul(doubled);
        let most = most.min(self.longest_pause);
        let half = most / 2;
        Duration::from_micros(most - random.checked_rem(half + 1).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_the_longest_and_keeps_at_least_its_half() {
        let rule = RetryRule {
            attempts: u32::MAX,
            deaths: true,
            panics: true,
            transient: true,
            first_pause: 1000,
            longest_pause: 5000,
        };
        for (attempts, most) in [
            (0, 1000),
            (1, 1000),
            (2, 2000),
            (3, 4000),
            (4, 5000),
            (u32::MAX, 5000),
        ] {
            for random in [0, 1, 499, 500, 12_345, u64::MAX] {
                let pause = rule.pause(attempts, random);
                let (least, most) = (most / 2, most);
                let range = Duration::from_micros(least)..=Duration::from_micros(most);
                assert!(range.contains(&pause), "{attempts} {random}: {pause:?}");
            }
        }
        let none = RetryRule {
            first_pause: 0,
            ..rule
        };
        assert_eq!(none.pause(3, 7), Duration::ZERO);
        let endless = RetryRule {
            first_pause: u64::MAX,
            longest_pause: u64::MAX,
            ..rule
        };
        assert!(endless.pause(9, u64::MAX) >= Duration::from_micros(u64::MAX / 2));
    }
}
