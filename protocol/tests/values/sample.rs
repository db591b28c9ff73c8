//! Random values of derived types, and the check of each.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lockkeeper_protocol::codec::{Blob, Form, decode};
use rand::{Rng, rngs::StdRng};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A type with random values.
pub(crate) trait Sample: Serialize + DeserializeOwned + PartialEq + Debug {
    fn sample(rng: &mut StdRng) -> Self;
}

/// The outcome of encoding and decoding a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    /// The decoded value is different, and there is no error.
    Other,
    RefusedBySender,
    RefusedByReceiver,
}

/// Encodes and decodes a value in the named form.
pub(crate) fn ours<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Outcome {
    let Ok(bytes) = Form::Named.encode(value) else {
        return Outcome::RefusedBySender;
    };
    match decode::<T>(&bytes) {
        Ok(read) if read == *value => Outcome::Equal,
        Ok(_) => Outcome::Other,
        Err(_) => Outcome::RefusedByReceiver,
    }
}

/// Encodes and decodes a value as JSON.
pub(crate) fn json<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Outcome {
    let Ok(text) = serde_json::to_string(value) else {
        return Outcome::RefusedBySender;
    };
    match serde_json::from_str::<T>(&text) {
        Ok(read) if read == *value => Outcome::Equal,
        Ok(_) => Outcome::Other,
        Err(_) => Outcome::RefusedByReceiver,
    }
}

/// Whether serde itself preserves all values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Every value arrives equal.
    All,
    /// Serde buffers the content of internally tagged and untagged enums and of flattened structs, and
    /// cannot preserve all of it. A value must arrive equal, or be an error, if JSON preserves it.
    AllButBuffered,
}

/// Checks a value.
pub(crate) fn check<T: Sample>(keeps: Keeps, value: &T) {
    let (ours, json) = (ours(value), json(value));
    let name = std::any::type_name::<T>();
    let what = || format!("{value:?} of {name}: {ours:?}, as JSON {json:?}");
    match keeps {
        Keeps::All => assert_eq!(ours, Outcome::Equal, "{}", what()),
        Keeps::AllButBuffered => {
            assert!(
                ours == Outcome::Equal || json != Outcome::Equal,
                "{}",
                what()
            );
            assert!(
                ours != Outcome::Other || json == Outcome::Other,
                "{}",
                what()
            );
        }
    }
}

/// Checks values of a type, alone and in containers.
pub(crate) fn check_all<T: Sample + Clone>(keeps: Keeps, rng: &mut StdRng) {
    for _ in 0..4 {
        check(keeps, &T::sample(rng));
        check(keeps, &Option::<Option<T>>::sample(rng));
        check(keeps, &Vec::<T>::sample(rng));
        check(keeps, &BTreeMap::<i8, T>::sample(rng));
    }
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        impl Sample for $type {
            fn sample(rng: &mut StdRng) -> Self {
                match rng.random_range(0..4) {
                    0 => Self::MIN,
                    1 => Self::MAX,
                    2 => rng.random_range(0..100),
                    _ => rng.random::<Self>() >> rng.random_range(0..Self::BITS),
                }
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// A number that is compared by its bits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Single(pub(crate) f32);

impl PartialEq for Single {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Sample for Single {
    fn sample(rng: &mut StdRng) -> Self {
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, 0.1];
        match rng.random_range(0..3) {
            0 => Self(f32::from_bits(rng.random())),
            1 => Self(-f32::from_bits(0x7fc0_0001)),
            _ => Self(special[rng.random_range(0..special.len())]),
        }
    }
}

/// A number that is compared by its bits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Double(pub(crate) f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Sample for Double {
    fn sample(rng: &mut StdRng) -> Self {
        let special = [0.0, -0.0, f64::NAN, f64::NEG_INFINITY, f64::EPSILON, 0.1];
        match rng.random_range(0..3) {
            0 => Self(f64::from_bits(rng.random())),
            1 => Self(f64::from_bits(0x7ff0_0000_0000_0001)),
            _ => Self(special[rng.random_range(0..special.len())]),
        }
    }
}

impl Sample for () {
    fn sample(_: &mut StdRng) -> Self {}
}

impl Sample for bool {
    fn sample(rng: &mut StdRng) -> Self {
        rng.random()
    }
}

impl Sample for char {
    fn sample(rng: &mut StdRng) -> Self {
        rng.random()
    }
}

impl Sample for String {
    fn sample(rng: &mut StdRng) -> Self {
        let length = [0, 1, 31, 32, 255, 256][rng.random_range(0..6)];
        (0..length)
            .map(|_| rng.random_range('a'..='\u{ff}'))
            .collect()
    }
}

impl Sample for Blob {
    fn sample(rng: &mut StdRng) -> Self {
        let length = [0, 1, 255, 256][rng.random_range(0..4)];
        (0..length)
            .map(|_| rng.random())
            .collect::<Vec<u8>>()
            .into()
    }
}

impl Sample for IpAddr {
    fn sample(rng: &mut StdRng) -> Self {
        match rng.random() {
            true => Self::V4(Ipv4Addr::from_bits(rng.random())),
            false => Self::V6(Ipv6Addr::from_bits(rng.random())),
        }
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(rng: &mut StdRng) -> Self {
        rng.random::<bool>().then(|| T::sample(rng))
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(rng: &mut StdRng) -> Self {
        Self::new(T::sample(rng))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(rng: &mut StdRng) -> Self {
        let length = [0, 1, 2, 15, 16][rng.random_range(0..5)];
        (0..length).map(|_| T::sample(rng)).collect()
    }
}

impl<T: Sample> Sample for [T; 3] {
    fn sample(rng: &mut StdRng) -> Self {
        [T::sample(rng), T::sample(rng), T::sample(rng)]
    }
}

impl<K: Sample + Ord, T: Sample> Sample for BTreeMap<K, T> {
    fn sample(rng: &mut StdRng) -> Self {
        let length = [0, 1, 2, 17][rng.random_range(0..4)];
        (0..length)
            .map(|_| (K::sample(rng), T::sample(rng)))
            .collect()
    }
}

impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(rng: &mut StdRng) -> Self {
        (A::sample(rng), B::sample(rng))
    }
}

impl<A: Sample, B: Sample> Sample for Result<A, B> {
    fn sample(rng: &mut StdRng) -> Self {
        match rng.random() {
            true => Ok(A::sample(rng)),
            false => Err(B::sample(rng)),
        }
    }
}
