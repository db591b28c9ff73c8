//! The parties of a measurement: child processes that work when told to, and the windows in which they do.
//!
//! One protocol of lines serves every party, Rust or Python. A party writes `ready` when it can be used. To each line
//! `START LENGTH` (Unix time and duration, in nanoseconds) it answers with `CYCLES ELAPSED` (a count and nanoseconds)
//! after the window. A party whose standard input ends goes away by itself, so none outlives a killed bench.
//!
//! Invariant: when a `Party` is dropped its process is gone, not merely told to go. Knows nothing of what the parties do.

use std::env;
use std::ffi::OsStr;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{ChildStdin, ChildStdout};

/// The first argument of an executable that is started to play a role.
pub(crate) const MARK: &str = "compare-party";

/// Orders are sent this long before their window opens, so that all workers of a row begin together.
const LEAD: Duration = Duration::from_millis(5);

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Something that takes a while and can fail, in a form that fits a table.
pub(crate) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>>;

/// What came of starting a row.
pub(crate) enum Start {
    /// Its processes are up.
    Ready(Box<dyn Subject>),
    /// The machine lacks what it needs; the reason is for the reader of the report.
    Absent(String),
}

/// What can be sampled again and again.
pub(crate) trait Subject {
    /// Lets it work for about `length`, and says what came of it.
    fn sample(&mut self, length: Duration) -> Step<'_, Sample>;
}

/// One round's figure of one row.
pub(crate) struct Sample {
    /// In the row's unit.
    pub(crate) value: f64,
    /// Each worker's part of all cycles, from 0 to 1, in the order in which the workers were started.
    pub(crate) shares: Vec<f64>,
}

/// Workers that repeat a cycle, and the host that they do it with. A sample is in microseconds a cycle, all workers'
/// cycles counted together.
pub(crate) struct Crew<H> {
    /// Before the host, since fields are dropped in this order: no worker should see its host die.
    workers: Vec<Party>,
    _host: H,
}

impl<H: 'static> Crew<H> {
    /// Starts the workers one after the other, so that each finds the same order of arrival in every run.
    pub(crate) async fn start(host: H, workers: Vec<Command>) -> Result<Start, Failure> {
        let mut started = Vec::new();
        for worker in workers {
            started.push(Party::start(worker).await?);
        }
        Ok(Start::Ready(Box::new(Self {
            workers: started,
            _host: host,
        })))
    }
}

impl<H> Subject for Crew<H> {
    fn sample(&mut self, length: Duration) -> Step<'_, Sample> {
        Box::pin(async move {
            let opens = SystemTime::now() + LEAD;
            for worker in &mut self.workers {
                worker.order(opens, length).await?;
            }
            let mut rates = Vec::new();
            for worker in &mut self.workers {
                rates.push(worker.rate().await?);
            }
            let all: f64 = rates.iter().sum();
            if all == 0.0 {
                return Err("not one cycle was completed in the window".into());
            }
            Ok(Sample {
                value: 1e6 / all,
                shares: rates.iter().map(|rate| rate / all).collect(),
            })
        })
    }
}

/// A child process, from the bench's side.
pub(crate) struct Party {
    process: Process,
    /// Open for as long as the party shall live.
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// A process that does not outlive this value.
struct Process(Child);

impl Drop for Process {
    /// Waits as well, so that the next row, and whoever looks after the run, finds no remains. A process that was killed
    /// ends at once; where killing fails it has ended already.
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Party {
    /// Starts the process and waits until it says that it is ready. What it writes to standard error is shown.
    pub(crate) async fn start(mut command: Command) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let orders = process.0.stdin.take();
        let answers = process.0.stdout.take();
        let orders = ChildStdin::from_std(orders.ok_or("a party has no standard input")?)?;
        let answers = ChildStdout::from_std(answers.ok_or("a party has no output")?)?;
        let mut party = Self {
            process,
            orders,
            answers: BufReader::new(answers).lines(),
        };
        match party.answer().await?.as_str() {
            "ready" => Ok(party),
            other => Err(format!(
                "process {} said {other:?} instead of \"ready\"",
                party.process.0.id()
            )
            .into()),
        }
    }

    async fn order(&mut self, opens: SystemTime, length: Duration) -> Result<(), Failure> {
        let opens = opens.duration_since(UNIX_EPOCH)?.as_nanos();
        let line = format!("{opens} {}\n", length.as_nanos());
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// The cycles a second that the party counted in the window it was last given.
    async fn rate(&mut self) -> Result<f64, Failure> {
        let answer = self.answer().await?;
        let (cycles, elapsed) = two_numbers(&answer)?;
        Ok(cycles as f64 / Duration::from_nanos(elapsed).as_secs_f64())
    }

    async fn answer(&mut self) -> Result<String, Failure> {
        let line = self.answers.next_line().await?;
        line.ok_or_else(|| format!("process {} ended before its time", self.process.0.id()).into())
    }
}

/// The command that starts this same executable in a role.
pub(crate) fn role(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(MARK).args(words);
    Ok(command)
}

/// What a party is told, from the party's side.
pub(crate) struct Orders {
    lines: Lines<BufReader<Stdin>>,
}

impl Orders {
    /// Tells the bench that this party is ready: from here on it may be used.
    pub(crate) fn announce() -> Result<Self, Failure> {
        say("ready")?;
        Ok(Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
        })
    }

    /// Waits for the next order and for its window to open; `None` when there are no more.
    ///
    /// The last milliseconds are slept away on the thread itself, because a runtime's timer is up to a millisecond
    /// late; nothing else has to run in a party before its window.
    pub(crate) async fn next(&mut self) -> Result<Option<Window>, Failure> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        let (opens, length) = two_numbers(&line)?;
        let opens = UNIX_EPOCH + Duration::from_nanos(opens);
        let closes = opens + Duration::from_nanos(length);
        if let Ok(ahead) = opens.duration_since(SystemTime::now()) {
            thread::sleep(ahead);
        }
        let left = closes.duration_since(SystemTime::now());
        let opened = Instant::now();
        Ok(Some(Window {
            opened,
            closes: opened + left.unwrap_or_default(),
        }))
    }

    /// Waits until the bench has no more use for this party: a host's whole duty, besides hosting.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        while self.lines.next_line().await?.is_some() {}
        Ok(())
    }
}

/// The time in which a worker repeats its cycle.
pub(crate) struct Window {
    opened: Instant,
    closes: Instant,
}

impl Window {
    pub(crate) fn is_open(&self) -> bool {
        Instant::now() < self.closes
    }

    /// Tells the bench how many cycles were completed from the opening until now.
    pub(crate) fn report(self, cycles: u64) -> Result<(), Failure> {
        let elapsed = self.opened.elapsed().as_nanos();
        say(&format!("{cycles} {elapsed}"))
    }
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn two_numbers(line: &str) -> Result<(u64, u64), Failure> {
    let (first, second) = line
        .split_once(' ')
        .ok_or_else(|| format!("expected two numbers, not {line:?}"))?;
    Ok((first.parse()?, second.parse()?))
}
