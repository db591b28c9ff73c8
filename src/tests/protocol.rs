//! Compares PROTOCOL.md with the code: every frame and every value that it shows in hex.
//!
//! session/tests/replay.rs replays the session at the end of the document against a real session.

use std::collections::BTreeSet;

use lockkeeper_actors::{
    Operations, Primitive,
    data::{Queue, TaskQueue, Value},
    sync::{
        Barrier, BoundedSemaphore, Condition, Event, KeyedLock, KeyedSemaphore, Latch, Lock,
        ReentrantLock, RwLock, Semaphore,
    },
};
use lockkeeper_protocol::{
    CallId, Fault, Fence, JobId, ManagerSecret, Proof, Question, Refusal, SECRET_BYTES, SessionId,
    Shard,
    codec::{self, BlobRef},
    frame::{
        ANSWER_MARGIN_BYTES, Capabilities, Capability, FIRST_FRAME_BYTES, FormerSession, Inbox,
        Request, Response,
    },
    handshake::{
        self, Certificate, ClientBegun, Key, ManagerBegun,
        resume::{Resume, Resumed},
    },
    operations::{
        Acquire, ForceUnlock, Get, GetBarrierStatus, GetLockStatus, GetSemaphoreStatus, Granted,
        Read, Release, Set,
    },
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    limits::Limits,
    server::kinds::Kinds,
    tests::raw::{self, encoded},
};

mod values;

/// The length of a frame's header.
const HEADER: usize = 4;

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

/// The numbers in the document are those of a manager that started in October 2025.
pub(crate) const INCARNATION: u64 = 1_760_000_000_000_000_000;

pub(crate) const SESSION: SessionId = SessionId::new(INCARNATION + 4);

/// The secret of the manager in the document.
pub(crate) const SECRET: ManagerSecret = ManagerSecret::new([7; SECRET_BYTES]);

pub(crate) const FENCE: Fence = Fence::new(INCARNATION + 9);

/// One frame or value that the document shows in hex.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The heading of its section.
    pub(crate) section: &'static str,
    /// `>` for a request, `<` for a response, `=` for a value.
    pub(crate) mark: char,
    pub(crate) bytes: Vec<u8>,
    line: usize,
}

/// Returns all samples of the document, in order.
pub(crate) fn samples() -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    let (mut section, mut fenced) = ("", false);
    for (number, line) in DOCUMENT.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            section = line;
        } else if fenced && !line.is_empty() {
            let (code, _) = line.split_once('#').unwrap_or((line, ""));
            let (mark, code) = code.split_at(1);
            if mark != " " {
                samples.push(Sample {
                    section,
                    mark: mark.chars().next().expect("a mark"),
                    bytes: Vec::new(),
                    line: number + 1,
                });
            }
            let sample = samples.last_mut().expect("a mark before its bytes");
            sample.bytes.extend(code.split_whitespace().map(|byte| {
                u8::from_str_radix(byte, 16).expect("the document shows bytes in hex")
            }));
        }
    }
    assert!(!fenced, "a block in the document does not end");
    samples
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// Compares the next sample with the bytes that the code writes.
pub(super) fn is_next(
    samples: &mut impl Iterator<Item = Sample>,
    mark: char,
    bytes: &[u8],
    what: &str,
) {
    let Some(sample) = samples.next() else {
        panic!("the document does not show {what}: {}", hex(bytes));
    };
    assert_eq!(
        (sample.mark, hex(&sample.bytes)),
        (mark, hex(bytes)),
        "line {} of PROTOCOL.md does not show {what}",
        sample.line
    );
}

/// Returns the message of a frame, and checks the length in the header.
fn message(sample: &Sample) -> Vec<u8> {
    let mut inbox = Inbox::new(FIRST_FRAME_BYTES);
    inbox.feed(&sample.bytes);
    let message = inbox.next_message().unwrap();
    let message = message.unwrap_or_else(|| panic!("line {}: too short", sample.line));
    let whole = HEADER + message.len();
    assert_eq!(sample.bytes.len(), whole, "line {}: too long", sample.line);
    message.to_vec()
}

pub(super) fn grant_of(seq: u64) -> Proof {
    Proof::Own(seq)
}

/// Returns the proof of a call of the session, as in the ticket of another process.
pub(super) fn ticket_of(seq: u64) -> Proof {
    Proof::Signed(SECRET.of_session(SESSION).sign(CallId::new(SESSION, seq)))
}

/// Returns the id of the job that a call of the session submitted.
pub(super) fn job_of(seq: u64) -> JobId {
    CallId::new(SESSION, seq).into()
}

/// Returns the requests in the document's reference section, in order.
fn shown_requests(arguments: &[u8]) -> Vec<Request<'_>> {
    let open = |seq, kind, name, spec| Request::Open {
        seq,
        kind,
        name,
        spec,
    };
    let acquire = |seq, micros| Request::Call {
        seq,
        object: 0,
        operation: 0,
        micros,
        arguments: BlobRef(&[0x90]),
    };
    let hello = |former| Request::Hello {
        version: 1,
        pid: 4711,
        program: "demo",
        label: "",
        capabilities: Capabilities::ALL,
        former,
    };
    let former = FormerSession {
        number: SESSION.number(),
        secret: SECRET.of_session(SESSION),
    };
    let release = Request::Cast {
        object: 0,
        operation: 1,
        arguments: BlobRef(arguments),
    };
    let remove = Request::Remove {
        seq: 10,
        name: "jobs",
    };
    vec![
        hello(None),
        hello(Some(former)),
        open(1, "lock", Some("jobs"), Some(BlobRef(b"\xa6Holder"))),
        open(8, "semaphore", None, Some(BlobRef(b"\x92\x02\xa6Anyone"))),
        open(9, "lock", Some("jobs"), None),
        acquire(2, Some(5_000_000)),
        acquire(4, None),
        release,
        Request::Withdraw { object: 0, seq: 4 },
        remove,
        Request::Inspect {
            seq: 11,
            question: Question::All(0),
        },
        Request::CallBy {
            seq: 12,
            object: 0,
            operation: 0,
            micros: None,
            arguments: BlobRef(&[0x90]),
            caller: 7,
        },
        Request::ReportPipe {
            seq: 13,
            object: 0,
            operation: 2,
        },
        Request::Beat {
            seq: 14,
            received: 300,
        },
        Request::Goodbye,
    ]
}

/// Returns the responses in the document's reference section, in order.
fn shown_responses(body: &[u8]) -> Vec<Response<'_>> {
    let welcome = |shard, endpoints: &[&str], lease_millis| Response::Welcome {
        version: 1,
        incarnation: INCARNATION,
        session: SESSION.number(),
        secret: SECRET.of_session(SESSION),
        frame_bytes: 64 << 20,
        capabilities: Capabilities::ALL.without(Capability::Callers),
        shard,
        endpoints: endpoints.iter().map(|it| (*it).to_owned()).collect(),
        lease_millis,
    };
    let second_of_two = Shard::new(1, 2).expect("the index is below the count");
    let opened = Response::Opened {
        seq: 1,
        object: 0,
        name: "jobs".to_owned(),
        operations: operations::<Lock>()
            .iter()
            .map(|n| (*n).to_owned())
            .collect(),
    };
    let reply = Response::Reply {
        seq: 2,
        body: BlobRef(body),
    };
    let fault = Response::Fault {
        seq: 3,
        fault: Fault::TimedOut,
    };
    let bye = Response::Bye {
        reason: "a second hello".to_owned(),
    };
    vec![
        welcome(Shard::ALONE, &[], None),
        welcome(second_of_two, &[], None),
        welcome(Shard::ALONE, &["tls://host:7000"], None),
        welcome(Shard::ALONE, &[], Some(10_000)),
        opened,
        reply,
        fault,
        Response::Revoked { seq: 2 },
        Response::Gone { object: 0 },
        bye,
    ]
}

fn operations<P: Primitive>() -> Vec<&'static str> {
    let mut operations = Operations::default();
    P::operations(&mut operations);
    operations.names().collect()
}

pub(super) fn fresh_grant() -> Granted {
    Granted {
        fence: FENCE,
        abandoned: None,
    }
}

/// The heading of the session that the document shows.
pub(crate) const WHOLE_SESSION: &str = "## A whole session";

/// The heading of the handshake that the document shows.
const HANDSHAKE: [&str; 2] = ["### The handshake", "### Resumed sessions"];

#[test]
fn the_document_shows_each_frame_as_the_code_writes_it() {
    let mut shown = samples()
        .into_iter()
        .filter(|sample| sample.mark != '=')
        .filter(|sample| !(sample.section == WHOLE_SESSION || HANDSHAKE.contains(&sample.section)));
    let release = encoded(&Release { grant: grant_of(2) });
    for request in shown_requests(&release) {
        is_next(
            &mut shown,
            '>',
            &raw::frame(&request),
            &format!("{request:?}"),
        );
    }
    let body = encoded(&Ok::<_, Refusal>(fresh_grant()));
    for response in shown_responses(&body) {
        is_next(
            &mut shown,
            '<',
            &raw::frame(&response),
            &format!("{response:?}"),
        );
    }
    let rest: Vec<Sample> = shown.collect();
    assert!(
        rest.is_empty(),
        "frames that the code does not write: {rest:?}"
    );
}

#[test]
fn the_code_reads_each_frame_that_the_document_shows() {
    let release = encoded(&Release { grant: grant_of(2) });
    let mut requests = shown_requests(&release).into_iter();
    let body = encoded(&Ok::<_, Refusal>(fresh_grant()));
    let mut responses = shown_responses(&body).into_iter();
    let shown = samples().into_iter();
    for sample in shown.filter(|sample| !HANDSHAKE.contains(&sample.section)) {
        let is_reference = sample.section != WHOLE_SESSION;
        match sample.mark {
            '>' => {
                let message = message(&sample);
                let request = Request::decode(&message).unwrap();
                assert_eq!(raw::frame(&request), sample.bytes);
                if is_reference {
                    assert_eq!(Some(request), requests.next());
                }
            }
            '<' => {
                let message = message(&sample);
                let response = Response::decode(&message).unwrap();
                assert_eq!(raw::frame(&response), sample.bytes);
                if is_reference {
                    assert_eq!(Some(response), responses.next());
                }
            }
            mark => assert_eq!(mark, '=', "line {}", sample.line),
        }
    }
    assert_eq!((requests.next(), responses.next()), (None, None));
}

#[test]
fn the_document_shows_a_handshake_as_the_code_makes_it() {
    let mut shown = samples()
        .into_iter()
        .filter(|sample| HANDSHAKE.contains(&sample.section));
    let mut is_next = |mark, message: &[u8]| {
        let mut frame = Vec::new();
        handshake::append(&mut frame, message).expect("it is short");
        is_next(&mut shown, mark, &frame, "a message of the handshake");
    };
    let key = || Key::new("k1", (0..32).collect()).expect("it is a key");
    let certificate = Certificate::of(b"certificate");
    let client = ClientBegun::new(key(), certificate, [0x11; 32], 0, false);
    let client = client.expect("it encodes");
    is_next('>', client.message());
    let manager = ManagerBegun::read(client.message()).expect("the first message");
    let manager = manager.challenge(key(), certificate, [0x22; 32]);
    let manager = manager.expect("it encodes");
    is_next('<', manager.message());
    let client = client.challenged(manager.message()).expect("a challenge");
    is_next('>', client.message());
    let proved = manager.proved(client.message());
    let (accepted, of_manager) = proved.expect("the right proof");
    is_next('<', &accepted);
    let secret = client.accepted(&accepted).expect("the right proof");
    assert_eq!(secret, of_manager);
    let received = 300;
    let resume = Resume { secret, received }.message();
    is_next('>', &resume.expect("it encodes"));
    let resumed = Resumed { received: 7 }.message();
    is_next('<', &resumed.expect("it encodes"));
    assert!(shown.next().is_none());
}

#[test]
fn operations_have_the_numbers_that_the_document_lists() {
    fn is_listed<P: Primitive>(heading: &str) {
        let (_, section) = DOCUMENT
            .split_once(&format!("### `{heading}`"))
            .unwrap_or_else(|| panic!("the document has no kind {heading}"));
        let (section, _) = section.split_once("\n#").unwrap_or((section, ""));
        let rows: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
            .filter(|row| row.starts_with(|first: char| first.is_ascii_digit()))
            .collect();
        let listed: Vec<String> = operations::<P>()
            .iter()
            .enumerate()
            .map(|(number, name)| format!("{number} | `{name}` |"))
            .collect();
        assert_eq!(rows.len(), listed.len(), "{heading}");
        for (row, start) in rows.iter().zip(&listed) {
            assert!(row.starts_with(start), "{row} must begin with {start}");
        }
    }

    is_listed::<Lock>(Lock::KIND);
    is_listed::<Semaphore>(Semaphore::KIND);
    is_listed::<ReentrantLock>(ReentrantLock::KIND);
    is_listed::<Event>(Event::KIND);
    is_listed::<Condition>(Condition::KIND);
    is_listed::<Barrier>(Barrier::KIND);
    is_listed::<TaskQueue>(TaskQueue::KIND);
    is_listed::<Queue>(Queue::KIND);
    is_listed::<Value>(Value::KIND);
    is_listed::<RwLock>(RwLock::KIND);
    is_listed::<Latch>(Latch::KIND);
    assert!(DOCUMENT.contains(&format!("### `{}`", BoundedSemaphore::KIND)));
    assert_eq!(operations::<BoundedSemaphore>(), operations::<Semaphore>());
    is_listed::<KeyedLock>(KeyedLock::KIND);
    assert!(DOCUMENT.contains(&format!("### `{}`", KeyedSemaphore::KIND)));
    assert_eq!(operations::<KeyedSemaphore>(), operations::<KeyedLock>());
}

#[test]
fn each_hosted_kind_is_listed_with_promised_numbers_or_as_internal() {
    let of = |heading: &str| {
        let (_, section) = DOCUMENT.split_once(heading).expect("a section");
        let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
        section
            .lines()
            .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
            .collect::<BTreeSet<_>>()
    };
    let (promised, internal) = (of("\n## The built-in kinds"), of("\n## Internal kinds"));
    assert_eq!(Kinds::built_in().names().collect::<BTreeSet<_>>(), promised);
    assert_eq!(Kinds::of_pool().names().collect::<BTreeSet<_>>(), internal);
}

/// Checks that the table of a section explains each variant that the section shows.
fn each_is_explained<T: Serialize + DeserializeOwned>(heading: &str) {
    let (_, section) = DOCUMENT.split_once(heading).expect("a section");
    let (table, _) = section.split_once("```").expect("samples");
    let shown = samples()
        .into_iter()
        .filter(|sample| sample.section == heading);
    for Sample { bytes, line, .. } in shown {
        let value: T = codec::decode(&bytes).expect("the sample is one of them");
        let variant = serde_json::to_value(&value).expect("it is plain data");
        let name = variant
            .as_str()
            .or_else(|| variant.as_object()?.keys().next().map(String::as_str));
        let name = format!("`{}`", name.expect("a variant has a name"));
        assert!(table.contains(&name), "{name} of line {line}");
    }
}

#[test]
fn each_fault_and_each_refusal_that_is_shown_is_explained() {
    each_is_explained::<Fault>("## Faults");
    each_is_explained::<Refusal>("## Refusals");
}

/// Checks that the empty arguments of an operation and the unit value have different encodings.
#[test]
fn unit_and_empty_arguments_are_written_as_the_document_says() {
    let (nil, empty) = ([0xc0], [0x90]);
    for arguments in [
        encoded(&Acquire),
        encoded(&ForceUnlock),
        encoded(&GetLockStatus),
        encoded(&GetSemaphoreStatus),
        encoded(&Set),
        encoded(&Get),
        encoded(&Read),
        encoded(&GetBarrierStatus),
    ] {
        assert_eq!(arguments, empty);
    }
    assert_eq!(encoded(&()), nil);
    assert_eq!(encoded(&Ok::<_, Refusal>(())), b"\x81\xa2Ok\xc0");
    assert!(codec::decode::<()>(&empty).is_err());
}

#[test]
fn the_limits_are_those_of_the_document() {
    let (_, section) = DOCUMENT.split_once("## Limits").expect("a section");
    let listed: Vec<usize> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .filter_map(|(number, _)| number.replace(',', "").parse().ok())
        .collect();
    let limits = Limits::default();
    let seconds = |time: std::time::Duration| usize::try_from(time.as_secs()).unwrap();
    assert_eq!(
        listed,
        [
            FIRST_FRAME_BYTES,
            limits.frame_bytes,
            limits.frame_bytes - ANSWER_MARGIN_BYTES,
            limits.calls_in_flight,
            limits.sessions,
            limits.objects,
            limits.name_bytes,
            limits.stored_bytes,
            limits.unread_bytes,
            seconds(limits.unread_time),
            seconds(limits.handshake_time)
        ]
    );
}
