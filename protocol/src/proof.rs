//! `Proof`: an argument that names a grant, and the secrets that let one session act for another.
//!
//! A sequence number names a call of the session that sends it. A call of another session is named by a
//! [`SignedCall`], whose MAC only that session and the manager can create. The manager derives the secret of
//! a session from a secret of its own, so it checks calls of sessions that have ended without a table.
//!
//! Invariant: no secret and no MAC is printed.

use std::fmt;

use hmac_sha256::HMAC;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor, value},
};

use crate::ids::{CallId, SessionId};

/// The grant to which an operation applies, as an argument of that operation.
///
/// `Call::verify` checks it and returns the call. A [`CallId`] cannot be an argument, because a client could
/// forge the id of another session.
#[derive(Clone, Copy)]
pub enum Proof {
    /// A call of the session that sends the operation, by its sequence number, which is above 0 and
    /// below 2^63.
    Own(u64),
    /// A call of any session, with a MAC.
    Signed(SignedCall),
}

impl Proof {
    /// Names a call in an operation that is sent over the call's own session.
    #[must_use]
    pub const fn own(call: CallId) -> Self {
        Self::Own(call.seq())
    }
}

/// A call id with a MAC of 128 bits, which cannot be guessed. A session that has it may act for the session
/// that made the call, so keep it as secret as a password.
///
/// The MAC is the first 16 bytes of the HMAC-SHA256, under the secret of the session, of the session id
/// and the sequence number, each as 8 bytes, most significant first.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct SignedCall {
    session: SessionId,
    seq: u64,
    mac: Mac,
}

impl SignedCall {
    /// Returns the call that it names, without checking the MAC.
    #[must_use]
    pub const fn call(&self) -> CallId {
        CallId::new(self.session, self.seq)
    }
}

/// The number of bytes of a secret.
pub const SECRET_BYTES: usize = 32;

const MAC_BYTES: usize = 16;

/// The secret of one incarnation of a manager.
#[derive(Clone, Copy)]
pub struct ManagerSecret([u8; SECRET_BYTES]);

impl ManagerSecret {
    /// Creates a secret from random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Derives the secret of a session.
    #[must_use]
    pub fn of_session(&self, session: SessionId) -> SessionSecret {
        SessionSecret(HMAC::mac(session.number().to_be_bytes(), self.0))
    }

    /// Returns the call of a signed call, if its MAC is valid.
    #[must_use]
    pub fn check(&self, signed: &SignedCall) -> Option<CallId> {
        let call = signed.call();
        let right = self.of_session(call.session()).sign(call);
        right.mac.is(&signed.mac).then_some(call)
    }
}

/// The secret of a session, which the manager sends only to that session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionSecret([u8; SECRET_BYTES]);

impl SessionSecret {
    /// Creates a secret from its bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Compares in a time that does not depend on where two secrets differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        are_equal(&self.0, &other.0)
    }

    /// Returns the bytes, to send them to the session.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// Signs a call of this secret's session.
    #[must_use]
    pub fn sign(&self, call: CallId) -> SignedCall {
        let (session, seq) = (call.session(), call.seq());
        let mut hmac = HMAC::new(self.0);
        hmac.update(session.number().to_be_bytes());
        hmac.update(seq.to_be_bytes());
        let mut mac = [0; MAC_BYTES];
        for (byte, made) in mac.iter_mut().zip(hmac.finalize()) {
            *byte = made;
        }
        SignedCall {
            session,
            seq,
            mac: Mac(mac),
        }
    }
}

#[derive(Clone, Copy)]
struct Mac([u8; MAC_BYTES]);

impl Mac {
    /// Compares in a time that does not depend on where two MACs differ.
    fn is(&self, other: &Self) -> bool {
        are_equal(&self.0, &other.0)
    }
}

/// Compares in a time that does not depend on where the bytes differ.
fn are_equal<const LENGTH: usize>(one: &[u8; LENGTH], other: &[u8; LENGTH]) -> bool {
    let differences = one.iter().zip(other);
    differences.fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Mac;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{MAC_BYTES} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Mac, E> {
                let mac = bytes.try_into().map(Mac);
                mac.map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            /// Formats without byte strings, such as JSON, write a list of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Mac, A::Error> {
                let mut mac = [0; MAC_BYTES];
                for (place, byte) in mac.iter_mut().enumerate() {
                    let next = list.next_element()?;
                    *byte = next.ok_or_else(|| de::Error::invalid_length(place, &self))?;
                }
                Ok(Mac(mac))
            }
        }

        deserializer.deserialize_bytes(Reader)
    }
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own(seq) => serializer.serialize_u64(*seq),
            Self::Signed(signed) => signed.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Proof;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the sequence number of a call, or a session, a number and a MAC")
            }

            fn visit_u64<E>(self, seq: u64) -> Result<Proof, E> {
                Ok(Proof::Own(seq))
            }

            /// Some MessagePack libraries write all integers as signed.
            fn visit_i64<E: de::Error>(self, seq: i64) -> Result<Proof, E> {
                let own = u64::try_from(seq).map(Proof::Own);
                own.map_err(|_| E::invalid_value(de::Unexpected::Signed(seq), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, fields: A) -> Result<Proof, A::Error> {
                SignedCall::deserialize(value::SeqAccessDeserializer::new(fields))
                    .map(Proof::Signed)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, fields: A) -> Result<Proof, A::Error> {
                SignedCall::deserialize(value::MapAccessDeserializer::new(fields))
                    .map(Proof::Signed)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(seq) => f.debug_tuple("Own").field(seq).finish(),
            Self::Signed(signed) => signed.fmt(f),
        }
    }
}

impl fmt::Debug for SignedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("SignedCall");
        all.field("session", &self.session).field("seq", &self.seq);
        all.finish_non_exhaustive()
    }
}

impl fmt::Debug for ManagerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerSecret").finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::codec;

    use super::*;

    const SECRET: ManagerSecret = ManagerSecret::new([7; SECRET_BYTES]);

    fn call(session: u64, seq: u64) -> CallId {
        CallId::new(SessionId::new(session), seq)
    }

    fn signed(call: CallId) -> SignedCall {
        SECRET.of_session(call.session()).sign(call)
    }

    #[test]
    fn a_signed_call_is_that_call_under_its_own_secret_alone() {
        let mine = signed(call(3, 4));
        assert_eq!(SECRET.check(&mine), Some(call(3, 4)));
        let other = ManagerSecret::new([8; SECRET_BYTES]);
        assert_eq!(other.check(&mine), None, "another start of the manager");
        for (session, seq) in [(3, 5), (4, 4), (4, 3), (0, 0)] {
            let (session, mac) = (SessionId::new(session), mine.mac);
            let forged = SignedCall { session, seq, mac };
            assert_eq!(SECRET.check(&forged), None, "{forged:?}");
        }
        let stolen = SECRET.of_session(SessionId::new(9)).sign(call(3, 4));
        assert_eq!(
            SECRET.check(&stolen),
            None,
            "by the secret of another session"
        );
    }

    #[test]
    fn a_mac_of_which_any_bit_is_wrong_is_wrong() {
        for bit in 0..MAC_BYTES * 8 {
            let mut forged = signed(call(3, 4));
            forged.mac.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SECRET.check(&forged), None, "bit {bit}");
        }
    }

    #[test]
    fn the_mac_is_what_other_languages_compute() {
        // hmac.new(hmac.digest(b"\7" * 32, pack(">Q", 3), "sha256"), pack(">QQ", 3, 4), "sha256").digest()[:16]
        let mac = [
            55, 46, 109, 221, 239, 31, 27, 249, 227, 205, 4, 65, 181, 151, 70, 210,
        ];
        assert_eq!(signed(call(3, 4)).mac.0, mac);
    }

    #[test]
    fn a_proof_comes_back_as_it_was_sent_and_nothing_else_is_one() {
        for proof in [
            Proof::Own(0),
            Proof::Own(u64::MAX),
            Proof::Signed(signed(call(3, 4))),
        ] {
            let bytes = codec::encode(&proof).unwrap();
            let back: Proof = codec::decode(&bytes).unwrap();
            match (proof, back) {
                (Proof::Own(seq), Proof::Own(other)) => assert_eq!(seq, other),
                (Proof::Signed(_), Proof::Signed(other)) => {
                    assert_eq!(SECRET.check(&other), Some(call(3, 4)));
                }
                other => panic!("{other:?}"),
            }
        }
        for bytes in [vec![0xd0_u8, 4], vec![0xd3_u8, 0, 0, 0, 0, 0, 0, 0, 4]] {
            let own: Proof = codec::decode(&bytes).unwrap();
            assert!(matches!(own, Proof::Own(4)), "{bytes:?}");
        }
        let short: Vec<u8> = vec![0x93, 3, 4, 0xc4, 3, 1, 2, 3];
        let old: Vec<u8> = vec![0x92, 3, 4];
        for bytes in [
            vec![0xc0],
            vec![0xff],
            vec![0xa1, b'1'],
            vec![0x90],
            old,
            short,
        ] {
            assert!(codec::decode::<Proof>(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let signed = signed(call(3, 4));
        let text = format!(
            "{:?} {:?} {SECRET:?} {:?}",
            Proof::Signed(signed),
            Proof::Own(4),
            SECRET.of_session(SessionId::new(3))
        );
        assert_eq!(
            text,
            "SignedCall { session: SessionId(3), seq: 4, .. } Own(4) ManagerSecret { .. } \
             SessionSecret { .. }"
        );
    }
}
