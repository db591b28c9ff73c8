//! From a number and bytes to a typed call: the only place where bytes become an operation.
//!
//! The wire names the operations of a kind once, when an object is opened, and then counts them in
//! the order in which the kind listed them.

use std::fmt;

use crate::{CallId, Fault, Operation, Outbox, Serve, codec::Payload};

/// What a kind serves, in the order in which it was listed.
pub struct Operations<P>(Vec<Entry<P>>);

struct Entry<P> {
    name: &'static str,
    serve: fn(&mut P, &Payload, CallId, &Outbox),
}

impl<P> Default for Operations<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P> Operations<P> {
    /// Adds an operation.
    ///
    /// # Panics
    ///
    /// Panics if the kind lists two operations of one name.
    pub fn on<O: Operation>(&mut self) -> &mut Self
    where
        P: Serve<O>,
    {
        assert!(
            self.names().all(|name| name != O::NAME),
            "a kind lists two operations named {:?}",
            O::NAME
        );
        self.0.push(Entry {
            name: O::NAME,
            serve: serve::<P, O>,
        });
        self
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|entry| entry.name)
    }

    /// Decodes the arguments and lets the primitive serve the call. What is wrong with them is
    /// the answer.
    pub(crate) fn serve(
        &self,
        primitive: &mut P,
        operation: u32,
        arguments: &Payload,
        id: CallId,
        outbox: &Outbox,
    ) {
        match usize::try_from(operation)
            .ok()
            .and_then(|number| self.0.get(number))
        {
            Some(entry) => (entry.serve)(primitive, arguments, id, outbox),
            None => outbox
                .call::<()>(id)
                .fail(Fault::UnknownOperation(format!("number {operation}"))),
        }
    }
}

fn serve<P: Serve<O>, O: Operation>(
    primitive: &mut P,
    arguments: &Payload,
    id: CallId,
    outbox: &Outbox,
) {
    let call = outbox.call(id);
    match arguments.decode::<O>() {
        Ok(operation) => primitive.serve(operation, call),
        Err(error) => call.fail(Fault::BadArguments(error.to_string())),
    }
}

impl<P> fmt::Debug for Operations<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
