//! lockkeeper side by side with its floors and its peers, in one run: `cargo bench --bench compare -- --help`.
//!
//! Figures of this size drift from machine to machine and from minute to minute, so each round takes one sample of every
//! row, and a ratio is only ever formed between samples of the same round. Every party of a row is a process of its own,
//! started by this one: this same executable in a role, or python3.
//!
//! To add a row, add one value to `ROWS`. Invariant: a figure that was not measured is absent, never guessed.

#[path = "compare/floor.rs"]
mod floor;
#[path = "compare/ours.rs"]
mod ours;
#[path = "compare/party.rs"]
mod party;
#[path = "compare/peers.rs"]
mod peers;
#[path = "compare/report.rs"]
mod report;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use party::{Failure, Sample, Start, Step, Subject};
use report::{Absent, Figure, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io};

/// What is measured: a name, how it is brought about, in which unit, and the floor that it is set against.
struct Row {
    name: &'static str,
    unit: &'static str,
    start: fn(&Path) -> Step<'_, Start>,
    against: Against,
}

/// How a row's samples are read against the floor's samples of the same round.
#[derive(Clone, Copy)]
enum Against {
    /// The row is itself a floor: always measured, whatever `--only` says.
    Itself,
    /// The sample divided by the named floor's: less is better, for times.
    Times(&'static str),
    /// The named floor's sample divided by the row's: the share of the floor's rate that is reached, more is better.
    Share(&'static str),
}

const FLOOR: &str = "floor";
const RELAY_FLOOR: &str = "relay floor";

/// The rows, in the order in which each round takes them; a floor stands before the rows that are set against it.
const ROWS: &[Row] = &[
    Row {
        name: FLOOR,
        unit: "us a round trip",
        start: floor::round_trip,
        against: Against::Itself,
    },
    Row {
        name: RELAY_FLOOR,
        unit: "us a handoff",
        start: floor::relay,
        against: Against::Itself,
    },
    Row {
        name: "lock, uncontended",
        unit: "us a cycle",
        start: ours::alone,
        against: Against::Times(FLOOR),
    },
    Row {
        name: "lock, uncontended, release awaited",
        unit: "us a cycle",
        start: ours::alone_awaited,
        against: Against::Times(FLOOR),
    },
    Row {
        name: "lock, 2 processes contending",
        unit: "us a cycle",
        start: ours::contended,
        against: Against::Share(RELAY_FLOOR),
    },
    Row {
        name: "SyncManager lock, uncontended",
        unit: "us a cycle",
        start: peers::sync_manager_alone,
        against: Against::Times(FLOOR),
    },
    Row {
        name: "SyncManager lock, 2 processes contending",
        unit: "us a cycle",
        start: peers::sync_manager_contended,
        against: Against::Share(RELAY_FLOOR),
    },
];

/// No step (starting a row's processes, or one sample) may take longer than this.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// Compares lockkeeper with its floors and with Python's SyncManager, all measured alternately in one run.
#[derive(Parser)]
#[command(name = "compare")]
struct Options {
    /// Write the same figures to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take 3 rounds of 0.1 s a row instead of 7 of 0.3 s: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Measure only the floors and the rows whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Cargo passes this to every bench; it changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    // The parties come first: they are clients and floors, and must never be taken for a main program.
    let outcome = match words.split_first() {
        Some((mark, role)) if mark == party::MARK => play(role),
        _ => lockkeeper::program().run(compare()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one party's role in this process, on the kind of runtime that all Rust parties share.
fn play(role: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = role.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match words.as_slice() {
            [floor::ECHO, socket] => floor::echo(socket).await,
            [floor::ASKER, socket] => floor::ask(socket).await,
            [floor::RELAY, socket] => floor::forward_between_two(socket).await,
            [floor::MIRROR, socket] => floor::mirror(socket).await,
            [floor::STARTER, socket] => floor::start_handoffs(socket).await,
            [ours::CLIENT, cycle, address] => ours::client(cycle, address).await,
            _ => Err(format!("no party plays {words:?}").into()),
        }
    })
}

async fn compare() -> Result<(), Failure> {
    let options = Options::parse();
    let (rounds, window) = if options.quick {
        (3, Duration::from_millis(100))
    } else {
        (7, Duration::from_millis(300))
    };
    let place = tempfile::tempdir()?;
    let mut report = Report::new(rounds, window);
    let mut running = Vec::new();
    for row in chosen(options.only.as_deref())? {
        match within(row.name, (row.start)(place.path())).await? {
            Start::Ready(subject) => running.push(Running::new(row, subject)),
            Start::Absent(reason) => report.absent.push(Absent::new(row.name, reason)),
        }
    }
    take_rounds(&mut running, rounds, window).await?;
    for of in &running {
        report.figures.push(of.figure(&running)?);
    }
    report.print(&mut io::stdout().lock())?;
    if let Some(file) = options.json {
        let written = fs::write(&file, serde_json::to_string_pretty(&report)? + "\n");
        written.map_err(|failure| format!("cannot write {}: {failure}", file.display()))?;
    }
    Ok(())
}

/// The floors, and the rows that `--only` leaves.
fn chosen(only: Option<&str>) -> Result<Vec<&'static Row>, Failure> {
    let Some(part) = only else {
        return Ok(ROWS.iter().collect());
    };
    if !ROWS.iter().any(|row| row.name.contains(part)) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!(
            "no row's name contains {part:?}; there are: {}",
            names.join("; ")
        )
        .into());
    }
    let stays = |row: &&Row| matches!(row.against, Against::Itself) || row.name.contains(part);
    Ok(ROWS.iter().filter(stays).collect())
}

/// A row whose processes are up, with what it gave so far: one sample a round.
struct Running {
    row: &'static Row,
    subject: Box<dyn Subject>,
    samples: Vec<Sample>,
}

impl Running {
    fn new(row: &'static Row, subject: Box<dyn Subject>) -> Self {
        Self {
            row,
            subject,
            samples: Vec::new(),
        }
    }

    fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.value).collect()
    }

    fn figure(&self, all: &[Self]) -> Result<Figure, Failure> {
        let figure = Figure::new(self.row.name, self.row.unit, &self.samples);
        let floor_of = |name: &str| {
            let floor = all.iter().find(|other| other.row.name == name);
            floor.ok_or_else(|| format!("{}: its floor, {name}, is not a row", self.row.name))
        };
        Ok(match self.row.against {
            Against::Itself => figure,
            Against::Times(name) => figure.times(name, &floor_of(name)?.values()),
            Against::Share(name) => figure.share(name, &floor_of(name)?.values()),
        })
    }
}

/// Samples all rows in turn, round after round. The first round is not kept: it pays for cold caches and lazy set-up.
async fn take_rounds(
    running: &mut [Running],
    rounds: usize,
    window: Duration,
) -> Result<(), Failure> {
    let bar = progress((rounds + 1) * running.len())?;
    for round in 0..=rounds {
        for of in running.iter_mut() {
            bar.set_message(of.row.name);
            let sample = within(of.row.name, of.subject.sample(window)).await?;
            if round > 0 {
                of.samples.push(sample);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// A bar that indicatif draws on standard error when that is a terminal, and not at all otherwise. It has no ticker
/// thread, so it is redrawn between two samples only and never beside one.
fn progress(steps: usize) -> Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?;
    Ok(ProgressBar::new(steps.try_into()?).with_style(style))
}

/// Bounds a step, so that a party that hangs ends the run with the row's name; dropping the row then kills its parties.
async fn within<T>(row: &str, step: Step<'_, T>) -> Result<T, Failure> {
    match tokio::time::timeout(STEP_LIMIT, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(format!("{row}: {failure}").into()),
        Err(_) => Err(format!("{row}: no answer after {STEP_LIMIT:?}").into()),
    }
}
