//! Reads the answers of a kind.

use lockkeeper_actors::{Bench, CallId, Fault, Operation, Primitive};

/// Returns the answer to an answered call.
pub(crate) fn answer<P: Primitive, O: Operation>(
    bench: &Bench<P>,
    id: CallId,
) -> Result<O::Reply, Fault> {
    let observed = bench.reply::<O>(id);
    observed.expect("the call is answered")
}
