//! Reading the answers of a kind.

use lockkeeper_actors::{Bench, CallId, Fault, Operation, Primitive};

/// The answer to a call that was answered.
pub(crate) fn answer<P: Primitive, O: Operation>(
    bench: &Bench<P>,
    id: CallId,
) -> Result<O::Reply, Fault> {
    let told = bench.reply::<O>(id);
    told.expect("only what was answered is read")
}
