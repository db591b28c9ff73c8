//! Shows a barrier: the phases of a simulation in several processes.
//!
//!     cargo run --release --example phases
//!
//! Heat flows along a rod of 64 points. Each of four workers computes 16 points, and stores them in
//! a file for the others to read. In each phase a worker reads its points and their neighbours,
//! waits until all have read, writes its points, and waits until all have written. The last worker
//! to write runs the barrier's action, which reads the whole rod before any worker continues. At the
//! end the rod is compared with the result of a single process:
//!
//!     phase   0: warmest 100.00, mean 3.12
//!     ...
//!     200 phases by 4 processes, and the rod is what one process makes of it

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use lockkeeper::{Barrier, Manager, Pool, Task, errors::ActionError};
use serde::{Deserialize, Serialize};

const POINTS: usize = 64;
const WORKERS: usize = 4;
const STRIP: usize = POINTS / WORKERS;
const PHASES: u64 = 200;

/// Simulates one strip of the rod in all phases.
#[derive(Serialize, Deserialize)]
struct Heat {
    strip: usize,
    folder: PathBuf,
    has_read: Barrier,
    has_written: Barrier,
}

impl Task for Heat {
    const NAME: &'static str = "heat";
    type Output = Result<(), String>;

    async fn run(self) -> Self::Output {
        self.simulate().await.map_err(|error| error.to_string())
    }
}

impl Heat {
    async fn simulate(&self) -> Result<(), Box<dyn Error>> {
        for phase in 0..PHASES {
            let rod = read(&self.folder)?;
            let strip = heated(&rod, self.strip * STRIP..(self.strip + 1) * STRIP);
            // No party writes before all have read.
            self.has_read.wait().await?;
            write(&self.folder, self.strip, &strip)?;
            let folder = self.folder.clone();
            let look = move || async move { report(&folder, phase) };
            let passed = self.has_written.wait_with(look).await.map_err(to_error)?;
            if passed.generation() != phase {
                return Err(format!("phase {phase} was passage {}", passed.generation()).into());
            }
        }
        Ok(())
    }
}

fn to_error(error: ActionError<io::Error>) -> Box<dyn Error> {
    error.into()
}

/// The barrier's action, which the last worker to write runs before any worker continues.
fn report(folder: &Path, phase: u64) -> io::Result<()> {
    if phase.is_multiple_of(50) {
        let rod = read(folder)?;
        let warmest = rod.iter().copied().fold(0.0, f64::max);
        let mean = rod.iter().sum::<f64>() / POINTS as f64;
        println!("phase {phase:3}: warmest {warmest:.2}, mean {mean:.2}");
    }
    Ok(())
}

/// Computes some points of the rod one phase later. The ends of the rod lose no heat.
fn heated(rod: &[f64], points: std::ops::Range<usize>) -> Vec<f64> {
    points
        .map(|point| {
            let left = rod[point.saturating_sub(1)];
            let right = rod[(point + 1).min(POINTS - 1)];
            rod[point] + (left - 2.0 * rod[point] + right) / 4.0
        })
        .collect()
}

/// Returns the rod at the beginning, which is hot at one end.
fn cold_rod() -> Vec<f64> {
    let mut rod = vec![0.0; POINTS];
    rod[..2].fill(100.0);
    rod
}

fn read(folder: &Path) -> io::Result<Vec<f64>> {
    let mut rod = Vec::with_capacity(POINTS);
    for strip in 0..WORKERS {
        let points = fs::read(folder.join(strip.to_string()))?;
        let (points, _) = points.as_chunks::<8>();
        rod.extend(points.iter().map(|point| f64::from_le_bytes(*point)));
    }
    Ok(rod)
}

fn write(folder: &Path, strip: usize, points: &[f64]) -> io::Result<()> {
    let points: Vec<u8> = points
        .iter()
        .flat_map(|point| point.to_le_bytes())
        .collect();
    fs::write(folder.join(strip.to_string()), points)
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Heat>().run(async {
        let folder = tempfile::tempdir()?;
        for (strip, points) in cold_rod().chunks(STRIP).enumerate() {
            write(folder.path(), strip, points)?;
        }
        let manager = Manager::start().await?;
        let parties = u32::try_from(WORKERS)?;
        let has_read = manager.barrier(parties).await?;
        let has_written = manager.barrier(parties).await?;
        let pool = Pool::new(WORKERS).await?;
        let strips = (0..WORKERS).map(|strip| Heat {
            strip,
            folder: folder.path().to_owned(),
            has_read: has_read.clone(),
            has_written: has_written.clone(),
        });
        for strip in pool.try_map(strips).await? {
            strip?;
        }
        pool.join().await?;

        let alone = (0..PHASES).fold(cold_rod(), |rod, _| heated(&rod, 0..POINTS));
        if read(folder.path())? != alone {
            return Err("the rod is not what one process makes of it".into());
        }
        println!(
            "{PHASES} phases by {WORKERS} processes, and the rod is what one process makes of it"
        );
        Ok::<(), Box<dyn Error>>(())
    })
}
