//! Questions to the manager about its objects, whatever their kinds.

use std::sync::Arc;

use lockkeeper_actors::codec;
use serde::de::DeserializeOwned;

use super::{Connection, OPEN_PATIENCE, Success, wrong_answer};
use crate::{CallError, inspect::survey::Question, wire::Request};

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
