//! Compares lockkeeper with its floors and its peers in one run: `cargo bench --manifest-path
//! benches/Cargo.toml --bench compare -- --help`.
//!
//! Figures of this size vary between machines and from minute to minute, so all contenders of a question are sampled
//! in turn, round after round, and a ratio is formed only between samples of the same round. Every party is a child
//! process: this executable in a role, python3, or an installed server.
//!
//! To add a row, add one value to `table.rs`. Invariant: a figure that was not measured is absent, never guessed.

mod contest;
mod crowd;
mod data;
mod floor;
mod load;
#[cfg(feature = "net")]
mod network;
mod ours;
mod pace;
mod party;
mod peers;
mod plot;
mod pool;
mod postgres;
mod raw_client;
mod redis;
mod report;
mod table;
mod together;

use clap::Parser;
use contest::{Contest, Ground};
use indicatif::{ProgressBar, ProgressStyle};
use load::Load;
use pace::Pace;
use party::Failure;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io};
use table::{CONTESTS, LOADS};

/// Compares lockkeeper with its floors and with its peers, all measured alternately in one run.
#[derive(Parser)]
#[command(name = "compare")]
struct Options {
    /// Write the same figures to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take 3 rounds of 0.1 s instead of 7 of 0.3 s, and a tenth of each load: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Measure only the rows whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Measure nothing but what one more client pays as loads grow, and draw it in docs/scale.svg
    #[arg(long, conflicts_with_all = ["json", "only"])]
    plot: bool,
    /// Cargo passes this to every bench. It has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // In managers and pool workers this call does not return. It returns in the parties, which are clients
    // and floors.
    pool::program().init();
    let words: Vec<String> = env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((mark, role)) if mark == party::MARK => {
            if role.first().is_some_and(|role| is_of_a_thread(role)) {
                lockkeeper::block_on(run_role(role))
            } else {
                run(run_role(role))
            }
        }
        _ => run(compare(Options::parse())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs on the kind of runtime that all Rust parties use, except those without a runtime.
fn run(main: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(main)
}

/// Returns whether a role has no runtime.
fn is_of_a_thread(role: &str) -> bool {
    #[cfg(feature = "net")]
    if role == network::THREAD_CLIENT {
        return true;
    }
    role == ours::THREAD_CLIENT
}

/// Runs a party's role in this process.
async fn run_role(words: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [role, place, cycle, number] = words[..] else {
        return Err(format!("a role, a place, a cycle and a number, not {words:?}").into());
    };
    let number = number.parse()?;
    match role {
        floor::ECHO => floor::echo(place).await,
        floor::ASKER => floor::ask(place).await,
        floor::RELAY => floor::forward_between_two(place).await,
        floor::MIRROR => floor::mirror(place).await,
        floor::STARTER => floor::start_handoffs(place, cycle).await,
        floor::SPAWNER => floor::spawn_bare().await,
        floor::BARE => floor::be_there().await,
        together::BARRIER => together::open_barrier(place, number).await,
        together::ARRIVER => together::arrive(place).await,
        together::SEMAPHORE => together::lend_permits(place).await,
        together::TAKER => together::take(place).await,
        ours::MANAGER => ours::host(place, 1).await,
        ours::MANAGER_OF_TWO => ours::host(place, 2).await,
        ours::CLIENT | ours::THREAD_CLIENT => ours::client(place, cycle, number).await,
        ours::WAITER => ours::wait(place).await,
        ours::SETTER => ours::set(place).await,
        ours::STARTER => ours::start(cycle).await,
        #[cfg(feature = "net")]
        network::ECHO => network::echo(place).await,
        #[cfg(feature = "net")]
        network::ASKER => network::ask(place).await,
        #[cfg(feature = "net")]
        network::MANAGER => network::host(place).await,
        #[cfg(feature = "net")]
        network::CLIENT | network::THREAD_CLIENT => network::client(place, cycle, number).await,
        pool::OWNER => pool::own(cycle, number).await,
        postgres::SERVER => postgres::serve(place).await,
        postgres::CLIENT => postgres::client(place, cycle).await,
        raw_client::RAW_CLIENT => raw_client::pipeline(place, cycle).await,
        redis::SERVER => redis::serve(place).await,
        redis::CLIENT => redis::client(place, cycle).await,
        crowd::CROWD => crowd::gather(place, cycle, number).await,
        other => Err(format!("no party has the role {other:?}").into()),
    }
}

/// The number of managers that are filled for one load.
const MANAGERS: usize = 3;

async fn compare(options: Options) -> Result<(), Failure> {
    let (rounds, window, managers) = if options.quick {
        (3, Duration::from_millis(100), 1)
    } else {
        (7, Duration::from_millis(300), MANAGERS)
    };
    let size = |load: &Load| {
        if options.quick {
            load.quick
        } else {
            load.count
        }
    };
    let pace = Pace { rounds, window };
    let ground = Ground::new()?;
    let bar = progress()?;
    if options.plot {
        return plot::draw(LOADS, size, &ground, pace, &bar).await;
    }
    let (contests, loads) = chosen(options.only.as_deref())?;
    bar.set_length((contests.len() + loads.len()).try_into()?);
    let mut report = Report::new(pace);
    for contest in contests {
        bar.set_message(contest.name);
        let outcome = contest.hold(&ground, pace, &bar).await?;
        report.outcomes.push(outcome);
        bar.inc(1);
    }
    for load in loads {
        let count = size(load);
        bar.set_message(load.title(count));
        match load.obstacle(count)? {
            Some(left_out) => report.left_out.push(left_out),
            None => {
                let outcome = load.put(count, managers, &ground, pace, &bar).await?;
                report.outcomes.push(outcome);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.print(&mut io::stdout().lock())?;
    if let Some(file) = options.json {
        let written = fs::write(&file, serde_json::to_string_pretty(&report)? + "\n");
        written.map_err(|failure| format!("cannot write {}: {failure}", file.display()))?;
    }
    Ok(())
}

/// Returns the rows that `--only` selects.
fn chosen(only: Option<&str>) -> Result<(Vec<&'static Contest>, Vec<&'static Load>), Failure> {
    let part = only.unwrap_or_default();
    let contests = CONTESTS.iter().filter(|row| row.name.contains(part));
    let loads = LOADS.iter().filter(|row| row.name.contains(part));
    let chosen: (Vec<_>, Vec<_>) = (contests.collect(), loads.collect());
    if chosen.0.is_empty() && chosen.1.is_empty() {
        let names = CONTESTS.iter().map(|row| row.name);
        let names: Vec<&str> = names.chain(LOADS.iter().map(|row| row.name)).collect();
        let names = names.join("; ");
        return Err(format!("no row's name contains {part:?}; there are: {names}").into());
    }
    Ok(chosen)
}

/// Makes a progress bar, which indicatif draws only if standard error is a terminal. It has no ticker thread, so it
/// is redrawn only between two samples and does not disturb one.
fn progress() -> Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?;
    Ok(ProgressBar::new(0).with_style(style))
}
