//! Fields of named structs in every order: missing, unknown, repeated and under other names.

use std::collections::BTreeMap;

use lockkeeper_protocol::codec::{Form, decode};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

/// A map with the entries in the given order.
struct Entries<'a>(&'a [&'static str]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (number, name) in self.0.iter().enumerate() {
            map.serialize_entry(name, &number)?;
        }
        map.end()
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Lenient {
    first: i8,
    #[serde(alias = "other", alias = "third")]
    second: u8,
    #[serde(skip)]
    skipped: u8,
    #[serde(rename = "3")]
    third: Option<u64>,
    /// The name is too long for a short text, which has at most 31 bytes.
    a_field_with_a_name_of_more_than_31_bytes: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    first: u8,
    other: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Variants {
    Lenient { first: u8, other: Option<u8> },
}

const NAMES: [&str; 7] = [
    "first",
    "second",
    "other",
    "third",
    "3",
    "a_field_with_a_name_of_more_than_31_bytes",
    "fir",
];

/// Calls `look` with every sequence of up to `most` names.
fn each(most: usize, names: &mut Vec<&'static str>, look: &mut impl FnMut(&[&'static str])) {
    look(names);
    if names.len() == most {
        return;
    }
    for name in NAMES {
        names.push(name);
        each(most, names, look);
        names.pop();
    }
}

fn read<T: for<'de> Deserialize<'de>>(entries: &impl Serialize) -> Option<T> {
    let encoded = Form::Named.encode(entries).unwrap();
    decode(&encoded).ok()
}

#[test]
fn fields_are_found_by_their_names_in_any_order() {
    let mut count = 0;
    each(5, &mut Vec::new(), &mut |names| {
        let entries = Entries(names);
        let json = serde_json::to_string(&entries).unwrap();
        let lenient = serde_json::from_str::<Lenient>(&json).ok();
        assert_eq!(read::<Lenient>(&entries), lenient, "{names:?}");
        let strict = serde_json::from_str::<Strict>(&json).ok();
        assert_eq!(read::<Strict>(&entries), strict, "{names:?}");
        let variant = format!("{{\"Lenient\":{json}}}");
        let variant = serde_json::from_str::<Variants>(&variant).ok();
        let entries = BTreeMap::from([("Lenient", entries)]);
        assert_eq!(read::<Variants>(&entries), variant, "{names:?}");
        count += usize::from(lenient.is_some());
    });
    assert!(count > 1000, "{count}");
}
