"""One party of the Python peers: `ROLE SOCKET CYCLE WORKERS`, with the names in ours.rs, data.rs and pool.rs.

It speaks the lines that party.rs describes. The host runs SyncManager's own server in this process instead of in a
child, which changes nothing of the calls, so that killing this process leaves nothing behind.
"""

import operator
import os
import socket as sockets
import statistics
import sys
import threading
import time
from multiprocessing import Pool
from multiprocessing.managers import AcquirerProxy, BarrierProxy, EventProxy, SyncManager

KEY = b"compare"
PERMITS = 4
TASKS = 10_000
BULK = 10_000_000
MEGABYTE = bytes(1_000_000)
RECORD = {"id": 7, "name": "sweep", "is_done": False}


class Manager(SyncManager):
    """A SyncManager whose clients share objects."""


def host(socket, _cycle, workers):
    """Serves at a Unix socket."""
    serve(server_at(socket, workers))


def tcp_host(place, _cycle, workers):
    """Serves at a port of the loopback device, and writes the port to a file."""
    server = server_at(("127.0.0.1", 0), workers)
    with open(place, "w") as file:
        print(server.address[1], file=file)
    serve(server)


def server_at(address, workers):
    """A server of the objects that SyncManager's own methods make."""
    lock = threading.Lock()
    semaphore = threading.Semaphore(PERMITS)
    event = threading.Event()
    barriers = {}

    def barrier(window):
        return barriers.setdefault(window, threading.Barrier(workers))

    Manager.register("shared_lock", callable=lambda: lock, proxytype=AcquirerProxy)
    Manager.register("shared_semaphore", callable=lambda: semaphore, proxytype=AcquirerProxy)
    Manager.register("shared_event", callable=lambda: event, proxytype=EventProxy)
    Manager.register("barrier_of", callable=barrier, proxytype=BarrierProxy)
    return Manager(address=address, authkey=KEY).get_server()


def serve(server):
    """Serves until standard input ends."""
    threading.Thread(target=end_with_input, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


def end_with_input():
    """Ends the process at once, even if clients are still connected."""
    sys.stdin.read()
    os._exit(0)


def connected(address):
    """A client of the manager."""
    Manager.register("shared_lock", proxytype=AcquirerProxy)
    Manager.register("shared_semaphore", proxytype=AcquirerProxy)
    Manager.register("shared_event", proxytype=EventProxy)
    Manager.register("barrier_of", proxytype=BarrierProxy)
    manager = Manager(address=address, authkey=KEY)
    manager.connect()
    return manager


def client(socket, cycle, _workers):
    """Counts cycles in each window, over a Unix socket."""
    repeat(connected(socket), cycle)


def tcp_client(place, cycle, _workers):
    """Counts cycles in each window, over TCP."""
    with open(place) as file:
        port = int(file.read())
    repeat(connected(("127.0.0.1", port)), cycle)


def repeat(manager, cycle):
    """Counts cycles with the objects of a manager."""
    if cycle == "round":
        repeat_rounds(manager)
    else:
        repeat_cycles(cycle_of(manager, cycle))


def cycle_of(manager, cycle):
    """What a client repeats, as a function."""
    item = MEGABYTE if cycle.startswith("bulky-") else RECORD
    if cycle.endswith("queue"):
        queue = manager.Queue()
        return lambda: (queue.put(item), queue.get())
    if cycle.endswith("value"):
        value = manager.Value("O", item)
        return lambda: (value.set(item), value.get())
    shared = manager.shared_semaphore() if cycle == "permit" else manager.shared_lock()
    return lambda: (shared.acquire(), shared.release())


def windows():
    """Yields each order's window once it is open: when it was opened, when it closes, and its name."""
    print("ready", flush=True)
    for line in sys.stdin:
        opens, length = map(int, line.split())
        yield opens, length


def opened(opens, length):
    """Waits until a window opens, and returns when it opened and when it closes, by the performance counter."""
    time.sleep(max(0, opens - time.time_ns()) / 1e9)
    begun = time.perf_counter_ns()
    return begun, begun + (opens + length - time.time_ns())


def report(cycles, elapsed):
    """Reports to the bench."""
    print(cycles, elapsed, flush=True)


def repeat_cycles(cycle):
    """Counts cycles."""
    for opens, length in windows():
        begun, closes = opened(opens, length)
        cycles = 0
        while time.perf_counter_ns() < closes:
            cycle()
            cycles += 1
        report(cycles, time.perf_counter_ns() - begun)


def repeat_rounds(manager):
    """Counts rounds of a barrier. The first worker that finds the window closed breaks it."""
    for opens, length in windows():
        barrier = manager.barrier_of(opens)
        begun, closes = opened(opens, length)
        rounds = 0
        try:
            while time.perf_counter_ns() < closes:
                rounds += barrier.wait() == 0
        except threading.BrokenBarrierError:
            pass
        barrier.abort()
        report(rounds, time.perf_counter_ns() - begun)


def repeat_laps(lap):
    """Reports the median time of at least one lap, in nanoseconds."""
    for opens, length in windows():
        _, closes = opened(opens, length)
        laps = [lap()]
        while time.perf_counter_ns() < closes:
            laps.append(lap())
        report(1, int(statistics.median(laps)))


def waiter(socket, _cycle, _workers):
    """Waits for the event, and sends the time at which it woke to the setter over a socket."""
    event = connected(socket).shared_event()
    door = sockets.socket(sockets.AF_UNIX)
    door.bind(socket + ".woke")
    door.listen()
    print("ready", flush=True)
    setter, _ = door.accept()
    while True:
        event.wait()
        woke = time.time_ns()
        event.clear()
        setter.sendall(woke.to_bytes(8, sys.byteorder))


def setter(socket, _cycle, _workers):
    """Sets the event, and measures the time from just before the call until the waiter runs."""
    event = connected(socket).shared_event()
    waiter_socket = sockets.socket(sockets.AF_UNIX)
    waiter_socket.connect(socket + ".woke")

    def lap():
        # Until then the waiter begins to wait again. It cannot report this while it waits.
        time.sleep(0.0005)
        begun = time.time_ns()
        event.set()
        return int.from_bytes(waiter_socket.recv(8, sockets.MSG_WAITALL), sys.byteorder) - begun

    repeat_laps(lap)


def starter(_socket, _cycle, _workers):
    """Starts a SyncManager, acquires a lock of it, and ends it. The end is not measured."""

    def lap():
        begun = time.perf_counter_ns()
        manager = SyncManager()
        manager.start()
        manager.Lock().acquire()
        taken = time.perf_counter_ns() - begun
        manager.shutdown()
        return taken

    repeat_laps(lap)


def pool_owner(_socket, cycle, processes):
    """Counts the tasks that a pool has run."""
    bulk = bytes(BULK)
    arguments = [(number,) for number in range(TASKS)]
    with Pool(processes) as pool:
        for opens, length in windows():
            begun, closes = opened(opens, length)
            cycles = 0
            while time.perf_counter_ns() < closes:
                if cycle == "bulky":
                    pool.apply(len, (bulk,))
                    cycles += 1
                else:
                    chunk = 1 if cycle == "singly" else None
                    cycles += len(pool.starmap(operator.neg, arguments, chunk))
            report(cycles, time.perf_counter_ns() - begun)


ROLES = {
    "host": host,
    "client": client,
    "tcp-host": tcp_host,
    "tcp-client": tcp_client,
    "waiter": waiter,
    "setter": setter,
    "starter": starter,
    "pool-owner": pool_owner,
}
ROLES[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
