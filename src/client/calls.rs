//! Questions to the manager about its objects, whatever their kinds.

use std::sync::Arc;

use lockkeeper_protocol::{Question, codec, frame::Request};
use serde::de::DeserializeOwned;

use crate::{
    client::{
        connection::{Connection, OPEN_PATIENCE},
        state::{Success, lock, wrong_answer},
    },
    error::CallError,
};

impl Connection {
    /// Asks who holds objects and who waits for them.
    pub(crate) async fn ask<T: DeserializeOwned>(
        self: &Arc<Self>,
        question: Question,
    ) -> Result<T, CallError> {
        let pending = self.request(None, |seq| Request::Inspect { seq, question })?;
        let Success::Reply(body) = pending.settle(OPEN_PATIENCE).await? else {
            return Err(wrong_answer());
        };
        codec::decode(&body).map_err(|error| CallError::Protocol(error.to_string()))
    }
}

impl Connection {
    /// Takes so many numbers, from that one on, that no request will have.
    pub(crate) fn reserve(&self, count: u64) -> u64 {
        let mut state = lock(&self.state);
        let first = state.last_seq + 1;
        state.last_seq += count;
        first
    }
}
