//! The assignment of names, object numbers and session ids to the shards of a manager.
//!
//! Invariant: the assignment is a pure function, equal in every process, so a client and a manager
//! always agree on the shard. PROTOCOL.md documents it.

use crate::ids::ObjectName;

/// One of a number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

/// A shard of one incarnation of a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOf {
    /// The number that no other start of a manager has.
    pub incarnation: u64,
    /// The shard.
    pub shard: Shard,
}

/// The most shards of a manager.
pub const MAX_SHARDS: u32 = 64;

impl Shard {
    /// The shard of a manager with only one, which is the usual case.
    pub const ALONE: Self = Self { index: 0, of: 1 };

    /// Returns the shard `index` of `of`, counted from 0, if the numbers are valid.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (index < of && of <= MAX_SHARDS).then_some(Self { index, of })
    }

    /// Returns the index of the shard, counted from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Returns the number of shards.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Iterates over all shards of a manager with `of` shards.
    pub fn all(of: u32) -> impl Iterator<Item = Self> {
        (0..of).map(move |index| Self { index, of })
    }

    /// Returns the first shard of the same manager.
    pub const fn first(self) -> Self {
        Self {
            index: 0,
            of: self.of,
        }
    }

    /// Returns the index of the shard whose turn follows after `turns` turns.
    pub fn in_turn(self, turns: u64) -> u32 {
        u32::try_from(turns % u64::from(self.of)).unwrap_or_default()
    }

    /// Returns the `count`-th number of this shard. No other shard has it.
    pub fn number(self, count: u64) -> u64 {
        count
            .saturating_mul(self.of.into())
            .saturating_add(self.index.into())
    }

    /// Returns the index of the shard to which a name belongs, whether or not the object exists. An anonymous
    /// object belongs to the shard that numbered it, and its name contains the number.
    pub fn owner(self, name: &str) -> u32 {
        let number = number_of(name).unwrap_or_else(|| hash(name));
        self.in_turn(number)
    }
}

impl ShardOf {
    /// Iterates over the session ids of this shard. No other shard uses them.
    pub fn session_ids(self) -> impl Iterator<Item = u64> {
        let Self { incarnation, shard } = self;
        (0..).map(move |count| incarnation.saturating_add(shard.number(count)))
    }

    /// Returns the number of sessions that began at this shard before that one.
    pub fn sessions_before(self, id: u64) -> u64 {
        id.saturating_sub(self.incarnation) / u64::from(self.shard.of)
    }
}

/// Parses the number of an anonymous object from its name.
fn number_of(name: &str) -> Option<u64> {
    let (_, number) = name.strip_prefix(ObjectName::ANONYMOUS)?.split_once('.')?;
    // The parser also accepts a sign.
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.parse().ok())?
}

/// FNV-1a of 64 bits, with both halves combined. Its low bits alone depend only on the low bits of the bytes:
/// all names in which each character occurs twice, such as `row/7/7`, would belong to one of two shards.
fn hash(name: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = name.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shards: u32) -> Shard {
        Shard::new(0, shards).expect("so many can be")
    }

    #[test]
    fn names_have_the_shards_that_the_document_tells() {
        let document = include_str!("../../PROTOCOL.md");
        for (name, owners) in [
            ("a", [0, 1, 0, 0]),
            ("jobs", [1, 1, 3, 3]),
            ("stock", [0, 1, 0, 24]),
            ("row/7/7", [1, 0, 3, 59]),
            ("\u{e9}t\u{e9}", [1, 2, 1, 25]),
            ("#186cc6acd4b00000.7", [1, 1, 3, 7]),
        ] {
            let found = [2, 3, 4, 64].map(|shards| of(shards).owner(name));
            assert_eq!(found, owners, "{name:?}");
            let [two, three, four, most] = owners;
            let row = format!("| `{name}` | {two} | {three} | {four} | {most} |");
            assert!(document.contains(&row), "{row}");
        }
    }

    #[test]
    fn number_in_an_anonymous_name_is_digits_that_fit_64_bits() {
        let three = of(3);
        assert_eq!(
            three.owner("#x.18446744073709551615"),
            three.in_turn(u64::MAX)
        );
        assert_eq!(three.owner("#x.007"), 1);
        assert_eq!(three.owner("#.5"), 2);
        for name in [
            "#x.18446744073709551616",
            "#x.+5",
            "#x.-1",
            "#x.",
            "#x",
            "#a.b.4",
            "x.4",
        ] {
            assert_eq!(number_of(name), None, "{name}");
            assert_eq!(three.owner(name), three.in_turn(hash(name)), "{name}");
        }
    }

    #[test]
    fn hash_has_the_values_that_its_inventors_tell() {
        for (name, fnv) in [
            ("", 0xcbf2_9ce4_8422_2325_u64),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(hash(name), fnv ^ fnv >> 32, "{name:?}");
        }
    }

    #[test]
    fn one_shard_has_all_names() {
        for name in ["jobs", "#186cc6acd4b00000.7", "#", "#x.y", ""] {
            assert_eq!(Shard::ALONE.owner(name), 0);
        }
    }

    #[test]
    fn names_are_spread_also_where_they_are_alike() {
        for shards in [2, 3, 4, 8] {
            for form in [
                |row| format!("row/{row}"),
                |row| format!("row/{row}/{row}"),
                |row| format!("{:04}", 2 * row),
            ] {
                let mut counts = vec![0; 8];
                for row in 0..1000 {
                    counts[of(shards).owner(&form(row)) as usize] += 1;
                }
                let fair = 1000 / i32::try_from(shards).unwrap();
                counts.truncate(shards as usize);
                assert!(
                    counts
                        .iter()
                        .all(|count| (fair / 2..fair * 2).contains(count)),
                    "{counts:?}"
                );
            }
        }
    }

    #[test]
    fn numbers_tell_their_shard_and_are_unique() {
        let mut all: Vec<u64> = Vec::new();
        for shard in Shard::all(3) {
            for count in 1..100 {
                let number = shard.number(count);
                assert_eq!(
                    shard.owner(&ObjectName::anonymous(77, number).text()),
                    shard.index()
                );
                all.push(number);
            }
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(3..300));
        assert_eq!(Shard::ALONE.number(1), 1);
    }

    #[test]
    fn sessions_have_numbers_of_their_own() {
        let mut all = Vec::new();
        for shard in Shard::all(4) {
            let shard_of = ShardOf {
                incarnation: 1000,
                shard,
            };
            for (before, id) in shard_of.session_ids().take(25).enumerate() {
                assert_eq!(shard_of.sessions_before(id), before as u64);
                all.push(id);
            }
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(1000..1100));
    }

    #[test]
    fn there_are_neither_none_nor_too_many() {
        assert_eq!(Shard::new(0, 0), None);
        assert_eq!(Shard::new(2, 2), None);
        assert_eq!(Shard::new(0, MAX_SHARDS + 1), None);
        assert_eq!(Shard::new(0, 1), Some(Shard::ALONE));
    }
}
