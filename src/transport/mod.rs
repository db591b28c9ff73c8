//! Streams of bytes between clients and managers, and the contract for other transports.
//!
//! An address is `scheme:place`, or a path, which is a place of the Unix transport. Unix sockets
//! (`unix`), memory (`memory`) and, with the feature `net`, TLS (`tls`) are built in. A program adds
//! others with [`Program::transport`](crate::builders::Program::transport). Outside this folder only
//! `server/claim/socket_file.rs` depends on the type of a stream. This folder may import `address`,
//! `keys`, `network_place` and `peer_rights` only.
//!
//! | item | contents |
//! | --- | --- |
//! | [`Transport`] | connects to places and binds them |
//! | [`Stream`], [`AttachedStream`] | a connected stream, and how one runtime waits for it |
//! | [`PeerUser`] | the user at the other end of a stream |
//! | [`Listener`], [`Acceptor`] | a bound place, and how one runtime accepts streams there |

pub(crate) mod endpoint;
pub(crate) mod handed;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod peer_process;
pub(crate) mod register;
mod registration;
pub(crate) mod stream;
#[cfg(feature = "net")]
pub(crate) mod tls;
#[expect(
    clippy::module_inception,
    reason = "a folder's main file has the folder's name, and this folder is public"
)]
pub(crate) mod transport;
pub(crate) mod unix;

pub use self::{
    listener::{Acceptor, Listener},
    stream::{AttachedStream, PeerUser, Stream},
    transport::Transport,
};
