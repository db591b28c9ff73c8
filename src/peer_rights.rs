//! `PeerRights`: what a client that has authenticated itself may do, and its own limits.
//!
//! Keys have them (`keys`), streams report them (`transport`), and sessions obey them (`server`). Invariant: no
//! error quotes a word of a key file, because a word may be a part of a key.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a client that has authenticated itself may do, and its own limits. A stream reports it by
/// [`Stream::peer_rights`](crate::transport::Stream::peer_rights).
///
/// The lines of a manager's key file say the same in words: see
/// [`ManagerBuilder::key_file`](crate::builders::ManagerBuilder#method.key_file), with the feature `net`.
///
/// ```
/// use lockkeeper::builders::PeerRights;
///
/// let rights = PeerRights::new("ci").without_administration().with_prefix("ci/").max_sessions(20);
/// assert_eq!(rights.name(), "ci");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRights {
    name: String,
    may_administer: bool,
    prefix: String,
    sessions: usize,
    calls: usize,
}

impl PeerRights {
    /// Creates all rights, without limits. The name is that by which the client has authenticated itself, such as
    /// the name of its key. Errors and events call it a key.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            may_administer: true,
            prefix: String::new(),
            sessions: usize::MAX,
            calls: usize::MAX,
        }
    }

    /// Takes the right to remove and inspect objects, and to call operations that are
    /// [administrative](crate::kind::Operation::IS_ADMINISTRATIVE).
    #[must_use]
    pub fn without_administration(self) -> Self {
        Self {
            may_administer: false,
            ..self
        }
    }

    /// Confines the client to objects whose names begin with `prefix`, and to objects without a name that clients
    /// with such a prefix have made. The names are compared as bytes, so let a prefix end with a separator, as
    /// `ci/` does.
    #[must_use]
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }

    /// Limits the sessions of all clients of this name at a time. A manager of several shards counts them for each
    /// shard; a client has one with each shard that it uses.
    #[must_use]
    pub fn max_sessions(self, most: usize) -> Self {
        Self {
            sessions: most,
            ..self
        }
    }

    /// Limits the calls of one session that wait for an answer at a time, as
    /// [`Limits::calls_in_flight`](crate::Limits::calls_in_flight) does for all sessions. The lower limit counts.
    #[must_use]
    pub fn max_calls(self, most: usize) -> Self {
        Self {
            calls: most,
            ..self
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn may_administer(&self) -> bool {
        self.may_administer
    }

    /// The prefix of the names that the client may use. It is empty if the client may use all.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns whether the client may use an object. `home` is its name or, for an object without a name, the prefix
    /// of the client that made it, if that had one.
    pub(crate) fn cover(&self, home: Option<&str>) -> bool {
        self.prefix.is_empty() || home.is_some_and(|home| home.starts_with(&self.prefix))
    }

    pub(crate) const fn most_sessions(&self) -> usize {
        self.sessions
    }

    pub(crate) const fn most_calls(&self) -> usize {
        self.calls
    }
}

/// Only what differs from all rights.
impl fmt::Debug for PeerRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PeerRights");
        shown.field("name", &self.name);
        if !self.may_administer {
            shown.field("may_administer", &self.may_administer);
        }
        if !self.prefix.is_empty() {
            shown.field("prefix", &self.prefix);
        }
        for (limit, most) in [("sessions", self.sessions), ("calls", self.calls)] {
            if most != usize::MAX {
                shown.field(limit, &most);
            }
        }
        shown.finish()
    }
}

/// The most bytes of a prefix, as of a name by default.
#[cfg(feature = "net")]
const MOST_PREFIX_BYTES: usize = 255;

/// The options of a line in a key file.
#[cfg(feature = "net")]
const OPTIONS: [&str; 4] = ["no-admin", "prefix", "sessions", "calls"];

#[cfg(feature = "net")]
impl PeerRights {
    /// Reads the options of the line of a key, which are the words after it.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the line.
    pub(crate) fn parse<'a>(
        name: &str,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let mut rights = Self::new(name);
        let mut given = Vec::new();
        for word in words {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            let option = OPTIONS.into_iter().find(|known| *known == option);
            let option = option.ok_or(
                "has a word after the key that is no option: the options are no-admin, prefix=TEXT, \
                 sessions=NUMBER and calls=NUMBER, and a prefix has no spaces",
            )?;
            if given.contains(&option) {
                return Err(format!("has the option {option} twice"));
            }
            given.push(option);
            rights = match (option, value) {
                ("no-admin", None) => rights.without_administration(),
                ("prefix", Some(prefix)) => rights.with_prefix(checked(prefix)?),
                ("sessions", Some(most)) => rights.max_sessions(limit(option, most)?),
                ("calls", Some(most)) => rights.max_calls(limit(option, most)?),
                ("no-admin", Some(_)) => return Err("gives no-admin a value".to_owned()),
                _ => return Err(format!("gives {option} no value: write {option}=..")),
            };
        }
        Ok(rights)
    }
}

/// Checks the prefix of a line.
#[cfg(feature = "net")]
fn checked(prefix: &str) -> Result<&str, String> {
    let why = match prefix.chars().next() {
        None => "has an empty prefix: leave it out if the key is for all names",
        Some('#') => "has a prefix that begins with #, as no name does",
        Some('"' | '\'') => "has a prefix in quotes: write it without, and a prefix has no spaces",
        Some(_) if prefix.len() > MOST_PREFIX_BYTES => {
            return Err(format!(
                "has a prefix of {} bytes, and a prefix has at most {MOST_PREFIX_BYTES}",
                prefix.len()
            ));
        }
        Some(_) => return Ok(prefix),
    };
    Err(why.to_owned())
}

/// Reads a limit of a line.
#[cfg(feature = "net")]
fn limit(option: &str, number: &str) -> Result<usize, String> {
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(0) => Err(format!(
            "has the limit {option}=0: remove the line to refuse the key"
        )),
        Ok(most) if is_number => Ok(most),
        Ok(_) | Err(_) => Err(format!(
            "gives {option} a value that is no number from 1 to {}",
            usize::MAX
        )),
    }
}

#[cfg(feature = "net")]
#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> Result<PeerRights, String> {
        PeerRights::parse("k", options.split_whitespace())
    }

    #[test]
    fn options_take_rights_in_any_order_and_none_is_all_rights() {
        let all = PeerRights::new("k");
        assert_eq!(parsed(""), Ok(all.clone()));
        assert!(all.may_administer() && all.prefix().is_empty());
        assert_eq!(
            (all.most_sessions(), all.most_calls()),
            (usize::MAX, usize::MAX)
        );
        let some = all.without_administration().with_prefix("ci/=\u{e9}");
        let some = some.max_sessions(1).max_calls(20);
        for options in [
            "no-admin prefix=ci/=\u{e9} sessions=1 calls=20",
            "calls=20\tsessions=01  prefix=ci/=\u{e9} no-admin",
        ] {
            assert_eq!(parsed(options), Ok(some.clone()));
        }
        assert_eq!((some.most_sessions(), some.most_calls()), (1, 20));
        assert!(!some.may_administer());
        assert_eq!(some.prefix(), "ci/=\u{e9}");
        let shown = format!("{some:?} {:?}", PeerRights::new("k"));
        let known = "PeerRights { name: \"k\", may_administer: false, prefix: \"ci/=\u{e9}\", sessions: 1, calls: 20 } \
                     PeerRights { name: \"k\" }";
        assert_eq!(shown, known);
    }

    #[test]
    fn bad_option_is_told_and_not_quoted() {
        let long = "x".repeat(256);
        let huge = format!("sessions={}0", usize::MAX);
        for (options, why) in [
            ("secret", "a word after the key that is no option"),
            ("secret=1", "a word after the key that is no option"),
            ("No-Admin", "a word after the key that is no option"),
            ("# secret", "a word after the key that is no option"),
            ("prefix=a secret", "a prefix has no spaces"),
            ("prefix =secret", "gives prefix no value"),
            ("prefix=\"secret/\"", "a prefix in quotes"),
            ("prefix='secret/'", "a prefix in quotes"),
            ("prefix=", "an empty prefix"),
            ("prefix=#secret", "a prefix that begins with #"),
            (&format!("prefix={long}"), "a prefix of 256 bytes"),
            ("no-admin no-admin", "the option no-admin twice"),
            (
                "prefix=a/ sessions=1 prefix=secret/",
                "the option prefix twice",
            ),
            ("sessions=1 sessions=1", "the option sessions twice"),
            ("calls=1 calls=2", "the option calls twice"),
            ("no-admin=secret", "gives no-admin a value"),
            ("sessions", "gives sessions no value"),
            ("sessions=0", "the limit sessions=0"),
            ("calls=00", "the limit calls=0"),
            ("calls=", "calls a value that is no number"),
            ("calls=secret", "calls a value that is no number"),
            ("calls=-1", "calls a value that is no number"),
            ("calls=+1", "calls a value that is no number"),
            ("calls=1.5", "calls a value that is no number"),
            (&huge, "sessions a value that is no number"),
        ] {
            let error = parsed(options).unwrap_err();
            assert!(error.contains(why), "{options}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
