//! Valid frames with random changes, none of which makes the reader panic.

use lockkeeper_test_support::seeded;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::frame::{
    inbox::Inbox,
    request::Request,
    response::Response,
    tests::{MOST, encoded, messages, stream},
};

/// Changes a message slightly, as a bug or a transmission error would.
fn mutate(random: &mut StdRng, message: &mut Vec<u8>) {
    let place = random.random_range(0..=message.len());
    match random.random_range(0..5) {
        0 => message.insert(place, random.random()),
        1 => message.truncate(place),
        2 => {
            let other = messages()
                .choose(random)
                .cloned()
                .expect("there are messages");
            message.splice(place.., other);
        }
        3 if place < message.len() => {
            message.remove(place);
        }
        _ => {
            // Markers contain lengths and types, so they are more effective than random bytes.
            let markers = [
                0x90, 0xc0, 0xc4, 0xc6, 0xc7, 0xcb, 0xcf, 0xd9, 0xdb, 0xdd, 0xdf,
            ];
            let byte = if random.random() {
                random.random()
            } else {
                *markers.choose(random).expect("there are markers")
            };
            if let Some(there) = message.get_mut(place) {
                *there = byte;
            }
        }
    }
}

#[test]
fn no_mutation_of_a_frame_makes_the_reader_panic() {
    let mut random = seeded();
    let (mut read, mut refused) = (0, 0);
    for message in messages().iter().cycle().take(100_000) {
        let mut message = message.clone();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut random, &mut message);
        }
        // A message that decodes is a valid request: encoded again it decodes to the same.
        if let Ok(request) = Request::decode(&message) {
            let again = encoded(&request);
            assert_eq!(Request::decode(&again), Ok(request));
            read += 1;
        } else if let Ok(response) = Response::decode(&message) {
            let again = encoded(&response);
            assert_eq!(Response::decode(&again), Ok(response));
            read += 1;
        } else {
            refused += 1;
        }
    }
    assert!(read > 1_000 && refused > 1_000, "{read} {refused}");
}

#[test]
fn no_mutation_of_a_stream_makes_the_inbox_panic() {
    let mut random = seeded();
    for _ in 0..2_000 {
        let mut stream = stream();
        for _ in 0..random.random_range(1..8) {
            mutate(&mut random, &mut stream);
        }
        let mut inbox = Inbox::new(MOST);
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(random.random_range(1..=rest.len()));
            inbox.feed(chunk);
            rest = after;
            while let Ok(Some(message)) = inbox.next_message() {
                assert!(message.len() <= MOST);
            }
        }
    }
}
