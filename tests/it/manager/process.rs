//! The process that hosts a manager.

use lockkeeper::Manager;
use tokio::net::UnixStream;

/// Returns the id of the process that hosts a manager.
pub(crate) async fn pid_of(manager: &Manager) -> u32 {
    let stream = UnixStream::connect(manager.address().path().unwrap())
        .await
        .unwrap();
    let pid = stream.peer_cred().unwrap().pid().unwrap();
    pid.try_into().unwrap()
}
