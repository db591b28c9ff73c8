//! Derived types: each way in which serde encodes a struct or an enum, with each kind of content.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use lockkeeper_protocol::codec::Blob;
use lockkeeper_test_support::seeded;
use rand::{Rng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::sample::{
    Double,
    Keeps::{All, AllButBuffered},
    Sample, Single, check_all,
};

/// Defines the types with one content, and their test.
macro_rules! family {
    ($($name:ident: $content:ty;)*) => {$(
        mod $name {
            use super::*;

            type Content = $content;

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            struct Unit;

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            struct Newtype(Content);

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(transparent)]
            struct Transparent {
                only: Content,
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            struct Tuple(u8, #[serde(skip)] u8, Content, Option<Unit>);

            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(default, rename_all = "kebab-case")]
            struct Named {
                #[serde(skip_serializing_if = "Option::is_none")]
                first_of_all: Option<u8>,
                #[serde(skip_serializing_if = "Option::is_none")]
                second: Option<Content>,
                #[serde(skip)]
                third: u8,
                #[serde(rename = "type")]
                fourth: Option<Option<Content>>,
                last: Cow<'static, str>,
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            enum External {
                Unit,
                Newtype(Content),
                Tuple(Content, u8),
                Named {
                    #[serde(default, skip_serializing_if = "Option::is_none")]
                    a: Option<u8>,
                    b: Content,
                },
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(tag = "tag")]
            enum Internal {
                Unit,
                Newtype(Box<Named>),
                Named { b: Content, c: Option<Content> },
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(tag = "tag", content = "content")]
            enum Adjacent {
                Unit,
                Newtype(Content),
                Tuple(Content, u8),
                Named { b: Content },
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(untagged)]
            enum Untagged {
                Named { only_here: Content },
                Tuple(bool, Content, bool),
                Newtype(Content),
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            struct Flat {
                before: u8,
                #[serde(flatten)]
                inner: Inner,
                #[serde(flatten)]
                rest: BTreeMap<String, u64>,
            }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            struct Inner {
                inside: Content,
            }

            impl Sample for Unit {
                fn sample(_: &mut StdRng) -> Self {
                    Self
                }
            }

            impl Sample for Newtype {
                fn sample(rng: &mut StdRng) -> Self {
                    Self(Content::sample(rng))
                }
            }

            impl Sample for Transparent {
                fn sample(rng: &mut StdRng) -> Self {
                    Self { only: Content::sample(rng) }
                }
            }

            impl Sample for Tuple {
                fn sample(rng: &mut StdRng) -> Self {
                    Self(rng.random(), 0, Content::sample(rng), Option::sample(rng))
                }
            }

            impl Sample for Named {
                fn sample(rng: &mut StdRng) -> Self {
                    Self {
                        first_of_all: Option::sample(rng),
                        second: Option::sample(rng),
                        third: 0,
                        fourth: Option::sample(rng),
                        last: String::sample(rng).into(),
                    }
                }
            }

            impl Sample for External {
                fn sample(rng: &mut StdRng) -> Self {
                    let content = Content::sample(rng);
                    match rng.random_range(0..4) {
                        0 => Self::Unit,
                        1 => Self::Newtype(content),
                        2 => Self::Tuple(content, rng.random()),
                        _ => Self::Named { a: Option::sample(rng), b: content },
                    }
                }
            }

            impl Sample for Internal {
                fn sample(rng: &mut StdRng) -> Self {
                    match rng.random_range(0..3) {
                        0 => Self::Unit,
                        1 => Self::Newtype(Box::new(Named::sample(rng))),
                        _ => Self::Named { b: Content::sample(rng), c: Option::sample(rng) },
                    }
                }
            }

            impl Sample for Adjacent {
                fn sample(rng: &mut StdRng) -> Self {
                    let content = Content::sample(rng);
                    match rng.random_range(0..4) {
                        0 => Self::Unit,
                        1 => Self::Newtype(content),
                        2 => Self::Tuple(content, rng.random()),
                        _ => Self::Named { b: content },
                    }
                }
            }

            impl Sample for Untagged {
                fn sample(rng: &mut StdRng) -> Self {
                    let content = Content::sample(rng);
                    match rng.random_range(0..3) {
                        0 => Self::Named { only_here: content },
                        1 => Self::Tuple(rng.random(), content, rng.random()),
                        _ => Self::Newtype(content),
                    }
                }
            }

            impl Sample for Flat {
                fn sample(rng: &mut StdRng) -> Self {
                    let rest = (0..rng.random_range(0..4)).map(|key| (format!("r{key}"), rng.random()));
                    Self {
                        rest: rest.collect(),
                        before: rng.random(),
                        inner: Inner { inside: Content::sample(rng) },
                    }
                }
            }

            #[test]
            fn arrives_equal() {
                let rng = &mut seeded();
                check_all::<Content>(All, rng);
                check_all::<Unit>(All, rng);
                check_all::<Newtype>(All, rng);
                check_all::<Transparent>(All, rng);
                check_all::<Tuple>(All, rng);
                check_all::<Named>(All, rng);
                check_all::<External>(All, rng);
                check_all::<Adjacent>(All, rng);
                check_all::<Internal>(AllButBuffered, rng);
                check_all::<Untagged>(AllButBuffered, rng);
                check_all::<Flat>(AllButBuffered, rng);
            }
        }
    )*};
}

family! {
    unit: ();
    small: u8;
    long: i64;
    huge: u128;
    negative: i128;
    single: Single;
    double: Double;
    character: char;
    text: String;
    bytes: Blob;
    numbers: Vec<u8>;
    address: IpAddr;
    maybe: Option<u16>;
    maybe_unit: Option<()>;
    maybe_maybe: Option<Option<Option<()>>>;
    optional_list: Vec<Option<Option<bool>>>;
    array: [Option<char>; 3];
    pair: (Option<()>, Result<(), String>);
    keyed_by_text: BTreeMap<String, Option<()>>;
    keyed_by_pairs: BTreeMap<(u8, Option<bool>), Option<Option<u8>>>;
}
