//! Where a manager is reached: the path of its socket, or the place of another transport.
//!
//! Invariant: the text of an address stands for itself, so that it means the same to all processes of
//! a user: a name is a path by then, and a path has no scheme.

use std::{
    env, fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lockkeeper_protocol::{Printable, Shard};
use serde::{Deserialize, Serialize};

/// Where a manager is reached: the path of its socket, or `scheme:place`.
///
/// A text with a scheme, which is two lowercase letters or more and a colon, is reached through the
/// transport of that scheme: `unix:PATH` is the path, `memory:NAME` a name within this process, and a
/// program adds others with [`Program::transport`](crate::Program::transport). Any other text with a
/// slash is a path. One without is a name in this user's own folder, which is `lockkeeper` in
/// `$XDG_RUNTIME_DIR`, or `lockkeeper-<uid>` in the folder for temporary files.
///
/// ```
/// use lockkeeper::Address;
///
/// let address = Address::from("/run/build/locks.sock");
/// assert_eq!(address.to_string(), "/run/build/locks.sock");
/// assert_eq!(Address::from("unix:/run/build/locks.sock"), address);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Address(pub(crate) Arc<str>);

impl Address {
    /// Returns the path of the socket, or `None` when the address is that of another transport.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self.scheme() {
            None => Some(Path::new(self.as_str())),
            Some(_) => None,
        }
    }

    /// Returns an address that no other manager has.
    pub(crate) fn unused() -> Self {
        Self::from(unused_name().as_str())
    }

    /// Returns an address within this process that no other manager has, in no process: elsewhere it
    /// must lead to nobody.
    pub(crate) fn unused_in_memory() -> Self {
        Self(format!("{MEMORY}:{}", unused_name()).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where that shard of the manager at this address is reached: the first one here.
    pub(crate) fn of(&self, shard: Shard) -> Self {
        match shard.index() {
            0 => self.clone(),
            index => Self(format!("{}.{index}", self.0).into()),
        }
    }

    /// Where the manager is whose shard is reached here.
    pub(crate) fn of_manager(&self, shard: Shard) -> Option<Self> {
        match shard.index() {
            0 => Some(self.clone()),
            index => {
                let manager = self.0.strip_suffix(&format!(".{index}"))?;
                Some(Self(manager.into()))
            }
        }
    }

    /// Returns the scheme, and the place that the transport of that scheme reaches.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.scheme().unwrap_or((UNIX, self.as_str()))
    }

    /// Splits the text at its scheme. The text of a path has none.
    fn scheme(&self) -> Option<(&str, &str)> {
        let parts = self.0.split_once(':');
        parts.filter(|(scheme, _)| is_scheme(scheme))
    }

    /// Whether it is a manager's that was given none.
    pub(crate) fn is_anonymous(&self) -> bool {
        let name = self.path().and_then(Path::file_name).unwrap_or_default();
        name.as_bytes().starts_with(ANONYMOUS.as_bytes())
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        let (text, is_path) = match text.split_once(':') {
            Some((UNIX, path)) => (path, true),
            Some((scheme, _)) if is_scheme(scheme) => return Self(text.into()),
            Some(_) | None => (text, text.contains('/')),
        };
        if matches!(text, "" | "." | "..") {
            return Self(text.into());
        }
        if !is_path {
            return Self(
                runtime_folder()
                    .join(format!("{text}.sock"))
                    .to_string_lossy()
                    .into(),
            );
        }
        match std::path::absolute(text) {
            Ok(path) => Self(path.to_string_lossy().into()),
            Err(_) => Self(text.into()),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.as_ref().to_owned()
    }
}

impl std::str::FromStr for Address {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Address {
    /// Writes the address for people: control characters and backslashes are escaped. The text itself is
    /// `String::from(address)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(&self.0).fmt(f)
    }
}

/// The scheme of paths.
pub(crate) const UNIX: &str = "unix";

/// The scheme of names within one process.
pub(crate) const MEMORY: &str = "memory";

/// What the sockets of managers without an address of their choice begin with.
pub(super) const ANONYMOUS: &str = "manager-";

/// The longest path that fits a socket's address, with the end that those of shards have.
pub(super) const MOST_PATH_BYTES: usize = 100;

/// This user's folder for sockets.
pub(super) fn runtime_folder() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(folder) if folder.is_dir() => folder.join("lockkeeper"),
        Some(_) | None => env::temp_dir().join(format!("lockkeeper-{}", own_uid())),
    }
}

/// A name that no other manager has, in any process of this machine.
fn unused_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{ANONYMOUS}{}-{count}", process::id())
}

/// Returns whether the text before a colon may name a transport: two lowercase letters or more.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// The user that this process acts as.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::MAX_SHARDS;

    use super::*;

    #[test]
    fn address_of_a_shard_tells_that_of_its_manager() {
        let manager = Address::from("/tmp/socket");
        for shard in Shard::all(MAX_SHARDS) {
            assert_eq!(manager.of(shard).of_manager(shard), Some(manager.clone()));
        }
        let [zero, one] = [0, 1].map(|index| Shard::new(index, 2).unwrap());
        assert_eq!(manager.of(zero), manager);
        assert_eq!(manager.of_manager(one), None);
    }

    #[test]
    fn text_with_a_scheme_is_the_place_of_its_transport() {
        for (text, parts) in [
            ("unix:/tmp/socket", ("unix", "/tmp/socket")),
            ("/tmp/tcp:1", ("unix", "/tmp/tcp:1")),
            ("memory:jobs", ("memory", "jobs")),
            ("tcp:127.0.0.1:80", ("tcp", "127.0.0.1:80")),
        ] {
            let address = Address::from(text);
            assert_eq!(address.parts(), parts);
            assert_eq!(address.path().is_some(), parts.0 == "unix", "{text}");
            assert_eq!(Address::from(address.to_string()), address);
        }
        let relative = Address::from("unix:socket");
        assert_eq!(relative, Address::from("./socket"));
        for name in ["A:1", "c:jobs", "ta1k:jobs", "two words:jobs"] {
            let address = Address::from(name);
            assert!(address.to_string().ends_with(&format!("/{name}.sock")));
            assert_eq!(address.parts().0, "unix");
        }
    }
}
