"""One party of the SyncManager rows: `host SOCKET` serves a lock, `client SOCKET` counts its cycles on it.

It speaks the lines that party.rs describes. The host runs SyncManager's own server in this process instead of in a
child, which changes nothing of the calls, so that killing this process leaves nothing behind.
"""

import os
import sys
import threading
import time
from multiprocessing.managers import AcquirerProxy, SyncManager

KEY = b"compare"


class Manager(SyncManager):
    """A SyncManager whose clients can all ask for the same lock."""


def host(socket):
    """Serves one lock, of the type that SyncManager.Lock makes, until standard input ends."""
    lock = threading.Lock()
    Manager.register("shared_lock", callable=lambda: lock, proxytype=AcquirerProxy)
    server = Manager(address=socket, authkey=KEY).get_server()
    threading.Thread(target=end_with_input, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


def end_with_input():
    """Ends the host at once: a client that is still connected must not keep it."""
    sys.stdin.read()
    os._exit(0)


def client(socket):
    """Counts cycles of acquire and release in each window that it is told."""
    Manager.register("shared_lock", proxytype=AcquirerProxy)
    manager = Manager(address=socket, authkey=KEY)
    manager.connect()
    lock = manager.shared_lock()
    print("ready", flush=True)
    for line in sys.stdin:
        opens, length = map(int, line.split())
        time.sleep(max(0, opens - time.time_ns()) / 1e9)
        opened = time.perf_counter_ns()
        closes = opened + (opens + length - time.time_ns())
        cycles = 0
        while time.perf_counter_ns() < closes:
            lock.acquire()
            lock.release()
            cycles += 1
        print(cycles, time.perf_counter_ns() - opened, flush=True)


{"host": host, "client": client}[sys.argv[1]](sys.argv[2])
