//! Text from other processes is printed on one line and without control sequences.

use std::{io::Write, os::unix::net::UnixStream, path::PathBuf, time::Duration};

use lockkeeper::{
    Address, CallError, Fence, Manager, StartError, TaskError,
    deadlock::{Caller, Claim, Deadlock, WaitsFor},
    errors::{BreakReason, Fault, FenceError, Refusal, TaskFault, WrongKind, WrongSpec},
    guards::Abandoned,
    inspect::{CallInfo, Key, ObjectInfo, PartInfo, Peer, Snapshot},
    kind::{Operations, Primitive, Survey},
};
use lockkeeper_protocol::{
    codec::{BlobRef, CodecError},
    frame::{Capabilities, Request, append},
    operations::{Acquire, AcquireKey},
};
use lockkeeper_test_support::until;
use unicode::is_shown;

use crate::run;

/// A name with terminal control sequences, line breaks and invisible characters.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\r\nb\tc\0\u{7f}\u{9b}31m\u{85}\u{202e}d\u{2066}e\u{2028}f\
                       \u{2029}g\u{200b}\u{200d}\u{feff}\u{ad}\u{e0041}h";

mod unicode {
    /// Returns whether a character is visible, and is neither a control or format character nor a line
    /// break. It uses ranges of Unicode, and not the code under test.
    pub(super) fn is_shown(c: char) -> bool {
        !matches!(
            u32::from(c),
            0..=0x1f
                | 0x7f..=0x9f
                | 0xad
                | 0x61c
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0xfeff
                | 0xfff9..=0xfffb
                | 0xe0000..=0xe007f
        )
    }
}

/// Checks that a text is one line, and shows the hostile name.
fn is_one_line(what: &str, shown: &str) {
    has_nothing_hidden(what, shown);
    assert!(
        shown.contains("\\u{202e}"),
        "{what} does not show the name: {shown:?}"
    );
}

fn has_nothing_hidden(what: &str, shown: &str) {
    let hidden: Vec<char> = shown.chars().filter(|c| !is_shown(*c)).collect();
    assert!(hidden.is_empty(), "{what} shows {hidden:?}: {shown:?}");
}

fn hostile() -> String {
    HOSTILE.to_owned()
}

fn peer() -> Peer {
    Peer::new(7, HOSTILE, HOSTILE)
}

fn claim() -> Claim {
    let mut claim = Claim::new(hostile(), hostile(), 2, Duration::ZERO);
    (claim.key, claim.mode) = (Some(hostile()), hostile());
    claim
}

fn deadlock() -> Deadlock {
    let wait = WaitsFor::new(claim(), vec![0], Some(0));
    let member = Caller::new(peer(), 1, vec![claim()], vec![wait]);
    Deadlock::new(vec![member], 1)
}

#[test]
fn reports_with_text_of_other_processes_are_one_line_each() {
    let call = {
        let mut call = CallInfo::default();
        (call.process, call.mode) = (peer(), hostile());
        call
    };
    let mut part = PartInfo::default();
    (part.key, part.held) = (Some(hostile()), 9);
    part.holders = vec![call.clone()];
    let mut object = ObjectInfo::default();
    (object.name, object.kind, object.state) = (hostile(), hostile(), hostile());
    object.parts = vec![part];
    let mut snapshot = Snapshot::default();
    snapshot.objects = vec![object.clone(); 2];

    is_one_line("a peer", &peer().to_string());
    let abandoned = Abandoned::new(peer(), Duration::ZERO, Fence::new(1));
    is_one_line("a mark", &abandoned.to_string());
    is_one_line("a call", &call.to_string());
    is_one_line("a claim", &claim().to_string());
    is_one_line("a deadlock", &deadlock().to_string());
    is_one_line("a key", &format!("{}", Key::from(HOSTILE)));
    is_one_line("an address", &address("/tmp/").to_string());
    // A table has a line of titles. An object has its own line, one for its holder, and one for the unlisted ones.
    let (object, snapshot) = (object.to_string(), snapshot.to_string());
    assert_eq!((object.lines().count(), snapshot.lines().count()), (4, 7));
    for line in object.lines().skip(1).chain(snapshot.lines().skip(1)) {
        is_one_line("a line of a table", line);
    }
}

/// Makes an address with those parts of the hostile text that an address may contain.
fn address(beginning: &str) -> Address {
    let text = HOSTILE.chars().filter(|letter| !letter.is_control());
    let text = format!("{beginning}{}", text.collect::<String>());
    text.parse().expect("the text has no control character")
}

#[test]
fn errors_are_one_line_each() {
    let faults = [
        Fault::UnknownObject(hostile()),
        Fault::UnknownKind(hostile()),
        Fault::UnknownOperation(hostile()),
        Fault::WrongKind(Box::new(WrongKind {
            name: hostile(),
            is: hostile(),
            asked: hostile(),
        })),
        Fault::WrongSpec(Box::new(WrongSpec {
            name: hostile(),
            kind: hostile(),
            is: hostile(),
            asked: hostile(),
        })),
        Fault::BadName(hostile()),
        Fault::WrongShard {
            name: hostile(),
            shard: 1,
        },
        Fault::BadArguments(hostile()),
        Fault::Refused(Refusal::Invalid(hostile())),
        Fault::Refused(Refusal::Broken(BreakReason::Died(peer().into()))),
        Fault::Refused(Refusal::WrongType {
            is: hostile(),
            asked: hostile(),
        }),
        Fault::Unencodable(hostile()),
        Fault::Limit {
            what: hostile(),
            most: 1,
        },
        Fault::Deadlock(Box::new(deadlock())),
    ];
    for fault in faults {
        is_one_line("a fault", &fault.to_string());
        is_one_line("an error", &CallError::from(fault).to_string());
    }
    let no_address = format!("/tmp/{HOSTILE}").parse::<Address>();
    is_one_line(
        "an error",
        &no_address.expect_err("control characters").to_string(),
    );
    let address = || address("memory:");
    let why = hostile;
    for error in [
        CallError::NoManager {
            address: address(),
            why: why(),
            advice: why(),
        },
        CallError::Disconnected {
            address: address(),
            why: why(),
        },
        CallError::Protocol(why()),
    ] {
        is_one_line("an error", &error.to_string());
    }
    for error in [
        StartError::AddressInUse { address: address() },
        StartError::BadAddress {
            address: address(),
            why: why(),
        },
        StartError::System(why()),
        StartError::ChildFailed(why()),
        StartError::InvalidSettings(why()),
    ] {
        is_one_line("an error", &error.to_string());
    }
    for fault in [
        TaskFault::Panicked(why()),
        TaskFault::NotRegistered(why()),
        TaskFault::Unreadable(why()),
        TaskFault::Broken(why()),
    ] {
        is_one_line("a task's fault", &TaskError::from(fault).to_string());
    }
    let path = || PathBuf::from(format!("/tmp/{}", HOSTILE.replace('\0', "")));
    for error in [
        FenceError::Corrupt {
            path: path(),
            why: why(),
        },
        FenceError::System {
            path: path(),
            why: why(),
        },
    ] {
        is_one_line("a fence's error", &error.to_string());
    }
    is_one_line("a codec's error", &CodecError::new(why()).to_string());
}

/// A kind whose state is a stored text.
struct Note(String);

impl Primitive for Note {
    const KIND: &'static str = "printed::note";
    type Spec = String;

    fn create(text: String) -> Result<Self, Refusal> {
        Ok(Self(text))
    }

    fn operations(_: &mut Operations<Self>) {}

    fn survey(&self) -> Survey {
        Survey {
            state: self.0.clone(),
            ..Survey::default()
        }
    }
}

/// Connects as a program with a hostile name, and acquires a lock and a key of objects with hostile
/// names.
fn connect_hostile(manager: &Manager, lock: &str, keyed: &str) -> UnixStream {
    let path = manager.address().path().expect("a socket");
    let mut stream = UnixStream::connect(path).expect("the manager accepts connections");
    let [acquire, key] = [
        lockkeeper_protocol::codec::encode(&Acquire).unwrap(),
        lockkeeper_protocol::codec::encode(&AcquireKey {
            key: HOSTILE.into(),
        })
        .unwrap(),
    ];
    let open = |seq, kind, name| Request::Open {
        seq,
        kind,
        name: Some(name),
        spec: None,
    };
    let call = |seq, object, arguments| Request::Call {
        seq,
        object,
        operation: 0,
        micros: None,
        arguments: BlobRef(arguments),
    };
    let hello = Request::Hello {
        version: 1,
        pid: 7,
        program: HOSTILE,
        label: HOSTILE,
        capabilities: Capabilities::NONE,
        former: None,
    };
    let mut bytes = Vec::new();
    for request in [
        hello,
        open(1, "lock", lock),
        open(2, "keyed_lock", keyed),
        call(3, 0, &acquire),
        call(4, 1, &key),
    ] {
        append(&mut bytes, &request, usize::MAX).unwrap();
    }
    stream.write_all(&bytes).unwrap();
    stream
}

#[test]
fn inspection_of_hostile_names_is_a_table_with_one_line_for_each_fact() {
    run(async {
        let manager = Manager::builder().register::<Note>().start().await.unwrap();
        let lock = manager.named(HOSTILE).lock().await.unwrap();
        let keyed_name = format!("k{HOSTILE}");
        let keyed = manager.named(&keyed_name).keyed_lock().await.unwrap();
        // This name looks like the line of a holder.
        let note_name = format!("    holds process 1 ({HOSTILE})");
        let named = manager.named(&note_name);
        let _note = named.open::<Note>(hostile()).await.unwrap();
        let _intruder = connect_hostile(&manager, HOSTILE, &keyed_name);
        until("both objects are held", || async {
            keyed.status().await.unwrap().keys == 1 && lock.status().await.unwrap().is_held
        })
        .await;

        let snapshot = manager.inspect().await.unwrap();
        assert_eq!(snapshot.objects[0].name, HOSTILE, "the data is unchanged");
        assert_eq!(snapshot.objects[2].state, HOSTILE);
        let table = snapshot.to_string();
        // A header, three objects and two holders.
        assert_eq!(table.lines().count(), 6, "{table}");
        for line in table.lines().skip(1) {
            is_one_line("a line", line);
        }
        let columns = table.lines().filter(|line| !line.starts_with(' '));
        let kinds: Vec<Option<usize>> = columns
            .zip(["KIND", "lock ", "keyed_lock", "printed::note"])
            .map(|(line, kind)| Some(line.get(..line.find(kind)?)?.chars().count()))
            .collect();
        assert!(
            kinds.iter().all(|at| at.is_some() && *at == kinds[0]),
            "{table}"
        );
    });
}
