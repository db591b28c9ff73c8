//! `Binding`: the object of a proxy. It opens the object on first use, and again after a lost connection if
//! the process has enabled reconnection.
//!
//! Invariant: a call is made again only if its request was not sent. A grant belongs to the connection that it
//! came over, even when the proxy uses another one.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lockkeeper_protocol::{ObjectName, codec::Form};
use lockkeeper_sys::PerProcess;

use crate::{
    address::Address, client::connection::Connection, error::CallError, proxy::bound::Bound,
    subject::Subject,
};

/// The object of a proxy, once it is open.
#[derive(Default)]
pub(crate) struct Binding {
    /// Empty again in a forked child, which connects again.
    opened: PerProcess<Opened>,
    /// The spec of the object, if a new manager should create it again.
    spec: Option<Box<[u8]>>,
}

/// The object over the first connection, and over the latest one after the first was lost.
struct Opened {
    first: Arc<Bound>,
    /// Used only after the first connection was lost, so that earlier calls take no lock.
    latest: Mutex<Option<Arc<Bound>>>,
}

impl Opened {
    fn latest(&self) -> MutexGuard<'_, Option<Arc<Bound>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object over the latest connection.
    fn last(&self) -> Arc<Bound> {
        let latest = self.latest();
        Arc::clone(latest.as_ref().unwrap_or(&self.first))
    }
}

impl Binding {
    /// Binds a proxy to the object that its manager has just opened with a spec.
    pub(crate) fn to(bound: Bound, is_named: bool, spec: Vec<u8>) -> Self {
        let spec = (is_named && bound.connection.reconnects()).then(|| spec.into());
        Self {
            opened: Opened::from(bound).into(),
            spec,
        }
    }

    /// Returns the object, unless it must be opened first.
    pub(crate) fn get(&self) -> Option<Arc<Bound>> {
        let opened = self.opened.get()?;
        if !opened.first.connection.is_to_be_replaced() {
            return Some(Arc::clone(&opened.first));
        }
        let last = opened.last();
        (!last.connection.is_to_be_replaced()).then_some(last)
    }

    /// Opens the object over the connection of this process to an address.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Gone`] for an object that was open before and no longer exists.
    pub(crate) async fn bind(
        &self,
        kind: impl Into<Cow<'static, str>>,
        form: Form,
        address: &Address,
        name: &str,
    ) -> Result<Arc<Bound>, CallError> {
        let kind = kind.into();
        let connection = Connection::to(address).await?;
        let before = self.opened.get().map(|opened| opened.last().incarnation());
        let is_new_manager =
            before.is_some_and(|before| before != connection.shard_of().incarnation);
        // It is the same manager, which has the object unless it was removed.
        let spec = self.spec.as_deref().filter(|_| is_new_manager);
        let opened = connection.open(&kind, Some(name), spec).await;
        let object = opened.map_err(|error| {
            let about = || Subject::new(kind.clone(), name);
            match error {
                CallError::NoObject { .. }
                    if before.is_some() && (!is_new_manager || is_anonymous(name)) =>
                {
                    CallError::Gone(about())
                }
                error => error.about(about),
            }
        })?;
        let bound = Bound {
            kind,
            form,
            connection,
            object,
        };
        let Some(opened) = self.opened.get() else {
            // Concurrent first uses get the same object of the same connection.
            let opened = self.opened.get_or_init(|| bound.into());
            return Ok(Arc::clone(&opened.first));
        };
        let bound = Arc::new(bound);
        *opened.latest() = Some(Arc::clone(&bound));
        Ok(bound)
    }
}

fn is_anonymous(name: &str) -> bool {
    name.starts_with(ObjectName::ANONYMOUS)
}

impl From<Bound> for Opened {
    fn from(bound: Bound) -> Self {
        Self {
            first: Arc::new(bound),
            latest: Mutex::default(),
        }
    }
}
