//! The session of PROTOCOL.md, replayed against a real session: the manager sends exactly the bytes that the
//! document states.

use crate::{
    limits::Limits,
    server::session::tests::House,
    tests::protocol::{Sample, WHOLE_SESSION, samples},
};

#[actix_rt::test]
async fn the_session_of_the_document_takes_place_as_it_is_written() {
    let house = House::new(Limits::default());
    let mut client = house.let_in();
    let mut heard = 0;
    for Sample { mark, bytes, .. } in samples()
        .into_iter()
        .filter(|sample| sample.section == WHOLE_SESSION)
    {
        if mark == '>' {
            client.raw.write(&bytes).await.unwrap();
        } else {
            let frame = client.raw.hear().await.expect("what the document says");
            assert_eq!(frame, bytes[4..], "answer {heard}");
            heard += 1;
        }
    }
    assert_eq!(heard, 6);
    client.close().await;
    // As the document says: the client held nothing, so nothing is marked as abandoned.
    let mut next = house.welcome().await;
    let lock = next.open_lock("jobs").await;
    assert_eq!(next.try_acquire(lock).await.unwrap().abandoned, None);
}
