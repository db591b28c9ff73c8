//! `Bind`: a proxy that is bound to its object when it is used; `Ask`: a call of one operation as a future. It opens
//! the object if needed, sends the operation at the first poll, and converts the answer.
//!
//! Every acquire of a lock is an `Ask`. It is a struct, because the future of an async function has separate room
//! for the operation, its bytes and the call.
//!
//! Invariant: an operation is sent again only if its request was not sent.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use lockkeeper_protocol::Operation;

use crate::{
    client::deadline::Deadline,
    error::CallError,
    proxy::bound::{Bound, Receipt, Sent},
};

/// A proxy that is bound to its object when it is used.
pub(crate) trait Bind: Clone + Send + Sync {
    /// Returns the object over the current connection of this process, unless it must be opened first.
    fn opened(&self) -> Option<Arc<Bound>>;

    /// Opens the object.
    fn reopen(&self) -> impl Future<Output = Result<Arc<Bound>, CallError>> + Send;

    /// Returns the object over the current connection of this process.
    fn bound(&self) -> impl Future<Output = Result<Arc<Bound>, CallError>> + Send {
        async {
            match self.opened() {
                Some(bound) => Ok(bound),
                None => self.reopen().await,
            }
        }
    }

    /// Sends a call of the object, and once more if the connection was lost before the call was sent and its
    /// proxies reconnect.
    fn send<T: Send>(
        &self,
        mut bound: Arc<Bound>,
        send: impl Fn(&Bound) -> Result<T, CallError> + Send,
    ) -> impl Future<Output = Result<(Arc<Bound>, T), CallError>> + Send {
        async move {
            let mut sent = send(&bound);
            if sent.is_err() && bound.connection.is_to_be_replaced() {
                bound = self.bound().await?;
                sent = send(&bound);
            }
            Ok((bound, sent?))
        }
    }

    /// Calls the object, and returns the answer and its connection.
    fn ask<O: Operation>(
        &self,
        operation: O,
        deadline: impl Into<Deadline>,
    ) -> Ask<Self, O, Unconverted<O>> {
        Ask::new(self.clone(), operation, deadline, |answer| answer)
    }
}

/// The reply to an operation, with the id of its call and the connection over which it came.
pub(crate) type Answered<O> = (Arc<Bound>, Receipt, <O as Operation>::Reply);

/// A call of one operation of a proxy `B`, whose answer `F` converts.
pub(crate) struct Ask<B, O, F> {
    proxy: B,
    deadline: Deadline,
    /// `None` once it is sent.
    operation: Option<O>,
    opening: Option<Opening>,
    /// Whether the connection was lost before the operation was sent.
    has_lost_one: bool,
    bound: Option<Arc<Bound>>,
    sent: Option<Sent>,
    convert: Option<F>,
}

/// Returns the answer as it is.
pub(crate) type Unconverted<O> =
    fn(Result<Answered<O>, CallError>) -> Result<Answered<O>, CallError>;

/// The open of an object. Most calls need none.
type Opening = Pin<Box<dyn Future<Output = Result<Arc<Bound>, CallError>> + Send>>;

impl<B, O: Operation, F> Ask<B, O, F> {
    /// Makes a call that the first poll sends.
    pub(crate) fn new<R>(proxy: B, operation: O, deadline: impl Into<Deadline>, convert: F) -> Self
    where
        F: FnOnce(Result<Answered<O>, CallError>) -> R,
    {
        Self {
            proxy,
            deadline: deadline.into(),
            operation: Some(operation),
            opening: None,
            has_lost_one: false,
            bound: None,
            sent: None,
            convert: Some(convert),
        }
    }
}

impl<B: Bind + 'static, O: Operation, F> Ask<B, O, F> {
    /// Sends the operation if that was not done yet, and once more if the connection was lost before it was sent
    /// and proxies reconnect.
    fn poll_send(&mut self, task: &mut task::Context<'_>) -> Poll<Result<(), CallError>> {
        while let Some(operation) = &self.operation {
            let bound = match &mut self.opening {
                Some(opening) => ready!(opening.as_mut().poll(task))?,
                None => match self.proxy.opened() {
                    Some(bound) => bound,
                    None => {
                        let proxy = self.proxy.clone();
                        self.opening = Some(Box::pin(async move { proxy.reopen().await }));
                        continue;
                    }
                },
            };
            self.opening = None;
            let arguments = bound.encode(operation)?;
            match bound.send(None, O::NAME, &arguments, self.deadline) {
                Ok(sent) => {
                    self.operation = None;
                    self.sent = Some(sent);
                    self.bound = Some(bound);
                }
                Err(error) => {
                    let is_lost = bound.connection.is_to_be_replaced();
                    if !is_lost || mem::replace(&mut self.has_lost_one, true) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_answer(
        &mut self,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<Answered<O>, CallError>> {
        ready!(self.poll_send(task))?;
        let (Some(bound), Some(sent)) = (&self.bound, &mut self.sent) else {
            // It has returned its answer before.
            return Poll::Pending;
        };
        let answer = ready!(sent.poll_reply::<O>(bound, task));
        let bound = Arc::clone(bound);
        self.sent = None;
        let (receipt, reply) = answer?;
        Poll::Ready(Ok((bound, receipt, reply)))
    }
}

/// No field is pinned.
impl<B, O, F> Unpin for Ask<B, O, F> {}

impl<B, O, F, R> Future for Ask<B, O, F>
where
    B: Bind + 'static,
    O: Operation,
    F: FnOnce(Result<Answered<O>, CallError>) -> R,
{
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<R> {
        let answer = ready!(self.poll_answer(task));
        match self.convert.take() {
            Some(convert) => Poll::Ready(convert(answer)),
            None => Poll::Pending,
        }
    }
}
