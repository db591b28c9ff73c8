//! `Address`: the path of a manager's socket, or the place of another transport.
//!
//! Invariant: an address is parsed once, by `from_str`, which turns a name into a path. The resulting text
//! does not depend on the environment, so it means the same in all processes of a user.

use std::{
    collections::BTreeSet,
    env, fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    path::{Path, PathBuf},
    process,
    str::FromStr,
    sync::Arc,
};

use lockkeeper_protocol::{Printable, Shard};
use lockkeeper_sys::Inherited;
use serde::{Deserialize, Serialize};

#[cfg(feature = "net")]
use crate::network_place::NetworkPlace;
use crate::{
    address_error::{AddressError, AddressErrorKind, MOST_PATH_BYTES},
    files::own_uid,
};

/// The address of a manager: the path of its socket, or `scheme:place`.
///
/// | text | address |
/// | --- | --- |
/// | `jobs` | a name in this user's own folder: `/tmp/lockkeeper-<uid>/jobs.sock`, in every environment |
/// | `/run/build/jobs.sock`, `./jobs.sock` | a path: any text with a slash |
/// | `unix:PATH` | a path, also without a slash |
/// | `unix:PATH#uid:1000` | a path where a client accepts the manager of that user too |
/// | `memory:NAME` | a name within this process |
/// | `tls://HOST:PORT`, `tls://[::1]:PORT` | an endpoint of a manager on any machine, with the feature `net` |
/// | `tls://HOST:PORT#sha256:FINGERPRINT` | an endpoint whose public key has that fingerprint |
/// | `scheme:PLACE` | the place of a transport that the program has added with [`Program::transport`](crate::builders::Program::transport); a scheme is two lowercase letters or more |
///
/// A client accepts a manager of its own user and of root. To use a manager of another user, which must [allow
/// the client](crate::builders::ManagerBuilder::allow_uid), the address names that user. Otherwise any user who
/// may write to the folder could pretend to be the manager. Tokens contain the user too.
///
/// A path has at most 100 bytes. A name does not end with `.sock`, and `~` is not expanded. A network address without encryption, such as `127.0.0.1:7000`, `tcp://..` or
/// `http://..`, is refused. The fingerprint is the SHA-256 of the public key (its `SubjectPublicKeyInfo`) in 64 hexadecimal digits.
/// A client that knows it is safe even from others that have the key of the manager.
///
/// ```
/// use lockkeeper::Address;
///
/// # fn main() -> Result<(), lockkeeper::errors::AddressError> {
/// let address: Address = "/run/build/locks.sock".parse()?;
/// assert_eq!(address.to_string(), "/run/build/locks.sock");
/// assert_eq!("unix:/run/build/locks.sock".parse(), Ok(address));
/// assert!("127.0.0.1:7000".parse::<Address>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Arc<str>);

/// The variable that [`Address::from_env`] reads.
pub(crate) const VARIABLE: &str = "LOCKKEEPER_ADDRESS";

impl Address {
    /// Reads the address in the environment variable `LOCKKEEPER_ADDRESS`, for programs that take no
    /// address as an argument: the program that starts the manager, and the programs that connect to
    /// it.
    ///
    /// A manager that is built without an address does not read the variable, because two managers of
    /// one program would then get the same address.
    ///
    /// # Errors
    ///
    /// Returns an error that names the variable when it is not set, or when its text is not an
    /// address.
    pub fn from_env() -> Result<Self, AddressError> {
        let in_variable = |error| AddressError {
            variable: Some(VARIABLE.to_owned()),
            ..error
        };
        let Some(text) = env::var_os(VARIABLE) else {
            let unset = AddressError::new(VARIABLE, AddressErrorKind::Unset);
            return Err(in_variable(unset));
        };
        match text.to_str() {
            Some(text) => text.parse().map_err(in_variable),
            None => Err(in_variable(AddressError::new(
                &text.to_string_lossy(),
                AddressErrorKind::NotText,
            ))),
        }
    }

    /// Returns the path of the socket, or `None` when the address belongs to another transport.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self.parts() {
            (UNIX, path) => Some(Path::new(path)),
            _ => None,
        }
    }

    /// Returns an address that no other manager has.
    pub(crate) fn unused() -> Self {
        Self::of_name(&unused_name())
    }

    /// Returns a memory address that is unique across processes: if it is used in another process,
    /// it must not lead to a manager there.
    pub(crate) fn unused_in_memory() -> Self {
        Self(format!("{MEMORY}:{}", unused_name()).into())
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address of a shard of the manager at this address. The first shard has the
    /// manager's own address.
    pub(crate) fn of(&self, shard: Shard) -> Self {
        match shard.index() {
            0 => self.clone(),
            index => self.with_place(|place| Some(format!("{place}.{index}"))),
        }
    }

    /// Returns the address of the manager, if this is the address of the given shard.
    pub(crate) fn of_manager(&self, shard: Shard) -> Option<Self> {
        match shard.index() {
            0 => Some(self.clone()),
            index => {
                let end = format!(".{index}");
                self.parts()
                    .1
                    .ends_with(&end)
                    .then(|| self.with_place(|place| place.strip_suffix(&end).map(str::to_owned)))
            }
        }
    }

    /// Returns the scheme, and the place that the transport of that scheme reaches. The place has neither the
    /// user of a path nor the fingerprint of an endpoint.
    pub(crate) fn parts(&self) -> (&str, &str) {
        match self.0.split_once(':') {
            Some((UNIX, pinned)) => (UNIX, split_owner(pinned).0),
            Some((TLS, pinned)) => (TLS, split_fingerprint(pinned).0),
            Some((scheme, place)) if is_scheme(scheme) => (scheme, place),
            Some(_) | None => (UNIX, &self.0),
        }
    }

    /// Returns the user whose manager a client accepts at this address, in addition to its own user
    /// and root.
    pub(crate) fn owner(&self) -> Option<u32> {
        let pinned = self.0.strip_prefix(UNIX)?.strip_prefix(':')?;
        split_owner(pinned).1
    }

    /// Returns the parts of a network address.
    #[cfg(feature = "net")]
    pub(crate) fn network(&self) -> Option<NetworkPlace> {
        let place = self.0.strip_prefix(TLS)?.strip_prefix(':')?;
        NetworkPlace::parse(place).ok()
    }

    /// Returns the address of a network place.
    #[cfg(feature = "net")]
    pub(crate) fn of_network(place: &NetworkPlace) -> Self {
        Self(format!("{TLS}:{place}").into())
    }

    /// Returns whether the socket is in this user's own folder, as the socket of a name is.
    pub(crate) fn is_name(&self) -> bool {
        self.path()
            .is_some_and(|path| path.parent() == Some(&*user_folder()))
    }

    /// Returns whether the address was generated for a manager that was given none.
    pub(crate) fn is_unnamed(&self) -> bool {
        let name = self.path().and_then(Path::file_name);
        self.is_name() && name.is_some_and(|name| name.to_string_lossy().starts_with(ANONYMOUS))
    }

    /// Refuses a path that would be too long with the suffix of a shard.
    pub(crate) fn check_length(&self) -> Result<(), AddressError> {
        match self.path().map_or(0, |path| path.as_os_str().len()) {
            bytes if bytes > MOST_PATH_BYTES => Err(AddressError::too_long(&self.0, bytes)),
            _ => Ok(()),
        }
    }

    /// Returns the environment variable, if it contains the same address. Errors name it as the
    /// likely source.
    pub(crate) fn variable(&self) -> Option<&'static str> {
        (Self::from_env().as_ref() == Ok(self)).then_some(VARIABLE)
    }

    fn of_name(name: &str) -> Self {
        let path = user_folder().join(format!("{name}.sock"));
        Self(path.to_string_lossy().into())
    }

    fn of_path(text: &str, path: &str, owner: Option<u32>) -> Result<Self, AddressError> {
        let refuse = |reason| AddressError::new(text, reason);
        let is_folder = path.ends_with('/') || Path::new(path).file_name().is_none();
        if is_folder || path.ends_with("/.") {
            return Err(refuse(AddressErrorKind::IsADirectory));
        }
        let path = std::path::absolute(path)
            .map_err(|error| refuse(AddressErrorKind::NoFolder(error.to_string())))?;
        let path = path
            .to_str()
            .ok_or_else(|| refuse(AddressErrorKind::NotText))?;
        if path.contains(char::is_control) {
            return Err(refuse(AddressErrorKind::ControlCharacter));
        }
        // An address that a token carries may be that of a shard.
        if path.len() > MOST_PATH_BYTES + MOST_SHARD_BYTES {
            return Err(AddressError::too_long(text, path.len()));
        }
        Ok(Self(match owner {
            Some(uid) => format!("{UNIX}:{path}{OWNER}{uid}").into(),
            None => path.into(),
        }))
    }

    fn with_place(&self, change: impl FnOnce(&str) -> Option<String>) -> Self {
        let (scheme, place) = self.parts();
        let Some(changed) = change(place) else {
            return self.clone();
        };
        Self(match (scheme, self.owner()) {
            (UNIX, Some(uid)) => format!("{UNIX}:{changed}{OWNER}{uid}").into(),
            (UNIX, None) => changed.into(),
            (TLS, _) => format!("{TLS}:{changed}{}", split_fingerprint(&self.0).1).into(),
            (scheme, _) => format!("{scheme}:{changed}").into(),
        })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = |reason| Err(AddressError::new(text, reason));
        if text.is_empty() {
            return refuse(AddressErrorKind::Empty);
        }
        if text.contains(char::is_control) {
            return refuse(AddressErrorKind::ControlCharacter);
        }
        match text.split_once(':') {
            Some((UNIX, "")) => return refuse(AddressErrorKind::Empty),
            Some((UNIX, pinned)) => {
                let (path, owner) = split_owner(pinned);
                if path.starts_with('~') {
                    return refuse(AddressErrorKind::Tilde);
                }
                if owner.is_none() && has_owner(pinned) {
                    return refuse(AddressErrorKind::NotAUser);
                }
                return Self::of_path(text, path, owner);
            }
            Some((TLS, place)) => return network(place).or_else(refuse),
            Some(("tcp" | "http" | "https" | "ws" | "wss", place)) if place.starts_with("//") => {
                return refuse(AddressErrorKind::Unprotected);
            }
            Some((scheme, place)) if is_scheme(scheme) => {
                let is_network = is_port(place) || place.starts_with("//");
                if !is_network || is_known(scheme) {
                    return Ok(Self(text.into()));
                }
                return refuse(AddressErrorKind::MissingScheme);
            }
            Some(_) | None => {}
        }
        if text.starts_with('~') {
            return refuse(AddressErrorKind::Tilde);
        }
        if !text.contains('/') && has_owner(text) {
            return refuse(AddressErrorKind::UserOfAName);
        }
        if is_network(text) {
            return refuse(AddressErrorKind::MissingScheme);
        }
        if text.contains('/') {
            return Self::of_path(text, text, None);
        }
        if matches!(text, "." | "..") {
            return refuse(AddressErrorKind::IsADirectory);
        }
        if text.ends_with(".sock") {
            return refuse(AddressErrorKind::NameOrPath);
        }
        let address = Self::of_name(text);
        if address.0.len() > MOST_PATH_BYTES {
            return Err(AddressError::too_long(text, address.0.len()));
        }
        Ok(address)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

/// A `Path` is always taken as a path, even without a slash or with a colon.
impl TryFrom<&Path> for Address {
    type Error = AddressError;

    fn try_from(path: &Path) -> Result<Self, AddressError> {
        match path.to_str() {
            Some("") => Err(AddressError::new("", AddressErrorKind::Empty)),
            Some(text) => Self::of_path(text, text, None),
            None => Err(AddressError::new(
                &path.to_string_lossy(),
                AddressErrorKind::NotText,
            )),
        }
    }
}

impl TryFrom<PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: PathBuf) -> Result<Self, AddressError> {
        path.as_path().try_into()
    }
}

impl TryFrom<&PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: &PathBuf) -> Result<Self, AddressError> {
        path.as_path().try_into()
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.as_ref().to_owned()
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

/// The scheme of endpoints that other machines reach.
pub(crate) const TLS: &str = "tls";

/// The separator between a path and the id of the user whose manager is accepted there.
const OWNER: &str = "#uid:";

/// The prefix of the socket names of managers that were given no address.
pub(super) const ANONYMOUS: &str = "manager-";

/// The length of the longest suffix of a shard.
const MOST_SHARD_BYTES: usize = ".63".len();

/// The schemes that this program has added.
static ADDED: Inherited<BTreeSet<String>> = Inherited::new(BTreeSet::new());

/// Registers a scheme, so that its addresses are not refused as network addresses.
pub(crate) fn add_scheme(scheme: &str) {
    ADDED.with(|added| added.insert(scheme.to_owned()));
}

fn is_known(scheme: &str) -> bool {
    scheme == MEMORY || ADDED.with(|added| added.contains(scheme))
}

/// Returns this user's folder for sockets. It does not depend on environment variables.
pub(super) fn user_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/lockkeeper-{}", own_uid()))
}

/// Returns a unique name. It contains a random number, because process ids repeat between
/// containers.
fn unused_name() -> String {
    // A generator in user space would give a forked child the same numbers as its parent; the kernel's does
    // not.
    let random = getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(process::id()));
    format!("{ANONYMOUS}{}-{random:016x}", process::id())
}

/// Returns whether the text before a colon may name a transport: two lowercase letters or more.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Splits a path from the id of the user whose manager is accepted there.
fn split_owner(pinned: &str) -> (&str, Option<u32>) {
    let split = pinned.rsplit_once(OWNER);
    let owned = split.and_then(|(path, uid)| Some((path, uid.parse().ok()?)));
    owned.map_or((pinned, None), |(path, uid)| (path, Some(uid)))
}

/// Splits an endpoint from the fingerprint of its public key, which keeps its `#`.
fn split_fingerprint(pinned: &str) -> (&str, &str) {
    pinned.split_at(pinned.find('#').unwrap_or(pinned.len()))
}

/// Parses what follows the scheme of a network address.
#[cfg(feature = "net")]
fn network(place: &str) -> Result<Address, AddressErrorKind> {
    Ok(Address::of_network(&NetworkPlace::parse(place)?))
}

/// Refuses a network address.
#[cfg(not(feature = "net"))]
const fn network(_place: &str) -> Result<Address, AddressErrorKind> {
    Err(AddressErrorKind::FeatureDisabled)
}

/// Returns whether a text ends with what should be a user.
fn has_owner(text: &str) -> bool {
    let split = text.rsplit_once(OWNER);
    split.is_some_and(|(_, user)| !user.contains('/'))
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a text begins with a host, or a host and a port.
fn is_network(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    let host = first
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(first);
    let has_port = first
        .rsplit_once(':')
        .is_some_and(|(_, port)| is_port(port));
    has_port || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::MAX_SHARDS;

    use super::*;

    fn parsed(text: &str) -> Address {
        text.parse().expect("the text is an address")
    }

    fn reason(text: &str) -> AddressErrorKind {
        text.parse::<Address>().expect_err(text).kind
    }

    #[test]
    fn address_of_a_shard_leads_to_that_of_its_manager() {
        for manager in ["/tmp/socket", "unix:/tmp/socket#uid:7", "memory:jobs"] {
            let manager = parsed(manager);
            for shard in Shard::all(MAX_SHARDS) {
                let address = manager.of(shard);
                assert_eq!(address.of_manager(shard), Some(manager.clone()));
                assert_eq!(address.owner(), manager.owner());
                assert_eq!(parsed(address.as_str()), address);
            }
            let [zero, one] = [0, 1].map(|index| Shard::new(index, 2).unwrap());
            assert_eq!(manager.of(zero), manager);
            assert_eq!(manager.of_manager(one), None);
        }
    }

    #[test]
    fn text_with_a_scheme_is_the_place_of_its_transport() {
        for (text, parts) in [
            ("unix:/tmp/socket", ("unix", "/tmp/socket")),
            ("unix:/tmp/socket#uid:12", ("unix", "/tmp/socket")),
            ("unix:/tmp/a#uid:x/b", ("unix", "/tmp/a#uid:x/b")),
            ("/tmp/tcp:1", ("unix", "/tmp/tcp:1")),
            ("memory:jobs", ("memory", "jobs")),
            ("memory:7", ("memory", "7")),
            ("tcp:127.0.0.1:80", ("tcp", "127.0.0.1:80")),
        ] {
            let address = parsed(text);
            assert_eq!(address.parts(), parts);
            assert_eq!(address.path().is_some(), parts.0 == "unix", "{text}");
            assert_eq!(parsed(&address.to_string()), address);
        }
        assert_eq!(parsed("unix:/tmp/socket#uid:12").owner(), Some(12));
        assert_eq!(parsed("unix:socket"), parsed("./socket"));
        for path in ["socket", "tcp:80", "127.0.0.1:80"] {
            let address = Address::try_from(Path::new(path)).expect(path);
            assert!(
                address
                    .path()
                    .expect("the address is a path")
                    .ends_with(path)
            );
        }
    }

    #[test]
    fn name_is_a_socket_in_the_users_folder() {
        for name in [
            "jobs",
            "A:x",
            "c:jobs",
            "ta1k:jobs",
            "two words:jobs",
            "7",
            "a#uid",
        ] {
            let path = format!("/tmp/lockkeeper-{}/{name}.sock", own_uid());
            assert_eq!(parsed(name).to_string(), path);
            assert!(parsed(name).is_name());
        }
    }

    #[test]
    fn network_addresses_are_refused_with_advice() {
        for text in [
            "127.0.0.1:7000",
            "localhost:7000",
            "[::1]:7000",
            "::1",
            "[fe80::1]",
            "10.0.0.1",
            "db-1.example.com:7000",
            ":7000",
            "Host:80/locks",
        ] {
            assert_eq!(reason(text), AddressErrorKind::MissingScheme, "{text}");
        }
        let message = "localhost:7000".parse::<Address>().expect_err("refused");
        let message = message.to_string();
        assert!(message.contains("\"localhost:7000\""), "{message}");
        assert!(message.contains("tls://host:port"), "{message}");
        for text in [
            "tcp://127.0.0.1:7000",
            "tcp://host",
            "tcp://",
            "http://localhost:80/",
            "https://host",
        ] {
            assert_eq!(reason(text), AddressErrorKind::Unprotected, "{text}");
        }
        for text in [
            "~",
            "~/locks.sock",
            "~ada/locks.sock",
            "unix:~/locks.sock",
            "~jobs",
        ] {
            assert_eq!(reason(text), AddressErrorKind::Tilde, "{text}");
        }
        for text in ["locks.sock", ".sock", "a.b.sock"] {
            assert_eq!(reason(text), AddressErrorKind::NameOrPath, "{text}");
        }
        assert!(
            parsed("unix:locks.sock")
                .path()
                .is_some_and(Path::is_absolute)
        );
        // A program's own transport may have places that look like network addresses.
        add_scheme("ports");
        assert_eq!(parsed("ports:7000").parts(), ("ports", "7000"));
    }

    #[test]
    #[cfg(not(feature = "net"))]
    fn endpoint_needs_the_feature() {
        for text in ["tls://host:7000", "tls://[::1]:7000", "tls:"] {
            assert_eq!(reason(text), AddressErrorKind::FeatureDisabled, "{text}");
            let message = text.parse::<Address>().expect_err(text).to_string();
            assert!(message.contains("feature `net`"), "{message}");
        }
    }

    #[test]
    #[cfg(feature = "net")]
    fn address_of_a_shard_of_an_endpoint_has_its_fingerprint() {
        let fingerprint = format!("#sha256:{}", "5a".repeat(32));
        for pin in ["", &fingerprint] {
            let manager = parsed(&format!("tls://host.example:7000{pin}"));
            assert_eq!(manager.parts(), ("tls", "//host.example:7000"));
            for shard in Shard::all(MAX_SHARDS) {
                let address = manager.of(shard);
                assert_eq!(address.of_manager(shard), Some(manager.clone()));
                assert_eq!(parsed(address.as_str()), address);
                assert_eq!(address.network().expect("its place").shard, shard.index());
                assert_eq!(split_fingerprint(address.as_str()).1, pin);
            }
        }
        assert_eq!(reason("tls:host:7000"), AddressErrorKind::NotAHost);
        assert_eq!(reason("tls://host"), AddressErrorKind::NotAPort);
    }

    #[test]
    fn text_that_is_not_an_address_is_refused_with_the_reason() {
        for (text, why) in [
            ("", AddressErrorKind::Empty),
            ("unix:", AddressErrorKind::Empty),
            ("unix:/tmp/socket#uid:bob", AddressErrorKind::NotAUser),
            ("unix:/tmp/socket#uid:", AddressErrorKind::NotAUser),
            ("unix:/tmp/socket#uid:-1", AddressErrorKind::NotAUser),
            ("jobs#uid:1", AddressErrorKind::UserOfAName),
            ("jobs#uid:bob", AddressErrorKind::UserOfAName),
            (".", AddressErrorKind::IsADirectory),
            ("..", AddressErrorKind::IsADirectory),
            ("/", AddressErrorKind::IsADirectory),
            ("folder/", AddressErrorKind::IsADirectory),
            ("folder/.", AddressErrorKind::IsADirectory),
            ("folder/..", AddressErrorKind::IsADirectory),
            ("a\nb", AddressErrorKind::ControlCharacter),
            ("/tmp/\u{1b}[31m", AddressErrorKind::ControlCharacter),
            ("nul\0", AddressErrorKind::ControlCharacter),
        ] {
            assert_eq!(reason(text), why, "{text:?}");
        }
        let long = format!("/tmp/{}", "x".repeat(100));
        let (bytes, most) = (105, MOST_PATH_BYTES);
        assert_eq!(reason(&long), AddressErrorKind::TooLong { bytes, most });
        let named = reason(&"x".repeat(100));
        assert!(
            matches!(named, AddressErrorKind::TooLong { .. }),
            "{named:?}"
        );
        let raw = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/tmp/\xff.sock");
        let raw = Address::try_from(Path::new(raw)).expect_err("the path is not UTF-8");
        assert_eq!(raw.kind, AddressErrorKind::NotText);
    }

    #[test]
    fn generated_names_differ_where_process_ids_are_the_same() {
        let names: BTreeSet<_> = (0..100).map(|_| Address::unused().to_string()).collect();
        assert_eq!(names.len(), 100);
        assert!(Address::unused().is_name());
    }
}
