//! `Streams`: the streams of a manager's clients over a network, by the secrets of their first connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use lockkeeper_protocol::handshake::ConnectionSecret;

use crate::transport::tls::resumable::Resumable;

/// The streams that may be resumed over another connection.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<[u8; 32], Known>>);

/// A stream, and the name of the key that its client has proved.
#[derive(Debug)]
struct Known {
    key: String,
    stream: Weak<Resumable>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream until it ends.
    pub(super) fn insert(&self, secret: &ConnectionSecret, key: String, stream: &Arc<Resumable>) {
        let mut all = self.lock();
        if all.len() == all.capacity() {
            all.retain(|_, known| known.stream.strong_count() > 0);
        }
        let stream = Arc::downgrade(stream);
        all.insert(secret.digest(), Known { key, stream });
    }

    /// Finds the stream with a secret, for a client that has proved the key of that name: another key may have other
    /// rights.
    pub(super) fn find(&self, secret: &ConnectionSecret, key: &str) -> Option<Arc<Resumable>> {
        let all = self.lock();
        let known = all.get(&secret.digest()).filter(|known| known.key == key);
        known?.stream.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::handshake::resume::Resume;

    use super::*;
    use crate::transport::{
        handed::socket_pair,
        tls::{resumable::AtLoss, sent::KeptBudget},
        unix::UnixStream,
    };

    /// A secret as it arrives in a message.
    fn secret(byte: u8) -> ConnectionSecret {
        let message = [&[0x93, 12, 0xc4, 32], [byte; 32].as_slice(), &[0]].concat();
        Resume::read(&message).expect("a message").secret
    }

    #[test]
    fn stream_is_found_by_its_secret_and_its_key_until_it_ends() {
        let (one, _other) = socket_pair().expect("descriptors");
        let below = UnixStream::try_from(one).expect("a socket");
        let stream = Resumable::new(Arc::new(below), AtLoss::Wait, KeptBudget::new(1));
        let streams = Streams::default();
        streams.insert(&secret(1), "ci".to_owned(), &stream);
        let found = streams.find(&secret(1), "ci").expect("it is there");
        assert!(Arc::ptr_eq(&found, &stream));
        assert!(streams.find(&secret(2), "ci").is_none());
        assert!(streams.find(&secret(1), "operator").is_none());
        drop((found, stream));
        assert!(streams.find(&secret(1), "ci").is_none());
    }
}
