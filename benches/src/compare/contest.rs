//! A contest: one measured question and its contenders, which are sampled in turn, round after
//! round.
//!
//! All contenders are compared with the first one, which is a floor or a peer. A ratio is formed only between samples
//! of the same round. Invariant: a contender whose programs are not installed is left out, and the report does not
//! mention it.

use crate::pace::Pace;
use crate::party::{self, Failure, LEAD, Party};
use crate::report::{Figure, Outcome, Reads, Target};
use indicatif::ProgressBar;
use std::cell::Cell;
use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A question, its unit, its contenders, and the target of lockkeeper.
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) contenders: &'static [Contender],
    pub(crate) reads: Reads,
    pub(crate) target: Target,
}

/// A side, the cycle that its workers repeat, and the number of workers.
pub(crate) struct Contender {
    side: &'static Side,
    cycle: &'static str,
    workers: usize,
}

/// The processes of a floor, of lockkeeper or of a peer.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    /// The programs that must be installed.
    pub(crate) needs: &'static [&'static str],
    pub(crate) executable: Executable,
    /// The roles of the hosts, in order. They start before the workers, and are not measured.
    pub(crate) hosts: &'static [&'static str],
    /// The role of the workers.
    pub(crate) worker: &'static str,
    /// How long each process may take to end by itself before it is killed. Only a peer that leaves
    /// processes or memory behind when it is killed needs this.
    pub(crate) patience: Duration,
}

/// The program that runs the roles.
#[derive(Clone, Copy)]
pub(crate) enum Executable {
    /// This executable.
    Own,
    /// python3, with the text of a script as an argument: the bench needs no file at run time.
    Python(&'static str),
}

/// The name of the side that has targets.
pub(crate) const OURS: &str = "lockkeeper";

/// The time limit for each step: starting the processes, or one sample.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// A temporary folder for the sockets and files of all contenders. It is removed with this value.
pub(crate) struct Ground {
    folder: TempDir,
    taken: Cell<usize>,
}

impl Ground {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            taken: Cell::new(0),
        })
    }

    /// Returns a path that no other processes have.
    fn place(&self) -> PathBuf {
        self.taken.set(self.taken.get() + 1);
        self.folder.path().join(self.taken.get().to_string())
    }
}

impl Contender {
    pub(crate) const fn new(side: &'static Side, cycle: &'static str, workers: usize) -> Self {
        Self {
            side,
            cycle,
            workers,
        }
    }

    /// Returns whether its programs are installed.
    pub(crate) fn is_here(&self) -> bool {
        self.side.needs.iter().all(|program| is_installed(program))
    }

    /// Starts the hosts and then the workers, one after the other, so that the order of arrival is the same in
    /// every run.
    pub(crate) async fn start(&self, ground: &Ground) -> Result<Processes, Failure> {
        let place = ground.place();
        let place = place.to_str().ok_or("the folder's name is not text")?;
        let mut processes = Processes {
            workers: Vec::new(),
            hosts: Vec::new(),
            place: place.to_owned(),
        };
        for host in self.side.hosts {
            let host = Party::start(self.command(host, place)?, self.side.patience);
            processes.hosts.insert(0, host.await?);
        }
        for _ in 0..self.workers {
            let worker = Party::start(self.command(self.side.worker, place)?, self.side.patience);
            processes.workers.push(worker.await?);
        }
        Ok(processes)
    }

    fn command(&self, role: &str, place: &str) -> Result<Command, Failure> {
        let words = [role, place, self.cycle, &self.workers.to_string()];
        match self.side.executable {
            Executable::Own => party::role(&words),
            Executable::Python(script) => {
                let mut command = Command::new("python3");
                command.args(["-c", script]).args(words);
                Ok(command)
            }
        }
    }
}

fn is_installed(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The processes of one contender.
pub(crate) struct Processes {
    /// Declared before the hosts, because fields are dropped in this order: no worker should lose
    /// its host.
    workers: Vec<Party>,
    /// In reverse order of starting, for the same reason.
    hosts: Vec<Party>,
    place: String,
}

/// The result of one contender in one round.
pub(crate) struct Sample {
    /// Microseconds per cycle, over the cycles of all workers.
    value: f64,
    /// The slowest worker's share of all cycles, divided by an equal share.
    slowest: f64,
}

impl Processes {
    /// Returns the address of its host.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Returns the process that was started first.
    pub(crate) fn host(&self) -> Result<&Party, Failure> {
        Ok(self.hosts.last().ok_or("no process is a host")?)
    }

    /// Makes all workers repeat their cycle for about `length`, and returns the result.
    pub(crate) async fn sample(&mut self, length: Duration) -> Result<Sample, Failure> {
        let opens = SystemTime::now() + LEAD;
        for worker in &mut self.workers {
            worker.order(opens, length).await?;
        }
        let mut rates = Vec::new();
        for worker in &mut self.workers {
            let (cycles, elapsed) = worker.count().await?;
            rates.push(cycles as f64 / elapsed.as_secs_f64());
        }
        let all: f64 = rates.iter().sum();
        if all == 0.0 {
            return Err("not one cycle was completed in the window".into());
        }
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Sample {
            value: 1e6 / all,
            slowest: least * rates.len() as f64 / all,
        })
    }
}

/// A contender with running processes and its samples so far.
pub(crate) struct Runner {
    name: &'static str,
    processes: Processes,
    samples: Vec<Sample>,
}

impl Runner {
    pub(crate) fn new(name: &'static str, processes: Processes) -> Self {
        Self {
            name,
            processes,
            samples: Vec::new(),
        }
    }

    pub(crate) const fn processes(&self) -> &Processes {
        &self.processes
    }

    pub(crate) const fn processes_mut(&mut self) -> &mut Processes {
        &mut self.processes
    }

    /// Replaces its processes, and keeps the samples.
    pub(crate) fn replace_processes(&mut self, processes: Processes) {
        self.processes = processes;
    }

    /// Returns its samples as a figure.
    pub(crate) fn figure(&self, unit: &'static str) -> Figure {
        Figure::new(self.name, unit, self.values())
    }

    /// Adds to its figure the ratio to another contender's samples. A figure has no ratio to itself.
    pub(crate) fn set_against(&self, other: &Self, figure: Figure, reads: Reads) -> Figure {
        if self.name == other.name {
            return figure;
        }
        figure.against(other.name, &other.values(), reads)
    }

    fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.value).collect()
    }
}

/// Samples all runners in turn, round after round. The first round is discarded, because it includes cold caches and
/// lazy initialization.
pub(crate) async fn take_rounds(
    runners: &mut [Runner],
    pace: Pace,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    for round in 0..=pace.rounds {
        for runner in runners.iter_mut() {
            let sample = within(runner.name, runner.processes.sample(pace.window)).await?;
            if round > 0 {
                runner.samples.push(sample);
            }
            bar.tick();
        }
    }
    Ok(())
}

impl Contest {
    /// Starts all installed contenders, takes the rounds, and returns the outcome.
    pub(crate) async fn hold(
        &self,
        ground: &Ground,
        pace: Pace,
        bar: &ProgressBar,
    ) -> Result<Outcome, Failure> {
        let mut runners = Vec::new();
        for contender in self.contenders.iter().filter(|one| one.is_here()) {
            let name = contender.side.name;
            let processes = within(name, contender.start(ground)).await?;
            runners.push(Runner::new(name, processes));
        }
        take_rounds(&mut runners, pace, bar).await?;
        let measure = self.contenders.first().map(|first| first.side.name);
        let measure = runners.iter().find(|one| Some(one.name) == measure);
        let figures = runners.iter().map(|runner| {
            let mut figure = runner.figure(self.unit);
            if let Some(measure) = measure {
                figure = runner.set_against(measure, figure, self.reads);
            }
            if let (Target::FairRatio(_), 2..) = (self.target, runner.processes.workers.len()) {
                let slowest = runner.samples.iter().map(|sample| sample.slowest);
                figure = figure.slowest(slowest.collect());
            }
            if runner.name == OURS {
                figure = figure.aim(self.target);
            }
            figure
        });
        Ok(Outcome::new(self.name.to_owned(), figures.collect()))
    }
}

/// Limits the time of a step. If a party hangs, the run ends with an error that names it, and dropping
/// its processes kills it.
pub(crate) async fn within<T>(
    who: &str,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(STEP_LIMIT, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(format!("{who}: {failure}").into()),
        Err(_) => Err(format!("{who}: no answer after {STEP_LIMIT:?}").into()),
    }
}
