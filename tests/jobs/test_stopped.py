"""Whatever stops a run or a part of it: it ends as it should, what was finished is kept, and a rerun goes on.

Afterwards the study equals one that nothing has stopped. Another run of it at the same time does not count as that: it
is refused.
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
from whole import Run, descendants, draws, same_keys_and_counts

from engine.selfplay.parsing import CUT_OFF

pytestmark = pytest.mark.slow
MIB = 2**20
PHASES = ("self-play", "fine-tune", "evaluate")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[int, Run]:
    """Two runs of one study that started at once, by their exit status."""
    folder = tmp_path_factory.mktemp("two-runs")
    study, storage = write_study(folder, tiny), folder / "runs"
    runs = [Run(study, storage, folder / name) for name in ("a.txt", "b.txt")]
    by_status = {run.wait(): run for run in runs}
    assert set(by_status) == {0, 2}, [run.printed() for run in runs]
    return by_status


@pytest.fixture(scope="module")
def undisturbed(two_runs: dict[int, Run]) -> Path:
    """The folder of a whole run of the tiny study."""
    return two_runs[0].study


def test_of_two_runs_that_start_at_once_one_does_everything_and_one_is_refused(
    two_runs: dict[int, Run], undisturbed: Path
) -> None:
    assert "2 trials done" in two_runs[0].printed()
    [line] = two_runs[2].printed().splitlines()
    assert f"{undisturbed}: another run has had this study since" in line
    assert draws(undisturbed).select("item", "draw").is_unique().all()
    assert list(undisturbed.glob("lock*")) == []


def test_what_ran_into_the_limit_of_tokens_is_marked(undisturbed: Path) -> None:
    assert draws(undisturbed)["completions"].explode().str.ends_with(CUT_OFF).any()


def test_a_killed_vllm_actor_and_a_killed_train_worker_are_replaced(
    undisturbed: Path, tmp_path: Path, tiny: Path
) -> None:
    run = Run(write_study(tmp_path, tiny), tmp_path / "runs", tmp_path / "log.txt")
    run.wait_for(lambda: draws(run.study).height)
    written = draws(run.study)
    assert written.height < 80
    kill(run, "ray::MapWorker(MapBatches(Writer))")
    run.wait_for(lambda: list(run.study.glob("trials/*/checkpoints/last.json")))
    kill(run, "ray::RayTrainWorker")
    assert run.wait() == 0, run.printed()
    same_keys_and_counts(run.study, undisturbed)
    kept = draws(run.study).join(written.select("item", "draw"), on=["item", "draw"], how="semi")
    assert kept.sort("item", "draw").equals(written.sort("item", "draw"))


def kill(run: Run, title: str) -> None:
    """Kills those of a run's processes that have a title."""
    for process in descendants(run.process.pid, title):
        process.kill()


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
    """By a full disk, a killed driver and Ctrl-C."""
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
    again = Run(study, storage, tmp_path / "again.txt")
    assert again.wait() == 0
    assert "Nothing to do" in again.printed()


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
