"""Whatever stops a run, in any phase: it ends as it should, what was finished is kept, and a rerun goes on from there.

One study is stopped again and again (a full disk, a killed driver, Ctrl-C; in self-play, fine-tuning, evaluation), and
then completed. Afterwards it equals a study that nothing has stopped.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import write_study
from whole import Run, draws, same_keys_and_counts

pytestmark = pytest.mark.slow
MIB = 2**20
PHASES = ("self-play", "fine-tune", "evaluate")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 MiB."""
    disk = tmp_path / "runs"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.timeout(2400)  # ten runs, none of them whole
def test_a_study_that_is_stopped_in_every_way_in_every_phase_is_complete_in_the_end(
    undisturbed: Path, storage: Path, tmp_path: Path, tiny: Path
) -> None:
    study, stops = write_study(tmp_path, tiny), (fill_the_disk, kill_the_driver, press_ctrl_c)
    written: set[tuple[str, int]] = set()
    for phase in PHASES:
        for stop in stops:
            run = Run(study, storage, tmp_path / f"{phase}-{stop.__name__}.txt")
            run.wait_for_phase(phase)
            stop(run, phase)
            assert list(storage.rglob("*.part")) == [] or stop is kill_the_driver
            assert list(storage.glob("tiny/trials/*/failure.json")) == []
            before, written = written, set(draws(storage / "tiny").select("item", "draw").rows())
            assert before <= written
    last = Run(study, storage, tmp_path / "last.txt")
    assert last.wait() == 0, last.printed()
    assert "2 trials done" in last.printed()
    same_keys_and_counts(storage / "tiny", undisturbed)
    assert list(storage.glob("tiny/lock*")) == []


def fill_the_disk(run: Run, phase: str) -> None:
    """The job says so in its last line, and ends."""
    filler = run.study.parent / "filler"
    fill(filler)
    status, printed = run.wait(), run.printed()
    filler.unlink()
    assert status == 2, printed
    assert f"{run.study}" in printed.splitlines()[-1], printed
    assert "no space is left; free some, or use another --storage" in printed.splitlines()[-1]
    assert "jobs/grid.py" not in printed  # Ray Tune logs an error of its own; ours is no traceback


def fill(file: Path) -> None:
    """Takes all room that is left, to the last byte."""
    with file.open("wb", buffering=0) as out:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue


def kill_the_driver(run: Run, phase: str) -> None:
    """In the middle of the phase: when some of its work is kept, where that can be seen."""
    kept: dict[str, Callable[[], object]] = {
        "self-play": lambda: draws(run.study).height,
        "fine-tune": lambda: list(run.study.glob("trials/*/checkpoints/last.json")),
        "evaluate": lambda: "evaluate" in run.printed(),
    }
    run.wait_for(kept[phase])
    run.signal(signal.SIGKILL)
    run.wait()


def press_ctrl_c(run: Run, phase: str) -> None:
    """The job ends within 30 s with status 130 and two lines, and no process is left."""
    time.sleep(3)
    began = time.monotonic()
    everything = run.signal(signal.SIGINT)
    assert run.wait() == 130, run.printed()
    assert time.monotonic() - began < 30
    _, left = psutil.wait_procs(everything, timeout=20)
    assert left == []
    assert "Traceback" not in run.printed()
    last = run.printed().strip().splitlines()[-2:]
    assert last[0].startswith("Interrupted. Everything that was finished is kept")
    assert last[1].startswith("To continue, run it again: python jobs/grid.py --study")
