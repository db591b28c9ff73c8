//! A separate MessagePack codec, so that a frame can be wrong at any place.
//!
//! Invariant: this file does not use the library's codec, because an error in it would then be on
//! both sides.

/// A MessagePack value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pack {
    Nil,
    Truth(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// Bytes that are copied into the message, valid or not.
    Raw(Vec<u8>),
}

/// The maximum depth of decoding.
const MOST_DEPTH: usize = 64;

impl Pack {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn list(elements: impl Into<Vec<Self>>) -> Self {
        Self::List(elements.into())
    }

    /// Makes a variant with a value: a map of one entry.
    pub(crate) fn variant(name: &str, value: Self) -> Self {
        Self::Map(vec![(Self::text(name), value)])
    }

    /// Returns a byte string with the encoded value, as arguments and specs are sent.
    pub(crate) fn wrapped(&self) -> Self {
        Self::Bytes(self.encoded())
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Nil => to.push(0xc0),
            Self::Truth(truth) => to.push(0xc2 + u8::from(*truth)),
            Self::Number(number) => write_number(*number, to),
            Self::Text(text) => {
                match text.len() {
                    short @ 0..32 => to.push(0xa0 | low(short)),
                    length => write_length(length, [0xd9, 0xda, 0xdb], to),
                }
                to.extend_from_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                write_length(bytes.len(), [0xc4, 0xc5, 0xc6], to);
                to.extend_from_slice(bytes);
            }
            Self::List(elements) => {
                match elements.len() {
                    short @ 0..16 => to.push(0x90 | low(short)),
                    // Lists have no length of 8 bits.
                    length => {
                        to.push(0xdd);
                        to.extend_from_slice(&wide(length)[4..]);
                    }
                }
                elements.iter().for_each(|element| element.write(to));
            }
            Self::Map(entries) => {
                to.push(0x80 | low(entries.len().min(15)));
                for (key, value) in entries {
                    key.write(to);
                    value.write(to);
                }
            }
            Self::Raw(bytes) => to.extend_from_slice(bytes),
        }
    }

    /// Decodes one value from all bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let value = read(&mut rest, MOST_DEPTH)?;
        rest.is_empty().then_some(value)
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::List(elements) => elements,
            _ => &[],
        }
    }

    /// Returns the value of the variant with that name.
    pub(crate) fn of_variant(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find_map(|(key, value)| (key.as_text() == Some(name)).then_some(value)),
            _ => None,
        }
    }

    /// Returns the name of a variant with or without a value.
    pub(crate) fn variant_name(&self) -> Option<&str> {
        match self {
            Self::Map(entries) => entries.first()?.0.as_text(),
            other => other.as_text(),
        }
    }
}

fn low(number: usize) -> u8 {
    u8::try_from(number).expect("the number is below 256")
}

fn write_number(number: u64, to: &mut Vec<u8>) {
    match number {
        0..0x80 => to.push(number.to_be_bytes()[7]),
        0x80..0x100 => to.extend_from_slice(&[0xcc, number.to_be_bytes()[7]]),
        0x100..0x1_0000 => {
            to.push(0xcd);
            to.extend_from_slice(&number.to_be_bytes()[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            to.push(0xce);
            to.extend_from_slice(&number.to_be_bytes()[4..]);
        }
        _ => {
            to.push(0xcf);
            to.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn wide(length: usize) -> [u8; 8] {
    u64::try_from(length).expect("a length").to_be_bytes()
}

/// Writes the marker of a length's width, and the length.
fn write_length(length: usize, [of_8, of_16, of_32]: [u8; 3], to: &mut Vec<u8>) {
    let bytes = wide(length);
    match length {
        0..0x100 => to.extend_from_slice(&[of_8, bytes[7]]),
        0x100..0x1_0000 => {
            to.push(of_16);
            to.extend_from_slice(&bytes[6..]);
        }
        _ => {
            to.push(of_32);
            to.extend_from_slice(&bytes[4..]);
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn unsigned(rest: &mut &[u8], width: usize) -> Option<u64> {
    let bytes = take(rest, width)?;
    Some(
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

fn length(rest: &mut &[u8], width: usize) -> Option<usize> {
    usize::try_from(unsigned(rest, width)?).ok()
}

fn read(rest: &mut &[u8], depth: usize) -> Option<Pack> {
    let depth = depth.checked_sub(1)?;
    let marker = *take(rest, 1)?.first()?;
    let low = usize::from(marker & 0x0f);
    Some(match marker {
        0..0x80 => Pack::Number(marker.into()),
        0x80..0x90 => read_map(rest, low, depth)?,
        0x90..0xa0 => read_list(rest, low, depth)?,
        0xa0..0xc0 => read_text(rest, usize::from(marker & 0x1f))?,
        0xc0 => Pack::Nil,
        0xc2 | 0xc3 => Pack::Truth(marker == 0xc3),
        0xc4..0xc7 => {
            let length = length(rest, 1 << (marker - 0xc4))?;
            Pack::Bytes(take(rest, length)?.to_vec())
        }
        0xcc..0xd0 => Pack::Number(unsigned(rest, 1 << (marker - 0xcc))?),
        0xd9..0xdc => {
            let length = length(rest, 1 << (marker - 0xd9))?;
            read_text(rest, length)?
        }
        0xdc | 0xdd => {
            let length = length(rest, 2 << (marker - 0xdc))?;
            read_list(rest, length, depth)?
        }
        0xde | 0xdf => {
            let length = length(rest, 2 << (marker - 0xde))?;
            read_map(rest, length, depth)?
        }
        _ => return None,
    })
}

fn read_text(rest: &mut &[u8], length: usize) -> Option<Pack> {
    let text = take(rest, length)?.to_vec();
    String::from_utf8(text).ok().map(Pack::Text)
}

fn read_list(rest: &mut &[u8], length: usize, depth: usize) -> Option<Pack> {
    let elements: Option<Vec<_>> = (0..length).map(|_| read(rest, depth)).collect();
    elements.map(Pack::List)
}

fn read_map(rest: &mut &[u8], length: usize, depth: usize) -> Option<Pack> {
    let entries = (0..length).map(|_| Some((read(rest, depth)?, read(rest, depth)?)));
    let entries: Option<Vec<_>> = entries.collect();
    entries.map(Pack::Map)
}
