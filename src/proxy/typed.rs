//! The proxy of an object that stores values of the user's type. Only proxies encode and decode values.
//!
//! Invariant: before the first value is sent or received, the object has confirmed that its values have
//! that type.

use std::{
    any::type_name,
    future::Future,
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use lockkeeper_actors::{Primitive, Serve};
use lockkeeper_protocol::{
    Fault, Operation, Refusal,
    codec::{self, Blob},
    operations::CheckType,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    client::{connection::Connection, deadline::Deadline},
    error::CallError,
    proxy::{
        bound::{Bound, encode},
        hold::Hold,
        proxy::Proxy,
        schema,
    },
};

/// A proxy of an object of kind `P` that keeps values of type `T`.
pub(crate) struct Typed<P, T> {
    proxy: Proxy<P>,
    /// Whether the object has agreed to the type.
    agreed: Arc<OnceLock<()>>,
    values: PhantomData<fn(T) -> T>,
}

impl<P: Serve<CheckType>, T: DeserializeOwned> Typed<P, T> {
    /// Opens an object whose spec describes the type: a new one without a name, else the one of
    /// that name, made if need be.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        name: Option<&str>,
        spec: P::Spec,
    ) -> Result<Self, CallError> {
        match (Proxy::open(connection, name, &spec).await, name) {
            (Ok(proxy), _) => Ok(Self {
                agreed: Arc::new(OnceLock::from(())),
                ..proxy.into()
            }),
            (Err(CallError::Fault(Fault::WrongSpec(wrong))), Some(name)) => {
                // The type is in the spec: when it is that which differs, both are to be named.
                let object = connection.open(P::KIND, Some(name), None).await?;
                let bound = Bound {
                    kind: P::KIND,
                    connection: Arc::clone(connection),
                    object,
                };
                agree::<T>(&bound).await?;
                Err(Fault::WrongSpec(wrong).into())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The object as this process's connection knows it, once both mean the same type.
    pub(crate) async fn bound(&self) -> Result<&Arc<Bound>, CallError> {
        let bound = self.proxy.bound().await?;
        if self.agreed.get().is_none() {
            agree::<T>(bound).await?;
            // Of two first uses at a time both got the same answer.
            let _ = self.agreed.set(());
        }
        Ok(bound)
    }

    /// Calls the object.
    pub(crate) async fn call<O: Operation>(
        &self,
        operation: &O,
        deadline: impl Into<Deadline>,
    ) -> Result<O::Reply, CallError>
    where
        P: Serve<O>,
    {
        let (_, reply) = self.bound().await?.call(operation, deadline).await?;
        Ok(reply)
    }

    /// Calls the object for something to be held.
    pub(crate) async fn hold<O: Operation>(
        &self,
        operation: &O,
        deadline: impl Into<Deadline>,
    ) -> Result<(Hold, O::Reply), CallError>
    where
        P: Serve<O>,
    {
        let bound = self.bound().await?;
        let (grant, reply) = bound.call(operation, deadline).await?;
        Ok((Hold::new(bound, grant), reply))
    }
}

impl<P: Primitive, T> Typed<P, T> {
    /// The proxy of the object, whatever its values are.
    pub(crate) const fn proxy(&self) -> &Proxy<P> {
        &self.proxy
    }
}

impl<P: Primitive, T: Serialize> Typed<P, T> {
    /// Encodes a value that fits a message, both to the object and from there.
    ///
    /// It is encoded at once, and the future has its bytes alone: a value need not be `Sync`.
    pub(crate) fn pack<'a>(
        &'a self,
        value: &T,
    ) -> impl Future<Output = Result<Blob, CallError>> + Send + use<'a, P, T> {
        let bytes = encode(value);
        async move {
            let bytes = bytes?;
            fit(&self.proxy.bound().await?.connection, bytes)
        }
    }
}

/// How many bytes go along with a value at the most, such as who died with it.
const ESCORT_BYTES: usize = 1 << 11;

/// Takes an encoded value if a message has room for it, both to the manager and from there.
pub(crate) fn fit(connection: &Connection, bytes: Vec<u8>) -> Result<Blob, CallError> {
    let most = connection.frame_bytes().saturating_sub(ESCORT_BYTES);
    if bytes.len() > most {
        return Err(Fault::limit("bytes of a value", most).into());
    }
    Ok(bytes.into())
}

/// Decodes a value.
pub(crate) fn unpack<T: DeserializeOwned>(Blob(bytes): &Blob) -> Result<T, CallError> {
    codec::decode(bytes).map_err(|error| {
        let expected = type_name::<T>();
        Fault::BadArguments(format!("what is there is no {expected}: {error}")).into()
    })
}

/// Asks an object whether its values are of a type.
async fn agree<T: DeserializeOwned>(bound: &Bound) -> Result<(), CallError> {
    let holds = schema::of::<T>();
    let (_, agreed): (_, Result<(), Refusal>) = bound.call(&CheckType { holds }, None).await?;
    Ok(agreed?)
}

impl<P, T> Clone for Typed<P, T> {
    fn clone(&self) -> Self {
        Self {
            proxy: self.proxy.clone(),
            agreed: Arc::clone(&self.agreed),
            values: PhantomData,
        }
    }
}

impl<P, T> From<Proxy<P>> for Typed<P, T> {
    fn from(proxy: Proxy<P>) -> Self {
        Self {
            proxy,
            agreed: Arc::default(),
            values: PhantomData,
        }
    }
}

impl<P, T> Serialize for Typed<P, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.proxy.serialize(serializer)
    }
}

impl<'de, P, T> Deserialize<'de> for Typed<P, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Proxy::deserialize(deserializer).map(Self::from)
    }
}
