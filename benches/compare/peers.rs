//! The peers' rows: what others charge for the same cycle, when the machine has them.
//!
//! A peer that is missing, or that ends before it is ready, leaves its rows absent with the reason.
//! Python's SyncManager is played by `sync_manager.py`, its host and each client a python3 of its own.

use crate::party::{Crew, Failure, Party, Start, Step};
use std::path::Path;
use std::process::Command;

/// Handed to python3 as it stands, so that the bench needs no file at run time.
const SYNC_MANAGER: &str = include_str!("sync_manager.py");

/// One client of a SyncManager's lock.
pub(crate) fn sync_manager_alone(place: &Path) -> Step<'_, Start> {
    Box::pin(async move { Ok(sync_manager(&place.join("python-alone"), 1).await) })
}

/// Two clients that want the same lock of a SyncManager all the time.
pub(crate) fn sync_manager_contended(place: &Path) -> Step<'_, Start> {
    Box::pin(async move { Ok(sync_manager(&place.join("python-contended"), 2).await) })
}

async fn sync_manager(socket: &Path, clients: usize) -> Start {
    start(socket, clients)
        .await
        .unwrap_or_else(|failure| Start::Absent(format!("python3 did not start: {failure}")))
}

async fn start(socket: &Path, clients: usize) -> Result<Start, Failure> {
    let host = Party::start(python("host", socket)).await?;
    let clients = (0..clients).map(|_| python("client", socket)).collect();
    Crew::start(host, clients).await
}

fn python(role: &str, socket: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", SYNC_MANAGER]).arg(role).arg(socket);
    command
}
