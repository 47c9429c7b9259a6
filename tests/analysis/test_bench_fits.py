"""`jobs/bench fits` measures one law at a time, names what it cannot use, and hides no bug."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run_job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_a_law_is_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    run = run_job("jobs/bench", "fits", "--laws", "power", "--draws", "8", "--out", str(out))
    assert run.returncode == 0, run.stderr
    [one] = json.loads(out.read_text())
    assert (one["law"], one["draws"]) == ("power", 8)
    assert one["error_without_noise"] < 1e-9
    assert one["starts_at_optimum"] == 1
    assert min(one["coverage"].values()) >= 0.5
    assert run.stdout.splitlines()[1].startswith("power ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--laws", "powre"), "unknown law 'powre'; known: additive, "),
        (("--draws", "0"), "--draws 0: at least 1"),
        (("--out", "/nowhere/fits.json"), "--out /nowhere/fits.json: there is no folder /nowhere; make it first"),
    ],
)
def test_bad_input_is_named_with_status_2(arguments: tuple[str, ...], message: str) -> None:
    run = run_job("jobs/bench", "fits", *arguments)
    assert run.returncode == 2
    assert message in run.stderr


def test_a_bug_shows_its_traceback() -> None:
    code = (
        "import sys; sys.path.insert(0, 'jobs')\n"
        "from bench import fits\n"
        "from cli import exit_status\n"
        "from argparse import Namespace\n"
        "fits.form.find = int\n"
        "sys.exit(exit_status(lambda: fits.run(Namespace(laws=['power'], draws=1, out=None))))"
    )
    run = run_job("-c", code)
    assert run.returncode == 1
    assert "ValueError: invalid literal for int() with base 10: 'power'" in run.stderr
