//! The trait [`Operation`]: a name, arguments that can be encoded, and a reply type.

use serde::{Serialize, de::DeserializeOwned};

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
    /// The answer to the caller, including refusals.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}
