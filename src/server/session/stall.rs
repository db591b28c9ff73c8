//! `Stall`: measures whether a client that has many unread answers reads them.

use std::{future::Future, pin::Pin, task, time::Duration};

use lockkeeper_actors::ReplySink;
use tokio::time::{self, Instant, Sleep};

use crate::{
    limits::Limits,
    server::session::{context::End, outgoing::Outgoing},
};

/// Measures the reading of a client from the moment when it has more than a few unread answers.
pub(super) struct Stall {
    timer: Pin<Box<Sleep>>,
    limits: Limits,
    /// When the client last read something, or when its session became full. `None` if it is not full.
    idle_since: Option<Instant>,
    period: Period,
}

/// A period in which the client has to read what was unread at its beginning, if other clients wait.
struct Period {
    end: Instant,
    /// The number of unread bytes at its beginning.
    unread: usize,
    /// The number of bytes written since.
    written: usize,
}

impl Stall {
    pub(super) fn begin(outgoing: &Outgoing, limits: Limits) -> Self {
        let period = Period::begin(outgoing, limits);
        Self {
            timer: Box::pin(time::sleep_until(period.end)),
            limits,
            idle_since: None,
            period,
        }
    }

    /// Counts bytes that were written. When the time is up, judges the client.
    ///
    /// # Errors
    ///
    /// Returns the end of a client that read nothing although it could, or too little while other clients
    /// wait for the room of its answers.
    pub(super) fn check(
        &mut self,
        written: usize,
        outgoing: &Outgoing,
        task: &mut task::Context<'_>,
    ) -> Result<(), End> {
        self.period.written = self.period.written.saturating_add(written);
        if outgoing.unread() == 0 || !outgoing.is_full() {
            self.idle_since = None;
        } else if written > 0 || self.idle_since.is_none() {
            let now = Instant::now();
            self.idle_since = Some(now);
            let next = self.next(now);
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(task).is_ready() {
            let now = Instant::now();
            self.judge(outgoing, now)?;
            let next = self.next(now);
            self.timer.as_mut().reset(next);
        }
        Ok(())
    }

    /// Judges the client at the end of its time, and begins the next period if this one is over.
    fn judge(&mut self, outgoing: &Outgoing, now: Instant) -> Result<(), End> {
        let time = self.limits.unread_time;
        if self
            .idle_since
            .is_some_and(|since| now >= later(since, time))
        {
            let unread = outgoing.unread();
            return Err(End::Offence(format!(
                "it has read none of {unread} bytes of answers in {time:?}"
            )));
        }
        if now >= self.period.end {
            let (read, most) = (self.period.written, self.period.unread);
            if read < most && outgoing.keeps_others_waiting() {
                return Err(End::Offence(format!(
                    "it has read only {read} of {most} bytes of answers in {time:?}, \
                     while other clients wait: at most {} bytes may be unread in all",
                    self.limits.unread_bytes
                )));
            }
            self.period = Period::begin(outgoing, self.limits);
        }
        Ok(())
    }

    /// When the client is to be judged next, but not before a millisecond has passed.
    fn next(&self, now: Instant) -> Instant {
        let idle = self
            .idle_since
            .map(|since| later(since, self.limits.unread_time));
        let next = idle.map_or(self.period.end, |idle| idle.min(self.period.end));
        next.max(now + Duration::from_millis(1))
    }
}

impl Period {
    fn begin(outgoing: &Outgoing, limits: Limits) -> Self {
        Self {
            end: later(Instant::now(), limits.unread_time),
            unread: outgoing.unread(),
            written: 0,
        }
    }
}

/// The instant after a time. Times that no clock reaches, such as `Duration::MAX`, end in thirty years.
fn later(instant: Instant, time: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    instant + time.min(THIRTY_YEARS)
}
