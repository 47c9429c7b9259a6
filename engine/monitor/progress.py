"""One line that says where a long job is: phase, done, running, left, tokens per second, time left.

Workers on any machine report to one small Ray actor; the driver prints it.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray

EVERY_S = 5.0
SEND_S = 1.0
unsent: Counter[str] = Counter()  # of this worker: thousands of completions a second are no messages of their own
next_send = 0.0


@dataclass(kw_only=True, slots=True)
class Count:
    """How far one phase is. `work` is in any unit that the phase's estimate is in; `tokens` are counted so far."""

    phase: str
    total: int
    done: int = 0
    running: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self, now: float) -> str:
        """`self-play: 3 done, 1 running, 8 left | 187 tokens/s | about 2 min left`."""
        seconds = max(now - self.started, 1e-9)
        left = self.total - self.done - self.running
        speed = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else "starting"
        return (
            f"{self.phase}: {self.done} done, {self.running} running, {max(left, 0)} left"
            f" | {speed} | {self.time_left(seconds)}"
        )

    def time_left(self, seconds: float) -> str:
        """From the pace so far; before anything is done nothing is known."""
        if self.done == 0:
            return f"{seconds:.0f} s so far, time left not known yet"
        left = seconds / self.done * max(self.total - self.done, 0)
        return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"


@ray.remote(num_cpus=0)
class Board:
    """Holds the counts that workers report."""

    def __init__(self, phase: str, total: int) -> None:
        self.count = Count(phase=phase, total=total)

    def add(self, **changes: int) -> None:
        """Adds to `done`, `running` or `tokens`."""
        for name, change in changes.items():
            setattr(self.count, name, getattr(self.count, name) + change)

    def line(self) -> str:
        return self.count.line(time.monotonic())


def report(**changes: int) -> None:
    """Called by a worker: adds to the counts of the phase that runs. Tokens are sent as sums, once a second.

    Without a board (unit tests) nothing happens.
    """
    global next_send
    unsent.update(changes)
    now = time.monotonic()
    if changes.keys() == {"tokens"} and now < next_send:
        return
    next_send = now + SEND_S
    if board := find_board():
        board.add.remote(**unsent)
    unsent.clear()


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


@contextmanager
def shown(phase: str, total: int) -> Iterator[None]:
    """Prints the phase's line every few seconds (in place on a terminal) and once at the end."""
    actor: Any = Board
    board: Any = actor.options(name=name_board(), namespace="engram").remote(phase, total)
    stop = threading.Event()
    printer = threading.Thread(target=print_lines, args=(board, stop), daemon=True)
    printer.start()
    try:
        yield
    finally:
        stop.set()
        printer.join()
        ray.kill(board)


def print_lines(board: Any, stop: threading.Event) -> None:
    """Prints until `stop` is set; in a log file only when the line is new."""
    terminal, last = sys.stderr.isatty(), ""
    while True:
        over = stop.wait(EVERY_S)
        line = ray.get(board.line.remote())
        if terminal:
            print(f"\r\033[K{line}", end="\n" if over else "", file=sys.stderr, flush=True)
        elif line.split("|")[0] != last or over:
            print(line, file=sys.stderr, flush=True)
            last = line.split("|")[0]
        if over:
            return
