//! `Lease`: how long the holds of a client stay valid over a network without an answer of the manager.
//!
//! Each answer to a frame renews the lease, and an idle client sends a frame every fifth of its length. It gives up what
//! it holds once four fifths have passed since it *sent* the last frame that was answered, before the manager gives it away: the manager
//! counts the whole length from when it *received* a frame.
//!
//! Invariant: the lease is compared with the boot-time clock, which runs while the machine is suspended. A
//! lease that was found to be over ends the connection, so it never becomes valid again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// A moment of the boot-time clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootTime(u64);

impl BootTime {
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        let seconds = part(now.tv_sec).saturating_mul(1_000_000_000);
        Self(seconds.saturating_add(part(now.tv_nsec)))
    }

    fn after(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(time))
    }

    fn until(self, end: Self) -> Duration {
        Duration::from_nanos(end.0.saturating_sub(self.0))
    }
}

/// The lease of a connection over a network.
#[derive(Debug)]
pub(super) struct Lease {
    /// How long the connection is valid from when an answered frame was sent.
    pub(super) length: Duration,
    /// The interval of the frames that renew it while no call does.
    pub(super) beat: Duration,
    /// The boot time until which the connection is valid.
    until: AtomicU64,
}

impl Lease {
    /// Begins a lease of length `given`, which the manager stated in its answer to a frame sent at `sent`.
    pub(super) fn new(given: Duration, sent: BootTime) -> Self {
        let length = given / 5 * 4;
        Self {
            length,
            beat: given / 5,
            until: AtomicU64::new(sent.after(length).0),
        }
    }

    /// Renews the lease, because a frame sent at `sent` was answered.
    pub(super) fn renew(&self, sent: BootTime) {
        self.until
            .fetch_max(sent.after(self.length).0, Ordering::Relaxed);
    }

    /// How long the lease lasts from now on, if it is not renewed.
    pub(super) fn left(&self) -> Duration {
        BootTime::now().until(self.end())
    }

    fn end(&self) -> BootTime {
        BootTime(self.until.load(Ordering::Relaxed))
    }

    /// How long ago the last frame was sent that was answered.
    fn idle(&self, now: BootTime) -> Duration {
        self.length.saturating_sub(now.until(self.end()))
    }
}

/// The received bytes that a client acknowledges by a beat although its calls renew the lease: the manager keeps them until
/// then, so that the session can be resumed.
const MOST_UNACKNOWLEDGED: u64 = 1 << 16;

/// The frames that only renew the lease and have no answer yet, and when the next one is due. Answered calls renew the
/// lease too, so a client that calls sends few of them.
#[derive(Debug, Default)]
pub(super) struct Beats {
    sent: VecDeque<Beat>,
    /// The lease that an answer renews.
    lease: Option<Arc<Lease>>,
    /// The number of received bytes in the last frame.
    acknowledged: u64,
}

/// A frame that renews the lease.
#[derive(Debug)]
struct Beat {
    seq: u64,
    sent: BootTime,
    /// The number of bytes that had arrived by then.
    received: u64,
}

impl Beats {
    /// Begins to renew a lease.
    pub(super) fn begin(&mut self, lease: &Arc<Lease>) {
        self.lease = Some(Arc::clone(lease));
    }

    /// Returns the moment at which a call is sent, for [`Self::answered`], if there is a lease.
    pub(super) fn now(&self) -> Option<BootTime> {
        self.lease.as_ref().map(|_| BootTime::now())
    }

    /// Renews the lease, because a call that was sent at that moment was answered.
    pub(super) fn answered(&self, sent: Option<BootTime>) {
        if let (Some(lease), Some(sent)) = (&self.lease, sent) {
            lease.renew(sent);
        }
    }

    /// Returns how long the next frame can wait, if that many bytes were received until now. `None` means that it is due.
    pub(super) fn pause(&self, now: BootTime, received: u64) -> Option<Duration> {
        let lease = self.lease.as_ref()?;
        let left = lease.beat.saturating_sub(lease.idle(now));
        let unacknowledged = received.saturating_sub(self.acknowledged);
        (!left.is_zero() && unacknowledged < MOST_UNACKNOWLEDGED).then_some(left)
    }

    /// Adds a frame. Returns whether nothing has arrived for most of the lease although frames are unanswered:
    /// the connection may be dead although it has not ended. A shorter silence proves nothing, because answers
    /// may be delayed.
    pub(super) fn push(&mut self, seq: u64, now: BootTime, received: u64) -> bool {
        let patience = self.lease.as_ref().map(|lease| lease.length / 2);
        let is_silent = patience.is_some_and(|patience| {
            self.sent
                .iter()
                .any(|beat| beat.received == received && beat.sent.until(now) > patience)
        });
        self.acknowledged = received;
        self.sent.push_back(Beat {
            seq,
            sent: now,
            received,
        });
        is_silent
    }

    /// Takes an answer. Returns false if it answers another request.
    pub(super) fn is_answered_by(&mut self, seq: u64) -> bool {
        let Some(place) = self.sent.iter().position(|beat| beat.seq == seq) else {
            return false;
        };
        // The manager answers in order.
        for beat in self.sent.drain(..=place) {
            if let Some(lease) = &self.lease {
                lease.renew(beat.sent);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_renewed_from_when_an_answered_frame_was_sent_and_never_shortened() {
        let (now, second) = (BootTime::now(), Duration::from_secs(1));
        let lease = Lease::new(10 * second, now);
        assert!(lease.left() <= 8 * second && lease.left() > 7 * second);
        lease.renew(BootTime(now.0 - 5_000_000_000));
        assert!(lease.left() > 7 * second);
        lease.renew(now.after(second));
        assert!(lease.left() <= 9 * second && lease.left() > 8 * second);
        let over = Lease::new(10 * second, BootTime(now.0 - 8_000_000_000));
        assert!(over.left().is_zero());
    }

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * 1_000_000_000)
    }

    #[test]
    fn answered_call_renews_the_lease_from_when_it_was_sent_and_puts_off_the_next_beat() {
        let second = Duration::from_secs(1);
        let lease = Arc::new(Lease::new(10 * second, at(0)));
        let mut beats = Beats::default();
        assert_eq!(beats.now(), None);
        beats.begin(&lease);
        assert!(beats.now().is_some());
        assert_eq!(beats.pause(at(0), 0), Some(2 * second));
        assert_eq!(beats.pause(at(1), 0), Some(second));
        assert_eq!(beats.pause(at(2), 0), None);
        // The answer comes later, which counts for nothing.
        beats.answered(Some(at(1)));
        assert_eq!(lease.end(), at(9));
        assert_eq!(beats.pause(at(2), 0), Some(second));
        // An answer to an old call changes nothing, and neither does a call that was sent without a lease.
        beats.answered(Some(at(0)));
        beats.answered(None);
        assert_eq!(lease.end(), at(9));
        assert_eq!(beats.pause(at(3), 0), None);
    }

    #[test]
    fn many_received_bytes_are_acknowledged_by_a_beat_although_calls_renew_the_lease() {
        let lease = Arc::new(Lease::new(Duration::from_secs(10), at(0)));
        let mut beats = Beats::default();
        beats.begin(&lease);
        assert!(beats.pause(at(1), MOST_UNACKNOWLEDGED - 1).is_some());
        assert_eq!(beats.pause(at(1), MOST_UNACKNOWLEDGED), None);
        beats.push(1, at(1), MOST_UNACKNOWLEDGED + 5);
        assert!(beats.pause(at(1), 2 * MOST_UNACKNOWLEDGED + 4).is_some());
        assert_eq!(beats.pause(at(1), 2 * MOST_UNACKNOWLEDGED + 5), None);
    }

    #[test]
    fn only_a_long_silence_shows_that_a_connection_may_be_dead() {
        let second = Duration::from_secs(1);
        let lease = Arc::new(Lease::new(10 * second, BootTime(0)));
        let mut beats = Beats::default();
        beats.begin(&lease);
        assert!(!beats.push(1, at(0), 100));
        assert!(!beats.push(2, at(4), 100));
        assert!(beats.push(3, at(5), 100));
        // Something else arrives.
        assert!(!beats.push(4, at(6), 101));
        assert!(beats.is_answered_by(2) && !beats.is_answered_by(1));
        assert!(!beats.push(5, at(9), 101));
        assert!(!beats.push(6, at(10), 101));
        assert!(beats.push(7, at(11), 101));
        assert_eq!(lease.end(), at(4).after(lease.length));
    }

    /// How much later than its client a manager gives up a lease, in true seconds, if the clocks of both run at
    /// these rates and a frame takes no time.
    fn margin(client_rate: f64, manager_rate: f64) -> f64 {
        let given = Duration::from_secs(10);
        let lease = Lease::new(given, BootTime(0));
        let client = BootTime(0).until(lease.end()).as_secs_f64() / client_rate;
        given.as_secs_f64() / manager_rate - client
    }

    #[test]
    fn client_gives_up_first_while_the_rates_of_both_clocks_are_nearly_true() {
        for client_rate in [0.9, 1.0, 1.1] {
            for manager_rate in [0.9, 1.0, 1.1] {
                assert!(margin(client_rate, manager_rate) > 0.0);
            }
        }
        // A client whose clock is that slow needs a fence at the resource.
        assert!(margin(0.5, 1.0) < 0.0);
    }
}
