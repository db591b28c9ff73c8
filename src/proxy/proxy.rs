//! `Proxy`: calls a hosted object over the connection of this process.
//!
//! A proxy is an address and a name. It can be cloned, moved to other threads, and serialized into the
//! arguments of a task; it connects on first use. Objects have no reference count: an object lives until
//! it is removed or its manager ends.
//!
//! Invariant: a proxy does not depend on sockets, and dropping a guard never waits, blocks or
//! panics.

use std::{fmt, future::Future, os::fd::OwnedFd, sync::Arc, time::Duration};

use lockkeeper_actors::{Primitive, Serve};
use lockkeeper_protocol::{ObjectInfo, Operation, Page, Question, Refusal};
use lockkeeper_sys::Private;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    background,
    client::{connection::Connection, deadline::Deadline, side_channel::ReportPipeWriter},
    error::{CallError, lack},
    proxy::{
        ask::{Ask, Bind},
        binding::Binding,
        bound::{Bound, Receipt, encode},
        hold::{Grant, Hold},
        token::Token,
        wait::Wait,
    },
    subject::{Asked, Subject},
    telemetry::call,
};

/// The pause before a call that the manager refused for lack of room is repeated. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The name of the limit of arguments, for a spec that exceeds it.
const SPEC: &str = "bytes of a spec";

/// A proxy of a hosted object of kind `P`.
///
/// The built-in kinds have proxies with their own methods; this one is for custom kinds. A proxy keeps the connection
/// that it first used: when that is lost, its calls fail with [`CallError::Disconnected`], and a proxy that is opened
/// or deserialized afterwards connects again. So does each proxy in a forked child, on first use there. With
/// [`ClientBuilder::reconnect`](crate::builders::ClientBuilder::reconnect) the next call of a proxy connects again.
///
/// ```
/// use lockkeeper::{Manager, errors::Refusal, kind::{Call, Operation, Operations, Primitive, Serve}};
/// use serde::{Deserialize, Serialize};
///
/// struct Counter(i64);
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64);
///
/// impl Operation for Add {
///     const NAME: &'static str = "add";
///     type Reply = i64;
/// }
///
/// impl Primitive for Counter {
///     const KIND: &'static str = "counter";
///     type Spec = i64;
///
///     fn create(start: i64) -> Result<Self, Refusal> {
///         Ok(Self(start))
///     }
///
///     fn operations(operations: &mut Operations<Self>) {
///         operations.on::<Add>();
///     }
/// }
///
/// impl Serve<Add> for Counter {
///     fn serve(&mut self, Add(number): Add, call: Call<i64>) {
///         self.0 += number;
///         call.reply(self.0);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::builder().register::<Counter>().start().await?;
/// let counter = manager.open::<Counter>(40).await?;
/// assert_eq!(counter.call(Add(2)).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Proxy<P>(Arc<Shared<P>>);

/// The state that all clones share.
struct Shared<P> {
    token: Token<P>,
    binding: Binding,
}

/// Converts the grant and the reply of a call to its outcome.
type Finish<O, T> = fn(Arc<Bound>, Receipt, <O as Operation>::Reply) -> Result<T, CallError>;

impl<P: Primitive> Proxy<P> {
    /// Opens an object: a new one without a name, or the one of that name, which is created if
    /// necessary.
    ///
    /// The spec is encoded before the first await, and the future keeps only the bytes, so specs
    /// need not be `Sync`.
    pub(crate) fn open<'a>(
        connection: &'a Arc<Connection>,
        name: Option<&'a str>,
        spec: &P::Spec,
    ) -> impl Future<Output = Result<Self, CallError>> + Send + use<'a, P> {
        let spec = encode(P::FORM, spec, connection.argument_bytes(), SPEC);
        async move {
            let spec = spec?;
            let opened = connection.open(P::KIND, name, Some(&spec)).await;
            let about = || Subject::of(P::KIND, name).asked(Asked::Open);
            let object = opened.map_err(|error| error.about(about))?;
            let token = Token::new(connection.address().clone(), object.name.clone());
            let connection = Arc::clone(connection);
            let bound = Bound {
                kind: P::KIND.into(),
                form: P::FORM,
                connection,
                object,
            };
            let binding = Binding::to(bound, name.is_some(), spec);
            Ok(Self(Arc::new(Shared { token, binding })))
        }
    }

    /// Returns the address and the name of the object.
    #[must_use]
    pub fn token(&self) -> &Token<P> {
        &self.0.token
    }

    /// Calls the object and waits for its answer.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager,
    /// [`CallError::Gone`] without the object, and [`CallError::Fault`] when the manager refuses
    /// the call, with `BadArguments` when the operation cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, it is withdrawn: the kind undoes its effects.
    pub fn call<O: Operation>(&self, operation: O) -> Wait<O::Reply>
    where
        P: Serve<O>,
    {
        self.start(operation, |_, _, reply| Ok(reply))
    }

    /// Calls the object, and repeats the call while the manager's stored bytes are at their limit.
    pub(crate) async fn call_patiently<O: Operation>(
        &self,
        operation: &O,
    ) -> Result<O::Reply, CallError>
    where
        P: Serve<O>,
    {
        let arguments = self.bound().await?.encode(operation)?;
        let send = |bound: &Bound| bound.send(None, O::NAME, &arguments, Deadline::Never);
        let mut pause = FIRST_PAUSE;
        loop {
            let (bound, sent) = self.send(self.bound().await?, send).await?;
            match bound.reply::<O>(sent).await {
                Ok((_, reply)) => return Ok(reply),
                Err(error) if error.lacks_room() => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Calls the object, and passes the number of the call to `sent` once it was sent.
    pub(crate) async fn call_numbered<O: Operation>(
        &self,
        operation: O,
        sent: impl FnOnce(u64),
    ) -> Result<O::Reply, CallError>
    where
        P: Serve<O>,
    {
        let arguments = self.bound().await?.encode(&operation)?;
        drop(operation);
        let send = |bound: &Bound| bound.send(None, O::NAME, &arguments, Deadline::Never);
        let (bound, call) = self.send(self.bound().await?, send).await?;
        drop(arguments);
        sent(call.number());
        let (_, reply) = bound.reply::<O>(call).await?;
        Ok(reply)
    }

    /// Calls the object with an operation that it may refuse.
    pub(crate) fn attempt<T, O>(&self, operation: O) -> Wait<T>
    where
        O: Operation<Reply = Result<T, Refusal>>,
        P: Serve<O>,
        T: 'static,
    {
        self.start(operation, |bound, _, reply| {
            bound.accepted_of::<O, T>(reply)
        })
    }

    /// Calls the object for a grant, and waits for it: for the guards of custom kinds.
    ///
    /// The id of the call, which the kind has seen as [`Call::id`](crate::kind::Call::id), is the grant.
    pub fn hold<O: Operation>(&self, operation: O) -> Wait<(O::Reply, Grant<P>)>
    where
        P: Serve<O>,
    {
        self.start(operation, |bound, grant, reply| {
            Ok((reply, Grant::new(Hold::new(bound, grant))))
        })
    }

    /// Calls the object, and converts the grant and the reply with `finish`.
    pub(super) fn start<O: Operation, T>(&self, operation: O, finish: Finish<O, T>) -> Wait<T>
    where
        P: Serve<O>,
        T: 'static,
    {
        let proxy = self.clone();
        Wait::new(move |timeout| {
            Ask::new(proxy, operation, timeout, move |answer| {
                let (bound, grant, reply) = answer?;
                finish(bound, grant, reply)
            })
        })
    }

    /// Returns the holders of the object, the waiting calls in order, and the statistics: see
    /// [`Manager::inspect`](crate::Manager::inspect). The manager answers at once, so a
    /// [timeout](Wait::timeout) has no effect.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub fn info(&self) -> Wait<ObjectInfo> {
        let proxy = self.clone();
        Wait::new(|_| async move { proxy.inspected().await })
    }

    async fn inspected(&self) -> Result<ObjectInfo, CallError> {
        let ask = |bound: &Bound| {
            let name = bound.object.name.clone();
            bound.connection.send_question(Question::Named(name))
        };
        let (bound, asked) = self.send(self.bound().await?, ask).await?;
        let page: Page = asked.answer().await.map_err(|error| match error {
            // The object existed when it was opened, so it was removed.
            CallError::NoObject { .. } => CallError::Gone(bound.subject()),
            error => error,
        })?;
        // If the manager has reported that this object is gone, the answer may be about a new object
        // with the same name.
        let told = page.objects.into_iter().next();
        told.filter(|_| !bound.connection.is_gone(bound.object.number))
            .ok_or_else(|| CallError::Gone(bound.subject()))
    }

    /// Sends the object an operation without waiting for an answer. It never blocks, so the drop of a custom
    /// guard can call it.
    ///
    /// If the proxy was used before, the operation is sent when this returns, ahead of all later calls. Otherwise
    /// the proxy is opened first, in the background. If the connection is lost, the operation is lost too. The
    /// event `call not sent` records an operation above the limit of arguments, and a first use for which the
    /// system lacks descriptors or threads.
    pub fn cast<O: Operation>(&self, operation: O)
    where
        P: Serve<O>,
    {
        if let Some(bound) = self.0.binding.get() {
            return bound.cast(&operation);
        }
        let background = match background::start() {
            Ok(background) => background,
            Err(error) => {
                let (address, why) = (self.token().address.clone(), lack(&error));
                let why = CallError::NoManager {
                    address,
                    why,
                    advice: String::new(),
                };
                return call::not_cast(P::KIND, &self.token().name, O::NAME, &why);
            }
        };
        let proxy = self.clone();
        drop(background.spawn(async move {
            if let Ok(bound) = proxy.bound().await {
                bound.cast(&operation);
            }
        }));
    }

    /// The object, for errors.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(P::KIND, &self.token().name)
    }

    /// Returns whether the system has accepted all bytes of earlier calls.
    pub(crate) fn has_sent_all(&self) -> bool {
        let bound = self.0.binding.get();
        bound.is_some_and(|bound| bound.connection.has_sent_all())
    }

    /// Reserves call numbers of the session, and returns the first. The object must have been used
    /// before, because the numbers belong to a connection.
    pub(crate) fn reserve(&self, count: u64) -> u64 {
        let bound = self.0.binding.get();
        bound.map_or(0, |bound| bound.connection.reserve(count))
    }

    /// Makes the manager read the stream's report pipe for an operation that takes a list of records.
    pub(crate) async fn report_pipe<O: Operation>(
        &self,
        pipe: Private<OwnedFd>,
    ) -> Option<ReportPipeWriter>
    where
        P: Serve<O>,
    {
        let bound = self.bound().await.ok()?;
        let operation = bound.object.operation(O::NAME).ok()?;
        bound
            .connection
            .report_pipe(bound.object.number, operation, pipe)
            .await
    }
}

impl<P: Primitive> Bind for Proxy<P> {
    fn opened(&self) -> Option<Arc<Bound>> {
        self.0.binding.get()
    }

    async fn reopen(&self) -> Result<Arc<Bound>, CallError> {
        let Shared { token, binding } = &*self.0;
        // It happens once, so its future is boxed and takes no room in each call.
        Box::pin(binding.bind(P::KIND, P::FORM, &token.address, &token.name)).await
    }
}

impl<P> Clone for Proxy<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> From<Token<P>> for Proxy<P> {
    fn from(token: Token<P>) -> Self {
        Self(Arc::new(Shared {
            token,
            binding: Binding::default(),
        }))
    }
}

impl<P> Serialize for Proxy<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.token.serialize(serializer)
    }
}

impl<'de, P> Deserialize<'de> for Proxy<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Token::deserialize(deserializer).map(Self::from)
    }
}

impl<P: Primitive> fmt::Debug for Proxy<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.0.token).finish()
    }
}
