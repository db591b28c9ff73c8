//! The memory transport: streams between the threads and runtimes of one process.
//!
//! A stream consists of two pipes, one for each direction. A pipe is a buffer behind a mutex, with a
//! slot for the waker of each attachment. It needs no runtime and no descriptor.
//!
//! Invariant: a write that makes a pipe readable, a read that makes room, and the end of a pipe take
//! all wakers under the mutex, and wake them after it is unlocked.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io::{self, Read},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use lockkeeper_sys::{OnlyHere, PerProcess};
use slab::Slab;

use crate::transport::{
    listener::{Acceptor, Listener},
    stream::{AttachedStream, Stream},
    transport::Transport,
};

/// Streams between the threads of this process.
#[derive(Debug)]
pub(crate) struct Memory;

/// The listeners of this process, by name.
static LISTENERS: PerProcess<Mutex<HashMap<String, Arc<Mutex<Queue>>>>> = PerProcess::new();

fn listeners() -> MutexGuard<'static, HashMap<String, Arc<Mutex<Queue>>>> {
    lock(LISTENERS.get_or_init(Mutex::default))
}

/// The number of bytes unread by the manager at which a client waits. It is far more than a test
/// sends: a client that waits leaves its own runtime, whose clock a test may have paused.
const MOST_TO_MANAGER: usize = 64 << 20;

/// The number of bytes unread by the client at which the manager waits. The manager then notices that
/// the client does not read.
const MOST_TO_CLIENT: usize = 256 << 10;

/// An empty buffer above this capacity is freed.
const KEPT_BYTES: usize = 1 << 16;

/// Locks a mutex, and ignores poisoning: no code under these mutexes panics between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a stream, which may belong to another transport, to the listener of that name.
///
/// # Errors
///
/// Returns an error when this process has no such listener.
pub(super) fn hand_over(place: &str, stream: Arc<dyn Stream>) -> io::Result<()> {
    let absent = || {
        let why = format!(
            "no manager of this process has the name {place:?}, and a memory address is reachable \
             only within the process that hosts the manager"
        );
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    let queue = listeners().get(place).cloned().ok_or_else(absent)?;
    let mut queue = lock(&queue);
    if queue.is_closed {
        return Err(absent());
    }
    queue.streams.push_back(stream);
    let acceptor = queue.acceptor.take();
    drop(queue);
    if let Some(acceptor) = acceptor {
        acceptor.wake();
    }
    Ok(())
}

impl Transport for Memory {
    fn connect(&self, place: &str, _patience: Duration) -> io::Result<Arc<dyn Stream>> {
        let (client, manager) = MemoryStream::pair();
        hand_over(place, Arc::new(manager))?;
        Ok(Arc::new(client))
    }

    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>> {
        match listeners().entry(place.to_owned()) {
            Entry::Occupied(_) => Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(vacant) => Ok(Box::new(MemoryListener {
                queue: OnlyHere::new(Arc::clone(vacant.insert(Arc::default()))),
                name: place.to_owned(),
            })),
        }
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

/// The streams that a listener has not accepted yet.
#[derive(Debug, Default)]
struct Queue {
    streams: VecDeque<Arc<dyn Stream>>,
    /// The waker of the accepting task, unless it was woken.
    acceptor: Option<Waker>,
    is_closed: bool,
}

/// A bound name. It needs no runtime, so it is also its acceptor.
#[derive(Debug)]
struct MemoryListener {
    name: String,
    queue: OnlyHere<Arc<Mutex<Queue>>>,
}

impl Listener for MemoryListener {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(self)
    }
}

impl Acceptor for MemoryListener {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        let queue = self.queue.get().ok_or_else(forked)?;
        let mut queue = lock(queue);
        match queue.streams.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                let earlier = queue.acceptor.replace(task.waker().clone());
                drop(queue);
                drop(earlier);
                Poll::Pending
            }
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        listeners().remove(&self.name);
        let mut queue = lock(queue);
        queue.is_closed = true;
        let refused = mem::take(&mut queue.streams);
        drop(queue);
        // Dropping the streams wakes the clients at the other ends.
        drop(refused);
    }
}

/// One end of a stream. Dropping it ends the stream for the other end.
#[derive(Debug)]
pub(crate) struct MemoryStream {
    pipes: OnlyHere<Pipes>,
}

/// The two directions of a stream. In a forked child, a mutex may be locked for ever by a thread of the
/// parent.
#[derive(Debug)]
struct Pipes {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

/// Makes the error for a stream or listener that belongs to the parent of this forked child.
fn forked() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl MemoryStream {
    fn new(incoming: Arc<Mutex<Pipe>>, outgoing: Arc<Mutex<Pipe>>) -> Self {
        Self {
            pipes: OnlyHere::new(Pipes { incoming, outgoing }),
        }
    }

    fn pipes(&self) -> io::Result<&Pipes> {
        self.pipes.get().ok_or_else(forked)
    }

    /// Makes a stream, and returns the client's end and the manager's end.
    pub(crate) fn pair() -> (Self, Self) {
        let [to_manager, to_client] =
            [MOST_TO_MANAGER, MOST_TO_CLIENT].map(|most| Arc::new(Mutex::new(Pipe::new(most))));
        let client = Self::new(Arc::clone(&to_client), Arc::clone(&to_manager));
        let manager = Self::new(to_manager, to_client);
        (client, manager)
    }
}

impl Stream for MemoryStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipes()?.incoming);
        let read = pipe.read(buffer);
        let writers = pipe.writers_with_room();
        drop(pipe);
        wake(writers);
        read
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipes()?.outgoing);
        let written = pipe.write(bytes);
        let readers = take(&mut pipe.readers);
        drop(pipe);
        wake(readers);
        written
    }

    fn shutdown(&self) {
        let Some(Pipes { incoming, outgoing }) = self.pipes.get() else {
            return;
        };
        for pipe in [incoming, outgoing] {
            let mut pipe = lock(pipe);
            pipe.is_closed = true;
            let mut waiting = take(&mut pipe.readers);
            waiting.append(&mut take(&mut pipe.writers));
            drop(pipe);
            wake(waiting);
        }
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        let Pipes { incoming, outgoing } = self.pipes()?;
        let reader = lock(incoming).readers.insert(None);
        let writer = lock(outgoing).writers.insert(None);
        Ok(Box::new(AttachedMemoryStream {
            stream: self,
            reader,
            writer,
        }))
    }

    /// Both ends are in this process.
    fn is_trusted(&self) -> bool {
        true
    }

    fn peer_pid(&self) -> Option<u32> {
        Some(std::process::id())
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A stream, and the slots of one attachment's wakers.
#[derive(Debug)]
struct AttachedMemoryStream {
    stream: Arc<MemoryStream>,
    reader: usize,
    writer: usize,
}

impl AttachedStream for AttachedMemoryStream {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.stream.pipes()?.incoming);
        let read = pipe.read(buffer);
        if would_block(&read) {
            let earlier = register(&mut pipe.readers, self.reader, task);
            drop(pipe);
            drop(earlier);
            return Poll::Pending;
        }
        let writers = pipe.writers_with_room();
        drop(pipe);
        wake(writers);
        Poll::Ready(read)
    }

    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.stream.pipes()?.outgoing);
        let written = pipe.write(bytes);
        if would_block(&written) {
            let earlier = register(&mut pipe.writers, self.writer, task);
            drop(pipe);
            drop(earlier);
            return Poll::Pending;
        }
        let readers = take(&mut pipe.readers);
        drop(pipe);
        wake(readers);
        Poll::Ready(written)
    }
}

impl Drop for AttachedMemoryStream {
    fn drop(&mut self) {
        let Ok(Pipes { incoming, outgoing }) = self.stream.pipes() else {
            return;
        };
        let reader = lock(incoming).readers.try_remove(self.reader);
        let writer = lock(outgoing).writers.try_remove(self.writer);
        // Dropping a waker runs foreign code, which must not find a pipe locked.
        drop((reader, writer));
    }
}

/// One direction of a stream.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// A write of any size is accepted while fewer bytes than this are unread.
    most: usize,
    is_closed: bool,
    readers: Wakers,
    writers: Wakers,
}

/// The wakers of a pipe, with a slot for each attachment.
type Wakers = Slab<Option<Waker>>;

impl Pipe {
    const fn new(most: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            most,
            is_closed: false,
            readers: Slab::new(),
            writers: Slab::new(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !self.is_closed && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.bytes.read(buffer)?;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        Ok(length)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.bytes.len() >= self.most {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    /// Takes the wakers of the tasks that wait to write, if there is room.
    fn writers_with_room(&mut self) -> Vec<Waker> {
        if self.bytes.len() < self.most {
            take(&mut self.writers)
        } else {
            Vec::new()
        }
    }
}

fn would_block(outcome: &io::Result<usize>) -> bool {
    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Stores the waker of a task in a slot. Returns the previous waker: dropping it runs foreign code,
/// which must not find a pipe locked.
fn register(wakers: &mut Wakers, place: usize, task: &Context<'_>) -> Option<Waker> {
    wakers.get_mut(place)?.replace(task.waker().clone())
}

/// Takes all wakers from their slots.
fn take(wakers: &mut Wakers) -> Vec<Waker> {
    wakers.iter_mut().filter_map(|(_, it)| it.take()).collect()
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn new() -> (Arc<Self>, Waker) {
            let count = Arc::new(Self::default());
            let waker = Waker::from(Arc::clone(&count));
            (count, waker)
        }

        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn pair() -> (Arc<MemoryStream>, Arc<MemoryStream>) {
        let (client, manager) = MemoryStream::pair();
        (Arc::new(client), Arc::new(manager))
    }

    fn kind<T: std::fmt::Debug>(outcome: io::Result<T>) -> io::ErrorKind {
        outcome.expect_err("it fails").kind()
    }

    #[test]
    fn bytes_arrive_in_order_and_the_end_after_them() {
        let (client, manager) = pair();
        let mut buffer = [0; 4];
        assert_eq!(
            kind(manager.try_read(&mut buffer)),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(client.try_write(b"abc").unwrap(), 3);
        assert_eq!(client.try_write(b"defg").unwrap(), 4);
        drop(client);
        let mut read = Vec::new();
        loop {
            match manager.try_read(&mut buffer).unwrap() {
                0 => break,
                length => read.extend_from_slice(&buffer[..length]),
            }
        }
        assert_eq!(read, b"abcdefg");
        assert_eq!(manager.try_read(&mut buffer).unwrap(), 0);
        assert_eq!(kind(manager.try_write(b"x")), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn shut_down_ends_both_directions_even_while_the_stream_is_not_dropped() {
        let (client, manager) = pair();
        manager.try_write(b"bye").unwrap();
        manager.shutdown();
        let mut buffer = [0; 8];
        assert_eq!(client.try_read(&mut buffer).unwrap(), 3);
        assert_eq!(client.try_read(&mut buffer).unwrap(), 0);
        for end in [&client, &manager] {
            assert_eq!(kind(end.try_write(b"x")), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn only_the_last_task_to_poll_on_each_attachment_is_woken() {
        let (client, manager) = pair();
        let [one, other] = [(); 2].map(|()| Arc::clone(&manager).attach().unwrap());
        let (earlier, replaced) = Count::new();
        let (first, waker_of_first) = Count::new();
        let (second, waker_of_second) = Count::new();
        let mut buffer = [0; 4];
        for (attached, waker) in [
            (&one, &replaced),
            (&one, &waker_of_first),
            (&other, &waker_of_second),
        ] {
            let polled = attached.poll_read(&mut Context::from_waker(waker), &mut buffer);
            assert!(polled.is_pending());
        }
        client.try_write(b"x").unwrap();
        client.try_write(b"y").unwrap();
        let woken = [&earlier, &first, &second].map(|count| count.get());
        assert_eq!(
            woken,
            [0, 1, 1],
            "each waker is woken once until it polls again"
        );
        let mut task = Context::from_waker(&waker_of_first);
        assert!(matches!(
            one.poll_read(&mut task, &mut buffer),
            Poll::Ready(Ok(2))
        ));
        assert!(one.poll_read(&mut task, &mut buffer).is_pending());
        drop(other);
        client.shutdown();
        let woken = [&earlier, &first, &second].map(|count| count.get());
        assert_eq!(
            woken,
            [0, 2, 1],
            "the end wakes attached tasks, and no detached ones"
        );
    }

    #[test]
    fn writer_waits_for_room_and_is_woken_by_it_or_by_the_end() {
        for is_read in [true, false] {
            let (client, manager) = pair();
            let large = vec![7; MOST_TO_CLIENT];
            assert_eq!(manager.try_write(&large).unwrap(), large.len());
            assert_eq!(kind(manager.try_write(b"x")), io::ErrorKind::WouldBlock);
            let attached = Arc::clone(&manager).attach().unwrap();
            let (count, waker) = Count::new();
            let mut task = Context::from_waker(&waker);
            assert!(attached.poll_write(&mut task, b"x").is_pending());
            if is_read {
                client.try_read(&mut [0; 10]).unwrap();
            } else {
                drop(client);
            }
            assert_eq!(count.get(), 1);
            let Poll::Ready(written) = attached.poll_write(&mut task, b"x") else {
                panic!("the write did not complete");
            };
            assert_eq!(written.is_ok(), is_read);
        }
    }

    #[test]
    fn write_of_any_size_is_taken_whole() {
        let (client, manager) = pair();
        let large = vec![7; MOST_TO_MANAGER + 1];
        assert_eq!(client.try_write(&large).unwrap(), large.len());
        assert_eq!(kind(client.try_write(b"x")), io::ErrorKind::WouldBlock);
        manager.try_read(&mut [0; 2]).unwrap();
        assert_eq!(client.try_write(b"x").unwrap(), 1);
    }

    #[test]
    fn name_has_one_listener_and_is_free_after_its_drop() {
        let name = "name_has_one_listener_and_is_free_after_its_drop";
        let connect = || Memory.connect(name, Duration::ZERO);
        let absent = connect().expect_err("no listener has the name");
        assert!(absent.to_string().contains("only within the process"));
        let listener = Memory.listen(name).unwrap();
        assert_eq!(kind(Memory.listen(name)), io::ErrorKind::AddrInUse);
        let (accepted, left) = (connect().unwrap(), connect().unwrap());
        let acceptor = listener.attach().unwrap();
        let mut task = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(stream)) = acceptor.poll_accept(&mut task) else {
            panic!("a client has connected");
        };
        accepted.try_write(b"x").unwrap();
        assert_eq!(stream.try_read(&mut [0; 4]).unwrap(), 1);
        drop(acceptor);
        assert_eq!(
            left.try_read(&mut [0; 4]).unwrap(),
            0,
            "the stream was not accepted"
        );
        assert_eq!(kind(connect()), io::ErrorKind::NotFound);
        accepted.try_write(b"y").unwrap();
        drop(Memory.listen(name).unwrap());
    }

    #[test]
    fn acceptor_is_woken_by_a_client() {
        let name = "acceptor_is_woken_by_a_client";
        let acceptor = Memory.listen(name).unwrap().attach().unwrap();
        let (count, waker) = Count::new();
        let mut task = Context::from_waker(&waker);
        assert!(acceptor.poll_accept(&mut task).is_pending());
        let _client = Memory.connect(name, Duration::ZERO).unwrap();
        assert_eq!(count.get(), 1);
        assert!(acceptor.poll_accept(&mut task).is_ready());
    }
}
