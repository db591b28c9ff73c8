//! Frames and framing without a session: frames that are split, joined, too long, or malformed.

mod large;
mod mutations;

use serde::{Serialize, Serializer};

use crate::{
    codec::{
        blob::{Blob, BlobRef},
        encoding::Fit,
        form::Form,
        value,
    },
    fault::{Fault, Refusal},
    frame::{
        capabilities::{Capabilities, Capability},
        framing::{Encode, HEADER, append},
        inbox::Inbox,
        messages::{MAGIC, VERSION},
        reply::append_reply,
        request::{FormerSession, Request},
        response::Response,
    },
    ids::{CallId, SessionId},
    inspection::Question,
    proof::{ManagerSecret, SECRET_BYTES, SessionSecret},
    shard::Shard,
};

pub(super) const MOST: usize = 1 << 10;

/// One of each request, with and without its optional elements.
pub(super) fn requests() -> Vec<Request<'static>> {
    let hello = Request::Hello {
        version: VERSION,
        pid: 70_000,
        program: "program",
        label: "",
        capabilities: Capabilities::ALL,
        former: None,
    };
    let again = Request::Hello {
        version: VERSION,
        pid: 1,
        program: "",
        label: "label",
        capabilities: Capabilities::NONE,
        former: Some(FormerSession {
            number: 300,
            secret: secret(300),
        }),
    };
    let open = |name, spec| Request::Open {
        seq: 1,
        kind: "lock",
        name,
        spec,
    };
    let call = |micros, arguments| Request::Call {
        seq: CallId::ONE_WAY - 1,
        object: u32::MAX,
        operation: 3,
        micros,
        arguments: BlobRef(arguments),
    };
    let inspect = |question| Request::Inspect { seq: 8, question };
    let cast = Request::Cast {
        object: 300,
        operation: 1,
        arguments: BlobRef(&[0x91, 0x92, 7, 8]),
    };
    vec![
        hello,
        again,
        open(None, Some(BlobRef(&[0xc0]))),
        open(Some("jobs"), None),
        open(Some("jobs"), Some(BlobRef(&[]))),
        call(None, &[0x90]),
        call(Some(0), &[]),
        call(Some(u64::MAX), &[1; 300]),
        cast,
        Request::Withdraw { object: 2, seq: 9 },
        Request::Remove {
            seq: 70_000,
            name: "#1.1",
        },
        inspect(Question::All(0)),
        inspect(Question::Contended(u64::MAX)),
        inspect(Question::Named("jobs".to_owned())),
        inspect(Question::Deadlocks),
        Request::CallBy {
            seq: 9,
            object: 2,
            operation: 0,
            micros: None,
            arguments: BlobRef(&[0x90]),
            caller: 7,
        },
        Request::ReportPipe {
            seq: 10,
            object: 2,
            operation: 300,
        },
        Request::Beat {
            seq: 70_000,
            received: u64::MAX,
        },
        Request::Goodbye,
    ]
}

fn secret(session: u64) -> SessionSecret {
    let manager = ManagerSecret::new([7; SECRET_BYTES]);
    manager.of_session(SessionId::new(session))
}

/// One of each response.
pub(super) fn responses() -> Vec<Response<'static>> {
    vec![
        Response::Welcome {
            version: VERSION,
            incarnation: u64::MAX >> 1,
            session: 1,
            secret: secret(1),
            frame_bytes: 64 << 20,
            capabilities: Capabilities::ALL,
            shard: Shard::ALONE,
            endpoints: Vec::new(),
            lease_millis: None,
        },
        Response::Welcome {
            version: VERSION,
            incarnation: 1,
            session: 3,
            secret: secret(3),
            frame_bytes: 64 << 20,
            capabilities: Capabilities::ALL,
            shard: Shard::ALONE,
            endpoints: vec!["tls://host:7000".to_owned(), "tls://[::1]:7000".to_owned()],
            lease_millis: None,
        },
        Response::Welcome {
            version: VERSION,
            incarnation: 1,
            session: 2,
            secret: secret(2),
            frame_bytes: 64 << 20,
            capabilities: Capabilities::ALL,
            shard: Shard::new(1, 2).expect("the second of two"),
            endpoints: Vec::new(),
            lease_millis: None,
        },
        Response::Welcome {
            version: VERSION,
            incarnation: 1,
            session: 3,
            secret: secret(3),
            frame_bytes: 1 << 20,
            capabilities: Capabilities::NONE,
            shard: Shard::ALONE,
            endpoints: Vec::new(),
            lease_millis: Some(10_000),
        },
        Response::Opened {
            seq: 1,
            object: 0,
            name: "jobs".to_owned(),
            operations: vec!["acquire".to_owned(), "release".to_owned()],
        },
        Response::Reply {
            seq: 2,
            body: BlobRef(&[0xc0]),
        },
        Response::Fault {
            seq: 3,
            fault: Fault::Refused(Refusal::TooMany { asked: 2, most: 1 }),
        },
        Response::Fault {
            seq: 4,
            fault: Fault::TimedOut,
        },
        Response::Revoked { seq: 5 },
        Response::Gone { object: 1 },
        Response::Bye {
            reason: "limit reached".to_owned(),
        },
    ]
}

/// All messages of both sides, encoded, without headers.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let requests = requests();
    let requests = requests.iter().map(encoded);
    requests.chain(responses().iter().map(encoded)).collect()
}

/// One message of either side, without its header.
pub(super) fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message
        .encode_into(&mut bytes, usize::MAX)
        .expect("it encodes");
    bytes
}

/// All messages as one stream of frames.
pub(super) fn stream() -> Vec<u8> {
    let mut stream = Vec::new();
    for request in &requests() {
        append(&mut stream, request, MOST).unwrap();
    }
    for response in &responses() {
        append(&mut stream, response, MOST).unwrap();
    }
    stream
}

/// All complete messages of an inbox.
fn drain(inbox: &mut Inbox) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(message) = inbox.next_message().expect("below the limit") {
        messages.push(message.to_vec());
    }
    messages
}

fn is_request(message: &[u8]) -> bool {
    Request::decode(message).is_ok()
}

fn is_response(message: &[u8]) -> bool {
    Response::decode(message).is_ok()
}

#[test]
fn frames_are_read_as_they_were_written() {
    for request in requests() {
        let message = encoded(&request);
        assert_eq!(Request::decode(&message), Ok(request));
        assert!(!is_response(&message));
    }
    for response in responses() {
        let message = encoded(&response);
        assert_eq!(Response::decode(&message), Ok(response));
        assert!(!is_request(&message));
    }
}

#[test]
fn several_frames_in_one_chunk_come_out_in_order() {
    let mut inbox = Inbox::new(MOST);
    inbox.feed(&stream());
    assert_eq!(drain(&mut inbox), messages());
}

#[test]
fn frames_come_out_whole_when_bytes_come_one_at_a_time() {
    let mut inbox = Inbox::new(MOST);
    let mut came_out = Vec::new();
    for byte in stream() {
        inbox.feed(&[byte]);
        came_out.extend(drain(&mut inbox));
    }
    assert_eq!(came_out, messages());
}

#[test]
fn a_stream_cut_at_any_byte_loses_only_the_frame_that_was_cut() {
    let (stream, messages) = (stream(), messages());
    for cut in 0..=stream.len() {
        let (before, after) = stream.split_at(cut);
        let mut inbox = Inbox::new(MOST);
        inbox.feed(before);
        let mut came_out = drain(&mut inbox);
        let whole: usize = came_out.iter().map(|message| HEADER + message.len()).sum();
        assert!(whole <= cut && messages.starts_with(&came_out));
        let next = messages.get(came_out.len()).map_or(0, Vec::len);
        assert!(next == 0 || cut < whole + HEADER + next, "cut at {cut}");
        inbox.feed(after);
        came_out.extend(drain(&mut inbox));
        assert_eq!(came_out, messages, "cut at {cut}");
    }
}

#[test]
fn a_message_that_is_cut_or_goes_on_is_an_error() {
    for mut message in messages() {
        for end in 0..message.len() {
            assert!(!is_request(&message[..end]) && !is_response(&message[..end]));
        }
        message.push(0xc0);
        assert!(!is_request(&message) && !is_response(&message));
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    for length in [5, 6, 1 << 24, u32::MAX] {
        let mut inbox = Inbox::new(4);
        inbox.feed(&length.to_be_bytes());
        let error = inbox.next_message().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("a frame of {length} bytes is above the limit of 4")
        );
    }
}

#[test]
fn a_message_as_long_as_the_limit_is_taken_and_the_limit_can_be_raised() {
    let mut inbox = Inbox::new(4);
    inbox.feed(&[0, 0, 0, 4, 1, 2, 3, 4, 0, 0, 0, 5, 1, 2, 3, 4, 5]);
    assert_eq!(
        inbox.next_message().unwrap().as_deref(),
        Some(&[1, 2, 3, 4][..])
    );
    assert!(inbox.next_message().is_err());
    inbox.allow(5);
    assert_eq!(
        inbox.next_message().unwrap().as_deref(),
        Some(&[1, 2, 3, 4, 5][..])
    );
}

#[test]
fn a_frame_of_no_bytes_is_a_frame_and_no_request() {
    let mut inbox = Inbox::new(4);
    inbox.feed(&[0, 0, 0, 0]);
    let message = inbox.next_message().unwrap().expect("a frame");
    assert!(message.is_empty() && !is_request(&message));
}

#[test]
fn what_cannot_be_appended_leaves_the_buffer_as_it_was() {
    struct Unserializable;

    impl Serialize for Unserializable {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not now"))
        }
    }

    let mut buffer = vec![7, 7];
    let error = append(&mut buffer, &BlobRef(&[0; 100]), 101).unwrap_err();
    assert!(error.to_string().contains("more than 101 bytes"), "{error}");
    assert_eq!(buffer, [7, 7]);
    let error = append(&mut buffer, &(1, BlobRef(&[0; 100]), Unserializable), MOST).unwrap_err();
    assert_eq!(error.to_string(), "not now");
    assert_eq!(buffer, [7, 7]);
    append(&mut buffer, &BlobRef(&[0; 100]), 102).unwrap();
    assert_eq!(buffer.len(), 2 + HEADER + 102);
}

#[test]
fn a_frame_that_is_no_array_of_its_number_is_an_error() {
    let strangers: [&[u8]; 16] = [
        &[],
        &[0xc0],
        &[0xc1],
        &[5],
        &[0x80],
        &[0x90],
        &[0x91, 0xc0],
        &[0x91, 0],
        &[0x91, 7],
        &[0x91, 64],
        &[0x91, 72],
        &[0x91, 0xff],
        &[0x91, 0xcd, 1, 5],
        &[0x92, 0xa1, b'5', 1],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x82, 0, 5, 1, 1],
    ];
    for message in strangers {
        assert!(!is_request(message), "{message:?}");
        assert!(!is_response(message), "{message:?}");
    }
}

#[test]
fn a_frame_with_too_few_or_too_many_elements_is_an_error() {
    for message in messages() {
        let (first, rest) = message.split_first().expect("an array");
        let count = first & 0x0f;
        // A later release may add elements to the first frame of either side.
        if matches!(rest, [1 | 65, ..]) {
            continue;
        }
        for fewer in 1..count {
            let mut short = vec![0x90 | fewer];
            short.extend_from_slice(rest);
            assert!(!is_request(&short) && !is_response(&short));
        }
        let mut long = vec![0x90 | (count + 1)];
        long.extend_from_slice(rest);
        assert!(!is_request(&long) && !is_response(&long));
        long.push(0xc0);
        assert!(!is_request(&long) && !is_response(&long));
    }
    assert!(!is_request(&value::encode(&(5, 1)).unwrap()));
    assert!(!is_request(&value::encode(&(1, MAGIC, VERSION)).unwrap()));
    assert!(!is_response(&value::encode(&(67, 1)).unwrap()));
}

#[test]
fn first_frames_of_earlier_and_later_releases_are_read() {
    let hello = |message: &[u8]| match Request::decode(message) {
        Ok(Request::Hello { capabilities, .. }) => Some(capabilities),
        _ => None,
    };
    let earlier = value::encode(&(1, MAGIC, VERSION, 7, "program", "")).unwrap();
    assert_eq!(hello(&earlier), Some(Capabilities::NONE));
    let absent = value::encode(&(1, MAGIC, VERSION, 7, "program", "", ())).unwrap();
    assert_eq!(hello(&absent), Some(Capabilities::NONE));
    let can = ["zip", "shards", "callers2", "reports"];
    let former = (8, BlobRef(&[7; SECRET_BYTES]));
    let later = (
        1,
        MAGIC,
        VERSION,
        7,
        "program",
        "",
        can,
        former.0,
        former.1,
        [[1]],
        "more",
    );
    let later = value::encode(&later).unwrap();
    let known = Capabilities::NONE
        .with(Capability::Reports)
        .with(Capability::Shards);
    assert_eq!(hello(&later), Some(known));

    let secret = BlobRef(&[7; SECRET_BYTES]);
    let welcome = |message: &[u8]| match Response::decode(message) {
        Ok(Response::Welcome {
            capabilities,
            shard,
            ..
        }) => Some((capabilities, shard)),
        _ => None,
    };
    let later = value::encode(&(
        65,
        VERSION,
        1,
        2,
        secret,
        64,
        can,
        0,
        1,
        ["tls://h:1"],
        10_000,
        [(), ()],
    ))
    .unwrap();
    assert_eq!(welcome(&later), Some((known, Shard::ALONE)));
    let alone = value::encode(&(65, VERSION, 1, 2, secret, 64, ["callers"])).unwrap();
    let callers = Capabilities::NONE.with(Capability::Callers);
    assert_eq!(welcome(&alone), Some((callers, Shard::ALONE)));
}

#[test]
fn a_first_frame_with_anything_wrong_in_it_is_an_error() {
    let secret = BlobRef(&[7; SECRET_BYTES]);
    let hellos = [
        value::encode(&(1, MAGIC, VERSION, 7, "program")).unwrap(),
        value::encode(&(1, MAGIC, VERSION, 7, "program", "", "shards")).unwrap(),
        value::encode(&(1, MAGIC, VERSION, 7, "program", "", [7])).unwrap(),
        value::encode(&(1, MAGIC, VERSION, 7, "program", "", (), ())).unwrap(),
    ];
    for hello in &hellos {
        assert!(!is_request(hello), "{hello:?}");
    }
    let welcomes = [
        value::encode(&(65, VERSION, 1, 2, secret, 64)).unwrap(),
        value::encode(&(65, VERSION, 1, 2, secret, 64, false)).unwrap(),
        value::encode(&(65, VERSION, 1, 2, secret, 64, ["shards"], 0)).unwrap(),
        value::encode(&(65, VERSION, 1, 2, secret, 64, ["shards"], 2, 2)).unwrap(),
    ];
    for welcome in &welcomes {
        assert!(!is_response(welcome), "{welcome:?}");
    }
    // Bytes behind the last element, and an incomplete list.
    for message in [
        hello_message(),
        value::encode(&(65, VERSION, 1, 2, secret, 64, ["a"])).unwrap(),
    ] {
        let long = [&*message, &[0xc0]].concat();
        assert!(!is_request(&long) && !is_response(&long));
        let short = &message[..message.len() - 1];
        assert!(!is_request(short) && !is_response(short));
    }
}

fn hello_message() -> Vec<u8> {
    value::encode(&(1, MAGIC, VERSION, 7, "program", "", ["shards"])).unwrap()
}

#[test]
fn a_hello_that_does_not_say_lockkeeper_is_an_error() {
    for word in ["", "lockkeepe", "lockkeeperr", "LOCKKEEPER"] {
        let hello = value::encode(&(1, word, VERSION, 1, "", "")).unwrap();
        assert!(!is_request(&hello), "{word}");
    }
}

#[test]
fn a_hello_of_another_version_is_read_whatever_follows() {
    let short = value::encode(&(1, MAGIC, VERSION + 1)).unwrap();
    let long = value::encode(&(1, MAGIC, VERSION + 1, [[1]], "program", (), true)).unwrap();
    for hello in [short, long] {
        let Ok(Request::Hello { version, .. }) = Request::decode(&hello) else {
            panic!("no hello: {hello:?}");
        };
        assert_eq!(version, VERSION + 1);
    }
}

#[test]
fn numbers_are_taken_in_any_width_that_holds_them() {
    let wide = [
        0x93, 0xcc, 5, 0xce, 0, 0, 0, 2, 0xcf, 0, 0, 0, 0, 0, 0, 0, 9,
    ];
    let expected = Request::Withdraw { object: 2, seq: 9 };
    assert_eq!(Request::decode(&wide), Ok(expected));
    let too_much = [0x93, 5, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 9];
    assert!(!is_request(&too_much));
    assert!(!is_request(&[0x93, 5, 0xff, 9]));
}

#[test]
fn nesting_without_end_is_an_error() {
    for count in [64, 65, 1_000, 1_000_000] {
        let arrays = vec![0x91; count];
        assert!(!is_request(&arrays) && !is_response(&arrays));
        let mut hello = value::encode(&(1, MAGIC, VERSION + 1, ())).unwrap();
        hello.pop();
        hello.extend_from_slice(&arrays);
        hello.push(1);
        // The rest of the hello is not read if its version differs.
        assert!(is_request(&hello), "{count}");
        let mut fault = vec![0x93, 68, 1];
        fault.extend_from_slice(&arrays);
        assert!(!is_response(&fault));
    }
}

#[test]
fn an_error_quotes_little_of_what_it_is_about() {
    let text = "x".repeat(1 << 20);
    let message = value::encode(&(68, 1, text.as_str())).unwrap();
    let error = Response::decode(&message).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("xxx") && error.len() < 400, "{error}");
}

#[test]
fn what_is_missing_of_a_message_is_told_once_its_header_is_whole() {
    let mut frame = Vec::new();
    append(&mut frame, &BlobRef(&[7; 100]), MOST).unwrap();
    for cut in 0..=frame.len() {
        let mut inbox = Inbox::new(MOST);
        inbox.feed(&frame[..cut]);
        let missing = if cut < HEADER { 0 } else { frame.len() - cut };
        assert_eq!(inbox.missing(), missing, "{cut} bytes");
    }
}

#[test]
fn reply_is_encoded_in_place_and_what_it_lends_is_part_of_it() {
    for (length, is_lent) in [(0, false), (300, false), (1 << 16, true)] {
        let value = (1, Blob::from(vec![7; length]), "text");
        let body = value::encode(&value).unwrap();
        let encode = |buffer: &mut Vec<u8>, most| Form::Compact.encode_within(buffer, &value, most);
        let whole = [9].len() + HEADER + 8 + body.len();
        let mut buffer = vec![9];
        for most in [0, 8, body.len() + 7] {
            let fit = append_reply(&mut buffer, 5, most, encode).unwrap();
            assert_eq!((fit, &*buffer), (Fit::TooLong, &[9][..]));
        }
        let fit = append_reply(&mut buffer, 5, body.len() + 8, encode).unwrap();
        let Fit::Fits(lent) = fit else {
            panic!("{fit:?}");
        };
        assert_eq!(lent.is_some(), is_lent);
        if let Some((place, lent)) = lent {
            buffer.splice(place..place, lent.iter().copied());
        }
        assert_eq!(buffer.len(), whole);
        let mut inbox = Inbox::new(MOST);
        inbox.allow(1 << 20);
        inbox.feed(&buffer[1..]);
        let message = inbox.next_message().unwrap().unwrap();
        let (seq, body) = (5, BlobRef(&body));
        let reply = Response::Reply { seq, body };
        assert_eq!(Response::decode(&message), Ok(reply));
    }
}

#[test]
fn message_that_is_dropped_takes_nothing_of_the_next_one() {
    let large = frame(&BlobRef(&[7; 900]));
    let small = frame(&BlobRef(&[8; 3]));
    let both = [&large[..], &small].concat();
    for cut in HEADER + 1..large.len() {
        let mut inbox = Inbox::new(MOST);
        inbox.feed(&both[..cut]);
        assert!(inbox.next_message().unwrap().is_none());
        assert_eq!(inbox.begun(), cut);
        let begin = inbox.skip();
        assert!(large[HEADER..].starts_with(&begin) && !begin.is_empty());
        assert_eq!((inbox.begun(), inbox.missing()), (0, 0));
        for byte in &both[cut..] {
            assert!(inbox.next_message().unwrap().is_none());
            inbox.feed(&[*byte]);
        }
        let next = inbox.next_message().unwrap().expect("a message");
        assert_eq!(*next, small[HEADER..]);
    }
}

/// One frame as bytes.
pub(super) fn frame<T: Encode>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, message, usize::MAX).expect("it encodes");
    bytes
}
