//! What a run found: the figures, as a table for a reader and as JSON for a program, both from the same values.
//!
//! Medians, since one disturbed round should not move a figure. Ratios are formed round by round, before the median is
//! taken. Knows nothing of how a figure was measured.

use crate::party::Sample;
use serde::Serialize;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// Everything that one run found.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Rounds kept; each gave one sample of every figure.
    rounds: usize,
    /// How long one sample lasted, in milliseconds.
    window_ms: u128,
    /// Cores that the machine lets this process use; left out where it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) absent: Vec<Absent>,
}

/// One row's result.
#[derive(Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    median: f64,
    /// Absent for a floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    /// Each client's median part of all cycles, from 0 to 1; empty when there was but one client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<f64>,
    runs: usize,
    /// One value a round, in order.
    samples: Vec<f64>,
}

/// A figure set against its floor.
#[derive(Serialize)]
struct Ratio {
    median: f64,
    /// The least and the greatest of all rounds: wide apart, they say that the machine was too busy to trust the median.
    range: [f64; 2],
    floor: &'static str,
    reads: Reads,
}

/// Which way a ratio is to be read.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reads {
    /// The figure divided by the floor: less is better.
    TimesTheFloor,
    /// The floor divided by the figure, which is the part of the floor's rate that was reached: more is better.
    ShareOfTheFloorsRate,
}

/// A row that was not measured.
#[derive(Serialize)]
pub(crate) struct Absent {
    name: &'static str,
    reason: String,
}

impl Absent {
    pub(crate) fn new(name: &'static str, reason: String) -> Self {
        Self { name, reason }
    }
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str, samples: &[Sample]) -> Self {
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        Self {
            name,
            unit,
            median: median(values.clone()),
            ratio: None,
            shares: shares(samples),
            runs: values.len(),
            samples: values,
        }
    }

    /// Sets the figure against a floor's samples of the same rounds: so many times the floor.
    pub(crate) fn times(self, floor: &'static str, floors: &[f64]) -> Self {
        self.against(floor, floors, Reads::TimesTheFloor)
    }

    /// Sets the figure against a floor's samples of the same rounds: such a share of the floor's rate.
    pub(crate) fn share(self, floor: &'static str, floors: &[f64]) -> Self {
        self.against(floor, floors, Reads::ShareOfTheFloorsRate)
    }

    fn against(mut self, floor: &'static str, floors: &[f64], reads: Reads) -> Self {
        let same_round = self.samples.iter().zip(floors);
        let ratios = same_round.map(|(value, floor)| match reads {
            Reads::TimesTheFloor => value / floor,
            Reads::ShareOfTheFloorsRate => floor / value,
        });
        let ratios: Vec<f64> = ratios.collect();
        self.ratio = Some(Ratio {
            range: [
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ],
            median: median(ratios),
            floor,
            reads,
        });
        self
    }

    /// The cells of the table's line, in the order of `HEADINGS`.
    fn cells(&self) -> [String; 6] {
        let ratio = self.ratio.as_ref().map(|ratio| match ratio.reads {
            Reads::TimesTheFloor => format!("{:.2} x {}", ratio.median, ratio.floor),
            Reads::ShareOfTheFloorsRate => format!("{:.2} of {}'s rate", ratio.median, ratio.floor),
        });
        let range = self.ratio.as_ref().map(|ratio| {
            let [least, greatest] = ratio.range;
            format!("{least:.2} to {greatest:.2}")
        });
        let shares: Vec<String> = self
            .shares
            .iter()
            .map(|share| format!("{:.1} %", share * 100.0))
            .collect();
        [
            self.name.to_owned(),
            format!("{:.2} {}", self.median, self.unit),
            ratio.unwrap_or_default(),
            range.unwrap_or_default(),
            shares.join(" / "),
            self.runs.to_string(),
        ]
    }
}

const HEADINGS: [&str; 6] = [
    "",
    "median",
    "ratio",
    "in all rounds",
    "each client",
    "runs",
];

impl Report {
    pub(crate) fn new(rounds: usize, window: Duration) -> Self {
        Self {
            rounds,
            window_ms: window.as_millis(),
            cores: thread::available_parallelism().ok().map(usize::from),
            figures: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Writes the table, what is absent from it and why, and how many rounds were taken.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = vec![HEADINGS.map(str::to_owned)];
        lines.extend(self.figures.iter().map(Figure::cells));
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
        let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or_default());
        for line in &lines {
            let cells = line.iter().zip(widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(out, "{}", cells.join("  ").trim_end())?;
        }
        for absent in &self.absent {
            writeln!(out, "not measured: {}: {}", absent.name, absent.reason)?;
        }
        let cores = match self.cores {
            Some(1) => " on 1 core".to_owned(),
            Some(cores) => format!(" on {cores} cores"),
            None => String::new(),
        };
        writeln!(
            out,
            "{} rounds of {} ms a row{cores}, after one that was not kept",
            self.rounds, self.window_ms
        )
    }
}

/// The median share of each client; none when there was but one, whose share says nothing.
fn shares(samples: &[Sample]) -> Vec<f64> {
    let clients = samples.first().map_or(0, |sample| sample.shares.len());
    let share_of = |client: usize| {
        let shares = samples.iter().map(|sample| sample.shares[client]);
        median(shares.collect())
    };
    match clients {
        0 | 1 => Vec::new(),
        _ => (0..clients).map(share_of).collect(),
    }
}

/// The middle value, or the mean of the middle two; `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
