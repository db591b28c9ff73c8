//! `Hold`: the grant that a guard owns, and its release on drop.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::pin,
    sync::{Arc, OnceLock},
};

use futures::future::{self, Either};
use lockkeeper_actors::{Primitive, Serve};
use lockkeeper_protocol::{CallId, Operation, Proof, Refusal, SignedCall};
use lockkeeper_sys::{OnlyHere, PerProcess};
use tokio_util::sync::CancellationToken;

use crate::{
    client::deadline::Deadline,
    error::CallError,
    proxy::{
        bound::{Bound, Receipt},
        token::Token,
        wait::Wait,
    },
    subject::Asked,
};

/// A grant of one object, which a guard owns.
#[derive(Debug)]
pub(crate) struct Hold {
    bound: Arc<Bound>,
    grant: Receipt,
    token: DropToken,
    shares: Shares,
}

/// The state that several holds of one grant share. Dropping the last one removes the grant from the
/// connection's table.
#[derive(Default)]
struct Shares(OnceLock<Arc<()>>);

impl Shares {
    fn share(&self) -> Self {
        Self(Arc::clone(self.0.get_or_init(Arc::default)).into())
    }

    /// Drops this share, and returns whether it was the last.
    fn end(&mut self) -> bool {
        let is_last = |share| Arc::into_inner(share).is_some();
        self.0.take().is_none_or(is_last)
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shares")
    }
}

/// Completes the loss futures of a hold when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct DropToken(PerProcess<CancellationToken>);

impl DropToken {
    /// Waits for a loss of a grant of `bound`, or until this is dropped, without borrowing it. Returns why the grant is
    /// not held any more.
    pub(crate) fn lost<F>(
        &self,
        lost: F,
        bound: &Arc<Bound>,
    ) -> impl Future<Output = CallError> + Send + use<F>
    where
        F: Future<Output = CallError> + Send,
    {
        let dropped = self.0.get_or_init(CancellationToken::new).clone();
        // A forked child that drops it must not wait for the parent's lists of waiters.
        let lost = OnlyHere::future(async move {
            match future::select(pin!(lost), pin!(dropped.cancelled())).await {
                Either::Left((why, _)) => Some(why),
                Either::Right(((), _)) => None,
            }
        });
        let bound = Arc::clone(bound);
        async move {
            let why = lost.await.flatten();
            why.unwrap_or_else(|| loss(&bound, Asked::Release))
        }
    }
}

impl Drop for DropToken {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.get() {
            dropped.cancel();
        }
    }
}

impl Hold {
    pub(crate) fn new(bound: Arc<Bound>, grant: Receipt) -> Self {
        Self {
            bound,
            grant,
            token: DropToken::default(),
            shares: Shares::default(),
        }
    }

    /// Returns the object, over the session of the hold.
    pub(crate) const fn bound(&self) -> &Arc<Bound> {
        &self.bound
    }

    pub(crate) const fn grant(&self) -> CallId {
        self.grant.call
    }

    /// Returns the proof of the grant for operations that this hold sends.
    pub(crate) const fn proof(&self) -> Proof {
        Proof::own(self.grant.call)
    }

    /// Returns the proof of the grant for operations of any session.
    pub(crate) fn sign(&self) -> SignedCall {
        self.bound.connection.sign(self.grant.call)
    }

    /// Makes a second hold of the same grant, for split permits.
    pub(crate) fn share(&self) -> Self {
        let mut other = Self::new(Arc::clone(&self.bound), self.grant.clone());
        other.shares = self.shares.share();
        other
    }

    /// Returns whether both belong to one object and one session.
    pub(crate) fn is_sibling(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bound.connection, &other.bound.connection)
            && self.bound.object.number == other.bound.object.number
    }

    /// Returns whether it belongs to the object of the token.
    pub(crate) fn is_of<P>(&self, token: &Token<P>) -> bool {
        self.bound.object.name == token.name
            && self.bound.connection.address().parts() == token.address.parts()
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.bound
            .connection
            .is_valid(self.bound.object.number, self.grant())
    }

    /// Waits until the grant is no longer valid, or this is dropped, without borrowing it. Returns why.
    pub(crate) fn lost(&self) -> impl Future<Output = CallError> + Send + use<> {
        self.token.lost(self.taken(), &self.bound)
    }

    /// Waits until the grant is no longer valid, without borrowing this. Returns why.
    pub(crate) fn taken(&self) -> impl Future<Output = CallError> + Send + use<> {
        let (bound, grant) = (Arc::clone(&self.bound), self.grant());
        async move {
            let lost = bound.connection.lost(bound.object.number, grant).await;
            about(lost, &bound, Asked::Hold)
        }
    }

    /// Calls the object over the session of the hold.
    pub(crate) async fn call<T, O>(
        &self,
        operation: &O,
        deadline: impl Into<Deadline>,
    ) -> Result<T, CallError>
    where
        O: Operation<Reply = Result<T, Refusal>>,
    {
        let (_, reply) = self.bound.call(operation, deadline).await?;
        self.bound.accepted(reply)
    }

    /// Calls the object for a new grant, and returns the new hold and the answer.
    pub(crate) async fn call_within<T, O>(
        &self,
        operation: &O,
        deadline: impl Into<Deadline>,
    ) -> Result<(Self, T), CallError>
    where
        O: Operation<Reply = Result<T, Refusal>>,
    {
        let (grant, reply) = self.bound.call(operation, deadline).await?;
        let reply = self.bound.accepted(reply)?;
        Ok((Self::new(Arc::clone(&self.bound), grant), reply))
    }

    /// Sends a one-way call to the object.
    pub(crate) fn cast<O: Operation>(&self, operation: &O) {
        self.bound.cast(operation);
    }
}

/// Runs a future until it ends or `lost` does, which is an error.
pub(crate) async fn run<F: Future>(
    lost: impl Future<Output = CallError>,
    future: F,
) -> Result<F::Output, CallError> {
    match future::select(pin!(lost), pin!(future)).await {
        Either::Left((why, _)) => Err(why),
        Either::Right((output, _)) => Ok(output),
    }
}

/// Returns why a grant of the object is no longer valid. `asked` is what ended it if the object and the session are still
/// there.
fn loss(bound: &Bound, asked: Asked) -> CallError {
    about(bound.connection.loss(bound.object.number), bound, asked)
}

fn about(loss: CallError, bound: &Bound, asked: Asked) -> CallError {
    loss.about(|| bound.subject().asked(asked))
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.shares.end() {
            self.bound.connection.forget(self.grant());
        }
    }
}

/// A grant of an object of kind `P`, for the guard of a custom kind.
///
/// Dropping it releases nothing: the drop of your guard must send the operation that does. When the
/// session ends, the kind must release it in its `hang_up`.
#[must_use = "dropping a grant releases nothing: the drop of your guard must"]
pub struct Grant<P> {
    hold: Hold,
    kind: PhantomData<fn() -> P>,
}

impl<P: Primitive> Grant<P> {
    pub(super) const fn new(hold: Hold) -> Self {
        Self {
            hold,
            kind: PhantomData,
        }
    }

    /// Returns the proof of the grant for an operation that [`Self::call`] or [`Self::cast`] sends. The kind
    /// checks it with [`Call::verify`](crate::kind::Call::verify).
    #[must_use]
    pub const fn proof(&self) -> Proof {
        self.hold.proof()
    }

    /// Returns the proof of the grant for an operation of any process, which can then act for this
    /// session.
    #[must_use]
    pub fn signed_proof(&self) -> Proof {
        Proof::Signed(self.hold.sign())
    }

    /// Returns whether it is still held, as far as this process knows: the session exists, the
    /// object was not removed, and the kind has not revoked the grant.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until it is no longer held, and returns why, as [`LockGuard::lost`](crate::LockGuard::lost) does. The future
    /// borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = CallError> + Send + use<P> {
        self.hold.lost()
    }

    /// Calls the object over the session of the hold.
    ///
    /// A call by the [`Proxy`](crate::Proxy) may go over a later connection, where [`Self::proof`] would name
    /// another grant.
    pub fn call<O: Operation>(&self, operation: O) -> Wait<O::Reply>
    where
        P: Serve<O>,
    {
        let bound = Arc::clone(self.hold.bound());
        Wait::new(move |timeout| async move {
            let (_, reply) = bound.call(&operation, timeout).await?;
            Ok(reply)
        })
    }

    /// Sends a one-way call over the session of the hold, and never waits.
    pub fn cast<O: Operation>(&self, operation: &O)
    where
        P: Serve<O>,
    {
        self.hold.cast(operation);
    }
}

impl<P> fmt::Debug for Grant<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grant").field(&self.hold.grant()).finish()
    }
}
