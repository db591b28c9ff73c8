//! The proxy of an object that stores values of the user's type. Only proxies encode and decode values.
//!
//! Invariant: before the first value is sent or received, the object has confirmed that its values have
//! that type.

use std::{
    any::type_name,
    borrow::Cow,
    future::Future,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lockkeeper_actors::{Primitive, Serve};
use lockkeeper_protocol::{
    Fault, Operation,
    codec::{self, Blob, Form, guarded},
    operations::CheckType,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    client::{connection::Connection, deadline::Deadline},
    error::CallError,
    proxy::{
        ask::{Ask, Bind},
        bound::{Bound, encode},
        proxy::Proxy,
        schema,
        token::Token,
    },
    subject::Subject,
    undecoded::{Encoder, Undecoded},
};

/// A proxy of an object of kind `P` that stores values of type `T`.
pub(crate) struct Typed<P, T> {
    proxy: Proxy<P>,
    /// The schema id of the values, if it differs from that of their type.
    schema: Option<Arc<str>>,
    /// The session in which the object has confirmed the id, or 0: in another session it may be another object.
    agreed: Arc<AtomicU64>,
    values: PhantomData<fn(T) -> T>,
}

impl<P: Serve<CheckType>, T: DeserializeOwned> Typed<P, T> {
    /// Opens an object whose spec has a schema id: a new one without a name, or the one of that name,
    /// which is created if necessary.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        name: Option<&str>,
        schema: Option<&str>,
        spec: impl FnOnce(String) -> P::Spec,
    ) -> Result<Self, CallError> {
        let schema = schema.map(Arc::from);
        let id = id_of::<T>(schema.as_ref()).into_owned();
        match (Proxy::open(connection, name, &spec(id)).await, name) {
            (Ok(proxy), _) => Ok(Self {
                schema,
                agreed: Arc::new(AtomicU64::new(connection.session().number())),
                ..proxy.into()
            }),
            (Err(CallError::Fault(wrong @ Fault::WrongSpec { .. })), Some(name)) => {
                // The schema id is a part of the spec. If the ids differ, the error should name
                // both.
                let object = connection.open(P::KIND, Some(name), None).await?;
                let bound = Bound {
                    kind: P::KIND.into(),
                    form: P::FORM,
                    connection: Arc::clone(connection),
                    object,
                };
                let (_, agreed) = bound.call(&check::<T>(schema.as_ref()), None).await?;
                bound.accepted(agreed)?;
                Err(wrong.into())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Decodes a value. An error or a panic of its `Deserialize` is an error of this value.
    pub(crate) fn unpack(&self, blob: &Blob) -> Result<T, CallError> {
        let Blob(bytes) = blob;
        guarded(|| codec::decode(bytes)).map_err(|error| {
            let kind = P::KIND;
            let what = format!("the data of {kind} {:?}", self.proxy.token().name);
            let sent = id_of::<T>(self.schema.as_ref()).into_owned();
            let types = [sent, type_name::<T>().to_owned()];
            let undecoded = Undecoded::new(
                Encoder::Client,
                what,
                types,
                error.to_string(),
                blob.clone(),
            );
            CallError::Undecoded(Box::new(undecoded))
        })
    }

    /// Calls the object, and returns the reply.
    pub(crate) fn call<O: Operation, D: Into<Deadline>>(
        &self,
        operation: O,
        deadline: D,
    ) -> impl Future<Output = Result<O::Reply, CallError>> + Send + use<P, T, O, D>
    where
        P: Serve<O>,
        T: 'static,
    {
        Ask::new(self.clone(), operation, deadline, |answer| {
            answer.map(|(_, _, reply)| reply)
        })
    }
}

impl<P: Serve<CheckType>, T: DeserializeOwned + 'static> Bind for Typed<P, T> {
    /// Returns the object over the current connection of this process, if it has confirmed the schema id there.
    fn opened(&self) -> Option<Arc<Bound>> {
        let bound = self.proxy.opened()?;
        let agreed = self.agreed.load(Ordering::Acquire);
        (agreed == bound.connection.session().number()).then_some(bound)
    }

    async fn reopen(&self) -> Result<Arc<Bound>, CallError> {
        let (bound, _, agreed) = self
            .proxy
            .ask(check::<T>(self.schema.as_ref()), None)
            .await?;
        bound.accepted(agreed)?;
        // Concurrent first uses got the same answer.
        let session = bound.connection.session().number();
        self.agreed.store(session, Ordering::Release);
        Ok(bound)
    }
}

impl<P: Primitive, T> Typed<P, T> {
    /// Returns the untyped proxy of the object.
    pub(crate) const fn proxy(&self) -> &Proxy<P> {
        &self.proxy
    }

    /// Returns the subject for errors about the object.
    pub(crate) fn subject(&self) -> Subject {
        self.proxy.subject()
    }

    /// Sets the schema id of the values, instead of that of their type.
    pub(crate) fn with_schema(self, id: &str) -> Self {
        Self {
            schema: Some(id.into()),
            agreed: Arc::default(),
            ..self
        }
    }
}

/// The difference between the limit of arguments and that of an encoded value, because a call adds a few bytes
/// to the value.
const VALUE_MARGIN_BYTES: usize = 1 << 10;

/// Encodes a value if it fits into a message to the manager and from it. Otherwise the error is the
/// limit that `what` names.
pub(crate) fn pack<T: Serialize>(
    connection: &Connection,
    value: &T,
    what: &str,
) -> Result<Blob, CallError> {
    let most = connection
        .argument_bytes()
        .saturating_sub(VALUE_MARGIN_BYTES);
    encode(Form::Named, value, most, what).map(Blob::from)
}

/// The name of the limit of a message, for a value that exceeds it.
pub(crate) const VALUE: &str = "bytes of a value";

/// Returns the set schema id, or that of the type.
fn id_of<T>(chosen: Option<&Arc<str>>) -> Cow<'_, str> {
    chosen.map_or_else(|| schema::of::<T>().into(), |id| Cow::Borrowed(&**id))
}

/// The operation that checks the schema id of an object's values.
fn check<T>(chosen: Option<&Arc<str>>) -> CheckType {
    let schema = id_of::<T>(chosen).into_owned();
    CheckType { schema }
}

impl<P, T> Clone for Typed<P, T> {
    fn clone(&self) -> Self {
        Self {
            proxy: self.proxy.clone(),
            schema: self.schema.clone(),
            agreed: Arc::clone(&self.agreed),
            values: PhantomData,
        }
    }
}

impl<P, T> From<Proxy<P>> for Typed<P, T> {
    fn from(proxy: Proxy<P>) -> Self {
        Self {
            proxy,
            schema: None,
            agreed: Arc::default(),
            values: PhantomData,
        }
    }
}

/// A serialized typed proxy: the token, and the schema id if the program has set one.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Sent<P> {
    token: Token<P>,
    schema: Option<String>,
}

impl<P: Primitive, T> Serialize for Typed<P, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (token, schema) = (self.proxy.token().clone(), self.schema.as_deref());
        let schema = schema.map(str::to_owned);
        Sent { token, schema }.serialize(serializer)
    }
}

impl<'de, P: Primitive, T> Deserialize<'de> for Typed<P, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Sent { token, schema } = Sent::deserialize(deserializer)?;
        let typed = Self::from(Proxy::from(token));
        Ok(Self {
            schema: schema.map(Arc::from),
            ..typed
        })
    }
}
