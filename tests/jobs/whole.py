"""Whole runs of jobs/grid.py in processes of their own, for tests, and what they leave in their storage."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import psutil

ROOT = Path(__file__).parents[2]
# Self-play may outlast the first limit; the second makes trials of some seconds keep checkpoints.
SHORT = {"RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "1", "ENGRAM_CHECKPOINT_SECONDS": "1"}


class Run:
    """jobs/grid.py on a study, in a process group of its own, as a shell would start it."""

    def __init__(self, study: str, storage: Path, log: Path, env: Mapping[str, str] = os.environ) -> None:
        self.study, self.log = storage / "tiny", log
        command = [sys.executable, "jobs/grid.py", "--study", study, "--storage", str(storage)]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True, env=dict(env) | SHORT
            )

    def printed(self) -> str:
        """All that it has printed."""
        return self.log.read_text()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(timeout=400)

    def wait_for(self, what: Callable[[], object], seconds: float = 240) -> None:
        """Waits until it is true; fails if the run ends or takes too long before."""
        ends = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < ends, self.printed()
            assert self.process.poll() is None, self.printed()
            time.sleep(0.02)

    def wait_for_phase(self, phase: str) -> None:
        """Waits until the phase's progress is printed."""
        self.wait_for(lambda: phase in self.printed())

    def signal(self, number: signal.Signals) -> list[psutil.Process]:
        """Signals all of its process group; gives its processes as they were before."""
        everything = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, number)
        return everything


def descendants(pid: int, title: str) -> list[psutil.Process]:
    """A process's children, theirs, and so on, whose command line begins with a title, such as that of a Ray actor."""
    return [p for p in psutil.Process(pid).children(recursive=True) if title_of(p).startswith(title)]


def title_of(process: psutil.Process) -> str:
    """Its command line; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def draws(study: Path) -> pl.DataFrame:
    """All generations that are stored, in any shard."""
    shards = list((study / "pools").glob("*/draws-*.parquet"))
    return pl.concat([pl.read_parquet(s) for s in shards]) if shards else pl.DataFrame(schema=["item", "draw"])


def table(study: Path, name: str) -> pl.DataFrame:
    """One of the two results tables."""
    return pl.read_parquet(study / f"results/{name}.parquet")


def same_keys_and_counts(study: Path, undisturbed: Path) -> None:
    """Nothing is missing and nothing was done twice, compared with a run in which nothing happened."""
    keys = ["trial", "condition", "moment"]
    columns = [*keys, "n_items", "n_questions", "budget", "params", "params_trained"]
    mine, theirs = (table(s, "trials").select(columns).sort(keys) for s in (study, undisturbed))
    assert mine.equals(theirs)
    assert table(study, "questions").height == table(undisturbed, "questions").height
    made = draws(study)
    assert made.select("item", "draw").is_unique().all()
    assert made.group_by("item").len().sort("item").equals(draws(undisturbed).group_by("item").len().sort("item"))
    steps = [pl.read_parquet(f)["step"].to_list() for f in (study / "trials").glob("*/losses.parquet")]
    assert len(steps) == 2
    assert all(s == list(range(40)) for s in steps)
