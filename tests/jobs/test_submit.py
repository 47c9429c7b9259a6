"""A study as a job on a cluster that runs already, by Ray's own command."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import write_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")
ENV = os.environ | {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def head() -> Iterator[str]:
    """`ray start --head` on loopback; the address for jobs. Only this head is stopped, no other Ray of the machine."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: paths of sockets are limited
    ports = ["--port", "6390", "--dashboard-port", "8299", "--node-ip-address", "127.0.0.1"]
    command = [RAY, "start", "--head", "--block", "--temp-dir", str(folder), *ports]
    started = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_agent("http://127.0.0.1:8299")
        yield "http://127.0.0.1:8299"
    finally:
        started.terminate()
        started.wait(timeout=60)
        wait_until(lambda: not processes_of(folder), 60)
        shutil.rmtree(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(process.read_bytes().decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


def wait_until(what: Callable[[], bool], seconds: float) -> None:
    """Fails if it does not become true in time."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.2)


def wait_for_agent(address: str, seconds: int = 120) -> None:
    """The head is up some time before it takes jobs: longer than Ray itself waits, on a busy machine."""
    submit = [RAY, "job", "submit", "--address", address, "--no-wait", "--", "true"]
    wait_until(lambda: subprocess.run(submit, env=ENV, capture_output=True, check=False).returncode == 0, seconds)


def test_a_submitted_study_runs_on_the_cluster_that_is_there(head: str, tiny: Path, tmp_path: Path) -> None:
    code, study = tmp_path / "code", write_study(tmp_path, tiny)
    shutil.copytree(ROOT / "jobs", code / "jobs")

    def submit(storage: str) -> "subprocess.CompletedProcess[str]":
        job = [sys.executable, "jobs/grid.py", "--study", study, "--storage", storage, "--protocols", "naive"]
        line = [RAY, "job", "submit", "--address", head, "--working-dir", str(code), "--", *job]
        return subprocess.run(line, env=ENV, capture_output=True, text=True, check=False)

    refused = submit("runs")
    assert refused.returncode != 0
    assert "--storage runs: a submitted job runs in a copy of its folder" in refused.stdout
    done = submit(str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 trials done" in done.stdout
    assert (tmp_path / "runs/tiny/results/trials.parquet").is_file()
    assert "Nothing to do: all 1 trials are done." in submit(str(tmp_path / "runs")).stdout
