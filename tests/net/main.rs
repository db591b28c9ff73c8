//! Tests of managers at network addresses. They are a binary of their own, because only builds with the feature
//! `net` have them.

mod certificates;
mod endpoints;
mod leases;
mod log;
mod refusals;
mod rights;
mod secrecy;
mod services;

use std::{future::Future, path::PathBuf, time::Duration};

use lockkeeper::{Address, Manager, builders::ManagerBuilder, net::make_key_file};
use lockkeeper_test_support::Roles;
use tempfile::TempDir;

fn program() {
    services::register(lockkeeper::program()).in_test("children");
}

/// Runs a test that may have child processes, on a runtime of two threads and under a watchdog.
fn run<F: Future>(test: F) -> F::Output {
    program();
    lockkeeper_test_support::run(test)
}

/// The entry of child processes: a worker, a manager, or a role of a test.
#[test]
fn children() {
    let mut roles = Roles::new();
    program();
    services::roles(&mut roles);
    secrecy::roles(&mut roles);
    roles.end();
}

/// The shortest lease.
const LEASE: Duration = Duration::from_secs(2);

/// A folder with a key file and a state folder.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        make_key_file(site.key()).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> PathBuf {
        self.path("key")
    }

    /// A manager with that key, and without an endpoint yet.
    fn builder(&self) -> ManagerBuilder {
        let builder = Manager::builder().lease(LEASE);
        let builder = builder.state_folder(self.path("state"));
        builder.key_file(self.key())
    }

    /// Starts a manager at a free port of the loopback device.
    async fn start(&self) -> Manager {
        let builder = self.builder().listen("tls://127.0.0.1:0");
        builder.start().await.unwrap()
    }

    /// Connects to an endpoint with the key of this site.
    async fn connect(&self, endpoint: &Address) -> Result<Manager, lockkeeper::CallError> {
        Manager::client()
            .key_file(self.key())
            .connect(endpoint)
            .await
    }
}

/// The address of an endpoint without its fingerprint.
fn unpinned(endpoint: &Address) -> Address {
    let text = endpoint.to_string();
    let (plain, _) = text.split_once('#').unwrap();
    plain.parse().unwrap()
}

/// The port of an endpoint.
fn port(endpoint: &Address) -> u16 {
    let text = unpinned(endpoint).to_string();
    text.rsplit_once(':').unwrap().1.parse().unwrap()
}
