//! The bytes of values whose encoding PROTOCOL.md describes, and types of the standard library.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt::Debug,
    net::{SocketAddr, SocketAddrV6},
    num::{NonZeroU8, Wrapping},
    ops::{Bound, Range},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lockkeeper_protocol::codec::{Form, decode};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn is_written<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &[u8]) {
    for form in [Form::Named, Form::Compact] {
        let encoded = form.encode(value).expect("it encodes");
        assert_eq!(encoded, bytes, "{value:?}: {encoded:02x?}");
        assert_eq!(decode::<T>(&encoded).as_ref(), Ok(value), "{encoded:02x?}");
    }
}

#[test]
fn options_of_nil_are_extensions() {
    is_written(&None::<()>, &[0xc0]);
    is_written(&Some(()), &[0xd4, 0, 0xc0]);
    is_written(&Some(None::<u8>), &[0xd4, 0, 0xc0]);
    is_written(&Some(Some(())), &[0xc7, 3, 0, 0xd4, 0, 0xc0]);
    is_written(&Some(Some(Some(5))), &[5]);
    is_written(
        &vec![Some(Some(())), Some(None), None],
        &[0x93, 0xc7, 3, 0, 0xd4, 0, 0xc0, 0xd4, 0, 0xc0, 0xc0],
    );
}

#[test]
fn numbers_have_their_shortest_form() {
    is_written(&u64::MAX, &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255]);
    is_written(
        &(0x7f_u8, 0x80_u8, 0x100_u16),
        &[0x93, 0x7f, 0xcc, 0x80, 0xcd, 1, 0],
    );
    is_written(
        &(-32_i64, -33_i64, 127_i64, 128_i64),
        &[0x94, 0xe0, 0xd0, 0xdf, 0x7f, 0xcc, 0x80],
    );
    is_written(
        &(i128::from(i64::MIN), u128::from(u64::MAX)),
        &[
            0x92, 0xd3, 128, 0, 0, 0, 0, 0, 0, 0, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    );
    let longer = u128::from(u64::MAX) + 1;
    is_written(
        &longer,
        &[0xd8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let same = i128::try_from(longer).unwrap();
    is_written(
        &same,
        &[0xd8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let lower = i128::from(i64::MIN) - 1;
    let mut bytes = vec![0xd8, 2];
    bytes.extend(lower.to_be_bytes());
    is_written(&lower, &bytes);
}

#[test]
fn types_of_the_standard_library_arrive_equal() {
    fn arrives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        for form in [Form::Named, Form::Compact] {
            let bytes = form.encode(value).expect("it encodes");
            assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value), "{bytes:02x?}");
        }
    }
    arrives(&(SystemTime::UNIX_EPOCH + Duration::from_nanos(1)));
    arrives(&Duration::MAX);
    arrives(&PathBuf::from("/tmp/é"));
    arrives(&"127.0.0.1:80".parse::<SocketAddr>().unwrap());
    arrives(&SocketAddrV6::new(1.into(), 2, 0, 7));
    arrives(&(Bound::Included(1), Bound::<u8>::Unbounded));
    arrives(&Range { start: 1, end: 2 });
    arrives(&Wrapping(7_u8));
    arrives(&NonZeroU8::MIN);
    arrives(&Rc::new(Some(Arc::<str>::from("x"))));
    arrives(&VecDeque::from([
        Some(None),
        Some(Some(1)),
        None::<Option<u8>>,
    ]));
    arrives(&BTreeSet::from([(1, 'a'), (2, 'b')]));
    arrives(&HashMap::from([
        (Some(()), None::<Box<[u8]>>),
        (None, Some([7].into())),
    ]));
    arrives(&std::cmp::Reverse(Some(Ok::<(), ()>(()))));
}
