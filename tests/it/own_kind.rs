//! A complete custom kind in this file: a rack of numbered devices.
//!
//! A semaphore only counts free devices, and the rack returns a number. A caller waits in line,
//! optionally with a timeout. The device of a dead process goes to the next caller.

use std::{collections::HashMap, fs::File, path::PathBuf, time::Duration};

use futures::StreamExt;
use lockkeeper::{
    CallError, Manager, Pool, Proxy, Task,
    builders::Program,
    errors::Refusal,
    kind::{
        Call, CallId, Grant, HangUp, Operation, Operations, Primitive, Proof, Serve, WaitQueue,
    },
};
use lockkeeper_test_support::{Role, Roles, report};
use serde::{Deserialize, Serialize};

use crate::run;

/// The hosted object: a state machine without threads, clocks or sockets.
struct Rack {
    free: Vec<u32>,
    /// The taken devices, with the call that took each.
    taken: HashMap<u32, CallId>,
    waiting: WaitQueue<Call<u32>>,
}

/// Takes a device, and waits if none is free.
#[derive(Serialize, Deserialize)]
struct Take;

impl Operation for Take {
    const NAME: &'static str = "take";
    type Reply = u32;
}

/// Returns the device that a call took.
#[derive(Serialize, Deserialize)]
struct GiveBack(Proof);

impl Operation for GiveBack {
    const NAME: &'static str = "give_back";
    type Reply = ();
}

impl Rack {
    /// Grants free devices to waiting calls.
    fn hand_out(&mut self) {
        while let Some(&device) = self.free.last()
            && let Some(call) = self.waiting.pop_front()
        {
            self.free.pop();
            self.taken.insert(device, call.id());
            call.reply(device);
        }
    }

    /// Takes devices back, and grants them to waiting calls.
    fn take_back(&mut self, is_over: impl Fn(CallId) -> bool) {
        let back = self.taken.extract_if(|_, taker| is_over(*taker));
        self.free.extend(back.map(|(device, _)| device));
        self.hand_out();
    }
}

impl Primitive for Rack {
    const KIND: &'static str = "own_kind::rack";
    type Spec = u32;

    fn create(devices: u32) -> Result<Self, Refusal> {
        if devices == 0 {
            return Err(Refusal::Invalid("a rack has one device or more".to_owned()));
        }
        Ok(Self {
            free: (0..devices).rev().collect(),
            taken: HashMap::new(),
            waiting: WaitQueue::new(),
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Take>().on::<GiveBack>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiting.remove(id));
        self.take_back(|taker| taker == id);
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiting.remove_session(ended.session);
        self.take_back(|taker| taker.session() == ended.session);
    }
}

impl Serve<Take> for Rack {
    fn serve(&mut self, _: Take, call: Call<u32>) {
        self.waiting.push(call);
        self.hand_out();
    }
}

impl Serve<GiveBack> for Rack {
    fn serve(&mut self, GiveBack(grant): GiveBack, call: Call<()>) {
        match call.verify(grant) {
            Ok(grant) => {
                call.record_end(grant);
                self.take_back(|taker| taker == grant);
                call.reply(());
            }
            Err(refusal) => call.refuse(refusal),
        }
    }
}

/// The proxy of a rack.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Devices(Proxy<Rack>);

impl Devices {
    /// Waits for a device with a timeout.
    async fn take(&self, timeout: Duration) -> Result<Device, CallError> {
        let (number, grant) = self.0.hold(Take).timeout(timeout).await?;
        Ok(Device { number, grant })
    }
}

/// A device. Dropping it returns the device to the rack.
struct Device {
    number: u32,
    grant: Grant<Rack>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.grant.cast(&GiveBack(self.grant.proof()));
    }
}

/// Longer than every test.
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn register(program: Program) -> Program {
    program.register::<Rack>().task::<Use>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("own_kind::holder", async |devices: Devices| {
        let device = devices.take(LONG).await.unwrap();
        report(&device.number.to_string());
        std::future::pending::<()>().await;
    });
    roles.add(
        "own_kind::giver",
        async |(devices, grant): (Devices, Proof)| {
            devices.0.call(GiveBack(grant)).await.unwrap();
            report("gave back");
        },
    );
}

/// Uses a device in a worker process, and checks with a file lock that no other process has it.
#[derive(Debug, Serialize, Deserialize)]
struct Use {
    devices: Devices,
    folder: PathBuf,
}

impl Task for Use {
    const NAME: &'static str = "own_kind::use";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        let device = self.devices.take(LONG).await?;
        let witness = File::create(self.folder.join(device.number.to_string())).unwrap();
        witness.try_lock().expect("no other process has the device");
        // Long enough to detect another holder of the device.
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(witness);
        Ok(device.number)
    }
}

#[test]
fn spawned_manager_hosts_it_for_the_workers_of_a_pool() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let manager = Manager::spawn().await.unwrap();
        let devices = Devices(manager.open(2).await.unwrap());
        let pool = Pool::new(3).await.unwrap();
        let uses = (0..60).map(|_| Use {
            devices: devices.clone(),
            folder: folder.path().to_owned(),
        });
        let used: Vec<u32> = pool
            .imap(uses)
            .map(|device| device.unwrap().unwrap())
            .collect()
            .await;
        assert_eq!(used.len(), 60);
        assert!(used.iter().all(|device| *device < 2), "{used:?}");
    });
}

#[test]
fn device_of_a_killed_process_goes_to_the_next_waiter() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let devices = Devices(manager.open(1).await.unwrap());
        let mut holder = Role::start("own_kind::holder", &devices);
        assert_eq!(holder.next_report(), "0");
        let next = devices.take(LONG);
        holder.kill();
        assert_eq!(next.await.unwrap().number, 0);
    });
}

#[test]
fn another_process_returns_a_device_with_a_ticket_and_not_with_a_call_number() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let devices = Devices(manager.open(1).await.unwrap());
        let device = devices.take(LONG).await.unwrap();
        for grant in [device.grant.proof(), device.grant.signed_proof()] {
            let is_ticket = matches!(grant, Proof::Signed(_));
            let mut giver = Role::start("own_kind::giver", &(&devices, grant));
            assert_eq!(giver.next_report(), "gave back");
            let next = devices.take(Duration::ZERO).await;
            assert_eq!(next.is_ok(), is_ticket);
            assert_eq!(device.grant.is_valid(), !is_ticket);
        }
        device.grant.lost().await;
    });
}

#[test]
fn refusal_of_a_kind_is_an_error_that_names_the_object() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let rack = manager.named("hall").open::<Rack>(1).await.unwrap();
        let other = Manager::start().await.unwrap();
        let theirs = Devices(other.open(1).await.unwrap());
        let foreign = theirs.take(LONG).await.unwrap().grant.signed_proof();
        let refused = rack.call(GiveBack(foreign)).await.unwrap_err();
        assert!(matches!(refused, CallError::Refused(Refusal::NotHeld, _)));
        let words = refused.to_string();
        let named = format!("{} \"hall\" refused the call: not held: ", Rack::KIND);
        assert!(words.starts_with(&named), "{words}");
    });
}

#[tokio::test(start_paused = true)]
async fn caller_that_timed_out_has_no_device_and_the_next_gets_it() {
    Manager::in_memory(async |manager| {
        let devices = Devices(manager.open(1).await.unwrap());
        let device = devices.take(LONG).await.unwrap();
        let late = devices.take(LONG).await.map(drop);
        assert_eq!(late, Err(CallError::timed_out()));
        let (next, ()) = tokio::join!(devices.take(LONG), async { drop(device) });
        assert_eq!(next.unwrap().number, 0);
        let refused = manager.open::<Rack>(0).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("one device"), "{refused}");
    })
    .await
    .unwrap();
}
