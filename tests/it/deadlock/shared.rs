//! A custom kind with readers and writers that implements `survey`.

use std::{collections::BTreeMap, time::Duration};

use lockkeeper::{
    errors::Refusal,
    kind::{
        Call, CallId, HangUp, Holding, Operation, Operations, Parked, Part, Primitive, Proof,
        Serve, Survey, WaitQueue, Waiting,
    },
};
use serde::{Deserialize, Serialize};

/// Acquires for reading, together with other readers.
#[derive(Serialize, Deserialize)]
pub(crate) struct Read;

/// Acquires for writing, exclusively.
#[derive(Serialize, Deserialize)]
pub(crate) struct Write;

#[derive(Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) grant: Proof,
}

impl Operation for Read {
    const NAME: &'static str = "read";
    type Reply = ();
}

impl Operation for Write {
    const NAME: &'static str = "write";
    type Reply = ();
}

impl Operation for Release {
    const NAME: &'static str = "release";
    type Reply = ();
}

#[derive(Default)]
pub(crate) struct Shared {
    holders: BTreeMap<CallId, (u64, Duration)>,
    waiters: WaitQueue<Want>,
}

struct Want {
    call: Call<()>,
    units: u64,
}

impl Parked for Want {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

/// A writer holds all units, and a reader holds one.
fn mode(units: u64) -> &'static str {
    if units == 1 { "read" } else { "write" }
}

impl Shared {
    fn grant_all_that_fit(&mut self) {
        while let Some(want) = self.waiters.front() {
            let fits = match want.units {
                1 => self.holders.values().all(|(units, _)| *units == 1),
                _ => self.holders.is_empty(),
            };
            if !fits {
                return;
            }
            if let Some(Want { call, units }) = self.waiters.pop_front() {
                let since = call.outbox().now();
                self.holders.insert(call.id(), (units, since));
                call.reply(());
            }
        }
    }
}

impl Primitive for Shared {
    const KIND: &'static str = "shared";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Read>().on::<Write>().on::<Release>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiters.remove(id));
        self.holders.remove(&id);
        self.grant_all_that_fit();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiters.remove_session(ended.session);
        self.holders
            .retain(|grant, _| grant.session() != ended.session);
        self.grant_all_that_fit();
    }

    fn survey(&self) -> Survey {
        let holders = self.holders.iter();
        let waiters = self.waiters.iter();
        Survey {
            state: format!("{} inside", self.holders.len()),
            parts: vec![Part {
                key: None,
                units: Some(u64::MAX),
                holders: holders
                    .map(|(call, (units, since))| Holding {
                        call: *call,
                        units: *units,
                        mode: mode(*units),
                        since: *since,
                        fence: None,
                    })
                    .collect(),
                waiters: waiters
                    .map(|(_, want)| Waiting::new(&want.call, want.units, mode(want.units)))
                    .collect(),
                ..Part::default()
            }],
        }
    }
}

impl Serve<Read> for Shared {
    fn serve(&mut self, _: Read, call: Call<()>) {
        self.waiters.push(Want { call, units: 1 });
        self.grant_all_that_fit();
    }
}

impl Serve<Write> for Shared {
    fn serve(&mut self, _: Write, call: Call<()>) {
        let units = u64::MAX;
        self.waiters.push(Want { call, units });
        self.grant_all_that_fit();
    }
}

impl Serve<Release> for Shared {
    fn serve(&mut self, Release { grant }: Release, call: Call<()>) {
        if let Ok(grant) = call.verify(grant) {
            self.holders.remove(&grant);
        }
        call.reply(());
        self.grant_all_that_fit();
    }
}
