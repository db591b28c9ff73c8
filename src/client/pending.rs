//! A request in flight: it waits for its answer, and withdraws the call if it is dropped before.
//!
//! It guards a call: it is created before the frame is written, and disarmed once the caller has its grant.

use std::{
    future::{self, Future},
    mem,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use lockkeeper_protocol::frame::Request;
use lockkeeper_sys::{HereFuture, OnlyHere};
use tokio::time::{self, Sleep};

use crate::{
    background::background,
    client::{
        connection::Connection,
        state::Answer,
        thread,
        wakers::{Reader, WaiterCount},
    },
    error::CallError,
};

/// A request without an answer. If it is dropped before it has one, it withdraws the call.
pub(super) struct Pending {
    pub(super) connection: Arc<Connection>,
    /// The called object, if the request is a call.
    pub(super) object: Option<u32>,
    pub(super) seq: u64,
    /// The reader of the caller's runtime; `None` for a plain thread that is the only caller.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) waiter: WaiterCount,
    /// Whether it was not polled yet.
    pub(super) is_new: bool,
    /// Whether its drop withdraws the call.
    pub(super) is_armed: bool,
}

/// The time that is left for an answer.
pub(super) type Patience = HereFuture<Sleep>;

impl Pending {
    /// Polls for the answer. The first poll is soon after the request was sent.
    pub(super) fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Answer> {
        let is_new = mem::take(&mut self.is_new);
        let spun = if is_new { self.spin() } else { None };
        let answer = match spun {
            Some(answer) => answer,
            None => ready!(self.poll_answer(task, is_new)),
        };
        if answer.is_err() {
            let shared = self.connection.lock();
            if shared.is_none_or(|shared| !shared.session.is_in_flight(self.seq)) {
                // The call was not served, so there is nothing to withdraw.
                self.is_armed = false;
            }
        }
        Poll::Ready(answer)
    }

    /// Polls for the answer briefly, if the recent attempts make that worthwhile.
    fn spin(&self) -> Option<Answer> {
        let connection = &self.connection;
        connection.spin.look(|| {
            let mut shared = connection.lock()?;
            let why = connection.read_chunk(&mut shared);
            let answer = shared.session.take_answer(self.seq);
            connection.unlock(shared, why);
            answer
        })
    }

    /// Takes the answer, after reading the available bytes for all callers.
    fn poll_answer(&mut self, task: &mut task::Context<'_>, is_new: bool) -> Poll<Answer> {
        if !self.connection.is_here() {
            return Poll::Ready(Err(self.connection.forked()));
        }
        if let Err(error) = self.find_reader(task, is_new) {
            // The call was sent, so it still has to be withdrawn.
            return Poll::Ready(Err(error));
        }
        let Self {
            connection,
            reader,
            seq,
            ..
        } = self;
        if let Some(reader) = reader {
            // The waker is registered before the read, so that no event is missed in between. It is
            // registered before the lock, because the waker that it replaces is dropped.
            reader.wakers.caller.register(task.waker());
        }
        let Some(mut shared) = connection.lock() else {
            return Poll::Ready(Err(connection.forked()));
        };
        // Another caller may have read the answer already.
        if !is_new && let Some(answer) = shared.session.take_answer(*seq) {
            connection.unlock(shared, None);
            return Poll::Ready(answer);
        }
        let mut known = if is_new {
            None
        } else {
            shared.session.take_waker(*seq)
        };
        // A plain thread reads after it has slept on the stream's descriptor.
        let why = reader.as_ref().and_then(|reader| {
            Connection::read_all(&mut shared, |scratch| reader.poll_read(scratch))
        });
        let polled = shared.session.poll_answer(*seq, task.waker(), &mut known);
        // If the connection ends here, this caller is woken to find that answer.
        connection.unlock(shared, why);
        drop(known);
        polled
    }

    /// Makes the polling runtime or thread the reader of the call, because the call may have moved since it
    /// was created.
    fn find_reader(&mut self, task: &task::Context<'_>, is_new: bool) -> Result<(), CallError> {
        let is_here = match &self.reader {
            Some(reader) => is_new || reader.is_here(),
            None => thread::read_here(&self.connection, task.waker()),
        };
        if !is_here {
            match self.connection.attach() {
                Ok(here) => self.reader = Some(here),
                Err(error) if self.reader.is_none() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Polls for the answer, for at most `time` after the first poll. A manager that is stopped, for example by a
    /// debugger, does not measure timeouts.
    pub(super) fn poll_within(
        &mut self,
        task: &mut task::Context<'_>,
        patience: &mut Option<Patience>,
        time: Duration,
    ) -> Poll<Answer> {
        if let Poll::Ready(answer) = self.poll(task) {
            return Poll::Ready(answer);
        }
        let patience = patience.get_or_insert_with(|| {
            // The caller's runtime may have no timer.
            let _runtime = background().enter();
            // A forked child that drops this must not wait for the parent's timers.
            OnlyHere::future(time::sleep(time))
        });
        ready!(Pin::new(patience).poll(task));
        Poll::Ready(Err(CallError::timed_out()))
    }

    /// Waits for the answer to a request that cannot be withdrawn.
    pub(super) async fn settle(mut self, time: Duration) -> Answer {
        let mut patience = None;
        future::poll_fn(|task| self.poll_within(task, &mut patience, time)).await
    }

    /// Accepts the answer, because the caller has its grant. Returns the number of the call.
    pub(super) fn disarm(&mut self) -> u64 {
        self.is_armed = false;
        self.seq
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.connection.is_here() {
            return;
        }
        match &self.reader {
            Some(reader) => {
                // The old waker would be woken in place of a caller that reads.
                drop(reader.wakers.caller.take());
                if self.waiter.has_others() {
                    // Other callers may rely on this caller to read for them.
                    reader.wakers.driver.wake();
                }
            }
            None => thread::stop_reading(&self.connection),
        }
        if !self.is_armed {
            return;
        }
        let Some(mut shared) = self.connection.lock() else {
            return;
        };
        let waker = shared.session.forget(self.seq);
        if let Some(object) = self.object {
            let seq = self.seq;
            // A frame of three numbers is smaller than every limit.
            let _ = self
                .connection
                .send(shared, &Request::Withdraw { object, seq });
        } else {
            drop(shared);
        }
        drop(waker);
    }
}
