//! Key files: the shared keys by which clients and managers authenticate each other over a network.
//!
//! A file has a key in each line, as a name and hexadecimal digits, and after them what a client with the key may
//! do (`PeerRights`). A line may have the fingerprint of a client's certificate in place of a key. A client proves that it has the first one; a manager accepts all of them, so that one can be
//! replaced while both serve. A child process gets the keys of its parent by the lifeline (`HandedKeys`).
//!
//! Invariant: no key is printed, and no error quotes a line of a file.

use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use lockkeeper_protocol::{
    Printable,
    handshake::{Key, LEAST_KEY_BYTES, MOST_KEY_NAME_BYTES},
};
use lockkeeper_sys::Inherited;
use serde::{Deserialize, Serialize};

use crate::{
    files,
    given_file::{self, Stamp},
    network_place::Fingerprint,
    peer_rights::PeerRights,
};

/// The variable with the path of the key file of clients that choose none.
pub(crate) const KEY_FILE_VARIABLE: &str = "LOCKKEEPER_KEY_FILE";

/// The most bytes of a key.
const MOST_KEY_BYTES: usize = 1024;

/// The error for a key file that cannot be used or made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyFileError {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub why: String,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.to_string_lossy();
        write!(
            f,
            "cannot use the key file {}: {}",
            Printable(&file),
            self.why
        )
    }
}

impl fmt::Debug for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for KeyFileError {}

/// Makes a key file with one new random key, which only the user of this process can read.
///
/// Copy the file to each machine whose programs are to reach the manager, over a channel that no other person can read.
/// To replace a key, make another file and add its line to the file of the manager, which reads the file again
/// when it has changed. Then give the clients the new file, and remove the old line from the file of the manager.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("locks.key");
/// lockkeeper::net::make_key_file(&path)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns an error when the file exists or cannot be written.
pub fn make_key_file(path: impl AsRef<Path>) -> Result<(), KeyFileError> {
    let path = path.as_ref();
    let failed = |why: String| KeyFileError {
        file: path.to_owned(),
        why,
    };
    let mut random = [0; LEAST_KEY_BYTES + 4];
    getrandom::fill(&mut random).map_err(|error| failed(format!("no random numbers: {error}")))?;
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|it| format!("{it:02x}")).collect() };
    let (name, secret) = random.split_at(4);
    let text = format!(
        "# A key of lockkeeper. Keep it as secret as a password.\nkey-{} {}\n",
        hex(name),
        hex(secret)
    );
    let file = files::create(path, 0o600).map_err(|error| {
        failed(match error.kind() {
            io::ErrorKind::AlreadyExists => "it exists already: use it, or another path".to_owned(),
            _ => error.to_string(),
        })
    })?;
    let written = files::write_all(&file, text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // A part of a key is no key.
        let _ = fs::remove_file(path);
        failed(error.to_string())
    })
}

/// The keys of a file, of which there is at least one. The names differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Keys {
    first: Line,
    others: Vec<Line>,
    /// What clients may do whose certificate has a line of its own. The name is the fingerprint.
    certificates: Vec<PeerRights>,
}

/// A key, and what a client that has it may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    key: Key,
    rights: PeerRights,
}

impl Keys {
    /// Reads a key file.
    fn read(path: &Path) -> Result<(Self, Stamp), KeyFileError> {
        let failed = |why: String| KeyFileError {
            file: path.to_owned(),
            why,
        };
        let (text, stamp) = given_file::read(path, true).map_err(failed)?;
        let keys = Self::parse(&text).map_err(failed)?;
        Ok((keys, stamp))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::<Line>::new();
        let mut certificates = Vec::<PeerRights>::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| format!("line {number} {why}");
            if line.starts_with(Fingerprint::SHA256) {
                let rights = parse_certificate(line).map_err(wrong)?;
                if certificates.iter().any(|it| it.name() == rights.name()) {
                    return Err(format!(
                        "line {number} has the fingerprint of an earlier line"
                    ));
                }
                certificates.push(rights);
                continue;
            }
            let line = parse_line(line).map_err(wrong)?;
            if keys.iter().any(|other| other.key.name() == line.key.name()) {
                return Err(format!("line {number} has the name of an earlier key"));
            }
            keys.push(line);
        }
        let mut keys = keys.into_iter();
        let first = keys.next();
        let first = first.ok_or("it has no key: make one with lockkeeper::net::make_key_file")?;
        Ok(Self {
            first,
            others: keys.collect(),
            certificates,
        })
    }

    fn find(&self, name: &str) -> Option<&Line> {
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.find(|line| line.key.name() == name)
    }
}

/// Parses a line of a key file. The error does not quote it.
fn parse_line(line: &str) -> Result<Line, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let digits = words.next().ok_or("is not a name and hexadecimal digits")?;
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(is_known) || name.len() > MOST_KEY_NAME_BYTES {
        return Err(format!(
            "has a name that is not one of letters, digits, '-', '_' and '.' of at most {MOST_KEY_NAME_BYTES}"
        ));
    }
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(16 * digit(high)? + digit(low)?).ok();
    let secret: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let secret = secret.filter(|_| rest.is_empty());
    let secret = secret.ok_or("has a key that is not pairs of hexadecimal digits")?;
    let bytes = secret.len();
    let key = Key::new(name, secret).filter(|_| bytes <= MOST_KEY_BYTES);
    let key = key.ok_or_else(|| {
        format!("has a key of {bytes} bytes, and a key has {LEAST_KEY_BYTES} to {MOST_KEY_BYTES}")
    })?;
    let rights = PeerRights::parse(name, words)?;
    Ok(Line { key, rights })
}

/// Parses a line about clients with a certificate. The error does not quote it.
fn parse_certificate(line: &str) -> Result<PeerRights, String> {
    let mut words = line.split_whitespace();
    let fingerprint = Fingerprint::parse(words.next().unwrap_or_default());
    let fingerprint = fingerprint
        .map_err(|_| "has a fingerprint that is not sha256: and 64 hexadecimal digits")?;
    PeerRights::parse(&fingerprint.to_string(), words)
}

/// The keys that a manager accepts: those of a file, which is read again when it has changed.
#[derive(Debug)]
pub(crate) struct KeyRing {
    file: PathBuf,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    keys: Keys,
    stamp: Option<Stamp>,
    /// Why the file could not be read again.
    failure: Option<KeyFileError>,
}

impl KeyRing {
    /// Reads the keys of a file.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be used.
    pub(crate) fn open(file: &Path) -> Result<Self, KeyFileError> {
        let (keys, stamp) = Keys::read(file)?;
        Ok(Self {
            file: file.to_owned(),
            latest: Mutex::new(Latest {
                keys,
                stamp: Some(stamp),
                failure: None,
            }),
        })
    }

    /// Returns the file and its keys, for another process.
    pub(crate) fn handed(&self) -> HandedFile {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        HandedFile {
            file: self.file.clone(),
            keys: latest.keys.clone(),
        }
    }

    /// Reads the file again if it has changed. A file that cannot be used leaves the keys as they are; the error
    /// is returned once.
    pub(crate) fn refresh(&self) -> Option<KeyFileError> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let there = Stamp::of_file(&self.file);
        if there.is_some() && there == latest.stamp {
            return None;
        }
        match Keys::read(&self.file) {
            Ok((keys, stamp)) => {
                *latest = Latest {
                    keys,
                    stamp: Some(stamp),
                    failure: None,
                };
                None
            }
            Err(error) => {
                let is_known = latest.failure.replace(error.clone()).as_ref() == Some(&error);
                (!is_known).then_some(error)
            }
        }
    }

    /// Returns the key of that name, and what a client may do that has it and has shown a certificate with that
    /// fingerprint. The line of a certificate counts before the one of the key.
    pub(crate) fn find(
        &self,
        name: &str,
        certificate: Option<Fingerprint>,
    ) -> Option<(Key, PeerRights)> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let Line { key, rights } = latest.keys.find(name)?.clone();
        let certificate = certificate.map(|it| it.to_string());
        let mut listed = latest.keys.certificates.iter();
        let own = certificate.and_then(|name| listed.find(|it| it.name() == name));
        Some((key, own.cloned().unwrap_or(rights)))
    }
}

/// The keys of a file, as a parent process hands them to a child by the lifeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandedFile {
    file: PathBuf,
    keys: Keys,
}

impl From<HandedFile> for KeyRing {
    /// Starts with the keys that were read, and reads the file when it has changed.
    fn from(handed: HandedFile) -> Self {
        Self {
            file: handed.file,
            latest: Mutex::new(Latest {
                keys: handed.keys,
                // The file may have changed since the parent has read it, so the first refresh reads it.
                stamp: None,
                failure: None,
            }),
        }
    }
}

/// The keys of a client, as a parent process hands them to a child by the lifeline.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HandedKeys {
    chosen: Vec<(String, HandedFile)>,
    default: Option<HandedFile>,
}

/// Where a client finds its key.
#[derive(Clone, Debug)]
enum Source {
    /// A file, which is read for each connection.
    File(PathBuf),
    /// What the parent process has handed over.
    Handed(HandedFile),
}

/// The sources of this process, by endpoint; the one for all others has an empty name. A forked child inherits them.
static SOURCES: Inherited<BTreeMap<String, Source>> = Inherited::new(BTreeMap::new());

/// Chooses the key file for an endpoint.
pub(crate) fn choose(endpoint: String, file: PathBuf) {
    SOURCES.with(|sources| sources.insert(endpoint, Source::File(file)));
}

/// The source for endpoints without one of their own.
fn default_source() -> Option<Source> {
    let handed = SOURCES.with(|sources| sources.get("").cloned());
    handed.or_else(|| {
        let file = env::var_os(KEY_FILE_VARIABLE)?;
        Some(Source::File(file.into()))
    })
}

/// Returns the key for an endpoint.
///
/// # Errors
///
/// Returns an error when there is none, which says where it was looked for, or its file cannot be used.
pub(crate) fn key_for(endpoint: &str) -> Result<Key, String> {
    let source = SOURCES.with(|sources| sources.get(endpoint).cloned());
    let source = source.or_else(default_source).ok_or_else(|| {
        format!(
            "there is no key for it: no key_file was given to Manager::client(), and {KEY_FILE_VARIABLE} is not \
             set; copy the manager's key file, and give its path"
        )
    })?;
    match source {
        Source::File(file) => match Keys::read(&file) {
            Ok((keys, _)) => Ok(keys.first.key),
            Err(error) => Err(error.to_string()),
        },
        // The key may have been replaced since this process was started, or the file may not be readable here.
        Source::Handed(handed) => Ok(match Keys::read(&handed.file) {
            Ok((keys, _)) => keys.first.key,
            Err(_) => handed.keys.first.key,
        }),
    }
}

/// Returns the keys of this process for a child. A file that cannot be used is left out: the child looks for it
/// itself, and gets the error.
pub(crate) fn hand_over() -> HandedKeys {
    let handed = |source| match source {
        Source::Handed(handed) => Some(handed),
        Source::File(file) => {
            let (keys, _) = Keys::read(&file).ok()?;
            Some(HandedFile { file, keys })
        }
    };
    let sources = SOURCES.with(|sources| sources.clone());
    let chosen = sources
        .into_iter()
        .filter(|(endpoint, _)| !endpoint.is_empty());
    HandedKeys {
        chosen: chosen
            .filter_map(|(endpoint, source)| Some((endpoint, handed(source)?)))
            .collect(),
        default: default_source().and_then(handed),
    }
}

/// Takes the keys of the parent process.
pub(crate) fn take_over(handed: HandedKeys) {
    let default = handed.default.map(|handed| (String::new(), handed));
    let all = handed.chosen.into_iter().chain(default);
    let all = all.map(|(endpoint, handed)| (endpoint, Source::Handed(handed)));
    SOURCES.with(|sources| sources.extend(all));
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn made_file_is_for_its_user_alone_and_has_another_key_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for name in ["a", "b", "c"] {
            let path = folder.path().join(name);
            make_key_file(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
            Keys::read(&path).unwrap();
            keys.push(fs::read_to_string(&path).unwrap());
            let again = make_key_file(&path).unwrap_err().to_string();
            assert!(again.contains("it exists already"), "{again}");
            assert_eq!(&fs::read_to_string(&path).unwrap(), keys.last().unwrap());
        }
        keys.dedup();
        assert_eq!(keys.len(), 3);
        let missing = make_key_file(folder.path().join("none/key")).unwrap_err();
        assert!(
            missing.to_string().contains("there is no folder"),
            "{missing}"
        );
    }

    #[test]
    fn line_of_a_certificate_has_rights_and_is_no_key() {
        let pin = "5A".repeat(32);
        let text = format!("sha256:{pin} no-admin\nk1 {DIGITS} prefix=ci/\n");
        let keys = Keys::parse(&text).unwrap();
        assert_eq!(keys.first.key.name(), "k1");
        let [rights] = &*keys.certificates else {
            panic!("{:?}", keys.certificates);
        };
        assert_eq!(rights.name(), format!("sha256:{}", "5a".repeat(32)));
        assert!(!rights.may_administer() && rights.prefix().is_empty());
        for (bad, why) in [
            (format!("sha256:{pin}"), "it has no key"),
            (
                format!("sha256:{pin}5 no-admin"),
                "line 1 has a fingerprint that is not",
            ),
            (
                format!("sha256:{pin} admin"),
                "line 1 has a word after the key",
            ),
            (
                format!("sha256:{pin}\nsha256:{}", pin.to_lowercase()),
                "line 2 has the fingerprint of an earlier line",
            ),
        ] {
            let error = Keys::parse(&bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_line_that_the_document_shows_is_a_key() {
        let document = include_str!("../PROTOCOL.md");
        let line = format!("k1 {DIGITS}");
        assert!(document.contains(&format!("\n    {line}\n")));
        let keys = Keys::parse(&line).unwrap();
        assert_eq!(keys.first.key.name(), "k1");
    }

    #[test]
    fn file_has_named_keys_of_which_a_client_uses_the_first() {
        let other = DIGITS.to_uppercase();
        let text = format!("# keys\n\n  old {DIGITS}  \nnew-1.x_\t{DIGITS}{other}\n");
        let keys = Keys::parse(&text).unwrap();
        assert_eq!(keys.first.key.name(), "old");
        for name in ["old", "new-1.x_"] {
            let line = keys.find(name).unwrap();
            assert_eq!(line.key.name(), name);
            assert_eq!(line.rights, PeerRights::new(name));
        }
        assert!(keys.find("older").is_none());
    }

    #[test]
    fn words_after_a_key_take_rights_from_that_key_alone() {
        let text = format!("all {DIGITS}\nci {DIGITS}\t no-admin  prefix=ci/\r\n");
        let keys = Keys::parse(&text).unwrap();
        let confined = PeerRights::new("ci")
            .without_administration()
            .with_prefix("ci/");
        for (name, rights) in [("all", PeerRights::new("all")), ("ci", confined)] {
            assert_eq!(keys.find(name).unwrap().rights, rights);
        }
        let child: Keys = serde_json::from_str(&serde_json::to_string(&keys).unwrap()).unwrap();
        assert_eq!(
            child.find("ci").unwrap().rights,
            keys.find("ci").unwrap().rights
        );
    }

    #[test]
    fn bad_line_is_named_and_not_quoted() {
        let long = "ab".repeat(MOST_KEY_BYTES + 1);
        for (line, why) in [
            (DIGITS.to_owned(), "line 2 is not a name"),
            (format!("na/me {DIGITS}"), "line 2 has a name"),
            (format!("{} {DIGITS}", "n".repeat(65)), "line 2 has a name"),
            (
                format!("name {}", &DIGITS[2..]),
                "line 2 has a key of 31 bytes",
            ),
            (format!("name {long}"), "line 2 has a key of 1025 bytes"),
            (format!("name {DIGITS}0"), "line 2 has a key that is not"),
            (format!("name {DIGITS}0g"), "line 2 has a key that is not"),
            (
                format!("name {DIGITS} {DIGITS}"),
                "line 2 has a word after the key that is no option",
            ),
            (
                format!("name {DIGITS} calls=0"),
                "line 2 has the limit calls=0",
            ),
            (
                format!("name no-admin {DIGITS}"),
                "line 2 has a key that is not",
            ),
            (format!("one {DIGITS}"), "line 2 has the name of an earlier"),
            (
                format!("one {DIGITS} no-admin"),
                "line 2 has the name of an earlier",
            ),
        ] {
            let error = Keys::parse(&format!("one {DIGITS}\n{line}")).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("0405"), "{error}");
        }
        for empty in ["", "\n", "# nothing\n"] {
            let error = Keys::parse(empty).unwrap_err();
            assert!(error.contains("make_key_file"), "{error}");
        }
    }

    #[test]
    fn file_that_others_can_read_or_that_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for mode in [0o640, 0o604, 0o660, 0o602, 0o777] {
            write(&path, &format!("k {DIGITS}\n"));
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Keys::read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Keys::read(&path).unwrap();
        }
        for (path, why) in [
            (folder.path().to_owned(), "a folder"),
            (folder.path().join("none"), "No such file"),
            (PathBuf::from("/dev/null"), "a device"),
        ] {
            let error = Keys::read(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        write(&path, &"#".repeat((1 << 16) + 1));
        let error = Keys::read(&path).unwrap_err().to_string();
        assert!(error.contains("more than 65536 bytes"), "{error}");
    }

    #[test]
    fn ring_reads_a_changed_file_and_keeps_its_keys_when_it_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, &format!("a {DIGITS}\n"));
        let opened = KeyRing::open(&path).unwrap();
        let handed = opened.handed();
        write(&path, &format!("c {DIGITS}\n"));
        let later = KeyRing::from(handed.clone());
        assert!(later.refresh().is_none());
        assert!(
            later.find("a", None).is_none() && later.find("c", None).is_some(),
            "the file has changed before the ring was made"
        );
        write(&path, &format!("a {DIGITS}\n"));
        for ring in [KeyRing::from(handed), opened] {
            assert!(ring.refresh().is_none());
            assert!(ring.find("a", None).is_some() && ring.find("b", None).is_none());
            write(&path, &format!("a {DIGITS}\nb {DIGITS}\n"));
            assert!(ring.refresh().is_none());
            assert!(ring.find("a", None).is_some() && ring.find("b", None).is_some());
            fs::remove_file(&path).unwrap();
            let error = ring.refresh().expect("it is told").to_string();
            assert!(error.contains("No such file"), "{error}");
            assert!(ring.refresh().is_none(), "it is told once");
            assert!(ring.find("a", None).is_some());
            write(&path, &format!("b {DIGITS}\n"));
            assert!(ring.refresh().is_none());
            assert!(ring.find("a", None).is_none() && ring.find("b", None).is_some());
            write(&path, &format!("a {DIGITS}\n"));
        }
    }

    #[test]
    fn child_gets_the_keys_of_its_parent_and_none_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, &format!("a {DIGITS}\n"));
        let endpoint = "//keys-of-a-child:1".to_owned();
        let missing = key_for("//keys-of-nobody:1").unwrap_err();
        assert!(missing.contains(KEY_FILE_VARIABLE), "{missing}");
        choose(endpoint.clone(), path.clone());
        assert_eq!(key_for(&endpoint).unwrap().name(), "a");
        let handed = hand_over();
        let shown = format!("{handed:?} {:?}", KeyRing::open(&path).unwrap());
        assert!(
            shown.contains("\"a\"") && !shown.contains("4, 5, 6"),
            "{shown}"
        );
        fs::remove_file(&path).unwrap();
        let error = key_for(&endpoint).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        take_over(handed);
        assert_eq!(key_for(&endpoint).unwrap().name(), "a");
        write(&path, &format!("b {DIGITS}\n"));
        assert_eq!(key_for(&endpoint).unwrap().name(), "b");
    }
}
