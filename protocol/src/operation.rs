//! The trait [`Operation`]: a name, arguments that can be encoded, and a reply type.

use serde::{Serialize, de::DeserializeOwned};

/// The most bytes of the arguments of built-in operations with a short text, such as a key. A text that is a little
/// too long is thus a refusal that says what is allowed.
pub(crate) const SHORT: usize = 1 << 16;

/// A request that a primitive answers, with the type of the answer.
///
/// ```
/// use lockkeeper::kind::Operation;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64);
///
/// impl Operation for Add {
///     const NAME: &'static str = "add";
///     type Reply = i64;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operation of a kind",
    label = "this is not an `Operation`",
    note = "implement `lockkeeper::kind::Operation` for `{Self}`, with `#[derive(Serialize, Deserialize)]`"
)]
pub trait Operation: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire: stable, and unique within a kind.
    const NAME: &'static str;
    /// Whether only the manager's own user and root may call it, if the manager is open to other users. The
    /// default is `false`: every client may call it.
    const IS_ADMINISTRATIVE: bool = false;
    /// The most bytes of its encoded arguments. Longer ones get the fault `BadArguments` before they are decoded. The
    /// default is `usize::MAX`: the manager bounds all arguments.
    const MOST_BYTES: usize = usize::MAX;
    /// The answer to the caller, including refusals.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}
