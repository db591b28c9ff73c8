//! The calls of a client: it opens, calls and removes objects, and inspects them.
//!
//! Each call locks the connection once to send, and once at each poll.

use std::{fmt, sync::Arc, time::Duration};

use lockkeeper_protocol::{
    CallId, Question,
    codec::{self, BlobRef, Payload},
    frame::Request,
};
use serde::de::DeserializeOwned;

use crate::{
    client::{
        connection::Connection,
        deadline::Deadline,
        driver::Caller,
        pending::Pending,
        state::{Object, Success, wrong_answer},
    },
    error::CallError,
    telemetry::call,
};

/// The time that a manager has to open or remove an object.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// The time after the deadline of a call within which its manager has to report the timeout.
const GRACE: Duration = Duration::from_secs(2);

/// The reason why a call has no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// The connection ended before the request was sent, and its proxies connect anew, so the call may be
    /// repeated.
    Unsent(CallError),
    /// The call may have been served, or must not be repeated.
    Final(CallError),
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(error) | Self::Final(error) => error.fmt(f),
        }
    }
}

impl From<CallError> for NoReply {
    fn from(error: CallError) -> Self {
        Self::Final(error)
    }
}

impl From<NoReply> for CallError {
    fn from(why: NoReply) -> Self {
        match why {
            NoReply::Unsent(error) | NoReply::Final(error) => error,
        }
    }
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
    ) -> Result<T, NoReply> {
        let pending = self.request(None, |seq| Request::Inspect { seq, question });
        let pending = pending.map_err(|error| self.unsent(error))?;
        let told = pending.settle(OPEN_PATIENCE).await;
        let Success::Reply(body) = told.map_err(|error| error.at(&self.address))? else {
            return Err(wrong_answer().into());
        };
        codec::decode(&body).map_err(|error| CallError::Protocol(error.to_string()).into())
    }

    /// Calls an object and waits for the reply, which `read` decodes.
    ///
    /// # Cancel safety
    ///
    /// A call is withdrawn if its future is dropped or its reply does not decode.
    pub(crate) async fn call<T>(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        deadline: Deadline,
        arguments: &[u8],
        caller: Option<u64>,
        read: impl FnOnce(&Payload) -> Result<T, CallError>,
    ) -> Result<(CallId, T), NoReply> {
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
        let mut pending = pending.map_err(|error| self.unsent(error))?;
        let answer = match deadline {
            // The manager measures the timeout. The patience covers a manager that hangs.
            Deadline::Ends(timeout) => pending.answer_within(timeout.saturating_add(GRACE)).await,
            Deadline::Wakes(_) | Deadline::Never => pending.answer().await,
        };
        let Success::Reply(body) = answer? else {
            return Err(wrong_answer().into());
        };
        let reply = read(&body)?;
        let seq = pending.disarm();
        Ok((CallId::new(self.session, seq), reply))
    }

    /// Calls an object without an answer. It never waits, and does nothing on a connection that has ended.
    ///
    /// # Errors
    ///
    /// Returns an error when the request exceeds the limit of the manager; it is not sent then.
    pub(crate) fn cast(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        arguments: &[u8],
    ) -> Result<(), CallError> {
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

    /// Classifies the error of a request that was not sent.
    #[cold]
    fn unsent(&self, error: CallError) -> NoReply {
        if self.reconnects() && matches!(error, CallError::Disconnected { .. }) {
            NoReply::Unsent(error)
        } else {
            NoReply::Final(error)
        }
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
