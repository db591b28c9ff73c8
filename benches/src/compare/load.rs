//! A load: a manager that is filled with many objects, waiters or sessions, and what this costs in
//! memory, in time, and for one more client.
//!
//! The manager and the processes that fill it are separate processes. The cost for one more client is sampled
//! alternately with the same client of an empty manager.

use crate::contest::{Contender, Ground, Runner, take_rounds, within};
use crate::crowd::{self, CROWD};
use crate::ours;
use crate::pace::Pace;
use crate::party::{self, Failure, LEAD, Party};
use crate::report::{Figure, LeftOut, Outcome, Reads, Target};
use indicatif::ProgressBar;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

/// A load.
pub(crate) struct Load {
    /// The plural noun that follows the number.
    pub(crate) name: &'static str,
    /// The contents of the crowd.
    pub(crate) crowd: &'static str,
    pub(crate) count: usize,
    /// The size in a quick run.
    pub(crate) quick: usize,
    /// The number of processes that create the load.
    pub(crate) processes: usize,
    /// The target for the manager's memory per item.
    pub(crate) memory: Target,
    pub(crate) end: End,
}

/// The last step of a measurement.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// There is no last step.
    Quiet,
    /// The crowd is killed while another process waits for its locks.
    Inherited,
}

/// The target for the cost of one more client.
const ONE_MORE: Target = Target::Ratio(1.2);

/// Descriptors that a process needs in addition to those of a crowd.
const SPARE_FILES: u64 = 100;

const EMPTY: &str = "empty manager";
const FULL: &str = "one more client";
const CYCLE: &str = "us a cycle";
const MEMORY: &str = "manager's memory for each";

/// One client with its own lock.
const CLIENT: Contender = Contender::new(&ours::CLIENTS, ours::ALONE, 1);

/// The samples of all filled managers.
#[derive(Default)]
struct Samples {
    seconds: Vec<f64>,
    bytes: Vec<f64>,
    passing_on: Vec<f64>,
}

impl Load {
    /// Returns the title of the load with a number of items.
    pub(crate) fn title(&self, count: usize) -> String {
        format!("{} {}", grouped(count), self.name)
    }

    /// Returns the reason why this machine cannot run the load with `count` items, if it cannot.
    pub(crate) fn obstacle(&self, count: usize) -> Result<Option<LeftOut>, Failure> {
        if self.crowd != crowd::CONNECTIONS {
            return Ok(None);
        }
        let needed = u64::try_from(count)? + SPARE_FILES;
        Ok(party::raise_the_limit()?
            .filter(|most| *most < needed)
            .map(|most| {
                let reason = format!("a process may have {most} files at most, not {needed}");
                LeftOut::new(self.title(count), reason)
            }))
    }

    /// Fills managers one after the other, and returns the outcome.
    pub(crate) async fn put(
        &self,
        count: usize,
        managers: usize,
        ground: &Ground,
        pace: Pace,
        bar: &ProgressBar,
    ) -> Result<Outcome, Failure> {
        let mut samples = Samples::default();
        let empty = within(EMPTY, CLIENT.start(ground)).await?;
        let full = within(FULL, CLIENT.start(ground)).await?;
        let mut runners = [Runner::new(EMPTY, empty), Runner::new(FULL, full)];
        for manager in 0..managers {
            if manager > 0 {
                let [_, full] = &mut runners;
                full.replace_processes(within(FULL, CLIENT.start(ground)).await?);
            }
            self.fill(count, &mut runners, &mut samples, pace, bar)
                .await?;
        }
        let [empty, full] = &runners;
        let one_more = full.set_against(empty, full.figure(CYCLE), Reads::Times);
        let mut all = vec![
            Figure::new("in place after", "s", samples.seconds),
            Figure::new(MEMORY, "B", samples.bytes).aim(self.memory),
            empty.figure(CYCLE),
            one_more.aim(ONE_MORE),
        ];
        if let End::Inherited = self.end {
            let passing_on = samples.passing_on;
            all.push(Figure::new("all passed on after a kill", "s", passing_on));
        }
        Ok(Outcome::new(self.title(count), all))
    }

    /// Fills the manager of the second runner.
    async fn fill(
        &self,
        count: usize,
        runners: &mut [Runner; 2],
        samples: &mut Samples,
        pace: Pace,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let [_, full] = &mut *runners;
        // One sample first, so that the memory for the first client does not count for the load.
        within(FULL, full.processes_mut().sample(pace.window)).await?;
        let (address, manager) = (
            full.processes().place().to_owned(),
            full.processes().host()?.pid(),
        );
        let before = resident(manager)?;
        let mut crowd = Vec::new();
        for process in 0..self.processes {
            let part = (count + process) / self.processes;
            crowd.push(start(&address, self.crowd, part).await?);
        }
        samples
            .seconds
            .push(gather(&mut crowd).await?.as_secs_f64());
        let mut successors = Vec::new();
        if let End::Inherited = self.end {
            successors.push(start(&address, crowd::SUCCESSOR, count).await?);
            gather(&mut successors).await?;
        }
        let grown = resident(manager)?.saturating_sub(before);
        samples.bytes.push(grown as f64 / count as f64);
        take_rounds(runners, pace, bar).await?;
        if !successors.is_empty() {
            let begun = Instant::now();
            drop(crowd);
            gather(&mut successors).await?;
            samples.passing_on.push(begun.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Formats a number with separators: 10,000.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

async fn start(address: &str, what: &str, count: usize) -> Result<Party, Failure> {
    let command = party::role(&[CROWD, address, what, &count.to_string()])?;
    within(CROWD, Party::start(command, Duration::ZERO)).await
}

/// Makes all processes create their parts at the same time, and returns the time of the slowest.
async fn gather(crowd: &mut [Party]) -> Result<Duration, Failure> {
    let opens = SystemTime::now() + LEAD;
    for party in crowd.iter_mut() {
        party.order(opens, Duration::ZERO).await?;
    }
    let mut slowest = Duration::ZERO;
    for party in crowd {
        let (_, taken) = within(CROWD, party.count()).await?;
        slowest = slowest.max(taken);
    }
    Ok(slowest)
}

/// Returns the resident bytes of a process.
fn resident(process: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = kilobytes.ok_or("the system tells no VmRSS")?.parse()?;
    Ok(kilobytes * 1024)
}
