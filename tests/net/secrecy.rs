//! Keys appear in no event, error, token, `Debug`, environment or argument.

use std::fs;

use lockkeeper::{Address, BoundedSemaphore, Manager, Pool};
use lockkeeper_test_support::{Roles, children_of, in_own_process, report};

use crate::{Site, log::Log, run, services::Squeeze};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("net::nobody", async |(): ()| report("nothing"));
}

/// The ways in which a key may be shown.
fn shapes(digits: &str) -> Vec<String> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    // Six bytes do not occur by chance.
    let six: Vec<_> = (8..20).step_by(2).map(byte).collect();
    let raw = six.iter().map(|byte| byte.escape_ascii().to_string());
    let list = |all: Vec<String>| all.join(", ");
    vec![
        digits[8..20].to_owned(),
        digits[8..20].to_uppercase(),
        list(six.iter().map(u8::to_string).collect()),
        list(six.iter().map(|byte| format!("{byte:#04x}")).collect()),
        list(six.iter().map(|byte| format!("{byte:x}")).collect()),
        raw.collect(),
    ]
}

#[test]
fn keys_appear_nowhere() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let site = Site::new();
            let text = fs::read_to_string(site.key()).unwrap();
            let (name, digits) = text.lines().last().unwrap().split_once(' ').unwrap();
            let builder = site.builder().listen("tls://127.0.0.1:0");
            let mut shown = vec![format!("{builder:?}")];
            let server = builder.spawn().await.unwrap();
            let endpoint: &Address = &server.endpoints()[0];
            let client = Manager::client().key_file(site.key());
            shown.push(format!("{client:?}"));
            let manager = client.connect(endpoint).await.unwrap();
            shown.push(format!("{server:?} {manager:?} {endpoint}"));
            let permits: BoundedSemaphore = manager.bounded_semaphore(2).await.unwrap();
            shown.push(format!("{permits:?}"));
            shown.push(serde_json::to_string(&permits).unwrap());
            let pool = Pool::new(2).await.unwrap();
            let squeezed = pool
                .try_map((0..4).map(|_| Squeeze(permits.clone())))
                .await
                .unwrap();
            shown.push(format!("{squeezed:?} {pool:?}"));
            shown.push(format!("{:?}", manager.inspect().await.unwrap()));
            // Errors of both sides, with a key that differs in its last digits.
            let other = Site::new();
            let wrong = format!("{name} {}{}", &digits[..62], "00");
            fs::write(other.key(), &wrong).unwrap();
            let refused = Manager::client().key_file(other.key()).label("x");
            let refused = refused.connect(endpoint).await.unwrap_err();
            shown.push(format!("{refused} {refused:?}"));
            for bad in [
                format!("{name}{digits}"),
                format!("{name} {digits}x"),
                format!("{wrong}\n{wrong}"),
            ] {
                fs::write(other.key(), bad).unwrap();
                let refused = Manager::client().key_file(other.key()).label("y");
                let refused = refused.connect(endpoint).await.unwrap_err();
                shown.push(format!("{refused} {refused:?}"));
                let builder = Manager::builder().state_folder(other.path("state"));
                let builder = builder.key_file(other.key()).listen("tls://127.0.0.1:0");
                shown.push(builder.start().await.map(drop).unwrap_err().to_string());
            }
            let children = children_of(std::process::id());
            assert!(children.len() >= 3, "{children:?}");
            for child in children.into_iter().chain([std::process::id()]) {
                for file in ["environ", "cmdline"] {
                    let bytes = fs::read(format!("/proc/{child}/{file}")).unwrap_or_default();
                    shown.push(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
            shown.push(log.text());
            let log = shown.last().unwrap();
            assert!(
                log.contains("session begun") || log.contains("connected"),
                "{log}"
            );
            for shape in shapes(digits) {
                for text in &shown {
                    assert!(!text.contains(&shape), "{shape} in {text}");
                }
            }
            // The check finds a key that is shown.
            for shown in [text.clone(), text.to_uppercase()] {
                assert!(shapes(digits).iter().any(|shape| shown.contains(shape)));
            }
        });
    });
}
