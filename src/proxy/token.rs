//! `Token`: the address and the name of a hosted object, as data.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

use lockkeeper_actors::Primitive;
use serde::{Deserialize, Serialize};

use crate::address::Address;

/// The address and the name of a hosted object. The address is that of its manager or of its shard. Equal tokens
/// refer to the same object, unless an object of that name was removed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// use lockkeeper::Lock;
///
/// let lock = manager.named("stock").lock().await?;
/// let token = lock.token().clone();
/// assert_eq!(token.name, "stock");
/// assert_eq!(&token.address, manager.address());
///
/// let same = Lock::from(token);
/// let _guard = lock.acquire().await?;
/// assert!(same.try_acquire().await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
pub struct Token<P> {
    /// The address of the object's manager, or of the shard that has the object.
    pub address: Address,
    /// The name of the object. That of an anonymous object begins with `#`.
    pub name: String,
    #[serde(skip)]
    kind: PhantomData<fn() -> P>,
}

impl<P> Token<P> {
    pub(super) const fn new(address: Address, name: String) -> Self {
        Self {
            address,
            name,
            kind: PhantomData,
        }
    }
}

impl<P: Primitive> Token<P> {
    /// Writes the proxy of the object for `Debug`: the type, the name and the address.
    pub(super) fn fmt_proxy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in P::KIND.split('_') {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            write!(f, "{}{rest}", first.to_ascii_uppercase())?;
        }
        write!(f, "({:?} at {})", self.name, self.address)
    }
}

impl<P> Clone for Token<P> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            name: self.name.clone(),
            kind: PhantomData,
        }
    }
}

impl<P> PartialEq for Token<P> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.name == other.name
    }
}

impl<P> Eq for Token<P> {}

impl<P> Hash for Token<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
        self.name.hash(state);
    }
}

impl<P: Primitive> fmt::Debug for Token<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} at {}", P::KIND, self.name, self.address)
    }
}
