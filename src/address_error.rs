//! `AddressError`: why a text is not an address.

use std::{convert::Infallible, error::Error, fmt};

use serde::{Deserialize, Serialize};

/// The longest path that fits a socket address together with the suffix of a shard.
pub(crate) const MOST_PATH_BYTES: usize = 100;

/// The error for a text that is not an [`Address`](crate::Address).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AddressError {
    /// The text that is not an address, or the name of the variable that is not set.
    pub text: String,
    /// What is wrong with it.
    pub kind: AddressErrorKind,
    /// The environment variable that the text was read from, if it was.
    pub variable: Option<String>,
}

/// The reason why a text is not an [`Address`](crate::Address).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AddressErrorKind {
    /// It is empty.
    Empty,
    /// It is a network address without `tls://`, such as `127.0.0.1:7000`.
    MissingScheme,
    /// It is a network address without encryption and authentication, such as `tcp://127.0.0.1:7000`.
    Unprotected,
    /// It is a network address, and the program is built without the feature `net` of lockkeeper.
    FeatureDisabled,
    /// It is a network address whose host is neither a name nor an IP address.
    NotAHost,
    /// It is a network address without a port, or with something else in its place.
    NotAPort,
    /// What follows the `#` of a network address is not the fingerprint of a public key.
    NotAFingerprint,
    /// What follows `#uid:` is not the number of a user.
    NotAUser,
    /// It is a name with a user, and a name belongs to the user of this process.
    UserOfAName,
    /// It has a control character, such as a newline.
    ControlCharacter,
    /// It is not UTF-8, or it is relative and the path of the current folder is not UTF-8.
    NotText,
    /// It ends with `.sock` and has no slash, so it is not clear whether it is a name or a path.
    NameOrPath,
    /// It begins with a `~`, which only a shell expands.
    Tilde,
    /// It is the path of a directory.
    IsADirectory,
    /// Its path is too long for a socket.
    TooLong {
        /// How many bytes the path has.
        bytes: usize,
        /// How many bytes it may have at most.
        most: usize,
    },
    /// It is a relative path, and the current folder cannot be determined. The text is the system's
    /// reason.
    NoFolder(String),
    /// The environment variable that should contain the address is not set.
    Unset,
}

impl AddressError {
    pub(crate) fn new(text: &str, kind: AddressErrorKind) -> Self {
        Self {
            text: text.to_owned(),
            kind,
            variable: None,
        }
    }

    /// Makes the error for an address whose path does not fit a socket.
    pub(crate) fn too_long(text: &str, bytes: usize) -> Self {
        let most = MOST_PATH_BYTES;
        Self::new(text, AddressErrorKind::TooLong { bytes, most })
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            text,
            kind,
            variable,
        } = self;
        match (variable, kind) {
            (Some(variable), AddressErrorKind::Unset) => write!(f, "{variable} {kind}"),
            (Some(variable), _) => write!(f, "{text:?} in {variable} is not an address: {kind}"),
            (None, _) => write!(f, "{text:?} is not an address: {kind}"),
        }
    }
}

impl fmt::Display for AddressErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty: give a name, or the path of a socket"),
            Self::MissingScheme => f.write_str(
                "it is a network address without its scheme: write tls://host:port, or give a name, or the path of \
                 a socket with a slash in it",
            ),
            Self::Unprotected => f.write_str(
                "its scheme has neither encryption nor authentication: write tls://host:port",
            ),
            Self::FeatureDisabled => f.write_str(
                "it is a network address, and this program is built without the feature `net` of lockkeeper: turn \
                 the feature on, or give a name, or the path of a socket with a slash in it",
            ),
            Self::NotAHost => f.write_str(
                "its host is neither a name nor an IP address: write tls://host:port, tls://192.0.2.1:port or \
                 tls://[2001:db8::1]:port",
            ),
            Self::NotAPort => f.write_str(
                "what follows the host is not a port: write tls://host:port, with a port of at most 65535",
            ),
            Self::NotAFingerprint => f.write_str(
                "what follows # is not the fingerprint of a public key: write #sha256: and 64 hexadecimal digits, or \
                 leave it out",
            ),
            Self::NotAUser => f.write_str(
                "what follows #uid: is not the number of a user: give the number that `id -u` prints",
            ),
            Self::UserOfAName => f.write_str(
                "a name belongs to the user of this process, so it has no #uid: give the path of the socket, \
                 as in unix:/srv/locks.sock#uid:1000",
            ),
            Self::ControlCharacter => f.write_str("it has a control character: leave it out"),
            Self::NotText => f.write_str(
                "it is not UTF-8, or relative to a folder whose path is not: use a path that is",
            ),
            Self::NameOrPath => f.write_str(
                "it has no slash, so it is a name, and ends as a path does: write ./ before it if it is a path, or leave \
                 .sock out if it is a name",
            ),
            Self::Tilde => f.write_str(
                "~ is expanded by a shell only: write the whole path, which begins with a slash",
            ),
            Self::IsADirectory => f.write_str("it names a folder: give the path of a socket in it"),
            Self::TooLong { bytes, most } => write!(
                f,
                "its path has {bytes} bytes, and that of a socket has at most {most}: \
                 use a shorter name or folder"
            ),
            Self::NoFolder(why) => write!(
                f,
                "it is relative to a folder that cannot be determined ({why}): use an absolute path"
            ),
            Self::Unset => f.write_str("is not set: set it to a name, or to the path of a socket"),
        }
    }
}

impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for AddressError {}

impl fmt::Debug for AddressErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
