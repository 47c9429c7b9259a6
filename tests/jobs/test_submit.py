"""A study as a job on a cluster that runs already, by Ray's own command."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.executable).parent / "ray")
ENV = os.environ | {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def head() -> Iterator[str]:
    """`ray start --head` on loopback; the address for jobs."""
    ports = ["--port", "6390", "--dashboard-port", "8299", "--node-ip-address", "127.0.0.1"]
    subprocess.run([RAY, "start", "--head", *ports], env=ENV, check=True, capture_output=True)
    wait_for_agent("http://127.0.0.1:8299")
    yield "http://127.0.0.1:8299"
    # Stops every Ray of this machine; one that is only terminated is taken for running by whoever connects next.
    subprocess.run([RAY, "stop", "--force"], env=ENV, check=True, capture_output=True)


def wait_for_agent(address: str, seconds: int = 120) -> None:
    """The head is up some time before it takes jobs: longer than Ray itself waits, on a busy machine."""
    submit = [RAY, "job", "submit", "--address", address, "--no-wait", "--", "true"]
    ends = time.monotonic() + seconds
    while subprocess.run(submit, env=ENV, capture_output=True, check=False).returncode and time.monotonic() < ends:
        time.sleep(2)


def test_a_submitted_study_runs_on_the_cluster_that_is_there(head: str, tiny: Path, tmp_path: Path) -> None:
    code, study = tmp_path / "code", write_study(tmp_path, tiny)
    shutil.copytree(ROOT / "jobs", code / "jobs")
    job = ["python", "jobs/grid.py", "--study", study, "--storage", str(tmp_path / "runs"), "--protocols", "naive"]
    submit = [RAY, "job", "submit", "--address", head, "--working-dir", str(code), "--", sys.executable, *job[1:]]
    done = subprocess.run(submit, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 trials done" in done.stdout
    assert (tmp_path / "runs/tiny/results/trials.parquet").is_file()
