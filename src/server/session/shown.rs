//! Hides the names and processes of others in a fault from a client whose key is for names with a prefix.

use lockkeeper_protocol::{Caller, Claim, Deadlock, Fault, Peer};

use crate::access::Principal;

/// The text that replaces what a client may not see.
const HIDDEN: &str = "(not shown)";

/// Returns a fault as a client may see it. Only a deadlock names other objects than that of the call.
pub(super) fn shown_to(principal: &Principal, fault: Fault) -> Fault {
    match (principal.prefix(), fault) {
        (Some(prefix), Fault::Deadlock(mut deadlock)) => {
            hide(&mut deadlock, prefix);
            Fault::Deadlock(deadlock)
        }
        (Some(_) | None, fault) => fault,
    }
}

fn hide(deadlock: &mut Deadlock, prefix: &str) {
    for Caller {
        process,
        holds,
        waits,
        ..
    } in &mut deadlock.members
    {
        let wants = waits.iter_mut().map(|wait| &mut wait.wants);
        let mut is_known = false;
        for claim in holds.iter_mut().chain(wants) {
            // An object without a name may be of any client, so it is not shown either.
            if claim.name.starts_with(prefix) {
                is_known = true;
            } else {
                hide_claim(claim);
            }
        }
        if !is_known {
            *process = Peer::new(0, HIDDEN, "");
        }
    }
}

fn hide_claim(claim: &mut Claim) {
    HIDDEN.clone_into(&mut claim.name);
    claim.key = claim.key.as_ref().map(|_| HIDDEN.to_owned());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_protocol::WaitsFor;

    use crate::peer_rights::PeerRights;

    use super::*;

    fn claim(name: &str) -> Claim {
        let mut claim = Claim::new("keyed_lock".to_owned(), name.to_owned(), 1, Duration::ZERO);
        claim.key = Some(format!("key of {name}"));
        claim
    }

    fn member(program: &str, holds: &str, wants: &str) -> Caller {
        let process = Peer::new(7, program, "");
        let waits = vec![WaitsFor::new(claim(wants), Vec::new(), None)];
        Caller::new(process, 1, vec![claim(holds)], waits)
    }

    #[test]
    fn confined_client_sees_its_part_of_a_deadlock_alone() {
        let members = vec![
            member("first", "ci/a", "ci/b"),
            member("second", "ci/b", "secret x"),
            member("stranger", "secret x", "#1.secret"),
            member("last", "#1.secret", "ci/a"),
        ];
        let fault = Fault::Deadlock(Box::new(Deadlock::new(members, 4)));
        let all = [None, Some(PeerRights::new("k"))];
        for rights in all {
            let shown = shown_to(&Principal::authenticated(rights), fault.clone());
            assert_eq!(shown, fault);
        }
        let confined = Principal::authenticated(Some(PeerRights::new("k").with_prefix("ci/")));
        let shown = shown_to(&confined, fault).to_string();
        for seen in [
            "ci/a",
            "ci/b",
            "key of ci/a",
            "first",
            "second",
            "last",
            HIDDEN,
        ] {
            assert!(shown.contains(seen), "{seen}: {shown}");
        }
        assert!(
            !shown.contains("of secret") && !shown.contains("\"secret x\""),
            "{shown}"
        );
        assert!(!shown.contains("1.secret"), "{shown}");
    }

    #[test]
    fn process_without_a_visible_object_is_hidden() {
        let mut deadlock = Deadlock::new(vec![member("a", "x", "y"), member("b", "ci/a", "y")], 2);
        hide(&mut deadlock, "ci/");
        let [hidden, seen] = &*deadlock.members else {
            panic!("two members");
        };
        assert_eq!(hidden.process, Peer::new(0, HIDDEN, ""));
        assert_eq!(seen.process.pid, 7);
    }
}
