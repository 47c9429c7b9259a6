"""One line that says where a long job is: phase, done, running, left, tokens per second, time left.

Workers on any machine report to one small Ray actor. The driver prints what it says, and keeps it in the ledger, where
`jobs/status.py` reads it.
"""

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from engine import UserError
from engine.monitor.lines import describe, share
from engine.monitor.spending import Meter
from engine.storage.ledger import Ledger
from engine.storage.records import Progress

EVERY_S = 5.0
SEND_S = 1.0
unsent: Counter[str] = Counter()  # of this worker: thousands of completions a second are no messages of their own
next_send = 0.0


@ray.remote(num_cpus=0)
class Board:
    """Holds what workers report. `tokens` are counted so far; `at_work` says on which machine what is worked on."""

    def __init__(self, phase: str, total: int, all_work: int) -> None:
        self.phase, self.total, self.all_work, self.started = phase, total, all_work, time.monotonic()
        self.counts = Counter(done=0, running=0, tokens=0, work=0)
        self.at_work: dict[str, str] = {}
        self.warnings: list[str] = []

    def add(self, **changes: int) -> None:
        """Adds to `done`, `running`, `tokens` or `work`."""
        self.counts.update(changes)

    def place(self, name: str, machine: str | None) -> None:
        """Something is worked on there, or nowhere any more."""
        self.at_work.pop(name, None)
        if machine:
            self.at_work[name] = machine

    def warn(self, text: str) -> None:
        """Something that the job's user has to know; said once, however many workers meet it."""
        if text not in self.warnings:
            self.warnings.append(text)

    def warned(self) -> list[str]:
        """All warnings so far."""
        return self.warnings

    def state(self) -> Progress:
        """All of it."""
        about: dict[str, Any] = {"phase": self.phase, "total": self.total, "all_work": self.all_work, **self.counts}
        seconds = time.monotonic() - self.started
        return Progress(seconds=seconds, at_work=self.at_work, at=time.time(), **about)


# ---- in workers ------------------------------------------------------------------------------------------------------


def report(**changes: int) -> None:
    """Called by a worker: adds to the counts of the phase that runs. Tokens and work are sent as sums, once a second.

    Without a board (unit tests) nothing happens.
    """
    global next_send
    unsent.update(changes)
    now = time.monotonic()
    if changes.keys() <= {"tokens", "work"} and now < next_send:
        return
    next_send = now + SEND_S
    if board := find_board():
        board.add.remote(**unsent)
    unsent.clear()


def warn(text: str) -> None:
    """Has the driver print a line, once."""
    if board := find_board():
        board.warn.remote(text)


@contextmanager
def at_work(name: str) -> Iterator[None]:
    """Says that something is worked on, on this machine, until the end."""
    board = find_board()
    if board:
        board.place.remote(name, socket.gethostname())
    try:
        yield
    finally:
        if board:
            board.place.remote(name, None)


def find_board() -> Any:
    """The board of the phase that runs now. A worker may outlive a phase, so it is looked up each time."""
    if not ray.is_initialized():
        return None
    try:
        return ray.get_actor(name_board(), namespace="engram")
    except ValueError:
        return None


def name_board() -> str:
    """The board's name as an actor: several jobs may run on one cluster."""
    return f"progress-{ray.get_runtime_context().get_job_id()}"


# ---- in the driver ---------------------------------------------------------------------------------------------------


@contextmanager
def shown(phase: str, total: int, ledger: Ledger | None = None, all_work: int = 0) -> Iterator[None]:
    """Prints the phase's line every few seconds (in place on a terminal) and once at the end."""
    meter = Meter(ledger) if ledger else None
    actor: Any = Board
    board: Any = actor.options(name=name_board(), namespace="engram").remote(phase, total, all_work)
    stop = threading.Event()
    printer = threading.Thread(target=print_lines, args=(board, stop, meter), daemon=True)
    printer.start()
    try:
        yield
    finally:
        stop.set()
        printer.join()
        ray.kill(board)


def print_lines(board: Any, stop: threading.Event, meter: Meter | None) -> None:
    """Prints until `stop` is set; in a log file only when the line is new."""
    last, n_warnings = "", 0
    while True:
        over = stop.wait(EVERY_S)
        state: Progress = ray.get(board.state.remote())
        if meter:
            with suppress(UserError):  # where there is no room, the phase itself will say so
                meter.ledger.put_progress(None if over else state)
                meter.tick()
        warnings: list[str] = ray.get(board.warned.remote())
        for text in warnings[n_warnings:]:
            print(f"\nwarning: {text}", file=sys.stderr, flush=True)
        n_warnings = len(warnings)
        stage = f"{state.done} {state.running} {share(state):.1f}"  # in a log, a line when more is done
        print_line(describe(state), over, stage != last)
        last = stage
        if over:
            return


def print_line(line: str, over: bool, is_news: bool) -> None:
    """Prints a line in place of the last one on a terminal; elsewhere only if it says anything new."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if over else "", file=sys.stderr, flush=True)
    elif is_news or over:
        print(line, file=sys.stderr, flush=True)
