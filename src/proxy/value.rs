//! The proxy of a hosted value. Waiting for its changes is in `watch`.

use std::{
    fmt,
    ops::{Add, Deref},
    time::Duration,
};

use lockkeeper_actors::data;
use lockkeeper_protocol::{
    codec::Blob,
    operations::{Exchange, Exchanged, OnlyIf, Read, Store, Swap, Versioned},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::CallError,
    proxy::{
        ask::Bind,
        end::End,
        proxy::Proxy,
        token::Token,
        typed::{Typed, VALUE, pack},
        wait::Wait,
    },
};

/// A value that processes share: each read, change and exchange is atomic, and changes can be watched.
///
/// The value stays when the process that set it dies. Each set increments its version, even if the new value
/// is equal. Counterpart of Python's `manager.Value(typecode, value)`, for any type, and with [`Self::update`]
/// for `value.value += 1`, which loses updates in Python.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let level = manager.value("low".to_owned()).await?;
/// let watcher = tokio::spawn({
///     let level = level.clone();
///     async move { level.wait_for(|level| level == "high").await }
/// });
/// level.set("high".to_owned()).await?;
/// assert_eq!(watcher.await??.value, "high");
///
/// let visits = manager.value(0_u64).await?;
/// visits.fetch_add(2).await?;
/// assert_eq!(visits.compare_exchange(1, 5).await?, Err(2));
/// assert_eq!(visits.update(|visits| visits * 10).await?, 2);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Namespace")]
#[doc(alias = "Array")]
#[doc(alias = "watch")]
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Value<T>(pub(super) Typed<data::Value, T>);

impl<T: Serialize + DeserializeOwned + 'static> Value<T> {
    /// Returns the value. Python: `value.value`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `WrongType` when the object has another schema id, and
    /// [`CallError::Undecoded`] when the stored value cannot be decoded nevertheless: the error has its
    /// bytes and both types, and [`Self::set`] replaces it.
    #[doc(alias = "load")]
    pub fn get(&self) -> Wait<T> {
        let value = self.clone();
        Wait::new(|timeout| async move { Ok(value.read(timeout).await?.value) })
    }

    /// Returns the value with its version.
    pub fn versioned(&self) -> Wait<Versioned<T>> {
        let value = self.clone();
        Wait::new(|timeout| async move { value.read(timeout).await })
    }

    /// Sets the value, and returns its new version. Python: `value.value = x`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `Limit` for a value above the limit of a message, and with
    /// `BadArguments` for one that cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the value may have been set.
    #[doc(alias = "store")]
    pub fn set(&self, new: T) -> Wait<u64>
    where
        T: Send,
    {
        let object = self.clone();
        Wait::new(|timeout| async move {
            let value = object.encoded(new).await?;
            object.0.call(Store { value }, timeout).await
        })
    }

    /// Sets the value, and returns the previous one.
    #[doc(alias = "replace")]
    pub fn swap(&self, new: T) -> Wait<T>
    where
        T: Send,
    {
        let object = self.clone();
        Wait::new(|timeout| async move {
            let value = object.encoded(new).await?;
            let previous = object.0.call(Swap { value }, timeout).await?;
            object.0.unpack(&previous.value)
        })
    }

    /// Sets the value if it is `current`. Returns `Ok` with the previous value, or `Err` with the actual one, as
    /// the atomics of `std` do.
    ///
    /// Values are equal if `==` returns true, or if both have the same encoding, such as a `NaN`
    /// and itself. A [timeout](Wait::timeout) ends the call while other calls replace the value by
    /// equal ones.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::set`].
    #[doc(alias = "compare_and_swap")]
    pub fn compare_exchange(&self, current: T, new: T) -> Wait<Result<T, T>>
    where
        T: PartialEq + Send,
    {
        let value = self.clone();
        Wait::new(|timeout| value.exchanged(current, new, timeout))
    }

    async fn exchanged(
        self,
        current: T,
        new: T,
        timeout: Option<Duration>,
    ) -> Result<Result<T, T>, CallError>
    where
        T: PartialEq,
    {
        let end = End::after(timeout);
        let bound = self.0.bound().await?;
        let mut previous = pack(&bound.connection, &current, VALUE)?;
        let new = pack(&bound.connection, &new, VALUE)?;
        let exchange = Exchange {
            only_if: OnlyIf::Equal(previous.clone()),
            value: new.clone(),
        };
        // Later requests name a version, which is valid only over this connection.
        let (bound, _, mut exchanged) = self.0.ask(exchange, end.left()).await?;
        loop {
            let Versioned { version, value } = match exchanged {
                Exchanged::Done(_) => return self.0.unpack(&previous).map(Ok),
                Exchanged::Actual(actual) => actual,
            };
            // Equal values may have other bytes, such as a map in another order.
            let actual: T = self.0.unpack(&value)?;
            if actual != current {
                return Ok(Err(actual));
            }
            end.check::<Exchange>(|| self.0.subject())?;
            previous = value;
            let exchange = Exchange {
                only_if: OnlyIf::Version(version),
                value: new.clone(),
            };
            (_, exchanged) = bound.call(&exchange, end.left()).await?;
        }
    }

    /// Sets the value to the result of the closure, and returns the previous value, as the atomics of `std` do. Python:
    /// `value.value += 1`, with a lock.
    ///
    /// The closure runs in this process. If another call has set the value meanwhile, the closure runs again with
    /// the new value, so no update is lost. An update may be repeated many times while others succeed. If many
    /// processes update all the time, use a [`Lock`](crate::Lock), which is fair. A [timeout](Wait::timeout)
    /// ends the call after a round in which another one succeeded.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the value may have been set, once.
    #[doc(alias = "fetch_update")]
    pub fn update(&self, mut change: impl FnMut(T) -> T + Send + 'static) -> Wait<T>
    where
        T: Send,
    {
        let value = self.clone();
        Wait::new(|timeout| async move {
            let change = move |current| Some(change(current));
            let (Ok(previous) | Err(previous)) = value.change_by(change, timeout).await?;
            Ok(previous)
        })
    }

    /// Updates the value as [`Self::update`] does, and returns `Ok` with the previous value. If the closure returns
    /// `None`, the value stays, and this returns `Err` with it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let seats = manager.value(1_u32).await?;
    /// assert_eq!(seats.try_update(|seats| seats.checked_sub(1)).await?, Ok(1));
    /// assert_eq!(seats.try_update(|seats| seats.checked_sub(1)).await?, Err(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::update`].
    pub fn try_update(
        &self,
        change: impl FnMut(T) -> Option<T> + Send + 'static,
    ) -> Wait<Result<T, T>>
    where
        T: Send,
    {
        let value = self.clone();
        Wait::new(|timeout| async move { value.change_by(change, timeout).await })
    }

    /// Adds to the value, and returns the previous one, like the atomics in `std`. Unlike there, a
    /// sum out of range behaves as with `+`. To avoid that, use [`Self::try_update`] with
    /// `checked_add`.
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    ///
    /// # Panics
    ///
    /// Panics where `+` does. The value is then unchanged.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::update`].
    pub fn fetch_add(&self, addend: T) -> Wait<T>
    where
        T: Copy + Add<Output = T> + Send,
    {
        self.update(move |current| current + addend)
    }

    pub(super) async fn read(&self, timeout: Option<Duration>) -> Result<Versioned<T>, CallError> {
        self.decoded(&self.0.call(Read, timeout).await?)
    }

    /// Sets the value to the result of the closure, unless that is `None`. Returns the previous value, or the one
    /// that stays.
    async fn change_by(
        &self,
        mut change: impl FnMut(T) -> Option<T>,
        timeout: Option<Duration>,
    ) -> Result<Result<T, T>, CallError> {
        let end = End::after(timeout);
        // All requests use one connection: in a restarted manager, another value may have the same version.
        let (bound, _, mut actual) = self.0.ask(Read, end.left()).await?;
        loop {
            // The closure consumes the value, so the one to return is decoded again.
            let Some(new) = change(self.0.unpack(&actual.value)?) else {
                return self.0.unpack(&actual.value).map(Err);
            };
            let value = pack(&bound.connection, &new, VALUE)?;
            let only_if = OnlyIf::Version(actual.version);
            let exchange = Exchange { only_if, value };
            let (_, exchanged) = bound.call(&exchange, end.left()).await?;
            match exchanged {
                Exchanged::Done(_) => return self.0.unpack(&actual.value).map(Ok),
                Exchanged::Actual(newer) => actual = newer,
            }
            end.check::<Exchange>(|| self.0.subject())?;
        }
    }

    /// Decodes a value that came with its version.
    pub(super) fn decoded(&self, encoded: &Versioned<Blob>) -> Result<Versioned<T>, CallError> {
        Ok(Versioned {
            version: encoded.version,
            value: self.0.unpack(&encoded.value)?,
        })
    }

    async fn encoded(&self, value: T) -> Result<Blob, CallError> {
        let bound = self.0.bound().await?;
        pack(&bound.connection, &value, VALUE)
    }
}

impl<T> Value<T> {
    /// Sets the schema id of the value, if it was opened with
    /// [`Manager::schema`](crate::Manager::schema) and is reached by its token.
    #[must_use]
    pub fn schema(self, id: &str) -> Self {
        Self(self.0.with_schema(id))
    }
}

impl<T> Deref for Value<T> {
    type Target = Proxy<data::Value>;

    fn deref(&self) -> &Proxy<data::Value> {
        self.0.proxy()
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}

impl<T> From<Typed<data::Value, T>> for Value<T> {
    fn from(typed: Typed<data::Value, T>) -> Self {
        Self(typed)
    }
}

impl<T> From<Proxy<data::Value>> for Value<T> {
    fn from(proxy: Proxy<data::Value>) -> Self {
        Self(proxy.into())
    }
}

impl<T> From<Token<data::Value>> for Value<T> {
    fn from(token: Token<data::Value>) -> Self {
        Proxy::from(token).into()
    }
}
