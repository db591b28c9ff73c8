//! `NetworkPlace`: what follows the scheme of a network address, `//host:port`, in parts.
//!
//! All shards of a manager have one endpoint. The address of a shard names it behind the port: `//host:7000.1`.
//! Invariant: the text of a place is canonical, so equal places have equal texts.

use std::{fmt, net::Ipv6Addr};

use crate::address_error::AddressErrorKind;

/// The parts of a network address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkPlace {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(crate) host: String,
    /// The port. A manager that listens at port 0 gets a free one from the system.
    pub(crate) port: u16,
    /// The shard of the manager.
    pub(crate) shard: u32,
    /// The fingerprint that the public key of the manager must have.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// The SHA-256 of a public key, as its `SubjectPublicKeyInfo` in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

/// The most bytes of a host name.
const MOST_HOST_BYTES: usize = 253;

impl NetworkPlace {
    /// Parses a place.
    ///
    /// # Errors
    ///
    /// Returns which part is wrong.
    pub(crate) fn parse(place: &str) -> Result<Self, AddressErrorKind> {
        let text = place.strip_prefix("//");
        let text = text.ok_or(AddressErrorKind::NotAHost)?;
        let (text, fingerprint) = match text.split_once('#') {
            Some((text, pin)) => (text, Some(Fingerprint::parse(pin)?)),
            None => (text, None),
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed
                    .split_once(']')
                    .ok_or(AddressErrorKind::NotAHost)?;
                let host: Ipv6Addr = host.parse().map_err(|_| AddressErrorKind::NotAHost)?;
                (host.to_string(), rest.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
                None => (text.to_ascii_lowercase(), None),
            },
        };
        let is_name = !text.starts_with('[');
        if is_name && !is_host(&host) {
            return Err(AddressErrorKind::NotAHost);
        }
        let port = port.ok_or(AddressErrorKind::NotAPort)?;
        let (port, shard) = match port.split_once('.') {
            Some((port, shard)) => (port, number(shard)?),
            None => (port, 0),
        };
        Ok(Self {
            host,
            port: number(port)?,
            shard: shard.into(),
            fingerprint,
        })
    }

    /// Returns the endpoint that all shards have, without a fingerprint.
    pub(crate) fn endpoint(&self) -> String {
        let endpoint = Self {
            shard: 0,
            fingerprint: None,
            ..self.clone()
        };
        endpoint.to_string()
    }
}

/// Reads a number of decimal digits, without a sign.
fn number(digits: &str) -> Result<u16, AddressErrorKind> {
    let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse().ok());
    number.ok_or(AddressErrorKind::NotAPort)
}

/// Returns whether a text is a host name or an IPv4 address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(is_known)
    };
    text.len() <= MOST_HOST_BYTES && text.split('.').all(is_label)
}

impl Fingerprint {
    /// The text before the digits.
    pub(crate) const SHA256: &str = "sha256:";

    /// Parses what follows the `#` of an address.
    ///
    /// # Errors
    ///
    /// Returns an error for any other text than that of [`Self::SHA256`] and 64 hexadecimal digits.
    pub(crate) fn parse(pin: &str) -> Result<Self, AddressErrorKind> {
        let bytes = pin.strip_prefix(Self::SHA256).and_then(|digits| {
            let mut bytes = [0; 32];
            let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
            if pairs.len() != bytes.len() || !rest.is_empty() {
                return None;
            }
            for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
                *byte = 16 * digit(*high)? + digit(*low)?;
            }
            Some(bytes)
        });
        bytes.map(Self).ok_or(AddressErrorKind::NotAFingerprint)
    }
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

impl fmt::Display for NetworkPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "//[{host}]:{port}")?,
            false => write!(f, "//{host}:{port}")?,
        }
        if self.shard > 0 {
            write!(f, ".{}", self.shard)?;
        }
        match &self.fingerprint {
            Some(fingerprint) => write!(f, "#{fingerprint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::SHA256)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_has_one_text_and_its_parts() {
        let pin = "5a".repeat(32);
        for (text, canonical, host, port, shard) in [
            ("//host:7000", "//host:7000", "host", 7000, 0),
            (
                "//Host.Example:07000",
                "//host.example:7000",
                "host.example",
                7000,
                0,
            ),
            ("//10.0.0.1:0", "//10.0.0.1:0", "10.0.0.1", 0, 0),
            (
                "//10.0.0.1:65535.63",
                "//10.0.0.1:65535.63",
                "10.0.0.1",
                65_535,
                63,
            ),
            ("//[::1]:7", "//[::1]:7", "::1", 7, 0),
            (
                "//[2001:DB8:0::1]:7.2",
                "//[2001:db8::1]:7.2",
                "2001:db8::1",
                7,
                2,
            ),
        ] {
            for (given, fingerprint) in [
                (String::new(), None),
                (format!("#sha256:{pin}"), Some(Fingerprint([0x5a; 32]))),
                (
                    format!("#sha256:{}", pin.to_uppercase()),
                    Some(Fingerprint([0x5a; 32])),
                ),
            ] {
                let place = NetworkPlace::parse(&format!("{text}{given}")).expect(text);
                let expected = NetworkPlace {
                    host: host.to_owned(),
                    port,
                    shard,
                    fingerprint,
                };
                assert_eq!(place, expected);
                assert_eq!(
                    place.to_string(),
                    format!("{canonical}{}", given.to_lowercase())
                );
                assert_eq!(NetworkPlace::parse(&place.to_string()), Ok(place));
            }
        }
    }

    #[test]
    fn wrong_part_is_named() {
        use AddressErrorKind::{NotAFingerprint, NotAHost, NotAPort};

        for (text, why) in [
            ("", NotAHost),
            ("host:7000", NotAHost),
            ("/host:7000", NotAHost),
            ("//:7000", NotAHost),
            ("//a b:7000", NotAHost),
            ("//user@host:7000", NotAHost),
            ("//a..b:7000", NotAHost),
            ("///path:7000", NotAHost),
            ("//[::1:7000", NotAHost),
            ("//[host]:7000", NotAHost),
            ("//[fe80::1%eth0]:7000", NotAHost),
            ("//::1:7000", NotAHost),
            ("//host", NotAPort),
            ("//host:", NotAPort),
            ("//host:port", NotAPort),
            ("//host:65536", NotAPort),
            ("//host:-1", NotAPort),
            ("//host:+1", NotAPort),
            ("//host:7000/", NotAPort),
            ("//host:7000.", NotAPort),
            ("//host:7000.x", NotAPort),
            ("//[::1]7000", NotAPort),
            ("//[::1]", NotAPort),
            ("//2001:db8::1", NotAPort),
            ("//host:7000#", NotAFingerprint),
            ("//host:7000#sha256:", NotAFingerprint),
            ("//host:7000#sha256:5a", NotAFingerprint),
            ("//host:7000#sha1:5a5a", NotAFingerprint),
            ("//host:7000#5a", NotAFingerprint),
        ] {
            assert_eq!(NetworkPlace::parse(text), Err(why), "{text:?}");
        }
        let pin = "5a".repeat(32);
        for wrong in [
            format!("{pin}5"),
            format!("{}g", &pin[1..]),
            format!("{pin}{pin}"),
        ] {
            let text = format!("//host:7000#sha256:{wrong}");
            assert_eq!(NetworkPlace::parse(&text), Err(NotAFingerprint), "{text}");
        }
    }
}
