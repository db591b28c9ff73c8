//! The calls of a client: it opens, calls and removes objects, and inspects them.
//!
//! Each call locks the connection once to send, and once at each poll.

use std::{
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use lockkeeper_protocol::{
    CallId, Fault, Question,
    codec::{self, BlobRef, Payload},
    frame::{ANSWER_MARGIN_BYTES, Request},
};
use serde::de::DeserializeOwned;

use crate::{
    client::{
        connection::Connection,
        deadline::Deadline,
        driver::Caller,
        pending::{Patience, Pending},
        state::{Answer, Object, Success, wrong_answer},
    },
    error::CallError,
    telemetry::call,
};

/// The time that a manager has to open or remove an object.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// The time after the deadline of a call within which its manager has to report the timeout.
const GRACE: Duration = Duration::from_secs(2);

/// The name of the limit of arguments, for a call whose arguments exceed it.
pub(crate) const ARGUMENTS: &str = "bytes of arguments";

/// A call of an object that was sent.
///
/// If it is dropped before [`Self::poll_reply`] has returned a reply, the call is withdrawn.
pub(crate) struct SentCall {
    pending: Pending,
    deadline: Deadline,
    patience: Option<Patience>,
}

impl Connection {
    /// Opens an object: a new one without a name, or the one with that name. A spec creates the object if it
    /// does not exist.
    pub(crate) async fn open(
        self: &Arc<Self>,
        kind: &str,
        name: Option<&str>,
        spec: Option<&[u8]>,
    ) -> Result<Arc<Object>, CallError> {
        if let (Some(name), None) = (name, spec)
            && let Some(shared) = self.lock()
            && let Some(object) = shared.session.object(kind, name)
        {
            return Ok(object);
        }
        let spec = spec.map(BlobRef);
        let pending = self.request(None, |seq| Request::Open {
            seq,
            kind,
            name,
            spec,
        })?;
        let opened = pending.settle(OPEN_PATIENCE).await;
        let Success::Opened(object) = opened.map_err(|error| error.at(&self.address))? else {
            return Err(wrong_answer());
        };
        if let Some(mut shared) = self.lock() {
            shared.session.keep_object(kind, &object);
        }
        Ok(object)
    }

    /// Removes the object with that name.
    pub(crate) async fn remove(self: &Arc<Self>, name: &str) -> Result<(), CallError> {
        let pending = self.request(None, |seq| Request::Remove { seq, name })?;
        let removed = pending.settle(OPEN_PATIENCE).await;
        removed.map(drop).map_err(|error| error.at(&self.address))
    }

    /// Asks the manager about its objects.
    pub(crate) async fn ask<T: DeserializeOwned>(
        self: &Arc<Self>,
        question: Question,
    ) -> Result<T, CallError> {
        self.send_question(question)?.answer().await
    }

    /// Sends a question about the manager's objects.
    pub(crate) fn send_question(
        self: &Arc<Self>,
        question: Question,
    ) -> Result<SentQuestion, CallError> {
        let pending = self.request(None, |seq| Request::Inspect { seq, question })?;
        Ok(SentQuestion(pending))
    }

    /// Returns the limit of arguments: the most bytes of a call's arguments or of a spec that the manager takes.
    pub(crate) const fn argument_bytes(&self) -> usize {
        self.frame_bytes.saturating_sub(ANSWER_MARGIN_BYTES)
    }

    /// Checks the limit of arguments, because the manager drops a one-way call above it without an answer.
    fn check_arguments(&self, arguments: &[u8]) -> Result<(), CallError> {
        let most = self.argument_bytes();
        if arguments.len() <= most {
            return Ok(());
        }
        Err(Fault::limit(ARGUMENTS, most).into())
    }

    /// Sends a call of an object.
    ///
    /// # Errors
    ///
    /// Returns an error when the request was not sent completely, so that it is not served.
    pub(crate) fn send_call(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        deadline: Deadline,
        arguments: &[u8],
        caller: Option<u64>,
    ) -> Result<SentCall, CallError> {
        self.check_arguments(arguments)?;
        let (micros, arguments) = (deadline.micros(), BlobRef(arguments));
        let pending = self.request(Some(object), |seq| match caller {
            None => Request::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            },
            Some(caller) => Request::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            },
        });
        Ok(SentCall {
            pending: pending?,
            deadline,
            patience: None,
        })
    }

    /// Calls an object without an answer. It never waits, and does nothing on a connection that has ended.
    ///
    /// # Errors
    ///
    /// Returns an error when the arguments exceed their limit; the request is not sent then.
    pub(crate) fn cast(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        arguments: &[u8],
    ) -> Result<(), CallError> {
        self.check_arguments(arguments)?;
        let shared = self.lock().ok_or_else(|| self.forked())?;
        let request = Request::Cast {
            object,
            operation,
            arguments: BlobRef(arguments),
        };
        match self.send(shared, &request) {
            Err(CallError::Disconnected { .. }) => Ok(()),
            sent => sent,
        }
    }

    /// Reserves `count` request numbers, and returns the first.
    pub(crate) fn reserve(&self, count: u64) -> u64 {
        self.lock()
            .map_or(0, |mut shared| shared.session.reserve(count))
    }

    /// Assigns a number to a request, records it as in flight, and sends it.
    ///
    /// # Errors
    ///
    /// Returns an error when the request was not sent completely, so that it is not served.
    pub(super) fn request<'a>(
        self: &Arc<Self>,
        object: Option<u32>,
        request: impl FnOnce(u64) -> Request<'a>,
    ) -> Result<Pending, CallError> {
        let Caller {
            waiter,
            reader,
            mut shared,
        } = self.begin_wait()?;
        if let Some(why) = &shared.session.ended {
            return Err(self.disconnected(why));
        }
        let seq = shared.session.enter();
        let mut pending = Pending {
            connection: Arc::clone(self),
            object,
            seq,
            reader,
            waiter,
            is_new: true,
            is_armed: true,
        };
        if let Err(error) = self.send(shared, &request(seq)) {
            pending.disarm();
            let shared = self.lock();
            let waker = shared.and_then(|mut shared| shared.session.forget(seq));
            drop(waker);
            return Err(error);
        }
        call::numbered(self.session, seq);
        Ok(pending)
    }
}

impl SentCall {
    /// The number of the call in its session.
    pub(crate) const fn number(&self) -> u64 {
        self.pending.seq
    }

    /// Polls for the reply, which `read` decodes. A call whose reply does not decode is withdrawn.
    #[inline]
    pub(crate) fn poll_reply<T>(
        &mut self,
        task: &mut task::Context<'_>,
        read: impl Fn(&Payload) -> Result<T, CallError>,
    ) -> Poll<Result<(CallId, T), CallError>> {
        let Success::Reply(body) = ready!(self.poll(task))? else {
            return Poll::Ready(Err(wrong_answer()));
        };
        let reply = read(&body)?;
        let seq = self.pending.disarm();
        let call = CallId::new(self.pending.connection.session, seq);
        Poll::Ready(Ok((call, reply)))
    }

    fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Answer> {
        let answer = match self.deadline {
            // The manager measures the timeout. The patience covers a manager that hangs.
            Deadline::Ends(timeout) => {
                let time = timeout.saturating_add(GRACE);
                self.pending.poll_within(task, &mut self.patience, time)
            }
            Deadline::Wakes(_) | Deadline::Never => self.pending.poll(task),
        };
        // A process that was stopped may read an answer long after the manager has given the grant away.
        self.pending.connection.check_lease(ready!(answer))
    }
}

/// A question about the manager's objects that was sent.
pub(crate) struct SentQuestion(Pending);

impl SentQuestion {
    /// Waits for the answer.
    pub(crate) async fn answer<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let connection = Arc::clone(&self.0.connection);
        let answer = self.0.settle(OPEN_PATIENCE).await;
        let Success::Reply(body) = answer.map_err(|error| error.at(&connection.address))? else {
            return Err(wrong_answer());
        };
        codec::decode(&body).map_err(|error| CallError::Protocol(error.to_string()))
    }
}
