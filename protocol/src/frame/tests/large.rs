//! Frames about as large as the kept capacity, with small ones on either side.

use crate::{
    codec::{blob::BlobRef, payload::Payload},
    frame::{framing::HEADER, inbox::Inbox, request::Request, tests::frame},
};

/// The largest message without a buffer of its own.
const ROOM: usize = 1 << 16;

fn call(seq: u64, arguments: &[u8]) -> Vec<u8> {
    frame(&Request::Call {
        seq,
        object: 1,
        operation: 2,
        micros: None,
        arguments: BlobRef(arguments),
    })
}

/// A call whose message has `length` bytes, and its arguments.
fn call_of(seq: u64, length: usize) -> (Vec<u8>, Vec<u8>) {
    let byte = seq.to_le_bytes()[0];
    (0..length)
        .rev()
        .map(|count| vec![byte; count])
        .map(|arguments| (call(seq, &arguments), arguments))
        .find(|(call, _)| call.len() == length + HEADER)
        .expect("there are arguments for it")
}

#[test]
fn frames_about_as_large_as_the_room_come_out_whole_however_they_are_cut() {
    let lengths = [
        100,
        ROOM - 1,
        9_000,
        ROOM,
        9_000,
        ROOM + 1,
        300,
        ROOM + 1,
        ROOM + 1,
        20,
        3 * ROOM,
        300,
    ];
    let (mut stream, mut sent) = (Vec::new(), Vec::new());
    for (seq, length) in (1..).zip(lengths) {
        let (call, arguments) = match length {
            20 => (call(seq, &[7]), vec![7]),
            length => call_of(seq, length),
        };
        stream.extend(call);
        sent.push((seq, arguments));
    }
    for chunk in [
        1,
        2,
        3,
        5,
        4_099,
        1 << 14,
        ROOM - 1,
        ROOM,
        ROOM + 1,
        stream.len(),
    ] {
        let mut inbox = Inbox::new(4 * ROOM);
        let mut kept: Vec<(u64, Payload)> = Vec::new();
        for shard in stream.chunks(chunk) {
            inbox.feed(shard);
            while let Some(message) = inbox.next_message().expect("no frame is too large") {
                let Ok(Request::Call { seq, arguments, .. }) = Request::decode(&message) else {
                    panic!("no call after {} of them", kept.len());
                };
                kept.push((seq, message.keep(arguments.0)));
            }
        }
        assert_eq!(kept.len(), sent.len(), "chunks of {chunk} bytes");
        for ((seq, kept), (number, arguments)) in kept.iter().zip(&sent) {
            assert_eq!(seq, number);
            assert!(
                **kept == arguments[..],
                "call {seq}, chunks of {chunk} bytes"
            );
        }
    }
}
