//! The advice in an error that no manager was reached. It depends on the address and on the calling process.

use crate::{
    address::{Address, MEMORY, TLS},
    files::own_uid,
};

/// The process that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A worker of a pool.
    Worker,
    /// Any other process.
    Program,
}

/// Returns what the user can do if no manager was reached at an address.
pub(super) fn advice(address: &Address, asker: Asker) -> String {
    let uid = own_uid();
    if let Some(variable) = address.variable() {
        return format!(
            "the address is the one in {variable}: start a manager there, as by Address::from_env(), before \
             the programs that use it, or correct the variable"
        );
    }
    if address.parts().0 == MEMORY {
        return match asker {
            Asker::Worker => "an address in memory leads nowhere in a worker of a pool: start the manager \
                              by Manager::start() or with a name, which other processes reach, and pass its \
                              proxies as arguments"
                .to_owned(),
            Asker::Program => "an address in memory leads only to a manager of this process that is still \
                               kept: keep its handle, or start it with a name or a path if it is to be \
                               reached from other processes"
                .to_owned(),
        };
    }
    if address.parts().0 == TLS {
        return "start a manager that listens there (ManagerBuilder::listen), and keep its handle; between machines a \
                firewall may be in the way"
            .to_owned();
    }
    if address.is_unnamed() {
        return match asker {
            Asker::Worker => "the manager that this worker of a pool was given has ended: keep its handle \
                              in the program that submits tasks until they have ended"
                .to_owned(),
            Asker::Program => "a manager without a name ends with the process that started it, or when its \
                               handle is dropped: keep the handle, or give the manager a name or a path"
                .to_owned(),
        };
    }
    let place = match asker {
        Asker::Worker => {
            "this process is a worker of a pool: start the manager in the program that has \
                          the pool, or before it, and not in a task; "
        }
        Asker::Program => "",
    };
    if address.is_name() {
        return format!(
            "{place}start one of that name as uid {uid}, and keep its handle; a name is one manager for each \
             user on one machine, so in another container or as another user use the path of a socket"
        );
    }
    match address.path() {
        Some(_) => format!(
            "{place}start one with that path, and keep its handle; the folder has to be the same one for \
             both programs, as in containers that share it"
        ),
        None => format!("{place}start one at that address, and keep its handle"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_address_and_the_process() {
        let unnamed = Address::unused();
        let unnamed_in_memory = Address::unused_in_memory();
        for (address, asker, words) in [
            ("jobs", Asker::Program, "start one of that name"),
            (
                "jobs",
                Asker::Worker,
                "not in a task; start one of that name",
            ),
            (
                "/run/x/jobs.sock",
                Asker::Program,
                "start one with that path",
            ),
            (
                "/run/x/jobs.sock",
                Asker::Worker,
                "not in a task; start one with",
            ),
            (
                "memory:jobs",
                Asker::Program,
                "only to a manager of this process",
            ),
            ("memory:jobs", Asker::Worker, "leads nowhere in a worker"),
            ("wire:jobs", Asker::Program, "start one at that address"),
            (
                unnamed.as_str(),
                Asker::Program,
                "a manager without a name ends",
            ),
            (
                unnamed.as_str(),
                Asker::Worker,
                "has ended: keep its handle",
            ),
            (
                unnamed_in_memory.as_str(),
                Asker::Program,
                "of this process",
            ),
        ] {
            let told = advice(&address.parse().unwrap(), asker);
            assert!(told.contains(words), "{address} {asker:?}: {told}");
        }
    }
}
