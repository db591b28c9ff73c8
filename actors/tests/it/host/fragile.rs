//! A kind that panics at a chosen place.
//!
//! Its callers wait, so that each panic must answer some callers.

use lockkeeper_actors::{
    Call, CallId, HangUp, Operation, Operations, Primitive, Refusal, Serve, WaitQueue,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// The place of the panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Breaks {
    Never,
    InServe,
    InWithdraw,
    InHangUp,
    InDrop,
    InServeAndDrop,
    InReply,
}

/// Waits for a `Strike`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Park;

/// Answers all waiting calls.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Strike;

/// Its reply cannot be encoded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bad;

/// Its `Deserialize` panics.
#[derive(Debug, Serialize)]
pub(crate) struct PanicsInDecode;

/// A reply whose `Serialize` panics or fails.
#[derive(Debug)]
pub(crate) struct BadReply {
    panics: bool,
}

impl Serialize for BadReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Some bytes are written before the failure.
        let mut tuple = serializer.serialize_tuple(2)?;
        ser::SerializeTuple::serialize_element(&mut tuple, "half a reply")?;
        assert!(!self.panics, "on purpose, in a reply");
        Err(ser::Error::custom("on purpose"))
    }
}

impl<'de> Deserialize<'de> for BadReply {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("there is no such reply"))
    }
}

impl<'de> Deserialize<'de> for PanicsInDecode {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("on purpose, in the arguments");
    }
}

impl Operation for Park {
    const NAME: &'static str = "park";
    type Reply = u32;
}

impl Operation for Strike {
    const NAME: &'static str = "strike";
    type Reply = ();
}

impl Operation for Bad {
    const NAME: &'static str = "bad";
    type Reply = BadReply;
}

impl Operation for PanicsInDecode {
    const NAME: &'static str = "poison";
    type Reply = ();
}

#[derive(Debug)]
pub(crate) struct Fragile {
    breaks: Breaks,
    parked: WaitQueue<Call<u32>>,
}

impl Fragile {
    fn breaks(&self, at: &[Breaks]) {
        assert!(!at.contains(&self.breaks), "on purpose, {:?}", self.breaks);
    }
}

impl Primitive for Fragile {
    const KIND: &'static str = "fragile";
    type Spec = Breaks;

    fn create(breaks: Breaks) -> Result<Self, Refusal> {
        let parked = WaitQueue::new();
        Ok(Self { breaks, parked })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Park>()
            .on::<Strike>()
            .on::<Bad>()
            .on::<PanicsInDecode>();
    }

    fn withdraw(&mut self, id: CallId) {
        self.breaks(&[Breaks::InWithdraw]);
        drop(self.parked.remove(id));
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.breaks(&[Breaks::InHangUp]);
        self.parked.remove_session(ended.session);
    }
}

impl Serve<Park> for Fragile {
    fn serve(&mut self, _: Park, call: Call<u32>) {
        self.parked.push(call);
    }
}

impl Serve<Strike> for Fragile {
    fn serve(&mut self, _: Strike, call: Call<()>) {
        self.breaks(&[Breaks::InServe, Breaks::InServeAndDrop]);
        while let Some(parked) = self.parked.pop_front() {
            parked.reply(7);
        }
        call.reply(());
    }
}

impl Serve<Bad> for Fragile {
    fn serve(&mut self, _: Bad, call: Call<BadReply>) {
        let panics = self.breaks == Breaks::InReply;
        call.reply(BadReply { panics });
    }
}

impl Serve<PanicsInDecode> for Fragile {
    fn serve(&mut self, _: PanicsInDecode, call: Call<()>) {
        call.reply(());
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.breaks(&[Breaks::InDrop, Breaks::InServeAndDrop]);
    }
}
