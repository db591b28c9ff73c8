//! Shows a custom kind: a rack of numbered devices, for example graphics cards. A semaphore only
//! counts free devices, and the rack returns a number.
//!
//!     cargo run --release --example custom_kind
//!
//! Twelve tasks in five processes share three devices. A task waits in a queue if no device is free.
//! If a process dies, its device goes to the next task. The program prints one line per task, and
//! last that all devices are back:
//!
//!     task  0 had device 0 in worker 4711
//!     a device was lost: worker process 4713 ended before it had a result: the task may have been run or not
//!     ...
//!     11 tasks had a device each, 1 died with one, and all 3 are back

use std::{collections::HashMap, error::Error, fs::File, path::PathBuf, process, time::Duration};

use futures::{StreamExt, future::try_join_all};
use lockkeeper::{
    CallError, Manager, Pool, Proxy, Task,
    errors::Refusal,
    kind::{
        Call, CallId, Grant, HangUp, Operation, Operations, Primitive, Proof, Serve, WaitQueue,
    },
};
use serde::{Deserialize, Serialize};

const DEVICES: u32 = 3;
const TASKS: u32 = 12;
const WORKERS: usize = 5;
/// The task that dies with its device.
const DOOMED: u32 = 4;

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

/// Returns the device that a call took.
#[derive(Serialize, Deserialize)]
struct GiveBack(Proof);

impl Operation for Take {
    const NAME: &'static str = "take";
    type Reply = u32;
}

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
    const KIND: &'static str = "rack";
    type Spec = u32;

    fn create(devices: u32) -> Result<Self, Refusal> {
        if devices == 0 {
            let why = "a rack has at least one device, not 0";
            return Err(Refusal::Invalid(why.to_owned()));
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

    /// The caller of `id` no longer waits, and may not have seen an answer.
    fn withdraw(&mut self, id: CallId) {
        drop(self.waiting.remove(id));
        self.take_back(|taker| taker == id);
    }

    /// A process has ended.
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
#[derive(Clone, Serialize, Deserialize)]
struct Devices(Proxy<Rack>);

impl Devices {
    /// Waits for a device, for at most ten seconds.
    async fn take(&self) -> Result<Device, CallError> {
        let (number, grant) = self.0.hold(Take).timeout(Duration::from_secs(10)).await?;
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

/// A task that uses a device for a while.
#[derive(Serialize, Deserialize)]
struct Job {
    number: u32,
    devices: Devices,
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Done {
    number: u32,
    device: u32,
    worker: u32,
}

impl Task for Job {
    const NAME: &'static str = "job";
    type Output = Result<Done, CallError>;

    async fn run(self) -> Self::Output {
        let device = self.devices.take().await?;
        if self.number == DOOMED {
            process::exit(1);
        }
        // Checks the result without relying on the rack: only one process can lock the file.
        let witness = File::create(self.folder.join(device.number.to_string()))
            .expect("the witness is a file of this example");
        witness.try_lock().expect("no other process has the device");
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(witness);
        Ok(Done {
            number: self.number,
            device: device.number,
            worker: process::id(),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program()
        .register::<Rack>()
        .task::<Job>()
        .run(async {
            let folder = tempfile::tempdir()?;
            let manager = Manager::spawn().await?;
            let devices = Devices(manager.open::<Rack>(DEVICES).await?);
            let pool = Pool::new(WORKERS).await?;

            let jobs = (0..TASKS).map(|number| Job {
                number,
                devices: devices.clone(),
                folder: folder.path().to_owned(),
            });
            let (mut done, mut died) = (0, 0);
            let mut outcomes = pool.imap_unordered(jobs);
            while let Some((_, outcome)) = outcomes.next().await {
                match outcome {
                    Err(error) if error.exit().is_some() => {
                        println!("a device was lost: {error}");
                        died += 1;
                    }
                    outcome => {
                        let Done {
                            number,
                            device,
                            worker,
                        } = outcome??;
                        println!("task {number:>2} had device {device} in worker {worker}");
                        done += 1;
                    }
                }
            }
            pool.join().await?;

            let all = try_join_all((0..DEVICES).map(|_| devices.take())).await?;
            let back = all.len();
            println!(
                "{done} tasks had a device each, {died} died with one, and all {back} are back"
            );
            if (done, died) != (TASKS - 1, 1) {
                return Err("one task was to die, and no other".into());
            }
            Ok(())
        })
}
