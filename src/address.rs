//! `Address`: where a manager is reached. A path of a Unix socket, or a scheme and a place.
//!
//! An address is data. `server::claim` claims an address for a manager, and `transport` connects to it.
//! A manager of several shards has a socket for each shard.

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

use lockkeeper_protocol::Shard;
use serde::{Deserialize, Serialize};

/// Where a manager is reached: the path of its socket.
///
/// A text with a slash is a path; one without is a name in this user's own folder, which is
/// `lockkeeper` in `$XDG_RUNTIME_DIR`, or `lockkeeper-<uid>` in the folder for temporary files.
///
/// ```
/// let address = lockkeeper::Address::from("/run/build/locks.sock");
/// assert_eq!(address.to_string(), "/run/build/locks.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Address(pub(crate) Arc<str>);

impl Address {
    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// An address that no other manager has.
    pub(crate) fn unused() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::from(format!("{ANONYMOUS}{}-{count}", process::id()).as_str())
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

    /// The scheme, and the place that the transport of that scheme reaches.
    pub(crate) fn parts(&self) -> (&str, &str) {
        match self.0.split_once(':') {
            Some((scheme, place)) if is_scheme(scheme) => (scheme, place),
            Some(_) | None => ("unix", &self.0),
        }
    }

    /// Whether it is a manager's that was given none.
    pub(crate) fn is_anonymous(&self) -> bool {
        let name = self.path().file_name().unwrap_or_default();
        name.as_bytes().starts_with(ANONYMOUS.as_bytes())
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if matches!(text, "" | "." | "..") {
            return Self(text.into());
        }
        if !text.contains('/') {
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

/// Whether the text before a colon names a transport: two lowercase letters or more.
fn is_scheme(text: &str) -> bool {
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
}
