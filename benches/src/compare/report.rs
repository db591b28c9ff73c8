//! The report of a run: the same figures as a table and as JSON.
//!
//! Figures are medians, so that one disturbed round does not change them. Ratios are formed round by round, before
//! the median is taken. This file does not depend on how a figure was measured.

use crate::pace::Pace;
use serde::Serialize;
use std::io::{self, Write};
use std::thread;

/// The results of one run.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The number of rounds that were kept. Each has one sample of every contender.
    rounds: usize,
    /// The length of one sample in milliseconds.
    window_ms: u128,
    /// The cores that this process may use, if the system reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The result of one contest or one load.
#[derive(Serialize)]
pub(crate) struct Outcome {
    name: String,
    figures: Vec<Figure>,
}

/// One contender's result.
#[derive(Serialize)]
pub(crate) struct Figure {
    of: &'static str,
    unit: &'static str,
    median: f64,
    /// `None` for the contender that the others are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    /// The median of the slowest client's share of all cycles, where 1 is an equal share.
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Aim>,
    runs: usize,
    /// One value per round, in order.
    samples: Vec<f64>,
}

/// The ratio of a figure to another one.
#[derive(Serialize)]
struct Ratio {
    median: f64,
    /// The least and the greatest ratio of all rounds. If they differ widely, the machine was too busy for a reliable
    /// median.
    range: [f64; 2],
    against: &'static str,
    reads: Reads,
}

/// The direction of a ratio.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reads {
    /// The figure divided by the other: less is better.
    Times,
    /// The other divided by the figure, which is the ratio of the rates: more is better.
    Rate,
}

/// A target of lockkeeper.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    None,
    /// The ratio: at most so many times, or at least this rate.
    Ratio(f64),
    /// As `Ratio`, and no client is slower than `FAIR`.
    FairRatio(f64),
    /// The figure itself, at most.
    Figure(f64),
}

/// The least share of the slowest client, where 1 is an equal share.
const FAIR: f64 = 0.95;

/// A target, and whether the figure reached it.
#[derive(Serialize)]
struct Aim {
    says: String,
    is_reached: bool,
}

/// A row that was not measured, and the reason.
#[derive(Serialize)]
pub(crate) struct LeftOut {
    name: String,
    reason: String,
}

impl LeftOut {
    pub(crate) const fn new(name: String, reason: String) -> Self {
        Self { name, reason }
    }
}

impl Outcome {
    pub(crate) const fn new(name: String, figures: Vec<Figure>) -> Self {
        Self { name, figures }
    }

    /// Returns the ratio of the last figure that has one.
    pub(crate) fn last_ratio(&self) -> Option<f64> {
        let mut ratios = self
            .figures
            .iter()
            .rev()
            .filter_map(|one| one.ratio.as_ref());
        ratios.next().map(|ratio| ratio.median)
    }
}

impl Figure {
    /// Makes a figure from at least one sample.
    pub(crate) fn new(of: &'static str, unit: &'static str, samples: Vec<f64>) -> Self {
        Self {
            of,
            unit,
            median: median(samples.clone()),
            ratio: None,
            slowest: None,
            target: None,
            runs: samples.len(),
            samples,
        }
    }

    /// Adds the ratio to another contender's samples of the same rounds.
    pub(crate) fn against(mut self, name: &'static str, others: &[f64], reads: Reads) -> Self {
        let same_round = self.samples.iter().zip(others);
        let ratios = same_round.map(|(value, other)| match reads {
            Reads::Times => value / other,
            Reads::Rate => other / value,
        });
        let ratios: Vec<f64> = ratios.collect();
        self.ratio = Some(Ratio {
            range: [
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ],
            median: median(ratios),
            against: name,
            reads,
        });
        self
    }

    /// Adds the slowest client's share of each round.
    pub(crate) fn slowest(mut self, parts: Vec<f64>) -> Self {
        self.slowest = Some(median(parts));
        self
    }

    /// Compares the figure with its target, if the target's value was measured.
    pub(crate) fn aim(mut self, target: Target) -> Self {
        let ratio = self.ratio.as_ref();
        let reaches = |least_or_most: f64| {
            ratio.map(|ratio| match ratio.reads {
                Reads::Times => (
                    format!("at most {least_or_most} x"),
                    ratio.median <= least_or_most,
                ),
                Reads::Rate => (
                    format!("at least {least_or_most} x"),
                    ratio.median >= least_or_most,
                ),
            })
        };
        let aim = match target {
            Target::None => None,
            Target::Ratio(bound) => reaches(bound),
            Target::FairRatio(bound) => reaches(bound).map(|(says, is_reached)| {
                let is_fair = self.slowest.is_none_or(|slowest| slowest >= FAIR);
                (
                    format!("{says}, slowest at least {FAIR}"),
                    is_reached && is_fair,
                )
            }),
            Target::Figure(most) => {
                Some((format!("at most {}", digits(most)), self.median <= most))
            }
        };
        self.target = aim.map(|(says, is_reached)| Aim { says, is_reached });
        self
    }

    /// Returns the cells of the table's row.
    fn cells(&self) -> [String; 4] {
        let ratio = self.ratio.as_ref().map(|ratio| {
            let rate = match ratio.reads {
                Reads::Times => "",
                Reads::Rate => "'s rate",
            };
            let [least, greatest] = ratio.range;
            let (median, against) = (digits(ratio.median), ratio.against);
            let (least, greatest) = (digits(least), digits(greatest));
            format!("{median} x {against}{rate} ({least} to {greatest})")
        });
        let slowest = self
            .slowest
            .map(|slowest| format!("slowest {slowest:.3} of its share"));
        let target = self.target.as_ref().map(|aim| {
            let verdict = if aim.is_reached { "reached" } else { "MISSED" };
            format!("{}: {verdict}", aim.says)
        });
        let notes: Vec<String> = [slowest, target].into_iter().flatten().collect();
        [
            format!("  {}", self.of),
            format!("{} {}", digits(self.median), self.unit),
            ratio.unwrap_or_default(),
            notes.join("; "),
        ]
    }
}

impl Report {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            rounds: pace.rounds,
            window_ms: pace.window.as_millis(),
            cores: thread::available_parallelism().ok().map(usize::from),
            outcomes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Writes the table, the rows that were left out with the reasons, and the number of rounds.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let lines = |outcome: &Outcome| outcome.figures.iter().map(Figure::cells).collect();
        let tables: Vec<Vec<[String; 4]>> = self.outcomes.iter().map(lines).collect();
        let width = |column: usize| tables.iter().flatten().map(|line| line[column].len()).max();
        let widths: [usize; 4] = std::array::from_fn(|column| width(column).unwrap_or_default());
        for (outcome, table) in self.outcomes.iter().zip(&tables) {
            writeln!(out, "{}", outcome.name)?;
            for line in table {
                let cells = line.iter().zip(widths);
                let cells: Vec<String> = cells
                    .map(|(cell, width)| format!("{cell:width$}"))
                    .collect();
                writeln!(out, "{}", cells.join("  ").trim_end())?;
            }
        }
        for left_out in &self.left_out {
            writeln!(out, "left out: {}: {}", left_out.name, left_out.reason)?;
        }
        let cores = match self.cores {
            Some(1) => " on 1 core".to_owned(),
            Some(cores) => format!(" on {cores} cores"),
            None => String::new(),
        };
        writeln!(
            out,
            "medians of {} rounds of {} ms a contender{cores}, after one that was not kept; in parentheses the least and \
             the greatest of all rounds",
            self.rounds, self.window_ms
        )
    }
}

/// Formats a value with three significant digits, and all digits before the point.
fn digits(value: f64) -> String {
    let before = if value == 0.0 {
        1.0
    } else {
        value.abs().log10().floor() + 1.0
    };
    let behind = (3.0 - before).clamp(0.0, 4.0) as usize;
    format!("{value:.behind$}")
}

/// Returns the middle value, or the mean of the middle two. `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
