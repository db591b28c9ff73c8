use crate::{
    frame::{Encode, request::Request, response::Response},
    handshake::{
        key::{Certificate, Key, MOST_KEY_NAME_BYTES},
        messages::{ACCEPTED, BEGIN, HandshakeError},
        resume::{Resume, Resumed},
        steps::{ClientBegun, ManagerBegun, ManagerChallenged},
    },
};

fn key(name: &str, first: u8) -> Key {
    let secret = (0..32).map(|byte: u8| byte.wrapping_add(first)).collect();
    Key::new(name, secret).expect("it is a key")
}

fn client(key: Key, certificate: &[u8]) -> ClientBegun {
    let certificate = Certificate::of(certificate);
    ClientBegun::new(key, certificate, [0x11; 32], 0, false).expect("it encodes")
}

fn manager(begin: &[u8], key: Key, certificate: &[u8]) -> ManagerChallenged {
    let begun = ManagerBegun::read(begin).expect("a first message");
    let certificate = Certificate::of(certificate);
    let challenged = begun.challenge(key, certificate, [0x22; 32]);
    challenged.expect("it encodes")
}

/// Lets a client and a manager shake hands, and changes each message on its way.
fn shake(
    client: ClientBegun,
    of_manager: (Key, &[u8]),
    change: impl Fn(u8, &mut Vec<u8>),
) -> Result<(), (&'static str, HandshakeError)> {
    let on_the_way = |number, message: &[u8]| {
        let mut message = message.to_vec();
        change(number, &mut message);
        message
    };
    let begin = on_the_way(0, client.message());
    let manager = ManagerBegun::read(&begin).and_then(|begun| {
        let (key, certificate) = of_manager;
        begun.challenge(key, Certificate::of(certificate), [0x22; 32])
    });
    let manager = manager.map_err(|error| ("manager", error))?;
    let challenge = on_the_way(1, manager.message());
    let client = client.challenged(&challenge);
    let client = client.map_err(|error| ("client", error))?;
    let auth = on_the_way(2, client.message());
    let proved = manager.proved(&auth);
    let (accepted, secret) = proved.map_err(|error| ("manager", error))?;
    let accepted = on_the_way(3, &accepted);
    let same = client.accepted(&accepted);
    let same = same.map_err(|error| ("client", error))?;
    assert_eq!(secret, same);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let bytes = bytes.iter().map(|byte| format!("{byte:02x}"));
    bytes.collect::<Vec<_>>().join(" ")
}

#[test]
fn messages_are_those_that_other_languages_make() {
    // hmac.digest(key, b"".join(struct.pack(">Q", len(part)) + part for part in parts), "sha256")
    let client = client(key("k1", 0), b"certificate");
    let ones = "11 ".repeat(32);
    assert_eq!(
        hex(client.message()),
        format!("96 0a 01 a2 6b 31 c4 20 {ones}00 c2")
    );
    let manager = manager(client.message(), key("k1", 0), b"certificate");
    let twos = "22 ".repeat(32);
    let challenge = hex(manager.message());
    assert_eq!(challenge, format!("92 48 c4 20 {}", twos.trim_end()));
    let client = client.challenged(manager.message()).expect("a challenge");
    assert_eq!(hex(client.message()), AUTH_IN_HEX);
    let (accepted, secret) = manager.proved(client.message()).expect("the right proof");
    assert_eq!(hex(&accepted), ACCEPTED_IN_HEX);
    assert_eq!(client.accepted(&accepted), Ok(secret));
    let received = 300;
    let resume = Resume { secret, received }.message().expect("it encodes");
    assert_eq!(hex(&resume), RESUME_IN_HEX);
    assert_eq!(Resume::read(&resume), Ok(Resume { secret, received }));
    let resumed = Resumed { received: 7 }.message().expect("it encodes");
    assert_eq!(hex(&resumed), "92 4a 07");
    assert_eq!(Resumed::read(&resumed), Ok(Resumed { received: 7 }));
    assert!(Resume::read(&resumed).is_err() && Resumed::read(&resume).is_err());
}

const AUTH_IN_HEX: &str = "92 0b c4 20 35 45 c4 52 c5 4c f2 35 05 70 78 a2 3f 62 \
    0d db 22 ee 54 14 a3 57 3c 73 2f b5 4b df fa b1 da 5a";
const ACCEPTED_IN_HEX: &str = "92 49 c4 20 ae 47 9d ee f2 b6 77 dc a8 22 19 2b 81 33 \
    c3 81 94 73 92 e5 17 39 fd de 75 22 32 37 c3 85 5a dc";
const RESUME_IN_HEX: &str = "93 0c c4 20 7a e8 27 93 2e 12 dc bb 55 89 e5 b7 d6 06 \
    db b9 1e 05 2b 3e 28 62 cc d7 ea a8 da f8 c2 4c 61 b2 cd 01 2c";

#[test]
fn sides_with_one_key_and_one_connection_accept_each_other() {
    for first in [0, 7, 255] {
        let client = client(key("k", first), b"certificate");
        let manager = (key("k", first), b"certificate".as_slice());
        assert_eq!(shake(client, manager, |_, _| {}), Ok(()));
    }
}

#[test]
fn manager_refuses_a_client_with_another_key_or_another_connection() {
    for (of_client, certificate) in [
        (key("k", 1), b"certificate".as_slice()),
        (key("k", 0), b"certificatf"),
        (key("k", 0), b""),
    ] {
        let client = client(of_client, certificate);
        let refused = shake(client, (key("k", 0), b"certificate"), |_, _| {});
        assert_eq!(refused, Err(("manager", HandshakeError::WrongProof)));
    }
    // The key that proves is the one whose name both have seen.
    let long = Key::new("k", vec![1; 200]).expect("it is a key");
    let longer = Key::new("k", vec![1; 201]).expect("it is a key");
    let refused = shake(client(long, b""), (longer, b""), |_, _| {});
    assert_eq!(refused, Err(("manager", HandshakeError::WrongProof)));
}

#[test]
fn changed_message_is_noticed_whatever_the_change() {
    let mut changes = 0;
    for number in 0..4 {
        for place in 0..100 {
            for bit in 0..8 {
                let changed = std::cell::Cell::new(false);
                let client = client(key("k", 0), b"certificate");
                let shaken = shake(client, (key("k", 0), b"certificate"), |at, message| {
                    if at == number && place < message.len() {
                        message[place] ^= 1 << bit;
                        changed.set(true);
                    }
                });
                assert_eq!(shaken.is_err(), changed.get(), "{number} {place} {bit}");
                changes += usize::from(changed.get());
            }
        }
    }
    assert!(changes > 8 * 4 * 35, "{changes}");
}

#[test]
fn shortened_or_lengthened_message_is_refused() {
    for number in 0..4 {
        for length in 0..36 {
            let client = client(key("k", 0), b"certificate");
            let shaken = shake(client, (key("k", 0), b"certificate"), |at, message| {
                if at == number {
                    message.truncate(length.min(message.len() - 1));
                }
            });
            assert!(shaken.is_err(), "{number} {length}");
        }
        let client = client(key("k", 0), b"certificate");
        let shaken = shake(client, (key("k", 0), b"certificate"), |at, message| {
            if at == number {
                message.push(0);
            }
        });
        assert!(shaken.is_err(), "{number}");
    }
}

#[test]
fn proof_of_one_side_or_of_an_earlier_handshake_is_none() {
    let certificate = b"certificate";
    let begun = client(key("k", 0), certificate);
    let challenged = manager(begun.message(), key("k", 0), certificate);
    let proved = begun.challenged(challenged.message()).expect("a challenge");
    // A client's own proof is sent back to it.
    let mut reflected = proved.message().to_vec();
    reflected[1] = ACCEPTED;
    let earlier = proved.message().to_vec();
    assert_eq!(proved.accepted(&reflected), Err(HandshakeError::WrongProof));
    // The proof is that of an earlier handshake, in which the manager has drawn another number.
    let begun = client(key("k", 0), certificate);
    let later = ManagerBegun::read(begun.message()).expect("a first message");
    let later = later.challenge(key("k", 0), Certificate::of(certificate), [0x23; 32]);
    let later = later.expect("it encodes");
    assert_eq!(later.proved(&earlier), Err(HandshakeError::WrongProof));
}

#[test]
fn first_message_that_is_none_is_refused_with_the_reason() {
    let mut hello = Vec::new();
    let request = Request::Hello {
        version: 1,
        pid: 1,
        program: "demo",
        label: "",
        capabilities: crate::frame::Capabilities::ALL,
        former: None,
    };
    request.encode_into(&mut hello, 4096).expect("it encodes");
    let refused = ManagerBegun::read(&hello).map(drop);
    assert_eq!(refused, Err(HandshakeError::NoProof));
    for version in [0, 2, 77] {
        let later = [0x95, BEGIN, version, 0xc0, 0xc0, 0xc0];
        let refused = ManagerBegun::read(&later).map(drop);
        assert_eq!(refused, Err(HandshakeError::Version(version.into())));
    }
    for message in [
        b"".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x91, 12],
        &[0xff; 40],
    ] {
        let refused = ManagerBegun::read(message).map(drop);
        let is_bad = matches!(refused, Err(HandshakeError::BadMessage(_)));
        assert!(is_bad, "{message:?}: {refused:?}");
    }
}

#[test]
fn refusal_of_a_manager_comes_with_its_reason() {
    let mut bye = Vec::new();
    let reason = "no key".to_owned();
    let encoded = Response::Bye {
        reason: reason.clone(),
    }
    .encode_into(&mut bye, 4096);
    encoded.expect("it encodes");
    let refused = Err(HandshakeError::Refused(reason));
    let begun = client(key("k", 0), b"");
    assert_eq!(begun.challenged(&bye).map(drop), refused);
    let begun = client(key("k", 0), b"");
    let manager = manager(begun.message(), key("k", 0), b"");
    let proved = begun.challenged(manager.message()).expect("a challenge");
    assert_eq!(proved.accepted(&bye).map(drop), refused);
}

#[test]
fn key_is_long_enough_has_a_name_and_is_not_printed() {
    for (name, bytes) in [("", 32), ("k", 31), ("k", 0)] {
        assert!(Key::new(name, vec![7; bytes]).is_none(), "{name} {bytes}");
    }
    assert!(Key::new(&"k".repeat(MOST_KEY_NAME_BYTES + 1), vec![7; 32]).is_none());
    let key = Key::new(&"k".repeat(MOST_KEY_NAME_BYTES), vec![171; 32]).expect("it is a key");
    let begun = client(key, b"certificate");
    for shown in [format!("{begun:?}"), format!("{begun:#?}")] {
        assert!(!shown.contains("171"), "{shown}");
        assert!(!shown.to_lowercase().contains("ab, ab"), "{shown}");
    }
}
