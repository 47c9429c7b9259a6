"""The lock of a study: one run at a time, on whichever machine.

lock.json               who took the study when it was free
lock-after-TOKEN.json   who took it over from the holder of that token, who had died
lock-alive-TOKEN.json   a holder's sign of life, written again and again

The last holder of this chain has the study. Each of its files is created on condition that it is not there, so of two
runs that take over from the same dead holder one succeeds; whoever finds itself outside the chain afterwards, since the
study was released meanwhile, starts again. A process of this machine is alive if its id and its start time say so; one
of another machine, if it gave a sign of life lately.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine import UserError
from engine.storage.records import from_plain, to_plain
from engine.storage.store import Store

FIRST = "lock.json"
ALIVE_EVERY_S = 15.0
DEAD_AFTER_S = 90.0  # without a sign of life from another machine
TRIES, PAUSE_S = 100, 0.05  # of taking a study that others take and release at the same time
REMEDY = "if no run is using this study, remove it"


class Locked(UserError):
    """A study that another run has; the message says who has it, since when, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who has a study. `machine` is what its process id refers to: a boot of a machine and a PID namespace on it.

    `started` is the process's start in clock ticks after that boot; `since` is in seconds since 1970.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: int
    since: float


@contextmanager
def hold(store: Store) -> Iterator[None]:
    """Has the study for this process until the end, however it ends. Raises Locked if another run has it."""
    me = describe_process()
    take(store, me)
    stop, lost = threading.Event(), threading.Event()
    threading.Thread(target=give_signs, args=(store, me, stop, lost), daemon=True).start()
    try:
        store.remove_parts()
        yield
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
        raise Locked(f"{store.root}: another run has taken this study over, since this one seemed dead") from None
    finally:
        stop.set()
        with suppress(OSError, UserError):  # a lock that cannot be removed is that of a dead process soon
            release(store, me)


def take(store: Store, me: Holder) -> None:
    """Becomes the last holder of the chain. Raises Locked if the last one is alive."""
    for _ in range(TRIES):
        chain = read_chain(store)
        if chain[-1:] == [me]:
            return
        if chain and is_alive(store, chain[-1]):
            raise Locked(why_locked(store, chain[-1]))
        path = successor_file(chain[-1]) if chain else FIRST
        try:
            store.create_json(path, to_plain(me))
        except FileExistsError:
            time.sleep(PAUSE_S)
            continue
        if me not in read_chain(store):
            store.remove(path)
    raise Locked(f"{store.root}: other runs are taking this study just now; try again")


def release(store: Store, me: Holder) -> None:
    """Frees the study, if we have it. The first file goes first: the rest of a chain counts for nothing without it."""
    chain = read_chain(store)
    if chain[-1:] == [me]:
        store.remove(FIRST)
        for holder in chain:
            store.remove(successor_file(holder))
            store.remove(sign_file(holder))
    store.remove(sign_file(me))


def give_signs(store: Store, me: Holder, stop: threading.Event, lost: threading.Event) -> None:
    """Gives signs of life. Interrupts this process if another run has taken the study over."""
    while not stop.wait(ALIVE_EVERY_S):
        with suppress(Exception):  # whatever storage raises that is away for a moment; the next sign may pass
            if read_chain(store)[-1:] != [me]:
                lost.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # also if it sleeps
                return
            store.write_json(sign_file(me), time.time())


# ---- the files -------------------------------------------------------------------------------------------------------


def successor_file(holder: Holder) -> str:
    """The file of whoever takes over from a holder."""
    return f"lock-after-{holder.token}.json"


def sign_file(holder: Holder) -> str:
    """The file of a holder's signs of life."""
    return f"lock-alive-{holder.token}.json"


def read_chain(store: Store) -> list[Holder]:
    """All holders of a study, each having taken over from the one before. Raises RecordError."""
    chain: list[Holder] = []
    while True:
        path = successor_file(chain[-1]) if chain else FIRST
        try:
            value = store.read_json(path, REMEDY)
        except FileNotFoundError:
            return chain
        chain.append(from_plain(Holder, value, store.address(path), REMEDY))


# ---- life and death --------------------------------------------------------------------------------------------------


def describe_process() -> Holder:
    """This process, as a holder that has not been one before."""
    pid = os.getpid()
    return Holder(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=this_machine(),
        pid=pid,
        started=process_start(pid) or 0,
        since=time.time(),
    )


def this_machine() -> str:
    """What process ids refer to here; empty where there is no /proc."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks after the boot; 0 if there is none, None if that cannot be seen."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0
    except PermissionError:
        pass  # it is another user's
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(store: Store, holder: Holder) -> bool:
    """Is a holder's process alive, as far as can be known?"""
    if holder.machine and holder.machine == this_machine():
        started = process_start(holder.pid)
        if started is not None:
            return started == holder.started
    if abs(time.time() - last_sign(store, holder)) < DEAD_AFTER_S:
        return True
    return gives_sign(store, holder)


def last_sign(store: Store, holder: Holder) -> float:
    """When a holder gave its last sign of life, by its own clock."""
    try:
        return float(store.read_json(sign_file(holder), REMEDY))
    except FileNotFoundError:
        return holder.since


def gives_sign(store: Store, holder: Holder) -> bool:
    """Waits for a sign of life: the clock of another machine may be wrong."""
    print(f"{store.root}: is the run on {holder.host} that has this study alive? Waiting for a sign", file=sys.stderr)
    before = last_sign(store, holder)
    time.sleep(2 * ALIVE_EVERY_S)
    return last_sign(store, holder) != before


def why_locked(store: Store, holder: Holder) -> str:
    """Who has a study, since when, and what to do."""
    since = datetime.fromtimestamp(holder.since, UTC)
    line = (
        f"{store.root}: another run has had this study since {since:%Y-%m-%d %H:%M:%S} UTC: "
        f"process {holder.pid} on {holder.host}. Wait until it ends or stop it, then run the same command again"
    )
    if holder.machine == this_machine():
        return line
    return f"{line}; if it has died, that is noticed {DEAD_AFTER_S:.0f} s after its last sign of life"
