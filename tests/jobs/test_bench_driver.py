"""`jobs/bench driver` makes its own store, and measures each step against its goal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "jobs/bench", "driver", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_small_share_of_the_study_is_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "driver.json"
    run = run_bench("--share", "0.005", "--out", str(out))
    assert run.returncode == 0, run.stderr
    measured = json.loads(out.read_text())
    assert 0 < measured["collect, seconds"] < 60
    assert 0 < measured["peak memory, GiB"] < 2
    assert run.stdout.count("reached") == len(measured) == 6


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    run = run_bench("--share", share)
    assert run.returncode == 2
    assert f"--share {float(share)}: above 0 and at most 1" in run.stderr
