//! The meaning of addresses, and the errors for invalid ones.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use lockkeeper::{Address, CallError, Manager, StartError, errors::AddressErrorKind};
use lockkeeper_test_support::{Role, Roles, report};

use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("addresses::visitor", visitor);
    roles.add("addresses::visitor_by_variable", visitor_by_variable);
}

/// Connects to a manager, and reports its address.
async fn visitor(address: String) {
    report(&match Manager::connect(address).await {
        Ok(manager) => manager.address().to_string(),
        Err(error) => error.to_string(),
    });
}

/// Connects to the manager in the environment variable, and reports its address.
async fn visitor_by_variable(_: ()) {
    let found = match Address::from_env() {
        Ok(address) => Manager::connect(address)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    report(&match found {
        Ok(manager) => manager.address().to_string(),
        Err(error) => error,
    });
}

/// Returns a unique name.
fn unique_name() -> String {
    format!("test-{}-{:x}", std::process::id(), rand::random::<u64>())
}

#[test]
fn name_is_the_same_manager_in_every_environment() {
    run(async {
        let name = unique_name();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let path = format!("/tmp/lockkeeper-{own}/{name}.sock");
        let builder = Manager::builder().address(&name);
        let manager = builder.start().await.unwrap();
        assert_eq!(manager.address().to_string(), path);
        let long = "/x".repeat(60);
        for environment in [
            &[][..],
            &[("XDG_RUNTIME_DIR", folder)],
            &[("TMPDIR", folder)],
            &[("XDG_RUNTIME_DIR", ""), ("TMPDIR", "relative")],
            &[("XDG_RUNTIME_DIR", "/nowhere"), ("TMPDIR", &long)],
            &[("HOME", folder), ("USER", "nobody")],
        ] {
            let mut visitor = Role::start_in(environment, "addresses::visitor", &name);
            assert_eq!(visitor.next_report(), path, "{environment:?}");
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    });
}

#[test]
fn variable_contains_the_address_and_errors_name_the_variable() {
    run(async {
        let name = unique_name();
        let visit = |value: Option<&str>| {
            let variable = value.map(|value| ("LOCKKEEPER_ADDRESS", value));
            let environment: Vec<_> = variable.into_iter().collect();
            Role::start_in(&environment, "addresses::visitor_by_variable", &()).next_report()
        };
        let manager = Manager::builder().address(&name).start().await.unwrap();
        assert_eq!(visit(Some(&name)), manager.address().to_string());
        let missing = unique_name();
        for (value, part) in [
            (None, "is not set"),
            (Some(""), "it is empty"),
            (Some("localhost:7000"), "tls://host:port"),
            (Some("/tmp/"), "it names a folder"),
            (Some(&*missing), "no manager at /tmp/lockkeeper-"),
            (
                Some("/nowhere/jobs.sock"),
                "no manager at /nowhere/jobs.sock",
            ),
            (
                Some("/etc/passwd/jobs.sock"),
                "/etc/passwd is a file of uid 0",
            ),
        ] {
            let shown = visit(value);
            assert!(shown.contains("LOCKKEEPER_ADDRESS"), "{value:?}: {shown}");
            assert!(shown.contains(part), "{value:?}: {shown}");
        }
    });
}

#[test]
fn path_of_another_file_is_refused_with_its_type() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let folder = folder.path().to_str().unwrap();
        for (path, words) in [
            (folder, "it is a folder of uid"),
            (file.to_str().unwrap(), "it is a file of uid"),
            ("/dev/null", "it is a device of uid 0"),
        ] {
            let connected = Manager::connect(path).await.map(drop);
            let shown = connected.unwrap_err().to_string();
            assert!(shown.contains(words), "{shown}");
            assert!(shown.contains("no socket"), "{shown}");
            assert!(!shown.contains("start one"), "{shown}");
        }
    });
}

#[test]
fn invalid_address_is_an_error_of_start_and_connect() {
    run(async {
        for (text, reason) in [
            ("127.0.0.1:7000", AddressErrorKind::MissingScheme),
            ("localhost:7000", AddressErrorKind::MissingScheme),
            ("[::1]:7000", AddressErrorKind::MissingScheme),
            ("tcp://localhost:7000", AddressErrorKind::Unprotected),
            ("", AddressErrorKind::Empty),
            (".", AddressErrorKind::IsADirectory),
            ("jobs\n", AddressErrorKind::ControlCharacter),
        ] {
            let expected = text.parse::<Address>().unwrap_err();
            assert_eq!(expected.kind, reason, "{text:?}");
            let connected = Manager::connect(text).await.map(drop);
            assert_eq!(connected, Err(CallError::Address(expected.clone())));
            let started = Manager::builder().address(text).start().await.map(drop);
            assert_eq!(started, Err(StartError::Address(expected.clone())));
            let spawned = Manager::builder().address(text).spawn().await.map(drop);
            assert_eq!(spawned, Err(StartError::Address(expected.clone())));
            let builder = Manager::builder().address(text);
            let in_memory = builder.in_memory(async |_| ()).await;
            assert_eq!(in_memory, Err(StartError::Address(expected)));
        }
        let raw = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/\xff.sock"));
        let started = Manager::builder().address(raw).start().await.map(drop);
        let shown = started.unwrap_err().to_string();
        assert!(shown.contains("it is not UTF-8"), "{shown}");
    });
}

#[test]
fn managers_without_an_address_read_no_variable() {
    // Several managers of one program would otherwise get the same address.
    run(async {
        let one = Manager::start().await.unwrap();
        let other = Manager::start().await.unwrap();
        assert_ne!(one.address(), other.address());
    });
}
