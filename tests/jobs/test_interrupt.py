"""Ctrl-C in each phase: the job ends soon with status 130, nothing is marked as failed, and a rerun continues."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from conftest import write_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class Job:
    """jobs/grid.py on a study, in a process group of its own, as a shell would start it."""

    def __init__(self, study: str, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.txt"
        command = [sys.executable, "jobs/grid.py", "--study", study, "--storage", str(folder / "runs")]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)

    def wait_for(self, text: str, seconds: float = 240) -> None:
        ends = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert time.monotonic() < ends, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)

    def interrupt(self) -> tuple[int, float, list[psutil.Process]]:
        """Exit status, seconds that it took, and those of its processes that are left."""
        everything = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(timeout=120)
        seconds = time.monotonic() - began
        _, left = psutil.wait_procs(everything, timeout=20)
        return status, seconds, left


def test_ctrl_c_in_each_phase_keeps_what_is_finished_and_a_rerun_continues(tiny: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny)
    for phase in ("self-play", "fine-tune", "evaluate"):
        job = Job(study, tmp_path, phase)
        job.wait_for(f"{phase}")
        time.sleep(3)
        status, seconds, left = job.interrupt()
        printed = job.log.read_text()
        assert status == 130, printed
        assert seconds < 30
        assert left == []
        assert "Traceback" not in printed
        last = printed.strip().splitlines()[-2:]
        assert last[0].startswith("Interrupted. Everything that was finished is kept")
        assert last[1].startswith("To continue, run it again: python jobs/grid.py --study")
        assert list((tmp_path / "runs").glob("tiny/trials/*/failure.json")) == []
    finished = Job(study, tmp_path, "rest")
    assert finished.process.wait(timeout=400) == 0, finished.log.read_text()
    assert "2 trials done" in finished.log.read_text()
    assert pl.read_parquet(tmp_path / "runs/tiny/results/trials.parquet")["trial"].n_unique() == 2
